//! Talks to the helper for as long as the window lives: versions first, then the stream of events, again and again.

use super::{Board, LinkState, Sleep, Word};
use futures_util::StreamExt;
use hamn_ipc::client::Client;
use hamn_ipc::wire::{API_VERSION, EventKind, PublicStatus, VersionInfo};
use hamn_ipc::{Problem, ProblemCode};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Waits between two attempts to reach the helper: they double up to the longest.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A connection that lasted this long was a real one; the next attempt follows at once.
const REAL: Duration = Duration::from_secs(1);
/// Time for one short answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How often sleep is looked for.
const LOOK: Duration = Duration::from_secs(5);

/// How often the status is asked for beside the events, which do not come for counters: each second while somebody watches
/// them, and now and then to notice a helper that hangs.
const fn refresh_after(visible: bool, tunnel: bool) -> Duration {
    match (visible, tunnel) {
        (true, true) => Duration::from_secs(1),
        (true, false) => Duration::from_secs(5),
        (false, _) => Duration::from_secs(30),
    }
}

/// The conversation with one helper.
pub struct Conversation {
    socket: Option<PathBuf>,
    board: Arc<Board>,
    visible: watch::Receiver<bool>,
    nudge: Arc<Notify>,
    asleep: Sleep,
    session: u64,
}

/// Why a connection ended.
enum Ended {
    /// It was there and is gone, or must be made anew: try at once.
    Gone,
    /// It did not come to be.
    Failed,
}

impl Conversation {
    /// `socket` is the helper's, `None` the usual one; `visible` tells whether the window is shown; `nudge` asks for a fresh
    /// status now.
    #[must_use]
    pub fn new(socket: Option<PathBuf>, board: Arc<Board>, visible: watch::Receiver<bool>, nudge: Arc<Notify>) -> Self {
        Self { socket, board, visible, nudge, asleep: Sleep::default(), session: 0 }
    }

    /// Talks until the task is dropped.
    pub async fn run(mut self) {
        let mut wait = SHORTEST_WAIT;
        loop {
            let began = Instant::now();
            match self.connection().await {
                Ended::Gone if began.elapsed() >= REAL => {
                    wait = SHORTEST_WAIT;
                    continue;
                }
                Ended::Gone | Ended::Failed => {}
            }
            tokio::select! {
                () = sleep(wait) => wait = (wait * 2).min(LONGEST_WAIT),
                () = self.nudge.notified() => {}
            }
        }
    }

    async fn connection(&mut self) -> Ended {
        let client = match Client::open(self.socket.as_deref()).await {
            Ok(client) => client,
            Err(problem) => return self.down(problem, None),
        };
        let versions = match bounded(client.version()).await {
            Ok(versions) if versions.api == API_VERSION => versions,
            Ok(versions) => return self.incompatible(&client, versions).await,
            Err(problem) => return self.down(problem, None),
        };
        let events = match bounded(client.events()).await {
            Ok(events) => events,
            Err(problem) if problem.code == ProblemCode::NotAllowed => {
                return self.not_allowed(&client, problem, versions).await;
            }
            Err(problem) => return self.down(problem, Some(versions)),
        };
        self.session += 1;
        self.listen(&client, &versions, events).await
    }

    /// Hears events and asks for fresh counters until the connection ends.
    async fn listen(
        &mut self,
        client: &Client,
        versions: &VersionInfo,
        events: impl futures_util::Stream<Item = Result<hamn_ipc::wire::EventLine, Problem>>,
    ) -> Ended {
        let mut events = std::pin::pin!(events);
        let mut refreshed = Instant::now();
        let mut tunnel = false;
        loop {
            let due = refreshed + refresh_after(*self.visible.borrow_and_update(), tunnel);
            let look = Instant::now() + LOOK;
            let mut refresh = false;
            tokio::select! {
                line = events.next() => match line {
                    Some(Ok(line)) => {
                        if let Some(status) = line.status {
                            tunnel = status.tunnel.is_some();
                            self.heard(status, versions);
                        }
                        if line.kind == EventKind::End {
                            return Ended::Gone;
                        }
                    }
                    // What the next attempt finds is said, not that this one ended.
                    Some(Err(problem)) if problem.code == ProblemCode::HelperUnreachable => return Ended::Gone,
                    // The same version of the API and yet not understood.
                    Some(Err(problem)) => return self.unlike(problem, versions.clone(), bounded(client.public()).await.ok()),
                    None => return Ended::Gone,
                },
                changed = self.visible.changed() => match changed {
                    Ok(()) => refresh = *self.visible.borrow(),
                    // Nobody will ever look again.
                    Err(_) => std::future::pending().await,
                },
                () = self.nudge.notified() => refresh = true,
                () = sleep_until(due.min(look)) => {
                    if self.asleep.happened() {
                        return Ended::Gone;
                    }
                    refresh = Instant::now() >= due;
                }
            }
            if refresh {
                match bounded(client.status()).await {
                    Ok(status) => {
                        tunnel = status.tunnel.is_some();
                        self.heard(status, versions);
                    }
                    // The counters can wait; the stream tells what matters.
                    Err(problem) if is_crowded(problem.code) => {}
                    Err(problem) => return self.down(problem, Some(versions.clone())),
                }
                refreshed = Instant::now();
            }
        }
    }

    fn heard(&self, status: hamn_core::status::Status, versions: &VersionInfo) {
        self.board.take(Word::Status { session: self.session, status: Box::new(status), versions: versions.clone() });
    }

    fn down(&self, problem: Problem, versions: Option<VersionInfo>) -> Ended {
        let untrusted = problem.code == ProblemCode::HelperUntrusted;
        let state = if untrusted { LinkState::Untrusted } else { LinkState::Unreachable };
        self.board.take(Word::Down { state, problem, public: None, versions });
        Ended::Failed
    }

    fn unlike(&self, problem: Problem, versions: VersionInfo, public: Option<PublicStatus>) -> Ended {
        self.board.take(Word::Down { state: LinkState::Incompatible, problem, public, versions: Some(versions) });
        Ended::Failed
    }

    async fn not_allowed(&self, client: &Client, problem: Problem, versions: VersionInfo) -> Ended {
        let public = bounded(client.public()).await.ok();
        self.board.take(Word::Down { state: LinkState::NotAllowed, problem, public, versions: Some(versions) });
        Ended::Failed
    }

    async fn incompatible(&self, client: &Client, versions: VersionInfo) -> Ended {
        let public = bounded(client.public()).await.ok();
        let detail = format!(
            "helper {} speaks version {} of the local API, this window version {API_VERSION}",
            crate::plain::line(&versions.helper, 64),
            versions.api
        );
        let problem = Problem::with_detail(ProblemCode::Internal, detail)
            .action("Install the same version of the window and of the helper, then restart the helper.");
        self.unlike(problem, versions, public)
    }
}

/// The helper is there and has no time for this question.
fn is_crowded(code: ProblemCode) -> bool {
    [ProblemCode::TooManyRequests, ProblemCode::TooManyConnections, ProblemCode::Busy].contains(&code)
}

async fn bounded<T>(answer: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let late = || Problem::with_detail(ProblemCode::HelperUnreachable, format!("no answer within {} s", ANSWER.as_secs()));
    timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(late()))
}
