//! Where the page is on Windows, whose web view has no schemes of programs: a name that no network resolves (RFC 6761, 6.3), whose
//! every request the program answers itself.

pub(super) const SCHEME: &str = "http";
pub(super) const HOST: &str = "tauri.localhost";
/// What would be the page on another system.
#[cfg(test)]
pub(super) const FOREIGN: &str = "tauri://localhost/";
