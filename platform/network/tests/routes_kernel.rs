//! The routes in a real kernel: hostile routes, strict reverse path filter, a flushed firewall, a lost tunnel device.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod routes_lab;

use hamn_core::event::HostEvent;
use hamn_core::net::FWMARK;
use hamn_core::policy::{NetworkPolicy, TunnelTraffic};
use routes_lab::{Echo, Lab, answered, ask, ask_from, blocked, connected, event, eventually, output_of, sh};

/// What is ours in the kernel.
fn ours() -> String {
    let rules = output_of("ip rule") + &output_of("ip -6 rule");
    let rules: String = rules.lines().filter(|line| line.starts_with("42")).map(|line| format!("{line}\n")).collect();
    rules + &output_of("ip route show table 0x68616d6e") + &output_of("ip -6 route show table 0x68616d6e")
}

/// Deletes every firewall rule and stops its restoring, so that only routes are left.
fn routes_alone(network: hamn_network::Network) {
    drop(network);
    sh("nft flush ruleset");
}

#[test]
fn route_01_hostile_routes_neither_leak_nor_cut_off() {
    let lab = Lab::new();
    let wire = Echo::start(&lab.router, "203.0.113.80:9999", "wire");
    let _tunnel = Echo::start(&lab.far, "203.0.113.80:9999", "tunnel");
    lab.client.block_on(async || {
        sh("ip route add 0.0.0.0/1 via 192.168.1.1
            ip route add 128.0.0.0/1 via 192.168.1.1
            ip route add 203.0.113.80/32 via 192.168.1.1 proto dhcp");
        assert_eq!(
            answered("203.0.113.80:9999", None).as_deref(),
            Some("wire"),
            "control: without a policy it leaves by the wire"
        );
        let before = wire.count();
        let (mut network, mut events) = lab.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        assert_eq!(answered("203.0.113.80:9999", None).as_deref(), Some("tunnel"));
        let named = event(&mut events, |event| if let HostEvent::NetworkInterferes { what } = event { Some(what) } else { None });
        assert!(named.await.contains("via 192.168.1.1 on eth0"));
        assert!(network.verify().await.iter().all(|finding| finding.ok), "{:?}", network.verify().await);
        routes_alone(network);
        assert_eq!(answered("203.0.113.80:9999", None).as_deref(), Some("tunnel"), "also without a firewall");
        assert_eq!(wire.count(), before);
    });
}

#[test]
fn dns_follows_no_lan_route_even_when_the_firewall_is_flushed() {
    let lab = Lab::new();
    let resolver = Echo::start(&lab.router, "192.168.1.53:53", "lan");
    let other = Echo::start(&lab.router, "192.168.1.1:53", "other");
    let _printer = Echo::start(&lab.router, "192.168.1.1:631", "printer");
    lab.client.block_on(async || {
        assert_eq!(answered("192.168.1.53:53", None).as_deref(), Some("lan"), "control");
        let before = resolver.count();
        let (mut network, _events) = lab.network().await;
        network.apply(&connected(|policy| policy.lan = vec!["192.168.1.0/24".parse().unwrap()])).await.unwrap();
        assert_eq!(answered("192.168.1.1:631", None).as_deref(), Some("printer"), "the LAN is allowed");
        assert_eq!(ask("192.168.1.53:53", None), None);
        routes_alone(network);
        assert_eq!(answered("192.168.1.1:631", None).as_deref(), Some("printer"));
        assert_eq!(ask("192.168.1.53:53", None), None);
        assert_eq!(resolver.count(), before, "only the control");
        let (mut network, _events) = lab.network().await;
        let own = connected(|policy| policy.tunnel.as_mut().unwrap().lan_resolvers = vec!["192.168.1.53".parse().unwrap()]);
        network.apply(&own).await.unwrap();
        assert_eq!(answered("192.168.1.53:53", None).as_deref(), Some("lan"), "the user's own resolver");
        assert_eq!(ask("192.168.1.1:53", None), None);
        assert_eq!(other.count(), 0);
    });
}

#[test]
fn strict_reverse_path_filters_accept_the_tunnels_answers_and_a_lan_resolvers() {
    let lab = Lab::new();
    let _gateway = Echo::start(&lab.router, "198.51.100.10:51820", "gateway");
    let _resolver = Echo::start(&lab.router, "192.168.1.53:53", "lan");
    let _dhcp = Echo::start(&lab.router, "192.168.1.1:67", "dhcp");
    let _inside = Echo::start(&lab.far, "203.0.113.80:9999", "tunnel");
    lab.client.block_on(async || {
        for link in ["all", "eth0", "hamn0"] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"), "1").unwrap();
        }
        let switch = "/proc/sys/net/ipv4/conf/all/src_valid_mark";
        let (mut network, _events) = lab.network().await;
        let policy = connected(|policy| policy.tunnel.as_mut().unwrap().lan_resolvers = vec!["192.168.1.53".parse().unwrap()]);
        network.apply(&policy).await.unwrap();
        assert_eq!(std::fs::read_to_string(switch).unwrap().trim(), "1");
        assert_eq!(answered("198.51.100.10:51820", Some(FWMARK)).as_deref(), Some("gateway"));
        assert_eq!(ask("198.51.100.10:51820", None), None, "only our own socket reaches the gateway");
        assert_eq!(answered("203.0.113.80:9999", None).as_deref(), Some("tunnel"));
        assert_eq!(answered("192.168.1.53:53", None).as_deref(), Some("lan"));
        let renewed = (0..10).find_map(|_| ask_from(68, "192.168.1.1:67", None));
        assert_eq!(renewed.as_deref(), Some("dhcp"), "a lease is renewed");
        network.apply(&NetworkPolicy::Open).await.unwrap();
        assert_eq!(std::fs::read_to_string(switch).unwrap().trim(), "0");
    });
}

#[test]
fn without_its_device_all_is_unreachable_and_with_a_new_one_it_flows_again() {
    let lab = Lab::new();
    let wire = Echo::start(&lab.router, "203.0.113.80:9999", "wire");
    let _tunnel = Echo::start(&lab.far, "203.0.113.80:9999", "tunnel");
    lab.client.block_on(async || {
        let (mut network, mut events) = lab.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        assert_eq!(answered("203.0.113.80:9999", None).as_deref(), Some("tunnel"));
        sh("ip link set hamn0 down");
        event(&mut events, |event| (event == HostEvent::TunnelInterfaceLost).then_some(())).await;
        assert!(ask("203.0.113.80:9999", None).is_none());
        assert!(
            matches!(network.apply(&connected(|_| {})).await, Err(hamn_network::ApplyError::Routes(_))),
            "not there: an error"
        );
        sh("ip link set hamn0 up
            ip -6 addr add fd64::2/128 dev hamn0 nodad");
        eventually("routes into the tunnel are back", || ask("203.0.113.80:9999", None).as_deref() == Some("tunnel")).await;
        sh("ip link del hamn0");
        event(&mut events, |event| (event == HostEvent::TunnelInterfaceLost).then_some(())).await;
        routes_alone(network);
        assert!(ask("203.0.113.80:9999", None).is_none(), "no device, no firewall, no helper: still nothing leaves");
        assert!(ask("[2001:db8:1::1]:9999", None).is_none());
        assert_eq!(wire.count(), 0);
    });
}

#[test]
fn while_verifying_only_the_peers_are_routed_and_the_device_may_come_later() {
    let lab = Lab::new();
    let _gateway = Echo::start(&lab.far, "10.64.0.1:9999", "tunnel");
    lab.client.block_on(async || {
        sh("ip link set hamn0 down");
        let (mut network, _events) = lab.network().await;
        let peers = vec!["10.64.0.1".parse().unwrap(), "fd64::1".parse().unwrap()];
        let verifying = connected(|policy| policy.tunnel.as_mut().unwrap().traffic = TunnelTraffic::VerifyOnly { peers });
        network.apply(&verifying).await.unwrap();
        assert!(!ours().contains("hamn0"));
        sh("ip link set hamn0 up");
        eventually("the peer is routed", || ask("10.64.0.1:9999", None).as_deref() == Some("tunnel")).await;
        assert!(ours().contains("fd64::1 dev hamn0") && !ours().contains("default dev hamn0"), "{}", ours());
    });
}

#[test]
fn policies_replace_each_other_and_open_leaves_nothing() {
    let lab = Lab::new();
    lab.client.block_on(async || {
        let before = (output_of("ip rule"), output_of("ip -6 rule"), output_of("ip route"), output_of("nft list ruleset"));
        let (mut network, _events) = lab.network().await;
        for _ in 0..3 {
            network.apply(&blocked()).await.unwrap();
            assert!(ours().contains("unreachable default"));
            network.apply(&connected(|policy| policy.lan = vec!["192.168.1.0/24".parse().unwrap()])).await.unwrap();
            assert!(ours().contains("default dev hamn0") && ours().contains("to 192.168.1.0/24"), "{}", ours());
            network.apply(&connected(|_| {})).await.unwrap();
            assert!(!ours().contains("192.168.1.0/24"), "{}", ours());
        }
        network.apply(&NetworkPolicy::Open).await.unwrap();
        let after = (output_of("ip rule"), output_of("ip -6 rule"), output_of("ip route"), output_of("nft list ruleset"));
        assert_eq!(before, after);
        assert_eq!(ours(), "");
    });
}

#[test]
fn restore_removes_what_a_dead_helper_left_and_a_second_time_nothing() {
    let lab = Lab::new();
    std::fs::write(lab.resolv_conf(), "nameserver 192.168.1.53\n").unwrap();
    lab.client.block_on(async || {
        let (mut network, _events) = lab.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        drop(network);
        assert!(ours().contains("unreachable default"), "a crash opens nothing");
        let done = hamn_network::restore(&lab.config()).await.unwrap();
        assert_eq!(done.len(), 4, "{done:?}");
        assert_eq!(ours(), "");
        assert_eq!(std::fs::read_to_string(lab.resolv_conf()).unwrap(), "nameserver 192.168.1.53\n");
        assert_eq!(hamn_network::restore(&lab.config()).await.unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_host_with_ipv6_switched_off_connects_and_refuses_ipv6() {
    let lab = Lab::new();
    let _tunnel = Echo::start(&lab.far, "203.0.113.80:9999", "tunnel");
    lab.client.block_on(async || {
        for link in ["all", "default", "lo", "hamn0", "eth0"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "1").unwrap();
        }
        let (mut network, _events) = lab.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        assert_eq!(answered("203.0.113.80:9999", None).as_deref(), Some("tunnel"));
        let table = output_of("ip -6 route show table 0x68616d6e");
        assert!(table.contains("unreachable default") && !table.contains("hamn0"), "{table}");
        network.apply(&NetworkPolicy::Open).await.unwrap();
        assert_eq!(ours(), "");
    });
}
