//! Probe set P of the catalogue: every kind of packet that an ordinary or a privileged program could try to send.
//!
//! Runs inside `hamn-probe`, as root or as nobody, in the client's namespace. It fires and returns: an answer is never
//! waited for, because the witness at the ISP is the judge. Source ports come from a range that nothing else uses and
//! payloads carry a marker, so that the witness can tell a probe from the tunnel's own packets on the same tuple.

use anyhow::{Context, Result};
use hamn_provider::sandbox::address::{PROBE_MARKER, PROBE_PORTS};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

/// The ports of set P: DNS, web, DNS over TLS, Teredo, mDNS, WireGuard.
pub const PORTS: [u16; 7] = [53, 80, 443, 853, 3544, 5353, 51820];
/// The raw protocols of set P: 6in4, GRE, ESP, SCTP.
pub const RAW_PROTOCOLS: [i32; 4] = [41, 47, 50, 132];

/// What to fire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Salvo {
    /// Destinations.
    pub targets: Vec<IpAddr>,
    /// Local addresses to bind, besides not binding at all.
    pub sources: Vec<IpAddr>,
    /// Interfaces to bind, besides not binding at all.
    pub devices: Vec<String>,
    /// Also raw protocols, fragments, extension headers (needs root).
    pub raw: bool,
    /// Instead: send UDP without pause for this long, to `flood_ports` of every target.
    pub flood_ms: u64,
    /// See `flood_ms`.
    pub flood_ports: Vec<u16>,
}

/// What came of it, as far as the sender can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// System calls that would each make a packet.
    pub tried: u64,
    /// Those that the kernel accepted.
    pub accepted: u64,
}

/// How a probe's socket is tied to the physical link.
#[derive(Clone, Copy, Debug)]
enum Binding<'a> {
    Free,
    Source(IpAddr),
    Device(&'a str),
}

struct Gun {
    fired: Fired,
    port: u16,
}

/// Fires the whole salvo.
///
/// # Errors
/// Never for a blocked packet; only when the salvo itself makes no sense.
pub fn fire(salvo: &Salvo) -> Result<Fired> {
    let mut gun = Gun { fired: Fired::default(), port: *PROBE_PORTS.start() };
    let mut bindings = vec![Binding::Free];
    bindings.extend(salvo.sources.iter().map(|source| Binding::Source(*source)));
    bindings.extend(salvo.devices.iter().map(|device| Binding::Device(device)));
    if salvo.flood_ms > 0 {
        flood(&mut gun, salvo)?;
        return Ok(gun.fired);
    }
    for target in &salvo.targets {
        for binding in &bindings {
            if let Binding::Source(source) = binding
                && source.is_ipv4() != target.is_ipv4()
            {
                continue;
            }
            gun.everything_at(*target, *binding, salvo.raw);
        }
    }
    Ok(gun.fired)
}

fn flood(gun: &mut Gun, salvo: &Salvo) -> Result<()> {
    let end = Instant::now() + Duration::from_millis(salvo.flood_ms);
    let sockets = salvo
        .targets
        .iter()
        .map(|target| Ok((*target, gun.socket(*target, Type::DGRAM, Protocol::UDP, Binding::Free).context("make a socket")?)))
        .collect::<Result<Vec<_>>>()?;
    while Instant::now() < end {
        for (target, socket) in &sockets {
            for port in &salvo.flood_ports {
                let sent = socket.send_to(PROBE_MARKER, &address(*target, *port, None));
                gun.count(sent.is_ok());
            }
        }
    }
    Ok(())
}

fn domain(target: IpAddr) -> Domain {
    if target.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 }
}

fn address(target: IpAddr, port: u16, device: Option<&str>) -> SockAddr {
    match target {
        IpAddr::V4(_) => SocketAddr::new(target, port).into(),
        IpAddr::V6(v6) => {
            let local = v6.is_multicast() || v6.is_unicast_link_local();
            let scope = device.filter(|_| local).and_then(|name| nix::net::if_::if_nametoindex(name).ok()).unwrap_or(0);
            SocketAddrV6::new(v6, port, 0, scope).into()
        }
    }
}

impl Gun {
    fn count(&mut self, accepted: bool) {
        self.fired.tried += 1;
        self.fired.accepted += u64::from(accepted);
    }

    fn next_port(&mut self) -> u16 {
        self.port = if self.port >= *PROBE_PORTS.end() { *PROBE_PORTS.start() } else { self.port + 1 };
        self.port
    }

    /// A non-blocking socket with a source port of the probe range.
    fn socket(&mut self, target: IpAddr, kind: Type, protocol: Protocol, binding: Binding<'_>) -> Option<Socket> {
        let socket = Socket::new(domain(target), kind, Some(protocol)).ok()?;
        socket.set_nonblocking(true).ok()?;
        let _ = socket.set_reuse_address(true);
        if domain(target) == Domain::IPV4 {
            let _ = socket.set_broadcast(true);
        }
        let mut local = if target.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        match binding {
            Binding::Free => {}
            Binding::Source(source) => local = source,
            Binding::Device(device) => {
                socket.bind_device(Some(device.as_bytes())).ok()?;
                if let (IpAddr::V6(_), Ok(index)) = (target, nix::net::if_::if_nametoindex(device)) {
                    let _ = socket.set_multicast_if_v6(index);
                }
            }
        }
        let port =
            if kind == Type::RAW || protocol == Protocol::ICMPV4 || protocol == Protocol::ICMPV6 { 0 } else { self.next_port() };
        // Another probe's port may still be in use: try a few.
        let bound = (0..50).any(|step| {
            let port = if step == 0 || port == 0 { port } else { self.next_port() };
            socket.bind(&SocketAddr::new(local, port).into()).is_ok()
        });
        bound.then_some(socket)
    }

    fn everything_at(&mut self, target: IpAddr, binding: Binding<'_>, raw: bool) {
        let device = if let Binding::Device(device) = binding { Some(device) } else { None };
        for port in PORTS {
            let to = address(target, port, device);
            if let Some(socket) = self.socket(target, Type::DGRAM, Protocol::UDP, binding) {
                self.count(socket.send_to(PROBE_MARKER, &to).is_ok());
            }
            if target.is_multicast() {
                continue;
            }
            if let Some(socket) = self.socket(target, Type::STREAM, Protocol::TCP, binding) {
                let result = socket.connect(&to);
                self.count(result.is_ok() || result.is_err_and(|error| error.raw_os_error() == Some(nix::libc::EINPROGRESS)));
            }
        }
        self.ping(target, binding, device);
        self.short_lived(target, binding, device);
        if raw {
            self.raw(target, binding, device);
        }
    }

    /// An echo request through an unprivileged ping socket.
    fn ping(&mut self, target: IpAddr, binding: Binding<'_>, device: Option<&str>) {
        let (protocol, kind) = if target.is_ipv4() { (Protocol::ICMPV4, 8) } else { (Protocol::ICMPV6, 128) };
        if let Some(socket) = self.socket(target, Type::DGRAM, protocol, binding) {
            let message = [&[kind, 0, 0, 0, 0, 0, 0, 1], PROBE_MARKER].concat();
            self.count(socket.send_to(&message, &address(target, 0, device)).is_ok());
        }
    }

    /// A datagram with one hop to live, and one so large that it leaves as fragments.
    fn short_lived(&mut self, target: IpAddr, binding: Binding<'_>, device: Option<&str>) {
        if let Some(socket) = self.socket(target, Type::DGRAM, Protocol::UDP, binding) {
            let _ = if target.is_ipv4() { socket.set_ttl_v4(1) } else { socket.set_unicast_hops_v6(1) };
            self.count(socket.send_to(PROBE_MARKER, &address(target, 33434, device)).is_ok());
        }
        if let Some(socket) = self.socket(target, Type::DGRAM, Protocol::UDP, binding) {
            self.count(socket.send_to(&PROBE_MARKER.repeat(400), &address(target, 9999, device)).is_ok());
        }
    }

    /// Protocols that tunnels of all sorts use, an IPv6 extension header, and a whole packet made by hand.
    fn raw(&mut self, target: IpAddr, binding: Binding<'_>, device: Option<&str>) {
        for protocol in RAW_PROTOCOLS {
            if let Some(socket) = self.socket(target, Type::RAW, Protocol::from(protocol), binding) {
                self.count(socket.send_to(PROBE_MARKER, &address(target, 0, device)).is_ok());
            }
        }
        // IPPROTO_RAW: the packet begins with its own IP header.
        let by_hand = match target {
            IpAddr::V4(to) => hand_made_v4(to),
            IpAddr::V6(to) => hand_made_v6(to),
        };
        if let Some(socket) = self.socket(target, Type::RAW, Protocol::from(255), binding) {
            self.count(socket.send_to(&by_hand, &address(target, 0, device)).is_ok());
        }
    }
}

/// An IPv4 packet of protocol 253 (RFC 3692: experiments); the kernel fills in source, length and checksum.
fn hand_made_v4(to: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 253, 0, 0, 0, 0, 0, 0];
    packet.extend(to.octets());
    packet.extend(PROBE_MARKER);
    packet
}

/// An IPv6 packet with a destination-options header (padding only) before protocol 253.
fn hand_made_v6(to: Ipv6Addr) -> Vec<u8> {
    let length = u16::try_from(8 + PROBE_MARKER.len()).unwrap_or(0).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length);
    packet.extend([60, 64]);
    packet.extend(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2).octets());
    packet.extend(to.octets());
    packet.extend([253, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend(PROBE_MARKER);
    packet
}
