//! A policy in words and in the host's own notation, for `hamn policy show`. Pure.

use crate::dns::plan::DnsWish;
use crate::firewall::Ruleset;
use crate::firewall::compile::nftables;
use crate::routes::RoutePlan;
use hamn_core::policy::NetworkPolicy;
use serde::Serialize;

/// What a policy means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// In words, line by line.
    pub words: Vec<String>,
    /// nftables statements, then rules and routes.
    pub native: String,
}

/// Describes a policy.
#[must_use]
pub fn describe(policy: &NetworkPolicy) -> Description {
    let Some(rules) = Ruleset::lower(policy) else {
        let words = vec!["No protection: no rule, route or DNS setting of Hamn exists.".to_owned()];
        return Description { words, native: String::new() };
    };
    let mut words: Vec<String> = rules.describe().lines().map(str::to_owned).collect();
    let plan = RoutePlan::for_policy(policy).describe();
    words.push("Routing, first match decides:".to_owned());
    words.extend(plan.lines().map(|line| format!("  {line}")));
    words.push(match DnsWish::for_policy(policy) {
        DnsWish::Original => "DNS: the host's own settings.".to_owned(),
        DnsWish::Unchanged => "DNS: settings unchanged; port 53 is refused outside the tunnel.".to_owned(),
        DnsWish::Set(plan) => {
            let list: Vec<String> = plan.resolvers.iter().map(ToString::to_string).collect();
            format!("DNS: only {}.", list.join(", "))
        }
    });
    Description { words, native: nftables::to_text(&rules) + &plan }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hamn_core::policy::Enforced;

    #[test]
    fn words_and_native_text_tell_of_every_part() {
        let open = describe(&NetworkPolicy::Open);
        assert!(open.native.is_empty() && open.words.len() == 1);
        let blocked = describe(&NetworkPolicy::Enforce(Enforced::default()));
        assert!(blocked.words.iter().any(|line| line.contains("port 53 is refused")), "{blocked:#?}");
        assert!(blocked.native.contains("table inet") && blocked.native.contains("route unreachable 0.0.0.0/0"));
    }
}
