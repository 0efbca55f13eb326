//! How the process begins and ends.

#[cfg(unix)]
#[path = "entry/unix.rs"]
mod start;
#[cfg(windows)]
#[path = "entry/windows.rs"]
mod start;

pub use start::main;

use crate::arguments::Arguments;
use crate::log_ring::LogRing;
use crate::store::Store;
use crate::{early_boot, run};
use std::time::Duration;

/// Threads beside the event loop's: one, so that all parts of a tunnel take turns.
const WORKERS: usize = 1;

/// Does what the command line says, to its end.
///
/// # Errors
/// What keeps it from that.
pub fn to_the_end(arguments: Arguments, log: LogRing) -> anyhow::Result<()> {
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
    match Store::open(&arguments.state_dir) {
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
