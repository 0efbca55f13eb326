//! Puts the helper together and runs it.

use crate::administrator::{self, Changes};
use crate::announce::Announcer;
use crate::arguments::Arguments;
use crate::host;
use crate::log_ring::LogRing;
use crate::policy_change;
use crate::provider::Provider;
use crate::service::{Inputs, Parts, Report, Service};
use crate::store::{Found, Store, directory};
use anyhow::Context;
use hamn_core::machine::Machine;
use hamn_core::managed::Managed;
use hamn_core::settings::Settings;
use hamn_ipc::call::{CALL_QUEUE, EVENT_QUEUE};
use hamn_ipc::server::{BoundSocket, ServerConfig, serve};
use std::path::PathBuf;
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
    // On Windows the other one lies in this one.
    let store = Store::open(&arguments.state_dir)?.with_runtime_dir(&arguments.runtime_dir);
    directory::readable(&arguments.runtime_dir)?;
    // Before they are read, so that no change is missed.
    let policy_changes = Changes::watch();
    let (managed, mut policy_notes) = administrator::policy(&arguments.policy_dir);
    if let Err(error) = &policy_changes {
        policy_notes.push(format!("changes of the policy take effect when the helper is restarted only ({error})"));
    }
    let Found { settings, target, notes } = store.load(&managed.defaults());
    let mark_api = Arc::new(AtomicBool::new(true));
    let (provider, provider_note) = open_provider(&arguments, &managed, &store, &mark_api).await;
    let (reports_tx, reports) = mpsc::channel(REPORT_QUEUE);
    let (host_tx, host) = mpsc::channel(HOST_QUEUE);
    let config = hamn_network::Config::new(&store.network_dir());
    let network = hamn_network::Network::open(config, host_tx).await.context("open the network side")?;

    let api = provider.as_ref().map(|provider| provider.endpoints()).unwrap_or_default();
    let effective = managed.apply(&settings);
    let target = target.map(|target| policy_change::as_managed(target, &effective));
    let machine = Machine::new(effective.settings, api, rand::random());
    let (status_tx, status_rx) = watch::channel(Arc::new(machine.status()));
    let (events_tx, _) = broadcast::channel(EVENT_QUEUE);
    let mut announcer = Announcer::new(status_tx, events_tx.clone());
    tell(&mut announcer, policy_notes, notes, provider_note);
    let (calls_tx, calls) = mpsc::channel(CALL_QUEUE);
    let handles = hamn_ipc::ServerHandles { calls: calls_tx, status: status_rx, events: events_tx };
    let socket = host::api_address(&arguments.runtime_dir);
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

    let following =
        policy_changes.ok().map(|changes| tokio::spawn(follow_policy(changes, arguments.policy_dir.clone(), reports_tx.clone())));
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
    if let Some(following) = following {
        following.abort();
    }
    // Readers get the last line before their connections are closed.
    let _ = stop.send(());
    let _ = serving.await;
    let _ = std::fs::remove_file(&socket);
    info!("the helper ends");
    result
}

/// What was found at the start, for the log and as warnings.
fn tell(announcer: &mut Announcer, policy: Vec<String>, files: Vec<String>, provider: Option<String>) {
    for note in policy {
        warn!("{note}");
        announcer.warn("policy", note);
    }
    for note in files {
        warn!("{note}");
        announcer.warn("files", note);
    }
    if let Some(note) = provider {
        warn!("{note}");
        announcer.warn("provider", note);
    }
}

/// Reads the administrator's policy again whenever it may have changed, and reports it.
async fn follow_policy(mut changes: Changes, policy_dir: PathBuf, reports: mpsc::Sender<Report>) {
    loop {
        changes.next().await;
        let policy_dir = policy_dir.clone();
        let Ok((managed, notes)) = tokio::task::spawn_blocking(move || administrator::policy(&policy_dir)).await else {
            continue;
        };
        if reports.send(Report::PolicyChanged(Box::new(managed), notes)).await.is_err() {
            return;
        }
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
        Arc::new(move |socket| if mark.load(Ordering::Acquire) { host::mark_as_ours(socket) } else { Ok(()) });
    match hamn_api::Client::new(config, store.cache_dir(), prepare) {
        Ok(client) => {
            let provider = Arc::new(Provider::open(client, url, store.clone()).await);
            (Some(provider), None)
        }
        Err(error) => (None, Some(format!("The provider cannot be used ({error}); imported profiles work."))),
    }
}
