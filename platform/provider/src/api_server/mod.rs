//! The provider's HTTP API: state, routes, and what every answer has in common.

mod devices;
mod internal;
mod limits;
mod problem;
mod public;
mod serve;
mod sessions;

pub use limits::LoginLimits;
pub use problem::Refusal;
pub use serve::{Peer, serve, tls_acceptor};

use crate::list::SignedList;
use crate::store::{AccountRow, Store};
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts};
use axum::http::{HeaderValue, header, request::Parts};
use axum::middleware;
use axum::routing::{delete, get, post, put};
use limits::{AccountLimiter, LoginLimiter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};

/// Largest body that is read.
const MAX_BODY: usize = 64 * 1024;

/// What all handlers share.
pub struct App {
    /// The database.
    pub store: Store,
    dir: PathBuf,
    list: RwLock<Arc<SignedList>>,
    logins: Mutex<LoginLimiter>,
    accounts: Mutex<AccountLimiter>,
    /// Argon2 takes 19 MiB each: two at a time.
    hashing: Semaphore,
    /// Grows when this process changed something that gateways follow.
    changes: watch::Sender<u64>,
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    /// Opens the provider in `dir`, as `init` made it.
    ///
    /// # Errors
    /// When database or signed list cannot be read.
    pub async fn open(dir: &Path, logins: LoginLimits) -> Result<Arc<Self>> {
        let store = Store::open(&dir.join("provider.db")).await?;
        let list = SignedList::read(dir).context("no signed list; run `sign-list`")?;
        Ok(Arc::new(Self {
            store,
            dir: dir.to_owned(),
            list: RwLock::new(Arc::new(list)),
            logins: Mutex::new(LoginLimiter::new(logins)),
            accounts: Mutex::default(),
            hashing: Semaphore::new(2),
            changes: watch::Sender::new(0),
        }))
    }

    /// Tells waiting gateways to look again.
    pub fn notify_gateways(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn list(&self) -> Arc<SignedList> {
        Arc::clone(&self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up a newly signed list, if there is one that fits its signature.
    pub fn reload_list(&self) {
        if let Ok(fresh) = SignedList::read(&self.dir)
            && fresh.etag != self.list().etag
        {
            *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        }
    }

    /// Once a second: new list, accounts and keys that ran out. Runs until dropped.
    pub async fn housekeeping(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let app = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || app.reload_list()).await;
            match self.store.sweep(now()).await {
                Ok(true) => self.notify_gateways(),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "accounts and keys that ran out could not be cleaned up"),
            }
        }
    }
}

/// Public routes; `openapi.json` describes them (a test compares).
pub fn public_router(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/v1/servers", get(public::servers))
        .route("/v1/servers.minisig", get(public::signature))
        .route("/v1/loads", get(public::loads))
        .route("/v1/config", get(public::config))
        .route("/v1/ip", get(public::ip))
        .route("/v1/openapi.json", get(public::openapi))
        .route("/v1/sessions", post(sessions::login))
        .route("/v1/sessions/refresh", post(sessions::refresh))
        .route("/v1/sessions/current", delete(sessions::logout))
        .route("/v1/account", get(sessions::account))
        .route("/v1/devices", get(devices::list).post(devices::add))
        .route("/v1/devices/{id}", get(devices::one).delete(devices::remove))
        .route("/v1/devices/{id}/wireguard-key", put(devices::rotate))
        .route("/v1/devices/{id}/exit", put(devices::set_exit))
        .route("/healthz", get(public::healthz))
        .with_state(app);
    in_common(routes, Duration::from_secs(10))
}

/// Routes for gateways, on a listener of their own.
pub fn internal_router(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/internal/v1/gateways/{id}/peers", get(internal::peers))
        .route("/internal/v1/gateways/{id}/heartbeat", post(internal::heartbeat))
        .with_state(app);
    in_common(routes, internal::LONG_POLL + Duration::from_secs(10))
}

fn in_common(routes: Router, limit: Duration) -> Router {
    routes
        .fallback(|| async { Refusal::NOT_FOUND })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(problem::describe_errors))
        .layer(middleware::from_fn(move |request, next| problem::contain(limit, request, next)))
}

/// The caller of a request with a good access token.
pub struct Caller {
    /// Whose token it is.
    pub account: AccountRow,
    /// Of which session.
    pub session: String,
}

/// The token of an `Authorization: Bearer` header.
fn bearer(parts: &Parts) -> Option<&str> {
    parts
        .headers
        .get(header::AUTHORIZATION)
        .map(HeaderValue::to_str)?
        .ok()?
        .strip_prefix("Bearer ")
        .filter(|token| token.len() <= 128)
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let token = bearer(parts).ok_or(Refusal::UNAUTHORIZED)?;
        let (account, session) = app.store.authenticate(token, now()).await?;
        lock(&app.accounts).take(&account.id).map_err(Refusal::rate_limited)?;
        Ok(Self { account, session })
    }
}
