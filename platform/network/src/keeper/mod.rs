//! The tasks that keep what was applied true: one for the firewall, one for routes and the monitor, one for DNS.
//!
//! They are separate so that a slow D-Bus service never delays the restoring of rules. None of them ever waits for the
//! receiver of events: a helper that waits for `apply` does not read events in that time.

#[cfg(target_os = "linux")]
pub mod dns;
#[cfg(target_os = "linux")]
pub mod firewall;
#[cfg(any(windows, target_os = "macos", test))]
pub mod guard;
#[cfg(any(windows, target_os = "macos", test))]
pub mod guarded;
#[cfg(any(windows, target_os = "macos", test))]
pub mod host;
#[cfg(target_os = "macos")]
pub mod macos;
#[cfg(any(windows, target_os = "macos", test))]
pub mod pace;
#[cfg(target_os = "linux")]
pub mod path;
#[cfg(any(windows, target_os = "macos", test))]
pub mod whole;

use hamn_core::event::HostEvent;
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// A task has ended; it does so only when the process ends or a kernel interface broke.
#[derive(Debug, thiserror::Error)]
#[error("the task for {0} has ended")]
pub struct Ended(pub &'static str);

/// Events that wait until the receiver has room.
pub struct Outbox {
    sender: mpsc::Sender<HostEvent>,
    queue: VecDeque<HostEvent>,
}

impl Outbox {
    /// More than this wait only while the helper is stuck; the oldest are given up.
    const LIMIT: usize = 64;

    /// For this receiver.
    #[must_use]
    pub const fn new(sender: mpsc::Sender<HostEvent>) -> Self {
        Self { sender, queue: VecDeque::new() }
    }

    /// True when nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds an event. Facts replace facts that still wait.
    pub fn push(&mut self, event: HostEvent) {
        let merged = match (event, self.queue.back_mut()) {
            (HostEvent::Facts { facts, path_changed }, Some(HostEvent::Facts { facts: waiting, path_changed: changed })) => {
                *waiting = facts;
                *changed |= path_changed;
                return;
            }
            (event, _) => event,
        };
        if self.queue.len() >= Self::LIMIT {
            // Facts are a state, not a happening: the last ones must arrive.
            let oldest = self.queue.iter().position(|event| !matches!(event, HostEvent::Facts { .. }));
            tracing::warn!("events wait too long; the oldest is given up");
            self.queue.remove(oldest.unwrap_or(0));
        }
        self.queue.push_back(merged);
    }

    /// Hands over one event when there is room. May be dropped at any time.
    pub async fn flush(&mut self) {
        match self.sender.reserve().await {
            Ok(permit) => {
                if let Some(event) = self.queue.pop_front() {
                    permit.send(event);
                }
            }
            // Nobody listens any more.
            Err(_) => self.queue.clear(),
        }
    }
}

/// Never without a deadline.
pub async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Microseconds for an event.
#[must_use]
pub fn microseconds(since: tokio::time::Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
