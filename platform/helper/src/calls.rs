//! Answers the local API's calls. The server has checked that the caller may ask; here the request meets the facts.

use crate::provider::{ListInUse, Provider};
use crate::service::{Report, Service};
use crate::{clock, prepare, verify, views};
use hamn_api::{ApiError, Credentials, Token};
use hamn_core::event::{Command, Event};
use hamn_core::location::{Destination, Target};
use hamn_core::managed::WhoMayDisconnect;
use hamn_core::policy::NetworkPolicy;
use hamn_core::profile::{self, ProfileName};
use hamn_core::server::{self, Preferences};
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::State;
use hamn_ipc::wire::{IntentResult, PolicyView, SettingKey, SettingsPatch, SettingsView};
use hamn_ipc::{Call, Problem, ProblemCode, Request, Response, wire};
use std::sync::Arc;

type Answer = Result<Response, Problem>;

impl Service {
    /// Answers one call. What needs the provider goes on in the background and answers from there.
    pub(crate) async fn answer(&mut self, call: Call) {
        let Call { caller, request, reply } = call;
        tracing::info!(uid = caller.uid, request = request_name(&request), "call");
        let answer = match request {
            Request::Connect { destination, if_needed } => self.connect(destination, if_needed).await,
            Request::Disconnect => self.disconnect(caller.uid).await,
            Request::Reconnect => self.reconnect().await,
            Request::RestoreNetwork => self.restore_network().await,
            Request::Servers => Ok(Response::Servers(self.servers())),
            Request::Profiles => self.profiles(),
            Request::ImportProfile(import) => self.import_profile(&import).await,
            Request::RemoveProfile { name } => self.remove_profile(&name).await,
            Request::Settings => Ok(self.settings_view()),
            Request::ChangeSettings(patch) => self.change_settings(&patch).await,
            Request::ResetSettings { keys } => {
                let keys = keys.unwrap_or_else(|| self.resettable());
                self.change_settings(&SettingsPatch::to_defaults(&keys)).await
            }
            Request::Policy => self.policy_view(),
            Request::Verify => {
                let remaining = verify::begin(self).await;
                tokio::spawn(async move { reply.send(Ok(Response::Verify(remaining.finish().await))) });
                return;
            }
            Request::Login(login) => return self.in_background(reply, move |provider, reports| Box::pin(log_in(provider, reports, login))),
            Request::Logout => return self.log_out(reply).await,
            Request::Account => return self.in_background(reply, |provider, _| Box::pin(account(provider))),
            Request::Devices => return self.in_background(reply, |provider, _| Box::pin(devices(provider))),
            Request::RemoveDevice { id } => {
                return self.in_background(reply, move |provider, reports| Box::pin(remove_device(provider, reports, id)));
            }
        };
        let _ = reply.send(answer);
    }

    fn in_background<F>(&self, reply: tokio::sync::oneshot::Sender<Answer>, work: F)
    where
        F: FnOnce(Arc<Provider>, tokio::sync::mpsc::Sender<Report>) -> std::pin::Pin<Box<dyn Future<Output = Answer> + Send>>,
    {
        let Some(provider) = self.provider.clone() else {
            let _ = reply.send(Err(Problem::new(ProblemCode::NoProvider)));
            return;
        };
        let work = work(provider, self.reports.clone());
        tokio::spawn(async move {
            let _ = reply.send(work.await);
        });
    }

    // ---- intent ----------------------------------------------------------------------------------------------------

    async fn connect(&mut self, destination: Option<Destination>, if_needed: bool) -> Answer {
        let destination = destination.unwrap_or_else(|| self.machine.settings().destination.clone());
        let destination = self.check_destination(destination)?;
        let same = *self.machine.target() == Target::Connected { destination: destination.clone() };
        let under_way = same && matches!(self.machine.state(), State::Connected { .. } | State::Connecting { .. });
        if !(under_way && if_needed) {
            self.dispatch(Event::Command(Command::Connect(destination))).await;
        }
        Ok(self.intent(!under_way))
    }

    /// Refuses at once what can never work, so that a typing error does not block the network.
    fn check_destination(&self, destination: Destination) -> Result<Destination, Problem> {
        if let Destination::Profile { name } = &destination {
            if !self.managed.apply(&self.user_settings).profiles_allowed {
                return Err(Problem::with_detail(ProblemCode::SettingLocked, "Your organisation does not allow imported profiles."));
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
        let preferences = Preferences { ipv6: true, near: None, avoid: &[], quality: &quality, now_unix_s: clock::now().unix_s };
        match server::select(&in_use.list, &in_use.loads, &destination, &preferences, 0) {
            Ok(_) => Ok(destination),
            Err(error) => Err(Problem::with_detail(ProblemCode::NoServer, error.to_string())),
        }
    }

    async fn disconnect(&mut self, uid: u32) -> Answer {
        if uid != 0 && self.managed.apply(&self.user_settings).who_may_disconnect == WhoMayDisconnect::Admin {
            return Err(Problem::with_detail(ProblemCode::NotAllowed, "The administrator's policy lets only an administrator disconnect."));
        }
        let resting = *self.machine.target() == Target::Disconnected && matches!(self.machine.state(), State::Disconnected);
        if !resting {
            self.dispatch(Event::Command(Command::Disconnect)).await;
        }
        Ok(self.intent(!resting))
    }

    async fn reconnect(&mut self) -> Answer {
        if *self.machine.target() == Target::Disconnected {
            return Err(Problem::with_detail(ProblemCode::Conflict, "There is nothing to reconnect: no tunnel is wanted."));
        }
        self.dispatch(Event::Command(Command::Reconnect)).await;
        Ok(self.intent(true))
    }

    async fn restore_network(&mut self) -> Answer {
        if self.machine.settings().kill_switch == KillSwitch::Always {
            let patch = SettingsPatch { kill_switch: Some(KillSwitch::WhileConnected), ..SettingsPatch::default() };
            self.change_settings(&patch).await?;
        }
        self.dispatch(Event::Command(Command::Disconnect)).await;
        Ok(self.intent(true))
    }

    fn intent(&self, changed: bool) -> Response {
        Response::Intent(Box::new(IntentResult { changed, status: self.status() }))
    }

    // ---- settings --------------------------------------------------------------------------------------------------

    fn locked(&self) -> Vec<SettingKey> {
        let effective = self.managed.apply(&self.user_settings);
        SettingKey::ALL.into_iter().filter(|key| effective.is_locked(key.as_str())).collect()
    }

    fn resettable(&self) -> Vec<SettingKey> {
        let locked = self.locked();
        SettingKey::ALL.into_iter().filter(|key| !locked.contains(key)).collect()
    }

    fn settings_view(&self) -> Response {
        Response::Settings(Box::new(SettingsView::new(self.machine.settings(), &self.locked())))
    }

    async fn change_settings(&mut self, patch: &SettingsPatch) -> Answer {
        let locked = self.locked();
        if let Some(key) = patch.keys().into_iter().find(|key| locked.contains(key)) {
            return Err(Problem::with_detail(ProblemCode::SettingLocked, format!("`{key}` is managed by your organisation.")));
        }
        let wanted: Settings = patch.applied_to(&self.user_settings);
        wanted.validate().map_err(|error| Problem::with_detail(ProblemCode::InvalidValue, error.to_string()))?;
        self.store.save_settings(&wanted).map_err(|error| {
            Problem::with_detail(ProblemCode::Internal, format!("The settings could not be saved ({error:#}); nothing was changed."))
        })?;
        self.user_settings = wanted;
        let effective = self.managed.apply(&self.user_settings).settings;
        self.dispatch(Event::SettingsChanged(effective)).await;
        Ok(self.settings_view())
    }

    // ---- profiles --------------------------------------------------------------------------------------------------

    fn profiles(&self) -> Answer {
        let names = self.store.profile_names().map_err(|error| internal(&error))?;
        let profiles = names.iter().filter_map(|name| self.store.profile(name).ok().flatten()).map(|profile| views::profile_entry(&profile)).collect();
        Ok(Response::Profiles(wire::ProfileList { profiles }))
    }

    async fn import_profile(&mut self, import: &wire::ImportProfile) -> Answer {
        if !self.managed.apply(&self.user_settings).profiles_allowed {
            return Err(Problem::with_detail(ProblemCode::SettingLocked, "Your organisation does not allow imported profiles."));
        }
        let name = ProfileName::try_from(import.name.clone())
            .map_err(|error| Problem::with_detail(ProblemCode::InvalidValue, error.to_string()))?;
        let known = self.store.profile_names().map_err(|error| internal(&error))?;
        if known.contains(&name) && !import.replace {
            return Err(Problem::with_detail(ProblemCode::Conflict, format!("A profile named {name} exists; remove it first, or replace it.")));
        }
        if known.len() >= crate::store::MAX_PROFILES {
            return Err(Problem::with_detail(ProblemCode::Conflict, "There are too many profiles; remove one first."));
        }
        let parsed = profile::parse(name.clone(), import.conf.reveal().as_bytes())
            .map_err(|error| Problem::with_detail(ProblemCode::ProfileInvalid, error.to_string()))?;
        self.store.save_profile(&name, &parsed.profile.to_conf()).map_err(|error| internal(&error))?;
        self.dispatch(Event::CredentialsChanged).await;
        let notes: Vec<String> = parsed.warnings.iter().map(|warning| format!("line {}: {}", warning.line, warning.message)).collect();
        let mut answer = self.profiles()?;
        if let Response::Profiles(list) = &mut answer
            && let Some(entry) = list.profiles.iter_mut().find(|entry| entry.name == name.as_str())
        {
            entry.warnings = notes;
        }
        Ok(answer)
    }

    async fn remove_profile(&mut self, name: &str) -> Answer {
        let name = ProfileName::try_from(name.to_owned()).map_err(|_| Problem::new(ProblemCode::NoProfile))?;
        let in_use = Target::Connected { destination: Destination::Profile { name: name.to_string() } };
        if *self.machine.target() == in_use {
            return Err(Problem::with_detail(ProblemCode::Conflict, "That profile is in use; disconnect first."));
        }
        if !self.store.remove_profile(&name).map_err(|error| internal(&error))? {
            return Err(Problem::new(ProblemCode::NoProfile));
        }
        self.profiles()
    }

    // ---- views -----------------------------------------------------------------------------------------------------

    fn servers(&self) -> wire::ServerListing {
        self.provider.as_ref().and_then(|provider| provider.list()).map(|in_use: Arc<ListInUse>| views::listing(&in_use)).unwrap_or_default()
    }

    fn policy_view(&self) -> Answer {
        let policy = self.machine.policy().cloned().unwrap_or(NetworkPolicy::Open);
        let description = hamn_network::describe(&policy);
        Ok(Response::Policy(Box::new(PolicyView {
            words: description.words,
            native: description.native,
            policy,
            generation: self.machine.generation(),
            in_force: self.machine.in_force(),
            error: self.machine.apply_error().map(str::to_owned),
        })))
    }

    async fn log_out(&mut self, reply: tokio::sync::oneshot::Sender<Answer>) {
        let uses_provider = matches!(self.machine.target(), Target::Connected { destination } if !matches!(destination, Destination::Profile { .. }));
        if uses_provider {
            self.dispatch(Event::Command(Command::Disconnect)).await;
        }
        self.in_background(reply, |provider, _| {
            Box::pin(async move {
                provider.logout().await.map_err(|error| internal(&error))?;
                Ok(Response::Account(wire::AccountInfo::default()))
            })
        });
    }
}

async fn log_in(provider: Arc<Provider>, reports: tokio::sync::mpsc::Sender<Report>, login: wire::LoginRequest) -> Answer {
    let secret = |secret: &wire::Secret| Token::new(secret.reveal().to_owned());
    let credentials =
        Credentials { account: secret(&login.account), password: login.password.as_ref().map(secret), otp: login.otp.as_ref().map(secret) };
    provider.login(&credentials).await.map_err(|error| api_problem(&error))?;
    provider.refresh(clock::now().unix_s).await;
    let _ = reports.send(Report::Event(Event::ApiAddresses(provider.endpoints()))).await;
    let _ = reports.send(Report::Event(Event::CredentialsChanged)).await;
    account(provider).await
}

async fn account(provider: Arc<Provider>) -> Answer {
    if !provider.logged_in() {
        return Ok(Response::Account(wire::AccountInfo::default()));
    }
    let account = provider.client.account().await.map_err(|error| api_problem(&error))?;
    let device = provider.stored_device().ok().flatten().map(|device| device.id);
    Ok(Response::Account(wire::AccountInfo {
        logged_in: true,
        id: Some(account.id),
        status: Some(account.status),
        paid_until: account.paid_until,
        device_limit: Some(account.device_limit),
        addons: account.addons,
        device,
    }))
}

async fn devices(provider: Arc<Provider>) -> Answer {
    if !provider.logged_in() {
        return Err(Problem::new(ProblemCode::LoggedOut));
    }
    let own = provider.stored_device().ok().flatten().map(|device| device.id);
    let devices = provider.client.devices().await.map_err(|error| api_problem(&error))?;
    let limit = provider.client.account().await.ok().map(|account| account.device_limit);
    let entry = |device: hamn_api::Device| wire::DeviceEntry {
        current: own.as_deref() == Some(device.id.as_str()),
        id: device.id,
        name: device.name,
        platform: None,
        created_at: Some(device.created_at),
    };
    Ok(Response::Devices(wire::DeviceList { limit, devices: devices.into_iter().map(entry).collect() }))
}

async fn remove_device(provider: Arc<Provider>, reports: tokio::sync::mpsc::Sender<Report>, id: String) -> Answer {
    provider.client.remove_device(&id).await.map_err(|error| api_problem(&error))?;
    let _ = reports.send(Report::Event(Event::CredentialsChanged)).await;
    devices(provider).await
}

/// The same code in API, CLI and window: the provider's errors become the reasons that a blocked state has.
fn api_problem(error: &ApiError) -> Problem {
    let code = match error {
        ApiError::Throttled { .. } => ProblemCode::TooManyRequests,
        ApiError::Status(_) | ApiError::NotJson | ApiError::TooBig | ApiError::Broken | ApiError::Redirect(_) => ProblemCode::ProviderError,
        ApiError::Problem(problem) if error.block_reason() == hamn_core::state::BlockReason::ApiUnreachable => {
            if problem.status == 404 { ProblemCode::NotFound } else { ProblemCode::ProviderError }
        }
        _ => ProblemCode::from(error.block_reason()),
    };
    Problem::with_detail(code, error.to_string())
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
        Request::RestoreNetwork => "restore_network",
    }
}
