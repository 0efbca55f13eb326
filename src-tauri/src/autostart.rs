//! Starting with the user's session. The desktop's own list is the truth: the user may change it there.

#[cfg(unix)]
#[path = "autostart/unix.rs"]
mod list;
#[cfg(windows)]
#[path = "autostart/windows.rs"]
mod list;

pub use list::{is_on, prepare, set};

/// The program's name in the list.
const NAME: &str = "hamn-gui";
/// What the program is told when it is started in this way.
const WORD: &str = "--autostarted";
