//! The user's roaming directory of programs on Windows (learn.microsoft.com: KNOWNFOLDERID, `FOLDERID_RoamingAppData`).

use std::path::PathBuf;

/// Why there is none.
pub(super) const NO_CONFIG: &str = "APPDATA does not say where preferences are kept";

pub(super) fn config(absolute: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    absolute("APPDATA")
}
