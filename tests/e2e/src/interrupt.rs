//! Runs something that may take long, and still tidies up when the user presses Ctrl-C, closes the terminal or the parent dies.

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

/// Removed when the process is interrupted.
static LEFTOVER: Mutex<Option<PathBuf>> = Mutex::new(None);

/// Remembers a directory that an interrupted run must remove.
pub fn remove_when_interrupted(directory: &Path) {
    *LEFTOVER.lock().unwrap_or_else(PoisonError::into_inner) = Some(directory.to_owned());
}

/// Runs `work` on its own thread. An interrupt ends the process with the code that shells expect; all programs of a
/// laboratory die with the process.
///
/// # Errors
/// When the signals cannot be set up.
pub fn guarded(work: impl FnOnce() -> Result<ExitCode> + Send + 'static) -> Result<ExitCode> {
    // A parent that is killed must not leave us behind.
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).context("ask for a signal when the parent dies")?;
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1] {
        signals.add(signal);
    }
    signals.thread_block().context("block signals")?;
    let worker = std::thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // Wakes the wait below; blocked in every thread, so it is only ever taken there.
        let _ = kill(Pid::this(), Signal::SIGUSR1);
        result
    });
    let signal = signals.wait().context("wait for a signal")?;
    if signal == Signal::SIGUSR1 {
        return worker.join().map_err(|_| anyhow!("the work panicked"))?.map_err(|_| anyhow!("the work panicked"))?;
    }
    if let Some(directory) = LEFTOVER.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = std::fs::remove_dir_all(directory);
    }
    // 128 + SIGINT, as shells report it.
    std::process::exit(if signal == Signal::SIGINT { 130 } else { 143 });
}
