//! Publishes the status and events to the readers of the local API.

use crate::clock;
use hamn_core::status::{Status, Warning};
use hamn_ipc::wire::{EventKind, EventLine, WARNING_CODES};
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// Most warnings that are kept; the oldest goes first.
const MAX_WARNINGS: usize = 20;

/// The sending side of status and events.
pub struct Announcer {
    status: watch::Sender<Arc<Status>>,
    events: broadcast::Sender<Arc<EventLine>>,
    sequence: u64,
    warnings: Vec<Warning>,
}

impl Announcer {
    /// An announcer over the channels that the server reads.
    #[must_use]
    pub const fn new(status: watch::Sender<Arc<Status>>, events: broadcast::Sender<Arc<EventLine>>) -> Self {
        Self { status, events, sequence: 0, warnings: Vec::new() }
    }

    /// Number of the newest event.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The warnings in force.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Remembers a warning (one of each code) and sends it as an event.
    pub fn warn(&mut self, code: &'static str, message: String) {
        debug_assert!(WARNING_CODES.contains(&code), "{code} is not published");
        self.warnings.retain(|warning| warning.code != code);
        if self.warnings.len() >= MAX_WARNINGS {
            self.warnings.remove(0);
        }
        self.warnings.push(Warning { code: code.to_owned(), message: message.clone() });
        self.send(EventKind::Warning, Some(code), Some(message), None);
    }

    /// Forgets a warning that no longer holds.
    pub fn clear_warning(&mut self, code: &str) {
        self.warnings.retain(|warning| warning.code != code);
    }

    /// Publishes `status` if it says something new. `sequence` is filled in here.
    pub fn publish(&mut self, mut status: Status) {
        status.warnings.clone_from(&self.warnings);
        status.sequence = self.status.borrow().sequence;
        if **self.status.borrow() == status {
            return;
        }
        self.sequence = self.sequence.saturating_add(1);
        status.sequence = self.sequence;
        self.status.send_replace(Arc::new(status.clone()));
        self.send(EventKind::Status, None, None, Some(status));
    }

    /// Tells readers that the stream ends.
    pub fn end(&mut self) {
        self.send(EventKind::End, Some("shutdown"), None, None);
    }

    fn send(&mut self, kind: EventKind, code: Option<&str>, message: Option<String>, status: Option<Status>) {
        if kind != EventKind::Status {
            self.sequence = self.sequence.saturating_add(1);
        }
        let line = EventLine {
            sequence: self.sequence,
            at_unix_s: clock::now().unix_s,
            kind,
            code: code.map(str::to_owned),
            message,
            status,
        };
        // Without a reader there is nobody to tell.
        let _ = self.events.send(Arc::new(line));
    }
}
