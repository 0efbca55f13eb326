//! Puts the helper together and runs it.

use crate::administrator;
use crate::announce::Announcer;
use crate::arguments::Arguments;
use crate::log_ring::LogRing;
use crate::provider::Provider;
use crate::service::{Inputs, Parts, Service};
use crate::store::{Found, Store, directory};
use anyhow::Context;
use hamn_core::location::Target;
use hamn_core::machine::Machine;
use hamn_core::managed::{Effective, Managed};
use hamn_core::settings::Settings;
use hamn_ipc::call::{CALL_QUEUE, EVENT_QUEUE};
use hamn_ipc::server::{BoundSocket, ServerConfig, serve};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tracing::{info, warn};

/// Bound of the channel from background work to the loop.
const REPORT_QUEUE: usize = 64;
/// Bound of the channel from the network side to the loop.
const HOST_QUEUE: usize = 64;

/// Runs the helper until a signal ends it.
///
/// # Errors
/// When a directory cannot be trusted, the network side cannot be opened or the socket cannot be bound: the kernel's rules
/// stay as they are.
pub async fn run(arguments: Arguments, log: LogRing) -> anyhow::Result<()> {
    directory::readable(&arguments.runtime_dir)?;
    let store = Store::open(&arguments.state_dir)?.with_runtime_dir(&arguments.runtime_dir);
    let (managed, policy_notes) = administrator::policy(&arguments.policy_dir);
    let Found { settings, target, notes } = store.load(&managed.defaults());
    let mark_api = Arc::new(AtomicBool::new(true));
    let (provider, provider_note) = open_provider(&arguments, &managed, &store, &mark_api).await;
    let (reports_tx, reports) = mpsc::channel(REPORT_QUEUE);
    let (host_tx, host) = mpsc::channel(HOST_QUEUE);
    let config = hamn_network::Config::new(&store.network_dir());
    let network = hamn_network::Network::open(config, host_tx).await.context("open the network side")?;

    let api = provider.as_ref().map(|provider| provider.endpoints()).unwrap_or_default();
    let effective = managed.apply(&settings);
    let target = target.map(|target| as_managed(target, &effective));
    let machine = Machine::new(effective.settings, api, rand::random());
    let (status_tx, status_rx) = watch::channel(Arc::new(machine.status()));
    let (events_tx, _) = broadcast::channel(EVENT_QUEUE);
    let mut announcer = Announcer::new(status_tx, events_tx.clone());
    for note in policy_notes {
        warn!("{note}");
        announcer.warn("policy", note);
    }
    for note in notes {
        warn!("{note}");
        announcer.warn("files", note);
    }
    if let Some(note) = provider_note {
        warn!("{note}");
        announcer.warn("provider", note);
    }
    let (calls_tx, calls) = mpsc::channel(CALL_QUEUE);
    let handles = hamn_ipc::ServerHandles { calls: calls_tx, status: status_rx, events: events_tx };
    let socket = arguments.runtime_dir.join("helper.sock");
    let bound = BoundSocket::bind(&socket).with_context(|| format!("bind {}", socket.display()))?;
    let config = ServerConfig::new(env!("CARGO_PKG_VERSION"));
    let (stop, stopped) = oneshot::channel::<()>();
    let mut first_word = handles.status.clone();
    let serving = tokio::spawn(async move {
        // Callers wait in the socket's queue until the machine has decided: before that nothing true can be said.
        let _ = first_word.wait_for(|status| status.sequence > 0).await;
        serve(bound, handles, config, async {
            let _ = stopped.await;
        })
        .await;
    });
    info!(socket = %socket.display(), provider = provider.is_some(), "the helper starts");

    let parts = Parts {
        machine,
        store,
        network,
        provider,
        managed,
        user_settings: settings,
        announcer,
        reports: reports_tx,
        mark_api,
        log,
    };
    let inputs = Inputs { calls, reports, host };
    let result = Service::new(parts).run(target, inputs).await;
    // Readers get the last line before their connections are closed.
    let _ = stop.send(());
    let _ = serving.await;
    let _ = std::fs::remove_file(&socket);
    info!("the helper ends");
    result
}

/// A tunnel that was wanted goes where the administrator says by now, if the policy says where (G15).
fn as_managed(target: Target, effective: &Effective) -> Target {
    match target {
        Target::Connected { .. } if effective.is_locked("destination") => {
            Target::Connected { destination: effective.settings.destination.clone() }
        }
        Target::Connected { .. } | Target::Disconnected => target,
    }
}

/// The provider, or a sentence that says why there is none.
async fn open_provider(
    arguments: &Arguments,
    managed: &Managed,
    store: &Store,
    mark_api: &Arc<AtomicBool>,
) -> (Option<Arc<Provider>>, Option<String>) {
    let by_policy = managed.apply(&Settings::default()).provider;
    let by_policy = by_policy.map(|urls| urls.iter().map(ToString::to_string).collect());
    let config = match administrator::provider(&arguments.policy_dir, arguments.provider.as_deref(), by_policy) {
        Ok(Some(config)) => config,
        Ok(None) => return (None, Some("No provider is configured: imported profiles work.".to_owned())),
        Err(error) => return (None, Some(format!("The provider cannot be used ({error:#}); imported profiles work."))),
    };
    let url = config.urls.first().cloned().unwrap_or_default();
    let mark = Arc::clone(mark_api);
    let prepare: hamn_api::PrepareSocket =
        Arc::new(move |socket| if mark.load(Ordering::Acquire) { socket.set_mark(hamn_core::net::FWMARK) } else { Ok(()) });
    match hamn_api::Client::new(config, store.cache_dir(), prepare) {
        Ok(client) => {
            let provider = Arc::new(Provider::open(client, url, store.clone()).await);
            (Some(provider), None)
        }
        Err(error) => (None, Some(format!("The provider cannot be used ({error}); imported profiles work."))),
    }
}
