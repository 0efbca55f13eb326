//! The client: which addresses to use, what to cache, when to refresh a session.

use crate::cache::Cache;
use crate::config::{Limits, Origin, ProviderConfig, tls_config};
use crate::error::ApiError;
use crate::list::{FetchedList, MAX_LIST, MAX_SIGNATURE, verify_list};
use crate::session::{ClientInfo, Credentials, LoginBody, RefreshBody, SaveSession, StoredSession, TokensAnswer};
use crate::throttle::Bucket;
use crate::transport::{Answer, Call, Candidate, PrepareSocket, Transport};
use crate::types::{Account, Device, Devices, IpAnswer, Loads, NewDevice, Session};
use bytes::Bytes;
use hamn_core::key::PublicKey;
use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Most bytes of any answer but the list.
const MAX_ANSWER: usize = 64 * 1024;
/// Most bytes of `GET /loads`: a few dozen bytes for each of 20 000 servers.
const MAX_LOADS: usize = 2 * 1024 * 1024;
/// Most addresses that are tried for one call.
const MAX_CANDIDATES: usize = 16;
/// Longest `Retry-After` that is believed.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(600);

/// A client of one provider. Share it in an `Arc`.
pub struct Client {
    config: ProviderConfig,
    origins: Vec<Arc<Origin>>,
    keys: Vec<minisign_verify::PublicKey>,
    transport: Transport,
    cache: Cache,
    bucket: Mutex<Bucket>,
    /// Call kinds that the provider asked us to leave alone, until when.
    resting: Mutex<HashMap<&'static str, Instant>>,
    list: Mutex<KnownList>,
    /// Held while a list is fetched, so that two callers ask once.
    fetching: tokio::sync::Mutex<()>,
    session: tokio::sync::Mutex<Option<StoredSession>>,
    save: Mutex<Option<SaveSession>>,
    check: Mutex<Option<CheckList>>,
}

/// Says whether a list that is signed can be used as a whole. One that cannot never replaces the last good one.
pub type CheckList = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// The last good list and the highest serial ever seen.
struct KnownList {
    list: Option<FetchedList>,
    etag: Option<String>,
    highest_serial: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    /// Reads the cache in `cache_dir` (created 0700 if missing) and connects to nothing. `prepare` sees every socket
    /// before it connects.
    ///
    /// # Errors
    /// `Config` when the configuration cannot be used, `Storage` when `cache_dir` cannot be created.
    pub fn new(config: ProviderConfig, cache_dir: PathBuf, prepare: PrepareSocket) -> Result<Self, ApiError> {
        Self::with_limits(config, cache_dir, prepare, Limits::default())
    }

    /// As `new`, with other limits.
    ///
    /// # Errors
    /// As `new`.
    pub fn with_limits(
        config: ProviderConfig,
        cache_dir: PathBuf,
        prepare: PrepareSocket,
        limits: Limits,
    ) -> Result<Self, ApiError> {
        let origins = config.origins()?.into_iter().map(Arc::new).collect();
        let keys = config.keys()?;
        let transport = Transport::new(tls_config(config.roots()?)?, prepare, limits);
        let cache = Cache::open(cache_dir).map_err(|error| ApiError::Storage(error.kind().to_string()))?;
        let known = known_list(&cache, &keys);
        Ok(Self {
            config,
            origins,
            keys,
            transport,
            cache,
            bucket: Mutex::new(Bucket::new(&limits, Instant::now())),
            resting: Mutex::default(),
            list: Mutex::new(known),
            fetching: tokio::sync::Mutex::default(),
            session: tokio::sync::Mutex::default(),
            save: Mutex::default(),
            check: Mutex::default(),
        })
    }

    /// Addresses that may have to be reachable in a blocked state: those of the configuration, those that the signed list
    /// names, and names resolved earlier. At most 16.
    #[must_use]
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self.candidates().into_iter().map(|candidate| candidate.address).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// The network is another one: addresses that failed may be tried again at once.
    pub fn network_changed(&self) {
        self.transport.memory(crate::throttle::Memory::forget_failures);
    }

    fn candidates(&self) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        let names = self.cache.read_names();
        for origin in &self.origins {
            let mut add = |address| found.push(Candidate { origin: Arc::clone(origin), address });
            if let Some(address) = origin.literal() {
                add(address);
            } else if self.config.addresses.is_empty() {
                names.get(&origin.host).into_iter().flatten().for_each(|ip| add(SocketAddr::new(*ip, origin.port)));
            } else {
                self.config.addresses.iter().copied().for_each(add);
            }
        }
        if let Some(list) = &lock(&self.list).list {
            let listed = list.api_addresses().into_iter();
            found.extend(listed.map(|(origin, address)| Candidate { origin: Arc::new(origin), address }));
        }
        let mut unique: Vec<Candidate> = Vec::new();
        for candidate in found {
            if unique.len() < MAX_CANDIDATES && !unique.contains(&candidate) {
                unique.push(candidate);
            }
        }
        unique
    }

    /// Asks the system's resolver once for the hosts of a configuration without addresses. A wrong answer leads to a
    /// certificate that does not fit, never to another provider.
    async fn resolve_names(&self) {
        let mut names = self.cache.read_names();
        for origin in self.origins.iter().filter(|origin| origin.literal().is_none()) {
            let lookup = tokio::net::lookup_host((origin.host.clone(), origin.port));
            if let Ok(Ok(found)) = tokio::time::timeout(Duration::from_secs(5), lookup).await {
                names.insert(origin.host.clone(), found.map(|address| address.ip()).take(MAX_CANDIDATES).collect());
            }
        }
        if let Err(error) = self.cache.write_names(&names) {
            tracing::warn!(%error, "resolved addresses of the provider could not be stored");
        }
    }

    async fn send(&self, kind: &'static str, call: Call) -> Result<Answer, ApiError> {
        let sent = self.send_where(kind, call, |_| true).await?;
        sent.ok_or_else(|| ApiError::Unreachable("no address is known".to_owned()))
    }

    /// One call to an address that `fits`: token bucket, `Retry-After` of an earlier answer, addresses, transport. `None`
    /// when the provider has addresses and none of them fits.
    async fn send_where(
        &self,
        kind: &'static str,
        call: Call,
        fits: impl Fn(SocketAddr) -> bool,
    ) -> Result<Option<Answer>, ApiError> {
        let now = Instant::now();
        if let Some(until) = lock(&self.resting).get(kind).filter(|until| **until > now) {
            return Err(ApiError::Throttled { retry_after_s: until.duration_since(now).as_secs().saturating_add(1) });
        }
        lock(&self.bucket).take(now).map_err(|wait| ApiError::Throttled { retry_after_s: wait.as_secs().saturating_add(1) })?;
        if self.candidates().is_empty() {
            self.resolve_names().await;
        }
        let known = self.candidates();
        let candidates: Vec<Candidate> = known.iter().filter(|candidate| fits(candidate.address)).cloned().collect();
        if candidates.is_empty() && !known.is_empty() {
            return Ok(None);
        }
        let result = self.transport.send(candidates, &call).await;
        if let Err(ApiError::Problem(problem)) = &result
            && let Some(seconds) = problem.retry_after_s
            && matches!(problem.status, 429 | 503)
        {
            lock(&self.resting).insert(kind, now + Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
        }
        result.map(Some)
    }

    /// The server list: unchanged, fresh, or the last good one when no better can be had (then `problem` says why).
    ///
    /// # Errors
    /// Only when there is no good list on disk either.
    pub async fn server_list(&self, now_unix: i64) -> Result<FetchedList, ApiError> {
        let _one_at_a_time = self.fetching.lock().await;
        match self.fetch_list(now_unix).await {
            Ok(list) => Ok(list),
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "no fresh server list");
                let known = lock(&self.list);
                known.list.as_ref().map(|list| list.seen_at(now_unix, true, Some(error.clone()))).ok_or(error)
            }
        }
    }

    /// The last good list, without asking anybody.
    #[must_use]
    pub fn cached_list(&self, now_unix: i64) -> Option<FetchedList> {
        lock(&self.list).list.as_ref().map(|list| list.seen_at(now_unix, true, None))
    }

    /// Takes a signed list from elsewhere (the installer ships one) unless it is older than one seen before.
    ///
    /// # Errors
    /// `BadSignature`, `BadList`, `Rollback` or `Storage`.
    pub fn seed_list(&self, list: Bytes, minisig: &str, now_unix: i64) -> Result<FetchedList, ApiError> {
        self.accept_list(list, minisig, None, now_unix)
    }

    async fn fetch_list(&self, now_unix: i64) -> Result<FetchedList, ApiError> {
        let etag = {
            let known = lock(&self.list);
            known.list.as_ref().and(known.etag.clone())
        };
        let mut result = Err(ApiError::BadSignature);
        // A list signed between the two requests looks like a bad signature: ask for the pair once more.
        for if_none_match in [etag, None] {
            let answer = self.send("list", Call { if_none_match, ..Call::get("/v1/servers", MAX_LIST) }).await?;
            if answer.status == StatusCode::NOT_MODIFIED {
                return self.cached_list(now_unix).ok_or(ApiError::NotJson);
            }
            let signature = self.send("list", Call::get("/v1/servers.minisig", MAX_SIGNATURE)).await?;
            let minisig = std::str::from_utf8(&signature.body).map_err(|_| ApiError::BadSignature)?;
            result = self.accept_list(answer.body, minisig, answer.etag.as_deref(), now_unix);
            if !matches!(result, Err(ApiError::BadSignature)) {
                break;
            }
        }
        result
    }

    fn accept_list(&self, bytes: Bytes, minisig: &str, etag: Option<&str>, now_unix: i64) -> Result<FetchedList, ApiError> {
        let list = verify_list(&self.keys, bytes, minisig)?;
        let check = lock(&self.check).clone();
        if !check.is_none_or(|check| check(&list.bytes)) {
            return Err(ApiError::BadList("nothing in it can be used"));
        }
        let mut known = lock(&self.list);
        let same_serial_other_bytes = known.list.as_ref().is_some_and(|old| old.serial == list.serial && old.bytes != list.bytes);
        if list.serial < known.highest_serial || same_serial_other_bytes {
            return Err(ApiError::Rollback { seen: known.highest_serial, offered: list.serial });
        }
        let stored = self.cache.write_list(etag, minisig, &list.bytes).and_then(|()| self.cache.write_serial(list.serial));
        if let Err(error) = stored {
            tracing::warn!(%error, "the server list could not be stored");
        }
        *known = KnownList { etag: etag.map(str::to_owned), highest_serial: list.serial, list: Some(list.clone()) };
        Ok(list.seen_at(now_unix, false, None))
    }

    /// Load of each server; unsigned, for ranking only.
    ///
    /// # Errors
    /// Any transport error.
    pub async fn loads(&self) -> Result<Loads, ApiError> {
        json(&self.send("loads", Call::get("/v1/loads", MAX_LOADS)).await?)
    }

    /// How the provider sees this connection: inside the tunnel this tells whether the tunnel carries it.
    ///
    /// # Errors
    /// Any transport error.
    pub async fn ip(&self) -> Result<IpAnswer, ApiError> {
        json(&self.send("ip", Call::get("/v1/ip", MAX_ANSWER)).await?)
    }

    /// How the provider sees a connection over IPv6, or over IPv4. `None` when it has no address of that family.
    ///
    /// # Errors
    /// Any transport error.
    pub async fn ip_over(&self, ipv6: bool) -> Result<Option<IpAnswer>, ApiError> {
        let answer = self.send_where("ip", Call::get("/v1/ip", MAX_ANSWER), |address| address.is_ipv6() == ipv6).await?;
        answer.as_ref().map(json).transpose()
    }

    /// A further check of every list whose signature is good, before it is taken or stored.
    pub fn on_list(&self, check: CheckList) {
        *lock(&self.check) = Some(check);
    }

    /// Where sessions are stored: called after login, refresh, logout and revocation.
    pub fn on_session(&self, save: SaveSession) {
        *lock(&self.save) = Some(save);
    }

    /// Takes up a session stored earlier.
    pub async fn restore(&self, session: StoredSession) {
        *self.session.lock().await = Some(session);
    }

    /// True when there is a session (it may have been revoked since).
    pub async fn is_logged_in(&self) -> bool {
        self.session.lock().await.is_some()
    }

    /// Logs in; the tokens are stored by the hook of [`Client::on_session`].
    ///
    /// # Errors
    /// `Problem` with `invalid_credentials`, `account_expired` or `rate_limited`; any transport error.
    pub async fn login(&self, credentials: &Credentials, platform: &str) -> Result<Session, ApiError> {
        let account: Zeroizing<String> =
            Zeroizing::new(credentials.account.reveal().chars().filter(|c| !c.is_whitespace() && *c != '-').collect());
        let body = LoginBody {
            account: &account,
            password: credentials.password.as_ref().map(crate::session::Token::reveal),
            otp: credentials.otp.as_ref().map(crate::session::Token::reveal),
            client: ClientInfo { name: "hamn", version: env!("CARGO_PKG_VERSION"), platform },
        };
        let mut session = self.session.lock().await;
        let answer = self.send("login", post("/v1/sessions", secret_body(&body)?)).await?;
        let (stored, about) = json::<TokensAnswer>(&answer)?.split();
        self.keep(&mut session, Some(stored))?;
        Ok(about)
    }

    /// Gets new tokens now. Calls that need a session do this by themselves when the access token has run out.
    ///
    /// # Errors
    /// `Problem` with `token_expired` or `session_revoked` (the session is then forgotten), `NotLoggedIn`, any transport error.
    pub async fn refresh(&self) -> Result<Session, ApiError> {
        let mut session = self.session.lock().await;
        self.refresh_locked(&mut session).await
    }

    /// Ends the session at the provider and forgets it here, even when the provider cannot be told.
    ///
    /// # Errors
    /// What telling the provider met; the session is forgotten all the same.
    pub async fn logout(&self) -> Result<(), ApiError> {
        let told =
            self.authorised("logout", Call { method: Method::DELETE, ..Call::get("/v1/sessions/current", MAX_ANSWER) }).await;
        let mut session = self.session.lock().await;
        self.keep(&mut session, None)?;
        told.map(|_| ())
    }

    /// The account of the session.
    ///
    /// # Errors
    /// `NotLoggedIn`, `Problem`, any transport error.
    pub async fn account(&self) -> Result<Account, ApiError> {
        json(&self.authorised("account", Call::get("/v1/account", MAX_ANSWER)).await?)
    }

    /// All devices of the account.
    ///
    /// # Errors
    /// As `account`.
    pub async fn devices(&self) -> Result<Vec<Device>, ApiError> {
        Ok(json::<Devices>(&self.authorised("devices", Call::get("/v1/devices", MAX_ANSWER)).await?)?.items)
    }

    /// One device; `device_not_found` means that it was revoked.
    ///
    /// # Errors
    /// As `account`.
    pub async fn device(&self, id: &str) -> Result<Device, ApiError> {
        json(&self.authorised("devices", Call::get(device_path(id, "")?, MAX_ANSWER)).await?)
    }

    /// Registers a key. The same `idempotency_key` may be sent again after a crash or a lost answer (KEY-03).
    ///
    /// # Errors
    /// `Problem` with `device_limit_reached` or `public_key_in_use`; as `account`.
    pub async fn add_device(
        &self,
        key: PublicKey,
        name: &str,
        platform: &str,
        idempotency_key: &str,
    ) -> Result<Device, ApiError> {
        let body = NewDevice { name: name.to_owned(), wg_public_key: key, platform: platform.to_owned() };
        let call = Call { idempotency_key: Some(idempotency_key.to_owned()), ..post("/v1/devices", plain_body(&body)?) };
        json(&self.authorised("devices", call).await?)
    }

    /// Removes a device; gateways drop its key within seconds.
    ///
    /// # Errors
    /// As `account`.
    pub async fn remove_device(&self, id: &str) -> Result<(), ApiError> {
        let call = Call { method: Method::DELETE, ..Call::get(device_path(id, "")?, MAX_ANSWER) };
        self.authorised("devices", call).await.map(|_| ())
    }

    /// Registers a new key for a device. Both keys work until the new one's first handshake, at most 5 minutes.
    ///
    /// # Errors
    /// As `add_device`.
    pub async fn rotate_key(&self, id: &str, new_key: PublicKey) -> Result<Device, ApiError> {
        let body = plain_body(&serde_json::json!({ "wg_public_key": new_key }))?;
        let call = Call { method: Method::PUT, body: Some(body), ..Call::get(device_path(id, "/wireguard-key")?, MAX_ANSWER) };
        json(&self.authorised("devices", call).await?)
    }

    /// Asks for an exit on servers that have several; `None` means each server's default (row O17).
    ///
    /// # Errors
    /// As `account`.
    pub async fn set_exit(&self, id: &str, exit: Option<&str>) -> Result<Device, ApiError> {
        let body = plain_body(&serde_json::json!({ "exit": exit }))?;
        let call = Call { method: Method::PUT, body: Some(body), ..Call::get(device_path(id, "/exit")?, MAX_ANSWER) };
        json(&self.authorised("devices", call).await?)
    }

    /// Sends with the access token; refreshes once when it has run out.
    async fn authorised(&self, kind: &'static str, mut call: Call) -> Result<Answer, ApiError> {
        let used = self.session.lock().await.as_ref().map(|session| session.access.clone()).ok_or(ApiError::NotLoggedIn)?;
        let again = Call {
            method: call.method.clone(),
            path: call.path.clone(),
            body: call.body.clone(),
            bearer: None,
            idempotency_key: call.idempotency_key.clone(),
            if_none_match: None,
            limit: call.limit,
        };
        call.bearer = Some(used.clone());
        match self.send(kind, call).await {
            Err(ApiError::Problem(problem)) if problem.status == 401 => {
                let mut session = self.session.lock().await;
                // Another caller may have refreshed in the meantime.
                if session.as_ref().is_some_and(|session| session.access.reveal() == used.reveal()) {
                    self.refresh_locked(&mut session).await?;
                }
                let fresh = session.as_ref().map(|session| session.access.clone()).ok_or(ApiError::NotLoggedIn)?;
                drop(session);
                self.send(kind, Call { bearer: Some(fresh), ..again }).await
            }
            other => other,
        }
    }

    async fn refresh_locked(&self, session: &mut Option<StoredSession>) -> Result<Session, ApiError> {
        let refresh = session.as_ref().map(|session| session.refresh.clone()).ok_or(ApiError::NotLoggedIn)?;
        let body = secret_body(&RefreshBody { refresh_token: refresh.reveal() })?;
        match self.send("refresh", post("/v1/sessions/refresh", body)).await {
            Ok(answer) => {
                let (stored, about) = json::<TokensAnswer>(&answer)?.split();
                self.keep(session, Some(stored))?;
                Ok(about)
            }
            Err(error) => {
                if matches!(&error, ApiError::Problem(problem) if problem.status == 401) {
                    self.keep(session, None)?;
                }
                Err(error)
            }
        }
    }

    /// Memory first: tokens that could not be stored are still good until the next restart.
    fn keep(&self, session: &mut Option<StoredSession>, new: Option<StoredSession>) -> Result<(), ApiError> {
        *session = new;
        let save = lock(&self.save).clone();
        save.map_or(Ok(()), |save| save(session.as_ref())).map_err(|error| ApiError::Storage(error.kind().to_string()))
    }
}

/// Reads and verifies what an earlier run left. A list that does not verify is treated as absent; the serial still counts.
fn known_list(cache: &Cache, keys: &[minisign_verify::PublicKey]) -> KnownList {
    let read = cache.read_list();
    let etag = read.as_ref().and_then(|cached| cached.etag.clone());
    let list = read.and_then(|cached| verify_list(keys, cached.list, &cached.minisig).ok());
    let highest_serial = cache.read_serial().max(list.as_ref().map_or(0, |list| list.serial));
    KnownList { list, etag, highest_serial }
}

fn json<T: DeserializeOwned>(answer: &Answer) -> Result<T, ApiError> {
    serde_json::from_slice(&answer.body).map_err(|_| ApiError::NotJson)
}

fn post(path: &str, body: Bytes) -> Call {
    Call { method: Method::POST, body: Some(body), ..Call::get(path, MAX_ANSWER) }
}

fn plain_body<T: Serialize>(body: &T) -> Result<Bytes, ApiError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|_| ApiError::NotJson)
}

/// The bytes are wiped when the request is gone.
fn secret_body<T: Serialize>(body: &T) -> Result<Bytes, ApiError> {
    serde_json::to_vec(body).map(|bytes| Bytes::from_owner(Zeroizing::new(bytes))).map_err(|_| ApiError::NotJson)
}

/// Ids come from the provider: only characters that need no escaping may become part of a path.
fn device_path(id: &str, rest: &str) -> Result<String, ApiError> {
    let plain = (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if plain { Ok(format!("/v1/devices/{id}{rest}")) } else { Err(ApiError::NotJson) }
}
