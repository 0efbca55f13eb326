//! The device of this computer: its key, registering it once and only when the user wants it, changing its key, and
//! noticing that the provider no longer knows it.

use crate::clock;
use crate::provider::{Provider, says_no_such_device};
use crate::store::Store;
use crate::store::secrets::SecretName;
use hamn_api::{ApiError, Credentials};
use hamn_core::key::{PublicKey, SecretKey};
use hamn_core::server::DeviceAddresses;
use hamn_core::state::BlockReason;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};
use zeroize::Zeroizing;

/// How long a connection waits for the end of an unfinished change of the key, at most.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long removing the device at the provider may hold up a logout.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(6);
/// How often the provider is asked whether account and device still stand, at most.
const CHECK_EVERY: Duration = Duration::from_secs(10);
const DAY_S: i64 = 86_400;
const REVOKED: &str = "device_revoked.json";

/// When the key is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// Once it is so many days old.
    AfterDays(u16),
    /// Only to end a change that was begun.
    Unfinished,
    /// At once.
    Now,
}

/// What is known of this computer's registration beside the stored device.
pub(crate) struct Registration {
    /// One registration, rotation or farewell at a time.
    work: tokio::sync::Mutex<()>,
    /// The provider said that this device was removed. Only a login registers it again: whoever removed it meant it.
    revoked: AtomicBool,
    checked: Mutex<Option<Instant>>,
}

impl Registration {
    pub(crate) fn open(store: &Store) -> Self {
        let revoked = store.read_state(REVOKED).unwrap_or(false);
        Self { work: tokio::sync::Mutex::default(), revoked: AtomicBool::new(revoked), checked: Mutex::default() }
    }
}

/// The device key and what the provider gave for it. A secret file.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StoredDevice {
    /// Id at the provider.
    pub(crate) id: String,
    /// Whose; not known for one of an earlier version.
    #[serde(default)]
    account: Option<String>,
    /// Addresses inside the tunnel.
    pub(crate) addresses: DeviceAddresses,
    /// Exit that the provider was asked for last.
    #[serde(default)]
    exit: Option<String>,
    /// Private key, base64.
    key: Zeroizing<String>,
    /// When the key was made, seconds since 1970.
    key_created_unix_s: i64,
    /// A key that is being registered: after a crash between the two steps the provider may know either (KEY-03).
    #[serde(default)]
    next_key: Option<Zeroizing<String>>,
}

impl StoredDevice {
    /// The key to use. While a change is unfinished, failures in a row alternate between the two.
    pub(crate) fn private_key(&self, failures: u32) -> Result<SecretKey, BlockReason> {
        let next = self.next_key.as_ref().filter(|_| failures % 2 == 1);
        SecretKey::parse(next.unwrap_or(&self.key)).map_err(|_| BlockReason::LoggedOut)
    }

    /// The provider was asked for this exit last.
    pub(crate) fn has_exit(&self, exit: Option<&str>) -> bool {
        self.exit.as_deref() == exit
    }

    fn has_key(&self, public: &PublicKey) -> bool {
        let keys = [Some(&self.key), self.next_key.as_ref()];
        keys.into_iter()
            .flatten()
            .filter_map(|key| SecretKey::parse(key).ok())
            .any(|key| public_key(&key).is_ok_and(|own| own == *public))
    }

    /// A clock that was far ahead when the key was made would put the next change off for ever.
    fn key_is_due(&self, now_unix_s: i64, when: Rotation) -> bool {
        let age_s = now_unix_s.saturating_sub(self.key_created_unix_s);
        self.next_key.is_some()
            || match when {
                Rotation::AfterDays(days) => age_s >= i64::from(days).saturating_mul(DAY_S) || age_s < -DAY_S,
                Rotation::Unfinished => false,
                Rotation::Now => true,
            }
    }
}

impl Provider {
    /// Logs in and registers this computer. The session stays when only the registration fails: too many devices can then
    /// be made fewer. True when the device is another one than before.
    pub(crate) async fn login(&self, credentials: &Credentials) -> Result<bool, ApiError> {
        let session = self.client.login(credentials, std::env::consts::OS).await?;
        self.refresh(clock::now().unix_s).await;
        let before = self.stored_device().ok().flatten().map(|device| device.id);
        self.set_revoked(false);
        self.settle_device(&session.account.id).await?;
        Ok(Some(self.device().await?.id) != before)
    }

    /// Drops a stored device that is not, or no longer, one of this account, so that `device` registers a new one.
    async fn settle_device(&self, account: &str) -> Result<(), ApiError> {
        let _turn = self.device.work.lock().await;
        let Ok(Some(mut device)) = self.stored_device() else { return Ok(()) };
        if device.account.as_ref().is_some_and(|known| known != account) {
            info!("another account: this computer gets a new device");
            return self.drop_device();
        }
        match self.client.device(&device.id).await {
            Ok(known) if device.has_key(&known.wg_public_key) => {
                device.account = Some(account.to_owned());
                self.save_device(&device)
            }
            Ok(_) => self.drop_device(),
            Err(error) if says_no_such_device(&error) => self.drop_device(),
            // It stays: nothing is known against it.
            Err(error) => {
                info!(code = error.code(), "the device could not be checked: {error}");
                Ok(())
            }
        }
    }

    /// Forgets session and device, here and (as far as it can be reached) at the provider.
    pub(crate) async fn logout(&self) -> anyhow::Result<()> {
        // Held to the end, so that no attempt registers anew in between.
        let _turn = self.device.work.lock().await;
        let device = self.stored_device().ok().flatten();
        let device_gone = self.store.remove_secret(&SecretName::Device);
        let new_gone = self.store.remove_secret(&SecretName::NewDevice);
        if let Some(device) = device {
            match timeout(FAREWELL_TIMEOUT, self.client.remove_device(&device.id)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => info!(code = error.code(), "the device could not be removed at the provider: {error}"),
                Err(_) => info!("the device could not be removed at the provider in time"),
            }
        }
        if let Err(error) = self.client.logout().await {
            info!(code = error.code(), "the session could not be ended at the provider: {error}");
        }
        self.set_revoked(false);
        self.forget_session().and(device_gone).and(new_gone)
    }

    /// The stored device. One whose file is damaged counts as nobody logged in.
    pub(crate) fn stored_device(&self) -> Result<Option<StoredDevice>, BlockReason> {
        self.store.read_secret(&SecretName::Device).map_err(|error| {
            warn!("the device's file cannot be used: {error:#}");
            BlockReason::LoggedOut
        })
    }

    /// The device of this computer, registered now when there is none and none was removed.
    pub(crate) async fn device(&self) -> Result<StoredDevice, ApiError> {
        let _turn = self.device.work.lock().await;
        if self.device_is_revoked() {
            return Err(no_such_device());
        }
        if let Ok(Some(device)) = self.stored_device() {
            return Ok(device);
        }
        match self.register().await {
            // The key was registered for somebody else before, or the provider forgot that it was: another key.
            Err(ApiError::Problem(problem))
                if ["public_key_in_use", "idempotency_key_reused"].contains(&problem.code.as_str()) =>
            {
                self.store.remove_secret(&SecretName::NewDevice).map_err(storage)?;
                self.register().await
            }
            other => other,
        }
    }

    /// Offers a key that is on the disk before: a lost answer or a crash costs no second device (KEY-03).
    async fn register(&self) -> Result<StoredDevice, ApiError> {
        let stored: Option<Zeroizing<String>> = self.store.read_secret(&SecretName::NewDevice).ok().flatten();
        let key = match stored.and_then(|text| SecretKey::parse(&text).ok()) {
            Some(key) => key,
            None => {
                let key = new_key();
                self.store.write_secret(&SecretName::NewDevice, &key.reveal_base64()).map_err(storage)?;
                key
            }
        };
        let public = public_key(&key)?;
        let account = self.client.account().await?.id;
        let device = self.client.add_device(public, &device_name(), std::env::consts::OS, &public.to_string()).await?;
        let stored = StoredDevice {
            id: device.id,
            account: Some(account),
            addresses: DeviceAddresses { ipv4: ipv4_of(device.ipv4), ipv6: ipv6_of(device.ipv6) },
            exit: device.exit,
            key: key.reveal_base64(),
            key_created_unix_s: clock::now().unix_s,
            next_key: None,
        };
        self.save_device(&stored)?;
        self.store.remove_secret(&SecretName::NewDevice).map_err(storage)?;
        Ok(stored)
    }

    /// Removes a device from the account; `true` when it was this computer's.
    pub(crate) async fn remove_device(&self, id: &str) -> Result<bool, ApiError> {
        let own = || self.stored_device().ok().flatten().is_some_and(|device| device.id == id);
        let result = self.client.remove_device(id).await;
        let gone = result.is_ok() || result.as_ref().is_err_and(says_no_such_device);
        let removed_own = gone && own();
        if removed_own {
            self.device_was_revoked();
        }
        result.map(|()| removed_own)
    }

    /// Tells the provider which exit this device wants.
    pub(crate) async fn choose_exit(&self, device: &mut StoredDevice, exit: Option<&str>) -> Result<(), ApiError> {
        self.client.set_exit(&device.id, exit).await.inspect_err(|error| self.notice(error))?;
        device.exit = exit.map(str::to_owned);
        self.save_device(device)
    }

    /// Replaces the device key when that is due; the new key, when it was replaced. The provider accepts the old one
    /// for five more minutes, so that nothing is lost in between.
    ///
    /// # Errors
    /// What the provider says; the old key stays in use, unless the device is gone.
    pub(crate) async fn rotate_key_if_due(&self, now_unix_s: i64, when: Rotation) -> Result<Option<SecretKey>, ApiError> {
        let _turn = self.device.work.lock().await;
        let Some(mut device) = self.stored_device().ok().flatten() else { return Ok(None) };
        if !device.key_is_due(now_unix_s, when) {
            return Ok(None);
        }
        let key = device.next_key.as_ref().and_then(|text| SecretKey::parse(text).ok()).unwrap_or_else(new_key);
        device.next_key = Some(key.reveal_base64());
        self.save_device(&device)?;
        self.client.rotate_key(&device.id, public_key(&key)?).await.inspect_err(|error| {
            info!(code = error.code(), "the device key was not replaced: {error}");
            self.notice(error);
        })?;
        device.key = key.reveal_base64();
        device.key_created_unix_s = now_unix_s;
        device.next_key = None;
        self.save_device(&device)?;
        info!("the device key was replaced");
        Ok(Some(key))
    }

    /// Ends a change of the key that a crash or a lost answer left unfinished, if the provider can be asked quickly.
    pub(crate) async fn finish_rotation(&self, device: StoredDevice) -> Result<StoredDevice, ApiError> {
        if device.next_key.is_none() {
            return Ok(device);
        }
        match timeout(FINISH_TIMEOUT, self.rotate_key_if_due(clock::now().unix_s, Rotation::Unfinished)).await {
            Ok(Err(error)) if says_no_such_device(&error) => Err(error),
            Ok(Ok(Some(_))) => self.device().await,
            Ok(Ok(None) | Err(_)) | Err(_) => Ok(device),
        }
    }

    /// Asks whether account and device still stand. Gateways say nothing to a key that they do not know, so this is how a
    /// removed device is told from a silent server (KEY-02). `None` when nothing is known against them.
    pub(crate) async fn verdict(&self) -> Option<BlockReason> {
        {
            let mut checked = self.device.checked.lock().unwrap_or_else(PoisonError::into_inner);
            if checked.is_some_and(|last| last.elapsed() < CHECK_EVERY) {
                return None;
            }
            *checked = Some(Instant::now());
        }
        let device = self.stored_device().ok().flatten()?;
        let (account, known) = tokio::join!(self.client.account(), self.client.device(&device.id));
        match account {
            Ok(account) if account.status == "expired" => return Some(BlockReason::AccountExpired),
            Err(error) if !error.block_reason().retries() => return Some(error.block_reason()),
            Ok(_) | Err(_) => {}
        }
        match known {
            Err(error) if says_no_such_device(&error) => {
                self.notice(&error);
                Some(BlockReason::DeviceRevoked)
            }
            Ok(_) | Err(_) => None,
        }
    }

    /// An answer that says that the device is gone ends its use.
    fn notice(&self, error: &ApiError) {
        if says_no_such_device(error) {
            self.device_was_revoked();
        }
    }

    /// The provider said that this device was removed, and nobody has logged in since.
    pub(crate) fn device_is_revoked(&self) -> bool {
        self.device.revoked.load(Ordering::Acquire)
    }

    fn device_was_revoked(&self) {
        warn!("this device was removed from the account");
        self.set_revoked(true);
        if let Err(error) = self.drop_device() {
            warn!(%error, "the key of the removed device is still on the disk");
        }
    }

    fn set_revoked(&self, revoked: bool) {
        if self.device.revoked.swap(revoked, Ordering::AcqRel) != revoked
            && let Err(error) = self.store.write_state(REVOKED, &revoked)
        {
            warn!("{error:#}");
        }
    }

    fn drop_device(&self) -> Result<(), ApiError> {
        self.store.remove_secret(&SecretName::Device).map_err(storage)
    }

    fn save_device(&self, device: &StoredDevice) -> Result<(), ApiError> {
        self.store.write_secret(&SecretName::Device, device).map_err(storage)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err hands it over")]
fn storage(error: anyhow::Error) -> ApiError {
    ApiError::Storage(format!("{error:#}"))
}

/// As the provider says it.
fn no_such_device() -> ApiError {
    let title = "This device was removed from the account".to_owned();
    ApiError::Problem(hamn_api::Problem { status: 404, code: "device_not_found".to_owned(), title, retry_after_s: None })
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
    let name = crate::host::name();
    let clean: String =
        name.chars().take_while(|c| *c != '.').filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(40).collect();
    if clean.is_empty() { "computer".to_owned() } else { clean }
}
