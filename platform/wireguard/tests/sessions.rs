//! What the engine does with sessions: packets that wait for one, and trains in which not every packet is good. Needs root.
#![cfg(target_os = "linux")]
#![expect(clippy::indexing_slicing, reason = "a test file: it may panic")]

mod common;

use bytes::BytesMut;
use common::{Setup, client_key, gateway_key, gateway_peer, lab, until};
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use hamn_wireguard::packet::seal_ipv4;
use hamn_wireguard::x25519::PublicKey;
use nix::sys::socket::{setsockopt, sockopt};
use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const GATEWAY: &str = "10.0.0.1:51820";
const SECONDS: Duration = Duration::from_secs(10);

#[test]
fn packets_wait_until_the_gateway_is_there() {
    let lab = lab();
    let client = lab.client(gateway_peer(GATEWAY), Setup::default());
    let before = client.totals().tx_packets;
    let arguments = ["-q", "-c", "5", "-i", "0.05", "-W", "8", "10.64.0.1"];
    let ping = lab.client.spawn(move || Command::new("ping").args(arguments).output().unwrap());
    until("five packets wait", SECONDS, || client.totals().tx_packets >= before + 5);
    let gateway = lab.gateway(Setup::default());
    let output = String::from_utf8(ping.join().unwrap().stdout).unwrap();
    assert!(output.contains("5 received"), "{output}");
    assert!(gateway.totals().rx_packets >= 5);
}

fn bytes(message: impl Into<WgKind>) -> Vec<u8> {
    Packet::<[u8]>::from(message.into()).to_vec()
}

/// An IPv4 packet from the client to the gateway that nobody answers.
fn inner(number: u8) -> Vec<u8> {
    let mut packet = vec![number; 96];
    packet[..20].copy_from_slice(&[0x45, 0, 0, 96, 0, number, 0x40, 0, 64, 253, 0, 0, 10, 64, 0, 2, 10, 64, 0, 1]);
    seal_ipv4(&mut packet);
    packet
}

#[test]
fn of_a_train_what_came_before_or_is_damaged_is_left_out() {
    let lab = lab();
    let gateway = lab.gateway(Setup::default());
    let (socket, mut tunn) = lab.client.run(|| {
        let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
        socket.connect(GATEWAY).unwrap();
        socket.set_read_timeout(Some(SECONDS)).unwrap();
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(&client_key()), 100));
        let gateway = PublicKey::from(&gateway_key());
        let mut tunn = Tunn::new(client_key(), gateway, None, None, IndexTable::from_os_rng(), limiter);
        socket.send(&bytes(tunn.format_handshake_initiation(true).unwrap())).unwrap();
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        let response = Packet::from_bytes(BytesMut::from(&buffer[..count])).try_into_wg().unwrap();
        let TunnResult::WriteToNetwork(keepalive) = tunn.handle_incoming_packet(response) else { panic!("a keepalive") };
        socket.send(&bytes(keepalive)).unwrap();
        (socket, tunn)
    });
    gateway.await_handshake();
    let mut packets: Vec<Vec<u8>> =
        (0..20).map(|number| bytes(tunn.encapsulate_with_session(Packet::copy_from(&inner(number)[..])).unwrap())).collect();
    assert!(packets.iter().all(|packet| packet.len() == 128));
    // Twice in one train; damaged; of no session.
    packets.insert(3, packets[2].clone());
    packets[9][40] ^= 1;
    packets[15][4] ^= 1;
    let before = gateway.totals();
    let train = packets.concat();
    setsockopt(&socket, sockopt::UdpGsoSegment, &128).unwrap();
    socket.send(&train).unwrap();
    until("the train", SECONDS, || gateway.totals().rx_packets >= before.rx_packets + 18);
    let once = gateway.totals();
    // The kernel's own multicast may be refused at any time as well.
    assert!(once.rx_packets - before.rx_packets == 18 && once.refused - before.refused >= 3, "{before:?} {once:?}");
    // The whole of it again, then one more that is new.
    socket.send(&train).unwrap();
    let last = bytes(tunn.encapsulate_with_session(Packet::copy_from(&inner(20)[..])).unwrap());
    socket.send(&last).unwrap();
    until("the last", SECONDS, || gateway.totals().rx_packets > once.rx_packets);
    let again = gateway.totals();
    assert!(again.rx_packets - once.rx_packets == 1 && again.refused - once.refused >= 21, "{once:?} {again:?}");
}
