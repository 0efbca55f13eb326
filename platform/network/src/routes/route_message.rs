//! Messages of macOS's routing socket and of its `NET_RT_DUMP` and `NET_RT_IFLIST` lists, as bytes. Pure.
//!
//! The layout is that of `net/route.h`, `net/if.h` and `net/if_dl.h` for 64-bit processes; `route(4)` describes the
//! exchange. What the kernel sends is read with every length checked: a message that contradicts itself is refused.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `sizeof(struct rt_msghdr)`.
pub const ROUTE_HEADER: usize = 92;
/// `sizeof(struct if_msghdr)`.
pub const LINK_HEADER: usize = 112;
/// `sizeof(struct ifa_msghdr)`.
pub const ADDRESS_HEADER: usize = 20;

const VERSION: u8 = 5;
const RTM_ADD: u8 = 0x1;
const RTM_DELETE: u8 = 0x2;
const RTM_GET: u8 = 0x4;
const RTM_NEWADDR: u8 = 0xc;
const RTM_IFINFO: u8 = 0xe;

/// The route is usable.
pub const RTF_UP: u32 = 0x1;
/// Its gateway is a router, not a link.
pub const RTF_GATEWAY: u32 = 0x2;
/// It is for one address.
pub const RTF_HOST: u32 = 0x4;
/// Packets that match it are refused at once.
pub const RTF_REJECT: u32 = 0x8;
/// Made for a neighbour by the link layer.
pub const RTF_LLINFO: u32 = 0x400;
/// Made by a program.
pub const RTF_STATIC: u32 = 0x800;
/// Free for programs.
pub const RTF_PROTO2: u32 = 0x4000;
/// Free for programs.
pub const RTF_PROTO1: u32 = 0x8000;
/// Made from another route when it was used.
pub const RTF_WASCLONED: u32 = 0x2_0000;
/// Only for sockets that are bound to its interface.
pub const RTF_IFSCOPE: u32 = 0x100_0000;
/// No longer in the table.
pub const RTF_CONDEMNED: u32 = 0x200_0000;

/// These flags together are on every route of ours and tell them from others. macOS has no field for who made a route.
pub const OUR_FLAGS: u32 = RTF_STATIC | RTF_PROTO1 | RTF_PROTO2;

const RTA_DST: u32 = 0x1;
const RTA_GATEWAY: u32 = 0x2;
const RTA_NETMASK: u32 = 0x4;
const RTAX_DST: usize = 0;
const RTAX_GATEWAY: usize = 1;
const RTAX_NETMASK: usize = 2;
const RTAX_IFP: usize = 4;
const RTAX_IFA: usize = 5;
const RTAX_MAX: usize = 8;

const AF_INET: u8 = 2;
const AF_LINK: u8 = 18;
const AF_INET6: u8 = 30;

const IFF_UP: u32 = 0x1;
const IFF_LOOPBACK: u32 = 0x8;
const IFF_RUNNING: u32 = 0x40;

/// True for a message after which links, addresses or routes are others. Answers to requests and failed lookups are none.
/// What changed is read afterwards, so no more of the message is looked at.
#[must_use]
pub fn is_change(message: &[u8]) -> bool {
    const RTM_CHANGE: u8 = 0x3;
    const RTM_REDIRECT: u8 = 0x6;
    const RTM_DELADDR: u8 = 0xd;
    let changes = [RTM_ADD, RTM_DELETE, RTM_CHANGE, RTM_REDIRECT, RTM_NEWADDR, RTM_DELADDR, RTM_IFINFO];
    message.get(3).is_none_or(|kind| changes.contains(kind))
}

/// A message that is shorter than it says or cannot be what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's routing message cannot be read: {0}")]
pub struct Malformed(&'static str);

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Via {
    /// Nowhere: "no route to host", at once. In the table it is a route through the loopback router with `RTF_REJECT`; as
    /// such it is passed over by sockets that are bound to another interface.
    Reject,
    /// Onto the link with this index.
    Link(u16),
    /// To a router, on the link with this index; 0 in a request when the kernel is to find it.
    Router(IpAddr, u16),
}

/// A route as a program asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelRoute {
    /// Destination prefix, host bits zero.
    pub destination: IpNet,
    /// Where to.
    pub via: Via,
}

/// A route of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRoute {
    /// The route.
    pub route: KernelRoute,
    /// `RTF_*`.
    pub flags: u32,
}

impl TableRoute {
    /// Made by us.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.flags & OUR_FLAGS == OUR_FLAGS && !self.is_derived()
    }

    /// Not a route of its own: a neighbour, a copy made in use, or one that is being removed.
    #[must_use]
    pub const fn is_derived(&self) -> bool {
        self.flags & (RTF_LLINFO | RTF_WASCLONED | RTF_CONDEMNED) != 0
    }

    /// Only for sockets that are bound to its interface.
    #[must_use]
    pub const fn is_scoped(&self) -> bool {
        self.flags & RTF_IFSCOPE != 0
    }

    /// Made by the kernel for an address.
    #[must_use]
    pub const fn is_from_address(&self) -> bool {
        self.flags & (RTF_STATIC | RTF_GATEWAY) == 0
    }
}

/// What a list holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A route.
    Route(TableRoute),
    /// A link.
    Link {
        /// Index.
        index: u16,
        /// Name.
        name: String,
        /// Set up and running.
        up: bool,
        /// The loopback interface.
        loopback: bool,
    },
    /// An address.
    Address {
        /// Index of its link.
        index: u16,
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
    },
}

/// Reads a list. Messages of other kinds, and routes of other families, are left out.
///
/// # Errors
/// A length or a version that cannot be.
pub fn read_list(mut bytes: &[u8]) -> Result<Vec<Message>, Malformed> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16_at(bytes, 0)?);
        if length < 4 {
            return Err(Malformed("a message without a header"));
        }
        let (message, rest) = bytes.split_at_checked(length).ok_or(Malformed("a message that ends too early"))?;
        bytes = rest;
        if byte_at(message, 2)? != VERSION {
            return Err(Malformed("another version"));
        }
        let read = match byte_at(message, 3)? {
            RTM_ADD | RTM_GET => read_route(message)?.map(Message::Route),
            RTM_IFINFO => read_link(message)?,
            RTM_NEWADDR => read_address(message)?,
            _ => None,
        };
        found.extend(read);
    }
    Ok(found)
}

fn read_route(message: &[u8]) -> Result<Option<TableRoute>, Malformed> {
    let index = u16_at(message, 4)?;
    let flags = u32_at(message, 8)?;
    let addresses = addresses(message, ROUTE_HEADER, u32_at(message, 12)?)?;
    let at = |slot: usize| addresses.get(slot).copied().flatten();
    let Some(destination) = at(RTAX_DST) else { return Ok(None) };
    let Some(address) = ip(destination) else { return Ok(None) };
    let prefix = match at(RTAX_NETMASK) {
        _ if flags & RTF_HOST != 0 => Some(if address.is_ipv4() { 32 } else { 128 }),
        Some(mask) => prefix_length(mask, address.is_ipv4()),
        None => Some(0).filter(|_| address.is_unspecified()),
    };
    let Some(destination) = prefix.and_then(|prefix| IpNet::new(address, prefix).ok()) else { return Ok(None) };
    let via = if flags & RTF_REJECT != 0 {
        Via::Reject
    } else {
        match at(RTAX_GATEWAY).and_then(ip).filter(|_| flags & RTF_GATEWAY != 0) {
            Some(router) => Via::Router(router, index),
            None => Via::Link(index),
        }
    };
    Ok(Some(TableRoute { route: KernelRoute { destination: destination.trunc(), via }, flags }))
}

fn read_link(message: &[u8]) -> Result<Option<Message>, Malformed> {
    let (mask, flags, index) = (u32_at(message, 4)?, u32_at(message, 8)?, u16_at(message, 12)?);
    let addresses = addresses(message, LINK_HEADER, mask)?;
    let Some(link) = addresses.get(RTAX_IFP).copied().flatten() else { return Ok(None) };
    if byte_at(link, 1)? != AF_LINK {
        return Ok(None);
    }
    let length = usize::from(byte_at(link, 5)?);
    let name = link.get(8..8 + length).ok_or(Malformed("a name that ends too early"))?;
    let name = std::str::from_utf8(name).map_err(|_| Malformed("a name that is no text"))?.to_owned();
    let (up, loopback) = (flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING, flags & IFF_LOOPBACK != 0);
    Ok(Some(Message::Link { index, name, up, loopback }))
}

fn read_address(message: &[u8]) -> Result<Option<Message>, Malformed> {
    let (mask, index) = (u32_at(message, 4)?, u16_at(message, 12)?);
    let addresses = addresses(message, ADDRESS_HEADER, mask)?;
    let at = |slot: usize| addresses.get(slot).copied().flatten();
    let Some(address) = at(RTAX_IFA).and_then(ip) else { return Ok(None) };
    let full = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match at(RTAX_NETMASK) {
        Some(mask) => prefix_length(mask, address.is_ipv4()),
        None => Some(full),
    };
    Ok(prefix.map(|prefix| Message::Address { index, address, prefix }))
}

/// The socket addresses behind a header. Each is padded to four bytes, an empty one takes four; only the last may lack
/// its padding.
fn addresses(message: &[u8], header: usize, mask: u32) -> Result<[Option<&[u8]>; RTAX_MAX], Malformed> {
    let mut rest = message.get(header..).ok_or(Malformed("a header that ends too early"))?;
    let mut found = [None; RTAX_MAX];
    for (bit, slot) in found.iter_mut().enumerate() {
        if mask & (1 << bit) == 0 {
            continue;
        }
        let length = usize::from(*rest.first().ok_or(Malformed("an address is missing"))?);
        let address = rest.get(..length).ok_or(Malformed("an address that ends too early"))?;
        *slot = Some(address);
        rest = rest.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// The address of a `sockaddr_in` or `sockaddr_in6`. The kernel leaves out zero bytes at the end, and keeps the scope of a
/// link-local address in its third and fourth byte.
fn ip(address: &[u8]) -> Option<IpAddr> {
    match *address.get(1)? {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(padded::<4>(address, 4)))),
        AF_INET6 => {
            let mut bytes = padded::<16>(address, 8);
            let link_local = bytes.starts_with(&[0xfe]) && Ipv6Addr::from(bytes).is_unicast_link_local();
            let multicast = bytes.starts_with(&[0xff]);
            if let (true, Some(scope)) = (link_local || multicast && link_scope(&bytes), bytes.get_mut(2..4)) {
                scope.fill(0);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// Multicast of an interface or a link.
fn link_scope(bytes: &[u8; 16]) -> bool {
    matches!(bytes, [_, scope, ..] if matches!(scope & 0x0f, 1 | 2))
}

/// Bytes from `start`, with zeros for those that were left out.
fn padded<const N: usize>(address: &[u8], start: usize) -> [u8; N] {
    let mut bytes = [0; N];
    let given = address.get(start..).unwrap_or_default();
    for (byte, given) in bytes.iter_mut().zip(given) {
        *byte = *given;
    }
    bytes
}

/// The family of a mask may be missing, so that of the destination counts. `None` for a mask with holes.
fn prefix_length(mask: &[u8], ipv4: bool) -> Option<u8> {
    let bits =
        if ipv4 { u128::from(u32::from_be_bytes(padded::<4>(mask, 4))) << 96 } else { u128::from_be_bytes(padded(mask, 8)) };
    let ones = bits.leading_ones();
    (bits.checked_shl(ones).unwrap_or(0) == 0).then(|| u8::try_from(ones).ok()).flatten()
}

fn byte_at(bytes: &[u8], at: usize) -> Result<u8, Malformed> {
    bytes.get(at).copied().ok_or(Malformed("a header that ends too early"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    let field = bytes.get(at..at + 2).and_then(|field| field.try_into().ok());
    field.map(u16::from_ne_bytes).ok_or(Malformed("a header that ends too early"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map(u32::from_ne_bytes).ok_or(Malformed("a header that ends too early"))
}

/// The request that adds a route of ours. `sequence` comes back in the kernel's echo.
#[must_use]
pub fn add(route: &KernelRoute, sequence: u32) -> Vec<u8> {
    let destination = route.destination.addr();
    let (flags, gateway) = match route.via {
        Via::Reject => (RTF_GATEWAY | RTF_REJECT, socket_address(loopback(destination), 0)),
        Via::Link(index) => (0, link_address(index)),
        Via::Router(router, index) => (RTF_GATEWAY, socket_address(router, index)),
    };
    let flags = RTF_UP | OUR_FLAGS | flags | host_flag(&route.destination);
    request(RTM_ADD, flags, sequence, &route.destination, Some(gateway))
}

/// The request that removes a route with this destination that is bound to no interface.
#[must_use]
pub fn delete(destination: &IpNet, sequence: u32) -> Vec<u8> {
    request(RTM_DELETE, RTF_UP | host_flag(destination), sequence, destination, None)
}

fn request(kind: u8, flags: u32, sequence: u32, destination: &IpNet, gateway: Option<Vec<u8>>) -> Vec<u8> {
    let is_host = flags & RTF_HOST != 0;
    let mut present = RTA_DST;
    let mut addresses = socket_address(destination.addr(), 0);
    if let Some(gateway) = gateway {
        present |= RTA_GATEWAY;
        addresses.extend(gateway);
    }
    if !is_host {
        present |= RTA_NETMASK;
        addresses.extend(socket_address(destination.netmask(), 0));
    }
    let length = u16::try_from(ROUTE_HEADER + addresses.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(ROUTE_HEADER + addresses.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend([VERSION, kind]);
    bytes.extend([0; 4]); // rtm_index and its padding
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(present.to_ne_bytes());
    bytes.extend([0; 4]); // rtm_pid
    bytes.extend(sequence.to_ne_bytes());
    bytes.resize(ROUTE_HEADER, 0);
    bytes.extend(addresses);
    bytes
}

fn host_flag(destination: &IpNet) -> u32 {
    if destination.prefix_len() == destination.max_prefix_len() { RTF_HOST } else { 0 }
}

const fn loopback(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

/// A `sockaddr_in` or `sockaddr_in6`, padded. A link-local address carries its link in its third and fourth byte.
fn socket_address(address: IpAddr, link: u16) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => [&[16, AF_INET, 0, 0], v4.octets().as_slice(), &[0; 8]].concat(),
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            if let (true, Some(scope)) = (v6.is_unicast_link_local(), octets.get_mut(2..4)) {
                scope.copy_from_slice(&link.to_be_bytes());
            }
            [&[28, AF_INET6, 0, 0, 0, 0, 0, 0], octets.as_slice(), &[0; 4]].concat()
        }
    }
}

/// A `sockaddr_dl` that says only which link.
fn link_address(index: u16) -> Vec<u8> {
    let mut bytes = vec![20, AF_LINK];
    bytes.extend(index.to_ne_bytes());
    bytes.resize(20, 0);
    bytes
}

#[cfg(test)]
#[path = "route_message_tests.rs"]
mod tests;
