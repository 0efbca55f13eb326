//! Gateway and sandbox.

use crate::say;
use crate::terminated::terminated;
use anyhow::Result;
use hamn_provider::gateway::{self, GatewayConfig};
use std::ffi::OsString;
use std::path::Path;
use tokio::sync::oneshot;

/// Runs the sandbox with its own arguments.
pub fn sandbox(arguments: impl Iterator<Item = OsString>) -> Result<()> {
    hamn_provider::sandbox::run(arguments)
}

/// Runs a gateway until the process is told to end.
pub async fn gateway(config: GatewayConfig, state: &Path) -> Result<()> {
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(async move {
        if is_ready.await.is_ok() {
            let _ = say("ready");
        }
    });
    gateway::run(config, state, ready, terminated()).await
}
