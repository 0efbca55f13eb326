//! The monitor in a real kernel: what others change is restored in time and told, and facts follow the links.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a failed step is a failed test; times are shown")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test waits for one event among others")]

mod routes_lab;

use hamn_core::event::HostEvent;
use routes_lab::{Lab, connected, event, eventually, output_of, sh};
use std::time::Duration;

/// Does harm and waits for the report that it is undone: at least one of five times within 100 ms, as other tests share the
/// processors.
async fn harm(events: &mut tokio::sync::mpsc::Receiver<HostEvent>, command: &str, wanted: &str) {
    let mut best = u64::MAX;
    for _ in 0..5 {
        sh(command);
        let microseconds = event(events, |event| match event {
            HostEvent::Tampered { what, restored_after_us } if what.contains(wanted) => Some(restored_after_us),
            HostEvent::RestoreFailed { reason } => panic!("{reason}"),
            _ => None,
        });
        best = best.min(microseconds.await);
        if best <= 100_000 {
            break;
        }
    }
    println!("{command}: restored after {best} us");
    assert!(best <= 100_000, "{command}: {best} us");
}

#[test]
fn tamper_01_rules_routes_and_the_firewall_come_back_within_100_ms() {
    let lab = Lab::new();
    lab.client.block_on(async || {
        let (mut network, mut events) = lab.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        let rules = || (output_of("ip rule"), output_of("ip -6 rule"));
        let routes = || output_of("ip route show table 0x68616d6e") + &output_of("ip -6 route show table 0x68616d6e");
        let (rules_before, routes_before) = (rules(), routes());
        harm(&mut events, "ip rule del priority 4290", "v4 rule 4290").await;
        harm(&mut events, "ip -6 rule del priority 4200", "v6 rule 4200").await;
        harm(&mut events, "ip route del unreachable default table 0x68616d6e metric 4294967294", "unreachable 0.0.0.0/0").await;
        harm(&mut events, "ip route add 192.0.2.0/24 via 192.168.1.1 table 0x68616d6e", "1 unwanted").await;
        harm(&mut events, "ip rule add priority 4205 lookup main protocol 104", "1 unwanted").await;
        harm(&mut events, "ip rule flush", "rule").await;
        harm(&mut events, "nft flush ruleset", "firewall rules changed by nft").await;
        // The rules of the kernel itself are nobody's but the flusher's.
        sh("ip rule add priority 32766 lookup main");
        sh("ip rule add priority 32767 lookup default");
        let same = |a: &str, b: &str| {
            let sorted = |text: &str| {
                let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
                lines.sort();
                lines
            };
            sorted(a) == sorted(b)
        };
        let after = rules();
        assert!(same(&rules_before.0, &after.0) && same(&rules_before.1, &after.1), "{rules_before:?}\n{after:?}");
        assert!(same(&routes_before, &routes()), "{routes_before}\n{}", routes());
        assert!(network.verify().await.iter().all(|finding| finding.ok), "{:?}", network.verify().await);
    });
}

#[test]
fn facts_follow_a_link_that_goes_down_and_comes_up_at_another_place() {
    let lab = Lab::new();
    lab.client.block_on(async || {
        let (network, mut events) = lab.network().await;
        let facts = network.facts();
        assert!(facts.online && facts.ipv4 && facts.ipv6, "{facts:?}");
        assert!(facts.attached.contains(&"192.168.1.0/24".parse().unwrap()), "{facts:?}");
        assert!(!facts.attached.iter().any(|net| net.to_string().starts_with("10.64")), "the tunnel is not attached: {facts:?}");
        sh("ip link set eth0 down");
        let offline = event(&mut events, |event| match event {
            HostEvent::Facts { facts, path_changed } if !facts.online => Some(path_changed),
            _ => None,
        });
        assert!(!offline.await, "no path is no other path");
        sh("ip link set eth0 up
            ip addr flush dev eth0
            ip addr add 172.16.5.9/24 dev eth0
            ip route add default via 172.16.5.1");
        let mut changed = false;
        let back = event(&mut events, |event| match event {
            HostEvent::Facts { facts, path_changed } => {
                changed |= path_changed;
                (facts.ipv4 && facts.attached.contains(&"172.16.5.0/24".parse().unwrap())).then_some(facts)
            }
            _ => None,
        });
        let back = back.await;
        assert!(changed && back.online && !back.ipv6, "{back:?}");
        assert_eq!(network.facts().attached, back.attached);
        sh("ip route replace default via 172.16.5.2");
        let again = event(&mut events, |event| match event {
            HostEvent::Facts { path_changed, .. } => Some(path_changed),
            _ => None,
        });
        assert!(again.await, "another router is another path");
    });
}

#[test]
fn tamper_03_a_renamed_tunnel_device_is_told() {
    let lab = Lab::new();
    lab.client.block_on(async || {
        let (mut network, mut events) = lab.network().await;
        network.apply(&connected(|_| {})).await.unwrap();
        sh("ip link set hamn0 down
            ip link set hamn0 name other0");
        event(&mut events, |event| (event == HostEvent::TunnelInterfaceLost).then_some(())).await;
        assert!(!output_of("ip route show table 0x68616d6e").contains("other0"));
    });
}

#[test]
fn a_receiver_that_does_not_read_stops_neither_restoring_nor_apply() {
    let lab = Lab::new();
    lab.client.block_on(async || {
        let (sender, mut events) = tokio::sync::mpsc::channel(1);
        let mut network = hamn_network::Network::open(lab.config(), sender).await.unwrap();
        network.apply(&connected(|_| {})).await.unwrap();
        for _ in 0..100 {
            sh("ip rule del priority 4290");
            let took = eventually("restored", || output_of("ip rule").contains("4290:")).await;
            assert!(took < Duration::from_secs(2));
        }
        sh("ip link set eth0 down");
        eventually("the facts are known", || !network.facts().online).await;
        network.apply(&connected(|_| {})).await.unwrap();
        let last = event(&mut events, |event| match event {
            HostEvent::Facts { facts, .. } if !facts.online => Some(()),
            _ => None,
        });
        last.await;
    });
}
