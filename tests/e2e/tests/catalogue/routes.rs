//! ROUTE: what a network hands out or advertises neither takes traffic out of the tunnel nor cuts it off (G10).

use anyhow::{Context, Result, ensure};
use hamn_e2e::World;
use hamn_e2e::wait::{ms, s, until};
use hamn_e2e::world::Setup;
use hamn_provider::sandbox::{Options, address as at};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// What DHCP option 121 makes of a lease: routes on the physical link that are more specific than any tunnel's.
const TUNNELVISION: &str = "route add 192.0.2.80/32 via 10.0.1.1 dev eth0
route add 192.0.2.66/32 via 10.0.1.50 dev eth0
route add 0.0.0.0/1 via 10.0.1.1 dev eth0
route add 128.0.0.0/1 via 10.0.1.1 dev eth0
route add 10.64.0.0/24 via 10.0.1.50 dev eth0
route add 2001:db8:2::/64 via 2001:db8:1::1 dev eth0
route add ::/1 via 2001:db8:1::1 dev eth0
route add 8000::/1 via 2001:db8:1::1 dev eth0
";

/// ROUTE-01 (TunnelVision, CVE-2024-3661).
#[test]
fn route_01_routes_of_the_lease_have_no_effect() -> Result<()> {
    let mut world = World::start()?;
    world.control()?;
    world.connect()?;
    world.lab.client.ip_batch(TUNNELVISION)?;
    world.lab.reset_witness()?;
    assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"), "traffic goes on inside the tunnel");
    assert_eq!(world.exit_address_v6()?.as_deref(), Some("2001:db8:5::1"));
    world.fire()?;
    world.assert_nothing_outside("hostile routes")?;
    until("the user is told", s(5), || {
        let status = world.status()?;
        Ok(status["warnings"].to_string().contains("network_interferes").then_some(()))
    })?;
    // A new tunnel over such a network works as well.
    world.run("reconnect --wait")?;
    assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"));
    world.assert_nothing_outside("a new tunnel over hostile routes")
}

/// Strict reverse-path filtering, as some distributions set it, must not stop the tunnel.
#[test]
fn route_05_works_with_strict_reverse_path_filter() -> Result<()> {
    for rp_filter in [0, 1] {
        let lab = Options { rp_filter, ..Options::default() };
        let mut world = World::with(Setup { lab, ..Setup::default() })?;
        world.connect()?;
        assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"), "rp_filter {rp_filter}");
        world.assert_no_leak(&format!("rp_filter {rp_filter}"))?;
        world.disconnect()?;
        assert_eq!(world.exit_address()?.as_deref(), Some("203.0.113.10"), "rp_filter {rp_filter}");
    }
    Ok(())
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// An ICMP redirect (RFC 792): "for this destination use that router", about a packet that the client sent.
fn redirect(to: Ipv4Addr, router: Ipv4Addr, destination: Ipv4Addr, protocol: u8, inner: &[u8; 8]) -> Vec<u8> {
    let mut original = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    original.extend(to.octets());
    original.extend(destination.octets());
    let sum = checksum(&original).to_be_bytes();
    original[10..12].copy_from_slice(&sum);
    let mut message = vec![5, 1, 0, 0];
    message.extend(router.octets());
    message.extend(original);
    message.extend(inner);
    let sum = checksum(&message).to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    message
}

fn send_redirects(world: &World) -> Result<()> {
    world.lab.router.run(|| -> Result<()> {
        let (IpAddr::V4(client), IpAddr::V4(printer)) = (at::CLIENT_V4, at::LAN_HOST_V4) else { anyhow::bail!("IPv4 addresses") };
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        for destination in [at::GATEWAY_V4, at::WEB_V4, at::OBSERVER_V4] {
            let IpAddr::V4(destination) = destination else { continue };
            // About an echo reply (for requests the kernel wants a waiting socket), and about a WireGuard datagram.
            for (protocol, inner) in [(1, [0, 0, 0, 0, 0, 1, 0, 1]), (17, [0xca, 0x6c, 0xca, 0x6c, 0, 8, 0, 0])] {
                let message = redirect(client, printer, destination, protocol, &inner);
                socket.send_to(&message, &SocketAddr::new(at::CLIENT_V4, 0).into())?;
            }
        }
        Ok(())
    })?
}

/// ROUTE-03: redirects do not move a tunnelled packet.
#[test]
fn route_03_icmp_redirects_have_no_effect() -> Result<()> {
    let mut world = World::start()?;
    for place in ["all", "default", "eth0"] {
        world.lab.client.write(&format!("/proc/sys/net/ipv4/conf/{place}/accept_redirects"), "1")?;
        world.lab.client.write(&format!("/proc/sys/net/ipv4/conf/{place}/secure_redirects"), "0")?;
    }
    let route = |world: &World| world.lab.client.ip("route get 192.0.2.80");
    // Negative control: without the tunnel the redirect moves the route.
    send_redirects(&world)?;
    until("control: the redirect takes effect", s(2), || Ok(route(&world)?.contains("via 10.0.1.50").then_some(())))?;
    world.lab.client.ip("route flush cache")?;
    world.connect()?;
    world.lab.reset_witness()?;
    for _ in 0..5 {
        send_redirects(&world)?;
        assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"));
    }
    ensure!(!route(&world)?.contains("10.0.1.50"), "{}", route(&world)?);
    world.assert_nothing_outside("redirects")
}

/// A router advertisement (RFC 4861 §4.2) with a default route, a more specific route (RFC 4191), a prefix and a resolver (RFC 8106).
fn router_advertisement() -> Vec<u8> {
    let net = |a: u16, b: u16, c: u16| Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).octets();
    // Type, code, checksum (filled in by the kernel), hop limit, flags: high preference, lifetime 1800 s, timers.
    let mut message = vec![134, 0, 0, 0, 64, 0x08, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    for (prefix, length) in [(net(0x2001, 0xdb8, 2), 64), (net(0x2001, 0xdb8, 0x1234), 64)] {
        // Prefix information: on-link and autonomous. The first is the web's own prefix.
        message.extend([3, 4, length, 0xc0, 0, 0, 7, 8, 0, 0, 7, 8, 0, 0, 0, 0]);
        message.extend(prefix);
    }
    // Route information, high preference: the web's own prefix again, and all of 2000::/3.
    message.extend([24, 2, 64, 0x08, 0, 0, 7, 8]);
    message.extend(&net(0x2001, 0xdb8, 2)[..8]);
    message.extend([24, 2, 3, 0x08, 0, 0, 7, 8]);
    message.extend(&net(0x2000, 0, 0)[..8]);
    // The attacker as resolver.
    message.extend([25, 3, 0, 0, 0, 0, 7, 8]);
    message.extend(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x50).octets());
    message
}

fn advertise(world: &World) -> Result<()> {
    world.lab.lan.run(|| -> Result<()> {
        let link = nix::net::if_::if_nametoindex("eth0")?;
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_if_v6(link)?;
        let all_nodes = SocketAddrV6::new("ff02::1".parse()?, 0, 0, link);
        socket.send_to(&router_advertisement(), &SockAddr::from(all_nodes))?;
        Ok(())
    })?
}

/// ROUTE-04: a rogue router on the LAN.
#[test]
fn route_04_rogue_router_advertisements_have_no_effect() -> Result<()> {
    let mut world = World::start()?;
    world.lab.client.write("/proc/sys/net/ipv6/conf/eth0/accept_ra", "2")?;
    let _ = world.lab.client.write("/proc/sys/net/ipv6/conf/eth0/accept_ra_rt_info_max_plen", "128");
    world.connect()?;
    world.lab.reset_witness()?;
    for _ in 0..3 {
        advertise(&world)?;
        std::thread::sleep(ms(50));
        assert_eq!(world.exit_address_v6()?.as_deref(), Some("2001:db8:5::1"));
        assert_eq!(world.exit_address()?.as_deref(), Some("198.51.100.1"));
    }
    world.fire()?;
    world.assert_nothing_outside("router advertisements")?;
    world.disconnect()?;
    // Negative control: without the tunnel the same message takes over.
    advertise(&world)?;
    until("control: the advertisement takes effect", s(2), || {
        let routes = world.lab.client.ip("-6 route show")?;
        Ok(routes.contains("proto ra").then_some(()))
    })
    .context("negative control")
}
