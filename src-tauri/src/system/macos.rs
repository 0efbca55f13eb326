//! macOS: links and a click on the program's icon are events of the system.

pub use super::unix::{end_on_signals, print};

use crate::bridge::Bridge;
use crate::{deep_link, window};
use std::io;
use tauri::plugin::{self, TauriPlugin};
use tauri::{AppHandle, Builder, Manager, RunEvent, Wry};
use tauri_plugin_deep_link::DeepLinkExt;

/// The system chooses.
#[must_use]
pub const fn has_gpu() -> bool {
    true
}

/// `WKWebView` (developer.apple.com) draws in a process of the system's, which has no such switch.
///
/// # Errors
/// Always, for that reason.
pub fn without_gpu() -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "on macOS the system chooses how it draws"))
}

/// Links arrive as an event of the system (`application(_:open:)`), and so does a second start
/// (`applicationShouldHandleReopen(_:hasVisibleWindows:)`, developer.apple.com).
#[must_use]
pub fn prepare(builder: Builder<Wry>) -> Builder<Wry> {
    let events: TauriPlugin<Wry> = plugin::Builder::new("events")
        .setup(|app, _| {
            let handle = app.clone();
            app.deep_link().on_open_url(move |event| offer(&handle, &event.urls()));
            Ok(())
        })
        .on_event(heard)
        .build();
    builder.plugin(tauri_plugin_deep_link::init()).plugin(events)
}

fn heard(app: &AppHandle, event: &RunEvent) {
    if let RunEvent::Ready = event
        && let Ok(Some(links)) = app.deep_link().get_current()
    {
        // The link that the program was started for came before there was anybody to ask.
        offer(app, &links);
    }
    if let RunEvent::Reopen { has_visible_windows: false, .. } = event {
        window::show(app);
    }
}

/// Asks about one link; several at once come from nobody who means well.
fn offer(app: &AppHandle, links: &[tauri::Url]) {
    if app.try_state::<Bridge>().is_some()
        && let [link] = links
        && let Ok(destination) = deep_link::parse(link.as_str())
    {
        window::offer(app, destination);
    }
}
