//! nftables: the ruleset as one transaction for `nft -j -f -`, and the same statements as text for people and for early boot.
//!
//! Two tables, `inet hamn` and `arp hamn`. Base chains are added when missing, flushed and refilled in one transaction and
//! never deleted while any protection is on (G4). The whole ruleset of a connected tunnel looks like this (`script`):
//!
//! ```text
//! chain guard   { type filter hook prerouting priority -300; policy accept; ... }
//! chain mark_in { type filter hook prerouting priority -150; policy accept; ... }
//! chain mark_out { type filter hook output priority -150; policy accept; ... }
//! chain output  { type filter hook output priority 0; policy drop; ...; drop }
//! chain input   { type filter hook input priority 0; policy drop; ...; drop }
//! chain forward { type filter hook forward priority 0; policy drop; ...; drop }
//! ```

use crate::firewall::ruleset::{
    Action, ChainName, IcmpType, IcmpV6Type, Interface, Match, Purpose, Rule, Ruleset, Short, transport_name,
};
use hamn_core::net::{FWMARK, Transport};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Name of both tables.
pub const TABLE: &str = "hamn";

/// The families in which a table of ours exists.
pub const FAMILIES: [&str; 2] = ["inet", "arp"];

/// The number of TCP (RFC 9293).
const TCP: i32 = 6;
const CHAINS: [ChainName; 8] = [
    ChainName::Guard,
    ChainName::MarkIn,
    ChainName::MarkOut,
    ChainName::Output,
    ChainName::Input,
    ChainName::Forward,
    ChainName::ArpIn,
    ChainName::ArpOut,
];

/// One transaction that makes exactly these rules true, from whatever our tables held before.
#[must_use]
pub fn batch(rules: &Ruleset) -> Value {
    let mut commands = Vec::new();
    for family in FAMILIES {
        commands.push(json!({ "add": { "table": { "family": family, "name": TABLE } } }));
    }
    for chain in CHAINS {
        commands.push(json!({ "add": { "chain": declaration(chain) } }));
    }
    for chain in CHAINS {
        let base = base(chain);
        commands.push(json!({ "flush": { "chain": { "family": base.family, "table": TABLE, "name": base.name } } }));
    }
    for rule in rule_objects(rules) {
        commands.push(json!({ "add": { "rule": rule } }));
    }
    json!({ "nftables": commands })
}

/// One transaction that removes all that is ours; it succeeds when nothing is there.
#[must_use]
pub fn remove() -> Value {
    let mut commands = Vec::new();
    for family in FAMILIES {
        let table = json!({ "table": { "family": family, "name": TABLE } });
        commands.push(json!({ "add": table }));
        commands.push(json!({ "delete": table }));
    }
    json!({ "nftables": commands })
}

/// The request for the content of our table in one family.
#[must_use]
pub fn list(family: &str) -> Value {
    json!({ "nftables": [{ "list": { "table": { "family": family, "name": TABLE } } }] })
}

/// The request for the names of all tables.
#[must_use]
pub fn list_tables() -> Value {
    json!({ "nftables": [{ "list": { "tables": null } }] })
}

/// A script for `nft -f` with the same effect as [`batch`].
#[must_use]
pub fn script(rules: &Ruleset) -> String {
    let mut text = String::new();
    for family in FAMILIES {
        line(&mut text, 0, &format!("table {family} {TABLE} {{"));
        for chain in CHAINS.into_iter().filter(|chain| base(*chain).family == family) {
            let base = base(chain);
            line(&mut text, 1, &format!("chain {} {{ {} }}", base.name, base.text()));
        }
        line(&mut text, 0, "}");
    }
    for chain in CHAINS {
        let base = base(chain);
        line(&mut text, 0, &format!("flush chain {} {TABLE} {}", base.family, base.name));
    }
    text.push_str(&to_text(rules));
    text
}

/// The static script of the early-boot unit: set X and nothing else (G7, BOOT-01).
#[must_use]
pub fn lockdown_text() -> String {
    format!(
        "# Blocks everything but loopback, DHCP and neighbour discovery until the helper decides.\n{}",
        script(&Ruleset::lockdown())
    )
}

/// The rules as nft statements, one a line with its reason; chains without rules are left out.
#[must_use]
pub fn to_text(rules: &Ruleset) -> String {
    let mut text = String::new();
    for family in FAMILIES {
        let chains = rules.chains().into_iter().filter(|(name, rules)| base(*name).family == family && !rules.is_empty());
        let mut opened = false;
        for (name, rules) in chains {
            if !opened {
                line(&mut text, 0, &format!("table {family} {TABLE} {{"));
                opened = true;
            }
            line(&mut text, 1, &format!("chain {} {{", base(name).name));
            for (statements, purpose) in rules.iter().flat_map(native) {
                let words: Vec<&str> = statements.iter().map(|statement| statement.text.as_str()).collect();
                line(&mut text, 2, &format!("{:<78} # {}", words.join(" "), purpose.words()));
            }
            line(&mut text, 1, "}");
        }
        if opened {
            line(&mut text, 0, "}");
        }
    }
    text
}

/// What a listing of our table in this family must hold, without handles.
#[must_use]
pub fn expected(rules: &Ruleset, family: &str) -> Vec<Value> {
    let chains = CHAINS.into_iter().filter(|chain| base(*chain).family == family);
    let chains = chains.map(|chain| json!({ "chain": declaration(chain) }));
    let rules = rule_objects(rules).into_iter().filter(|rule| rule.get("family").is_some_and(|name| name == family));
    let table = json!({ "table": { "family": family, "name": TABLE } });
    std::iter::once(table).chain(chains).chain(rules.map(|rule| json!({ "rule": rule }))).map(normalised).collect()
}

/// What a listing holds that concerns the chains of [`expected`], in comparable form; `None` when it is no listing of ours.
///
/// Handles and counters differ from load to load. Chains that others add to our table cannot open ours: a drop in any
/// base chain is final, so they are passed over.
#[must_use]
pub fn listed(listing: &Value, family: &str) -> Option<Vec<Value>> {
    let names: Vec<&str> = CHAINS.into_iter().map(base).filter(|base| base.family == family).map(|base| base.name).collect();
    let mut objects = Vec::new();
    for object in listing.get("nftables")?.as_array()? {
        let ours = if let Some(rule) = object.get("rule") {
            rule.get("chain").and_then(Value::as_str).is_some_and(|chain| names.contains(&chain))
        } else if let Some(chain) = object.get("chain") {
            chain.get("name").and_then(Value::as_str).is_some_and(|chain| names.contains(&chain))
        } else {
            object.get("table").is_some()
        };
        if ours {
            objects.push(normalised(object.clone()));
        }
    }
    // Tables first, then chains, then rules: nft versions differ in how they interleave them. Within a chain order counts.
    objects.sort_by_key(|object| {
        let chain = |key: &str, field: &str| object.get(key)?.get(field)?.as_str();
        let place = |name: Option<&str>| names.iter().position(|known| Some(*known) == name).unwrap_or(usize::MAX);
        match (chain("chain", "name"), chain("rule", "chain")) {
            (None, None) => (0, 0),
            (Some(name), _) => (1, place(Some(name))),
            (None, Some(name)) => (2, place(Some(name))),
        }
    });
    Some(objects)
}

/// One form for what nft versions write differently.
fn normalised(value: Value) -> Value {
    match value {
        Value::Object(mut fields) => {
            for key in ["handle", "counter", "index", "comment"] {
                fields.remove(key);
            }
            // A set of flags is matched with "in" by some versions and "==" by others.
            if fields.get("op").is_some_and(|op| op == "in") {
                fields.insert("op".to_owned(), Value::from("=="));
            }
            // nft takes the name from its own table but lists the number on hosts without /etc/protocols.
            let is_protocol =
                fields.get("left").is_some_and(|left| left.pointer("/meta/key").is_some_and(|key| key == "l4proto"));
            if is_protocol && fields.get("right").is_some_and(|right| right == TCP) {
                fields.insert("right".to_owned(), Value::from("tcp"));
            }
            let mut sorted: Vec<(String, Value)> = fields.into_iter().map(|(key, value)| (key, normalised(value))).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(normalised).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

struct Base {
    family: &'static str,
    name: &'static str,
    hook: &'static str,
    priority: i32,
    policy: &'static str,
}

impl Base {
    fn text(&self) -> String {
        format!("type filter hook {} priority {}; policy {};", self.hook, self.priority, self.policy)
    }
}

const fn base(chain: ChainName) -> Base {
    // Priorities: raw -300, before connection tracking at -200; mangle -150, after it; filter 0.
    let (family, name, hook, priority, policy) = match chain {
        ChainName::Guard => ("inet", "guard", "prerouting", -300, "accept"),
        ChainName::MarkIn => ("inet", "mark_in", "prerouting", -150, "accept"),
        ChainName::MarkOut => ("inet", "mark_out", "output", -150, "accept"),
        ChainName::Output => ("inet", "output", "output", 0, "drop"),
        ChainName::Input => ("inet", "input", "input", 0, "drop"),
        ChainName::Forward => ("inet", "forward", "forward", 0, "drop"),
        ChainName::ArpIn => ("arp", "input", "input", 0, "accept"),
        ChainName::ArpOut => ("arp", "output", "output", 0, "accept"),
    };
    Base { family, name, hook, priority, policy }
}

fn declaration(chain: ChainName) -> Value {
    let Base { family, name, hook, priority, policy } = base(chain);
    json!({ "family": family, "table": TABLE, "name": name, "type": "filter", "hook": hook, "prio": priority, "policy": policy })
}

fn rule_objects(rules: &Ruleset) -> Vec<Value> {
    let mut objects = Vec::new();
    for (name, rules) in rules.chains() {
        let base = base(name);
        for (statements, purpose) in rules.iter().flat_map(native) {
            let expressions: Vec<Value> = statements.into_iter().map(|statement| statement.json).collect();
            objects.push(json!({
                "family": base.family, "table": TABLE, "chain": base.name,
                "comment": purpose.words(), "expr": expressions,
            }));
        }
    }
    objects
}

/// A statement of nft in both of its languages.
struct Statement {
    text: String,
    json: Value,
}

/// The nft rules of one rule: two for a refusal of any protocol, because only TCP can be reset.
fn native(rule: &Rule) -> Vec<(Vec<Statement>, Purpose)> {
    let transport = rule.matches.iter().find_map(Match::transport);
    let ends = match (rule.action, transport) {
        (Action::Accept, _) => vec![vec![verdict("accept")]],
        (Action::Drop, _) => vec![vec![verdict("drop")]],
        (Action::Reject, Some(Transport::Tcp)) => vec![vec![reset()]],
        (Action::Reject, Some(Transport::Udp)) => vec![vec![prohibited()]],
        (Action::Reject, None) => vec![vec![equal(meta("l4proto"), "tcp".into(), "tcp"), reset()], vec![prohibited()]],
        (Action::SaveMark, _) => vec![vec![set(ct("mark"), meta("mark"))]],
        (Action::RestoreMark, _) => vec![vec![set(meta("mark"), ct("mark"))]],
    };
    let conditions = || rule.matches.iter().map(condition);
    ends.into_iter().map(|end| (conditions().chain(end).collect(), rule.purpose)).collect()
}

fn condition(condition: &Match) -> Statement {
    match condition {
        Match::LeavesBy(link) => interface("oifname", "==", link),
        Match::LeavesNotBy(link) => interface("oifname", "!=", link),
        Match::ArrivedOn(link) => interface("iifname", "==", link),
        Match::ArrivedNotOn(link) => interface("iifname", "!=", link),
        Match::From(net) => address("saddr", net),
        Match::To(net) => address("daddr", net),
        Match::IsIpv4 => family("ipv4"),
        Match::SourcePort(transport, port) => number(payload(transport_name(*transport), "sport"), u32::from(*port)),
        Match::DestinationPort(transport, port) => number(payload(transport_name(*transport), "dport"), u32::from(*port)),
        Match::Icmp(kind) => word(payload("icmp", "type"), icmp_name(*kind)),
        Match::IcmpV6(kind) => word(payload("icmpv6", "type"), icmp_v6_name(*kind)),
        Match::HopLimit255 => number(payload("ip6", "hoplimit"), 255),
        Match::OwnMark => mark(meta("mark")),
        Match::OwnConnection => mark(ct("mark")),
        Match::ReplyDirection => word(ct("direction"), "reply"),
        Match::Established => state(&["established"]),
        Match::EstablishedOrRelated => state(&["established", "related"]),
        Match::Related => state(&["related"]),
        Match::ArpRequest => word(payload("arp", "operation"), "request"),
        Match::ArpTarget(address) => word(payload("arp", "daddr ip"), &address.to_string()),
        Match::ArpSender(address) => word(payload("arp", "saddr ip"), &address.to_string()),
    }
}

fn interface(key: &str, op: &str, link: &Interface) -> Statement {
    let name = link.to_string();
    let sign = if op == "==" { "" } else { "!= " };
    Statement {
        text: format!("{key} {sign}\"{name}\""),
        json: json!({ "match": { "op": op, "left": { "meta": { "key": key } }, "right": name } }),
    }
}

fn address(field: &str, net: &IpNet) -> Statement {
    let (protocol, all) = match net {
        IpNet::V4(_) => ("ip", "ipv4"),
        IpNet::V6(_) => ("ip6", "ipv6"),
    };
    let text = Short(net).to_string();
    if net.prefix_len() == 0 {
        family(all)
    } else if net.prefix_len() == net.max_prefix_len() {
        word(payload(protocol, field), &text)
    } else {
        let prefix = json!({ "prefix": { "addr": net.addr().to_string(), "len": net.prefix_len() } });
        equal(payload(protocol, field), prefix, &text)
    }
}

fn family(name: &str) -> Statement {
    word(Statement { text: "meta nfproto".to_owned(), ..meta("nfproto") }, name)
}

fn state(states: &[&str]) -> Statement {
    let right = match states {
        [one] => json!(one),
        several => json!(several),
    };
    let json = json!({ "match": { "op": "in", "left": { "ct": { "key": "state" } }, "right": right } });
    Statement { text: format!("ct state {}", states.join(",")), json }
}

fn mark(of: Statement) -> Statement {
    equal(of, json!(FWMARK), &format!("{FWMARK:#x}"))
}

fn number(left: Statement, right: u32) -> Statement {
    equal(left, json!(right), &right.to_string())
}

fn word(left: Statement, right: &str) -> Statement {
    equal(left, json!(right), right)
}

fn equal(left: Statement, right: Value, text: &str) -> Statement {
    Statement {
        text: format!("{} {text}", left.text),
        json: json!({ "match": { "op": "==", "left": left.json, "right": right } }),
    }
}

fn set(target: Statement, value: Statement) -> Statement {
    Statement {
        text: format!("{} set {}", target.text, value.text),
        json: json!({ "mangle": { "key": target.json, "value": value.json } }),
    }
}

fn payload(protocol: &str, field: &str) -> Statement {
    Statement { text: format!("{protocol} {field}"), json: json!({ "payload": { "protocol": protocol, "field": field } }) }
}

fn meta(key: &str) -> Statement {
    Statement { text: format!("meta {key}"), json: json!({ "meta": { "key": key } }) }
}

fn ct(key: &str) -> Statement {
    Statement { text: format!("ct {key}"), json: json!({ "ct": { "key": key } }) }
}

fn verdict(name: &str) -> Statement {
    Statement { text: name.to_owned(), json: json!({ name: null }) }
}

fn reset() -> Statement {
    Statement { text: "reject with tcp reset".to_owned(), json: json!({ "reject": { "type": "tcp reset" } }) }
}

fn prohibited() -> Statement {
    let json = json!({ "reject": { "type": "icmpx", "expr": "admin-prohibited" } });
    Statement { text: "reject with icmpx type admin-prohibited".to_owned(), json }
}

/// Names as nft lists them, so that a read-back compares equal.
const fn icmp_name(kind: IcmpType) -> &'static str {
    match kind {
        IcmpType::DestinationUnreachable => "destination-unreachable",
        IcmpType::Redirect => "redirect",
        IcmpType::TimeExceeded => "time-exceeded",
        IcmpType::ParameterProblem => "parameter-problem",
    }
}

const fn icmp_v6_name(kind: IcmpV6Type) -> &'static str {
    match kind {
        IcmpV6Type::DestinationUnreachable => "destination-unreachable",
        IcmpV6Type::PacketTooBig => "packet-too-big",
        IcmpV6Type::TimeExceeded => "time-exceeded",
        IcmpV6Type::ParameterProblem => "parameter-problem",
        IcmpV6Type::RouterSolicitation => "nd-router-solicit",
        IcmpV6Type::RouterAdvertisement => "nd-router-advert",
        IcmpV6Type::NeighbourSolicitation => "nd-neighbor-solicit",
        IcmpV6Type::NeighbourAdvertisement => "nd-neighbor-advert",
        IcmpV6Type::Redirect => "nd-redirect",
    }
}

fn line(text: &mut String, depth: usize, content: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{}{content}", "\t".repeat(depth));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_from_a_host_without_protocol_names_is_the_same() {
        let rules = Ruleset::lockdown();
        let wanted = expected(&rules, "inet");
        let text = json!({ "nftables": wanted }).to_string();
        let numbers = text.replace(r#""right":"tcp""#, r#""right":6"#);
        assert_ne!(text, numbers, "the rules match TCP by name");
        assert_eq!(listed(&serde_json::from_str(&numbers).unwrap(), "inet").unwrap(), wanted);
        let udp = text.replace(r#""right":"tcp""#, r#""right":17"#);
        assert_ne!(listed(&serde_json::from_str(&udp).unwrap(), "inet").unwrap(), wanted, "another protocol is a difference");
    }
}
