//! Windows: the service manager starts the helper, and its words go to the event log; by hand it installs and removes the
//! service, restores the network, or runs in a console.

use super::to_the_end;
use crate::arguments::Arguments;
use crate::host::{self, Maintenance};
use crate::log_ring::LogRing;
use crate::logging;
use crate::service::plan::ServicePlan;
use crate::service::{install, windows};
use anyhow::Context;
use std::io::Write;
use std::process::ExitCode;
use std::sync::OnceLock;

static LOG: OnceLock<LogRing> = OnceLock::new();

/// The whole life of the process.
pub fn main(arguments: Arguments) -> ExitCode {
    let begun = host::begin();
    let log = LOG.get_or_init(LogRing::default);
    let maintenance =
        if arguments.system.configure_service { Some(Maintenance::InstallService) } else { arguments.system.maintenance };
    let by_hand = arguments.system.foreground || arguments.restore_network || arguments.early_boot || maintenance.is_some();
    if by_hand {
        logging::to_stderr(log);
    } else {
        logging::system::to_event_log(log);
    }
    host::keep_memory_private();
    match begun.and_then(|()| act(arguments, maintenance, by_hand)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            if !by_hand {
                // Somebody may have started it in a console all the same.
                let _ = writeln!(std::io::stderr(), "{error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: Arguments, maintenance: Option<Maintenance>, by_hand: bool) -> anyhow::Result<()> {
    match maintenance {
        Some(Maintenance::InstallService) => tell(&install::install(&plan()?)?),
        Some(Maintenance::UninstallService) => tell(&install::uninstall()?),
        None if by_hand => work(arguments),
        None => windows::dispatch(arguments, work),
    }
}

fn work(arguments: Arguments) -> anyhow::Result<()> {
    to_the_end(arguments, LOG.get_or_init(LogRing::default).clone())
}

/// The service that runs this program.
fn plan() -> anyhow::Result<ServicePlan> {
    let program = std::env::current_exe().context("find this program")?;
    Ok(ServicePlan::new(program.to_str().context("the path of this program is no text")?)?)
}

fn tell(done: &[String]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    for line in done {
        writeln!(out, "{line}")?;
    }
    Ok(())
}
