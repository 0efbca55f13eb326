//! The bounded packet domain: every class of address, port, protocol, link and connection that a rule can tell apart.

use hamn_core::net::{InterfaceName, Transport};
use hamn_network::firewall::eval::{Connection, ConnectionState, Packet, Path, Payload};
use hamn_network::firewall::ruleset::Interface;
use std::net::IpAddr;

use crate::fixtures::ip;
use crate::random::Random;

/// Loopback, link-local, attached private, other private, public, gateways, API, resolvers, multicast, broadcast, tunnel addresses.
const V4: [&str; 22] = [
    "127.0.0.1",
    "169.254.7.7",
    "192.168.1.30",
    "192.168.1.1",
    "192.168.1.20",
    "192.168.1.255",
    "10.0.0.53",
    "10.99.0.1",
    "10.77.3.3",
    "203.0.113.9",
    "9.9.9.9",
    "198.51.100.10",
    "198.51.100.11",
    "198.51.100.1",
    "10.128.0.1",
    "10.128.0.2",
    "10.77.0.2",
    "192.168.122.5",
    "224.0.0.251",
    "239.255.255.250",
    "239.1.1.1",
    "255.255.255.255",
];
const V6: [&str; 16] = [
    "::1",
    "fe80::7",
    "fd12:3456::30",
    "fd99::1",
    "fd77::3",
    "2001:db8:9::9",
    "2001:db8:51::10",
    "2001:db8:51::12",
    "2001:db8:51::1",
    "fd00:128::1",
    "fd00:128::2",
    "fd00:130::2",
    "ff02::fb",
    "ff02::1:2",
    "ff05::1:3",
    "ff0e::1",
];
const SOURCE_V4: [&str; 4] = ["192.168.1.50", "10.128.0.2", "10.77.0.2", "203.0.113.9"];
const SOURCE_V6: [&str; 3] = ["fd12:3456::50", "fd00:128::2", "2001:db8:9::50"];
/// Source and destination port.
const PORTS: [(u16, u16); 16] = [
    (40_000, 53),
    (40_000, 67),
    (40_000, 547),
    (40_000, 853),
    (40_000, 443),
    (40_000, 51_820),
    (40_000, 33_333),
    (68, 67),
    (67, 68),
    (546, 547),
    (547, 546),
    (53, 40_000),
    (443, 40_000),
    (51_820, 40_000),
    (853, 40_000),
    (53, 53),
];

/// The tunnel's link.
#[must_use]
pub fn tunnel() -> Interface {
    Interface::Named(InterfaceName::tunnel())
}

fn link(name: &str) -> Interface {
    Interface::Named(InterfaceName::try_from(name.to_owned()).expect("a name"))
}

fn links() -> [Interface; 4] {
    [Interface::Loopback, link("eth0"), tunnel(), link("virbr0")]
}

/// Every path: sent and received on each link, forwarded between any two but loopback.
#[must_use]
pub fn paths() -> Vec<Path> {
    let mut paths = Vec::new();
    for link in links() {
        paths.push(Path::Output { link: link.clone() });
        paths.push(Path::Input { link });
    }
    for from in &links()[1..] {
        for to in links()[1..].iter().filter(|to| *to != from) {
            paths.push(Path::Forward { from: from.clone(), to: to.clone() });
        }
    }
    paths
}

fn payloads(v4: bool) -> Vec<Payload> {
    let mut payloads = Vec::new();
    for transport in [Transport::Udp, Transport::Tcp] {
        payloads.extend(PORTS.map(|(source, destination)| Payload::Ports { transport, source, destination }));
    }
    if v4 {
        payloads.extend([0, 3, 5, 8, 11, 12].map(Payload::Icmp));
    } else {
        payloads.extend([1, 2, 3, 4, 128, 133, 134, 135, 136, 137, 143].map(Payload::IcmpV6));
    }
    payloads.extend([2, 41, 47, 50, 132].map(Payload::Other));
    payloads
}

fn connections(path: &Path) -> Vec<Connection> {
    let states = [ConnectionState::New, ConnectionState::Established, ConnectionState::Related];
    let owners: &[bool] = if matches!(path, Path::Input { .. }) { &[false, true] } else { &[false] };
    states.iter().flat_map(|state| owners.iter().map(|own| Connection { state: *state, own: *own })).collect()
}

/// Sources and destinations of one family that make sense on this path: all classes on the far side, few on ours.
fn addresses(path: &Path, v4: bool) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let all: Vec<IpAddr> = if v4 { V4.map(ip).to_vec() } else { V6.map(ip).to_vec() };
    let ours: Vec<IpAddr> = if v4 { SOURCE_V4.map(ip).to_vec() } else { SOURCE_V6.map(ip).to_vec() };
    match path {
        Path::Output { .. } => (ours, all),
        Path::Input { .. } => (all, ours),
        Path::Forward { .. } => {
            let peers =
                if v4 { vec!["192.168.1.30", "192.168.122.5", "203.0.113.9"] } else { vec!["fd12:3456::30", "2001:db8:9::9"] };
            (peers.into_iter().map(ip).collect(), all)
        }
    }
}

/// Calls `each` with every packet of the domain. The number of packets.
pub fn for_each(mut each: impl FnMut(&Packet)) -> u64 {
    let mut count = 0;
    for path in paths() {
        let connections = connections(&path);
        let marks: &[bool] = if matches!(path, Path::Input { .. }) { &[false] } else { &[false, true] };
        for v4 in [true, false] {
            let (sources, destinations) = addresses(&path, v4);
            for payload in payloads(v4) {
                let limits: &[u8] = if matches!(payload, Payload::IcmpV6(_)) { &[64, 255] } else { &[64] };
                for (source, destination) in sources.iter().flat_map(|source| destinations.iter().map(move |to| (*source, *to))) {
                    let mut packet = Packet {
                        path: path.clone(),
                        source,
                        destination,
                        payload,
                        hop_limit: 64,
                        own_mark: false,
                        connection: Connection::NEW,
                    };
                    for (own_mark, hop_limit) in marks.iter().flat_map(|mark| limits.iter().map(move |limit| (*mark, *limit))) {
                        for connection in &connections {
                            packet.own_mark = own_mark;
                            packet.hop_limit = hop_limit;
                            packet.connection = *connection;
                            each(&packet);
                            count += 1;
                        }
                    }
                }
            }
        }
    }
    count
}

/// One random packet, also with combinations that `for_each` leaves out.
pub fn random(random: &mut Random) -> Packet {
    let v4 = random.one_in(2);
    let addresses: Vec<IpAddr> =
        if v4 { V4.into_iter().chain(SOURCE_V4).map(ip).collect() } else { V6.into_iter().chain(SOURCE_V6).map(ip).collect() };
    let ports = [53, 67, 68, 443, 546, 547, 853, 40_000, 51_820];
    let payload = if random.one_in(2) {
        let transport = *random.pick(&[Transport::Udp, Transport::Tcp]);
        Payload::Ports { transport, source: *random.pick(&ports), destination: *random.pick(&ports) }
    } else {
        *random.pick(&payloads(v4))
    };
    let state = *random.pick(&[ConnectionState::New, ConnectionState::Established, ConnectionState::Related]);
    Packet {
        path: random.pick(&paths()).clone(),
        source: *random.pick(&addresses),
        destination: *random.pick(&addresses),
        payload,
        hop_limit: *random.pick(&[64, 255]),
        own_mark: random.one_in(2),
        connection: Connection { state, own: random.one_in(2) },
    }
}
