//! WireGuard in the kernel, configured through generic netlink.
//!
//! Chosen only where the environment asks for it ([`crate::Engine::Kernel`]) and a probe finds it. What it cannot do, and what is
//! done instead:
//!
//! * It agrees on new keys only when its own timers say so. A handshake that is asked for removes the peer and adds it again in
//!   one step: sessions end, packets wait for the new one. So does another endpoint, and so does [`Carrier::renew`].
//! * It follows its peer to any address that authentic packets come from; the firewall admits only the gateway's (G8), and the
//!   next handshake that is asked for puts the endpoint back.
//! * Its counters of bytes have WireGuard's headers, handshakes and keepalives in them. Packets are counted by [`taps`].
//! * Packet sockets need `CAP_NET_RAW` and the address family `AF_PACKET`, which the helper's unit does not grant: an
//!   administrator who asks for this grants both. Without them, the other data planes serve.
//! * The interface outlives a process that is killed, and so does the tunnel; the next start removes it.

mod link;
mod netlink;
mod taps;

pub(super) use link::remove_leftover;

use super::carrier::{Carrier, Handshakes, Meter, Totals};
use super::client::Client;
use crate::Pending;
use crate::error::TunnelError;
use crate::tun::platform;
use bytes::BytesMut;
use hamn_core::key::SecretKey;
use hamn_core::net::InterfaceName;
use hamn_core::state::BlockReason;
use ipnet::IpNet;
use link::Link;
use netlink::{Family, PeerStatus};
use netlink_packet_wireguard::{
    WireguardAddressFamily, WireguardAllowedIp, WireguardAllowedIpAttr as AllowedIp, WireguardAttribute as Device,
    WireguardDeviceFlags, WireguardPeer, WireguardPeerAttribute as Peer, WireguardPeerFlags,
};
use nix::time::{ClockId, clock_gettime};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use taps::Taps;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// As shown.
pub(super) const NAME: &str = "kernel";
/// Between two looks while a handshake is under way.
const HANDSHAKE_LOOK_MS: u64 = 10;

/// The peer as it is added.
struct Gateway {
    key: [u8; 32],
    preshared_key: Option<SecretKey>,
    endpoint: SocketAddr,
    keepalive_s: u16,
    allowed_ips: Vec<IpNet>,
}

impl Gateway {
    /// Removes the peer and adds it again. To be up and to get a keepalive interval that it had not makes the kernel send a
    /// keepalive at once, and with no session that is a handshake (`set_peer` in `drivers/net/wireguard/netlink.c`).
    fn anew(&self) -> Device {
        let remove = WireguardPeer(vec![Peer::PublicKey(self.key), Peer::Flags(WireguardPeerFlags::RemoveMe)]);
        let mut add = vec![Peer::PublicKey(self.key), Peer::Flags(WireguardPeerFlags::ReplaceAllowedIps)];
        add.extend(self.preshared_key.as_ref().map(|key| Peer::PresharedKey(*key.reveal())));
        add.push(Peer::Endpoint(self.endpoint));
        add.push(Peer::PersistentKeepalive(self.keepalive_s));
        add.push(Peer::AllowedIps(self.allowed_ips.iter().map(allowed_ip).collect()));
        Device::Peers(vec![remove, WireguardPeer(add)])
    }
}

fn allowed_ip(net: &IpNet) -> WireguardAllowedIp {
    let family = if net.addr().is_ipv4() { WireguardAddressFamily::Ipv4 } else { WireguardAddressFamily::Ipv6 };
    let net = net.trunc();
    WireguardAllowedIp(vec![AllowedIp::Family(family), AllowedIp::IpAddr(net.addr()), AllowedIp::Cidr(net.prefix_len())])
}

/// What the handle and its meter share.
struct Shared {
    family: Mutex<Family>,
    link: Link,
    key: [u8; 32],
    taps: Arc<Taps>,
}

impl Shared {
    fn status(&self) -> io::Result<PeerStatus> {
        self.family.lock().unwrap_or_else(PoisonError::into_inner).peer(self.link.index, &self.key)
    }

    fn set(&self, mut attributes: Vec<Device>) -> io::Result<()> {
        attributes.insert(0, Device::IfIndex(self.link.index));
        self.family.lock().unwrap_or_else(PoisonError::into_inner).set(attributes)
    }
}

impl Meter for Shared {
    fn totals(&self) -> Totals {
        let taps::Passed { came, went } = self.taps.passed();
        let PeerStatus { rx_bytes, tx_bytes, .. } = self.status().unwrap_or_default();
        Totals { rx_bytes, heard: came, tx_bytes, sent: went }
    }

    fn await_traffic(&self) {
        self.taps.await_traffic();
    }
}

/// WireGuard in the kernel, at the client.
pub(super) struct Kernel {
    shared: Arc<Shared>,
    interface: InterfaceName,
    gateway: Gateway,
    handshakes: Seen,
    listen: JoinHandle<()>,
    watch: JoinHandle<()>,
}

/// Makes the interface, and sets its key and mark before it is up. The peer, and with it the first handshake, comes with
/// [`Carrier::initiate`]. `None` where the kernel has no WireGuard.
pub(super) async fn start(client: &Client<'_>) -> Result<Option<Kernel>, TunnelError> {
    let Client { plan, secrets, options, addresses, endpoint, keepalive_s, probe, .. } = client;
    let interface = options.interface.clone();
    let failed = |source| TunnelError::Device { name: interface.clone(), source };
    let Some(mut family) = Family::find().map_err(failed)? else { return Ok(None) };
    let Some(link) = Link::create(&interface)? else { return Ok(None) };
    // G8: every packet is marked, from the first.
    let settings = vec![
        Device::IfIndex(link.index),
        Device::PrivateKey(*secrets.private_key.reveal()),
        Device::Fwmark(options.fwmark.unwrap_or(0)),
        Device::Flags(WireguardDeviceFlags::ReplacePeers),
    ];
    family.set(settings).map_err(failed)?;
    platform::configure(&interface, addresses, plan.mtu).await?;
    let taps = match Taps::open(link.index) {
        Ok(taps) => Arc::new(taps),
        Err(error) => {
            tracing::warn!(%error, "no packet socket, and so no word from the kernel's WireGuard: CAP_NET_RAW and AF_PACKET are needed");
            return Ok(None);
        }
    };
    let gateway = Gateway {
        key: *plan.peer.as_bytes(),
        preshared_key: secrets.preshared_key.clone(),
        endpoint: *endpoint,
        keepalive_s: *keepalive_s,
        allowed_ips: plan.allowed_ips.clone(),
    };
    let key = gateway.key;
    let shared = Arc::new(Shared { family: Mutex::new(family), link, key, taps: Arc::clone(&taps) });
    let watched = Arc::clone(&shared);
    let listen = tokio::spawn(Arc::clone(&taps).listen(probe.clone(), move || !watched.link.exists()));
    let watch = tokio::spawn(taps.watch());
    Ok(Some(Kernel { shared, interface, gateway, handshakes: Seen::default(), listen, watch }))
}

impl Kernel {
    fn set(&self, mut attributes: Vec<Device>) -> Result<(), TunnelError> {
        attributes.push(self.gateway.anew());
        self.shared.set(attributes).map_err(|source| TunnelError::Device { name: self.interface.clone(), source })
    }

    fn set_or_log(&self) {
        if let Err(error) = self.set(Vec::new()) {
            tracing::warn!(%error, "no handshake");
        }
    }
}

/// The handshakes as far as they were seen: the kernel tells only the wall clock at the last one.
#[derive(Debug, Default)]
struct Seen {
    handshakes: Handshakes,
    last: (i64, i64),
    looked_ms: u64,
}

impl Seen {
    /// `stamp` is what the kernel tells, `wall_ms` its clock now. A handshake that is new was between the last look and now,
    /// whatever somebody does to the wall clock.
    fn look(&mut self, stamp: (i64, i64), wall_ms: i64, now_ms: u64) -> Handshakes {
        if stamp != self.last && stamp != (0, 0) {
            let then_ms = stamp.0.saturating_mul(1_000).saturating_add(stamp.1 / 1_000_000);
            let age_ms = u64::try_from(wall_ms.saturating_sub(then_ms)).unwrap_or(0);
            let age_ms = age_ms.min(now_ms.saturating_sub(self.looked_ms));
            let count = self.handshakes.count.saturating_add(1);
            self.handshakes = Handshakes { count, last_ms: Some(now_ms.saturating_sub(age_ms)) };
            self.last = stamp;
        }
        self.looked_ms = now_ms;
        self.handshakes
    }
}

fn wall_ms() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME);
    now.map_or(0, |now| now.tv_sec().saturating_mul(1_000).saturating_add(now.tv_nsec() / 1_000_000))
}

impl Carrier for Kernel {
    fn name(&self) -> &'static str {
        NAME
    }

    fn meter(&self) -> Arc<dyn Meter> {
        self.shared.clone()
    }

    fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.taps.bell)
    }

    fn handshake_look_ms(&self) -> Option<u64> {
        Some(HANDSHAKE_LOOK_MS)
    }

    fn handshakes(&mut self, now_ms: u64) -> Pending<'_, Handshakes> {
        let stamp = self.shared.status().unwrap_or_default().handshake;
        Box::pin(std::future::ready(self.handshakes.look(stamp, wall_ms(), now_ms)))
    }

    fn inject(&self, packet: BytesMut) {
        self.shared.taps.inject(&packet);
    }

    fn initiate(&mut self) -> Pending<'_, ()> {
        self.set_or_log();
        Box::pin(std::future::ready(()))
    }

    /// The session in use ends: the kernel has no other way.
    fn renew(&mut self) -> Pending<'_, ()> {
        self.initiate()
    }

    /// Port 0 is another than the one in use, and so a new socket on a new port. The session goes with it.
    fn rebind(&mut self) -> Pending<'_, Result<(), TunnelError>> {
        self.restart()
    }

    fn restart(&mut self) -> Pending<'_, Result<(), TunnelError>> {
        Box::pin(std::future::ready(self.set(vec![Device::ListenPort(0)])))
    }

    fn set_private_key(&mut self, key: &SecretKey) -> Pending<'_, Result<(), TunnelError>> {
        Box::pin(std::future::ready(self.set(vec![Device::ListenPort(0), Device::PrivateKey(*key.reveal())])))
    }

    fn set_endpoint(&mut self, address: SocketAddr) -> Pending<'_, Result<(), TunnelError>> {
        self.gateway.endpoint = address;
        self.restart()
    }

    fn ended(&mut self) -> Pending<'_, BlockReason> {
        Box::pin(async move {
            // It ends only when the interface is gone, or by a panic.
            let ended = (&mut self.listen).await;
            if ended.is_ok() { BlockReason::TunnelDevice } else { BlockReason::Internal }
        })
    }

    fn stop(self: Box<Self>) -> Pending<'static, ()> {
        // The meter may be in use still, so the interface does not go by being forgotten.
        self.shared.link.remove();
        drop(self);
        Box::pin(std::future::ready(()))
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.listen.abort();
        self.watch.abort();
        self.shared.link.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink::{encode, request};
    use netlink_packet_wireguard::WireguardCmd;

    fn gateway(endpoint: &str, preshared: bool) -> Gateway {
        Gateway {
            key: [0xaa; 32],
            preshared_key: preshared.then(|| SecretKey::new([0xbb; 32])),
            endpoint: endpoint.parse().unwrap(),
            keepalive_s: 25,
            allowed_ips: vec!["10.1.2.3/8".parse().unwrap(), "::/0".parse().unwrap()],
        }
    }

    /// An attribute: length, type, content, and zeros up to four bytes.
    fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(content.len() + 4).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    const NESTED: u16 = 0x8000;

    fn by_hand(flags: u16, command: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let content = attributes.concat();
        let length = u32::try_from(16 + 4 + content.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        // Family 30, no sequence number yet, from and to nobody in particular.
        bytes.extend([30_u16.to_ne_bytes(), flags.to_ne_bytes()].concat());
        bytes.extend([0; 8]);
        // Command, version 1.
        bytes.extend([command, 1, 0, 0]);
        bytes.extend(content);
        bytes
    }

    #[test]
    fn a_peer_is_replaced_in_one_request_that_reads_as_the_kernels_header_says() {
        for (endpoint, preshared) in [("192.0.2.7:51820", false), ("[2001:db8::7]:443", true)] {
            let gateway = gateway(endpoint, preshared);
            let mut address = Vec::new();
            if endpoint.starts_with('[') {
                address.extend(10_u16.to_ne_bytes());
                address.extend(443_u16.to_be_bytes());
                address.extend([0; 4]);
                address.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
                address.extend([0; 4]);
            } else {
                address.extend(2_u16.to_ne_bytes());
                address.extend(51_820_u16.to_be_bytes());
                address.extend([192, 0, 2, 7]);
                address.extend([0; 8]);
            }
            let net = |family: u16, address: &[u8], prefix: u8| {
                let content = [attribute(1, &family.to_ne_bytes()), attribute(2, address), attribute(3, &[prefix])].concat();
                attribute(NESTED, &content)
            };
            let nets = [net(2, &[10, 0, 0, 0], 8), net(10, &[0; 16], 0)].concat();
            let removed = [attribute(1, &[0xaa; 32]), attribute(3, &1_u32.to_ne_bytes())].concat();
            let mut added = [attribute(1, &[0xaa; 32]), attribute(3, &2_u32.to_ne_bytes())].concat();
            if preshared {
                added.extend(attribute(2, &[0xbb; 32]));
            }
            added.extend(attribute(4, &address));
            added.extend(attribute(5, &25_u16.to_ne_bytes()));
            added.extend(attribute(9 | NESTED, &nets));
            let peers = [attribute(NESTED, &removed), attribute(NESTED, &added)].concat();
            let expected = by_hand(
                1 | 4,
                1,
                &[attribute(1, &7_u32.to_ne_bytes()), attribute(6, &0_u16.to_ne_bytes()), attribute(8 | NESTED, &peers)],
            );
            let attributes = vec![Device::IfIndex(7), Device::ListenPort(0), gateway.anew()];
            let mut request = request(30, WireguardCmd::SetDevice, attributes);
            assert_eq!(*encode(&mut request, netlink_packet_core::NLM_F_ACK), expected, "{endpoint}");
        }
    }

    #[test]
    fn the_devices_settings_read_as_the_kernels_header_says() {
        let attributes = vec![
            Device::IfIndex(7),
            Device::PrivateKey([0xcc; 32]),
            Device::Fwmark(0x6861_6d6e),
            Device::Flags(WireguardDeviceFlags::ReplacePeers),
        ];
        let expected = by_hand(
            1 | 4,
            1,
            &[
                attribute(1, &7_u32.to_ne_bytes()),
                attribute(3, &[0xcc; 32]),
                attribute(7, &0x6861_6d6e_u32.to_ne_bytes()),
                attribute(5, &1_u32.to_ne_bytes()),
            ],
        );
        let mut message = request(30, WireguardCmd::SetDevice, attributes);
        assert_eq!(*encode(&mut message, netlink_packet_core::NLM_F_ACK), expected);
        let mut question = request(30, WireguardCmd::GetDevice, vec![Device::IfIndex(7)]);
        let dump = 0x300;
        assert_eq!(*encode(&mut question, dump), by_hand(1 | dump, 0, &[attribute(1, &7_u32.to_ne_bytes())]));
    }

    #[test]
    fn handshakes_are_counted_by_their_time_stamps_whatever_the_wall_clock_does() {
        let mut seen = Seen::default();
        assert_eq!(seen.look((0, 0), 5_000_000, 1_000).last_ms, None);
        let first = seen.look((4_999, 900_000_000), 5_000_000, 2_000);
        assert_eq!((first.count, first.last_ms), (1, Some(1_900)));
        assert_eq!(seen.look((4_999, 900_000_000), 6_000_000, 3_000), first, "the same one");
        // The wall clock was set forward by an hour, then back: the age is bounded by the last look, and never negative.
        assert_eq!(seen.look((5_002, 0), 5_003_000 + 3_600_000, 4_000).last_ms, Some(3_000));
        let back = seen.look((5_003, 0), 1_000, 5_000);
        assert_eq!((back.count, back.last_ms), (3, Some(5_000)));
        // A peer that was added again has none, which is no handshake.
        assert_eq!(seen.look((0, 0), 1_000, 6_000), back);
    }
}
