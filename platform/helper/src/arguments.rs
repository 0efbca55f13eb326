//! The helper's command line. Every path has the default of the installed package.

use crate::host;
use clap::Parser;
use std::path::PathBuf;

/// The privileged helper of Hamn. Started by the system's service manager.
#[derive(Clone, Debug, Parser)]
#[command(name = "hamn-helper", version, about)]
pub struct Arguments {
    /// Settings, intent, secrets and caches (mode 0700).
    #[arg(long, default_value_os_t = host::state_dir())]
    pub state_dir: PathBuf,
    /// The local API's socket lives here as `helper.sock`.
    #[arg(long, default_value_os_t = host::runtime_dir())]
    pub runtime_dir: PathBuf,
    /// The administrator's directory: `provider.json` and `policy.d/*.json`.
    #[arg(long, default_value_os_t = host::policy_dir())]
    pub policy_dir: PathBuf,
    /// Base URL of the provider's API, instead of the one in `provider.json`; its keys and certificates still come from there.
    #[arg(long)]
    pub provider: Option<String>,
    /// Remove every firewall rule, route and DNS setting of Hamn, and end. Works while no helper runs.
    #[arg(long, exclusive = false)]
    pub restore_network: bool,
    /// Apply the lockdown rules when the saved intent is closed or unreadable, and end: for early boot.
    #[arg(long)]
    pub early_boot: bool,
    /// What only this system needs.
    #[command(flatten)]
    pub system: host::Options,
}
