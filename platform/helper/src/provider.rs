//! The provider as the helper uses it: list and loads in memory, the device and its key on disk, past quality.

use crate::clock;
use crate::store::Store;
use crate::store::secrets::SecretName;
use hamn_api::{ApiError, Client, Credentials, FetchedList};
use hamn_core::event::TunnelEvent;
use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::net::Endpoint;
use hamn_core::server::{self, DeviceAddresses, ListRules, Loads, Quality, ServerList};
use hamn_core::state::BlockReason;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::{info, warn};
use zeroize::Zeroizing;

/// The device key and what the provider gave for it. A secret file.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredDevice {
    /// Id at the provider.
    pub id: String,
    /// Addresses inside the tunnel.
    pub addresses: DeviceAddresses,
    /// Exit that the provider was asked for last.
    #[serde(default)]
    pub exit: Option<String>,
    /// Private key, base64.
    key: Zeroizing<String>,
    /// When the key was made, seconds since 1970.
    key_created_unix_s: i64,
    /// A key that is being registered: after a crash between the two steps the provider may know either (KEY-03).
    #[serde(default)]
    next_key: Option<Zeroizing<String>>,
}

impl StoredDevice {
    pub(crate) fn private_key(&self) -> Result<SecretKey, BlockReason> {
        SecretKey::parse(&self.key).map_err(|_| BlockReason::DeviceRevoked)
    }
}

/// The list in use.
pub(crate) struct ListInUse {
    pub list: ServerList,
    pub loads: Loads,
    pub stale: bool,
}

struct Memory {
    list: Option<Arc<ListInUse>>,
    quality: Quality,
    /// Servers that failed since the last success, oldest first.
    failed: Vec<String>,
    logged_in: bool,
}

/// The provider side of the helper.
pub struct Provider {
    pub(crate) client: Client,
    pub(crate) url: String,
    store: Store,
    memory: Mutex<Memory>,
    /// One registration or rotation at a time.
    device_work: tokio::sync::Mutex<()>,
}

/// How many failed servers are passed over.
const MAX_AVOIDED: usize = 8;

impl Provider {
    /// Restores session, list and quality from disk; asks nobody.
    pub async fn open(client: Client, url: String, store: Store) -> Self {
        let saver = store.clone();
        client.on_session(Arc::new(move |session| {
            let result = match session {
                Some(session) => saver.write_secret_bytes(&SecretName::Session, &session.reveal_json()),
                None => saver.remove_secret(&SecretName::Session),
            };
            result.map_err(|error| std::io::Error::other(format!("{error:#}")))
        }));
        let mut logged_in = false;
        if let Ok(Some(bytes)) = store.read_secret_bytes(&SecretName::Session)
            && let Some(session) = hamn_api::StoredSession::from_json(&bytes)
        {
            client.restore(session).await;
            logged_in = true;
        }
        let quality = store.read_state("quality.json").unwrap_or_default();
        let memory = Mutex::new(Memory { list: None, quality, failed: Vec::new(), logged_in });
        let provider = Self { client, url, store, memory, device_work: tokio::sync::Mutex::default() };
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

    /// The network is another one.
    pub fn network_changed(&self) {
        self.client.network_changed();
    }

    pub(crate) fn logged_in(&self) -> bool {
        self.memory().logged_in
    }

    pub(crate) fn list(&self) -> Option<Arc<ListInUse>> {
        self.memory().list.clone()
    }

    pub(crate) fn quality_and_failed(&self) -> (Quality, Vec<String>) {
        let memory = self.memory();
        (memory.quality.clone(), memory.failed.clone())
    }

    fn take_list(&self, fetched: &FetchedList) {
        match server::parse(&fetched.bytes, &ListRules::default()) {
            Ok(parsed) => {
                if parsed.rejected_count > 0 {
                    warn!(rejected = parsed.rejected_count, first = ?parsed.rejected.first(), "entries of the server list were left out");
                }
                let mut memory = self.memory();
                let loads = memory.list.take().map(|old| old.loads.clone()).unwrap_or_default();
                memory.list = Some(Arc::new(ListInUse { list: parsed.list, loads, stale: fetched.stale }));
            }
            Err(error) => warn!(%error, serial = fetched.serial, "the server list cannot be used; the last good one stays"),
        }
    }

    /// Fetches list and loads; whatever fails leaves what was there (G17).
    pub async fn refresh(&self, now_unix_s: i64) {
        match self.client.server_list(now_unix_s).await {
            Ok(fetched) => self.take_list(&fetched),
            Err(error) => info!(code = error.code(), "no fresh server list: {error}"),
        }
        let Some(in_use) = self.list() else { return };
        match self.client.loads().await {
            Ok(loads) => {
                let parsed = serde_json::to_vec(&loads).ok().and_then(|bytes| Loads::parse(&bytes, &in_use.list).ok());
                if let Some(loads) = parsed {
                    self.memory().list = Some(Arc::new(ListInUse { list: in_use.list.clone(), loads, stale: in_use.stale }));
                }
            }
            Err(error) => info!(code = error.code(), "no fresh loads: {error}"),
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

    /// What a tunnel said about a server.
    pub fn learn(&self, server: &str, event: &TunnelEvent) {
        let now = clock::now().unix_s;
        let quality = {
            let mut memory = self.memory();
            match event {
                TunnelEvent::Verified => {
                    memory.quality.succeeded(server, 0, now);
                    memory.failed.clear();
                    if let Err(error) = self.store.write_state("last_verified.json", &now) {
                        warn!("{error:#}");
                    }
                }
                TunnelEvent::Failed(_) => {
                    memory.quality.failed(server, now);
                    memory.failed.retain(|known| known != server);
                    memory.failed.push(server.to_owned());
                    if memory.failed.len() > MAX_AVOIDED {
                        memory.failed.remove(0);
                    }
                }
                TunnelEvent::Stalled | TunnelEvent::Recovered => return,
            }
            memory.quality.clone()
        };
        if let Err(error) = self.store.write_state("quality.json", &quality) {
            warn!("{error:#}");
        }
    }

    /// True when the wall clock lies before the last time a tunnel of this device worked.
    pub(crate) fn clock_went_back(&self, now_unix_s: i64) -> bool {
        self.store.read_state::<i64>("last_verified.json").is_some_and(|last| now_unix_s < last)
    }

    /// Logs in and registers this computer.
    pub(crate) async fn login(&self, credentials: &Credentials) -> Result<hamn_api::Session, ApiError> {
        let session = self.client.login(credentials, "linux").await?;
        self.memory().logged_in = true;
        self.device().await?;
        Ok(session)
    }

    /// Forgets session and device, here and (as far as it can be reached) at the provider.
    pub(crate) async fn logout(&self) -> anyhow::Result<()> {
        if let Ok(Some(device)) = self.stored_device()
            && let Err(error) = self.client.remove_device(&device.id).await
        {
            info!(code = error.code(), "the device could not be removed at the provider: {error}");
        }
        if let Err(error) = self.client.logout().await {
            info!(code = error.code(), "the session could not be ended at the provider: {error}");
        }
        self.memory().logged_in = false;
        self.store.remove_secret(&SecretName::Device)?;
        self.store.remove_secret(&SecretName::Session)
    }

    pub(crate) fn stored_device(&self) -> Result<Option<StoredDevice>, BlockReason> {
        self.store.read_secret(&SecretName::Device).map_err(|error| {
            warn!("the device's file cannot be used: {error:#}");
            BlockReason::LoggedOut
        })
    }

    /// The device of this computer, registered now when there is none.
    pub(crate) async fn device(&self) -> Result<StoredDevice, ApiError> {
        let _one_at_a_time = self.device_work.lock().await;
        if let Ok(Some(device)) = self.stored_device() {
            return Ok(device);
        }
        let key = new_key();
        let public = public_key(&key)?;
        let device = self.client.add_device(public, &device_name(), "linux", &public.to_string()).await?;
        let stored = StoredDevice {
            id: device.id,
            addresses: DeviceAddresses { ipv4: ipv4_of(device.ipv4), ipv6: ipv6_of(device.ipv6) },
            exit: device.exit,
            key: key.reveal_base64(),
            key_created_unix_s: clock::now().unix_s,
            next_key: None,
        };
        self.save_device(&stored)?;
        Ok(stored)
    }

    /// Tells the provider which exit this device wants, if it wants another one than last time.
    pub(crate) async fn choose_exit(&self, device: &mut StoredDevice, exit: Option<&str>) -> Result<(), ApiError> {
        if device.exit.as_deref() == exit {
            return Ok(());
        }
        self.client.set_exit(&device.id, exit).await?;
        device.exit = exit.map(str::to_owned);
        self.save_device(device)
    }

    fn save_device(&self, device: &StoredDevice) -> Result<(), ApiError> {
        self.store.write_secret(&SecretName::Device, device).map_err(|error| ApiError::Storage(format!("{error:#}")))
    }

    /// Replaces the device key when it is old enough; the new key, when it was replaced. The provider accepts the old one
    /// for five more minutes, so that nothing is lost in between.
    pub async fn rotate_key_if_due(&self, now_unix_s: i64, rotation_days: u16) -> Option<SecretKey> {
        let _one_at_a_time = self.device_work.lock().await;
        let mut device = self.stored_device().ok().flatten()?;
        let age_s = now_unix_s.saturating_sub(device.key_created_unix_s);
        if device.next_key.is_none() && age_s < i64::from(rotation_days).saturating_mul(86_400) {
            return None;
        }
        let key = device.next_key.as_ref().and_then(|text| SecretKey::parse(text).ok()).unwrap_or_else(new_key);
        device.next_key = Some(key.reveal_base64());
        self.save_device(&device).ok()?;
        if let Err(error) = self.client.rotate_key(&device.id, public_key(&key).ok()?).await {
            info!(code = error.code(), "the device key was not replaced: {error}");
            return None;
        }
        device.key = key.reveal_base64();
        device.key_created_unix_s = now_unix_s;
        device.next_key = None;
        self.save_device(&device).ok()?;
        info!("the device key was replaced");
        Some(key)
    }
}

const fn ipv4_of(net: ipnet::IpNet) -> Option<std::net::Ipv4Addr> {
    match net {
        ipnet::IpNet::V4(v4) => Some(v4.addr()),
        ipnet::IpNet::V6(_) => None,
    }
}

const fn ipv6_of(net: ipnet::IpNet) -> Option<std::net::Ipv6Addr> {
    match net {
        ipnet::IpNet::V6(v6) => Some(v6.addr()),
        ipnet::IpNet::V4(_) => None,
    }
}

fn new_key() -> SecretKey {
    SecretKey::new(x25519_dalek::StaticSecret::from(rand::random::<[u8; 32]>()).to_bytes())
}

fn public_key(key: &SecretKey) -> Result<PublicKey, ApiError> {
    let public = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(*key.reveal()));
    PublicKey::new(public.to_bytes()).map_err(|_| ApiError::Storage("a random key was degenerate; try again".to_owned()))
}

/// The host's name as the provider shows it in the list of devices: letters, digits and dashes of the first label.
fn device_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let clean: String = name.chars().take_while(|c| *c != '.').filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    if clean.is_empty() { "computer".to_owned() } else { clean }
}
