//! A gateway is a Linux machine, and the sandbox is made of Linux's network namespaces; everywhere else the provider is its API alone.

use anyhow::{Result, anyhow, bail};
use hamn_provider::gateway_config::GatewayConfig;
use std::ffi::OsString;
use std::future::{Ready, ready};
use std::path::Path;

/// Says that the sandbox needs Linux.
pub fn sandbox(_arguments: impl Iterator<Item = OsString>) -> Result<()> {
    bail!("the sandbox is made of network namespaces, which only Linux has")
}

/// Says that a gateway needs Linux.
pub fn gateway(config: GatewayConfig, _state: &Path) -> Ready<Result<()>> {
    ready(Err(anyhow!("gateway {} needs nftables, which only Linux has", config.id)))
}
