//! Devices: one WireGuard key each (two while it is changed), a fixed pair of addresses, and an exit.

use super::{AccountRow, Refused, Store, changed};
use crate::keys::{derived_ipv6, random_id};
use hamn_api::{Device, NewDevice};
use hamn_core::key::PublicKey;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};
use std::net::{Ipv4Addr, Ipv6Addr};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The first address that a device can get; the ones before are the gateways' and the resolvers'.
const FIRST_V4: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 10);
/// The last one.
const LAST_V4: Ipv4Addr = Ipv4Addr::new(10, 64, 255, 254);
/// Both keys of a device work for this long, in seconds, unless the new one is used earlier.
pub const OVERLAP_S: i64 = 300;
/// A key is changed after this many seconds.
const ROTATE_S: i64 = 7 * 86_400;

const DEVICE: &str = "SELECT d.id,d.name,d.ipv4,d.ipv6,d.exit,d.created_at,d.rotated_at,k.public_key FROM device d
    JOIN device_key k ON k.device_id=d.id AND k.expires_at IS NULL WHERE d.account_id=?";

impl Store {
    /// Registers a device, or returns the one that the same idempotency key made.
    ///
    /// # Errors
    /// `AccountExpired`, `DeviceLimit`, `KeyInUse`, `IdempotencyReuse`, `PoolEmpty`.
    pub async fn add_device(
        &self,
        account: &AccountRow,
        new: &NewDevice,
        idempotency_key: Option<&str>,
        now: i64,
    ) -> Result<Device, Refused> {
        if account.expired(now) {
            return Err(Refused::AccountExpired);
        }
        let mut tx = self.write().await?;
        if let Some(key) = idempotency_key {
            let row = sqlx::query(concat_device(" AND d.idempotency_key=?"))
                .bind(&account.id)
                .bind(key)
                .fetch_optional(&mut *tx)
                .await?;
            if let Some(row) = row {
                let device = read_device(&row)?;
                return if device.wg_public_key == new.wg_public_key { Ok(device) } else { Err(Refused::IdempotencyReuse) };
            }
        }
        let count: u32 = sqlx::query("SELECT count(*) AS n FROM device WHERE account_id=?")
            .bind(&account.id)
            .fetch_one(&mut *tx)
            .await?
            .try_get("n")?;
        if count >= account.device_limit {
            return Err(Refused::DeviceLimit);
        }
        let id = random_id("dev");
        let ipv4 = free_ipv4(&mut tx).await?;
        sqlx::query(
            "INSERT INTO device(id,account_id,name,platform,ipv4,ipv6,created_at,rotated_at,idempotency_key) VALUES(?,?,?,?,?,?,?,?,?)",
        )
        .bind(&id)
        .bind(&account.id)
        .bind(&new.name)
        .bind(&new.platform)
        .bind(ipv4)
        .bind(derived_ipv6(&new.wg_public_key).to_string())
        .bind(now)
        .bind(now)
        .bind(idempotency_key)
        .execute(&mut *tx)
        .await
        // The only unique column that can collide here is the address derived from the key.
        .map_err(|error| if is_unique_violation(&error) { Refused::KeyInUse } else { error.into() })?;
        insert_key(&mut tx, &id, &new.wg_public_key).await?;
        changed(&mut tx, &id).await?;
        let device = device(&mut tx, account, &id).await?;
        tx.commit().await?;
        Ok(device)
    }

    /// All devices of an account, oldest first.
    ///
    /// # Errors
    /// `Backend`.
    pub async fn devices(&self, account: &AccountRow) -> Result<Vec<Device>, Refused> {
        let rows = sqlx::query(concat_device(" ORDER BY d.created_at,d.id")).bind(&account.id).fetch_all(&self.pool).await?;
        rows.iter().map(read_device).collect()
    }

    /// One device.
    ///
    /// # Errors
    /// `DeviceNotFound`.
    pub async fn device(&self, account: &AccountRow, id: &str) -> Result<Device, Refused> {
        let row = sqlx::query(concat_device(" AND d.id=?")).bind(&account.id).bind(id).fetch_optional(&self.pool).await?;
        read_device(&row.ok_or(Refused::DeviceNotFound)?)
    }

    /// Removes a device; gateways hear of it at once.
    ///
    /// # Errors
    /// `DeviceNotFound`.
    pub async fn remove_device(&self, account: &AccountRow, id: &str) -> Result<(), Refused> {
        let mut tx = self.write().await?;
        let done =
            sqlx::query("DELETE FROM device WHERE id=? AND account_id=?").bind(id).bind(&account.id).execute(&mut *tx).await?;
        if done.rows_affected() == 0 {
            return Err(Refused::DeviceNotFound);
        }
        changed(&mut tx, id).await?;
        Ok(tx.commit().await?)
    }

    /// Gives a device a new key; the one before stays good for `OVERLAP_S`. Sending the same key again changes nothing.
    ///
    /// # Errors
    /// `DeviceNotFound`, `AccountExpired`, `KeyInUse`.
    pub async fn rotate_key(&self, account: &AccountRow, id: &str, key: &PublicKey, now: i64) -> Result<Device, Refused> {
        if account.expired(now) {
            return Err(Refused::AccountExpired);
        }
        let mut tx = self.write().await?;
        let before = device(&mut tx, account, id).await?;
        if before.wg_public_key == *key {
            return Ok(before);
        }
        sqlx::query("DELETE FROM device_key WHERE device_id=? AND expires_at IS NOT NULL").bind(id).execute(&mut *tx).await?;
        sqlx::query("UPDATE device_key SET expires_at=? WHERE device_id=?")
            .bind(now.saturating_add(OVERLAP_S))
            .bind(id)
            .execute(&mut *tx)
            .await?;
        insert_key(&mut tx, id, key).await?;
        sqlx::query("UPDATE device SET rotated_at=? WHERE id=?").bind(now).bind(id).execute(&mut *tx).await?;
        changed(&mut tx, id).await?;
        let after = device(&mut tx, account, id).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Chooses the exit of a device; `None` is each server's default.
    ///
    /// # Errors
    /// `DeviceNotFound`.
    pub async fn set_exit(&self, account: &AccountRow, id: &str, exit: Option<&str>) -> Result<Device, Refused> {
        let mut tx = self.write().await?;
        device(&mut tx, account, id).await?;
        sqlx::query("UPDATE device SET exit=? WHERE id=?").bind(exit).bind(id).execute(&mut *tx).await?;
        changed(&mut tx, id).await?;
        let after = device(&mut tx, account, id).await?;
        tx.commit().await?;
        Ok(after)
    }
}

fn concat_device(rest: &'static str) -> sqlx::AssertSqlSafe<String> {
    // Both parts are constants of this file.
    sqlx::AssertSqlSafe(format!("{DEVICE}{rest}"))
}

async fn device(tx: &mut Transaction<'static, Sqlite>, account: &AccountRow, id: &str) -> Result<Device, Refused> {
    let row = sqlx::query(concat_device(" AND d.id=?")).bind(&account.id).bind(id).fetch_optional(&mut **tx).await?;
    read_device(&row.ok_or(Refused::DeviceNotFound)?)
}

async fn insert_key(tx: &mut Transaction<'static, Sqlite>, device: &str, key: &PublicKey) -> Result<(), Refused> {
    let insert = sqlx::query("INSERT INTO device_key(public_key,device_id) VALUES(?,?)").bind(key.to_string()).bind(device);
    match insert.execute(&mut **tx).await {
        Err(error) if is_unique_violation(&error) => Err(Refused::KeyInUse),
        other => Ok(other.map(drop)?),
    }
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

/// The address after the highest one, so that a freed address rests as long as possible; then the lowest gap.
async fn free_ipv4(tx: &mut Transaction<'static, Sqlite>) -> Result<u32, Refused> {
    let (first, last) = (FIRST_V4.to_bits(), LAST_V4.to_bits());
    let highest: Option<u32> = sqlx::query("SELECT max(ipv4) AS n FROM device").fetch_one(&mut **tx).await?.try_get("n")?;
    let Some(highest) = highest else { return Ok(first) };
    if highest < last {
        return Ok(highest.saturating_add(1));
    }
    let gap = "SELECT min(n) AS n FROM (SELECT ?1 AS n UNION SELECT ipv4+1 FROM device) WHERE n BETWEEN ?1 AND ?2
        AND NOT EXISTS(SELECT 1 FROM device WHERE ipv4=n)";
    sqlx::query(gap).bind(first).bind(last).fetch_one(&mut **tx).await?.try_get::<Option<u32>, _>("n")?.ok_or(Refused::PoolEmpty)
}

/// A stored value that cannot be read is a damaged database.
fn damaged<E: std::error::Error + Send + Sync + 'static>(error: E) -> Refused {
    Refused::Backend(sqlx::Error::Decode(Box::new(error)))
}

fn read_device(row: &SqliteRow) -> Result<Device, Refused> {
    let ipv4 = Ipv4Addr::from_bits(row.try_get("ipv4")?);
    let ipv6: Ipv6Addr = row.try_get::<&str, _>("ipv6")?.parse().map_err(damaged)?;
    let moment = |seconds: i64| OffsetDateTime::from_unix_timestamp(seconds).map_err(damaged)?.format(&Rfc3339).map_err(damaged);
    Ok(Device {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        wg_public_key: row.try_get::<&str, _>("public_key")?.parse().map_err(damaged)?,
        ipv4: std::net::IpAddr::from(ipv4).into(),
        ipv6: std::net::IpAddr::from(ipv6).into(),
        exit: row.try_get("exit")?,
        created_at: moment(row.try_get("created_at")?)?,
        key_rotate_after: Some(moment(row.try_get::<i64, _>("rotated_at")?.saturating_add(ROTATE_S))?),
    })
}
