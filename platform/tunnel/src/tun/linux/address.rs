//! Addresses, MTU, queue and state of the tunnel interface, through rtnetlink.

use crate::error::TunnelError;
use futures_util::TryStreamExt;
use hamn_core::net::InterfaceName;
use ipnet::IpNet;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::address::AddressFlags;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute};
use rtnetlink::{Handle, LinkUnspec};

/// Packets that wait in the interface's own queue. The kernel's 500 for TUN devices delays by a second what WireGuard
/// would rather drop on a slow path; less than 100 loses bursts.
const QUEUE_PACKETS: u32 = 250;

pub(super) async fn configure(name: &InterfaceName, addresses: &[IpNet], mtu: u16) -> Result<(), TunnelError> {
    let failed = |what: &'static str| {
        move |source: rtnetlink::Error| TunnelError::Configure { what, name: name.clone(), source: Box::new(source) }
    };
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(|source| TunnelError::Device { name: name.clone(), source })?;
    let connection = tokio::spawn(connection);
    let result = async {
        let index = index_of(&handle, name).await.map_err(failed("index"))?;
        // Before the interface is up, or the kernel makes a link-local address and sends router solicitations.
        // A kernel without IPv6 refuses the attribute, and needs it not.
        if let Err(error) = handle.link().set(without_link_local(index)).execute().await {
            tracing::debug!(%error, "no IPv6 on the tunnel interface");
        }
        let link = LinkUnspec::new_with_index(index).mtu(u32::from(mtu)).txqueuelen(QUEUE_PACKETS).build();
        handle.link().set(link).execute().await.map_err(failed("mtu"))?;
        for net in addresses {
            let mut request = handle.address().add(index, net.addr(), net.prefix_len());
            if net.addr().is_ipv6() {
                // Nobody else is on the link: no duplicate detection. A /128 needs no route in the main table.
                let mut flags = AddressFlags::Nodad;
                if net.prefix_len() == 128 {
                    flags |= AddressFlags::Noprefixroute;
                }
                request.message_mut().attributes.push(AddressAttribute::Flags(flags));
            }
            request.execute().await.map_err(failed("address"))?;
        }
        let up = LinkUnspec::new_with_index(index).up().build();
        handle.link().set(up).execute().await.map_err(failed("state"))
    }
    .await;
    connection.abort();
    result
}

async fn index_of(handle: &Handle, name: &InterfaceName) -> Result<u32, rtnetlink::Error> {
    let mut links = handle.link().get().match_name(name.to_string()).execute();
    let link = links.try_next().await?;
    link.map(|link| link.header.index).ok_or(rtnetlink::Error::RequestFailed)
}

fn without_link_local(index: u32) -> rtnetlink::packet_route::link::LinkMessage {
    let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    LinkUnspec::new_with_index(index).append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![inet6])).build()
}
