//! The commands: each asks the helper and hands one document to the terminal.

use crate::arguments::{Arguments, Command, Connect, Devices, Events, Policy, Profile, Settings, Wait};
use crate::exit::{self, Exit};
use crate::show::{self, View};
use crate::wait::{Goal, Steps, until};
use crate::{restore, secret, values};
use clap::CommandFactory;
use clap_complete::Shell;
use futures_util::StreamExt;
use hamn_core::location::Destination;
use hamn_ipc::client::Client;
use hamn_ipc::wire::{self, ConnectRequest, DestinationText, IntentResult, SettingKey};
use hamn_ipc::{Problem, ProblemCode};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Largest profile file in bytes: JSON quoting must still fit into a request of 64 KiB.
const LARGEST_PROFILE: u64 = 48 * 1024;

/// What a command needs beside its arguments.
#[derive(Clone, Debug)]
pub struct Session {
    /// `HAMN_SOCKET`.
    pub socket: Option<PathBuf>,
    /// Where this program is.
    pub own_program: Option<PathBuf>,
    /// JSON instead of text.
    pub json: bool,
    /// How text is shown.
    pub view: View,
}

impl Session {
    async fn client(&self) -> Result<Client, Problem> {
        Client::open(self.socket.as_deref()).await
    }

    /// Prints a document: as one line of JSON, or as text.
    fn print<T: Serialize>(&self, document: &T, text: impl FnOnce(&T) -> String) -> Result<(), Problem> {
        let text = if self.json { json_line(document)? } else { text(document) };
        put(&text)
    }

    /// A line about what goes on, for people who wait.
    fn progress(&self, line: &str) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

fn json_line<T: Serialize>(document: &T) -> Result<String, Problem> {
    let text = serde_json::to_string(document).map_err(|error| Problem::with_detail(ProblemCode::Internal, error.to_string()))?;
    Ok(text + "\n")
}

fn put(text: &str) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Problem::with_detail(ProblemCode::Internal, format!("write the output: {}", error.kind())))
}

/// Runs one command.
///
/// # Errors
/// The problem to show; its code decides the exit code.
pub async fn run(arguments: Arguments, session: &Session) -> Result<Exit, Problem> {
    match arguments.command {
        Command::Login(_) | Command::Logout | Command::Account | Command::Devices(_) => {
            account(arguments.command, session).await?
        }
        Command::Connect(connect) => return self::connect(connect, session).await,
        Command::Disconnect(wait) => return leave_or_renew(Goal::NoTunnel, wait, session).await,
        Command::Reconnect(wait) => return leave_or_renew(Goal::Tunnel, wait, session).await,
        Command::Events(events) => return self::events(&events, session).await,
        Command::Verify => return verify(session).await,
        Command::Diagnose | Command::Log { .. } | Command::Report => support(&arguments.command, session).await?,
        Command::Servers => session.print(&session.client().await?.servers().await?, show::servers)?,
        Command::Status => session.print(&session.client().await?.status().await?, |status| session.view.status(status))?,
        Command::Policy(Policy::Show) => {
            session.print(&session.client().await?.policy().await?, |policy| session.view.policy(policy))?
        }
        Command::Profile(profile) => self::profile(profile, session).await?,
        Command::Settings(settings) => self::settings(settings, session).await?,
        Command::RestoreNetwork(restore) => {
            let output = restore::run(&restore, session.socket.as_deref(), session.own_program.as_deref()).await?;
            session.print(&output, show::restore)?;
        }
        Command::Version => session.print(&version(session).await, show::version)?,
        Command::Completions { shell } => completions(shell)?,
    }
    Ok(Exit::Ok)
}

async fn account(command: Command, session: &Session) -> Result<(), Problem> {
    // A secret is asked for only once the helper is known to be there and to be the helper.
    let client = session.client().await?;
    match command {
        Command::Login(login) => session.print(&client.login(&secret::login(&login)?).await?, show::account),
        Command::Logout => session.print(&client.logout().await?, show::account),
        Command::Devices(Devices::List) => session.print(&client.devices().await?, show::devices),
        Command::Devices(Devices::RotateKey) => session.print(&client.rotate_key().await?, show::devices),
        Command::Devices(Devices::Remove { id }) => session.print(&client.remove_device(&id).await?, show::devices),
        Command::Account
        | Command::Servers
        | Command::Connect(_)
        | Command::Disconnect(_)
        | Command::Reconnect(_)
        | Command::Status
        | Command::Events(_)
        | Command::Profile(_)
        | Command::Settings(_)
        | Command::Policy(_)
        | Command::Verify
        | Command::Diagnose
        | Command::Log { .. }
        | Command::Report
        | Command::RestoreNetwork(_)
        | Command::Version
        | Command::Completions { .. } => session.print(&client.account().await?, show::account),
    }
}

async fn leave_or_renew(goal: Goal, wait: Wait, session: &Session) -> Result<Exit, Problem> {
    let client = session.client().await?;
    let result = match goal {
        Goal::Tunnel => client.reconnect().await?,
        Goal::NoTunnel => client.disconnect().await?,
    };
    intent(&client, result, goal, wait, session).await
}

async fn support(command: &Command, session: &Session) -> Result<(), Problem> {
    let client = session.client().await?;
    if let Command::Log { lines } = command {
        session.print(&client.log(*lines).await?, show::log)
    } else if matches!(command, Command::Report) {
        session.print(&client.report().await?, |report| show::lines(&report.text))
    } else {
        session.print(&client.diagnose().await?, |ladder| session.view.ladder(ladder))
    }
}

async fn verify(session: &Session) -> Result<Exit, Problem> {
    let report = session.client().await?.verify().await?;
    session.print(&report, |report| session.view.verify(report))?;
    Ok(exit::of_report(&report))
}

fn completions(shell: Shell) -> Result<(), Problem> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "hamn", &mut script);
    put(&String::from_utf8_lossy(&script))
}

async fn connect(connect: Connect, session: &Session) -> Result<Exit, Problem> {
    let destination = match (connect.place, connect.exit, connect.profile) {
        (_, _, Some(name)) => Some(DestinationText::Exact(Destination::Profile { name })),
        (Some(place), Some(exit), None) => Some(DestinationText::Text(format!("{place}/{exit}"))),
        (Some(place), None, None) => Some(DestinationText::Text(place)),
        (None, _, None) => None,
    };
    let client = session.client().await?;
    let result = client.connect(&ConnectRequest { destination, if_needed: connect.if_needed }).await?;
    intent(&client, result, Goal::Tunnel, connect.wait, session).await
}

/// Waits when asked to, then tells how things stand.
async fn intent(client: &Client, result: IntentResult, goal: Goal, wait: Wait, session: &Session) -> Result<Exit, Problem> {
    let mut steps = Steps::default();
    let status = if wait.wait {
        let tell = |status: &_| {
            if let Some(line) = steps.line(status) {
                session.progress(&line);
            }
        };
        until(client, goal, result.status, wait.timeout, tell).await?
    } else {
        result.status
    };
    let exit = match goal {
        Goal::Tunnel => exit::of_status(&status),
        Goal::NoTunnel => Exit::Ok,
    };
    let result = IntentResult { changed: result.changed, status };
    session.print(&result, |result| session.view.status(&result.status))?;
    Ok(exit)
}

async fn events(events: &Events, session: &Session) -> Result<Exit, Problem> {
    let client = session.client().await?;
    let mut lines = std::pin::pin!(client.events().await?);
    let mut left = events.count.unwrap_or(u64::MAX);
    while left > 0
        && let Some(event) = lines.next().await
    {
        session.print(&event?, |event| session.view.event(event) + "\n")?;
        left -= 1;
    }
    Ok(Exit::Ok)
}

async fn profile(profile: Profile, session: &Session) -> Result<(), Problem> {
    let list = match profile {
        Profile::List => session.client().await?.profiles().await?,
        Profile::Remove { name } => session.client().await?.remove_profile(&name).await?,
        Profile::Import { file, name, replace } => {
            let name = profile_name(name, &file)?;
            let conf = wire::Secret::new(read_profile(&file)?);
            session.client().await?.import_profile(&wire::ImportProfile { name, conf, replace }).await?
        }
    };
    session.print(&list, show::profiles)
}

fn profile_name(name: Option<String>, file: &Path) -> Result<String, Problem> {
    let stem = || file.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let name = name.or_else(stem).filter(|name| wire::is_name(name));
    name.ok_or_else(|| {
        Problem::with_detail(ProblemCode::InvalidValue, "a profile's name is 1 to 64 letters, digits, `_`, `.` or `-`")
            .action("Give one with `--name NAME`.")
    })
}

/// Reads the file with the rights of the user who runs this command; the helper only gets the text.
fn read_profile(file: &Path) -> Result<String, Problem> {
    let problem = |why: String| {
        Problem::with_detail(ProblemCode::InvalidValue, format!("{}: {why}", show::plain(&file.display().to_string())))
    };
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|error| problem(error.kind().to_string()))?)
    };
    let mut text = String::new();
    let read = input.take(LARGEST_PROFILE + 1).read_to_string(&mut text).map_err(|error| problem(error.kind().to_string()))?;
    if u64::try_from(read).unwrap_or(u64::MAX) > LARGEST_PROFILE {
        return Err(problem("a profile has at most 48 KiB".to_owned()));
    }
    Ok(text)
}

async fn settings(settings: Settings, session: &Session) -> Result<(), Problem> {
    let client = session.client().await?;
    let view = match settings {
        Settings::Get { key } => {
            let mut view = client.settings().await?;
            view.settings.retain(|entry| key.is_none_or(|key| key == entry.key));
            view
        }
        Settings::Set { key, value } => {
            let listing = if key == SettingKey::Destination { client.servers().await.ok() } else { None };
            let mut view = client.change_settings(&values::patch(key, &value, listing.as_ref())?).await?;
            view.settings.retain(|entry| key == entry.key);
            view
        }
        Settings::Reset { keys, all } => client.reset_settings(&wire::ResetSettings { keys: (!all).then_some(keys) }).await?,
    };
    session.print(&view, show::settings)
}

async fn version(session: &Session) -> wire::VersionOutput {
    let helper = match session.client().await {
        Ok(client) => client.version().await.ok(),
        Err(_) => None,
    };
    wire::VersionOutput { client: env!("CARGO_PKG_VERSION").to_owned(), helper }
}
