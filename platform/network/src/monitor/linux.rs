//! Reading links, addresses and routes over rtnetlink, and hearing of changes to them.
#![expect(clippy::wildcard_enum_match_arm, reason = "the kernel's attributes are an open set; the rest is of no interest")]

use super::facts::{AddressView, HostView, LinkView, RouteView};
use crate::routes::apply::linux::{RouteError, Routing};
use crate::routes::apply::wire;
use ipnet::IpNet;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use std::io;
use std::net::IpAddr;

/// Multicast groups of `linux/rtnetlink.h`: links, addresses, routes and rules of both families.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];
/// The kernel sends datagrams of up to a page or two. What is cut off is read by the dump that follows anyway.
const BUFFER_BYTES: usize = 32 << 10;

/// Reads everything once.
///
/// # Errors
/// The kernel refuses to be read.
pub async fn read(routing: &Routing) -> Result<HostView, RouteError> {
    let main = routing.table(u32::from(RouteHeader::RT_TABLE_MAIN)).await?;
    Ok(HostView {
        links: routing.links().await?.iter().filter_map(link).collect(),
        addresses: routing.addresses().await?.iter().filter_map(address).collect(),
        routes: main.iter().flat_map(routes).collect(),
    })
}

fn link(message: &LinkMessage) -> Option<LinkView> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let flags = message.header.flags;
    Some(LinkView {
        index: message.header.index,
        name,
        up: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
    })
}

fn address(message: &AddressMessage) -> Option<AddressView> {
    let (mut local, mut peer) = (None, None);
    let unusable = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    let mut usable = !message.header.flags.intersects(unusable);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(flags) => {
                usable = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
            }
            _ => {}
        }
    }
    // IPv6 has no local address unless there is a peer; for a peer the prefix is the peer's.
    let address: IpAddr = local.or(peer)?;
    let attached = IpNet::new(peer.or(local)?, message.header.prefix_len).ok()?;
    Some(AddressView { interface: message.header.index, address, attached, usable })
}

fn routes(message: &RouteMessage) -> Vec<RouteView> {
    if message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let Some(destination) = wire::destination(message) else { return Vec::new() };
    let metric = wire::metric(message);
    let from_address = message.header.protocol == RouteProtocol::Kernel;
    let hop = |interface: u32, attributes: &[RouteAttribute]| {
        let gateway = attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(address) => wire::ip(address),
            _ => None,
        });
        RouteView { destination, interface, gateway, metric, from_address }
    };
    let mut found = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => found.push(hop(*index, &message.attributes)),
            RouteAttribute::MultiPath(hops) => {
                found.extend(hops.iter().map(|next| hop(next.interface_index, &next.attributes)));
            }
            _ => {}
        }
    }
    found
}

/// Hears of changes in the network namespace in which it was opened.
pub struct Notices {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

impl Notices {
    /// Subscribes. Read everything once after this.
    ///
    /// # Errors
    /// No socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.socket_mut().add_membership(group)?;
        }
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// Waits until something changed. What it was is read afterwards, so nothing in the message needs to be believed.
    /// May be dropped at any time.
    ///
    /// # Errors
    /// The socket broke.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.buffer.clear();
        match self.socket.recv(&mut self.buffer).await {
            Err(error) if !is_overflow(&error) => Err(error),
            // Messages that were dropped because we read too slowly are changes too.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Takes what else is queued, so that a storm of changes costs one look.
    pub fn drain(&mut self) {
        for _ in 0..4096 {
            self.buffer.clear();
            match self.socket.socket_ref().recv(&mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if is_overflow(&error) => {}
                Err(_) => return,
            }
        }
    }
}

fn is_overflow(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}
