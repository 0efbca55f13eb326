//! Restoring without a helper on Linux and macOS: root runs a program that root alone can change.

use super::installed::INSTALLED;
use hamn_ipc::{Problem, ProblemCode};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Only root can do without a helper.
pub(super) fn require_administrator() -> Result<(), Problem> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Problem::with_detail(ProblemCode::NotAllowed, "no helper runs, and only root can restore the network without one")
        .action("Run `sudo hamn restore-network`."))
}

/// The directory of the socket, where the helper keeps an intent that the disk would not take.
pub(super) fn runtime_dir(socket: &Path) -> Option<&Path> {
    socket.parent()
}

/// The helper with an empty environment.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir("/");
    command
}

/// The helper beside this program, or the installed one; never one from a search path.
pub(super) fn find_program(own_program: Option<&Path>) -> Result<PathBuf, Problem> {
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
