//! `hamn-provider`: make a provider, serve its API, run a gateway, or run the sandbox.

#[cfg(target_os = "linux")]
#[path = "servers/linux.rs"]
mod servers;
#[cfg(not(target_os = "linux"))]
#[path = "servers/elsewhere.rs"]
mod servers;
#[cfg(unix)]
#[path = "terminated/unix.rs"]
mod terminated;
#[cfg(windows)]
#[path = "terminated/windows.rs"]
mod terminated;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use hamn_provider::api_server::{self, App, LoginLimits};
use hamn_provider::gateway_config::GatewayConfig;
use hamn_provider::init::{ApiConfig, InitOptions};
use hamn_provider::list;
use hamn_provider::store::{NewAccount, Store};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[derive(Parser)]
#[command(version, about = "The reference provider of Hamn")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fill a directory with everything a provider needs
    Init(Init),
    /// Serve the API
    Api(Api),
    /// Sign the server list with the next serial
    SignList {
        /// The provider's directory
        #[arg(long)]
        dir: PathBuf,
    },
    /// Change the server list and sign it
    List {
        /// The provider's directory
        #[arg(long)]
        dir: PathBuf,
        #[command(subcommand)]
        change: ListChange,
    },
    /// Change accounts
    Account {
        /// The provider's directory
        #[arg(long)]
        dir: PathBuf,
        #[command(subcommand)]
        change: AccountChange,
    },
    /// Run a VPN server
    Gateway {
        /// The server's file, DIR/gateways/ID.json
        #[arg(long)]
        config: PathBuf,
        /// Where the last known peers are kept
        #[arg(long)]
        state: PathBuf,
        /// Forward DNS to these resolvers instead
        #[arg(long)]
        dns_upstream: Vec<SocketAddr>,
    },
    /// Run the sandbox (`sandbox --help`)
    Sandbox,
}

#[derive(clap::Args)]
struct Init {
    /// Directory to fill
    #[arg(long)]
    dir: PathBuf,
    /// Host name of the API
    #[arg(long)]
    api_name: Option<String>,
    /// Address of the API as clients reach it, IP:PORT; repeatable
    #[arg(long)]
    api_address: Vec<SocketAddr>,
    /// Address of the API as gateways reach it, IP:PORT
    #[arg(long)]
    internal_address: Option<SocketAddr>,
    /// A server as JSON: {"id","datacenter","addresses":[],"exits":[{"id","country","ipv4"}]}; repeatable
    #[arg(long)]
    server: Vec<String>,
    /// Resolver for gateways, IP:PORT; repeatable
    #[arg(long)]
    dns_upstream: Vec<SocketAddr>,
    /// File with the password of the account `demo`
    #[arg(long)]
    demo_password_file: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Api {
    /// The provider's directory
    #[arg(long)]
    dir: PathBuf,
    /// Listen here instead of on the addresses given to init; repeatable
    #[arg(long)]
    listen: Vec<SocketAddr>,
    /// Listen here for gateways instead
    #[arg(long)]
    internal_listen: Option<SocketAddr>,
    /// Logins per minute and address before a pause
    #[arg(long, default_value_t = 5)]
    login_tries: u32,
}

#[derive(Subcommand)]
enum ListChange {
    /// Set a server online, draining, maintenance or offline
    SetState {
        /// Server id
        server: String,
        /// The state
        state: String,
    },
}

#[derive(Subcommand)]
enum AccountChange {
    /// Add an account with this number, paid for a number of days
    Add {
        /// 16 digits
        number: String,
        /// Days
        #[arg(long, default_value_t = 365)]
        days: i64,
        /// Most devices
        #[arg(long, default_value_t = 6)]
        devices: u32,
        /// File with its password
        #[arg(long)]
        password_file: Option<PathBuf>,
    },
    /// Let an account run out in this many seconds (negative: it has run out)
    PaidFor {
        /// 16 digits
        number: String,
        /// Seconds from now
        #[arg(allow_negative_numbers = true)]
        seconds: i64,
    },
}

fn main() -> Result<()> {
    // The sandbox parses its own arguments.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|word| word == "sandbox") {
        return servers::sandbox(arguments);
    }
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("start the runtime")?;
    runtime.block_on(run(Arguments::parse().command))
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Init(init) => initialise(init).await,
        Command::Api(api) => serve(api).await,
        Command::SignList { dir } => sign(&dir),
        Command::List { dir, change: ListChange::SetState { server, state } } => {
            list::set_state(&dir, &server, &state)?;
            sign(&dir)
        }
        Command::Account { dir, change } => change_account(&dir, change).await,
        Command::Sandbox => anyhow::bail!("`sandbox` must be the first argument"),
        Command::Gateway { config, state, dns_upstream } => {
            let mut config = GatewayConfig::read(&config)?;
            if !dns_upstream.is_empty() {
                config.dns_upstreams = dns_upstream;
            }
            servers::gateway(config, &state).await
        }
    }
}

/// One line on standard output.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).context("write to standard output")
}

fn sign(dir: &Path) -> Result<()> {
    say(&format!("signed serial {}", list::sign(dir, OffsetDateTime::now_utc())?))
}

fn read_password(path: Option<&PathBuf>) -> Result<Option<String>> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    Ok(path.map(read).transpose()?.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()))
}

async fn initialise(arguments: Init) -> Result<()> {
    let defaults = InitOptions::default();
    let or = |given: Vec<SocketAddr>, default: Vec<SocketAddr>| if given.is_empty() { default } else { given };
    let api_addresses = or(arguments.api_address, defaults.api_addresses);
    let first = api_addresses.first().copied().context("the API needs an address")?;
    let servers =
        arguments.server.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>().context("read --server")?;
    let options = InitOptions {
        api_name: arguments.api_name.unwrap_or(defaults.api_name),
        internal_address: arguments.internal_address.unwrap_or(SocketAddr::new(first.ip(), 8444)),
        api_addresses,
        servers,
        dns_upstreams: or(arguments.dns_upstream, defaults.dns_upstreams),
        demo_password: read_password(arguments.demo_password_file.as_ref())?,
    };
    hamn_provider::init::init(&arguments.dir, &options).await?;
    for (name, number, _) in hamn_provider::init::ACCOUNTS {
        say(&format!("account {name} {number}"))?;
    }
    Ok(())
}

async fn serve(arguments: Api) -> Result<()> {
    let dir = arguments.dir;
    let stored: ApiConfig =
        serde_json::from_slice(&std::fs::read(dir.join("api.json")).context("read api.json")?).context("read api.json")?;
    let listen = if arguments.listen.is_empty() { stored.listen } else { arguments.listen };
    let app = App::open(&dir, LoginLimits { tries: arguments.login_tries, ..LoginLimits::default() }).await?;
    let tls = api_server::tls_acceptor(&dir)?;
    let mut tasks = JoinSet::new();
    for address in listen {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
        tasks.spawn(api_server::serve(listener, tls.clone(), api_server::public_router(Arc::clone(&app))));
    }
    let internal = arguments.internal_listen.unwrap_or(stored.internal);
    let listener = TcpListener::bind(internal).await.with_context(|| format!("listen on {internal}"))?;
    tasks.spawn(api_server::serve(listener, tls, api_server::internal_router(Arc::clone(&app))));
    tasks.spawn(Arc::clone(&app).housekeeping());
    say("ready")?;
    tokio::select! {
        () = terminated::terminated() => {}
        _ = tasks.join_next() => anyhow::bail!("a listener ended"),
    }
    tasks.shutdown().await;
    app.store.close().await;
    Ok(())
}

async fn change_account(dir: &Path, change: AccountChange) -> Result<()> {
    let store = Store::open(&dir.join("provider.db")).await?;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    match change {
        AccountChange::Add { number, days, devices, password_file } => {
            if number.len() != 16 || !number.bytes().all(|b| b.is_ascii_digit()) {
                anyhow::bail!("an account number has 16 digits");
            }
            let password = read_password(password_file.as_ref())?;
            let paid_until = now.saturating_add(days.saturating_mul(86_400));
            store.add_account(&NewAccount { number, password, paid_until, device_limit: devices, addons: Vec::new() }).await?;
        }
        AccountChange::PaidFor { number, seconds } => store.set_paid_until(&number, now.saturating_add(seconds), now).await?,
    }
    store.close().await;
    Ok(())
}
