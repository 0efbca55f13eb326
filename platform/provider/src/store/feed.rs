//! What gateways follow: revisions, peers, heartbeats, and the clean-up that time brings.

use super::{Refused, Store, changed};
use hamn_core::key::PublicKey;
use serde::{Deserialize, Serialize};
use sqlx::Row;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How many changes are kept; a gateway that is further behind gets everything.
const KEPT_CHANGES: i64 = 10_000;

/// The answer of `GET …/peers?since=`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// Pass this as `since` next time.
    pub revision: i64,
    /// True: `peers` is everything. False: `peers` and `removed` are changes.
    pub full: bool,
    /// Devices that may connect.
    pub peers: Vec<FeedPeer>,
    /// Ids of devices that may not (any more).
    pub removed: Vec<String>,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedPeer {
    /// Device id.
    pub device: String,
    /// Address inside the tunnel.
    pub ipv4: Ipv4Addr,
    /// Address inside the tunnel.
    pub ipv6: Ipv6Addr,
    /// Exit asked for.
    pub exit: Option<String>,
    /// One key, or two while it is changed.
    pub keys: Vec<FeedKey>,
}

/// One key of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedKey {
    /// The key.
    pub public_key: PublicKey,
    /// False for a key that is being replaced.
    pub current: bool,
}

/// Body of `POST …/heartbeat`. Sums only: nothing about single users leaves a gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// 0 to 100.
    #[serde(default)]
    pub load_pct: f64,
    /// bit/s in both directions.
    #[serde(default)]
    pub throughput_bps: u64,
    /// Bytes in both directions since the gateway started.
    #[serde(default)]
    pub bytes_total: u64,
    /// Peers with a handshake in the last three minutes.
    #[serde(default)]
    pub sessions: u64,
    /// New keys that have been used for the first time, so that the ones before can go.
    #[serde(default)]
    pub used_keys: Vec<PublicKey>,
}

impl Store {
    /// Sets the token of a gateway.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn set_gateway_token(&self, id: &str, hash: &[u8]) -> Result<(), Refused> {
        sqlx::query(
            "INSERT INTO gateway(id,token_hash) VALUES(?,?) ON CONFLICT(id) DO UPDATE SET token_hash=excluded.token_hash",
        )
        .bind(id)
        .bind(hash)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// True when the token belongs to this gateway.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn is_gateway(&self, id: &str, hash: &[u8]) -> Result<bool, Refused> {
        Ok(sqlx::query("SELECT 1 FROM gateway WHERE id=? AND token_hash=?")
            .bind(id)
            .bind(hash)
            .fetch_optional(&self.pool)
            .await?
            .is_some())
    }

    /// The newest revision.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn revision(&self) -> Result<i64, Refused> {
        Ok(sqlx::query("SELECT coalesce(max(rev),0) AS n FROM change").fetch_one(&self.pool).await?.try_get("n")?)
    }

    /// What a gateway that knows revision `since` must hear.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn feed(&self, since: i64, now: i64) -> Result<Feed, Refused> {
        // One read transaction: revision and peers belong together.
        let mut tx = self.pool.begin().await?;
        let row = sqlx::query("SELECT coalesce(max(rev),0) AS newest, coalesce(min(rev),0) AS oldest FROM change")
            .fetch_one(&mut *tx)
            .await?;
        let (revision, oldest): (i64, i64) = (row.try_get("newest")?, row.try_get("oldest")?);
        let full = since <= 0 || since > revision || since.saturating_add(1) < oldest;
        let rows = sqlx::query(
            "SELECT d.id,d.ipv4,d.ipv6,d.exit,k.public_key,k.expires_at IS NULL AS current FROM device d
             JOIN account a ON a.id=d.account_id AND a.paid_until>?1 JOIN device_key k ON k.device_id=d.id AND (k.expires_at IS NULL OR k.expires_at>?1)
             WHERE ?2 OR d.id IN(SELECT device_id FROM change WHERE rev>?3) ORDER BY d.id, current DESC",
        )
        .bind(now)
        .bind(full)
        .bind(since)
        .fetch_all(&mut *tx)
        .await?;
        let mut peers: BTreeMap<String, FeedPeer> = BTreeMap::new();
        for row in &rows {
            let device: String = row.try_get("id")?;
            let decode = |error: Box<dyn std::error::Error + Send + Sync>| Refused::Backend(sqlx::Error::Decode(error));
            let ipv6 = row.try_get::<&str, _>("ipv6")?.parse().map_err(|error| decode(Box::new(error)))?;
            let public_key = row.try_get::<&str, _>("public_key")?.parse().map_err(|error| decode(Box::new(error)))?;
            let exit = row.try_get("exit")?;
            let ipv4 = Ipv4Addr::from_bits(row.try_get("ipv4")?);
            let peer = peers.entry(device.clone()).or_insert_with(|| FeedPeer { device, ipv4, ipv6, exit, keys: Vec::new() });
            peer.keys.push(FeedKey { public_key, current: row.try_get("current")? });
        }
        let mut removed = Vec::new();
        if !full {
            for row in sqlx::query("SELECT DISTINCT device_id FROM change WHERE rev>?").bind(since).fetch_all(&mut *tx).await? {
                let device: String = row.try_get("device_id")?;
                if !peers.contains_key(&device) {
                    removed.push(device);
                }
            }
        }
        tx.commit().await?;
        Ok(Feed { revision, full, peers: peers.into_values().collect(), removed })
    }

    /// Stores a gateway's sums and lets go of keys whose successors are in use.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn heartbeat(&self, gateway: &str, beat: &Heartbeat, now: i64) -> Result<(), Refused> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE gateway SET seen_at=?, load_pct=?, throughput_bps=?, bytes_total=? WHERE id=?")
            .bind(now)
            .bind(beat.load_pct.clamp(0.0, 100.0))
            .bind(i64::try_from(beat.throughput_bps).unwrap_or(i64::MAX))
            .bind(i64::try_from(beat.bytes_total).unwrap_or(i64::MAX))
            .bind(gateway)
            .execute(&mut *tx)
            .await?;
        for key in beat.used_keys.iter().take(1000) {
            let row = sqlx::query("SELECT device_id FROM device_key WHERE public_key=? AND expires_at IS NULL")
                .bind(key.to_string())
                .fetch_optional(&mut *tx)
                .await?;
            let Some(row) = row else { continue };
            let device: String = row.try_get("device_id")?;
            let gone = sqlx::query("DELETE FROM device_key WHERE device_id=? AND expires_at IS NOT NULL")
                .bind(&device)
                .execute(&mut *tx)
                .await?;
            if gone.rows_affected() > 0 {
                changed(&mut tx, &device).await?;
            }
        }
        Ok(tx.commit().await?)
    }

    /// Loads of gateways that have ever reported; silent for 30 s means offline.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn loads(&self, now: i64) -> Result<BTreeMap<String, hamn_api::ServerLoad>, Refused> {
        let rows = sqlx::query("SELECT id,seen_at,load_pct,throughput_bps FROM gateway WHERE seen_at IS NOT NULL")
            .fetch_all(&self.pool)
            .await?;
        let mut loads = BTreeMap::new();
        for row in rows {
            let silent = row.try_get::<i64, _>("seen_at")?.saturating_add(30) < now;
            let load = hamn_api::ServerLoad {
                load_pct: row.try_get("load_pct")?,
                throughput_bps: row.try_get::<Option<i64>, _>("throughput_bps")?.and_then(|bps| u64::try_from(bps).ok()),
                state: Some(if silent { "offline" } else { "online" }.to_owned()),
            };
            loads.insert(row.try_get("id")?, load);
        }
        Ok(loads)
    }

    /// Lets accounts, keys and tokens run out. Returns true when gateways must hear of it.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn sweep(&self, now: i64) -> Result<bool, Refused> {
        let due = "SELECT EXISTS(SELECT 1 FROM device_key WHERE expires_at<=?1) OR EXISTS(SELECT 1 FROM account WHERE paid_until<=?1 AND NOT expired) AS due";
        if !sqlx::query(due).bind(now).fetch_one(&self.pool).await?.try_get::<bool, _>("due")? {
            return Ok(false);
        }
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO change(device_id) SELECT device_id FROM device_key WHERE expires_at<=?1
             UNION SELECT d.id FROM device d JOIN account a ON a.id=d.account_id WHERE a.paid_until<=?1 AND NOT a.expired",
        )
        .bind(now)
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM device_key WHERE expires_at<=?").bind(now).execute(&mut *tx).await?;
        sqlx::query("UPDATE account SET expired=1 WHERE paid_until<=? AND NOT expired").bind(now).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM token WHERE expires_at<=?").bind(now).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM change WHERE rev<=(SELECT max(rev) FROM change)-?").bind(KEPT_CHANGES).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(true)
    }
}
