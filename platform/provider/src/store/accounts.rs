//! Accounts and their passwords.

use super::{Refused, Store, changed};
use crate::keys::{random_id, token_hash};
use anyhow::{Context, Result};
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An account to create.
pub struct NewAccount {
    /// 16 digits; the account's name and, without a password, its only secret.
    pub number: String,
    /// Optional password.
    pub password: Option<String>,
    /// Seconds since 1970.
    pub paid_until: i64,
    /// Most devices.
    pub device_limit: u32,
    /// Booked extras.
    pub addons: Vec<String>,
}

/// An account as stored.
#[derive(Clone, Debug)]
pub struct AccountRow {
    /// Opaque id.
    pub id: String,
    /// Seconds since 1970.
    pub paid_until: i64,
    /// Argon2id in PHC form.
    pub password_hash: Option<String>,
    /// Most devices.
    pub device_limit: u32,
    /// Booked extras.
    pub addons: Vec<String>,
}

impl AccountRow {
    pub(super) fn read(row: &SqliteRow) -> Result<Self, Refused> {
        let addons: String = row.try_get("addons")?;
        Ok(Self {
            id: row.try_get("account_id")?,
            paid_until: row.try_get("paid_until")?,
            password_hash: row.try_get("password_hash")?,
            device_limit: row.try_get("device_limit")?,
            addons: addons.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
        })
    }

    /// True when it is not paid for at this time.
    #[must_use]
    pub const fn expired(&self, now: i64) -> bool {
        self.paid_until <= now
    }

    /// What the API shows.
    #[must_use]
    pub fn public(&self, now: i64) -> hamn_api::Account {
        let paid_until = OffsetDateTime::from_unix_timestamp(self.paid_until).ok().and_then(|time| time.format(&Rfc3339).ok());
        let status = if self.expired(now) { "expired" } else { "active" }.to_owned();
        hamn_api::Account {
            id: self.id.clone(),
            status,
            paid_until,
            device_limit: self.device_limit,
            addons: self.addons.clone(),
        }
    }

    /// Compares a password; slow on purpose, so call it off the executor's threads. An account without one accepts any.
    #[must_use]
    pub fn password_fits(&self, password: Option<&str>) -> bool {
        let Some(stored) = &self.password_hash else { return true };
        let Ok(hash) = PasswordHash::new(stored) else { return false };
        Argon2::default().verify_password(password.unwrap_or_default().as_bytes(), &hash).is_ok()
    }
}

/// Argon2id in PHC form.
///
/// # Errors
/// When the system has no random numbers.
pub fn hash_password(password: &str) -> Result<String> {
    let hash: PasswordHash = Argon2::default().hash_password(password.as_bytes()).ok().context("hash a password")?;
    Ok(hash.to_string())
}

impl Store {
    /// Creates an account.
    ///
    /// # Errors
    /// When the number exists or the database fails.
    pub async fn add_account(&self, account: &NewAccount) -> Result<String> {
        let id = random_id("acc");
        let password = account.password.as_deref().map(hash_password).transpose()?;
        sqlx::query("INSERT INTO account(id,number_hash,password_hash,paid_until,device_limit,addons) VALUES(?,?,?,?,?,?)")
            .bind(&id)
            .bind(token_hash(&account.number))
            .bind(password)
            .bind(account.paid_until)
            .bind(account.device_limit)
            .bind(account.addons.join(","))
            .execute(&self.pool)
            .await
            .context("add an account")?;
        Ok(id)
    }

    /// Finds an account by its number.
    ///
    /// # Errors
    /// `InvalidCredentials` when there is none.
    pub async fn account_by_number(&self, number: &str) -> Result<AccountRow, Refused> {
        let row =
            sqlx::query("SELECT id AS account_id,paid_until,password_hash,device_limit,addons FROM account WHERE number_hash=?")
                .bind(token_hash(number))
                .fetch_optional(&self.pool)
                .await?;
        AccountRow::read(&row.ok_or(Refused::InvalidCredentials)?)
    }

    /// Sets how long an account is paid; gateways follow within seconds, in both directions.
    ///
    /// # Errors
    /// `InvalidCredentials` when the account does not exist.
    pub async fn set_paid_until(&self, number: &str, paid_until: i64, now: i64) -> Result<(), Refused> {
        let account = self.account_by_number(number).await?;
        let mut tx = self.write().await?;
        sqlx::query("UPDATE account SET paid_until=?, expired=? WHERE id=?")
            .bind(paid_until)
            .bind(paid_until <= now)
            .bind(&account.id)
            .execute(&mut *tx)
            .await?;
        let devices = sqlx::query("SELECT id FROM device WHERE account_id=?").bind(&account.id).fetch_all(&mut *tx).await?;
        for device in devices {
            changed(&mut tx, device.try_get("id")?).await?;
        }
        Ok(tx.commit().await?)
    }
}
