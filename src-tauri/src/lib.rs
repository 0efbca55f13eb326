//! The window of Hamn: a thin bridge between the page in `ui` and the helper. It decides nothing about protection, holds no
//! secret and runs without privileges.
//!
//! `cargo build -p hamn-gui` makes a program for development; `--features custom-protocol` makes the one that is shipped and
//! tested, and demands that the page was built (`npm run build` in `ui`). Both embed the page and its CSP.

// `generate_handler!` expands to code that the lints of this workspace do not know.
#[macro_use]
mod names {
    include!("command_names.rs");
}

pub mod arguments;
mod autostart;
pub mod bindings;
pub mod bridge;
pub mod commands;
pub mod deep_link;
pub mod environment;
pub mod files;
mod instance;
pub mod link;
pub mod navigation;
pub mod notify;
mod plain;
pub mod preferences;
mod private_file;
mod system;
pub mod tray;
pub mod window;
pub mod words;

use arguments::Arguments;
use bridge::Bridge;
use environment::Environment;
use preferences::Store;
use std::path::Path;
use std::process::ExitCode;
use tauri::{AppHandle, Manager};
use window::Page;

macro_rules! listed {
    ($($name:ident),* $(,)?) => { &[$(stringify!($name)),*] };
}
macro_rules! handled {
    ($($name:ident),* $(,)?) => { tauri::generate_handler![$(commands::$name),*] };
}

/// The commands that the page may call.
pub const COMMANDS: &[&str] = with_commands!(listed);

/// Runs the window until the user quits.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse(std::env::args_os().skip(1).filter_map(|argument| argument.into_string().ok()));
    if arguments.version {
        system::print(&format!("hamn-gui {}\n", env!("CARGO_PKG_VERSION")));
        return ExitCode::SUCCESS;
    }
    if (arguments.disable_gpu || !system::has_gpu())
        && let Err(error) = system::without_gpu()
    {
        system::print(&format!("hamn-gui: drawing without the graphics card has no effect: {error}\n"));
    }
    start_log();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the window cannot start");
            ExitCode::FAILURE
        }
    }
}

fn start_log() {
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("HAMN_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // The desktop's journal gets it; nothing is written to a file.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
}

fn run(arguments: Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let environment = Environment::of_process();
    let config = environment.config.clone().ok_or(environment::NO_CONFIG)?;
    let mut builder = tauri::Builder::default();
    if !environment.fresh_instance {
        builder = instance::prepare(builder, &config, |app, arguments| follow(app, Arguments::parse(arguments.iter().skip(1))));
    }
    let remembered = tauri_plugin_window_state::Builder::default()
        .with_state_flags(window::REMEMBERED)
        .with_filename(config.join("window-state.json").to_string_lossy());
    builder = builder.plugin(tauri_plugin_notification::init());
    builder = system::prepare(autostart::prepare(builder).plugin(remembered.build()));
    builder
        .invoke_handler(with_commands!(handled))
        .setup(move |app| {
            set_up(app.handle(), &environment, &config, arguments)?;
            Ok(())
        })
        .run(tauri::generate_context!())?;
    Ok(())
}

fn set_up(app: &AppHandle, environment: &Environment, config: &Path, arguments: Arguments) -> tauri::Result<()> {
    let preferences = Store::open(config);
    let hidden = arguments.hidden || (arguments.autostarted && preferences.current().start_hidden);
    // A link is a question, and a question must be seen.
    let page = Page { ready: false, hidden: hidden && arguments.link.is_none(), link: arguments.link, view: arguments.view };
    app.manage(Bridge::new(app, environment, preferences, page));
    system::end_on_signals(app);
    app.state::<Bridge>().start(app);
    window::create(app)
}

/// Another start of the program: this one answers.
fn follow(app: &AppHandle, arguments: Arguments) {
    if app.try_state::<Bridge>().is_none() {
        // It is still being started, and will be shown.
        return;
    }
    if let Some(view) = arguments.view {
        window::navigate(app, view);
    }
    if let Some(link) = arguments.link {
        window::offer(app, link);
    } else if !arguments.hidden && !arguments.autostarted {
        window::show(app);
    }
}
