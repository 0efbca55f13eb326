//! The provider as the helper uses it: session, server list, loads and past quality. The device is in `device`.

use crate::clock;
use crate::store::Store;
use crate::store::secrets::SecretName;
use hamn_api::{ApiError, Client, FetchedList};
use hamn_core::event::TunnelEvent;
use hamn_core::net::Endpoint;
use hamn_core::server::{self, ListRules, Loads, Quality, ServerList};
use hamn_core::state::BlockReason;
use hamn_core::time::Now;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

/// Loads that are older say nothing of how full a server is.
const LOADS_LIFE_MS: u64 = 3_600_000;
const LOADS_LIFE_S: i64 = 3_600;
/// How often list and loads are refreshed.
const REFRESH_INTERVAL: Duration = Duration::from_secs(15 * 60);
/// After a refresh that failed; doubled up to the interval.
const REFRESH_RETRY: Duration = Duration::from_secs(60);
/// How many failed servers are passed over.
const MAX_AVOIDED: usize = 8;

/// The list in use, with the newest loads.
pub(crate) struct ListInUse {
    pub(crate) list: ServerList,
    loads: Loads,
    loads_at_ms: u64,
}

impl ListInUse {
    /// It has expired. It is used all the same until there is a fresher one (G17).
    pub(crate) const fn stale(&self, now_unix_s: i64) -> bool {
        self.list.expires_at_unix_s <= now_unix_s
    }

    /// The loads, or none when they are old.
    pub(crate) fn loads(&self, now: Now) -> Loads {
        if now.monotonic_ms.saturating_sub(self.loads_at_ms) < LOADS_LIFE_MS { self.loads.clone() } else { Loads::default() }
    }
}

struct Memory {
    list: Option<Arc<ListInUse>>,
    quality: Quality,
    /// Servers that failed since the last success, oldest first.
    failed: Vec<String>,
    refresh_at: Instant,
    refresh_failures: u32,
}

/// The provider side of the helper.
pub struct Provider {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) store: Store,
    logged_in: Arc<AtomicBool>,
    /// Session or list are others: the status says something else.
    changed: Arc<Notify>,
    memory: Arc<Mutex<Memory>>,
    /// Held while what was learnt is written, so that an older record never lands over a newer one.
    writing: Arc<Mutex<()>>,
    refreshing: tokio::sync::Mutex<()>,
    pub(crate) device: crate::device::Registration,
}

impl Provider {
    /// Restores session, list and quality from disk; asks nobody.
    pub async fn open(client: Client, url: String, store: Store) -> Self {
        let (logged_in, changed) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        if let Ok(Some(bytes)) = store.read_secret_bytes(&SecretName::Session) {
            match hamn_api::StoredSession::from_json(&bytes) {
                Some(session) => {
                    client.restore(session).await;
                    logged_in.store(true, Ordering::Release);
                }
                None => warn!("the stored session is damaged: log in again"),
            }
        }
        client.on_session(save_session(&store, &logged_in, &changed));
        client.on_list(Arc::new(|bytes| server::parse(bytes, &ListRules::default()).is_ok()));
        let memory = Memory {
            list: None,
            quality: store.read_state("quality.json").unwrap_or_default(),
            failed: Vec::new(),
            refresh_at: Instant::now(),
            refresh_failures: 0,
        };
        let device = crate::device::Registration::open(&store);
        let refreshing = tokio::sync::Mutex::default();
        let (memory, writing) = (Arc::new(Mutex::new(memory)), Arc::default());
        let provider = Self { client, url, store, logged_in, changed, memory, writing, refreshing, device };
        if let Some(cached) = provider.client.cached_list(clock::now().unix_s) {
            provider.take_list(&cached);
        }
        provider
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// API addresses for the policy of blocked states.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.client.endpoints().into_iter().map(Endpoint::tcp).collect()
    }

    /// The network is another one: what failed may be tried again at once.
    pub fn network_changed(&self) {
        self.client.network_changed();
        let mut memory = self.memory();
        if memory.refresh_failures > 0 {
            memory.refresh_failures = 0;
            memory.refresh_at = Instant::now();
        }
    }

    /// Notified when the status may say something else.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// There is a session, as far as is known.
    pub(crate) fn logged_in(&self) -> bool {
        self.logged_in.load(Ordering::Acquire)
    }

    pub(crate) fn list(&self) -> Option<Arc<ListInUse>> {
        self.memory().list.clone()
    }

    pub(crate) fn quality_and_failed(&self) -> (Quality, Vec<String>) {
        let memory = self.memory();
        (memory.quality.clone(), memory.failed.clone())
    }

    fn take_list(&self, fetched: &FetchedList) {
        if self.list().is_some_and(|known| known.list.serial == fetched.serial) {
            return;
        }
        match server::parse(&fetched.bytes, &ListRules::default()) {
            Ok(parsed) => {
                if parsed.rejected_count > 0 {
                    warn!(rejected = parsed.rejected_count, first = ?parsed.rejected.first(), "entries of the server list were left out");
                }
                let mut memory = self.memory();
                let (loads, loads_at_ms) =
                    memory.list.as_ref().map(|old| (old.loads.clone(), old.loads_at_ms)).unwrap_or_default();
                memory.list = Some(Arc::new(ListInUse { list: parsed.list, loads, loads_at_ms }));
            }
            Err(error) => warn!(%error, serial = fetched.serial, "the server list cannot be used; the last good one stays"),
        }
    }

    /// True when list and loads should be fetched again. Asking takes the turn: the next one comes after an interval.
    pub(crate) fn refresh_is_due(&self) -> bool {
        let (mut memory, now) = (self.memory(), Instant::now());
        let due = memory.refresh_at <= now;
        if due {
            memory.refresh_at = now + REFRESH_INTERVAL;
        }
        due
    }

    /// Fetches list and loads; whatever fails leaves what was there (G17). Does nothing while another one does it.
    pub async fn refresh(&self, now_unix_s: i64) {
        let Ok(_turn) = self.refreshing.try_lock() else { return };
        let list = self.client.server_list(now_unix_s).await;
        let failed = list.as_ref().map_or_else(|error| Some(error.clone()), |fetched| fetched.problem.clone());
        match &list {
            Ok(fetched) => self.take_list(fetched),
            Err(error) => info!(code = error.code(), "no fresh server list: {error}"),
        }
        // An API that gave no list is not asked for more.
        if failed.is_none() {
            self.refresh_loads(now_unix_s).await;
        }
        {
            let mut memory = self.memory();
            memory.refresh_failures = if failed.is_some() { memory.refresh_failures.saturating_add(1) } else { 0 };
            let retry = REFRESH_RETRY.saturating_mul(1 << memory.refresh_failures.saturating_sub(1).min(4));
            memory.refresh_at = Instant::now() + if failed.is_some() { retry.min(REFRESH_INTERVAL) } else { REFRESH_INTERVAL };
        }
        self.changed.notify_one();
    }

    async fn refresh_loads(&self, now_unix_s: i64) {
        let Some(in_use) = self.list() else { return };
        let loads = match self.client.loads().await {
            Ok(loads) => loads,
            Err(error) => return info!(code = error.code(), "no fresh loads: {error}"),
        };
        // A time that cannot be read is the time of arrival.
        let made = OffsetDateTime::parse(&loads.generated_at, &Rfc3339).map_or(now_unix_s, OffsetDateTime::unix_timestamp);
        if now_unix_s.saturating_sub(made) >= LOADS_LIFE_S {
            return info!("the provider's loads are old and left out");
        }
        let parsed = serde_json::to_vec(&loads).ok().and_then(|bytes| Loads::parse(&bytes, &in_use.list).ok());
        if let Some(loads) = parsed {
            let loads_at_ms = clock::now().monotonic_ms;
            self.memory().list = Some(Arc::new(ListInUse { list: in_use.list.clone(), loads, loads_at_ms }));
        }
    }

    /// The list, fetched now when there is none.
    pub(crate) async fn list_or_fetch(&self, now_unix_s: i64) -> Result<Arc<ListInUse>, BlockReason> {
        if let Some(list) = self.list() {
            return Ok(list);
        }
        let fetched = self.client.server_list(now_unix_s).await.map_err(|error| {
            warn!(code = error.code(), "no server list: {error}");
            error.block_reason()
        })?;
        self.take_list(&fetched);
        self.list().ok_or(BlockReason::ApiUnreachable)
    }

    /// What a tunnel said about a server. The files are written later: a slow disk delays no connection.
    pub(crate) fn learn(&self, server: &str, event: &TunnelEvent, round_trip_ms: Option<u32>) {
        let now = clock::now().unix_s;
        let mut memory = self.memory();
        let verified = match event {
            TunnelEvent::Verified => {
                memory.quality.succeeded(server, 0, now);
                if let Some(round_trip_ms) = round_trip_ms {
                    memory.quality.answered_after(server, round_trip_ms, now);
                }
                memory.failed.clear();
                true
            }
            TunnelEvent::Failed(_) => {
                memory.quality.failed(server, now);
                memory.failed.retain(|known| known != server);
                memory.failed.push(server.to_owned());
                if memory.failed.len() > MAX_AVOIDED {
                    memory.failed.remove(0);
                }
                false
            }
            TunnelEvent::Stalled | TunnelEvent::Recovered => return,
        };
        drop(memory);
        self.write_quality(verified);
    }

    /// How long the server of the tunnel took to answer. Where a resolver answers first, nobody knows it yet when the tunnel comes up.
    pub(crate) fn measured(&self, server: &str, round_trip_ms: u32) {
        self.memory().quality.answered_after(server, round_trip_ms, clock::now().unix_s);
        self.write_quality(false);
    }

    fn write_quality(&self, verified: bool) {
        let now = clock::now().unix_s;
        let (memory, writing, store) = (self.memory.clone(), self.writing.clone(), self.store.clone());
        tokio::task::spawn_blocking(move || {
            let _writing = writing.lock().unwrap_or_else(PoisonError::into_inner);
            let quality = memory.lock().unwrap_or_else(PoisonError::into_inner).quality.clone();
            let verified = if verified { store.write_state("last_verified.json", &now) } else { Ok(()) };
            if let Err(error) = verified.and_then(|()| store.write_state("quality.json", &quality)) {
                warn!("{error:#}");
            }
        });
    }

    /// True when the wall clock lies before the last time a tunnel of this device worked.
    pub(crate) fn clock_went_back(&self, now_unix_s: i64) -> bool {
        self.store.read_state::<i64>("last_verified.json").is_some_and(|last| now_unix_s < last)
    }

    /// From here on a tunnel of this device has no past under another clock.
    pub(crate) fn clock_is_as_it_is(&self, now_unix_s: i64) {
        if let Err(error) = self.store.write_state("last_verified.json", &now_unix_s) {
            warn!("{error:#}");
        }
    }

    /// Forgets that there is a session. The client has forgotten it, or could not write that down.
    pub(crate) fn forget_session(&self) -> anyhow::Result<()> {
        self.logged_in.store(false, Ordering::Release);
        self.changed.notify_one();
        self.store.remove_secret(&SecretName::Session)
    }
}

/// Stores sessions as they come and go, and keeps `logged_in` true to them: a session that the provider ended is gone.
fn save_session(store: &Store, logged_in: &Arc<AtomicBool>, changed: &Arc<Notify>) -> hamn_api::SaveSession {
    let (store, logged_in, changed) = (store.clone(), Arc::clone(logged_in), Arc::clone(changed));
    Arc::new(move |session| {
        if logged_in.swap(session.is_some(), Ordering::AcqRel) && session.is_none() {
            info!("the session has ended");
        }
        changed.notify_one();
        let result = match session {
            Some(session) => store.write_secret_bytes(&SecretName::Session, &session.reveal_json()),
            None => store.remove_secret(&SecretName::Session),
        };
        result.map_err(|error| std::io::Error::other(format!("{error:#}")))
    })
}

/// True for the provider's word that it knows no such device.
pub(crate) fn says_no_such_device(error: &ApiError) -> bool {
    error.block_reason() == BlockReason::DeviceRevoked
}
