//! The helper as a service of Windows: started by the service manager, told by it what happens to the computer, and telling
//! it how it is (crate `windows-service`; "Services" at learn.microsoft.com).

use super::plan::NAME;
use crate::arguments::Arguments;
use crate::signals::End;
use anyhow::{Context, bail};
use std::ffi::OsString;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use windows_service::service::{
    PowerEventParam, ServiceControl, ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{ServiceControlHandlerResult, ServiceStatusHandle, register};
use windows_service::{define_windows_service, service_dispatcher};
use windows_sys::Win32::Foundation::ERROR_FAILED_SERVICE_CONTROLLER_CONNECT;

/// Wishes to end that wait; more than one changes nothing.
const QUEUE: usize = 8;
/// How long the service manager waits for the next word while the helper starts or ends.
const START_HINT: Duration = Duration::from_secs(30);
const STOP_HINT: Duration = Duration::from_secs(15);

/// What the process was started with, and what it does: the system calls a function of ours without anything of ours.
static WORK: OnceLock<(Arguments, Work)> = OnceLock::new();
static MANAGER: OnceLock<ServiceStatusHandle> = OnceLock::new();
static ENDS: OnceLock<Ends> = OnceLock::new();

/// What the service does, from its arguments to its end.
pub type Work = fn(Arguments) -> anyhow::Result<()>;

/// The queue of wishes to end; the receiver until somebody takes it.
struct Ends {
    sender: mpsc::Sender<End>,
    receiver: Mutex<Option<mpsc::Receiver<End>>>,
}

/// What the service manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does not protect yet.
    Starting,
    /// The first policy is applied and the pipe answers.
    Running,
    /// The end has begun.
    Stopping,
    /// It has ended, with an error or without.
    Stopped {
        /// The recovery actions apply.
        failed: bool,
    },
}

define_windows_service!(service_entry, service_main);

/// Hands this thread to the service manager until the service has ended.
///
/// # Errors
/// The process was not started by the service manager, or the helper failed.
pub fn dispatch(arguments: Arguments, work: Work) -> anyhow::Result<()> {
    let _ = WORK.set((arguments, work));
    match service_dispatcher::start(NAME, service_entry) {
        Ok(()) => Ok(()),
        Err(windows_service::Error::Winapi(error)) if is_by_hand(&error) => {
            bail!("started by hand: use `sc start {NAME}`, or --foreground to run it in this console")
        }
        Err(error) => Err(error).context("reach the service manager"),
    }
}

fn is_by_hand(error: &io::Error) -> bool {
    error.raw_os_error().map(i32::cast_unsigned) == Some(ERROR_FAILED_SERVICE_CONTROLLER_CONNECT)
}

/// The service. Its start parameters are what somebody may write who may start it, so they are not looked at; those of the
/// registration were read before.
fn service_main(_start_parameters: Vec<OsString>) {
    let _ = ends();
    match register(NAME, handle) {
        Ok(manager) => {
            let _ = MANAGER.set(manager);
        }
        Err(error) => return tracing::error!(%error, "the service manager takes no handler"),
    }
    report(Phase::Starting);
    let Some((arguments, work)) = WORK.get() else { return report(Phase::Stopped { failed: true }) };
    let result = work(arguments.clone());
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    report(Phase::Stopped { failed: result.is_err() });
}

fn ends() -> &'static Ends {
    ENDS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Ends { sender, receiver: Mutex::new(Some(receiver)) }
    })
}

/// What the service manager says. A function and no closure: the crate frees what a closure holds at the first stop, and the
/// system may ask once more.
fn handle(control: ServiceControl) -> ServiceControlHandlerResult {
    let stops = matches!(control, ServiceControl::Stop);
    // Persistent and boot-time filters stay as they are until the next start of the helper (G6, G7).
    let keeps = matches!(control, ServiceControl::Preshutdown | ServiceControl::Shutdown);
    let wish = if keeps { Some(End::Keep) } else { stops.then_some(End::Stop) };
    if let Some(wish) = wish {
        report(Phase::Stopping);
        // A queue that is full holds wishes to end already.
        let _ = ends().sender.try_send(wish);
    }
    if let ServiceControl::SessionChange(change) = &control {
        tracing::info!(session = change.notification.session_id, reason = ?change.reason, "session");
    }
    // The network side asks for these as well, and acts on them; this is for the log.
    if let ServiceControl::PowerEvent(event) = &control
        && matches!(event, PowerEventParam::Suspend | PowerEventParam::ResumeAutomatic | PowerEventParam::ResumeSuspend)
    {
        tracing::info!(?event, "power");
    }
    let known = matches!(control, ServiceControl::Interrogate | ServiceControl::SessionChange(_) | ServiceControl::PowerEvent(_));
    if known || wish.is_some() { ServiceControlHandlerResult::NoError } else { ServiceControlHandlerResult::NotImplemented }
}

/// Tells the service manager, if it started us (`SetServiceStatus`).
pub fn report(phase: Phase) {
    let Some(manager) = MANAGER.get() else { return };
    if let Err(error) = manager.set_service_status(status(phase)) {
        tracing::warn!(%error, ?phase, "the service manager could not be told");
    }
}

fn status(phase: Phase) -> ServiceStatus {
    let accepted = ServiceControlAccept::STOP
        | ServiceControlAccept::PRESHUTDOWN
        | ServiceControlAccept::SESSION_CHANGE
        | ServiceControlAccept::POWER_EVENT;
    let (current_state, controls_accepted, wait_hint) = match phase {
        Phase::Starting => (ServiceState::StartPending, ServiceControlAccept::empty(), START_HINT),
        Phase::Running => (ServiceState::Running, accepted, Duration::ZERO),
        Phase::Stopping => (ServiceState::StopPending, ServiceControlAccept::empty(), STOP_HINT),
        Phase::Stopped { .. } => (ServiceState::Stopped, ServiceControlAccept::empty(), Duration::ZERO),
    };
    let failed = phase == Phase::Stopped { failed: true };
    ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state,
        controls_accepted,
        exit_code: if failed { ServiceExitCode::ServiceSpecific(1) } else { ServiceExitCode::Win32(0) },
        checkpoint: u32::from(wait_hint > Duration::ZERO),
        wait_hint,
        process_id: None,
    }
}

/// The wishes to end, in the order in which they came.
pub struct Controls(Option<mpsc::Receiver<End>>);

impl Controls {
    /// All that came since the process began. There is one reader.
    #[must_use]
    pub fn take() -> Self {
        Self(ends().receiver.lock().unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> End {
        match &mut self.0 {
            Some(receiver) => match receiver.recv().await {
                Some(end) => end,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}
