//! The provider's database: accounts, sessions, devices, and the revisions that gateways follow.

mod accounts;
mod devices;
mod feed;
mod sessions;

pub use accounts::{AccountRow, NewAccount};
pub use feed::{Feed, FeedKey, FeedPeer, Heartbeat};
pub use sessions::{ACCESS_S, IssuedTokens};

use anyhow::{Context, Result};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, Transaction};
use std::path::Path;
use std::time::Duration;

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS account(id TEXT PRIMARY KEY, number_hash BLOB NOT NULL UNIQUE, password_hash TEXT, paid_until INTEGER NOT NULL,
        expired INTEGER NOT NULL DEFAULT 0, device_limit INTEGER NOT NULL, addons TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS session(id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES account(id), created_at INTEGER NOT NULL,
        revoked INTEGER NOT NULL DEFAULT 0, generation INTEGER NOT NULL, used_generation INTEGER NOT NULL DEFAULT 0)",
    "CREATE TABLE IF NOT EXISTS token(hash BLOB PRIMARY KEY, session_id TEXT NOT NULL REFERENCES session(id) ON DELETE CASCADE,
        kind TEXT NOT NULL CHECK(kind IN('access','refresh')), generation INTEGER NOT NULL, expires_at INTEGER NOT NULL, replaced_at INTEGER)",
    "CREATE TABLE IF NOT EXISTS device(id TEXT PRIMARY KEY, account_id TEXT NOT NULL REFERENCES account(id), name TEXT NOT NULL, platform TEXT NOT NULL,
        ipv4 INTEGER NOT NULL UNIQUE, ipv6 TEXT NOT NULL UNIQUE, exit TEXT, created_at INTEGER NOT NULL, rotated_at INTEGER NOT NULL,
        idempotency_key TEXT, UNIQUE(account_id, idempotency_key))",
    "CREATE TABLE IF NOT EXISTS device_key(public_key TEXT PRIMARY KEY, device_id TEXT NOT NULL REFERENCES device(id) ON DELETE CASCADE,
        expires_at INTEGER)",
    "CREATE TABLE IF NOT EXISTS change(rev INTEGER PRIMARY KEY AUTOINCREMENT, device_id TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS gateway(id TEXT PRIMARY KEY, token_hash BLOB NOT NULL UNIQUE, seen_at INTEGER, load_pct REAL, throughput_bps INTEGER,
        bytes_total INTEGER)",
    "CREATE INDEX IF NOT EXISTS device_by_account ON device(account_id)",
    "CREATE INDEX IF NOT EXISTS key_by_device ON device_key(device_id)",
    "CREATE INDEX IF NOT EXISTS token_by_session ON token(session_id)",
];

/// Why the database says no.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No such account, or another password.
    #[error("the account number or password is wrong")]
    InvalidCredentials,
    /// The account has run out.
    #[error("the account has expired")]
    AccountExpired,
    /// Not a token that is good now.
    #[error("the token is unknown or has expired")]
    TokenExpired,
    /// The session was ended, or one of its tokens was used twice.
    #[error("the session was revoked")]
    SessionRevoked,
    /// The account has its maximum of devices.
    #[error("the account has its maximum number of devices")]
    DeviceLimit,
    /// The key is registered.
    #[error("this key belongs to a device")]
    KeyInUse,
    /// The same idempotency key came with another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyReuse,
    /// No such device in this account.
    #[error("no such device")]
    DeviceNotFound,
    /// All addresses are given out.
    #[error("no address is left")]
    PoolEmpty,
    /// The database failed.
    #[error("the database failed")]
    Backend(#[from] sqlx::Error),
}

/// The database. Several API processes may share one file.
#[derive(Clone)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens or creates the database file.
    ///
    /// # Errors
    /// When it cannot be opened or is no database.
    pub async fn open(path: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(5))
            .connect_with(options)
            .await
            .with_context(|| format!("open {}", path.display()))?;
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&pool).await.context("create the tables")?;
        }
        Ok(Self { pool })
    }

    /// Writes everything out and closes.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A transaction that may write: it takes the write lock at once instead of failing half-way.
    async fn write(&self) -> Result<Transaction<'static, Sqlite>, Refused> {
        Ok(self.pool.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// True when the database answers.
    pub async fn healthy(&self) -> bool {
        sqlx::query("SELECT count(*) FROM account").fetch_one(&self.pool).await.is_ok()
    }
}

/// Notes that gateways must look at a device again.
async fn changed(tx: &mut Transaction<'static, Sqlite>, device: &str) -> Result<(), Refused> {
    sqlx::query("INSERT INTO change(device_id) VALUES(?)").bind(device).execute(&mut **tx).await?;
    Ok(())
}
