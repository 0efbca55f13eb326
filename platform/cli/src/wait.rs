//! Waiting for the state that a command wants, with what happens on the way told to the caller.

use futures_util::{Stream, StreamExt};
use hamn_core::state::Phase;
use hamn_core::status::{StateKind, Status};
use hamn_ipc::client::Client;
use hamn_ipc::wire::EventLine;
use hamn_ipc::{Problem, ProblemCode};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A tunnel through which traffic flows.
    Tunnel,
    /// No tunnel.
    NoTunnel,
}

/// Waits until `goal` is reached, cannot be reached without the user, or `limit` is over. `since` is the status that the
/// command's answer held: older snapshots say nothing about it. Returns the last status.
///
/// # Errors
/// `wait_timeout`, or what the helper's end says.
pub async fn until(
    client: &Client,
    goal: Goal,
    since: Status,
    limit: Duration,
    mut progress: impl FnMut(&Status),
) -> Result<Status, Problem> {
    let deadline = Instant::now() + limit;
    let from = since.sequence;
    let mut last = since;
    if settled(goal, &last) {
        return Ok(last);
    }
    let waited = timeout_at(deadline, async {
        // A stream can end when this reader was too slow or the helper restarts; then the next one goes on.
        loop {
            let mut events = pin!(client.events().await?);
            if let Some(found) = follow(goal, from, &mut events, &mut last, &mut progress).await? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    match waited.await {
        Ok(result) => result,
        Err(_elapsed) => Err(too_long(&last, limit)),
    }
}

async fn follow(
    goal: Goal,
    from: u64,
    events: &mut (impl Stream<Item = Result<EventLine, Problem>> + Unpin),
    last: &mut Status,
    progress: &mut impl FnMut(&Status),
) -> Result<Option<Status>, Problem> {
    while let Some(event) = events.next().await {
        let Some(status) = event?.status.filter(|status| status.sequence >= from) else { continue };
        if settled(goal, &status) {
            return Ok(Some(status));
        }
        progress(&status);
        *last = status;
    }
    Ok(None)
}

/// The goal is reached, or only the user can help.
fn settled(goal: Goal, status: &Status) -> bool {
    match (goal, status.state) {
        (Goal::Tunnel, StateKind::Connected) | (_, StateKind::Disconnected) => true,
        (_, StateKind::Blocked) => goal == Goal::Tunnel && status.blocked.as_ref().is_some_and(|blocked| !blocked.retrying),
        (_, StateKind::Connecting | StateKind::Disconnecting) | (Goal::NoTunnel, StateKind::Connected) => false,
    }
}

fn too_long(last: &Status, limit: Duration) -> Problem {
    let phase = last.attempt.as_ref().and_then(|attempt| attempt.phase);
    let so_far = match (&last.blocked, phase) {
        (Some(blocked), _) => blocked.message.clone(),
        (None, Some(phase)) => format!("Still {}.", crate::show::phase_words(phase)),
        (None, None) => "The state has not changed.".to_owned(),
    };
    Problem::with_detail(ProblemCode::WaitTimeout, format!("not done after {} s. {so_far}", limit.as_secs()))
}

/// Tells each step once.
#[derive(Debug, Default)]
pub struct Steps(Option<(StateKind, Option<Phase>, Option<String>)>);

impl Steps {
    /// A line for people when `status` is a new step.
    pub fn line(&mut self, status: &Status) -> Option<String> {
        let phase = status.attempt.as_ref().and_then(|attempt| attempt.phase);
        let step = (status.state, phase, status.blocked.as_ref().map(|blocked| blocked.message.clone()));
        if self.0.as_ref() == Some(&step) {
            return None;
        }
        let (state, phase, blocked) = step.clone();
        self.0 = Some(step);
        match (state, phase, blocked) {
            (StateKind::Connecting, Some(phase), _) => Some(format!("… {}", crate::show::phase_words(phase))),
            (StateKind::Blocked, _, Some(message)) => Some(format!("… {} Trying again.", crate::show::plain(&message))),
            (StateKind::Disconnecting, _, _) => Some("… taking the old tunnel down".to_owned()),
            (StateKind::Disconnected | StateKind::Connecting | StateKind::Connected | StateKind::Blocked, _, _) => None,
        }
    }
}
