//! The reference provider in the laboratory: its API on the internet host, its gateway on the gateway host.

use anyhow::{Context, Result};
use hamn_provider::sandbox::Lab;
use std::path::{Path, PathBuf};
use std::process::Child;

use crate::binaries::binary;
use crate::wait::{s, until};

/// The sandbox's active account.
pub const ACCOUNT: &str = hamn_provider::init::ACCOUNTS[0].1;

/// Running provider processes. They end with the laboratory.
pub struct Provider {
    directory: PathBuf,
    api: Option<Child>,
    gateway: Option<Child>,
}

impl Provider {
    /// Makes keys, certificates, accounts and a signed list, and starts API and gateway.
    ///
    /// # Errors
    /// When a program is missing or does not come up.
    pub fn start(lab: &Lab, policy_dir: &Path) -> Result<Self> {
        let directory = lab.directory().join("provider");
        let program = binary("hamn-provider")?;
        lab.internet.command(&program).args(["init", "--dir"]).arg(&directory).ok().context("initialise the provider")?;
        std::fs::create_dir_all(policy_dir)?;
        std::fs::copy(directory.join("provider.json"), policy_dir.join("provider.json"))
            .context("copy the provider's trust file")?;
        let mut provider = Self { directory, api: None, gateway: None };
        provider.start_api(lab)?;
        provider.start_gateway(lab)?;
        Ok(provider)
    }

    /// The provider's files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the API and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up within ten seconds.
    pub fn start_api(&mut self, lab: &Lab) -> Result<()> {
        let log = self.fresh_log("api.log")?;
        // Tests log in more often than people do.
        let command =
            lab.internet.command(binary("hamn-provider")?).args(["api", "--login-tries", "1000", "--dir"]).arg(&self.directory);
        self.api = Some(command.log_to(&log)?.spawn()?);
        ready(&log)
    }

    /// Starts the gateway `vpn05` and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up within ten seconds.
    pub fn start_gateway(&mut self, lab: &Lab) -> Result<()> {
        let log = self.fresh_log("gateway.log")?;
        let command = lab.gateway.command(binary("hamn-provider")?).args(["gateway", "--config"]);
        let command =
            command.arg(self.directory.join("gateways/vpn05.json")).arg("--state").arg(self.directory.join("gateway-state"));
        self.gateway = Some(command.log_to(&log)?.spawn()?);
        ready(&log)
    }

    fn fresh_log(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        if path.exists() {
            std::fs::rename(&path, self.directory.join(format!("{name}.old")))?;
        }
        Ok(path)
    }

    /// Kills the API.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill_api(&mut self) -> Result<()> {
        end(self.api.take())
    }

    /// Kills the gateway: it forgets all its sessions.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill_gateway(&mut self) -> Result<()> {
        end(self.gateway.take())
    }
}

/// Both programs print one line when they are ready.
fn ready(log: &Path) -> Result<()> {
    let waited = until("the provider is ready", s(10), || {
        Ok(std::fs::read_to_string(log)?.lines().any(|line| line == "ready").then_some(()))
    });
    waited.with_context(|| format!("{}:\n{}", log.display(), std::fs::read_to_string(log).unwrap_or_default()))
}

fn end(child: Option<Child>) -> Result<()> {
    if let Some(mut child) = child {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
