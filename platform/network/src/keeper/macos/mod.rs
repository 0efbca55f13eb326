//! The tasks that keep what was applied true on macOS.

pub mod dns;
pub mod firewall;
pub mod path;
