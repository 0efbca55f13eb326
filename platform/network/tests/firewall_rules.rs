//! What single rules do to single packets, as sentences; the kernel is asked the same in `firewall_differential`.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod firewall_policies;

use firewall_policies::policy;
use hamn_core::net::{InterfaceName, Transport};
use hamn_network::firewall::Ruleset;
use hamn_network::firewall::eval::{
    Connection, ConnectionState, Decision, Packet, Path, Payload, Verdict, arp_request_passes, evaluate,
};
use hamn_network::firewall::ruleset::{Interface, Purpose};

fn link(name: &str) -> Interface {
    if name == "lo" { Interface::Loopback } else { Interface::Named(InterfaceName::try_from(name.to_owned()).unwrap()) }
}

fn packet(path: Path, source: &str, destination: &str, payload: Payload) -> Packet {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Packet { path, source, destination, payload, hop_limit: 64, own_mark: false, connection: Connection::NEW }
}

fn to(name: &str, destination: &str, payload: Payload) -> Packet {
    let v4 = destination.contains('.');
    let source = match (name, v4) {
        ("hamn0", true) => "10.64.0.2",
        ("hamn0", false) => "fd64::2",
        (_, true) => "203.0.113.1",
        (_, false) => "2001:db8:1::1",
    };
    packet(Path::Output { link: link(name) }, source, destination, payload)
}

fn from(name: &str, source: &str, payload: Payload) -> Packet {
    let destination = if source.contains('.') { "203.0.113.1" } else { "2001:db8:1::1" };
    packet(Path::Input { link: link(name) }, source, destination, payload)
}

fn udp(destination: u16) -> Payload {
    Payload::Ports { transport: Transport::Udp, source: 40000, destination }
}

fn tcp(destination: u16) -> Payload {
    Payload::Ports { transport: Transport::Tcp, source: 40000, destination }
}

fn answer(source: u16) -> Payload {
    Payload::Ports { transport: Transport::Udp, source, destination: 40000 }
}

fn ask(name: &str, packet: &Packet) -> Decision {
    evaluate(&Ruleset::lower(&policy(name)).unwrap(), packet)
}

#[track_caller]
fn check(name: &str, packet: &Packet, verdict: Verdict, by: Purpose) {
    assert_eq!(ask(name, packet), Decision { verdict, by }, "{name}: {packet:?}");
}

#[test]
fn dns_is_refused_on_the_lan_before_lan_access_is_granted() {
    use Verdict::{Accept, Reject};
    for name in ["lockdown_lan", "connecting_lan", "connected_v4_lan"] {
        check(name, &to("eth0", "192.168.1.1", udp(53)), Reject, Purpose::RefuseDns);
        check(name, &to("eth0", "192.168.1.1", tcp(53)), Reject, Purpose::RefuseDns);
        check(name, &to("eth0", "192.168.1.1", tcp(853)), Reject, Purpose::RefuseEncryptedDns);
        check(name, &to("eth0", "192.168.1.1", tcp(80)), Accept, Purpose::Lan);
        check(name, &to("eth0", "224.0.0.251", udp(5353)), Accept, Purpose::LanMulticast);
        check(name, &to("eth0", "224.0.0.251", udp(53)), Reject, Purpose::RefuseDns);
    }
}

#[test]
fn a_gateway_on_port_53_is_reached_by_our_own_socket_only() {
    let mut own = to("eth0", "192.0.2.1", udp(53));
    check("connecting_port_53_lan", &own, Verdict::Reject, Purpose::RefuseDns);
    own.own_mark = true;
    check("connecting_port_53_lan", &own, Verdict::Accept, Purpose::Endpoint);
}

#[test]
fn inside_the_tunnel_only_its_resolver_is_asked_but_encrypted_dns_is_traffic_like_any_other() {
    check("connected_v4", &to("hamn0", "10.64.0.1", udp(53)), Verdict::Accept, Purpose::TunnelResolver);
    check("connected_v4", &to("hamn0", "9.9.9.9", udp(53)), Verdict::Reject, Purpose::RefuseDns);
    check("connected_v4", &to("hamn0", "9.9.9.9", tcp(853)), Verdict::Accept, Purpose::Tunnel);
    check("connected_v4", &to("eth0", "10.64.0.1", udp(53)), Verdict::Reject, Purpose::RefuseDns);
}

#[test]
fn a_resolver_on_the_lan_is_asked_outside_the_tunnel_only_and_nothing_else_of_the_lan_opens() {
    let name = "connected_private_dns_on_lan";
    check(name, &to("eth0", "192.168.1.53", udp(53)), Verdict::Accept, Purpose::LanResolver);
    check(name, &to("hamn0", "192.168.1.53", udp(53)), Verdict::Reject, Purpose::RefuseDns);
    check(name, &to("eth0", "192.168.1.53", tcp(80)), Verdict::Reject, Purpose::RefuseRest);
    check(name, &to("eth0", "192.168.1.54", udp(53)), Verdict::Reject, Purpose::RefuseDns);
}

#[test]
fn a_tunnel_without_ipv6_refuses_ipv6_instead_of_swallowing_it() {
    check("connected_v4", &to("hamn0", "2001:db8:ffff::9", tcp(443)), Verdict::Reject, Purpose::RefuseRest);
    check("connected_v4", &to("eth0", "2001:db8:ffff::9", tcp(443)), Verdict::Reject, Purpose::RefuseRest);
    check("connected_dual", &to("hamn0", "2001:db8:ffff::9", tcp(443)), Verdict::Accept, Purpose::Tunnel);
}

#[test]
fn until_verified_the_tunnel_carries_the_proof_only() {
    check("verifying", &to("hamn0", "10.64.0.1", tcp(80)), Verdict::Accept, Purpose::Verify);
    check("verifying", &to("hamn0", "10.64.0.1", udp(53)), Verdict::Accept, Purpose::TunnelResolver);
    check("verifying", &to("hamn0", "198.51.100.9", tcp(80)), Verdict::Reject, Purpose::RefuseRest);
    check("verifying_resolver_elsewhere", &to("hamn0", "10.64.0.1", udp(53)), Verdict::Reject, Purpose::RefuseDns);
    check("verifying_resolver_elsewhere", &to("hamn0", "10.64.0.9", udp(53)), Verdict::Reject, Purpose::RefuseDns);
}

/// LAN-03, CVE-2023-36672: whatever a hostile lease says, public addresses are no neighbours.
#[test]
fn a_lease_for_a_public_or_huge_prefix_opens_nothing() {
    for destination in ["203.0.113.9", "8.8.8.8", "10.1.2.3", "224.0.0.251"] {
        check("lockdown_public_lease_is_no_lan", &to("eth0", destination, tcp(80)), Verdict::Reject, Purpose::RefuseRest);
    }
    assert_eq!(Ruleset::lower(&policy("lockdown_public_lease_is_no_lan")), Some(Ruleset::lockdown()));
}

/// G5: a flow that was open before protection is not trusted because the kernel knows it.
#[test]
fn known_connections_do_not_get_out() {
    let mut old = to("eth0", "198.51.100.9", tcp(443));
    old.connection = Connection { state: ConnectionState::Established, own: true };
    check("connected_v4", &old, Verdict::Reject, Purpose::RefuseRest);
    let mut moved = to("eth0", "198.51.100.9", tcp(443));
    moved.source = "10.64.0.2".parse().unwrap();
    check("connected_v4_lan", &moved, Verdict::Drop, Purpose::TunnelSourceGuard);
}

#[test]
fn answers_come_from_the_gateway_to_our_own_flow_only() {
    let mut reply = from("eth0", "192.0.2.1", answer(51820));
    check("connected_v4", &reply, Verdict::Drop, Purpose::DropRest);
    reply.connection = Connection { state: ConnectionState::Established, own: false };
    check("connected_v4", &reply, Verdict::Drop, Purpose::DropRest);
    reply.connection.own = true;
    check("connected_v4", &reply, Verdict::Accept, Purpose::Endpoint);
    let mut error = from("eth0", "198.51.100.77", Payload::Icmp(3));
    error.connection = Connection { state: ConnectionState::Related, own: true };
    check("connected_v4", &error, Verdict::Accept, Purpose::OwnIcmpError);
    error.connection.own = false;
    check("connected_v4", &error, Verdict::Drop, Purpose::DropRest);
}

#[test]
fn neighbour_discovery_comes_from_this_link_and_redirects_from_nowhere() {
    for (kind, accepted) in [(134, true), (135, true), (136, true), (137, false), (128, false), (143, false)] {
        let mut here = from("eth0", "fe80::1", Payload::IcmpV6(kind));
        here.hop_limit = 255;
        assert_eq!(ask("lockdown", &here).verdict == Verdict::Accept, accepted, "type {kind}");
        here.hop_limit = 254;
        assert_eq!(ask("lockdown", &here).verdict, Verdict::Drop, "type {kind} from afar");
    }
    let mut redirect = from("eth0", "fe80::1", Payload::IcmpV6(137));
    redirect.hop_limit = 255;
    check("lockdown_lan", &redirect, Verdict::Drop, Purpose::RefuseRedirect);
    check("lockdown_lan", &from("eth0", "192.168.1.1", Payload::Icmp(5)), Verdict::Drop, Purpose::RefuseRedirect);
}

#[test]
fn nothing_unasked_arrives_through_the_tunnel() {
    let mut packet = from("hamn0", "198.51.100.9", tcp(22));
    packet.destination = "10.64.0.2".parse().unwrap();
    check("connected_v4_lan", &packet, Verdict::Drop, Purpose::DropRest);
    packet.connection.state = ConnectionState::Established;
    check("connected_v4_lan", &packet, Verdict::Accept, Purpose::Tunnel);
}

#[test]
fn the_tunnel_address_is_unknown_on_other_links_even_to_neighbours() {
    let mut packet = from("eth0", "192.168.1.50", udp(4000));
    packet.destination = "10.64.0.2".parse().unwrap();
    check("connected_v4_lan", &packet, Verdict::Drop, Purpose::TunnelAddressGuard);
    let rules = Ruleset::lower(&policy("connected_v4_lan")).unwrap();
    assert!(!arp_request_passes(&rules, &link("eth0"), "10.64.0.2".parse().unwrap()));
    assert!(arp_request_passes(&rules, &link("eth0"), "192.168.1.2".parse().unwrap()));
    assert!(arp_request_passes(&rules, &link("hamn0"), "10.64.0.2".parse().unwrap()));
}

/// FWD-01: containers and hotspot clients live under the same rules, without our mark.
#[test]
fn what_is_passed_on_meets_the_same_rules() {
    let forward = |from: &str, to: &str, source: &str, destination: &str, payload: Payload| {
        packet(Path::Forward { from: link(from), to: link(to) }, source, destination, payload)
    };
    let container = "172.17.0.2";
    check("connected_v4", &forward("docker0", "hamn0", container, "198.51.100.9", tcp(443)), Verdict::Accept, Purpose::Tunnel);
    check("connected_v4", &forward("docker0", "hamn0", container, "9.9.9.9", udp(53)), Verdict::Reject, Purpose::RefuseDns);
    check(
        "connected_v4",
        &forward("docker0", "hamn0", container, "10.64.0.1", udp(53)),
        Verdict::Accept,
        Purpose::TunnelResolver,
    );
    check("connected_v4", &forward("docker0", "eth0", container, "192.0.2.1", udp(51820)), Verdict::Reject, Purpose::RefuseRest);
    check("verifying", &forward("docker0", "hamn0", container, "10.64.0.1", tcp(80)), Verdict::Reject, Purpose::RefuseRest);
    let stranger = forward("eth0", "wlan0", "198.51.100.9", "192.168.1.7", tcp(22));
    check("lockdown_lan", &stranger, Verdict::Reject, Purpose::RefuseRest);
    let neighbour = forward("eth0", "wlan0", "192.168.1.9", "192.168.1.7", tcp(22));
    check("lockdown_lan", &neighbour, Verdict::Accept, Purpose::Lan);
}

#[test]
fn dhcp_passes_and_its_ports_alone_are_no_way_out() {
    let dhcp = |source, destination| Payload::Ports { transport: Transport::Udp, source, destination };
    check("lockdown", &to("eth0", "255.255.255.255", dhcp(68, 67)), Verdict::Accept, Purpose::DhcpV4);
    check("lockdown", &to("eth0", "198.51.100.9", dhcp(40000, 67)), Verdict::Reject, Purpose::RefuseRest);
    check("lockdown", &to("eth0", "ff02::1:2", dhcp(546, 547)), Verdict::Accept, Purpose::DhcpV6);
    check("lockdown", &to("eth0", "2001:db8::9", dhcp(546, 547)), Verdict::Reject, Purpose::RefuseRest);
    check("lockdown", &from("eth0", "203.0.113.254", dhcp(67, 68)), Verdict::Accept, Purpose::DhcpV4);
}
