//! The command line: what can be said, and its help.

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use hamn_ipc::wire::SettingKey;
use std::path::PathBuf;
use std::time::Duration;

/// Hamn: a VPN that never lets traffic past the tunnel.
#[derive(Debug, Parser)]
#[command(name = "hamn", version, max_term_width = 100, after_long_help = crate::exit::table_text(), disable_help_subcommand = false)]
pub struct Arguments {
    /// Print one JSON object (for `events`: one per line) instead of text. Schemas: platform/ipc/schemas.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Log in with the provider. Asks for what is missing; secrets never go on the command line.
    Login(Login),
    /// Log out and forget this computer's key.
    Logout,
    /// Show who is logged in.
    Account,
    /// List or remove the account's devices.
    #[command(subcommand)]
    Devices(Devices),
    /// List countries, cities and servers.
    Servers,
    /// Connect. Without a place: to the destination of the settings.
    Connect(Connect),
    /// Disconnect. With the kill switch `always` the network stays blocked.
    Disconnect(Wait),
    /// Connect again to the same destination.
    Reconnect(Wait),
    /// Show what is going on.
    Status,
    /// Follow what happens, a line each, until interrupted.
    Events(Events),
    /// Import, list or remove WireGuard profiles.
    #[command(subcommand)]
    Profile(Profile),
    /// Show or change settings.
    #[command(subcommand)]
    Settings(Settings),
    /// Show the rules in force.
    #[command(subcommand)]
    Policy(Policy),
    /// Test whether anything can leave outside the tunnel, now. Ends with 9 when something can.
    Verify,
    /// Find out how far a connection comes: link, DNS, provider, handshake, traffic.
    Diagnose,
    /// Show the newest lines of the helper's log, without addresses and secrets.
    Log {
        /// How many lines.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2_000))]
        lines: u32,
    },
    /// Print a report for support, without addresses and secrets. Nothing is sent anywhere.
    Report,
    /// Open the network again, even in lockdown and when the helper is dead. Needs root.
    RestoreNetwork(RestoreNetwork),
    /// Show the versions of this command and of the helper.
    Version,
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// `hamn login`
#[derive(Debug, Args)]
pub struct Login {
    /// `-` reads the account from standard input. An account number is a secret: it is only taken from standard input or a
    /// prompt. An account name may be written here together with a password option.
    #[arg(value_name = "ACCOUNT")]
    pub account: Option<String>,
    /// Ask for a password.
    #[arg(long, conflicts_with = "password_stdin")]
    pub password: bool,
    /// Read the password from standard input (the line after the account, when that is read there too).
    #[arg(long)]
    pub password_stdin: bool,
    /// Ask for a one-time code.
    #[arg(long)]
    pub otp: bool,
}

/// `hamn devices`
#[derive(Debug, Subcommand)]
pub enum Devices {
    /// List the account's devices.
    List,
    /// Remove a device from the account; its key stops working.
    Remove {
        /// Id of the device, as `hamn devices list` shows it.
        id: String,
    },
    /// Replace this computer's key now; a running tunnel takes the new one.
    RotateKey,
}

/// `hamn connect`
#[derive(Debug, Args)]
pub struct Connect {
    /// A country (`se`), city (`stockholm`), server (`vpn05`) or `best`.
    #[arg(value_name = "PLACE", conflicts_with = "profile")]
    pub place: Option<String>,
    /// Exit of the server, when it has several.
    #[arg(long, value_name = "EXIT", requires = "place")]
    pub exit: Option<String>,
    /// Use an imported profile.
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Do nothing when already connected to there.
    #[arg(long)]
    pub if_needed: bool,
    /// How to wait.
    #[command(flatten)]
    pub wait: Wait,
}

/// How to wait.
#[derive(Clone, Copy, Debug, Args)]
pub struct Wait {
    /// Wait until it is done.
    #[arg(long)]
    pub wait: bool,
    /// Longest wait in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", requires = "wait", value_parser = seconds)]
    pub timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if (1..=86_400).contains(&seconds) => Ok(Duration::from_secs(seconds.into())),
        Ok(_) | Err(_) => Err("a whole number of seconds from 1 to 86400".to_owned()),
    }
}

/// `hamn events`
#[derive(Debug, Args)]
pub struct Events {
    /// End after so many lines.
    #[arg(long, value_name = "LINES")]
    pub count: Option<u64>,
}

/// `hamn profile`
#[derive(Debug, Subcommand)]
pub enum Profile {
    /// Import a WireGuard configuration file. Needs root: it decides where all traffic goes.
    Import {
        /// The file (`-`: standard input).
        file: PathBuf,
        /// Name to give it; the file's name without `.conf` when absent.
        #[arg(long)]
        name: Option<String>,
        /// Replace a profile of that name.
        #[arg(long)]
        replace: bool,
    },
    /// List imported profiles.
    List,
    /// Remove an imported profile. Needs root.
    Remove {
        /// Its name.
        name: String,
    },
}

/// `hamn settings`
#[derive(Debug, Subcommand)]
pub enum Settings {
    /// Show all settings, or one.
    Get {
        /// Which.
        #[arg(value_parser = setting_key)]
        key: Option<SettingKey>,
    },
    /// Change a setting. Values: kill_switch off|while-connected|always; auto_connect, allow_lan, ipv6 on|off;
    /// dns provider|ADDRESS[,ADDRESS...]; mtu auto|1280-1500; destination PLACE|profile:NAME; key_rotation_days 1-90.
    Set {
        /// Which.
        #[arg(value_parser = setting_key)]
        key: SettingKey,
        /// The value.
        value: String,
    },
    /// Set settings back to their defaults.
    Reset {
        /// Which.
        #[arg(value_parser = setting_key, required_unless_present = "all")]
        keys: Vec<SettingKey>,
        /// All of them.
        #[arg(long, conflicts_with = "keys")]
        all: bool,
    },
}

fn setting_key(text: &str) -> Result<SettingKey, String> {
    let wanted = text.replace('-', "_");
    let names = || SettingKey::ALL.map(SettingKey::as_str).join(", ");
    SettingKey::ALL.into_iter().find(|key| key.as_str() == wanted).ok_or_else(|| format!("the settings are {}", names()))
}

/// `hamn policy`
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Show the rules in force, in words and as the operating system holds them.
    Show,
}

/// `hamn restore-network`
#[derive(Debug, Args)]
pub struct RestoreNetwork {
    /// State directory of the helper, when it is not the usual one.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}
