//! One window on macOS. Launch Services starts no program twice and tells the one that runs (`RunEvent::Reopen`), but a shell does; the
//! meeting place is in the user's own directory, so that no other user of the Mac can stand in the way.

use super::socket::{Claim, claim};
use std::path::Path;
use tauri::plugin::{self, TauriPlugin};
use tauri::{AppHandle, Builder, Wry};

/// From now on `heard` gets the arguments of every later start, with the program's name before them.
#[must_use]
pub fn prepare(builder: Builder<Wry>, config: &Path, heard: fn(&AppHandle, Vec<String>)) -> Builder<Wry> {
    let config = config.to_owned();
    let plugin: TauriPlugin<Wry> = plugin::Builder::new("instance")
        .setup(move |app, _| {
            let arguments: Vec<String> = std::env::args_os().filter_map(|argument| argument.into_string().ok()).collect();
            match claim(&config, &arguments) {
                Ok(Claim::First(place)) => {
                    let app = app.clone();
                    place.listen(move |arguments| heard(&app, arguments))?;
                }
                Ok(Claim::Told) => {
                    app.cleanup_before_exit();
                    std::process::exit(0);
                }
                Err(error) => tracing::warn!(%error, "another start will not find this window"),
            }
            Ok(())
        })
        .build();
    builder.plugin(plugin)
}
