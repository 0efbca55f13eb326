//! The privileged helper: composes core, network, tunnel, provider and local API, and owns the event loop and the files.
//!
//! It never runs a program, opens a path or takes an address that a caller named; callers state intents.
#![cfg_attr(target_os = "linux", forbid(unsafe_code))]

mod account;
pub mod administrator;
mod announce;
pub mod arguments;
mod calls;
pub mod clock;
mod device;
pub mod early_boot;
mod enforcer;
pub mod entry;
mod exits;
pub mod host;
mod ladder;
pub mod log_ring;
pub mod logging;
mod notify;
pub mod outer;
mod policy_change;
mod prepare;
pub mod probe;
mod provider;
pub mod redact;
pub mod run;
pub mod service;
mod signals;
pub mod store;
mod support;
mod timers;
mod verify;
mod views;
pub mod watchdog;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
