//! Starting with the session on Linux (`~/.config/autostart`, the Desktop Application Autostart Specification) and macOS
//! (`~/Library/LaunchAgents`, developer.apple.com: "Creating Launch Daemons and Agents"), by a plugin that writes the file.

use super::{NAME, WORD};
use tauri::{AppHandle, Builder, Wry};
use tauri_plugin_autostart::ManagerExt;

/// Makes ready what `is_on` and `set` ask.
#[must_use]
pub fn prepare(builder: Builder<Wry>) -> Builder<Wry> {
    builder.plugin(tauri_plugin_autostart::Builder::new().app_name(NAME).arg(WORD).build())
}

/// True when the program starts with the session.
///
/// # Errors
/// The desktop's list cannot be read.
pub fn is_on(app: &AppHandle) -> Result<bool, String> {
    app.autolaunch().is_enabled().map_err(|error| error.to_string())
}

/// Puts the program into the list, or takes it out.
///
/// # Errors
/// The desktop's list cannot be changed.
pub fn set(app: &AppHandle, wanted: bool) -> Result<(), String> {
    let list = app.autolaunch();
    if wanted { list.enable() } else { list.disable() }.map_err(|error| error.to_string())
}
