//! `restore-network`: the running helper does it; when none runs, the helper's own program is run for it.

use crate::arguments::RestoreNetwork;
use hamn_ipc::client::Client;
use hamn_ipc::wire::RestoreOutput;
use hamn_ipc::{Problem, ProblemCode};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The installed helper.
const INSTALLED: &str = "/usr/lib/hamn/hamn-helper";

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
    if !nix::unistd::geteuid().is_root() {
        return Err(Problem::with_detail(
            ProblemCode::NotAllowed,
            "no helper runs, and only root can restore the network without one",
        )
        .action("Run `sudo hamn restore-network`."));
    }
    let program = find_program(own_program)?;
    let mut options: Vec<OsString> = vec!["--restore-network".into()];
    if let Some(directory) = &arguments.state_dir {
        options.extend(["--state-dir".into(), directory.into()]);
    }
    if let Some(directory) = socket.and_then(Path::parent) {
        options.extend(["--runtime-dir".into(), directory.into()]);
    }
    // An empty environment: nothing of the caller's reaches the privileged program but these options.
    let output = Command::new(&program).args(&options).env_clear().current_dir("/").stdin(Stdio::null()).output();
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

/// The helper beside this program, or the installed one; never one from a search path.
fn find_program(own_program: Option<&Path>) -> Result<PathBuf, Problem> {
    let beside = own_program.and_then(|own| own.parent()).map(|directory| directory.join("hamn-helper"));
    let candidates = beside.into_iter().chain([PathBuf::from(INSTALLED)]);
    candidates.into_iter().find(|program| is_trusted(program)).ok_or_else(|| {
        Problem::with_detail(ProblemCode::NotFound, format!("the helper's program is neither beside `hamn` nor at {INSTALLED}"))
            .action("Install Hamn again, then run `hamn restore-network` once more.")
    })
}

/// Root runs only what root alone can change.
fn is_trusted(program: &Path) -> bool {
    let by_root = |path: &Path| fs::metadata(path).is_ok_and(|found| found.uid() == 0 && found.mode() & 0o022 == 0);
    program.is_absolute() && program.is_file() && by_root(program) && program.parent().is_some_and(by_root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_that_others_can_change_is_not_run() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("hamn-helper");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        mode(&program, 0o755);
        assert!(is_trusted(&program));
        mode(&program, 0o775);
        assert!(!is_trusted(&program));
        mode(&program, 0o755);
        mode(directory.path(), 0o777);
        assert!(!is_trusted(&program));
        mode(directory.path(), 0o755);
        std::os::unix::fs::chown(&program, Some(65534), None).unwrap();
        assert!(!is_trusted(&program));
        assert!(!is_trusted(Path::new("hamn-helper")));
    }
}
