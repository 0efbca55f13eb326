//! The decisions of Hamn, as pure data and pure functions.
//!
//! Nothing here opens a file or a socket, reads a clock, the environment or a random source: time, randomness and
//! host facts are passed in. `machine` decides what the helper does next, `policy` decides what may leave the
//! computer, everything else is vocabulary that the other crates share.
#![forbid(unsafe_code)]

pub mod address;
pub mod backoff;
pub mod effect;
pub mod event;
mod json;
pub mod key;
pub mod location;
pub mod machine;
pub mod managed;
pub mod net;
pub mod plan;
pub mod policy;
pub mod profile;
pub mod server;
pub mod settings;
pub mod state;
pub mod status;
pub mod text;
pub mod time;
