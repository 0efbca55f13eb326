//! What Linux and macOS have in common.

use std::io::{self, Write};
use tauri::AppHandle;
use tokio::signal::unix::{SignalKind, signal};

/// Writes to standard output; a closed one is nobody's problem.
pub fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Ends cleanly when the session ends, so that the window's place is remembered.
pub fn end_on_signals(app: &AppHandle) {
    let app = app.clone();
    tauri::async_runtime::spawn(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        app.exit(0);
    });
}
