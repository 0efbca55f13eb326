//! Restoring without a helper on Windows: the program is the one that the service manager runs as the system, or was told to.
//! Nobody but an administrator can name another one there, and the system lets nobody else do what it does.

use hamn_ipc::{Problem, ProblemCode};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use windows_registry::LOCAL_MACHINE;

/// Where the service manager keeps what it knows of the service.
const SERVICE: &str = "SYSTEM\\CurrentControlSet\\Services\\HamnHelper";
/// Opening this for writing takes an elevated administrator.
const KEY_WRITE: u32 = 0x2_0006;

/// Only an elevated administrator can do without a helper. Whoever may write where the service is registered is one.
pub(super) fn require_administrator() -> Result<(), Problem> {
    let services = LOCAL_MACHINE.options().access(KEY_WRITE).open("SYSTEM\\CurrentControlSet\\Services");
    services.map(drop).map_err(|_| {
        Problem::with_detail(
            ProblemCode::NotAllowed,
            "no helper runs, and only an administrator can restore the network without one",
        )
        .action("Run `hamn restore-network` in a console that was started as administrator.")
    })
}

/// A pipe has no directory: the helper knows its own.
pub(super) const fn runtime_dir(_pipe: &Path) -> Option<&Path> {
    None
}

/// The helper with nothing of the caller's environment; programs find the system's own libraries by these two.
pub(super) fn command(program: &Path) -> Command {
    let root = system_root();
    let mut command = Command::new(program);
    command.env_clear().env("SystemRoot", &root).env("PATH", root.join("System32")).current_dir(&root);
    command
}

/// Where Windows is, as the registry says and not the environment.
fn system_root() -> PathBuf {
    let version = LOCAL_MACHINE.open("SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion");
    let root = version.and_then(|key| key.get_string("SystemRoot"));
    PathBuf::from(root.unwrap_or_else(|_| "C:\\Windows".to_owned()))
}

/// The program of the service.
pub(super) fn find_program(_own_program: Option<&Path>) -> Result<PathBuf, Problem> {
    let registered = LOCAL_MACHINE.open(SERVICE).and_then(|key| key.get_string("ImagePath"));
    let program = registered.ok().as_deref().and_then(program_of).map(PathBuf::from);
    program.filter(|program| program.is_file()).ok_or_else(|| {
        Problem::with_detail(ProblemCode::NotFound, "the service HamnHelper is not registered, or its program has gone")
            .action("Install Hamn again, then run `hamn restore-network` once more.")
    })
}

/// The program of a command line: what stands in quotation marks, or up to the first space.
fn program_of(command_line: &str) -> Option<OsString> {
    let line = command_line.trim();
    let program = match line.strip_prefix('"') {
        Some(rest) => rest.split_once('"')?.0,
        None => line.split(' ').next()?,
    };
    let is_absolute = program.as_bytes().get(1..3) == Some(b":\\");
    (is_absolute && program.to_ascii_lowercase().ends_with("\\hamn-helper.exe")).then(|| OsString::from(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_service_is_found_in_its_command_line() {
        let quoted = "\"C:\\Program Files\\Hamn\\hamn-helper.exe\" --service";
        assert_eq!(program_of(quoted).unwrap(), "C:\\Program Files\\Hamn\\hamn-helper.exe");
        assert_eq!(program_of("D:\\Hamn\\hamn-helper.exe --service").unwrap(), "D:\\Hamn\\hamn-helper.exe");
        for bad in [
            "",
            "\"",
            "\"C:\\x",
            "hamn-helper.exe",
            "C:\\Program Files\\Hamn\\hamn-helper.exe",
            "C:\\Windows\\cmd.exe /c hamn-helper.exe",
        ] {
            assert_eq!(program_of(bad), None, "{bad}");
        }
    }
}
