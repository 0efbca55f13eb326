//! Linux: GTK's WebKit and the desktop's signals.

pub use super::unix::{end_on_signals, print};

use std::io;
use std::os::unix::process::CommandExt;
use tauri::{Builder, Wry};

/// Draws without the graphics card: some drivers show an empty window otherwise. The library reads its variable before the first
/// line of ours could set it safely, so the program starts itself again with the variable set.
///
/// # Errors
/// The program cannot be started again.
pub fn without_gpu() -> io::Result<()> {
    const VARIABLE: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    // Returns only when it fails.
    Err(again.args(std::env::args_os().skip(1)).env(VARIABLE, "1").exec())
}

/// Links arrive as arguments here, and only our own strict parser looks at them.
#[must_use]
pub const fn prepare(builder: Builder<Wry>) -> Builder<Wry> {
    builder
}
