//! What differs between operating systems.

use std::io::{self, Write};
use tauri::{AppHandle, Wry, plugin::TauriPlugin};

/// Writes to standard output; a closed one is nobody's problem.
pub fn print(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Draws without the graphics card: some drivers show an empty window otherwise. The library reads its variable before the first
/// line of ours could set it safely, so the program starts itself again with the variable set.
///
/// # Errors
/// The program cannot be started again.
#[cfg(all(unix, not(target_os = "macos")))]
pub fn without_gpu() -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    const VARIABLE: &str = "WEBKIT_DISABLE_DMABUF_RENDERER";
    if std::env::var_os(VARIABLE).is_some() {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    // Returns only when it fails.
    Err(again.args(std::env::args_os().skip(1)).env(VARIABLE, "1").exec())
}

/// The other systems choose for themselves.
///
/// # Errors
/// Always: there is no such thing.
#[cfg(not(all(unix, not(target_os = "macos"))))]
pub fn without_gpu() -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

/// Ends cleanly when the session ends, so that the window's place is remembered.
#[cfg(unix)]
pub fn end_on_signals(app: &AppHandle) {
    use tokio::signal::unix::{SignalKind, signal};
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

/// The other systems tell the window itself.
#[cfg(not(unix))]
pub fn end_on_signals(_app: &AppHandle) {}

/// Links arrive as an event of the system here.
#[cfg(target_os = "macos")]
pub fn links() -> TauriPlugin<Wry> {
    use crate::deep_link;
    use tauri_plugin_deep_link::DeepLinkExt;
    tauri::plugin::Builder::new("links")
        .setup(|app, _| {
            app.plugin(tauri_plugin_deep_link::init())?;
            let handle = app.clone();
            app.deep_link().on_open_url(move |event| {
                if let [link] = event.urls().as_slice()
                    && let Ok(destination) = deep_link::parse(link.as_str())
                {
                    crate::window::offer(&handle, destination);
                }
            });
            Ok(())
        })
        .build()
}

/// Links arrive as arguments here, and only our own strict parser looks at them.
#[cfg(not(target_os = "macos"))]
pub fn links() -> TauriPlugin<Wry> {
    tauri::plugin::Builder::new("links").build()
}
