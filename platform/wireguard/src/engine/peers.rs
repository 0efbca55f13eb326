//! The peers: who they are, how a packet finds its peer.

use crate::allowed_ips::AllowedIps;
use crate::control::{PeerConfig, PeerStats, Roaming};
use crate::noise::{Channel, Local, Settings};
use gotatun::noise::index_table::IndexTable;
use gotatun::x25519::PublicKey;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Entries of the index table beyond the living ones, before the dead are removed.
const DEAD_INDICES: usize = 256;

/// A peer's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PeerId(u32);

pub(super) struct Peer {
    pub(super) channel: Channel,
    pub(super) key: PublicKey,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) roaming: Roaming,
    pub(super) allowed_ips: Vec<IpNet>,
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
    /// It had or wanted a session when the engine was suspended.
    pub(super) resumes: bool,
}

impl Peer {
    pub(super) fn new(config: &PeerConfig, local: &Arc<Local>, indices: &IndexTable) -> Self {
        let settings = Settings {
            public: config.public_key,
            psk: config.preshared_key,
            keepalive_s: config.keepalive_s,
            timers: config.timers.clone().unwrap_or_default(),
        };
        Self {
            channel: Channel::new(Arc::clone(local), settings, indices.clone()),
            key: config.public_key,
            endpoint: config.endpoint,
            roaming: config.roaming,
            allowed_ips: config.allowed_ips.clone(),
            rx_bytes: 0,
            tx_bytes: 0,
            resumes: false,
        }
    }

    /// Whether the peer may speak from this address.
    pub(super) fn hears(&self, from: SocketAddr) -> bool {
        match self.roaming {
            Roaming::Follow => true,
            // Flow label and scope are no part of who it is.
            Roaming::Fixed => self.endpoint.is_some_and(|to| (to.ip(), to.port()) == (from.ip(), from.port())),
        }
    }

    pub(super) fn stats(&self, now_ms: u64) -> PeerStats {
        PeerStats {
            public_key: self.key,
            endpoint: self.endpoint,
            allowed_ips: self.allowed_ips.clone(),
            last_handshake_age: self.channel.age(now_ms),
            rx_bytes: self.rx_bytes,
            tx_bytes: self.tx_bytes,
        }
    }
}

/// All peers.
pub(super) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    by_key: HashMap<[u8; 32], PeerId>,
    by_index: HashMap<u32, PeerId>,
    allowed: AllowedIps<PeerId>,
    pub(super) indices: IndexTable,
    /// The last lookups: packets come in trains.
    last_index: Option<(u32, PeerId)>,
    last_address: Option<(IpAddr, PeerId)>,
}

impl Peers {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            by_key: HashMap::new(),
            by_index: HashMap::new(),
            allowed: AllowedIps::default(),
            indices: IndexTable::from_os_rng(),
            last_index: None,
            last_address: None,
        }
    }

    pub(super) fn insert(&mut self, mut peer: Peer) -> PeerId {
        if let Some(before) = self.by_key(&peer.key.to_bytes()).and_then(|id| self.get_mut(id)) {
            peer.channel.succeed(&before.channel);
        }
        self.remove(&peer.key);
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let id = PeerId(u32::try_from(free).unwrap_or(u32::MAX));
        self.by_key.insert(peer.key.to_bytes(), id);
        let nets = peer.allowed_ips.clone();
        if free == self.slots.len() {
            self.slots.push(None);
        }
        if let Some(slot) = self.slots.get_mut(free) {
            *slot = Some(Box::new(peer));
        }
        self.allow(id, nets);
        id
    }

    pub(super) fn remove(&mut self, key: &PublicKey) -> bool {
        let Some(id) = self.by_key.remove(&key.to_bytes()) else { return false };
        self.by_index.retain(|_, other| *other != id);
        self.allowed.remove(id);
        self.forget_lookups();
        if let Some(slot) = usize::try_from(id.0).ok().and_then(|place| self.slots.get_mut(place)) {
            *slot = None;
        }
        true
    }

    /// Replaces the peer's prefixes. A prefix that another peer had moves to this one.
    pub(super) fn allow(&mut self, id: PeerId, nets: Vec<IpNet>) {
        self.allowed.remove(id);
        for net in &nets {
            self.allowed.insert(*net, id);
        }
        self.forget_lookups();
        for (other, peer) in self.iter_mut() {
            if other != id {
                peer.allowed_ips.retain(|net| !nets.iter().any(|taken| taken.trunc() == net.trunc()));
            }
        }
        if let Some(peer) = self.get_mut(id) {
            peer.allowed_ips = nets;
        }
    }

    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.slots.get_mut(usize::try_from(id.0).ok()?)?.as_deref_mut()
    }

    pub(super) fn by_key(&self, key: &[u8; 32]) -> Option<PeerId> {
        self.by_key.get(key).copied()
    }

    /// Whose session this is.
    pub(super) fn by_index(&mut self, index: u32) -> Option<PeerId> {
        if let Some((last, id)) = self.last_index
            && last == index
        {
            return Some(id);
        }
        let id = self.by_index.get(&index).copied()?;
        self.last_index = Some((index, id));
        Some(id)
    }

    /// Whose address this is.
    pub(super) fn by_address(&mut self, address: IpAddr) -> Option<PeerId> {
        if let Some((last, id)) = self.last_address
            && last == address
        {
            return Some(id);
        }
        let id = self.allowed.find(address)?;
        self.last_address = Some((address, id));
        Some(id)
    }

    /// Remembers the index that a handshake message of ours announces.
    pub(super) fn register(&mut self, id: PeerId, index: u32) {
        self.by_index.insert(index, id);
        self.last_index = None;
        // A peer has up to four sessions and six handshakes; the rest are dead.
        if self.by_index.len() > self.by_key.len() * 10 + DEAD_INDICES {
            let indices = &self.indices;
            self.by_index.retain(|index, _| indices.in_use(*index));
        }
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerId, &mut Peer)> {
        let numbered = (0_u32..).map(PeerId).zip(&mut self.slots);
        numbered.filter_map(|(id, slot)| slot.as_deref_mut().map(|peer| (id, peer)))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter().filter_map(Option::as_deref)
    }

    pub(super) fn ids(&mut self) -> Vec<PeerId> {
        self.iter_mut().map(|(id, _)| id).collect()
    }

    /// The families in which there are endpoints: IPv4, IPv6.
    pub(super) fn families(&self) -> [bool; 2] {
        let has = |v6| self.iter().any(|peer| peer.endpoint.is_some_and(|endpoint| endpoint.is_ipv6() == v6));
        [has(false), has(true)]
    }

    const fn forget_lookups(&mut self) {
        (self.last_index, self.last_address) = (None, None);
    }
}
