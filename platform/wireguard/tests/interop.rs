//! The engine on real parts: both ends ours, and each end Debian's wireguard-go, over veth in namespaces. Needs root.
#![cfg(target_os = "linux")]

mod common;

use common::{Setup, WireguardGo, client_peer, gateway_peer, lab};
use hamn_wireguard::{EngineOptions, Listen, Offload};

const MB: usize = 1_000_000;

#[test]
fn both_ends_ours_over_both_families() {
    for endpoint in ["10.0.0.1:51820", "[fd01::1]:51820"] {
        let lab = lab();
        let gateway = lab.gateway(Setup::default());
        let client = lab.client(gateway_peer(endpoint), Setup::default());
        client.await_handshake();
        lab.pings();
        for (address, more) in [("10.64.0.1", ""), ("10.64.0.1", "-R"), ("fd64::1", ""), ("fd64::1", "-R")] {
            println!("{endpoint} {address} {more}: {:.0} Mbit/s", lab.iperf(address, more));
        }
        lab.transfer("10.64.0.1", 20 * MB);
        lab.transfer("fd64::1", 20 * MB);
        let (near, far) = (client.totals(), gateway.totals());
        println!("client {near:?}\ngateway {far:?}");
        assert!(near.frames * 4 < near.rx_packets && near.messages * 4 < near.tx_packets, "packets travel in trains");
        assert_eq!((near.segments_refused, far.segments_refused, lab.checksum_errors()), (0, 0, 0));
        let peer = gateway.engine.peers().wait().unwrap().remove(0);
        assert!(peer.endpoint.is_some() && peer.rx_bytes > 20_000_000 && peer.last_handshake_age.is_some());
    }
}

#[test]
fn wireguard_go_is_the_gateway() {
    let lab = lab();
    let _gateway = WireguardGo::start(&lab.gateway, true, None);
    let client = lab.client(gateway_peer("10.0.0.1:51820"), Setup::default());
    client.await_handshake();
    lab.pings();
    for more in ["", "-R"] {
        println!("to wireguard-go {more}: {:.0} Mbit/s", lab.iperf("10.64.0.1", more));
    }
    lab.transfer("10.64.0.1", 10 * MB);
    lab.transfer("fd64::1", 10 * MB);
    assert_eq!(lab.checksum_errors(), 0);
}

#[test]
fn wireguard_go_is_the_client() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let _client = WireguardGo::start(&lab.client, false, Some("[fd01::1]:51820"));
    lab.pings();
    for more in ["", "-R"] {
        println!("from wireguard-go {more}: {:.0} Mbit/s", lab.iperf("10.64.0.1", more));
    }
    lab.transfer("10.64.0.1", 10 * MB);
    lab.transfer("fd64::1", 10 * MB);
    assert_eq!(lab.checksum_errors(), 0);
    gateway.await_handshake();
}

#[test]
fn every_offload_and_none_carries_the_same_bytes() {
    for offload in [Offload::Plain, Offload::Header, Offload::Tcp, Offload::TcpUdp] {
        for segmentation in [false, true] {
            let lab = lab();
            let setup = || Setup {
                offload,
                agreed: offload,
                change: Box::new(move |options: &mut EngineOptions| options.segmentation = segmentation),
            };
            let _gateway = lab.gateway(setup());
            let client = lab.client(gateway_peer("10.0.0.1:51820"), setup());
            lab.pings();
            lab.transfer("10.64.0.1", 4 * MB);
            lab.transfer("fd64::1", 4 * MB);
            assert_eq!(lab.checksum_errors(), 0);
            println!("{offload:?} {segmentation}: {:?}", client.totals());
        }
    }
}

#[test]
fn one_percent_loss_costs_time_and_no_bytes() {
    let lab = lab();
    // Single datagrams, so that single ones are lost.
    let setup = || Setup { change: Box::new(|options: &mut EngineOptions| options.segmentation = false), ..Setup::default() };
    let _gateway = lab.gateway(setup());
    let _client = lab.client(gateway_peer("10.0.0.1:51820"), setup());
    lab.pings();
    for namespace in [&lab.client, &lab.gateway] {
        namespace.sh("nft -f - <<'END'
             table inet loss {
                 chain input {
                     type filter hook input priority 0
                     iifname { c0, g0 } numgen random mod 100 < 1 counter drop
                 }
             }
END");
    }
    let (v4, v6) = (lab.transfer("10.64.0.1", 3 * MB), lab.transfer("fd64::1", 3 * MB));
    let lost =
        [&lab.client, &lab.gateway].map(|namespace| namespace.sh("nft list chain inet loss input | grep -o 'packets [0-9]*'"));
    println!("3 MB each way at 1 % loss: {v4:?}, {v6:?}, {lost:?} lost");
    assert!(lost.iter().all(|lost| lost.trim() != "packets 0"), "{lost:?}");
    assert_eq!(lab.checksum_errors(), 0);
}

#[test]
fn two_hundred_more_peers_change_nothing_for_one() {
    use hamn_wireguard::x25519::{PublicKey, StaticSecret};
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    for number in 0..200_u8 {
        let mut peer = client_peer();
        peer.public_key = PublicKey::from(&StaticSecret::from([number.wrapping_add(100); 32]));
        peer.allowed_ips = common::nets(&[&format!("10.65.0.{number}/32")]);
        gateway.engine.add_peer(peer).wait().unwrap();
    }
    let client = lab.client(gateway_peer("10.0.0.1:51820"), Setup::default());
    client.await_handshake();
    lab.pings();
    assert_eq!(gateway.engine.peers().wait().unwrap().len(), 201);
    drop(gateway);
    assert!(!lab.ping("10.64.0.1"));
    let _again = common::start(
        &lab.gateway,
        "hg0",
        ("10.64.0.1/24", "fd64::1/64"),
        EngineOptions::new(common::gateway_key(), Listen::Port(common::PORT)),
        client_peer(),
        Setup::default(),
    );
}
