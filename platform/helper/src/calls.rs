//! Answers the local API's calls. The server has checked that the caller may ask; here the request meets the facts.

use crate::account::{account, devices, log_in, remove_device, rotate_key};
use crate::provider::Provider;
use crate::service::{Report, Service};
use crate::store::Store;
use crate::{clock, ladder, prepare, support, verify, views};
use hamn_core::event::{Command, Event};
use hamn_core::location::{Destination, Target};
use hamn_core::managed::{Effective, WhoMayDisconnect};
use hamn_core::policy::NetworkPolicy;
use hamn_core::profile::{self, ProfileName};
use hamn_core::server::{self, Preferences};
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::State;
use hamn_ipc::call::Caller;
use hamn_ipc::wire::{IntentResult, PolicyView, SettingKey, SettingsView};
use hamn_ipc::{Call, Problem, ProblemCode, Request, Response, wire};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

pub(crate) type Answer = Result<Response, Problem>;
type Reply = oneshot::Sender<Answer>;

/// A call that waits for policy and tunnel is answered with what there is after this long.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// What is answered once everything that was asked of the system is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The intent, and whether it is another one.
    Intent { changed: bool },
    /// The settings in force.
    Settings,
}

/// Calls whose answer waits until the system has followed: whoever is told "connecting" is protected by then.
#[derive(Default)]
pub(crate) struct Waiting(Vec<(Instant, Outcome, Reply)>);

impl Waiting {
    /// Waits until the oldest must be answered, for ever when there is none.
    pub(crate) async fn overdue(&self) {
        match self.0.first() {
            Some((deadline, ..)) => tokio::time::sleep_until(*deadline).await,
            None => std::future::pending().await,
        }
    }
}

impl Service {
    /// Answers one call. What waits for the system, the provider or the disk is answered later.
    pub(crate) async fn answer(&mut self, call: Call) {
        let Call { caller, request, reply } = call;
        // Who asked for what, and with which result, is logged by the server.
        tracing::debug!(user = %caller.user(), request = request_name(&request), "call");
        match request {
            Request::Connect { destination, if_needed } => {
                let outcome = self.connect(destination, if_needed).await;
                self.answer_when_done(outcome, reply);
            }
            Request::Disconnect => {
                let outcome = self.disconnect(&caller).await;
                self.answer_when_done(outcome, reply);
            }
            Request::Reconnect => {
                let outcome = self.reconnect().await;
                self.answer_when_done(outcome, reply);
            }
            Request::RestoreNetwork => {
                let outcome = self.restore_network(&caller).await;
                self.answer_when_done(outcome, reply);
            }
            Request::ChangeSettings(patch) => {
                let outcome = self.change_settings(|settings| patch.applied_to(settings), &patch.keys()).await;
                self.answer_when_done(outcome, reply);
            }
            Request::ResetSettings { keys } => {
                let outcome = self.reset_settings(keys).await;
                self.answer_when_done(outcome, reply);
            }
            Request::Settings => send(reply, Ok(self.settings_view())),
            Request::Policy => send(reply, self.policy_view()),
            Request::Servers => self.list_servers(&caller, reply),
            Request::Profiles => self.in_background(&caller, reply, list_profiles(self.store.clone())),
            Request::ImportProfile(import) => match self.import_profile(&import).await {
                Ok(remarks) => self.in_background(&caller, reply, list_imported(self.store.clone(), import.name, remarks)),
                Err(problem) => send(reply, Err(problem)),
            },
            Request::RemoveProfile { name } => match self.remove_profile(&name) {
                Ok(()) => self.in_background(&caller, reply, list_profiles(self.store.clone())),
                Err(problem) => send(reply, Err(problem)),
            },
            Request::Verify => self.test_itself(&caller, reply),
            Request::Diagnose => self.climb(&caller, reply),
            Request::Log { lines } => send(reply, Ok(Response::Log(wire::LogView { lines: self.log.newest(lines) }))),
            Request::Report => self.report_for_support(&caller, reply),
            Request::RotateKey => self.ask_provider(&caller, reply, rotate_key),
            Request::Login(login) => self.ask_provider(&caller, reply, |provider, reports| log_in(provider, reports, login)),
            Request::Logout => self.log_out(&caller, reply).await,
            Request::Account => self.ask_provider(&caller, reply, |provider, _| account(provider)),
            Request::Devices => self.ask_provider(&caller, reply, |provider, _| devices(provider)),
            Request::RemoveDevice { id } => {
                self.ask_provider(&caller, reply, |provider, reports| remove_device(provider, reports, id));
            }
        }
    }

    fn answer_when_done(&mut self, outcome: Result<Outcome, Problem>, reply: Reply) {
        match outcome {
            Ok(outcome) => self.waiting.0.push((Instant::now() + ANSWER_WITHIN, outcome, reply)),
            Err(problem) => send(reply, Err(problem)),
        }
    }

    fn test_itself(&self, caller: &Caller, reply: Reply) {
        let (remaining, turn) = (verify::begin(self), Arc::clone(&self.self_test));
        self.in_background(caller, reply, async move {
            let _turn = turn.acquire_owned().await;
            Ok(Response::Verify(remaining.finish().await))
        });
    }

    fn climb(&self, caller: &Caller, reply: Reply) {
        let (climb, turn) = (ladder::begin(self), Arc::clone(&self.self_test));
        self.in_background(caller, reply, async move {
            let _turn = turn.acquire_owned().await;
            Ok(Response::Ladder(climb.finish().await))
        });
    }

    fn report_for_support(&mut self, caller: &Caller, reply: Reply) {
        let material = support::Material {
            status: self.status(),
            settings: self.settings_now(),
            policy: self.policy_now(),
            facts: self.facts().clone(),
            now_unix_s: clock::now().unix_s,
            log: self.log.newest(wire::LOG_LINES),
        };
        self.in_background(caller, reply, async move {
            let written = tokio::task::spawn_blocking(move || support::report(&material)).await;
            written.map(Response::Report).map_err(|_| Problem::new(ProblemCode::Internal))
        });
    }

    /// Answers the calls that waited.
    pub(crate) fn answer_waiting(&mut self) {
        for (_, outcome, reply) in std::mem::take(&mut self.waiting.0) {
            let response = match outcome {
                Outcome::Intent { changed } => Response::Intent(Box::new(IntentResult { changed, status: self.status() })),
                Outcome::Settings => self.settings_view(),
            };
            send(reply, Ok(response));
        }
    }

    /// Bounded, and root has places of its own: nobody's flood keeps the administrator out.
    fn in_background(&self, caller: &Caller, reply: Reply, work: impl Future<Output = Answer> + Send + 'static) {
        let [roots, others] = &self.background;
        let places = if caller.is_administrator() { roots } else { others };
        match Arc::clone(places).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(async move {
                    let answer = work.await;
                    drop(place);
                    send(reply, answer);
                });
            }
            Err(_) => send(reply, Err(Problem::new(ProblemCode::Busy))),
        }
    }

    fn ask_provider<F, W>(&self, caller: &Caller, reply: Reply, work: F)
    where
        F: FnOnce(Arc<Provider>, mpsc::Sender<Report>) -> W,
        W: Future<Output = Answer> + Send + 'static,
    {
        match &self.provider {
            Some(provider) => self.in_background(caller, reply, work(Arc::clone(provider), self.reports.clone())),
            None => send(reply, Err(Problem::new(ProblemCode::NoProvider))),
        }
    }

    // ---- intent ----------------------------------------------------------------------------------------------------

    /// The user's settings with the administrator's policy over them.
    pub(crate) fn effective(&self) -> Effective {
        self.managed.apply(&self.user_settings)
    }

    async fn connect(&mut self, destination: Option<Destination>, if_needed: bool) -> Result<Outcome, Problem> {
        let usual = self.machine.settings().destination.clone();
        let destination = self.check_destination(destination.unwrap_or_else(|| usual.clone()))?;
        if self.effective().is_locked("destination") && destination != self.as_meant(&usual) {
            return Err(Problem::with_detail(ProblemCode::SettingLocked, "Your organisation fixes where to connect to."));
        }
        let same = *self.machine.target() == Target::Connected { destination: destination.clone() };
        let under_way = same && matches!(self.machine.state(), State::Connected { .. } | State::Connecting { .. });
        if !(under_way && if_needed) {
            self.dispatch(Event::Command(Command::Connect(destination))).await;
        }
        Ok(Outcome::Intent { changed: !under_way })
    }

    fn as_meant(&self, destination: &Destination) -> Destination {
        match self.provider.as_ref().and_then(|provider| provider.list()) {
            Some(in_use) => prepare::meant(&in_use.list, destination),
            None => destination.clone(),
        }
    }

    /// Refuses at once what can never work, so that a typing error does not block the network.
    fn check_destination(&self, destination: Destination) -> Result<Destination, Problem> {
        if let Destination::Profile { name } = &destination {
            if !self.effective().profiles_allowed {
                return Err(profiles_forbidden());
            }
            let known = ProfileName::try_from(name.clone()).ok().and_then(|name| self.store.profile(&name).ok().flatten());
            return if known.is_some() { Ok(destination) } else { Err(Problem::new(ProblemCode::NoProfile)) };
        }
        let provider = self.provider.as_ref().ok_or_else(|| Problem::new(ProblemCode::NoProvider))?;
        if !provider.logged_in() {
            return Err(Problem::new(ProblemCode::LoggedOut));
        }
        let Some(in_use) = provider.list() else { return Ok(destination) };
        let destination = prepare::meant(&in_use.list, &destination);
        let (quality, _) = provider.quality_and_failed();
        let now = clock::now();
        let preferences = Preferences { ipv6: true, near: None, avoid: &[], quality: &quality, now_unix_s: now.unix_s };
        match server::select(&in_use.list, &in_use.loads(now), &destination, &preferences, 0) {
            Ok(_) => Ok(destination),
            Err(error) => Err(Problem::with_detail(ProblemCode::NoServer, error.to_string())),
        }
    }

    /// The administrator may have kept the right to give a tunnel up (G15).
    fn may_give_up(&self, caller: &Caller) -> Result<(), Problem> {
        if !caller.is_administrator() && self.effective().who_may_disconnect == WhoMayDisconnect::Admin {
            return Err(Problem::with_detail(
                ProblemCode::NotAllowed,
                "The administrator's policy lets only an administrator disconnect.",
            ));
        }
        Ok(())
    }

    async fn disconnect(&mut self, caller: &Caller) -> Result<Outcome, Problem> {
        self.may_give_up(caller)?;
        let resting = *self.machine.target() == Target::Disconnected && matches!(self.machine.state(), State::Disconnected);
        if !resting {
            self.dispatch(Event::Command(Command::Disconnect)).await;
        }
        Ok(Outcome::Intent { changed: !resting })
    }

    async fn reconnect(&mut self) -> Result<Outcome, Problem> {
        if *self.machine.target() == Target::Disconnected {
            return Err(Problem::with_detail(ProblemCode::Conflict, "There is nothing to reconnect: no tunnel is wanted."));
        }
        self.dispatch(Event::Command(Command::Reconnect)).await;
        Ok(Outcome::Intent { changed: true })
    }

    /// Lockdown that the policy fixes stays: who may change the policy changes it there.
    async fn restore_network(&mut self, caller: &Caller) -> Result<Outcome, Problem> {
        self.may_give_up(caller)?;
        if self.machine.settings().kill_switch == KillSwitch::Always {
            let open = |settings: &Settings| Settings { kill_switch: KillSwitch::WhileConnected, ..settings.clone() };
            self.change_settings(open, &[SettingKey::KillSwitch]).await?;
        }
        self.dispatch(Event::Command(Command::Disconnect)).await;
        Ok(Outcome::Intent { changed: true })
    }

    // ---- settings --------------------------------------------------------------------------------------------------

    fn locked(&self) -> Vec<SettingKey> {
        let effective = self.effective();
        SettingKey::ALL.into_iter().filter(|key| effective.is_locked(key.as_str())).collect()
    }

    fn settings_view(&self) -> Response {
        Response::Settings(Box::new(self.settings_now()))
    }

    fn settings_now(&self) -> SettingsView {
        let managed_by = self.managed.organisation().map(str::to_owned);
        SettingsView { managed_by, ..SettingsView::new(self.machine.settings(), &self.locked()) }
    }

    /// Back to where the administrator lets users start.
    async fn reset_settings(&mut self, keys: Option<Vec<SettingKey>>) -> Result<Outcome, Problem> {
        let locked = self.locked();
        let keys = keys.unwrap_or_else(|| SettingKey::ALL.into_iter().filter(|key| !locked.contains(key)).collect());
        let defaults = self.managed.defaults();
        self.change_settings(|settings| with_values_of(settings, &defaults, &keys), &keys).await
    }

    async fn change_settings(
        &mut self,
        change: impl FnOnce(&Settings) -> Settings,
        keys: &[SettingKey],
    ) -> Result<Outcome, Problem> {
        let locked = self.locked();
        if let Some(key) = keys.iter().find(|key| locked.contains(key)) {
            return Err(Problem::with_detail(ProblemCode::SettingLocked, format!("`{key}` is managed by your organisation.")));
        }
        let wanted = change(&self.user_settings);
        wanted.validate().map_err(|error| Problem::with_detail(ProblemCode::InvalidValue, error.to_string()))?;
        self.store.save_settings(&wanted).map_err(|error| {
            Problem::with_detail(
                ProblemCode::Internal,
                format!("The settings could not be saved ({error:#}); nothing was changed."),
            )
        })?;
        self.user_settings = wanted;
        let effective = self.effective().settings;
        self.dispatch(Event::SettingsChanged(effective)).await;
        Ok(Outcome::Settings)
    }

    // ---- profiles --------------------------------------------------------------------------------------------------

    /// Takes a profile in; what in it has no effect is told.
    async fn import_profile(&mut self, import: &wire::ImportProfile) -> Result<Vec<wire::ProfileRemark>, Problem> {
        if !self.effective().profiles_allowed {
            return Err(profiles_forbidden());
        }
        let name = ProfileName::try_from(import.name.clone())
            .map_err(|error| Problem::with_detail(ProblemCode::InvalidValue, error.to_string()))?;
        let known = self.store.profile_names().map_err(|error| internal(&error))?;
        if known.contains(&name) && !import.replace {
            return Err(Problem::with_detail(
                ProblemCode::Conflict,
                format!("A profile named {name} exists; remove it first, or replace it."),
            ));
        }
        if !known.contains(&name) && known.len() >= crate::store::MAX_PROFILES {
            return Err(Problem::with_detail(ProblemCode::Conflict, "There are too many profiles; remove one first."));
        }
        let parsed = profile::parse(name.clone(), import.conf.reveal().as_bytes())?;
        self.store.save_profile(&name, &parsed.profile.to_conf()).map_err(|error| internal(&error))?;
        // A tunnel of the profile as it was before is over; elsewhere it may be what an attempt waits for.
        let event = if self.is_in_use(&name) { Event::Command(Command::Reconnect) } else { Event::CredentialsChanged };
        self.dispatch(event).await;
        Ok(parsed.warnings.into_iter().map(views::remark).collect())
    }

    fn is_in_use(&self, name: &ProfileName) -> bool {
        *self.machine.target() == Target::Connected { destination: Destination::Profile { name: name.to_string() } }
    }

    fn remove_profile(&self, name: &str) -> Result<(), Problem> {
        let name = ProfileName::try_from(name.to_owned()).map_err(|_| Problem::new(ProblemCode::NoProfile))?;
        if self.is_in_use(&name) {
            return Err(Problem::with_detail(ProblemCode::Conflict, "That profile is in use; disconnect first."));
        }
        if !self.store.remove_profile(&name).map_err(|error| internal(&error))? {
            return Err(Problem::new(ProblemCode::NoProfile));
        }
        Ok(())
    }

    // ---- views -----------------------------------------------------------------------------------------------------

    fn list_servers(&self, caller: &Caller, reply: Reply) {
        let listed = self.provider.as_ref().and_then(|provider| Some((provider.list()?, provider.quality_and_failed().0)));
        let Some((in_use, quality)) = listed else {
            return send(reply, Ok(Response::Servers(wire::ServerListing::default())));
        };
        // A long list takes milliseconds to write out.
        self.in_background(caller, reply, async move {
            let listing = tokio::task::spawn_blocking(move || views::listing(&in_use, &quality, clock::now())).await;
            listing.map(Response::Servers).map_err(|_| Problem::new(ProblemCode::Internal))
        });
    }

    fn policy_view(&self) -> Answer {
        Ok(Response::Policy(Box::new(self.policy_now())))
    }

    fn policy_now(&self) -> PolicyView {
        let policy = self.machine.policy().cloned().unwrap_or(NetworkPolicy::Open);
        let description = hamn_network::describe(&policy);
        PolicyView {
            words: description.words,
            native: description.native,
            policy,
            generation: self.machine.generation(),
            in_force: self.machine.in_force(),
            error: self.machine.apply_error().map(str::to_owned),
        }
    }

    /// A tunnel of the provider's ends with the session, so who may not end the tunnel may not log out either.
    async fn log_out(&mut self, caller: &Caller, reply: Reply) {
        let uses_provider = matches!(self.machine.target(), Target::Connected { destination } if !matches!(destination, Destination::Profile { .. }));
        if uses_provider && self.provider.is_some() {
            if let Err(problem) = self.may_give_up(caller) {
                return send(reply, Err(problem));
            }
            self.dispatch(Event::Command(Command::Disconnect)).await;
        }
        self.ask_provider(caller, reply, |provider, _| async move {
            provider.logout().await.map_err(|error| internal(&error))?;
            Ok(Response::Account(wire::AccountInfo::default()))
        });
    }
}

/// The caller may have gone; then nobody is told.
fn send(reply: Reply, answer: Answer) {
    let _ = reply.send(answer);
}

fn profiles_forbidden() -> Problem {
    Problem::with_detail(ProblemCode::SettingLocked, "Your organisation does not allow imported profiles.")
}

/// `settings` with the values of `from` for these keys.
fn with_values_of(settings: &Settings, from: &Settings, keys: &[SettingKey]) -> Settings {
    let mut result = settings.clone();
    for key in keys {
        match key {
            SettingKey::KillSwitch => result.kill_switch = from.kill_switch,
            SettingKey::AutoConnect => result.auto_connect = from.auto_connect,
            SettingKey::AllowLan => result.allow_lan = from.allow_lan,
            SettingKey::Dns => result.dns.clone_from(&from.dns),
            SettingKey::Ipv6 => result.ipv6 = from.ipv6,
            SettingKey::Mtu => result.mtu = from.mtu,
            SettingKey::Destination => result.destination.clone_from(&from.destination),
            SettingKey::KeyRotationDays => result.key_rotation_days = from.key_rotation_days,
        }
    }
    result
}

async fn list_profiles(store: Store) -> Answer {
    list_imported(store, String::new(), Vec::new()).await
}

/// All profiles; the one of this name with the remarks of its import.
async fn list_imported(store: Store, name: String, remarks: Vec<wire::ProfileRemark>) -> Answer {
    let read = move || -> anyhow::Result<Vec<wire::ProfileEntry>> {
        let names = store.profile_names()?;
        Ok(names
            .iter()
            .filter_map(|name| store.profile(name).ok().flatten())
            .map(|profile| views::profile_entry(&profile))
            .collect())
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(|_| Problem::new(ProblemCode::Internal))?;
    let mut profiles = read.map_err(|error| internal(&error))?;
    if let Some(entry) = profiles.iter_mut().find(|entry| entry.name == name) {
        entry.remarks = remarks;
    }
    Ok(Response::Profiles(wire::ProfileList { profiles }))
}

fn internal(error: &anyhow::Error) -> Problem {
    Problem::with_detail(ProblemCode::Internal, format!("{error:#}"))
}

const fn request_name(request: &Request) -> &'static str {
    match request {
        Request::Connect { .. } => "connect",
        Request::Disconnect => "disconnect",
        Request::Reconnect => "reconnect",
        Request::Servers => "servers",
        Request::Login(_) => "login",
        Request::Logout => "logout",
        Request::Account => "account",
        Request::Devices => "devices",
        Request::RemoveDevice { .. } => "remove_device",
        Request::Profiles => "profiles",
        Request::ImportProfile(_) => "import_profile",
        Request::RemoveProfile { .. } => "remove_profile",
        Request::Settings => "settings",
        Request::ChangeSettings(_) => "change_settings",
        Request::ResetSettings { .. } => "reset_settings",
        Request::Policy => "policy",
        Request::Verify => "verify",
        Request::Log { .. } => "log",
        Request::Diagnose => "diagnose",
        Request::Report => "report",
        Request::RotateKey => "rotate_key",
        Request::RestoreNetwork => "restore_network",
    }
}
