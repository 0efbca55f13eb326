//! From a destination to a tunnel plan: the profile from disk, or list, device and choice from the provider's cache, asking
//! the provider only for what is missing (G17).

use crate::clock;
use crate::device::{Rotation, StoredDevice};
use crate::provider::{Provider, says_no_such_device};
use crate::store::Store;
use crate::store::secrets::SecretName;
use hamn_api::ApiError;
use hamn_core::location::Destination;
use hamn_core::plan::{KeySource, TunnelPlan};
use hamn_core::profile::ProfileName;
use hamn_core::server::{self, Preferences, ServerList};
use hamn_core::settings::Settings;
use hamn_core::state::BlockReason;
use hamn_tunnel::Secrets;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// How long an attempt waits for the provider's word on account and device after a failure: a provider that is down must
/// not hold up a tunnel that the cache is enough for (G17).
const VERDICT_WAIT: Duration = Duration::from_millis(1500);

/// Before the provider is told of another exit: a user who changes the mind meanwhile ends this attempt, and the provider
/// is not asked for every step on the way.
const EXIT_PAUSE: Duration = Duration::from_millis(100);

/// What an attempt asks for.
pub(crate) struct Request {
    /// Where to.
    pub(crate) destination: Destination,
    /// Settings in force.
    pub(crate) settings: Settings,
    /// Randomness for the choice.
    pub(crate) seed: u64,
    /// Attempts in a row that failed.
    pub(crate) failures: u32,
}

/// Makes the plan, or says why there is none.
pub(crate) async fn plan(store: &Store, provider: Option<Arc<Provider>>, request: Request) -> Result<TunnelPlan, BlockReason> {
    if let Destination::Profile { name } = &request.destination {
        return profile_plan(store, name, &request.settings);
    }
    let provider = provider.ok_or(BlockReason::NoProvider)?;
    if !provider.logged_in() {
        return Err(BlockReason::LoggedOut);
    }
    if request.failures > 0
        && let Some(reason) = verdict(&provider).await
    {
        return Err(reason);
    }
    let now = clock::now();
    let list = provider.list_or_fetch(now.unix_s).await?;
    let destination = meant(&list.list, &request.destination);
    let (quality, failed) = provider.quality_and_failed();
    let preferences =
        Preferences { ipv6: request.settings.ipv6, near: None, avoid: &failed, quality: &quality, now_unix_s: now.unix_s };
    let choices = server::select(&list.list, &list.loads(now), &destination, &preferences, request.seed).map_err(|error| {
        info!("no server: {error}");
        BlockReason::NoServer
    })?;
    let choice = choices.first().ok_or(BlockReason::NoServer)?;
    // The default exit needs no word to the provider unless another one was chosen before.
    let exit = choice.exit.filter(|exit| !exit.default).map(|exit| exit.id.to_string());
    let device = usable_device(&provider, exit.as_deref(), now.unix_s).await.map_err(|error| {
        warn!(code = error.code(), "no device: {error}");
        error.block_reason()
    })?;
    server::plan(&list.list, choice, &device.addresses, &request.settings, request.seed).map_err(|error| {
        warn!("no plan: {error}");
        BlockReason::NoServer
    })
}

/// The provider's word on account and device, if it comes in time; a late one counts for the next attempt.
async fn verdict(provider: &Arc<Provider>) -> Option<BlockReason> {
    let asking = Arc::clone(provider);
    let asked = tokio::spawn(async move { asking.verdict().await });
    tokio::time::timeout(VERDICT_WAIT, asked).await.ok()?.ok()?
}

/// The device with a key that a gateway takes and with the wanted exit.
async fn usable_device(provider: &Provider, exit: Option<&str>, now_unix_s: i64) -> Result<StoredDevice, ApiError> {
    let mut device = provider.finish_rotation(provider.device().await?).await?;
    if provider.clock_went_back(now_unix_s) {
        // A gateway refuses a handshake that looks older than the last one of the same key; a new key has no past (TIME-01).
        info!("the clock lies before the last connection: replacing the device key");
        match provider.rotate_key_if_due(now_unix_s, Rotation::Now).await {
            Ok(Some(_)) => {
                provider.clock_is_as_it_is(now_unix_s);
                device = provider.device().await?;
            }
            // Only the right time, or a new key, makes the gateway answer; that is what the user must hear.
            Err(error) if error.block_reason() == BlockReason::ClockWrong || says_no_such_device(&error) => return Err(error),
            Ok(None) | Err(_) => {}
        }
    }
    if !device.has_exit(exit) {
        tokio::time::sleep(EXIT_PAUSE).await;
        provider.choose_exit(&mut device, exit).await?;
    }
    Ok(device)
}

/// A word that was taken for a server or city before there was a list may be the other of the two: the list decides.
pub(crate) fn meant(list: &ServerList, destination: &Destination) -> Destination {
    match destination {
        Destination::City { city: word } | Destination::Server { server: word, exit: None } => {
            server::resolve_text(list, word).unwrap_or_else(|_| destination.clone())
        }
        Destination::Best | Destination::Country { .. } | Destination::Server { .. } | Destination::Profile { .. } => {
            destination.clone()
        }
    }
}

fn profile_plan(store: &Store, name: &str, settings: &Settings) -> Result<TunnelPlan, BlockReason> {
    let name = ProfileName::try_from(name.to_owned()).map_err(|_| BlockReason::NoProfile)?;
    let profile = store.profile(&name).map_err(|error| {
        warn!("{error:#}");
        BlockReason::NoProfile
    })?;
    let profile = profile.ok_or(BlockReason::NoProfile)?;
    hamn_core::profile::plan(&profile, settings).map_err(|error| {
        warn!("no plan: {error}");
        BlockReason::NoProfile
    })
}

/// The secrets that a plan refers to. `failures` are the attempts in a row that failed.
pub(crate) fn secrets(store: &Store, plan: &TunnelPlan, failures: u32) -> Result<Secrets, BlockReason> {
    match &plan.key {
        KeySource::Device => {
            let device: Option<StoredDevice> = store.read_secret(&SecretName::Device).map_err(|_| BlockReason::LoggedOut)?;
            let private_key = device.ok_or(BlockReason::LoggedOut)?.private_key(failures)?;
            Ok(Secrets { private_key, preshared_key: None })
        }
        KeySource::Profile { name } => {
            let name = ProfileName::try_from(name.clone()).map_err(|_| BlockReason::NoProfile)?;
            let profile = store.profile(&name).ok().flatten().ok_or(BlockReason::NoProfile)?;
            Ok(Secrets { private_key: profile.private_key, preshared_key: profile.preshared_key })
        }
    }
}
