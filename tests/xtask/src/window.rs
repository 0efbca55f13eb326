//! The window: its page (npm), its program (WebKit's headers), and what it takes to look at it without a screen.

use crate::build::{cargo, root, target_dir};
use crate::output::say;
use crate::system::{Need, find, may_install};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// What compiling the window needs besides. Libraries are recognised by a header, which lies in the same place on every architecture.
pub const BUILD: &[Need] = &[
    ("/usr/include/webkitgtk-4.1/webkit2/webkit2.h", "libwebkit2gtk-4.1-dev"),
    ("pkg-config", "pkg-config"),
    ("node", "nodejs"),
    ("npm", "npm"),
];

/// What driving the window and looking at it needs besides: a hidden X server, a session bus, WebKit's driver, another engine to
/// test the page in, and letters for every language of the window.
pub const LOOK: &[Need] = &[
    ("Xvfb", "xvfb"),
    ("dbus-daemon", "dbus-daemon"),
    ("/usr/share/dbus-1/session.conf", "dbus-session-bus-common"),
    ("WebKitWebDriver", "webkit2gtk-driver"),
    ("chromium", "chromium"),
    ("localedef", "libc-bin"),
    ("/usr/share/i18n/locales/ar_EG", "locales"),
    ("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "fonts-dejavu-core"),
    ("/usr/share/fonts/truetype/noto/NotoSansArabic-Regular.ttf", "fonts-noto-core"),
];

/// How the window's program is selected. Without the feature it would load its page from a development server and have no content
/// security policy, so it is never built otherwise.
pub const SELECTION: &str = "-p hamn-gui --features custom-protocol";

/// The oldest Node.js that the page's tools run on.
const NODE: (u32, u32) = (20, 19);
/// The stable driver; later ones in the registry are of the next, unfinished major version.
const TAURI_DRIVER: &str = "2.1.0";

/// A command of npm in the page's directory.
pub fn npm(words: &str) -> Result<Command> {
    let mut command = Command::new(find("npm").context("npm is missing")?);
    command.current_dir(root()?.join("ui")).args(words.split_whitespace());
    Ok(command)
}

/// Installs what the lock file names, unless that is what is there.
pub fn install_page_tools() -> Result<()> {
    check_node()?;
    let ui = root()?.join("ui");
    let age = |path: PathBuf| std::fs::metadata(path).and_then(|data| data.modified()).ok();
    // npm writes this list last, so it is there only after a whole installation.
    let (installed, wanted) = (age(ui.join("node_modules/.package-lock.json")), age(ui.join("package-lock.json")));
    if installed.is_some() && installed >= wanted {
        return Ok(());
    }
    say("Installing the page's tools with npm.");
    // Nothing that npm fetches may run while it is installed.
    // Not `npm ci`: it demands every optional package of every other system in the lock file, and some mirrors lack them.
    if !npm("install --no-save --ignore-scripts --no-audit --no-fund")?.status().context("run npm")?.success() {
        bail!("npm install failed");
    }
    Ok(())
}

fn check_node() -> Result<()> {
    let output = Command::new(find("node").context("Node.js is missing")?).arg("--version").output().context("run node")?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut numbers = text.trim_start_matches('v').split('.').filter_map(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < NODE {
        bail!("Node.js {}.{} or newer is needed for the window's page; here is {text}", NODE.0, NODE.1);
    }
    Ok(())
}

/// Builds the page, which the program carries inside.
pub fn build_page() -> Result<()> {
    install_page_tools()?;
    if !npm("run --silent build")?.status().context("run npm")?.success() {
        bail!("the page could not be built");
    }
    Ok(())
}

/// Builds the page and the program; `options` are more words for cargo.
pub fn build(options: &str) -> Result<()> {
    build_page()?;
    if !cargo(&format!("build --quiet {SELECTION} {options}"))?.status().context("run cargo")?.success() {
        bail!("the window could not be built");
    }
    Ok(())
}

/// The program that lets WebDriver clients drive a Tauri window; installed beside the build. Without it the tests speak to WebKit's own
/// driver, which it would start.
pub fn tauri_driver() -> Result<Option<PathBuf>> {
    let place = target_dir()?.join("gui-tools");
    let program = place.join("bin/tauri-driver");
    if program.is_file() {
        return Ok(Some(program));
    }
    if !may_install() {
        return Ok(None);
    }
    say("Installing tauri-driver (once; a minute or two).");
    let mut install = cargo(&format!("install tauri-driver --version {TAURI_DRIVER} --locked --quiet --root"))?;
    let installed = install.arg(&place).env_remove("CARGO_TARGET_DIR").status().is_ok_and(|status| status.success());
    if !installed {
        say("tauri-driver could not be installed; WebKit's own driver is used.");
    }
    Ok(installed.then_some(program))
}
