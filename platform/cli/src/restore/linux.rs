//! Where Linux packages put the helper.

/// The installed helper.
pub(super) const INSTALLED: &str = "/usr/lib/hamn/hamn-helper";
