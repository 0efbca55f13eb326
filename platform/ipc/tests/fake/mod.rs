//! A helper that only plays: it answers calls from memory over a real socket. Shared by the tests of `hamn-ipc` and `hamn-cli`.
#![allow(dead_code, missing_docs, reason = "each test binary uses a part")]

#[cfg(target_os = "linux")]
#[path = "linux.rs"]
mod os;
#[cfg(target_os = "macos")]
#[path = "macos.rs"]
mod os;
#[cfg(windows)]
#[path = "windows.rs"]
mod os;

use hamn_core::location::{Destination, Target};
use hamn_core::plan::Place;
use hamn_core::policy::{Enforced, NetworkPolicy};
use hamn_core::profile;
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::{Attempt, BlockReason, Generation, Phase};
use hamn_core::status::{AttemptStatus, Blocked, Protection, ProviderStatus, StateKind, Status, TunnelStatus};
use hamn_ipc::call::{CALL_QUEUE, EVENT_QUEUE};
use hamn_ipc::caller::GroupId;
use hamn_ipc::server::{BoundSocket, Limits, ServerConfig, System, serve};
use hamn_ipc::wire::*;
use hamn_ipc::{Call, Problem, ProblemCode, Request, Response, ServerHandles};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// What comes of a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All phases, then connected.
    Connects,
    /// Blocked for this reason.
    Blocks(BlockReason),
    /// Connecting for ever.
    Hangs,
}

/// How the fake behaves.
#[derive(Clone, Debug)]
pub struct Script {
    pub outcome: Outcome,
    pub verify: CheckResult,
    pub control_group: Option<GroupId>,
    pub limits: Limits,
    pub locked: Vec<SettingKey>,
    /// The answer to every request that goes to the helper.
    pub refuse: Option<ProblemCode>,
    /// Whom to ask about callers; nobody sits at this computer unless a test says so.
    pub system: Option<System>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            outcome: Outcome::Connects,
            verify: CheckResult::Pass,
            control_group: None,
            limits: Limits::default(),
            locked: Vec::new(),
            refuse: None,
            system: None,
        }
    }
}

pub struct Fake {
    pub directory: tempfile::TempDir,
    pub socket: PathBuf,
    pub status: Arc<watch::Sender<Arc<Status>>>,
    pub events: broadcast::Sender<Arc<EventLine>>,
    /// Every request that reached the helper.
    pub asked: Arc<Mutex<Vec<Request>>>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn start(script: Script) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = os::socket(directory.path());
        Self::start_at(script, directory, &socket)
    }

    pub fn start_at(script: Script, directory: tempfile::TempDir, socket: &Path) -> Self {
        let bound = BoundSocket::bind(socket).unwrap();
        let (calls, receiver) = mpsc::channel(CALL_QUEUE);
        let (status, watched) = watch::channel(Arc::new(status()));
        let (events, _) = broadcast::channel(EVENT_QUEUE);
        let (stop, stopped) = oneshot::channel();
        let config = ServerConfig {
            control_group: script.control_group.clone(),
            limits: script.limits,
            system: script.system.clone().unwrap_or_else(|| os::system(directory.path())),
            ..ServerConfig::new("9.9.9")
        };
        let handles = ServerHandles { calls, status: watched, events: events.clone() };
        let serving = tokio::spawn(serve(bound, handles, config, async {
            let _ = stopped.await;
        }));
        let status = Arc::new(status);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let actor = Actor {
            script,
            status: Arc::clone(&status),
            events: events.clone(),
            settings: Settings::default(),
            account: AccountInfo::default(),
            devices: vec![device("dev_1", true), device("dev_2", false)],
            profiles: Vec::new(),
            asked: Arc::clone(&asked),
        };
        tokio::spawn(actor.run(receiver));
        Self { directory, socket: socket.to_owned(), status, events, asked, stop: Some(stop), serving: Some(serving) }
    }

    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }

    pub async fn stop(&mut self) {
        drop(self.stop.take());
        self.serving.take().unwrap().await.unwrap();
    }
}

struct Actor {
    script: Script,
    status: Arc<watch::Sender<Arc<Status>>>,
    events: broadcast::Sender<Arc<EventLine>>,
    settings: Settings,
    account: AccountInfo,
    devices: Vec<DeviceEntry>,
    profiles: Vec<ProfileEntry>,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Actor {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        while let Some(call) = calls.recv().await {
            self.asked.lock().unwrap().push(call.request.clone());
            let answer = match self.script.refuse {
                Some(code) => Err(Problem::new(code)),
                None => self.answer(call.request),
            };
            let _ = call.reply.send(answer);
        }
    }

    fn publish(&self, change: impl FnOnce(&mut Status)) -> Status {
        let mut next = self.status.borrow().as_ref().clone();
        next.sequence += 1;
        change(&mut next);
        self.status.send_replace(Arc::new(next.clone()));
        let line = EventLine {
            sequence: 0,
            at_unix_s: 1_800_000_000,
            kind: EventKind::Status,
            code: None,
            message: None,
            status: Some(next.clone()),
        };
        let _ = self.events.send(Arc::new(line));
        next
    }

    fn connect(&self, destination: Destination, if_needed: bool) -> Response {
        let before = self.status.borrow().as_ref().clone();
        if if_needed && before.state == StateKind::Connected && before.destination.as_ref() == Some(&destination) {
            return Response::Intent(Box::new(IntentResult { changed: false, status: before }));
        }
        let mut first = None;
        for phase in [Phase::Securing, Phase::Preparing, Phase::Admitting, Phase::Verifying] {
            let status = self.publish(|status| {
                status.state = StateKind::Connecting;
                status.protected = true;
                status.target = Target::Connected { destination: destination.clone() };
                status.destination = Some(destination.clone());
                status.blocked = None;
                status.attempt = Some(AttemptStatus { number: Attempt(1), phase: Some(phase), failures: 0 });
            });
            first.get_or_insert(status);
        }
        match self.script.outcome {
            Outcome::Hangs => {}
            Outcome::Connects => {
                self.publish(|status| {
                    status.state = StateKind::Connected;
                    status.attempt = Some(AttemptStatus { number: Attempt(1), phase: None, failures: 0 });
                    status.tunnel = Some(tunnel());
                });
            }
            Outcome::Blocks(reason) => {
                self.publish(|status| {
                    status.state = StateKind::Blocked;
                    status.attempt = None;
                    status.blocked = Some(blocked(reason));
                });
            }
        }
        Response::Intent(Box::new(IntentResult { changed: true, status: first.unwrap() }))
    }

    fn disconnect(&self) -> Response {
        let changed = self.status.borrow().state != StateKind::Disconnected;
        let status = self.publish(|status| {
            *status = Status { sequence: status.sequence, ..self::status() };
        });
        Response::Intent(Box::new(IntentResult { changed, status }))
    }

    fn answer(&mut self, request: Request) -> Result<Response, Problem> {
        Ok(match request {
            Request::Connect { destination, if_needed } => {
                self.connect(destination.unwrap_or_else(|| self.settings.destination.clone()), if_needed)
            }
            Request::Disconnect | Request::RestoreNetwork => self.disconnect(),
            Request::Reconnect => self.connect(self.settings.destination.clone(), false),
            Request::Servers => Response::Servers(listing()),
            Request::Login(login) if login.account.reveal().starts_with('0') => {
                return Err(Problem::new(ProblemCode::CredentialsRejected));
            }
            Request::Login(_) => {
                self.account = account();
                Response::Account(self.account.clone())
            }
            Request::Logout => {
                self.account = AccountInfo::default();
                Response::Account(self.account.clone())
            }
            Request::Account => Response::Account(self.account.clone()),
            Request::Devices => Response::Devices(DeviceList { limit: Some(6), devices: self.devices.clone() }),
            Request::RemoveDevice { id } => {
                let before = self.devices.len();
                self.devices.retain(|device| device.id != id);
                if before == self.devices.len() {
                    return Err(Problem::new(ProblemCode::NotFound));
                }
                Response::Devices(DeviceList { limit: Some(6), devices: self.devices.clone() })
            }
            Request::Profiles => self.profiles(),
            Request::ImportProfile(profile) if !profile.conf.reveal().contains("[Interface]") => {
                return Err(profile::ProfileError { line: 1, problem: profile::Problem::OutsideSection }.into());
            }
            Request::ImportProfile(profile) => {
                let endpoint = "192.0.2.1:51820".into();
                self.profiles.push(ProfileEntry { name: profile.name, endpoint, ipv4: true, ..ProfileEntry::default() });
                self.profiles()
            }
            Request::RemoveProfile { name } => {
                self.profiles.retain(|profile| profile.name != name);
                self.profiles()
            }
            Request::Settings => self.settings(),
            Request::ChangeSettings(patch) => {
                if let Some(key) = patch.keys().into_iter().find(|key| self.script.locked.contains(key)) {
                    return Err(Problem::with_detail(ProblemCode::SettingLocked, key.to_string()));
                }
                self.settings = patch.applied_to(&self.settings);
                self.settings()
            }
            Request::ResetSettings { keys } => {
                let keys = keys.unwrap_or_else(|| SettingKey::ALL.to_vec());
                self.settings = SettingsPatch::to_defaults(&keys).applied_to(&self.settings);
                self.settings()
            }
            Request::Policy => Response::Policy(Box::new(policy())),
            Request::Verify => Response::Verify(VerifyReport::new(vec![
                check("rules", CheckResult::Pass),
                check("probe_v4_eth0", self.script.verify),
            ])),
            Request::Log { lines } => Response::Log(LogView { lines: (0..lines.min(3)).map(log_line).collect() }),
            Request::Diagnose => {
                let steps = ["link", "dns", "api", "handshake", "traffic"].map(|id| check(id, CheckResult::Pass));
                Response::Ladder(Ladder { steps: steps.into() })
            }
            Request::Report => Response::Report(Report { text: "a report".into() }),
            Request::RotateKey => Response::Devices(DeviceList { limit: Some(6), devices: self.devices.clone() }),
        })
    }

    fn profiles(&self) -> Response {
        Response::Profiles(ProfileList { profiles: self.profiles.clone() })
    }

    fn settings(&self) -> Response {
        Response::Settings(Box::new(SettingsView::new(&self.settings, &self.script.locked)))
    }
}

fn check(id: &str, result: CheckResult) -> Check {
    let (title, reason) = if id.starts_with("probe") {
        ("Nothing leaves through eth0 (IPv4)", "The probe was sent.")
    } else {
        ("The rules are in force", "They were read back.")
    };
    Check { id: id.into(), title: title.into(), result, reason: reason.into(), ..Check::default() }
}

fn log_line(n: u32) -> LogLine {
    LogLine { at_unix_s: 1_800_000_000, level: "info".into(), target: "hamn_helper".into(), message: format!("line {n}") }
}

pub fn status() -> Status {
    Status {
        sequence: 1,
        version: "9.9.9".into(),
        state: StateKind::Disconnected,
        protected: false,
        target: Target::Disconnected,
        destination: None,
        blocked: None,
        attempt: None,
        tunnel: None,
        protection: Protection {
            kill_switch: KillSwitch::WhileConnected,
            allow_lan: false,
            enforcing: false,
            applied_generation: Some(Generation(3)),
            in_force: true,
            error: None,
            tampered: 0,
            dns_backend: Some("resolved".into()),
        },
        provider: ProviderStatus {
            url: Some("https://api.sandbox.test".into()),
            logged_in: false,
            list_serial: Some(7),
            list_stale: false,
        },
        warnings: Vec::new(),
        managed_by: None,
    }
}

pub fn blocked(reason: BlockReason) -> Blocked {
    Blocked { code: reason, message: reason.message().into(), action: reason.action().into(), retrying: reason.retries() }
}

pub fn tunnel() -> TunnelStatus {
    TunnelStatus {
        place: Place {
            server: "vpn05".into(),
            server_name: "VPN05 - Stockholm".into(),
            country: "se".into(),
            city: "Stockholm".into(),
            exit: Some("se".into()),
            coordinates: Some((59.33, 18.07)),
        },
        interface: "hamn0".into(),
        endpoint: Some(hamn_core::net::Endpoint::udp("198.51.100.1:51820".parse().unwrap())),
        addresses: vec!["10.64.0.3/32".parse().unwrap()],
        resolvers: vec!["10.64.0.1".parse().unwrap()],
        mtu: 1420,
        engine: "gotatun".into(),
        rx_bytes: 1_300_000,
        tx_bytes: 42_000,
        last_handshake_s: Some(12),
        connected_since_unix_s: Some(1_800_000_000),
        stalled: false,
        exit_addresses: vec!["198.51.100.1".parse().unwrap()],
        provisional: false,
    }
}

pub fn listing() -> ServerListing {
    let exit = |id: &str| ExitEntry { id: id.into(), country: id.into(), default: id == "se" };
    let server = ServerEntry {
        id: "vpn05".into(),
        name: "VPN05 - Stockholm".into(),
        state: "online".into(),
        load_pct: Some(8),
        features: vec!["ipv6".into()],
        protocols: vec!["wireguard".into()],
        exits: vec![exit("se"), exit("us")],
        latency_ms: Some(12),
    };
    let city = CityEntry {
        id: "se-sto".into(),
        slug: "stockholm".into(),
        name: "Stockholm".into(),
        latitude: 59.33,
        longitude: 18.07,
        servers: vec![server],
    };
    let country = CountryEntry { country: "se".into(), name: "Sweden".into(), cities: vec![city] };
    ServerListing {
        serial: Some(7),
        generated_at_unix_s: Some(1_800_000_000),
        expires_at_unix_s: Some(1_800_600_000),
        stale: false,
        countries: vec![country],
    }
}

pub fn account() -> AccountInfo {
    AccountInfo {
        logged_in: true,
        id: Some("acc_91".into()),
        status: Some("active".into()),
        paid_until: Some("2027-01-01T00:00:00Z".into()),
        device_limit: Some(6),
        addons: vec!["filtering".into()],
        device: Some("dev_1".into()),
    }
}

fn device(id: &str, current: bool) -> DeviceEntry {
    let created_at = Some("2026-11-20T21:00:00Z".into());
    DeviceEntry { id: id.into(), name: "laptop".into(), platform: Some("linux".into()), created_at, current }
}

pub fn policy() -> PolicyView {
    PolicyView {
        words: vec!["Everything that is not listed is dropped.".into(), "Loopback is allowed.".into()],
        native: "table inet hamn {\n}\n".into(),
        policy: NetworkPolicy::Enforce(Enforced::default()),
        generation: Generation(3),
        in_force: true,
        error: None,
    }
}
