//! Names and advice on Windows.

/// The pipe that `HAMN_SOCKET` replaces. Only administrators can make pipes under this prefix.
pub const DEFAULT_SOCKET: &str = r"\\.\pipe\ProtectedPrefix\Administrators\Hamn";
/// What to do when nothing answers.
pub(crate) const START_HELPER: &str = "Start it with `sc start HamnHelper` as administrator, or name its pipe in HAMN_SOCKET.";
/// What to do when somebody else answers.
pub(crate) const CHECK_OWNER: &str = "Check which process made the pipe; only the service HamnHelper may.";
/// What to do without the right to call at all.
pub(crate) const GET_RIGHTS: &str = "Run it as administrator, or ask the administrator to add you to the local group `hamn`.";
/// What to do where only an administrator may.
pub(crate) const BECOME_ADMINISTRATOR: &str = "Run the command from a terminal that was opened with \"Run as administrator\".";
