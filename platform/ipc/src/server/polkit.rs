//! Asks polkit whether the user at the seat may do what otherwise needs uid 0. Anything but a plain yes is a no.
//!
//! Interface: polkit reference manual, `org.freedesktop.PolicyKit1.Authority`. The subject is the caller's process, held by a
//! handle: as long as the process lives, its number means nobody else, whatever polkit looks up by it.

use super::peer::Process;
use crate::classes::Action;
use crate::problem::{Problem, ProblemCode};
use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use zbus::{Fd, Variant};

const SERVICE: &str = "org.freedesktop.PolicyKit1";
const PATH: &str = "/org/freedesktop/PolicyKit1/Authority";
const INTERFACE: &str = "org.freedesktop.PolicyKit1.Authority";
/// `AllowUserInteraction`: a person may be asked for a password.
const ALLOW_INTERACTION: u32 = 1;
/// Names the question for `CancelCheckAuthorization`; each has a connection of its own.
const QUESTION: &str = "hamn";
/// Questions that are open at the same time, each of another user.
const MOST_QUESTIONS: usize = 8;
/// Time to take a question back.
const CANCEL: Duration = Duration::from_secs(2);

/// A message bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// The system's.
    System,
    /// One at this D-Bus address.
    At(String),
}

/// The users about whom a question is open. One each: nobody can bury a screen under dialogs.
#[derive(Clone, Debug, Default)]
pub(super) struct Questions(Arc<Mutex<BTreeSet<u32>>>);

struct Place {
    open: Arc<Mutex<BTreeSet<u32>>>,
    uid: u32,
}

impl Questions {
    fn take(&self, uid: u32) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = open.len() < MOST_QUESTIONS && open.insert(uid);
        free.then(|| Place { open: Arc::clone(&self.0), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.uid);
    }
}

/// The action again when polkit allows it to `process`.
///
/// # Errors
/// `busy` while another question about this user is open.
pub(super) async fn ask(
    action: Action,
    uid: u32,
    process: &Process,
    bus: &Bus,
    questions: &Questions,
    patience: Duration,
) -> Result<Option<Action>, Problem> {
    let place = questions
        .take(uid)
        .ok_or_else(|| Problem::with_detail(ProblemCode::Busy, "another question about your rights waits for its answer"))?;
    let answer = tokio::select! {
        answer = timeout(patience, check(bus, process, uid, action, place)) => answer,
        () = process.ended() => Ok(Ok(false)),
    };
    let allowed = match answer {
        // The number was the caller's all the time, since its process lives still.
        Ok(Ok(allowed)) => allowed && process.is_alive(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "polkit could not be asked; refused");
            false
        }
        Err(_) => {
            tracing::warn!("polkit did not answer in time; refused");
            false
        }
    };
    Ok(allowed.then_some(action))
}

/// A question that was put. When nobody waits for the answer any more it is taken back, and the dialog goes.
struct Open {
    bus: Option<zbus::Connection>,
    place: Option<Place>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let (Some(bus), place) = (self.bus.take(), self.place.take()) else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let cancel = bus.call_method(Some(SERVICE), PATH, Some(INTERFACE), "CancelCheckAuthorization", &QUESTION);
            let _ = timeout(CANCEL, cancel).await;
            drop(place);
        });
    }
}

async fn check(bus: &Bus, process: &Process, uid: u32, action: Action, place: Place) -> zbus::Result<bool> {
    let builder = match bus {
        Bus::System => zbus::connection::Builder::system(),
        Bus::At(address) => zbus::connection::Builder::address(address.as_str()),
    };
    let connection = builder.build().await?;
    // A user id beyond the signed numbers is nobody whom polkit could know.
    let uid = i32::try_from(uid).map_err(|_| zbus::Error::Failure("the user id is too large".to_owned()))?;
    let details = HashMap::from([
        ("pid", Variant::from(process.pid)),
        ("start-time", Variant::from(process.start_time())),
        ("uid", Variant::from(uid)),
        // polkit before 124 does not know it and leaves it aside.
        ("pidfd", Variant::from(Fd::from(process.as_fd()))),
    ]);
    let no_details: HashMap<&str, &str> = HashMap::new();
    let question = (("unix-process", details), action.id(), no_details, ALLOW_INTERACTION, QUESTION);
    let mut open = Open { bus: Some(connection.clone()), place: Some(place) };
    let answer = connection.call_method(Some(SERVICE), PATH, Some(INTERFACE), "CheckAuthorization", &question).await;
    open.bus = None;
    let ((allowed, _can_be_asked, _details),) = answer?.body().deserialize::<((bool, bool, HashMap<String, String>),)>()?;
    Ok(allowed)
}
