//! The user's configuration directory on Linux (XDG Base Directory Specification).

use std::path::PathBuf;

/// Why there is none.
pub(super) const NO_CONFIG: &str = "neither HOME nor XDG_CONFIG_HOME says where preferences are kept";

pub(super) fn config(absolute: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")))
}
