//! What a window needs around it: an X server that shows nothing, a session bus, a WebDriver, and a home directory that is thrown away.

use anyhow::{Context, Result, bail};
use hamn_provider::sandbox::{Host, HostCommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use crate::binaries::binary;
use crate::wait::{s, until};

use super::driver::Driver;
use super::processes::{MARK, end_marked};

/// Each laboratory has a loopback of its own, so only windows of one process must keep apart.
static NEXT_PORT: AtomicU16 = AtomicU16::new(4440);
static NEXT_RUN: AtomicU32 = AtomicU32::new(0);

/// How a window is started.
#[derive(Clone, Debug)]
pub struct WindowOptions {
    /// The helper's socket, which need not exist.
    pub socket: PathBuf,
    /// `LANG`; none leaves it unset.
    pub language: Option<String>,
    /// The window's own file, as it was left by an earlier run.
    pub preferences: Option<Value>,
    /// Width and height of the screen in pixels.
    pub screen: (u32, u32),
    /// Width and height of the window.
    pub size: (u32, u32),
    /// Words for the program.
    pub arguments: Vec<String>,
    /// Another program than `hamn-gui`.
    pub program: Option<PathBuf>,
    /// The web view lets itself be driven. Without, it is as it is shipped.
    pub automated: bool,
    /// More environment variables; an empty value removes one.
    pub environment: Vec<(String, String)>,
}

impl WindowOptions {
    /// The usual window of the helper behind this socket: English, first run done.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            language: Some("en_US.UTF-8".to_owned()),
            preferences: Some(json!({"version": 1, "first_run_done": true, "close_to_tray": false})),
            screen: (1400, 1000),
            size: (1100, 820),
            arguments: vec![],
            program: None,
            automated: true,
            environment: vec![],
        }
    }
}

/// X server, bus and home of one window. Everything ends when this is dropped.
pub struct Screen {
    mark: String,
    directory: PathBuf,
    display: String,
    bus: String,
    servers: Vec<Child>,
    environment: Vec<(OsString, OsString)>,
}

impl Screen {
    /// Starts the servers on this host; files go below `place`.
    ///
    /// # Errors
    /// When one is missing or does not come up.
    pub fn start(host: &Host, place: &Path, options: &WindowOptions) -> Result<Self> {
        let run = NEXT_RUN.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{run}", std::process::id());
        let directory = place.join(format!("window-{run}"));
        for name in ["", "home", "home/Downloads", "run", "config"] {
            let path = directory.join(name);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).with_context(|| path.display().to_string())?;
        }
        if let Some(preferences) = &options.preferences {
            let path = directory.join("config/window.json");
            std::fs::write(&path, preferences.to_string()).context("write preferences")?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        }
        let mut screen =
            Self { mark, directory, display: String::new(), bus: String::new(), servers: vec![], environment: vec![] };
        screen.start_bus(host)?;
        screen.start_display(host, options.screen)?;
        screen.environment = screen.environment_for(options);
        Ok(screen)
    }

    fn start_display(&mut self, host: &Host, (width, height): (u32, u32)) -> Result<()> {
        let numbers = self.directory.join("display");
        let errors = self.directory.join("xvfb.log");
        let command = host.command("Xvfb").args(["-displayfd", "1", "-nolisten", "tcp", "-noreset", "-fbdir"]);
        let command = command.arg(&self.directory).args(["-screen", "0"]);
        let command = command.arg(format!("{width}x{height}x24")).log_to(&errors)?;
        let out = std::fs::File::create(&numbers)?;
        let child = command
            .with(|command| {
                command.stdout(out);
            })
            .spawn()?;
        self.servers.push(child);
        let number = until("the X server is up", s(20), || {
            let text = std::fs::read_to_string(&numbers)?;
            Ok(text.ends_with('\n').then(|| text.trim().to_owned()))
        });
        let number = number.with_context(|| std::fs::read_to_string(&errors).unwrap_or_default())?;
        self.display = format!(":{number}");
        Ok(())
    }

    fn start_bus(&mut self, host: &Host) -> Result<()> {
        let socket = self.directory.join("run/bus");
        self.bus = format!("unix:path={}", socket.display());
        let command = host.command("dbus-daemon").args(["--session", "--nofork", "--nopidfile", "--address"]).arg(&self.bus);
        self.servers.push(command.log_to(&self.directory.join("dbus.log"))?.spawn()?);
        until("the session bus is up", s(10), || Ok(socket.exists().then_some(())))
    }

    fn environment_for(&self, options: &WindowOptions) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| all.push((name.into(), value.as_ref().to_owned()));
        set("PATH", &std::env::var_os("PATH").unwrap_or_default());
        set("HOME", &self.directory.join("home"));
        set("XDG_RUNTIME_DIR", &self.directory.join("run"));
        set("DBUS_SESSION_BUS_ADDRESS", &self.bus);
        set("DISPLAY", &self.display);
        set("GDK_BACKEND", &"x11");
        set("NO_AT_BRIDGE", &"1");
        set("LIBGL_ALWAYS_SOFTWARE", &"1");
        // No GPU here; the other path costs 90 MiB and shows the same pixels.
        set("WEBKIT_DISABLE_DMABUF_RENDERER", &"1");
        if options.automated {
            set("TAURI_AUTOMATION", &"true");
            set("TAURI_WEBVIEW_AUTOMATION", &"true");
        }
        set("HAMN_SOCKET", &options.socket);
        set("HAMN_GUI_CONFIG_DIR", &self.directory.join("config"));
        set("HAMN_GUI_FRESH_INSTANCE", &"1");
        set(MARK, &self.mark);
        if let Some(language) = &options.language {
            set("LANG", language);
        }
        for (name, value) in &options.environment {
            set(name, value);
        }
        for (name, _) in options.environment.iter().filter(|(_, value)| value.is_empty()) {
            all.retain(|(set, _)| set != name.as_str());
        }
        all
    }

    /// A program that is to appear on this screen, with no other environment than the screen's.
    pub fn command<'host>(&self, host: &'host Host, program: impl AsRef<std::ffi::OsStr>) -> HostCommand<'host> {
        host.command(program).with(|command| {
            command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        })
    }

    /// Starts the driver: `tauri-driver` where `HAMN_TAURI_DRIVER` names it, else the WebKit driver that it would start.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn driver(&mut self, host: &Host) -> Result<Driver> {
        let (port, native) = (NEXT_PORT.fetch_add(1, Ordering::Relaxed), NEXT_PORT.fetch_add(1, Ordering::Relaxed));
        let log = self.log();
        let command = match tauri_driver() {
            Some(program) => self.command(host, program).args([
                "--port".to_owned(),
                port.to_string(),
                "--native-port".to_owned(),
                native.to_string(),
            ]),
            None => self.command(host, "WebKitWebDriver").args([format!("--port={port}"), "--host=127.0.0.1".to_owned()]),
        };
        let mut child = command.log_to(&log)?.spawn()?;
        let driver = Driver::new(host, port)?;
        let up = until("the WebDriver answers", s(20), || {
            if let Some(status) = child.try_wait()? {
                bail!("the WebDriver ended: {status}");
            }
            Ok(driver.command("GET", "/status", None).ok())
        });
        self.servers.push(child);
        up.with_context(|| self.log_text())?;
        Ok(driver)
    }

    /// The capabilities that start this program under the driver that `driver` started.
    #[must_use]
    pub fn capabilities(program: &Path, arguments: &[String]) -> Value {
        if tauri_driver().is_some() {
            json!({"browserName": "wry", "tauri:options": {"application": program, "args": arguments}})
        } else {
            json!({"webkitgtk:browserOptions": {"binary": program, "args": arguments}})
        }
    }

    /// The mark of this window's processes.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// The display's name.
    #[must_use]
    pub fn display(&self) -> &str {
        &self.display
    }

    /// Where the window's home, preferences and logs are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What the driver and the window print.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.join("window.log")
    }

    /// The end of that.
    #[must_use]
    pub fn log_text(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("the window's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The newest first: the driver ends its window, the window takes leave of the bus, then the X server goes.
        for child in self.servers.iter_mut().rev() {
            if let Ok(id) = i32::try_from(child.id()) {
                let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
            }
            if until("a server ends", s(3), || Ok(child.try_wait()?.map(drop))).is_err() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        let _ = end_marked(&self.mark, s(3));
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn tauri_driver() -> Option<PathBuf> {
    std::env::var_os("HAMN_TAURI_DRIVER").map(PathBuf::from).filter(|path| path.is_file())
}

/// The window's program: it lies beside the others, built with `--features custom-protocol`.
///
/// # Errors
/// When it has not been built.
pub fn window_program() -> Result<PathBuf> {
    binary("hamn-gui").context("build it with `cargo build -p hamn-gui --features custom-protocol`")
}
