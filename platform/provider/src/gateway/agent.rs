//! Keeps WireGuard's peers, the exit maps and the snapshot on disk in step with the API's feed.

use super::nat;
use super::report::Report;
use crate::keys::{private_dir, write_file};
use crate::list::ExitSpec;
use crate::store::{Feed, FeedPeer};
use anyhow::{Context, Result};
use hamn_api::Channel;
use hamn_core::key::PublicKey;
use hamn_tunnel::wireguard::server::WireGuardServer;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval, sleep};

/// How often handshakes are looked at while a device has two keys.
const KEY_CHANGE_POLL: Duration = Duration::from_millis(50);
/// How often sums are reported.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// How long `ready` waits for a first answer of the API when nothing is known from the disk.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// Asks the API for changes, for ever. After an error the whole list is asked for again.
pub(super) async fn follow(api: Channel, id: String, feed: mpsc::Sender<Feed>) {
    // Nothing is known yet; an empty database has revision 0.
    let mut since = -1;
    let mut pause = Duration::from_millis(250);
    loop {
        match api.get::<Feed>(&format!("/internal/v1/gateways/{id}/peers?since={since}")).await {
            Ok(news) => {
                pause = Duration::from_millis(250);
                since = news.revision;
                if feed.send(news).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the API does not answer; known devices are not affected");
                since = -1;
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        }
    }
}

/// Owns the WireGuard server and everything that depends on the peers.
pub(super) struct Agent {
    server: WireGuardServer,
    exits: Vec<ExitSpec>,
    snapshot_path: PathBuf,
    reports: mpsc::Sender<Report>,
    devices: BTreeMap<String, FeedPeer>,
    /// Keys that WireGuard knows, with the device each belongs to.
    keys: BTreeMap<PublicKey, String>,
    /// New keys that have been used: the addresses are theirs.
    taken_over: BTreeSet<PublicKey>,
}

impl Agent {
    /// Starts with what the snapshot on disk says; a missing or damaged one means no devices.
    pub(super) async fn new(
        server: WireGuardServer,
        exits: Vec<ExitSpec>,
        state_dir: &Path,
        reports: mpsc::Sender<Report>,
    ) -> Result<Self> {
        private_dir(state_dir)?;
        let snapshot_path = state_dir.join("peers.json");
        let (devices, keys, taken_over) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut agent = Self { server, exits, snapshot_path, reports, devices, keys, taken_over };
        let known =
            std::fs::read(&agent.snapshot_path).ok().and_then(|bytes| serde_json::from_slice::<Vec<FeedPeer>>(&bytes).ok());
        if let Some(peers) = known {
            agent.apply(Feed { revision: 0, full: true, peers, removed: Vec::new() }).await?;
        }
        Ok(agent)
    }

    /// Works until `stop` resolves and gives the server back.
    pub(super) async fn run(
        mut self,
        mut feed: mpsc::Receiver<Feed>,
        ready: oneshot::Sender<()>,
        stop: impl Future<Output = ()>,
    ) -> WireGuardServer {
        let started = Instant::now();
        let mut ready = Some(ready);
        let mut poll = interval(KEY_CHANGE_POLL);
        let mut report = interval(REPORT_EVERY);
        let mut counted = 0;
        tokio::pin!(stop);
        loop {
            let known = !self.devices.is_empty() || started.elapsed() > FIRST_ANSWER;
            if known && let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
            tokio::select! {
                () = &mut stop => return self.server,
                Some(news) = feed.recv() => {
                    if let Err(error) = self.apply(news).await {
                        tracing::error!(error = %format!("{error:#}"), "peers could not be changed");
                    }
                    if let Some(ready) = ready.take() {
                        let _ = ready.send(());
                    }
                }
                _ = poll.tick() => self.watch_key_changes().await,
                _ = report.tick() => counted = self.report(counted).await,
            }
        }
    }

    async fn apply(&mut self, news: Feed) -> Result<()> {
        let mut next = if news.full { BTreeMap::new() } else { self.devices.clone() };
        for id in &news.removed {
            next.remove(id);
        }
        next.extend(news.peers.into_iter().map(|peer| (peer.device.clone(), peer)));
        let before = std::mem::replace(&mut self.devices, next);
        if before == self.devices {
            return Ok(());
        }
        let wanted: BTreeMap<PublicKey, String> =
            self.devices.values().flat_map(|peer| peer.keys.iter().map(|key| (key.public_key, peer.device.clone()))).collect();
        // First away with those that may not, then in with those that may: an address may change hands.
        for key in self.keys.keys().filter(|key| !wanted.contains_key(*key)) {
            self.server.remove_peer(key).await.context("remove a peer")?;
            self.taken_over.remove(key);
        }
        self.keys = wanted;
        let changed: Vec<FeedPeer> =
            self.devices.values().filter(|peer| before.get(&peer.device) != Some(*peer)).cloned().collect();
        for peer in &changed {
            self.admit(peer).await?;
        }
        nat::set_exits(&self.exits, self.devices.values()).await?;
        // Flows that were translated to another exit, or belong to a device that is gone, end now.
        for old in before.values() {
            if self.devices.get(&old.device).is_none_or(|new| new.exit != old.exit) {
                nat::forget_flows(old.ipv4.into()).await;
                nat::forget_flows(old.ipv6.into()).await;
            }
        }
        let peers: Vec<&FeedPeer> = self.devices.values().collect();
        write_file(&self.snapshot_path, 0o600, &serde_json::to_vec(&peers).context("write the snapshot")?)
    }

    /// While a device has two keys, the addresses stay with the old one until the new one has been used.
    async fn admit(&self, peer: &FeedPeer) -> Result<()> {
        let both = peer.keys.len() > 1;
        for key in &peer.keys {
            let owns = !both || (key.current == self.current_is_used(peer));
            let addresses = if owns { addresses(peer) } else { Vec::new() };
            self.server.add_peer(key.public_key, &addresses, None).await.context("admit a peer")?;
        }
        Ok(())
    }

    fn current_is_used(&self, peer: &FeedPeer) -> bool {
        peer.keys.iter().any(|key| key.current && self.taken_over.contains(&key.public_key))
    }

    /// Moves addresses to new keys at their first handshake, and drops the keys before them.
    async fn watch_key_changes(&mut self) {
        let waiting: Vec<FeedPeer> =
            self.devices.values().filter(|peer| peer.keys.len() > 1 && !self.current_is_used(peer)).cloned().collect();
        if waiting.is_empty() {
            return;
        }
        let shaken: BTreeSet<PublicKey> = self
            .server
            .peers()
            .await
            .into_iter()
            .filter(|peer| peer.last_handshake_age_ms.is_some())
            .map(|peer| peer.key)
            .collect();
        for peer in waiting {
            let Some(new) = peer.keys.iter().find(|key| key.current && shaken.contains(&key.public_key)) else { continue };
            self.taken_over.insert(new.public_key);
            let moved = self.server.add_peer(new.public_key, &addresses(&peer), None).await;
            for old in peer.keys.iter().filter(|key| !key.current) {
                if let Err(error) = self.server.remove_peer(&old.public_key).await {
                    tracing::error!(%error, "an old key could not be removed");
                }
            }
            if let Err(error) = moved {
                tracing::error!(%error, "a device's addresses could not be moved to its new key");
            }
            let _ = self.reports.try_send(Report::KeyUsed(new.public_key));
        }
    }

    async fn report(&self, counted: u64) -> u64 {
        let peers = self.server.peers().await;
        let bytes = peers.iter().fold(0_u64, |sum, peer| sum.saturating_add(peer.rx_bytes).saturating_add(peer.tx_bytes));
        let sessions = peers.iter().filter(|peer| peer.last_handshake_age_ms.is_some_and(|age| age < 180_000)).count();
        let throughput_bps = bytes.saturating_sub(counted).saturating_mul(8) / REPORT_EVERY.as_secs();
        let sessions = u64::try_from(sessions).unwrap_or(u64::MAX);
        let _ = self.reports.try_send(Report::Sums { bytes_total: bytes, throughput_bps, sessions });
        bytes
    }
}

fn addresses(peer: &FeedPeer) -> Vec<IpNet> {
    vec![IpAddr::from(peer.ipv4).into(), IpAddr::from(peer.ipv6).into()]
}
