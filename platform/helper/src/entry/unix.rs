//! Linux and macOS: systemd and launchd start the helper in the foreground, and its words go to standard error.

use super::to_the_end;
use crate::arguments::Arguments;
use crate::log_ring::LogRing;
use crate::{host, logging};
use std::process::ExitCode;

/// The whole life of the process.
pub fn main(arguments: Arguments) -> ExitCode {
    let begun = host::begin();
    let log = LogRing::default();
    logging::to_stderr(&log);
    host::keep_memory_private();
    match begun.and_then(|()| to_the_end(arguments, log)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
