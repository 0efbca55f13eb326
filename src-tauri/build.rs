//! Makes a permission of every command, checks the capability file and sees to it that there is a page to embed.

use std::path::Path;
use std::{env, fs, process};

include!("src/command_names.rs");

macro_rules! names {
    ($($name:ident),* $(,)?) => { &[$(stringify!($name)),*] };
}
const COMMANDS: &[&str] = with_commands!(names);

/// What a build shows whose page was not built; never part of a shipped program.
const PLACEHOLDER: &str = "<!doctype html>\n<html lang=\"en\">\n  <head><meta charset=\"utf-8\" /><title>Hamn</title></head>\n  \
                           <body><p>This program was built without its page: run `npm install` and `npm run build` in `ui`.</p></body>\n\
                           </html>\n";

fn main() {
    if let Err(problem) = page().and_then(|()| permissions()) {
        // Cargo shows what a failed build script writes.
        eprintln!("{problem}");
        process::exit(1);
    }
}

/// The page must exist for the types to be checked; the program that is shipped takes no placeholder.
fn page() -> Result<(), String> {
    let index = Path::new("../ui/dist/index.html");
    let shipped = env::var_os("CARGO_FEATURE_CUSTOM_PROTOCOL").is_some();
    println!("cargo:rerun-if-changed={}", index.display());
    match fs::read_to_string(index) {
        Ok(text) if shipped && text == PLACEHOLDER => Err("ui/dist holds only a placeholder: run `npm run build` in `ui`".into()),
        Ok(_) => Ok(()),
        Err(_) if shipped => Err("ui/dist is missing: run `npm install` and `npm run build` in `ui`".into()),
        Err(_) => fs::create_dir_all("../ui/dist")
            .and_then(|()| fs::write(index, PLACEHOLDER))
            .map_err(|error| format!("ui/dist/index.html cannot be written: {error}")),
    }
}

fn permissions() -> Result<(), String> {
    println!("cargo:rerun-if-changed=src/command_names.rs");
    let manifest = tauri_build::AppManifest::new().commands(COMMANDS);
    tauri_build::try_build(tauri_build::Attributes::new().app_manifest(manifest)).map_err(|error| format!("{error:#}"))
}
