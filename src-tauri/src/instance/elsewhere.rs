//! One window by the session's bus (Linux) or a name of the session with a window for messages (Windows).

use std::path::Path;
use tauri::{AppHandle, Builder, Wry};

/// From now on `heard` gets the arguments of every later start, with the program's name before them.
#[must_use]
pub fn prepare(builder: Builder<Wry>, _config: &Path, heard: fn(&AppHandle, Vec<String>)) -> Builder<Wry> {
    builder.plugin(tauri_plugin_single_instance::init(move |app, arguments, _directory| heard(app, arguments)))
}
