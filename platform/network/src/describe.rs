//! A policy in words and in the host's own notation, for `hamn policy show`. Pure.

use crate::dns::plan::DnsWish;
use crate::firewall::Ruleset;
use crate::firewall::compile::{nftables, pf, wfp};
use crate::routes::RoutePlan;
use crate::routes::plan_macos::MacRoutePlan;
use crate::routes::plan_windows::WindowsRoutes;
use hamn_core::policy::NetworkPolicy;
use serde::Serialize;

/// What a policy means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    /// In words, line by line.
    pub words: Vec<String>,
    /// nftables statements, then rules and routes; on macOS the anchor of the packet filter, on Windows
    /// the filters of the filtering platform, then routes.
    pub native: String,
}

/// Describes a policy as this system carries it out.
#[must_use]
pub fn describe(policy: &NetworkPolicy) -> Description {
    describe_for(std::env::consts::OS, policy)
}

/// Describes a policy as the system with this name (`std::env::consts::OS`) carries it out.
#[must_use]
pub fn describe_for(system: &str, policy: &NetworkPolicy) -> Description {
    let Some(rules) = Ruleset::lower(policy) else {
        let words = vec!["No protection: no rule, route or DNS setting of Hamn exists.".to_owned()];
        return Description { words, native: String::new() };
    };
    let mut words: Vec<String> = rules.describe().lines().map(str::to_owned).collect();
    let (filter, plan, order) = match system {
        "macos" => (pf::text(&pf::compile(&rules)), MacRoutePlan::for_policy(policy).describe(), "the longest prefix decides"),
        "windows" => {
            let filters: String = wfp::compile(&rules).iter().map(|filter| format!("{filter}\n")).collect();
            (filters, WindowsRoutes::of(&RoutePlan::for_policy(policy)).describe(), "the longest prefix decides")
        }
        _ => (nftables::to_text(&rules), RoutePlan::for_policy(policy).describe(), "first match decides"),
    };
    words.push(format!("Routing, {order}:"));
    words.extend(plan.lines().map(|line| format!("  {line}")));
    words.push(match DnsWish::for_policy(policy) {
        DnsWish::Original => "DNS: the host's own settings.".to_owned(),
        DnsWish::Unchanged => "DNS: settings unchanged; port 53 is refused outside the tunnel.".to_owned(),
        DnsWish::Set(plan) => {
            let list: Vec<String> = plan.resolvers.iter().map(ToString::to_string).collect();
            format!("DNS: only {}.", list.join(", "))
        }
    });
    Description { words, native: filter + &plan }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hamn_core::policy::Enforced;

    #[test]
    fn words_and_native_text_tell_of_every_part() {
        let describe = |policy: &NetworkPolicy| describe_for("linux", policy);
        let open = describe(&NetworkPolicy::Open);
        assert!(open.native.is_empty() && open.words.len() == 1);
        let blocked = describe(&NetworkPolicy::Enforce(Enforced::default()));
        assert!(blocked.words.iter().any(|line| line.contains("port 53 is refused")), "{blocked:#?}");
        assert!(blocked.native.contains("table inet") && blocked.native.contains("route unreachable 0.0.0.0/0"));
        let windows = describe_for("windows", &NetworkPolicy::Enforce(Enforced::default()));
        assert!(windows.native.contains("Persistent ForwardV4 Base: block # ") && windows.native.contains("BootTime"));
        let mac = describe_for("macos", &NetworkPolicy::Enforce(Enforced::default()));
        assert!(mac.native.contains("block return out quick from any to any\n") && mac.native.contains("route 0.0.0.0/1 reject"));
        assert!(mac.words.contains(&"  route 0.0.0.0/1 reject".to_owned()), "{mac:#?}");
    }
}
