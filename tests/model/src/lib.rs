//! The model of Hamn's helper: a simulated shell and host around the real `hamn_core::machine::Machine`, the properties that
//! hold after every step (design: states decide nothing about the firewall), and a naive transcription of `SECURITY.md`'s
//! matrix as a predicate over packets.

pub mod episode;
pub mod fixtures;
pub mod host;
pub mod oracle;
pub mod packets;
pub mod random;
pub mod settle;
pub mod step;
pub mod world;
