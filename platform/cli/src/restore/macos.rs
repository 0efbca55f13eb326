//! Where the package for macOS puts the helper.

/// The installed helper.
pub(super) const INSTALLED: &str = "/Library/Application Support/Hamn/bin/hamn-helper";
