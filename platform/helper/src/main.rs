//! `hamn-helper`: the privileged service of Hamn.

use clap::Parser;
use hamn_helper::arguments::Arguments;
use hamn_helper::log_ring::LogRing;
use hamn_helper::{early_boot, log_ring, logging, run};
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Threads beside the event loop's: one, so that all parts of a tunnel take turns.
const WORKERS: usize = 1;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Whatever umask the service manager or an administrator left, our files are for us alone (G14).
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let filter = logging::filter(std::env::var("HAMN_LOG").ok().as_deref());
    let log = LogRing::default();
    let written = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(filter);
    tracing_subscriber::registry().with(written).with(log.clone().with_filter(log_ring::filter())).init();
    keep_memory_private();
    let result = run_to_the_end(arguments, log);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A core file or a tracer would get at keys (G14).
fn keep_memory_private() {
    if let Err(error) = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "core files could not be switched off");
    }
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "the memory could not be closed to tracers");
    }
}

fn run_to_the_end(arguments: Arguments, log: LogRing) -> anyhow::Result<()> {
    // The event loop has this thread for itself: what tunnel, provider or disk do never keeps it from deciding.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let result = runtime.block_on(async {
        if arguments.restore_network {
            restore(&arguments).await
        } else if arguments.early_boot {
            early_boot::run(&arguments).await.map(|done| tracing::info!("{done}"))
        } else {
            run::run(arguments, log).await
        }
    });
    // A lookup or a disk that hangs does not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

/// Gives the network back with no helper running, and forgets that a tunnel was wanted.
async fn restore(arguments: &Arguments) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout();
    let mut network_dir = arguments.state_dir.join("network");
    match hamn_helper::store::Store::open(&arguments.state_dir) {
        Ok(store) => {
            let store = store.with_runtime_dir(&arguments.runtime_dir);
            network_dir = store.network_dir();
            store.save_target(&hamn_core::location::Target::Disconnected)?;
            writeln!(out, "the saved intent is: disconnected")?;
        }
        Err(error) => writeln!(out, "the saved intent could not be changed: {error:#}")?,
    }
    for done in hamn_network::restore(&hamn_network::Config::new(&network_dir)).await? {
        writeln!(out, "{done}")?;
    }
    Ok(())
}
