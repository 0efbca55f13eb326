//! The reference provider: API server, gateway agent, and the sandbox that newcomers and tests run.
//!
//! One directory holds a provider (`init`); `api` serves it, `gateway` runs one VPN server of it.

pub mod api_server;
pub mod gateway;
pub mod init;
pub mod keys;
pub mod list;
pub mod sandbox;
pub mod store;
