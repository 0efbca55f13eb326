//! The three compilers agree: for every packet of the domain, nftables' rules, the Windows filters, the pf anchor and the page
//! say the same, or the difference is one of those that `SECURITY.md` lists with its reason. Seeded mistakes are noticed.

use hamn_core::net::Transport;
use hamn_core::policy::{Facts, policy_for};
use hamn_core::settings::{Dns, KillSwitch, Settings};
use hamn_core::state::{Attempt, BlockReason, Phase, State};
use hamn_core::time::Now;
use hamn_model_tests::random::Random;
use hamn_model_tests::{fixtures, packets};
use hamn_network::firewall::compile::{pf, wfp};
use hamn_network::firewall::eval::pf::User;
use hamn_network::firewall::eval::{Connection, ConnectionState, Packet, Path, Payload, Verdict, evaluate};
use hamn_network::firewall::ruleset::{Purpose, Ruleset};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A difference that `SECURITY.md` lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Listed {
    /// Neighbour discovery with a hop limit below 255: the system itself drops it.
    HopLimit,
    /// Windows passes nothing on.
    NothingPassedOn,
    /// pf judges a forwarded packet as received and as sent: fewer pass.
    JudgedTwice,
    /// pf cannot tell a neighbour's question that is passed on from one of ours; who receives it drops it by its hop limit.
    DiscoveryPassedOn,
    /// pf passes on into the tunnel what a neighbour may send to this computer. Nothing of it leaves outside.
    PassedIntoTunnel,
    /// The anchor would pass on what goes to a group on the LAN; no system does that without a multicast router.
    GroupsStayOnTheirLink,
    /// pf lets only root ask for an address.
    DhcpByRoot,
    /// An answer is let in only when the question could have been sent.
    AnswersFollowQuestions,
}

fn discovery(packet: &Packet) -> bool {
    matches!(packet.payload, Payload::IcmpV6(133..=136)) && packet.hop_limit != 255
}

fn dhcp(packet: &Packet) -> bool {
    matches!(
        packet.payload,
        Payload::Ports { transport: Transport::Udp, source: 68, destination: 67 }
            | Payload::Ports { transport: Transport::Udp, source: 546, destination: 547 }
    )
}

fn group(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::from([255; 4])
}

fn answers(packet: &Packet) -> bool {
    matches!(packet.path, Path::Input { .. }) && packet.connection.state != ConnectionState::New
}

fn on_windows(packet: &Packet, linux: bool) -> Option<Listed> {
    match (&packet.path, linux) {
        (_, false) => discovery(packet).then_some(Listed::HopLimit),
        (Path::Forward { .. }, true) => Some(Listed::NothingPassedOn),
        (_, true) => answers(packet).then_some(Listed::AnswersFollowQuestions),
    }
}

fn on_macos(packet: &Packet, linux: bool) -> Option<Listed> {
    match (&packet.path, linux) {
        (Path::Forward { .. }, false) if matches!(packet.payload, Payload::IcmpV6(133..=136)) => Some(Listed::DiscoveryPassedOn),
        (Path::Forward { .. }, false) if group(packet.destination) => Some(Listed::GroupsStayOnTheirLink),
        (Path::Forward { to, .. }, false) if *to == packets::tunnel() => Some(Listed::PassedIntoTunnel),
        (_, false) => discovery(packet).then_some(Listed::HopLimit),
        (Path::Forward { .. }, true) => Some(Listed::JudgedTwice),
        (Path::Output { .. }, true) if dhcp(packet) => Some(Listed::DhcpByRoot),
        (_, true) => answers(packet).then_some(Listed::AnswersFollowQuestions),
    }
}

fn policies() -> Vec<Ruleset> {
    let home = vec![fixtures::net("192.168.1.0/24"), fixtures::net("fe80::/64"), fixtures::net("fd12:3456::/64")];
    let custom = Dns::Custom { addresses: vec![fixtures::ip("192.168.1.1"), fixtures::ip("9.9.9.9")] };
    let api = fixtures::api(&mut Random::new(2));
    let mut rulesets = Vec::new();
    for (shape, allow_lan, dns) in [
        (0, false, Dns::Provider),
        (0, true, custom.clone()),
        (1, true, Dns::Provider),
        (2, false, custom),
        (3, true, Dns::Provider),
    ] {
        let settings = Settings { kill_switch: KillSwitch::Always, allow_lan, dns, ..Settings::default() };
        let facts = Facts { api: api.clone(), attached: home.clone() };
        let plan = fixtures::plan(shape);
        let attempt = Attempt(1);
        for state in [
            State::Disconnected,
            State::Connecting { attempt, phase: Phase::Verifying, plan: Some(plan.clone()) },
            State::Connected { attempt, plan, since: Now::default(), stalled: false },
            State::Stopping { closed: true },
            State::Blocked { reason: BlockReason::GatewaySilent, retry: None },
        ] {
            let Some(rules) = Ruleset::lower(&policy_for(&state, &settings, &facts)) else { continue };
            if !rulesets.contains(&rules) {
                rulesets.push(rules);
            }
        }
    }
    rulesets
}

/// Every packet of the domain, with the difference that is listed for it or `Err` with words.
fn compare(
    rules: &Ruleset,
    other: &dyn Fn(&Packet) -> bool,
    listed: &dyn Fn(&Packet, bool) -> Option<Listed>,
    differences: &mut BTreeMap<Listed, u64>,
) -> Result<u64, String> {
    let mut wrong = None;
    let count = packets::for_each(|packet| {
        let linux = evaluate(rules, packet).verdict == Verdict::Accept;
        if other(packet) == linux || wrong.is_some() {
            return;
        }
        match listed(packet, linux) {
            Some(difference) => *differences.entry(difference).or_default() += 1,
            None => wrong = Some(format!("nftables passes: {linux}; {packet:?}\n{}", rules.describe())),
        }
    });
    wrong.map_or(Ok(count), Err)
}

fn windows(filters: &[wfp::Filter]) -> impl Fn(&Packet) -> bool + '_ {
    |packet| hamn_network::firewall::eval::wfp::passes(filters, wfp::Lifetime::Persistent, packet)
}

fn macos(rules: &[pf::PfRule]) -> impl Fn(&Packet) -> bool + '_ {
    |packet| hamn_network::firewall::eval::pf::passes(rules, User::Other, packet)
}

#[test]
fn windows_filters_agree_with_the_rules_for_every_packet_of_the_domain() {
    let (mut count, mut differences) = (0, BTreeMap::new());
    for rules in policies() {
        let filters = wfp::compile(&rules);
        count += compare(&rules, &windows(&filters), &on_windows, &mut differences).unwrap();
    }
    println!("{count} points; listed differences: {differences:?}; unexplained: 0");
    assert!(count > 5_000_000, "{count}");
}

#[test]
fn the_pf_anchor_agrees_with_the_rules_for_every_packet_of_the_domain() {
    let (mut count, mut differences) = (0, BTreeMap::new());
    for rules in policies() {
        let anchor = pf::compile(&rules);
        count += compare(&rules, &macos(&anchor), &on_macos, &mut differences).unwrap();
    }
    println!("{count} points; listed differences: {differences:?}; unexplained: 0");
    assert!(count > 5_000_000, "{count}");
}

/// The other side of `AnswersFollowQuestions`: whatever may be sent is answered.
#[test]
fn what_may_be_sent_is_answered() {
    let mut count = 0;
    for rules in policies() {
        let (filters, anchor) = (wfp::compile(&rules), pf::compile(&rules));
        packets::for_each(|packet| {
            let (Path::Output { link }, Payload::Ports { transport, source, destination }) = (&packet.path, packet.payload)
            else {
                return;
            };
            if packet.connection.state != ConnectionState::New || group(packet.destination) {
                return;
            }
            let answer = Packet {
                path: Path::Input { link: link.clone() },
                source: packet.destination,
                destination: packet.source,
                payload: Payload::Ports { transport, source: destination, destination: source },
                own_mark: false,
                connection: Connection { state: ConnectionState::Established, own: packet.own_mark },
                ..packet.clone()
            };
            if windows(&filters)(packet) {
                assert!(windows(&filters)(&answer), "Windows: {packet:?}");
                count += 1;
            }
            let stateful = anchor.iter().any(|rule| rule.keep_state) && evaluate(&rules, &answer).verdict == Verdict::Accept;
            assert!(!(stateful && macos(&anchor)(packet)) || macos(&anchor)(&answer), "macOS: {packet:?}");
        });
    }
    assert!(count > 10_000, "{count}");
}

/// Boot-time filters are those of lockdown, whatever the policy.
#[test]
fn boot_time_filters_are_lockdown() {
    let lockdown = Ruleset::lockdown();
    let filters = wfp::compile(&lockdown);
    let boot = |packet: &Packet| hamn_network::firewall::eval::wfp::passes(&filters, wfp::Lifetime::BootTime, packet);
    compare(&lockdown, &boot, &on_windows, &mut BTreeMap::new()).unwrap();
    let keys: std::collections::BTreeSet<u128> =
        policies().iter().flat_map(wfp::compile).filter(|f| f.lifetime == wfp::Lifetime::BootTime).map(|f| f.key).collect();
    let one = wfp::compile(&lockdown).iter().filter(|f| f.lifetime == wfp::Lifetime::BootTime).count();
    assert_eq!(keys.len(), one, "the boot-time set never changes");
}

/// What pf cannot do: any process of root may use the gateway's exact tuple, and nothing else.
#[test]
fn another_process_of_root_reaches_only_our_own_endpoints_on_macos() {
    let mut more = 0;
    for rules in policies() {
        let anchor = pf::compile(&rules);
        packets::for_each(|packet| {
            let as_root = hamn_network::firewall::eval::pf::passes(&anchor, User::Root, packet);
            let as_other = hamn_network::firewall::eval::pf::passes(&anchor, User::Other, packet);
            if as_root != as_other {
                more += 1;
                let own = Packet { own_mark: true, ..packet.clone() };
                let decided = evaluate(&rules, &own);
                assert!(
                    matches!(decided.by, Purpose::Endpoint | Purpose::Api | Purpose::DhcpV4 | Purpose::DhcpV6),
                    "{packet:?} {decided:?}"
                );
            }
        });
    }
    assert!(more > 0, "the difference is real");
}

type Judge = Box<dyn Fn(&Packet) -> bool>;

fn noticed(name: &str, judge: impl Fn(&Ruleset) -> Judge, listed: fn(&Packet, bool) -> Option<Listed>) {
    let seen = policies().iter().any(|rules| compare(rules, &*judge(rules), &listed, &mut BTreeMap::new()).is_err());
    assert!(seen, "not noticed: {name}");
}

fn with_filters(name: &str, change: fn(&mut Vec<wfp::Filter>)) {
    let judge = |rules: &Ruleset| -> Judge {
        let mut filters = wfp::compile(rules);
        change(&mut filters);
        Box::new(move |packet| hamn_network::firewall::eval::wfp::passes(&filters, wfp::Lifetime::Persistent, packet))
    };
    noticed(name, judge, on_windows);
}

fn with_anchor(name: &str, change: fn(&mut Vec<pf::PfRule>)) {
    let judge = |rules: &Ruleset| -> Judge {
        let mut anchor = pf::compile(rules);
        change(&mut anchor);
        Box::new(move |packet| hamn_network::firewall::eval::pf::passes(&anchor, User::Other, packet))
    };
    noticed(name, judge, on_macos);
}

/// Each seeded mistake is noticed by the comparison above.
#[test]
fn seeded_mistakes_in_the_windows_filters_are_noticed() {
    with_filters("a wrong weight", |filters| {
        for filter in filters.iter_mut().filter(|filter| filter.conditions.is_empty()) {
            filter.weight = u64::MAX;
        }
    });
    with_filters("no IPv6 filters", |filters| filters.retain(|filter| filter.layer.is_ipv4()));
    with_filters("no DNS sublayer", |filters| filters.retain(|filter| filter.sublayer != wfp::Sublayer::Dns));
    with_filters("no condition on the program", |filters| {
        for filter in filters.iter_mut() {
            filter.conditions.retain(|condition| *condition != wfp::Condition::OwnProcess);
        }
    });
    with_filters("no guard of what is sent from the tunnel address", |filters| {
        filters.retain(|filter| filter.purpose != Purpose::TunnelSourceGuard);
    });
    with_filters("forwarding is open", |filters| {
        filters.retain(|filter| !matches!(filter.layer, wfp::Layer::ForwardV4 | wfp::Layer::ForwardV6));
    });
}

#[test]
fn seeded_mistakes_in_the_pf_anchor_are_noticed() {
    with_anchor("a missing quick", |rules| rules.iter_mut().for_each(|rule| rule.quick = false));
    with_anchor("DNS after the tunnel", |rules| {
        let refuses = |rule: &pf::PfRule| rule.purpose == Purpose::RefuseDns;
        let (dns, mut rest): (Vec<_>, Vec<_>) = std::mem::take(rules).into_iter().partition(refuses);
        let end = rest.len() - 1;
        rest.splice(end..end, dns);
        *rules = rest;
    });
    with_anchor("no final block of what is sent", |rules| {
        for rule in rules.iter_mut().filter(|rule| rule.purpose == Purpose::RefuseRest) {
            rule.action = pf::PfAction::Pass;
        }
    });
    with_anchor("a state for what neighbours send", |rules| {
        rules.iter_mut().for_each(|rule| rule.keep_state = rule.action == pf::PfAction::Pass);
    });
    with_anchor("no guard of the tunnel address", |rules| {
        rules.retain(|rule| rule.purpose != Purpose::TunnelAddressGuard);
    });
    with_anchor("every user", |rules| rules.iter_mut().for_each(|rule| rule.socket = None));
}
