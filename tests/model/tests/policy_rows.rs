//! Each row of `SECURITY.md` §5 as the policy that `policy_for` must give, written out.

use hamn_core::net::{Endpoint, InterfaceName, lan_prefixes};
use hamn_core::policy::{Enforced, Facts, NetworkPolicy, TunnelAccess, TunnelTraffic, policy_for};
use hamn_core::settings::{Dns, KillSwitch, Settings};
use hamn_core::state::{AfterDisconnect, Attempt, BlockReason, Phase, State};
use hamn_core::time::Now;
use hamn_model_tests::fixtures::{self, ip, net};
use ipnet::IpNet;

const MODES: [KillSwitch; 3] = [KillSwitch::Off, KillSwitch::WhileConnected, KillSwitch::Always];

fn facts() -> Facts {
    Facts {
        api: vec![Endpoint::tcp(fixtures::socket("198.51.100.1:443"))],
        attached: vec![net("192.168.1.0/24"), net("203.0.113.0/24"), net("fe80::/64")],
    }
}

fn lan() -> Vec<IpNet> {
    vec![net("192.168.1.0/24"), net("fe80::/64")]
}

fn settings(kill_switch: KillSwitch, allow_lan: bool) -> Settings {
    Settings { kill_switch, allow_lan, ..Settings::default() }
}

fn blocked(api: bool, allow_lan: bool) -> NetworkPolicy {
    let api = if api { facts().api } else { Vec::new() };
    let lan = if allow_lan { lan() } else { Vec::new() };
    NetworkPolicy::Enforce(Enforced { api, lan, ..Enforced::default() })
}

fn proving(allow_lan: bool) -> NetworkPolicy {
    let plan = fixtures::plan(0);
    NetworkPolicy::Enforce(Enforced {
        endpoints: plan.endpoints,
        api: facts().api,
        lan: if allow_lan { lan() } else { Vec::new() },
        tunnel: Some(TunnelAccess {
            interface: InterfaceName::tunnel(),
            addresses: plan.addresses,
            traffic: TunnelTraffic::VerifyOnly { peers: vec![ip("10.128.0.1"), ip("fd00:128::1")] },
            resolvers: plan.resolvers,
            lan_resolvers: Vec::new(),
        }),
    })
}

fn carrying(allow_lan: bool, carries: &[&str]) -> NetworkPolicy {
    let plan = fixtures::plan(0);
    NetworkPolicy::Enforce(Enforced {
        endpoints: plan.endpoints,
        api: Vec::new(),
        lan: if allow_lan { lan() } else { Vec::new() },
        tunnel: Some(TunnelAccess {
            interface: InterfaceName::tunnel(),
            addresses: plan.addresses,
            traffic: TunnelTraffic::Everything { carries: carries.iter().map(|text| net(text)).collect() },
            resolvers: plan.resolvers,
            lan_resolvers: Vec::new(),
        }),
    })
}

fn connecting(phase: Phase, planned: bool) -> State {
    State::Connecting { attempt: Attempt(1), phase, plan: planned.then(|| fixtures::plan(0)) }
}

fn connected(shape: u64) -> State {
    State::Connected { attempt: Attempt(1), plan: fixtures::plan(shape), since: Now::default(), stalled: false }
}

fn leaving(verified: bool) -> State {
    State::Disconnecting { attempt: Attempt(1), plan: fixtures::plan(0), verified, then: AfterDisconnect::Rest }
}

fn check(state: &State, mode: KillSwitch, allow_lan: bool, expected: &NetworkPolicy) {
    assert_eq!(policy_for(state, &settings(mode, allow_lan), &facts()), *expected, "{state:?} {mode:?} LAN {allow_lan}");
}

#[test]
fn disconnected_is_open_unless_lockdown() {
    for allow_lan in [false, true] {
        check(&State::Disconnected, KillSwitch::Off, allow_lan, &NetworkPolicy::Open);
        check(&State::Disconnected, KillSwitch::WhileConnected, allow_lan, &NetworkPolicy::Open);
        check(&State::Disconnected, KillSwitch::Always, allow_lan, &blocked(true, allow_lan));
    }
}

#[test]
fn an_attempt_is_protected_in_every_mode() {
    for (mode, allow_lan) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        for phase in [Phase::Securing, Phase::Preparing] {
            check(&connecting(phase, false), mode, allow_lan, &blocked(true, allow_lan));
        }
        for phase in [Phase::Admitting, Phase::Verifying] {
            check(&connecting(phase, true), mode, allow_lan, &proving(allow_lan));
        }
        check(&connecting(Phase::Routing, true), mode, allow_lan, &carrying(allow_lan, &["0.0.0.0/0", "::/0"]));
    }
}

#[test]
fn a_tunnel_is_protected_in_every_mode_until_it_is_gone() {
    for (mode, allow_lan) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        check(&connected(0), mode, allow_lan, &carrying(allow_lan, &["0.0.0.0/0", "::/0"]));
        check(&leaving(true), mode, allow_lan, &carrying(allow_lan, &["0.0.0.0/0", "::/0"]));
        check(&leaving(false), mode, allow_lan, &proving(allow_lan));
    }
}

#[test]
fn a_blocked_state_opens_only_with_the_kill_switch_off_and_a_readable_intent() {
    for (reason, mode) in BlockReason::ALL.into_iter().flat_map(|reason| MODES.map(|mode| (reason, mode))) {
        let open = mode == KillSwitch::Off && reason != BlockReason::IntentUnreadable;
        let expected = if open { NetworkPolicy::Open } else { blocked(true, false) };
        check(&State::Blocked { reason, retry: None }, mode, false, &expected);
    }
}

#[test]
fn a_helper_that_ends_leaves_what_the_intent_says() {
    for mode in MODES {
        check(&State::Stopping { closed: true }, mode, true, &blocked(false, true));
        check(&State::Stopping { closed: true }, mode, false, &blocked(false, false));
        check(&State::Stopping { closed: false }, mode, true, &NetworkPolicy::Open);
    }
}

fn tunnel_of(policy: NetworkPolicy) -> TunnelAccess {
    let NetworkPolicy::Enforce(Enforced { tunnel: Some(tunnel), .. }) = policy else { panic!("no tunnel in {policy:?}") };
    tunnel
}

fn carries(shape: u64, ipv6: bool) -> Vec<IpNet> {
    let settings = Settings { ipv6, ..Settings::default() };
    match tunnel_of(policy_for(&connected(shape), &settings, &facts())).traffic {
        TunnelTraffic::Everything { carries } => carries,
        TunnelTraffic::VerifyOnly { .. } => panic!("not routed"),
    }
}

/// G2.
#[test]
fn a_tunnel_carries_the_families_that_it_has_an_address_for() {
    assert_eq!(carries(0, true), [net("0.0.0.0/0"), net("::/0")]);
    assert_eq!(carries(0, false), [net("0.0.0.0/0")]);
    assert_eq!(carries(1, true), [net("0.0.0.0/0")]);
    assert_eq!(carries(2, true), [net("10.77.0.0/16")]);
    assert_eq!(carries(3, true), [net("::/0")]);
    assert_eq!(carries(3, false), Vec::<IpNet>::new());
}

/// G3: only the user's own resolver on an attached private network is asked outside, whether or not LAN access is on.
#[test]
fn own_resolvers_are_split_by_where_they_live() {
    let addresses = vec![ip("192.168.1.1"), ip("9.9.9.9"), ip("203.0.113.53"), ip("192.168.2.1")];
    for allow_lan in [false, true] {
        let settings = Settings { dns: Dns::Custom { addresses: addresses.clone() }, allow_lan, ..Settings::default() };
        let tunnel = tunnel_of(policy_for(&connected(0), &settings, &facts()));
        assert_eq!(tunnel.lan_resolvers, [ip("192.168.1.1")]);
        assert_eq!(tunnel.resolvers, [ip("9.9.9.9"), ip("203.0.113.53"), ip("192.168.2.1")]);
        let proving = tunnel_of(policy_for(&connecting(Phase::Verifying, true), &settings, &facts()));
        assert_eq!(proving.lan_resolvers, Vec::<std::net::IpAddr>::new());
    }
}

/// G9.
#[test]
fn a_lan_is_private_attached_and_narrow() {
    let lan = [
        "10.0.0.0/16",
        "10.1.2.3/24",
        "172.16.0.0/16",
        "172.31.255.0/24",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fd00::/48",
        "fd00:1::/64",
        "fe80::/64",
        "192.168.1.7/32",
    ];
    let not = [
        "10.0.0.0/8",
        "10.0.0.0/15",
        "172.16.0.0/12",
        "172.32.0.0/16",
        "192.168.0.0/15",
        "192.0.0.0/16",
        "0.0.0.0/1",
        "0.0.0.0/0",
        "203.0.113.0/24",
        "169.253.0.0/16",
        "fd00::/47",
        "fc00::/7",
        "2001:db8::/64",
        "fec0::/64",
        "::/0",
    ];
    for text in lan {
        assert_eq!(lan_prefixes(&[net(text)]), [net(text).trunc()], "{text}");
    }
    for text in not {
        assert_eq!(lan_prefixes(&[net(text)]), Vec::<IpNet>::new(), "{text}");
    }
    let twice = [net("192.168.1.9/24"), net("10.0.0.1/24"), net("192.168.1.8/24")];
    assert_eq!(lan_prefixes(&twice), [net("10.0.0.0/24"), net("192.168.1.0/24")]);
}
