//! The evaluator against a real kernel: for every named policy, the same packets must get the same answer. Needs root.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed step is a failed test")]

mod firewall_lab;
#[expect(dead_code, reason = "all policies are taken here, none by name")]
mod firewall_policies;

use firewall_lab::{CLIENT_V4, Lab, Namespace, Sniffer, TUNNEL_V4};
use firewall_policies::enforced;
use hamn_core::net::{FWMARK, InterfaceName, Transport};
use hamn_network::firewall::Ruleset;
use hamn_network::firewall::apply::linux::Nft;
use hamn_network::firewall::eval::{Connection, Packet, Path, Payload, Verdict, evaluate};
use hamn_network::firewall::ruleset::Interface;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DESTINATIONS: [&str; 18] = [
    "192.0.2.1",
    "192.0.2.80",
    "198.51.100.1",
    "198.51.100.9",
    "9.9.9.9",
    "10.64.0.1",
    "10.64.0.9",
    "10.8.0.7",
    "192.168.1.53",
    "192.168.1.54",
    "192.168.2.1",
    "224.0.0.251",
    "239.255.255.250",
    "2001:db8::1",
    "2001:db8:ffff::9",
    "2620:fe::fe",
    "fd64::1",
    "ff02::fb",
];
const PORTS: [u16; 7] = [53, 67, 443, 547, 853, 5353, 51820];
/// One packet that the client sends. The number of a probe travels in its payload (UDP) or its source port (TCP).
#[derive(Clone, Copy, Debug)]
struct Probe {
    transport: Transport,
    source: Option<Ipv4Addr>,
    destination: SocketAddr,
    link: &'static str,
    own_mark: bool,
}

fn probes() -> Vec<Probe> {
    let mut probes = Vec::new();
    for destination in DESTINATIONS.map(|text| text.parse::<IpAddr>().unwrap()) {
        for port in PORTS {
            for transport in [Transport::Udp, Transport::Tcp] {
                // TCP to a multicast address is refused before any firewall sees it.
                if transport == Transport::Tcp && destination.is_multicast() {
                    continue;
                }
                for (link, source) in [("eth0", None), ("hamn0", None), ("eth0", Some(TUNNEL_V4))] {
                    if source.is_some() && destination.is_ipv6() {
                        continue;
                    }
                    for own_mark in [false, true] {
                        let destination = SocketAddr::new(destination, port);
                        probes.push(Probe { transport, source, destination, link, own_mark });
                    }
                }
            }
        }
    }
    probes
}

const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const TUNNEL_V6: Ipv6Addr = Ipv6Addr::new(0xfd64, 0, 0, 0, 0, 0, 0, 2);
const FIRST_PORT: u16 = 10_000;

fn source_port(id: usize) -> u16 {
    FIRST_PORT + u16::try_from(id).unwrap()
}

fn send(id: usize, probe: &Probe) {
    let (domain, any): (_, IpAddr) = if probe.destination.is_ipv4() {
        (Domain::IPV4, probe.source.unwrap_or(Ipv4Addr::UNSPECIFIED).into())
    } else {
        (Domain::IPV6, "::".parse().unwrap())
    };
    let (kind, protocol) = match probe.transport {
        Transport::Udp => (Type::DGRAM, Protocol::UDP),
        Transport::Tcp => (Type::STREAM, Protocol::TCP),
    };
    let socket = Socket::new(domain, kind, Some(protocol)).unwrap();
    socket.bind_device(Some(probe.link.as_bytes())).unwrap();
    if probe.own_mark {
        socket.set_mark(FWMARK).unwrap();
    }
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&SocketAddr::new(any, source_port(id)).into()).unwrap();
    // Refusal shows as an error here; what counts is the wire.
    let _ = match probe.transport {
        Transport::Udp => socket.send_to(b"probe", &probe.destination.into()).map(|_| ()),
        Transport::Tcp => socket.connect(&probe.destination.into()),
    };
}

/// The source ports of all probes that reach the far end of a link: until all are sent and silence follows.
fn listen(namespace: &Namespace, ready: &Barrier, sent: &AtomicBool) -> BTreeSet<u16> {
    namespace.run(|| {
        let sniffer = Sniffer::open();
        ready.wait();
        let mut seen = BTreeSet::new();
        loop {
            match sniffer.next() {
                Some(frame) => drop(seen.insert(frame.source_port)),
                None if sent.load(Ordering::SeqCst) => return seen,
                None => {}
            }
        }
    })
}

fn named(link: &str) -> Interface {
    Interface::Named(InterfaceName::try_from(link.to_owned()).unwrap())
}

fn sent_packet(id: usize, probe: &Probe) -> Packet {
    let inside = probe.link == "hamn0";
    let source = match (probe.source, probe.destination.is_ipv4()) {
        (Some(address), _) => IpAddr::V4(address),
        // The kernel takes the link's own address for what stays on the link.
        (None, false) if matches!(probe.destination.ip(), IpAddr::V6(to) if to.is_multicast()) => {
            IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))
        }
        (None, true) => IpAddr::V4(if inside { TUNNEL_V4 } else { CLIENT_V4 }),
        (None, false) => IpAddr::V6(if inside { TUNNEL_V6 } else { CLIENT_V6 }),
    };
    Packet {
        path: Path::Output { link: named(probe.link) },
        source,
        destination: probe.destination.ip(),
        payload: Payload::Ports { transport: probe.transport, source: source_port(id), destination: probe.destination.port() },
        hop_limit: 64,
        own_mark: probe.own_mark,
        connection: Connection::NEW,
    }
}

#[test]
fn what_is_sent_meets_the_same_verdict_in_the_evaluator_and_in_the_kernel() {
    let lab = Lab::new();
    let probes = probes();
    let (mut accepted, mut compared) = (0, 0);
    for (name, policy) in enforced() {
        let rules = Ruleset::enforce(&policy);
        lab.client.block_on(|| async { Nft::find().unwrap().apply(&rules).await.unwrap() });
        let (ready, sent) = (Barrier::new(3), AtomicBool::new(false));
        let (outside, inside) = std::thread::scope(|scope| {
            let outside = scope.spawn(|| listen(&lab.isp, &ready, &sent));
            let inside = scope.spawn(|| listen(&lab.inner, &ready, &sent));
            ready.wait();
            lab.client.run(|| probes.iter().enumerate().for_each(|(id, probe)| send(id, probe)));
            sent.store(true, Ordering::SeqCst);
            (outside.join().unwrap(), inside.join().unwrap())
        });
        for (id, probe) in probes.iter().enumerate() {
            let seen = if probe.link == "hamn0" { &inside } else { &outside }.contains(&source_port(id));
            let decision = evaluate(&rules, &sent_packet(id, probe));
            assert_eq!(seen, decision.verdict == Verdict::Accept, "{name}: {probe:?} {decision:?}");
            accepted += usize::from(seen);
            compared += 1;
        }
    }
    println!("{compared} packets compared, {accepted} of them allowed");
    assert!(accepted > 1000, "the lab does not work");
}

/// Unsolicited packets from both sides, to the client's own addresses and through it.
#[test]
fn what_arrives_unasked_meets_the_same_verdict_in_the_evaluator_and_in_the_kernel() {
    let lab = Lab::new();
    open_for_spoofing(&lab);
    let listeners: Vec<UdpSocket> = lab.client.run(|| [68, 4000].map(receiver).into());
    let forwarded: Vec<UdpSocket> = lab.inner.run(|| [53, 853, 4000].map(receiver).into());
    let (mut accepted, mut compared) = (0, 0);
    for (name, policy) in enforced() {
        let rules = Ruleset::enforce(&policy);
        lab.client.block_on(|| async { Nft::find().unwrap().apply(&rules).await.unwrap() });
        let arrivals = arrivals();
        for (id, packet) in arrivals.iter().enumerate() {
            let Payload::Ports { source, destination, .. } = packet.payload else { unreachable!() };
            let arrived_on = match &packet.path {
                Path::Input { link } | Path::Forward { from: link, .. } => link,
                Path::Output { .. } => unreachable!(),
            };
            let from = if *arrived_on == named("hamn0") { &lab.inner } else { &lab.isp };
            from.run(|| {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
                socket.set_reuse_address(true).unwrap();
                socket.bind(&SocketAddr::new(packet.source, source).into()).unwrap();
                socket.send_to(&[u8::try_from(id).unwrap()], &SocketAddr::new(packet.destination, destination).into()).unwrap();
            });
        }
        let mut heard = BTreeSet::new();
        for socket in listeners.iter().chain(&forwarded) {
            let mut buffer = [0; 4];
            while socket.recv(&mut buffer).is_ok() {
                heard.insert(usize::from(buffer[0]));
            }
        }
        for (id, packet) in arrivals.iter().enumerate() {
            let decision = evaluate(&rules, packet);
            assert_eq!(heard.contains(&id), decision.verdict == Verdict::Accept, "{name}: {packet:?} {decision:?}");
            accepted += usize::from(heard.contains(&id));
            compared += 1;
        }
    }
    println!("{compared} packets compared, {accepted} of them allowed");
    assert!(accepted > 50, "the lab does not work");
}

const STRANGERS: [Ipv4Addr; 4] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 168, 1, 53), Ipv4Addr::new(192, 168, 1, 54), Ipv4Addr::new(198, 51, 100, 9)];
const PASSED_ON_TO: [Ipv4Addr; 3] = [Ipv4Addr::new(10, 64, 0, 1), Ipv4Addr::new(10, 64, 0, 9), Ipv4Addr::new(9, 9, 9, 9)];

fn open_for_spoofing(lab: &Lab) {
    for address in STRANGERS {
        lab.isp.sh(&format!("ip addr add {address}/32 dev lo"));
        lab.inner.sh(&format!("ip addr add {address}/32 dev lo"));
    }
    lab.isp.sh("ip route add 10.64.0.0/16 via 203.0.113.1 dev isp0
         ip route add 9.9.9.9/32 via 203.0.113.1 dev isp0");
    lab.inner.sh("ip route add 10.64.0.2/32 dev tun0
         ip neigh replace 10.64.0.2 lladdr 02:00:00:00:01:01 nud permanent dev tun0");
    for address in PASSED_ON_TO {
        lab.inner.sh(&format!("ip addr add {address}/32 dev lo"));
        lab.client.sh(&format!("ip route add {address}/32 via 10.64.0.254 dev hamn0 onlink"));
    }
    lab.client.sysctl("ipv4/ip_forward", "1");
    for interface in ["all", "eth0", "hamn0"] {
        lab.client.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0");
    }
    lab.inner.sysctl("ipv4/conf/tun0/rp_filter", "0");
    // The strangers' addresses are also its own.
    lab.inner.sysctl("ipv4/conf/all/accept_local", "1");
}

fn receiver(port: u16) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    // Packets are also sent from this port, by sockets bound to one address.
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(40))).unwrap();
    socket.into()
}

fn arrivals() -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut arrive = |path: Path, source: Ipv4Addr, from: u16, destination: Ipv4Addr, to: u16| {
        let payload = Payload::Ports { transport: Transport::Udp, source: from, destination: to };
        let (source, destination) = (source.into(), destination.into());
        packets.push(Packet { path, source, destination, payload, hop_limit: 64, own_mark: false, connection: Connection::NEW });
    };
    for stranger in STRANGERS {
        for from in [53, 67, 51820] {
            for to in [68, 4000] {
                arrive(Path::Input { link: named("eth0") }, stranger, from, CLIENT_V4, to);
                arrive(Path::Input { link: named("eth0") }, stranger, from, TUNNEL_V4, to);
                arrive(Path::Input { link: named("hamn0") }, stranger, from, TUNNEL_V4, to);
            }
        }
        for destination in PASSED_ON_TO {
            for to in [53, 853, 4000] {
                let path = Path::Forward { from: named("eth0"), to: named("hamn0") };
                arrive(path, stranger, 5000, destination, to);
            }
        }
    }
    packets
}
