//! The programs that are compared, and a tunnel's end run by one of them.

use crate::conf::Conf;
use crate::lab::Namespace;
use crate::process::Process;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// MTU of every tunnel.
pub const MTU: u16 = 1_420;
/// Where programs with the cross-platform interface put their sockets.
const SOCKETS: &str = "/var/run/wireguard";
/// No program may take longer to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a program is started and told its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours: `PROGRAM INTERFACE FILE`.
    File,
    /// wireguard-go: `-f INTERFACE`, then `wg setconf`.
    WireguardGo,
    /// boringtun-cli and gotatun-cli: `-f --disable-drop-privileges INTERFACE`, then `wg setconf`.
    Rust,
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Program {
    /// As shown.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// How it is started.
    pub kind: Kind,
    /// What it says of itself.
    pub version: String,
}

impl Program {
    /// A program that is there, or `None`.
    #[must_use]
    pub fn find(name: &str, path: &Path, kind: Kind) -> Option<Self> {
        if !path.is_file() {
            return None;
        }
        let version = match kind {
            Kind::File => env!("CARGO_PKG_VERSION").to_owned(),
            Kind::WireguardGo | Kind::Rust => version(path),
        };
        Some(Self { name: name.to_owned(), path: path.to_owned(), kind, version })
    }

    /// A program of this package, beside the running one.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn ours(name: &str, file: &str) -> Result<Self> {
        let directory = match std::env::var_os("HAMN_BIN_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => std::env::current_exe()?.parent().context("no directory")?.to_owned(),
        };
        Self::find(name, &directory.join(file), Kind::File).with_context(|| format!("{file} has not been built"))
    }

    /// An installed program, looked up in `first` and then as a shell would.
    #[must_use]
    pub fn installed(name: &str, file: &str, kind: Kind, first: Option<&Path>) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let everywhere: Vec<PathBuf> = first.map(Path::to_owned).into_iter().chain(std::env::split_paths(&path)).collect();
        everywhere.iter().find_map(|directory| Self::find(name, &directory.join(file), kind))
    }

    fn command(&self, interface: &str, file: &Path) -> Command {
        let mut command = Command::new(&self.path);
        match self.kind {
            Kind::File => command.arg(interface).arg(file),
            Kind::WireguardGo => command.args(["-f", interface]).env("LOG_LEVEL", "error"),
            Kind::Rust => {
                let log = file.with_extension("log");
                command.args(["-f", "--disable-drop-privileges", "-v", "error", "-l"]).arg(log).arg(interface)
            }
        };
        command
    }
}

fn version(path: &Path) -> String {
    let answer = Command::new(path).arg("--version").output();
    let text = answer.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown version").trim().to_owned()
}

/// One end of a tunnel. Dropping it ends the program.
#[derive(Debug)]
pub struct End {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
    /// The interface.
    pub interface: String,
    /// The program.
    pub process: Process,
}

impl Drop for End {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(Path::new(SOCKETS).join(format!("{}.sock", self.interface)));
    }
}

impl End {
    /// Starts a program in a namespace and brings its interface up with these addresses.
    ///
    /// # Errors
    /// When it does not start, or its interface does not appear.
    pub fn start(
        namespace: &Namespace,
        program: &Program,
        interface: &str,
        addresses: &[String],
        conf: &Conf,
        directory: &Path,
    ) -> Result<Self> {
        let file = directory.join(format!("{interface}.conf"));
        std::fs::write(&file, conf.text())?;
        let log = std::fs::File::create(directory.join(format!("{interface}.err")))?;
        let mut command = program.command(interface, &file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = namespace.start(command)?;
        let (input, output) = (child.stdin.take(), child.stdout.take().map(BufReader::new));
        let process = Process(child.id());
        let mut end = Self { child, input, output, interface: interface.to_owned(), process };
        end.configure(namespace, program, &file).with_context(|| {
            let said = std::fs::read_to_string(directory.join(format!("{interface}.err"))).unwrap_or_default();
            format!("start {}: {said}", program.name)
        })?;
        let addresses: String = addresses.iter().map(|address| format!("ip addr add {address} dev {interface}\n")).collect();
        namespace.sh(&format!(
            "echo 0 > /proc/sys/net/ipv6/conf/{interface}/accept_dad; ip link set {interface} mtu {MTU} up\n{addresses}"
        ))?;
        Ok(end)
    }

    fn configure(&mut self, namespace: &Namespace, program: &Program, file: &Path) -> Result<()> {
        if program.kind == Kind::File {
            let mut line = String::new();
            self.output.as_mut().context("no output")?.read_line(&mut line)?;
            ensure!(line.trim() == "ready", "it said {line:?}");
            return Ok(());
        }
        let socket = Path::new(SOCKETS).join(format!("{}.sock", self.interface));
        let deadline = Instant::now() + PATIENCE;
        let name = &self.interface;
        // The socket may be there a moment before it is listened on.
        let script = format!("wg setconf {name} {}", file.display());
        loop {
            let result = if socket.exists() { namespace.sh(&script).map(drop) } else { Err(anyhow::anyhow!("no socket")) };
            match result {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended: {status}");
            }
        }
    }

    /// Tells one of our own programs a word.
    ///
    /// # Errors
    /// When it is not listening.
    pub fn tell(&mut self, word: &str) -> Result<()> {
        Ok(writeln!(self.input.as_mut().context("no input")?, "{word}")?)
    }

    /// Asks our engine for its counters.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn counters(&mut self) -> Result<serde_json::Value> {
        self.tell("counters")?;
        let mut line = String::new();
        self.output.as_mut().context("no output")?.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("counters: {line:?}"))
    }

    /// True while the program runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}
