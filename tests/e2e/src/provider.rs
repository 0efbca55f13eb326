//! The reference provider in the laboratory: its API on the internet host, its gateway on the gateway host.

use anyhow::{Context, Result};
use hamn_provider::sandbox::Lab;
use hamn_provider::sandbox::address::{API_PORT, API_V4};
use std::net::TcpStream;
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
        std::fs::copy(directory.join("provider.json"), policy_dir.join("provider.json")).context("copy the provider's trust file")?;
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

    /// Starts the API and waits until it listens.
    ///
    /// # Errors
    /// When it does not come up within ten seconds.
    pub fn start_api(&mut self, lab: &Lab) -> Result<()> {
        let log = self.directory.join("api.log");
        let command = lab.internet.command(binary("hamn-provider")?).args(["api", "--dir"]).arg(&self.directory);
        self.api = Some(command.log_to(&log)?.spawn()?);
        until("the provider's API listens", s(10), || {
            let open = lab.internet.run(|| TcpStream::connect((API_V4, API_PORT)).is_ok())?;
            Ok(open.then_some(()))
        })
    }

    /// Starts the gateway.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_gateway(&mut self, lab: &Lab) -> Result<()> {
        let log = self.directory.join("gateway.log");
        let command = lab.gateway.command(binary("hamn-provider")?).args(["gateway", "--dir"]).arg(&self.directory);
        self.gateway = Some(command.log_to(&log)?.spawn()?);
        Ok(())
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

fn end(child: Option<Child>) -> Result<()> {
    if let Some(mut child) = child {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
