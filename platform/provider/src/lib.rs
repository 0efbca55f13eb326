//! The reference provider: API server, gateway agent, and the sandbox that newcomers and tests run.
//!
//! One directory holds a provider (`init`); `api` serves it, `gateway` runs one VPN server of it. The API server runs everywhere; gateway
//! and sandbox are made of Linux's network namespaces, nftables and TUN devices.

pub mod api_server;
#[cfg(target_os = "linux")]
pub mod gateway;
pub mod gateway_config;
pub mod init;
pub mod keys;
pub mod list;
#[cfg(target_os = "linux")]
pub mod sandbox;
pub mod store;
