//! Windows: which values a DNS plan becomes, and the note of what to restore. Pure.
//!
//! Two arrangements hold together. The tunnel interface gets the resolvers (`SetInterfaceDnsSettings`), as any interface
//! would. A rule of the name resolution policy table for "." (all names) sends every question of the system's resolver to
//! them alone, where it would otherwise ask the resolvers of all interfaces at once. The firewall refuses port 53 elsewhere
//! in any case (G3), so what these decide is only whether names resolve.

use super::plan::DnsPlan;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The key of our rule, made at random once, so that a process that starts anew finds what a crashed one left.
pub const RULE: &str = "{5B0A41F6-9C0D-4B5E-8F3A-68616D6E0004}";
/// Rules of this computer, below `HKEY_LOCAL_MACHINE`.
pub const LOCAL_RULES: &str = r"SYSTEM\CurrentControlSet\Services\Dnscache\Parameters\DnsPolicyConfig";
/// Rules of the domain's policy; where there are any, the resolver reads no others.
pub const POLICY_RULES: &str = r"SOFTWARE\Policies\Microsoft\Windows NT\DNSClient\DnsPolicyConfig";

/// The rule names servers for ordinary DNS (`[MS-GPNRPT]` 2.2.2.13).
const GENERIC_SERVERS: u32 = 8;
/// The layout of the rule's values (`[MS-GPNRPT]` 2.2.2.14).
const LAYOUT: u32 = 2;

/// One value of a registry key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryValue {
    /// `REG_DWORD`
    Number(u32),
    /// `REG_SZ`
    Text(String),
    /// `REG_MULTI_SZ`
    List(Vec<String>),
}

/// The values of our rule, by name.
#[must_use]
pub fn rule(plan: &DnsPlan) -> Vec<(&'static str, RegistryValue)> {
    let servers: Vec<String> = plan.resolvers.iter().map(ToString::to_string).collect();
    vec![
        ("Version", RegistryValue::Number(LAYOUT)),
        ("Name", RegistryValue::List(vec![".".to_owned()])),
        ("GenericDNSServers", RegistryValue::Text(servers.join(";"))),
        ("ConfigOptions", RegistryValue::Number(GENERIC_SERVERS)),
        ("IPSECCARestriction", RegistryValue::Text(String::new())),
        ("Comment", RegistryValue::Text("Hamn wrote this rule while its tunnel is up.".to_owned())),
    ]
}

/// Below which keys the rule must stand: beside the domain's own rules, if it has any, as well.
#[must_use]
pub fn places(domain_rules: &[String]) -> Vec<String> {
    let domain = domain_rules.iter().any(|key| !key.eq_ignore_ascii_case(RULE));
    let parents = if domain { vec![POLICY_RULES, LOCAL_RULES] } else { vec![LOCAL_RULES] };
    parents.into_iter().map(|parent| format!(r"{parent}\{RULE}")).collect()
}

/// Every place where our rule may stand, to remove it from.
#[must_use]
pub fn all_places() -> [String; 2] {
    [POLICY_RULES, LOCAL_RULES].map(|parent| format!(r"{parent}\{RULE}"))
}

/// The resolvers of an interface, as the system takes them: separated by commas, one text for each address family.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct InterfaceServers {
    /// IPv4
    pub v4: String,
    /// IPv6
    pub v6: String,
}

impl InterfaceServers {
    /// Those of a plan.
    #[must_use]
    pub fn of(plan: &DnsPlan) -> Self {
        let of = |wanted: fn(&IpAddr) -> bool| {
            let list: Vec<String> = plan.resolvers.iter().filter(|one| wanted(one)).map(ToString::to_string).collect();
            list.join(",")
        };
        Self { v4: of(IpAddr::is_ipv4), v6: of(IpAddr::is_ipv6) }
    }

    /// The same servers in the same order, however the text is separated.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let list = |text: &str| -> Vec<String> {
            let separate = |c: char| c == ',' || c == ';' || c.is_whitespace();
            text.split(separate).filter(|part| !part.is_empty()).map(str::to_ascii_lowercase).collect()
        };
        list(&self.v4) == list(&other.v4) && list(&self.v6) == list(&other.v6)
    }
}

/// What to restore. It is written before anything is changed and removed after all is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    version: u32,
    /// The interface whose resolvers were set.
    pub interface: String,
    /// Those that it had before.
    pub before: InterfaceServers,
}

impl Note {
    /// The file's name.
    pub const NAME: &str = "dns-before.json";
    /// A note is far smaller.
    pub const LIMIT: u64 = 64 << 10;
    const VERSION: u32 = 1;

    /// For an interface that has these resolvers.
    #[must_use]
    pub const fn new(interface: String, before: InterfaceServers) -> Self {
        Self { version: Self::VERSION, interface, before }
    }

    /// From a file; `None` when it is not a note that this version understands.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|note: &Self| note.version == Self::VERSION)
    }

    /// For a file.
    ///
    /// # Errors
    /// Never in practice: every value can be written as JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::dns_plan;

    fn plan() -> DnsPlan {
        dns_plan(&["10.64.0.1", "fd64::1", "192.168.1.53"])
    }

    #[test]
    fn the_rule_sends_all_names_to_the_resolvers() {
        let values = rule(&plan()).into_iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect::<String>();
        insta::assert_snapshot!(values, @r#"
        Version = Number(2)
        Name = List(["."])
        GenericDNSServers = Text("10.64.0.1;fd64::1;192.168.1.53")
        ConfigOptions = Number(8)
        IPSECCARestriction = Text("")
        Comment = Text("Hamn wrote this rule while its tunnel is up.")
        "#);
        let servers = InterfaceServers::of(&plan());
        assert_eq!((servers.v4.as_str(), servers.v6.as_str()), ("10.64.0.1,192.168.1.53", "fd64::1"));
    }

    #[test]
    fn a_domain_with_rules_gets_ours_beside_them() {
        assert_eq!(places(&[]).len(), 1);
        assert_eq!(places(&[RULE.to_ascii_lowercase()]).len(), 1, "only ours is there");
        let both = places(&["{11111111-1111-1111-1111-111111111111}".to_owned()]);
        assert!(both.len() == 2 && both.iter().all(|place| all_places().contains(place)));
    }

    #[test]
    fn servers_are_compared_without_regard_to_separators_but_with_regard_to_order() {
        let servers = |v4: &str| InterfaceServers { v4: v4.to_owned(), v6: String::new() };
        assert!(servers("10.0.0.1,10.0.0.2").is_same(&servers("10.0.0.1 10.0.0.2")));
        assert!(!servers("10.0.0.1,10.0.0.2").is_same(&servers("10.0.0.2,10.0.0.1")));
        assert!(!servers("10.0.0.1").is_same(&servers("")));
    }

    #[test]
    fn a_note_comes_back_as_written_and_a_cut_one_is_none() {
        let note = Note::new("hamn0".to_owned(), InterfaceServers { v4: "192.168.1.1".to_owned(), v6: String::new() });
        let bytes = note.to_bytes().unwrap();
        assert_eq!(Note::parse(&bytes), Some(note));
        assert!((0..bytes.len()).all(|length| Note::parse(&bytes[..length]).is_none()));
        let other = String::from_utf8(bytes).unwrap().replace("\"version\":1", "\"version\":2");
        assert_eq!(Note::parse(other.as_bytes()), None);
    }
}
