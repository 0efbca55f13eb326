//! What macOS's lists of links, addresses and routes say about the host. Pure.

use super::facts::{AddressView, HostView, LinkView, RouteView};
use crate::routes::route_message::{Message, TableRoute, Via};
use ipnet::IpNet;
use std::net::IpAddr;

/// A default route that is bound to its interface is the second choice after one that is not.
const SCOPED_METRIC: u32 = 1;

/// From `NET_RT_IFLIST` and `NET_RT_DUMP`.
#[must_use]
pub fn host_view(interfaces: &[Message], table: &[TableRoute]) -> HostView {
    let mut view = HostView::default();
    for message in interfaces {
        match message {
            Message::Link { index, name, up, loopback } => {
                view.links.push(LinkView { index: u32::from(*index), name: name.clone(), up: *up, loopback: *loopback });
            }
            Message::Address { index, address, prefix } => {
                let attached = IpNet::new(*address, *prefix);
                view.addresses.extend(attached.ok().map(|attached| AddressView {
                    interface: u32::from(*index),
                    address: *address,
                    attached,
                    // An address that is a duplicate is withdrawn by the system within a second.
                    usable: true,
                }));
            }
            Message::Route(_) => {}
        }
    }
    view.routes = table.iter().filter_map(|held| route(&view, held)).collect();
    view
}

/// Not ours, not copies, not refusals. The system keeps default routes on interfaces of its own that reach nothing but a
/// neighbour (`utun0`, `awdl0`): they have no address but a link-local one.
fn route(view: &HostView, held: &TableRoute) -> Option<RouteView> {
    let destination = held.route.destination;
    let is_default = destination.prefix_len() == 0;
    if held.is_ours() || held.is_derived() || (held.is_scoped() && !is_default) {
        return None;
    }
    let (interface, gateway) = match held.route.via {
        Via::Reject => return None,
        Via::Link(index) => (u32::from(index), None),
        Via::Router(router, index) => (u32::from(index), Some(router)),
    };
    if is_default && !has_address(view, interface, destination.addr().is_ipv4()) {
        return None;
    }
    let metric = if held.is_scoped() { SCOPED_METRIC } else { 0 };
    Some(RouteView { destination, interface, gateway, metric, from_address: held.is_from_address() })
}

fn has_address(view: &HostView, interface: u32, ipv4: bool) -> bool {
    view.addresses.iter().any(|held| {
        let reaches_far = match held.address {
            IpAddr::V4(v4) => !v4.is_link_local(),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        };
        held.interface == interface && held.address.is_ipv4() == ipv4 && reaches_far
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::route_message::{
        KernelRoute, OUR_FLAGS, RTF_GATEWAY, RTF_IFSCOPE, RTF_LLINFO, RTF_REJECT, RTF_STATIC, RTF_UP,
    };

    fn interfaces() -> Vec<Message> {
        let link = |index, name: &str, loopback| Message::Link { index, name: name.to_owned(), up: true, loopback };
        let address = |index, address: &str, prefix| Message::Address { index, address: address.parse().unwrap(), prefix };
        vec![
            link(1, "lo0", true),
            address(1, "127.0.0.1", 8),
            link(4, "en0", false),
            address(4, "fe80::5", 64),
            address(4, "192.168.1.5", 24),
            link(8, "en1", false),
            address(8, "10.0.0.5", 24),
            link(10, "utun0", false),
            address(10, "fe80::9", 64),
        ]
    }

    fn held(destination: &str, via: Via, flags: u32) -> TableRoute {
        TableRoute { route: KernelRoute { destination: destination.parse().unwrap(), via }, flags: RTF_UP | flags }
    }

    #[test]
    fn a_mac_as_it_is() {
        let router = |index| Via::Router("192.168.1.1".parse().unwrap(), index);
        let neighbour = Via::Router("fe80::1".parse().unwrap(), 10);
        let table = [
            held("0.0.0.0/0", router(4), RTF_GATEWAY | RTF_STATIC),
            held("0.0.0.0/0", Via::Router("10.0.0.1".parse().unwrap(), 8), RTF_GATEWAY | RTF_STATIC | RTF_IFSCOPE),
            held("::/0", neighbour, RTF_GATEWAY | RTF_IFSCOPE),
            held("192.168.1.0/24", Via::Link(4), 0),
            held("192.168.1.1/32", Via::Link(4), RTF_LLINFO),
            held("0.0.0.0/1", Via::Reject, RTF_REJECT | OUR_FLAGS),
            held("192.0.2.1/32", router(4), RTF_GATEWAY | OUR_FLAGS),
            held("203.0.113.0/24", router(4), RTF_GATEWAY | RTF_STATIC),
        ];
        let view = host_view(&interfaces(), &table);
        let facts = view.facts("utun6861");
        assert!(facts.online && facts.ipv4 && !facts.ipv6, "{facts:?}");
        assert!(facts.attached.contains(&"192.168.1.0/24".parse().unwrap()));
        let name = view.outer_interface("utun6861", true).map(|link| link.name.as_str());
        assert_eq!(name, Some("en0"), "the route that is bound to no interface");
        let interfering: Vec<String> = view.interfering("utun6861").into_iter().collect();
        assert_eq!(interfering, ["203.0.113.0/24 via 192.168.1.1 on en0"], "ours are not among them");
    }
}
