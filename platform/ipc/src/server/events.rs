//! The event stream: the present status first, then each event on a line; a reader that falls behind gets a last line.

use super::Shared;
use super::bounds::Answering;
use crate::wire::{EventKind, EventLine};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

struct Reader {
    events: broadcast::Receiver<Arc<EventLine>>,
    stopping: watch::Receiver<bool>,
    /// Status snapshots up to this number were told.
    told: u64,
    line: u64,
    ended: bool,
    _answering: Answering,
}

/// The body of `GET /v1/events`.
pub(super) fn body(shared: &Shared, answering: Answering) -> Body {
    // Subscribing comes before looking, so that no change falls between.
    let events = shared.handles.events.subscribe();
    let status = Arc::clone(&shared.handles.status.borrow());
    let told = status.sequence;
    let first = EventLine { status: Some(status.as_ref().clone()), ..blank(EventKind::Status) };
    let reader = Reader { events, stopping: shared.stopping.clone(), told, line: 0, ended: false, _answering: answering };
    Body::from_stream(stream::unfold((reader, Some(first)), |(mut reader, first)| async move {
        let event = match first {
            Some(first) => first,
            None => next(&mut reader).await?,
        };
        reader.line += 1;
        let bytes = encode(EventLine { sequence: reader.line, ..event });
        Some((Ok::<Bytes, Infallible>(bytes), (reader, None)))
    }))
}

async fn next(reader: &mut Reader) -> Option<EventLine> {
    if reader.ended {
        return None;
    }
    loop {
        let received = tokio::select! {
            biased;
            _ = reader.stopping.wait_for(|stop| *stop) => Err(RecvError::Closed),
            received = reader.events.recv() => received,
        };
        match received {
            Ok(event) => match &event.status {
                Some(status) if status.sequence <= reader.told => {}
                Some(_) | None => return Some(event.as_ref().clone()),
            },
            Err(error) => {
                reader.ended = true;
                return Some(last(&error));
            }
        }
    }
}

fn last(error: &RecvError) -> EventLine {
    let (code, message) = match error {
        RecvError::Lagged(_) => ("lagged", "This reader was too slow; open the stream again."),
        RecvError::Closed => ("shutdown", "The helper ends."),
    };
    EventLine { code: Some(code.to_owned()), message: Some(message.to_owned()), ..blank(EventKind::End) }
}

fn blank(kind: EventKind) -> EventLine {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let at_unix_s = i64::try_from(since_1970.as_secs()).unwrap_or_default();
    EventLine { sequence: 0, at_unix_s, kind, code: None, message: None, status: None }
}

fn encode(event: EventLine) -> Bytes {
    let mut bytes = serde_json::to_vec(&event).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}
