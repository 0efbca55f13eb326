//! `restore-network`: the running helper does it; when none runs, the helper's own program is run for it.

use crate::arguments::RestoreNetwork;
use hamn_ipc::client::Client;
use hamn_ipc::wire::RestoreOutput;
use hamn_ipc::{Problem, ProblemCode};
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

#[cfg(target_os = "linux")]
#[path = "restore/linux.rs"]
mod installed;
#[cfg(target_os = "macos")]
#[path = "restore/macos.rs"]
mod installed;
#[cfg(unix)]
#[path = "restore/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "restore/windows.rs"]
mod system;

/// Opens the network.
///
/// # Errors
/// `not_allowed` for others than root, `not_found` when there is neither a helper nor its program.
pub async fn run(
    arguments: &RestoreNetwork,
    socket: Option<&Path>,
    own_program: Option<&Path>,
) -> Result<RestoreOutput, Problem> {
    match Client::open(socket).await {
        Ok(client) => {
            let status = client.restore().await?.status;
            Ok(RestoreOutput { restored: true, by_running_helper: true, status: Some(status) })
        }
        // A false helper is no helper: root wants the network back.
        Err(problem) if matches!(problem.code, ProblemCode::HelperUnreachable | ProblemCode::HelperUntrusted) => {
            without_helper(arguments, socket, own_program)?;
            Ok(RestoreOutput { restored: true, by_running_helper: false, status: None })
        }
        Err(problem) => Err(problem),
    }
}

fn without_helper(arguments: &RestoreNetwork, socket: Option<&Path>, own_program: Option<&Path>) -> Result<(), Problem> {
    system::require_administrator()?;
    let program = system::find_program(own_program)?;
    let mut options: Vec<OsString> = vec!["--restore-network".into()];
    if let Some(directory) = &arguments.state_dir {
        options.extend(["--state-dir".into(), directory.into()]);
    }
    if let Some(directory) = socket.and_then(system::runtime_dir) {
        options.extend(["--runtime-dir".into(), directory.into()]);
    }
    // Nothing of the caller's environment reaches the privileged program, only these options.
    let output = system::command(&program).args(&options).stdin(Stdio::null()).output();
    let failed = |why: String| Problem::with_detail(ProblemCode::Internal, format!("{}: {why}", program.display()));
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            Err(failed(crate::show::plain(last)))
        }
        Err(error) => Err(failed(error.kind().to_string())),
    }
}
