//! The newest lines of the log, for people: bounded, and without addresses, names of hosts, keys and account numbers (G14, G20).

use crate::clock;
use crate::redact::{belongs_to_word, redact};
use hamn_ipc::wire::{LOG_LINES, LogLine};
use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer};

/// A longer line is cut, in bytes.
const LONGEST_LINE: usize = 1_000;

/// What the ring keeps: what everybody may see, and what our own parts say in detail. Not a word for every local request:
/// that would push out everything else.
#[must_use]
pub fn filter() -> EnvFilter {
    let own = crate::logging::OWN.map(|name| format!("{name}=debug")).join(",");
    EnvFilter::new(format!("warn,{own},hamn_ipc=info,hamn_helper::calls=info"))
}

/// The lines; a clone is the same ring.
#[derive(Clone, Default)]
pub struct LogRing(Arc<Mutex<VecDeque<LogLine>>>);

impl LogRing {
    /// The newest `lines` lines, oldest first.
    #[must_use]
    pub fn newest(&self, lines: u32) -> Vec<LogLine> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = usize::try_from(lines).unwrap_or(usize::MAX);
        kept.iter().skip(kept.len().saturating_sub(wanted)).cloned().collect()
    }

    fn push(&self, line: LogLine) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while kept.len() >= usize::try_from(LOG_LINES).unwrap_or(1) {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

impl<S: Subscriber> Layer<S> for LogRing {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        // Finer than that may hold what packets say.
        if *metadata.level() > Level::DEBUG {
            return;
        }
        self.push(LogLine {
            at_unix_s: clock::now().unix_s,
            level: metadata.level().as_str().to_lowercase(),
            target: metadata.target().to_owned(),
            message: text_of(event),
        });
    }
}

/// What an event says, bounded and redacted.
#[must_use]
pub(crate) fn text_of(event: &Event<'_>) -> String {
    let mut text = Text::default();
    event.record(&mut text);
    redact(&text.whole())
}

/// Text that takes no more than its bound and stops whoever writes it.
#[derive(Default)]
struct Bounded {
    text: String,
    cut: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = LONGEST_LINE.saturating_sub(self.text.len());
        let end = more.char_indices().map(|(at, c)| at.saturating_add(c.len_utf8())).take_while(|end| *end <= room).last();
        let taken = more.get(..end.unwrap_or(0)).unwrap_or_default();
        self.text.push_str(taken);
        self.cut = self.cut || taken.len() < more.len();
        if self.cut { Err(fmt::Error) } else { Ok(()) }
    }
}

impl Bounded {
    /// Half an address or key would not be recognised as one, so a word that was cut goes as a whole.
    fn whole_words(&self) -> String {
        if self.cut { format!("{}…", self.text.trim_end_matches(belongs_to_word)) } else { self.text.clone() }
    }
}

#[derive(Default)]
struct Text {
    message: Bounded,
    fields: Bounded,
}

impl Text {
    fn whole(&self) -> String {
        let (message, fields) = (self.message.whole_words(), self.fields.whole_words());
        let room = LONGEST_LINE.saturating_sub(message.len());
        if fields.len() <= room { message + &fields } else { message }
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // What does not fit is cut, and known to be.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    fn lines(log: impl FnOnce()) -> Vec<LogLine> {
        let ring = LogRing::default();
        let subscriber = tracing_subscriber::registry().with(ring.clone().with_filter(filter()));
        tracing::subscriber::with_default(subscriber, log);
        ring.newest(5_000)
    }

    #[test]
    fn the_ring_is_bounded_and_keeps_the_newest_without_addresses() {
        let lines = lines(|| {
            for n in 0..3_000 {
                tracing::info!(peer = "198.51.100.7:51820", "line {n}");
            }
        });
        assert_eq!(lines.len(), 2_000);
        assert!(lines.last().unwrap().message.starts_with("line 2999"), "{:?}", lines.last());
        assert!(!lines.iter().any(|line| line.message.contains("198.51")));
    }

    #[test]
    fn own_details_are_kept_and_those_of_others_and_of_every_request_are_not() {
        let lines = lines(|| {
            tracing::debug!(target: "hamn_tunnel::wireguard", "own detail");
            tracing::trace!(target: "hamn_tunnel::wireguard", "finer");
            tracing::debug!(target: "hamn_ipc::server", "request");
            tracing::debug!(target: "hamn_helper::calls", "call");
            tracing::info!(target: "hyper::client", "foreign");
            tracing::warn!(target: "gotatun::device", "foreign warning");
        });
        let said: Vec<&str> = lines.iter().map(|line| line.message.as_str()).collect();
        assert_eq!(said, ["own detail", "foreign warning"]);
    }

    // SEC-01: half a secret is none that is recognised.
    #[test]
    fn a_line_is_cut_before_a_word_and_never_inside() {
        let key = "qJ8dWlYq3Zc2n0m1p5o7r9t1v3x5z7B9D1F3H5J7L9M=";
        for length in 940..1_001 {
            let lines = lines(|| {
                tracing::warn!("{} {key} {}", "x".repeat(length - 1), "y ".repeat(2_000));
                tracing::warn!(detail = format!("{} {key} end", "z".repeat(length)), "short");
            });
            for line in lines {
                assert!(line.message.len() <= LONGEST_LINE + 16, "{}", line.message.len());
                assert!(!line.message.contains("qJ8d"), "{length}: {}", line.message);
            }
        }
    }
}
