//! The log of the service: warnings, errors and the few words about its start and end go to the application log, redacted,
//! because every user of the computer can read that (G14, G20).
#![expect(unsafe_code, reason = "the event log has no safe wrapper in the crates we use")]

use crate::host::Wide;
use crate::log_ring::text_of;
use crate::service::plan::EVENT_SOURCE;
use std::io;
use std::ptr::{null, null_mut};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::EventLog::{
    DeregisterEventSource, EVENTLOG_ERROR_TYPE, EVENTLOG_INFORMATION_TYPE, EVENTLOG_WARNING_TYPE, RegisterEventSourceW,
    ReportEventW,
};

/// Number of every event: its text is whatever is told (see `plan::EventSource`).
const NUMBER: u32 = 1;

/// The source, open.
pub struct EventLog(HANDLE);

// SAFETY: the handle is a number to us; "Event logging functions" at learn.microsoft.com ties none of them to a thread.
unsafe impl Send for EventLog {}
// SAFETY: as above; each call of ReportEventW is one event.
unsafe impl Sync for EventLog {}

impl EventLog {
    /// Opens it (`RegisterEventSourceW`).
    ///
    /// # Errors
    /// The event log cannot be reached.
    pub fn open() -> io::Result<Self> {
        let name = Wide::new(EVENT_SOURCE);
        // SAFETY: the name ends with a zero, and no server means this computer.
        let handle = unsafe { RegisterEventSourceW(null(), name.as_ptr()) };
        if handle.is_null() { Err(io::Error::last_os_error()) } else { Ok(Self(handle)) }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        // SAFETY: the handle is open and closed once.
        unsafe { DeregisterEventSource(self.0) };
    }
}

impl<S: Subscriber> Layer<S> for EventLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let kind = match *event.metadata().level() {
            Level::ERROR => EVENTLOG_ERROR_TYPE,
            Level::WARN => EVENTLOG_WARNING_TYPE,
            _ => EVENTLOG_INFORMATION_TYPE,
        };
        // A zero would end the text early.
        let text = Wide::new(format!("{}: {}", event.metadata().target(), text_of(event)).replace('\0', " "));
        let texts = [text.as_ptr()];
        // SAFETY: one text that ends with a zero and lives through the call, no user and no data. What cannot be written to
        // the log has no other place to be told.
        let _ = unsafe { ReportEventW(self.0, kind, 0, NUMBER, null_mut(), 1, 0, texts.as_ptr(), null()) };
    }
}
