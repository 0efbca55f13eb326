//! Heartbeats to the API: sums over all peers, and new keys that have been used. Nothing about single users.

use crate::store::Heartbeat;
use hamn_api::Channel;
use hamn_core::key::PublicKey;
use tokio::sync::mpsc;

/// Capacity of a server, for the load in per cent (1424 Mbit/s).
const CAPACITY_BPS: u64 = 1_424_000_000;

/// What the agent has to tell.
pub(super) enum Report {
    /// Every few seconds.
    Sums { bytes_total: u64, throughput_bps: u64, sessions: u64 },
    /// At once.
    KeyUsed(PublicKey),
}

/// Sends until the agent is gone. A used key is told again until the API has heard it.
pub(super) async fn send(api: Channel, id: String, mut reports: mpsc::Receiver<Report>) {
    let mut beat = Heartbeat::default();
    while let Some(report) = reports.recv().await {
        match report {
            Report::Sums { bytes_total, throughput_bps, sessions } => {
                let permille = u32::try_from(throughput_bps.saturating_mul(1000) / CAPACITY_BPS).unwrap_or(1000);
                beat.load_pct = (f64::from(permille) / 10.0).min(100.0);
                (beat.bytes_total, beat.throughput_bps, beat.sessions) = (bytes_total, throughput_bps, sessions);
            }
            Report::KeyUsed(key) if beat.used_keys.len() < 1000 => beat.used_keys.push(key),
            Report::KeyUsed(_) => {}
        }
        match api.post(&format!("/internal/v1/gateways/{id}/heartbeat"), &beat).await {
            Ok(()) => beat.used_keys.clear(),
            Err(error) => tracing::debug!(%error, "the API did not take a heartbeat"),
        }
    }
}
