//! Names and advice on Linux.

/// The socket that `HAMN_SOCKET` replaces.
pub const DEFAULT_SOCKET: &str = "/run/hamn/helper.sock";
/// What to do when nothing answers.
pub(crate) const START_HELPER: &str = "Start it with `systemctl start hamn-helper`, or name its socket in HAMN_SOCKET.";
/// What to do when somebody else answers.
pub(crate) const CHECK_OWNER: &str = "Check who owns the socket and its directory; only root may.";
/// What to do without the right to call at all.
pub(crate) const GET_RIGHTS: &str = "Run it as root, or ask the administrator to add you to the group `hamn`.";
/// What to do where only an administrator may.
pub(crate) const BECOME_ADMINISTRATOR: &str = "Run the command as root, for example with `sudo`.";
