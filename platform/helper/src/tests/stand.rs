//! The whole service with the real network side, in a network and mount namespace of its own. Needs root.

use super::scripted::Scripted;
use crate::announce::Announcer;
use crate::log_ring::LogRing;
use crate::provider::Provider;
use crate::service::{Inputs, Parts, Service};
use crate::store::Store;
use hamn_core::machine::Machine;
use hamn_core::managed::Managed;
use hamn_core::status::Status;
use hamn_ipc::call::Caller;
use hamn_ipc::{Call, Problem, Request, Response};
use hamn_network::{Config, Network};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};

pub(super) const ROOT: u32 = 0;
pub(super) const USER: u32 = 1000;

/// A service that runs.
pub(super) struct Stand {
    pub(super) scripted: Scripted,
    pub(super) provider: Option<Arc<Provider>>,
    pub(super) store: Store,
    calls: mpsc::Sender<Call>,
    pub(super) reports: mpsc::Sender<crate::service::Report>,
    status: watch::Receiver<Arc<Status>>,
}

/// How the service is set up.
pub(super) struct Setup {
    /// The administrator's policy, JSON.
    pub(super) policy: &'static str,
    pub(super) with_provider: bool,
    /// A program in place of `nft`.
    pub(super) nft: Option<&'static str>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { policy: "{}", with_provider: true, nft: None }
    }
}

fn sh(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs `test` with a service in a namespace that is online and leads nowhere.
pub(super) fn with_service(setup: Setup, test: impl AsyncFnOnce(&Stand) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        // Shown with `cargo nextest run --no-capture`, or in the report of a failure.
        let log = LogRing::default();
        let shown = tracing_subscriber::fmt::layer().with_test_writer().with_filter(crate::logging::filter(Some("debug")));
        let subscriber = tracing_subscriber::registry().with(shown).with(log.clone().with_filter(crate::log_ring::filter()));
        let _logging = tracing::subscriber::set_default(subscriber);
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        for line in [
            "ip link set lo up",
            "ip link add eth0 type veth peer name peer0",
            "ip addr add 10.9.0.2/24 dev eth0",
            "ip link set peer0 up",
            "ip link set eth0 up",
            "ip route add default via 10.9.0.1",
        ] {
            sh(line);
        }
        let base = tempfile::tempdir().unwrap();
        if let Some(program) = setup.nft {
            let path = base.path().join("nft");
            std::fs::write(&path, program).unwrap();
            sh(&format!("chmod 755 {}", path.display()));
            mount(Some(&path), "/usr/sbin/nft", none, MsFlags::MS_BIND, none).unwrap();
        }
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve(setup, base, log, test));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

async fn serve(setup: Setup, base: tempfile::TempDir, log: LogRing, test: impl AsyncFnOnce(&Stand)) {
    let scripted = Scripted::start().await;
    let state_dir = base.path().join("state");
    let provider = if setup.with_provider { Some(super::devices::provider(&scripted, &state_dir).await) } else { None };
    let store = Store::open(&state_dir).unwrap();
    let (managed, notes) = hamn_core::managed::load(&[("test.json".to_owned(), Some(setup.policy.as_bytes().to_vec()))]);
    assert!(notes.is_empty(), "{notes:?}");
    let (reports_tx, reports) = mpsc::channel(64);
    let (host_tx, host) = mpsc::channel(64);
    let network = Network::open(config(&base, &store), host_tx).await.unwrap();
    let found = store.load(&managed.defaults());
    let api = provider.as_ref().map(|provider| provider.endpoints()).unwrap_or_default();
    let machine = Machine::new(managed.apply(&found.settings).settings, api, 1);
    let (status_tx, status) = watch::channel(Arc::new(machine.status()));
    let announcer = Announcer::new(status_tx, broadcast::channel(16).0);
    let (calls_tx, calls) = mpsc::channel(64);
    let reports_in = reports_tx.clone();
    let parts = Parts {
        machine,
        store: store.clone(),
        network,
        provider: provider.clone(),
        managed: Managed::clone(&managed),
        user_settings: found.settings,
        announcer,
        reports: reports_tx,
        mark_api: Arc::new(AtomicBool::new(true)),
        log,
    };
    let stand = Stand { scripted, provider, store, calls: calls_tx, reports: reports_in, status };
    tokio::select! {
        ended = Service::new(parts).run(found.target, Inputs { calls, reports, host }) => panic!("the service ended: {ended:?}"),
        () = test(&stand) => {}
    }
}

fn config(base: &tempfile::TempDir, store: &Store) -> Config {
    let resolv_conf = base.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 10.9.0.1\n").unwrap();
    let bus_address = Some(format!("unix:path={}", base.path().join("no-bus").display()));
    Config { resolv_conf, bus_address, ..Config::new(&store.network_dir()) }
}

impl Stand {
    /// One call; its answer must come within half a minute, as the server demands.
    pub(super) async fn call(&self, uid: u32, request: Request) -> Result<Response, Problem> {
        let answer = self.ask(uid, request).await;
        tokio::time::timeout(Duration::from_secs(30), answer).await.expect("an answer in time").expect("an answer")
    }

    /// Puts a call into the queue.
    pub(super) async fn ask(&self, uid: u32, request: Request) -> oneshot::Receiver<Result<Response, Problem>> {
        let (reply, answer) = oneshot::channel();
        let caller = Caller::unix(uid, uid, 1, Vec::new());
        self.calls.send(Call { caller, request, reply }).await.unwrap();
        answer
    }

    pub(super) fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// Waits for a status.
    pub(super) async fn until(&self, what: &str, limit: Duration, is: impl Fn(&Status) -> bool) -> Arc<Status> {
        let started = Instant::now();
        while !is(&self.status()) {
            assert!(started.elapsed() < limit, "{what}: {:#?}", self.status());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.status()
    }
}
