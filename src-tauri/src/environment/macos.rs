//! The user's directory for what programs keep on macOS (developer.apple.com: File System Programming Guide, "The Library
//! Directory Stores App-Specific Files").

use std::path::PathBuf;

/// Why there is none.
pub(super) const NO_CONFIG: &str = "HOME does not say where preferences are kept";

pub(super) fn config(absolute: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    absolute("HOME").map(|home| home.join("Library/Application Support"))
}
