//! The tunnels that are compared: Hamn, and `wg-quick` with Debian's wireguard-go or with gotatun's own program.

use crate::bench::gateway::{Gateway, Member};
use crate::bench::process::Process;
use crate::world::World;
use anyhow::{Context, Result, bail, ensure};
use hamn_provider::sandbox::HostCommand;
use hamn_provider::sandbox::address::{GATEWAY_SECOND_V4, RESOLVER_V4};
use serde::Serialize;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A client of the benchmark's gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Client {
    /// Hamn with an imported profile.
    Hamn,
    /// `wg-quick` with wireguard-go.
    WireGuardGo,
    /// `wg-quick` with gotatun's command-line program.
    Gotatun,
}

impl Client {
    /// In the order of the tables.
    pub const ALL: [Self; 3] = [Self::Hamn, Self::WireGuardGo, Self::Gotatun];

    /// As shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hamn => "Hamn",
            Self::WireGuardGo => "wireguard-go",
            Self::Gotatun => "gotatun",
        }
    }

    /// The interface that `wg-quick` makes.
    const fn interface(self) -> &'static str {
        match self {
            Self::Hamn => "hamn0",
            Self::WireGuardGo => "wgo0",
            Self::Gotatun => "gota0",
        }
    }
}

/// The name of the profile that Hamn imports.
pub const PROFILE: &str = "bench";
/// No program of a tunnel may take longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The gateway and what each client needs.
pub struct Clients {
    _gateway: Gateway,
    directory: PathBuf,
    gotatun: Option<PathBuf>,
}

impl Clients {
    /// Starts the gateway, writes the configurations, and imports Hamn's.
    ///
    /// # Errors
    /// When the gateway does not start or a file cannot be written. A profile that Hamn refuses shows when it connects.
    pub fn prepare(world: &World) -> Result<Self> {
        let (gateway, members) = Gateway::start::<3>(&world.lab)?;
        let directory = world.lab.directory().join("bench");
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        let clients = Self { _gateway: gateway, directory, gotatun: gotatun() };
        for (client, member) in Client::ALL.into_iter().zip(&members) {
            clients.write(client, member)?;
        }
        if world.helper_pid().is_ok() {
            let file = clients.file(Client::Hamn);
            let import = world.hamn("profile import")?.arg(&file).args(["--name", PROFILE]);
            import.ok().context("hamn profile import")?;
        }
        Ok(clients)
    }

    /// wireguard-go and gotatun, as they name themselves.
    #[must_use]
    pub fn versions(&self) -> [String; 2] {
        let ask = |program: &Path| {
            let answer = std::process::Command::new(program).arg("--version").output();
            let text = answer.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            text.lines().next().unwrap_or("unknown version").trim().to_owned()
        };
        let gotatun = self.gotatun.as_deref().map_or_else(|| "gotatun (not installed)".to_owned(), ask);
        [ask(Path::new("wireguard-go")), gotatun]
    }

    fn write(&self, client: Client, member: &Member) -> Result<()> {
        let file = self.file(client);
        let more = match client {
            Client::Hamn => format!("DNS = {RESOLVER_V4}\n"),
            // wg-quick would call resolvconf.
            Client::WireGuardGo => String::new(),
            // gotatun refuses the mark that wg-quick would set afterwards.
            Client::Gotatun => "FwMark = 51820\n".to_owned(),
        };
        fs::write(&file, member.configuration(&more))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        Ok(())
    }

    fn file(&self, client: Client) -> PathBuf {
        self.directory.join(format!("{}.conf", client.interface()))
    }

    /// The program and arguments that bring a client's tunnel up or down, and its environment.
    ///
    /// # Errors
    /// When the program does not exist.
    pub fn command(&self, world: &World, client: Client, up: bool) -> Result<Recipe> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if client == Client::Hamn {
            world.helper_pid().context("Hamn's helper does not run")?;
            let words = words(&if up { format!("connect --profile {PROFILE} --wait") } else { "disconnect --wait".to_owned() });
            return Recipe::hamn(world, words);
        }
        let implementation = match client {
            Client::Gotatun => self.gotatun.clone().context("gotatun's program is not installed (package gotatun-cli)")?,
            Client::WireGuardGo | Client::Hamn => PathBuf::from("wireguard-go"),
        };
        let arguments = vec![if up { "up" } else { "down" }.to_owned(), self.file(client).display().to_string()];
        let mut environment = vec![("WG_QUICK_USERSPACE_IMPLEMENTATION".to_owned(), implementation.display().to_string())];
        if client == Client::Gotatun {
            // It would look for the user who logged in; a laboratory has none.
            environment.push(("WG_SUDO".to_owned(), "true".to_owned()));
            environment.push(("WG_LOG_FILE".to_owned(), self.directory.join("gotatun.log").display().to_string()));
        }
        Ok(Recipe { program: PathBuf::from("wg-quick"), arguments, environment })
    }

    /// Brings a client's tunnel up.
    ///
    /// # Errors
    /// When that fails, with what the program said.
    pub fn up(&self, world: &World, client: Client) -> Result<()> {
        self.command(world, client, true)?.inside(world).ok().with_context(|| format!("start {}", client.name())).map(drop)
    }

    /// Takes a client's tunnel down, whatever state it is in.
    ///
    /// # Errors
    /// When that fails.
    pub fn down(&self, world: &World, client: Client) -> Result<()> {
        let down = self.command(world, client, false)?.inside(world).ok();
        if client != Client::Hamn {
            // gotatun goes on after its interface has gone.
            for process in Process::named(client.name(), &world.lab.client.network_path())? {
                process.end()?;
            }
        }
        down.with_context(|| format!("stop {}", client.name())).map(drop)
    }

    /// As whom the web sees all of them through their tunnels.
    pub const EXIT: IpAddr = GATEWAY_SECOND_V4;

    /// The process that carries a client's packets.
    ///
    /// # Errors
    /// When there is not exactly one.
    pub fn process(&self, world: &World, client: Client) -> Result<Process> {
        if client == Client::Hamn {
            return Ok(Process(u32::try_from(world.helper_pid()?.as_raw())?));
        }
        let found = Process::named(client.name(), &world.lab.client.network_path())?;
        match found.as_slice() {
            [one] => Ok(*one),
            other => bail!("{} processes of {}", other.len(), client.name()),
        }
    }
}

/// A program to run in the client's host.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What is added to the environment.
    pub environment: Vec<(String, String)>,
}

impl Recipe {
    /// A `hamn` command.
    ///
    /// # Errors
    /// When it has not been built.
    pub fn hamn(world: &World, arguments: Vec<String>) -> Result<Self> {
        let environment = vec![("HAMN_SOCKET".to_owned(), world.socket().display().to_string())];
        Ok(Self { program: crate::binaries::binary("hamn")?, arguments, environment })
    }

    /// As a command of the laboratory.
    #[must_use]
    pub fn inside<'world>(&self, world: &'world World) -> HostCommand<'world> {
        let command = world.lab.client.command(&self.program).args(&self.arguments).timeout(PATIENCE);
        self.environment.iter().fold(command, |command, (name, value)| command.env(name, value))
    }

    /// As a plain command, for a thread that is in the host already.
    #[must_use]
    pub fn plain(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        command
    }

    /// Runs the program to its end on a thread that is in the host already.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn run(&self) -> Result<()> {
        let output = self.plain().output().with_context(|| format!("run {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} {:?}: {}, {said}", self.program.display(), self.arguments, output.status);
        Ok(())
    }
}

/// gotatun's own program: where `cargo xtask bench` installs it, else from `PATH`.
fn gotatun() -> Option<PathBuf> {
    let installed = target_dir().map(|target| target.join("bench-tools/bin/gotatun"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let everywhere = std::env::split_paths(&path).map(|directory| directory.join("gotatun"));
    installed.into_iter().chain(everywhere).find(|path| path.is_file())
}

/// The build's target directory, two levels above the running program.
#[must_use]
pub fn target_dir() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    Some(program.parent()?.parent()?.to_owned())
}
