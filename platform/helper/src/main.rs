//! `hamn-helper`: the privileged service of Hamn.

use clap::Parser;
use hamn_helper::arguments::Arguments;
use hamn_helper::{early_boot, run};
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Whatever umask the service manager or an administrator left, our files are for us alone (G14).
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let filter = EnvFilter::try_from_env("HAMN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    // A core file would hold keys (G14).
    if let Err(error) = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(%error, "core files could not be switched off");
    }
    let result = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            if arguments.restore_network {
                restore(&arguments).await
            } else if arguments.early_boot {
                early_boot::run(&arguments).await.map(|done| tracing::info!("{done}"))
            } else {
                run::run(arguments).await
            }
        })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Gives the network back with no helper running, and forgets that a tunnel was wanted.
async fn restore(arguments: &Arguments) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout();
    let mut network_dir = arguments.state_dir.join("network");
    match hamn_helper::store::Store::open(&arguments.state_dir) {
        Ok(store) => {
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
