//! From a destination to a tunnel plan: the profile from disk, or list, device and choice from the provider's cache, asking
//! the provider only for what is missing (G17).

use crate::provider::Provider;
use crate::store::Store;
use hamn_core::key::SecretKey;
use hamn_core::location::Destination;
use hamn_core::plan::{KeySource, TunnelPlan};
use hamn_core::profile::ProfileName;
use hamn_core::server::{self, Preferences, ServerList};
use hamn_core::settings::Settings;
use hamn_core::state::BlockReason;
use hamn_tunnel::Secrets;
use tracing::{info, warn};

/// What an attempt asks for.
pub struct Request {
    /// Where to.
    pub destination: Destination,
    /// Settings in force.
    pub settings: Settings,
    /// Randomness for the choice.
    pub seed: u64,
    /// Wall clock.
    pub now_unix_s: i64,
}

/// Makes the plan, or says why there is none.
pub async fn plan(store: &Store, provider: Option<&Provider>, request: Request) -> Result<TunnelPlan, BlockReason> {
    if let Destination::Profile { name } = &request.destination {
        return profile_plan(store, name, &request.settings);
    }
    let provider = provider.ok_or(BlockReason::NoProvider)?;
    if !provider.logged_in() {
        return Err(BlockReason::LoggedOut);
    }
    let list = provider.list_or_fetch(request.now_unix_s).await?;
    let destination = meant(&list.list, &request.destination);
    let (quality, failed) = provider.quality_and_failed();
    let preferences = Preferences { ipv6: request.settings.ipv6, near: None, avoid: &failed, quality: &quality, now_unix_s: request.now_unix_s };
    let choices = server::select(&list.list, &list.loads, &destination, &preferences, request.seed).map_err(|error| {
        info!("no server: {error}");
        BlockReason::NoServer
    })?;
    let choice = choices.first().ok_or(BlockReason::NoServer)?;
    let mut device = provider.device().await.map_err(|error| {
        warn!(code = error.code(), "no device: {error}");
        error.block_reason()
    })?;
    if provider.clock_went_back(request.now_unix_s) {
        // A gateway refuses a handshake that looks older than the last one of the same key; a new key has no past (TIME-01).
        info!("the clock lies before the last connection: replacing the device key");
        if provider.rotate_key_if_due(request.now_unix_s, 0).await.is_some() {
            device = provider.device().await.map_err(|error| error.block_reason())?;
        }
    }
    // The default exit needs no word to the provider unless another one was chosen before.
    let exit = choice.exit.filter(|exit| !exit.default).map(|exit| exit.id.to_string());
    if let Err(error) = provider.choose_exit(&mut device, exit.as_deref()).await {
        warn!(code = error.code(), "the exit could not be chosen: {error}");
        return Err(error.block_reason());
    }
    server::plan(&list.list, choice, &device.addresses, &request.settings, request.seed).map_err(|error| {
        warn!("no plan: {error}");
        BlockReason::NoServer
    })
}

/// A word that was taken for a server or city before there was a list may be the other of the two: the list decides.
pub fn meant(list: &ServerList, destination: &Destination) -> Destination {
    match destination {
        Destination::City { city: word } | Destination::Server { server: word, exit: None } => {
            server::resolve_text(list, word).unwrap_or_else(|_| destination.clone())
        }
        Destination::Best | Destination::Country { .. } | Destination::Server { .. } | Destination::Profile { .. } => destination.clone(),
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

/// The secrets that a plan refers to.
pub fn secrets(store: &Store, plan: &TunnelPlan) -> Result<Secrets, BlockReason> {
    match &plan.key {
        KeySource::Device => {
            let device: Option<crate::provider::StoredDevice> = store
                .read_secret(&crate::store::secrets::SecretName::Device)
                .map_err(|_| BlockReason::LoggedOut)?;
            let private_key: SecretKey = device.ok_or(BlockReason::LoggedOut)?.private_key()?;
            Ok(Secrets { private_key, preshared_key: None })
        }
        KeySource::Profile { name } => {
            let name = ProfileName::try_from(name.clone()).map_err(|_| BlockReason::NoProfile)?;
            let profile = store.profile(&name).ok().flatten().ok_or(BlockReason::NoProfile)?;
            Ok(Secrets { private_key: profile.private_key, preshared_key: profile.preshared_key })
        }
    }
}
