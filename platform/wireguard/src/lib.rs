//! A WireGuard data plane for Linux: one thread between a TUN device and UDP sockets, with segmentation offload on both.
//!
//! * [`Device::open`] makes the interface, [`Engine::start`] the thread, [`Engine::add_peer`] a peer. Addresses, routes and
//!   rules are the caller's.
//! * Packets stay in trains: the device hands over super-packets of up to 64 KiB ([`split`]), whose sealed segments leave as
//!   one message (`UDP_SEGMENT`); what arrives as a train (`UDP_GRO`) is opened and joined again ([`merge`]). Where the
//!   kernel refuses any of this, packets go one by one.
//! * Handshakes, sessions and timers are our own (`noise`), so that a train is sealed and opened in one piece (`aead`) where
//!   it lies. The check of handshakes under load and the answering cookies are gotatun's.
//!
//! Every duration is measured on `CLOCK_BOOTTIME`, which counts through suspend.
#![cfg(target_os = "linux")]

mod aead;
pub mod allowed_ips;
pub mod checksum;
mod control;
mod device;
mod engine;
#[cfg(test)]
mod faults;
pub mod merge;
mod noise;
pub mod packet;
#[cfg(test)]
mod roundtrip;
mod socket;
pub mod split;
pub mod virtio;

pub use control::{
    Answer, Counters, Engine, EngineError, EngineOptions, Event, Inspect, OnEvent, PeerConfig, PeerStats, PeerUpdate, Roaming,
    Totals,
};
pub use device::{Device, DeviceError, FRAME, Offload};
pub use gotatun::noise::TimerParams;
pub use gotatun::x25519;
pub use socket::{Listen, Prepare};
