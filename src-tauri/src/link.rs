//! What the window knows of the helper: one `Link` after another, each with a larger number.

mod board;
mod conversation;
mod suspend;

pub use board::Board;
pub use conversation::Conversation;
pub use suspend::Sleep;

use hamn_core::status::Status;
use hamn_ipc::Problem;
use hamn_ipc::wire::{PublicStatus, VersionInfo};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the window stands with the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Nothing is known yet.
    Connecting,
    /// The helper answers.
    Up,
    /// No helper answers.
    Unreachable,
    /// Something answers that is not the helper (IPC-06).
    Untrusted,
    /// The helper answers and this user may not ask it.
    NotAllowed,
    /// The helper speaks another version of the local API.
    Incompatible,
}

/// Everything that the page shows comes from one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// Grows with every link of this process; an older one never replaces a newer one.
    pub seq: u64,
    /// How the window stands with the helper.
    pub state: LinkState,
    /// Why the helper cannot be asked, in every state but `connecting` and `up`.
    pub problem: Option<Problem>,
    /// The helper's status, in state `up` only.
    pub status: Option<Status>,
    /// What every user may know, in states `not_allowed` and `incompatible`.
    pub public: Option<PublicStatus>,
    /// The helper's versions, once it has said them.
    pub versions: Option<VersionInfo>,
    /// Since when `state` is what it is, milliseconds since 1970.
    pub since_unix_ms: i64,
}

/// What was heard from the helper, or that nothing was.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// A status. `session` grows with each new connection, in which the helper's own numbering may begin again.
    Status {
        /// Which connection.
        session: u64,
        /// The status.
        status: Box<Status>,
        /// The helper's versions.
        versions: VersionInfo,
    },
    /// The helper cannot be asked.
    Down {
        /// How the window stands with it.
        state: LinkState,
        /// Why.
        problem: Problem,
        /// What every user may know.
        public: Option<PublicStatus>,
        /// The helper's versions.
        versions: Option<VersionInfo>,
    },
}

impl Link {
    /// Before anything was heard.
    #[must_use]
    pub const fn first(now_unix_ms: i64) -> Self {
        let (problem, status, public, versions) = (None, None, None, None);
        Self { seq: 1, state: LinkState::Connecting, problem, status, public, versions, since_unix_ms: now_unix_ms }
    }

    /// The link after `word`; `None` when the word says nothing new. `session` is that of the status shown, if any.
    #[must_use]
    pub fn after(&self, shown: Option<u64>, word: Word, now_unix_ms: i64) -> Option<Self> {
        let mut next = match word {
            Word::Status { session, status, versions } => {
                let older = self.status.as_ref().is_some_and(|old| status.sequence < old.sequence);
                if shown.is_some_and(|shown| session < shown || (session == shown && older)) {
                    return None;
                }
                let (status, versions) = (Some(*status), Some(versions));
                Self { state: LinkState::Up, problem: None, status, public: None, versions, ..*self }
            }
            Word::Down { state, problem, public, versions } => {
                Self { state, problem: Some(problem), status: None, public, versions, ..*self }
            }
        };
        if next.state != self.state {
            next.since_unix_ms = now_unix_ms;
        }
        if next == *self {
            return None;
        }
        next.seq = self.seq.saturating_add(1);
        Some(next)
    }
}
