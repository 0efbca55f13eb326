//! What Linux knows beyond the socket: who sits at a seat (logind), and who an administrator vouches for (polkit).

use crate::caller::{Caller, GroupId, UserId};
use crate::classes::Action;
use crate::problem::Problem;
use crate::server::bounds::Rank;
use crate::server::peer::Process;
use crate::server::polkit::{self, Bus, Questions};
use crate::server::socket::Arrival;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where logind keeps one file for each user.
pub const LOGIND_USERS: &str = "/run/systemd/users";

/// Looks up the group `hamn`.
#[must_use]
pub fn control_group() -> Option<GroupId> {
    nix::unistd::Group::from_name(crate::CONTROL_GROUP).ok().flatten().map(|group| GroupId::Unix(group.gid.as_raw()))
}

/// Whom the server asks about its callers.
#[derive(Clone, Debug)]
pub struct System {
    logind_users: PathBuf,
    polkit: Option<Bus>,
    questions: Questions,
}

impl Default for System {
    /// This computer's logind and polkit.
    fn default() -> Self {
        Self::new(LOGIND_USERS, Some(Bus::System))
    }
}

impl System {
    /// logind's files in `logind_users`, and polkit on `polkit`; without a bus it is never asked.
    #[must_use]
    pub fn new(logind_users: impl Into<PathBuf>, polkit: Option<Bus>) -> Self {
        Self { logind_users: logind_users.into(), polkit, questions: Questions::default() }
    }

    /// The caller sits at a seat of this computer now.
    pub(in crate::server) fn is_present(&self, caller: &Caller) -> bool {
        match caller.user() {
            UserId::Unix(uid) => at_local_seat(&self.logind_users, uid),
            UserId::Windows(_) => false,
        }
    }

    /// The caller as polkit must be told: the process, for those about whom polkit may be asked. What cannot be named cannot be
    /// asked about: then the answer is no.
    pub(in crate::server) fn subject(&self, arrival: &Arrival, caller: &Caller, rank: Rank) -> Subject {
        Subject(if rank == Rank::User { Process::of(&arrival.0, caller).ok() } else { None })
    }

    /// The action again when an administrator allows it to the process at the other end.
    ///
    /// # Errors
    /// `busy` while another question about this user is open.
    pub(in crate::server) async fn ask(
        &self,
        action: Action,
        caller: &Caller,
        subject: &Subject,
        patience: Duration,
    ) -> Result<Option<Action>, Problem> {
        let (Some(bus), Some(process), UserId::Unix(uid)) = (&self.polkit, &subject.0, caller.user()) else { return Ok(None) };
        polkit::ask(action, uid, process, bus, &self.questions, patience).await
    }
}

/// See `System::subject`.
#[derive(Debug)]
pub(in crate::server) struct Subject(Option<Process>);

/// True when `uid` has an active session at a seat of this computer.
///
/// logind keeps one file per user in `LOGIND_USERS`, which sd-login(3) (`sd_uid_get_seats`) reads in the same way.
/// Absent logind, absent file or anything unexpected means no.
#[must_use]
pub fn at_local_seat(users: &Path, uid: u32) -> bool {
    use std::io::Read;
    let mut text = String::new();
    let Ok(file) = std::fs::File::open(users.join(uid.to_string())) else { return false };
    if file.take(16 * 1024).read_to_string(&mut text).is_err() {
        return false;
    }
    text.lines().any(|line| line.strip_prefix("ACTIVE_SEATS=").is_some_and(|seats| !seats.trim().is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_active_session_at_a_seat_counts() {
        let users = tempfile::tempdir().unwrap();
        for (text, expected) in [("ACTIVE_SEATS=seat0\n", true), ("NAME=x\nSEATS=seat0\n", false), ("ACTIVE_SEATS=\n", false)] {
            std::fs::write(users.path().join("1000"), text).unwrap();
            assert_eq!(at_local_seat(users.path(), 1000), expected, "{text}");
        }
        assert!(!at_local_seat(users.path(), 1001));
        assert!(!at_local_seat(Path::new(LOGIND_USERS), 4_000_000_000));
    }
}
