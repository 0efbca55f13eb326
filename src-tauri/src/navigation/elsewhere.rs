//! Where the page is on Linux and macOS: a scheme of the program's own.

pub(super) const SCHEME: &str = "tauri";
pub(super) const HOST: &str = "localhost";
/// What would be the page on another system.
#[cfg(test)]
pub(super) const FOREIGN: &str = "http://tauri.localhost/";
