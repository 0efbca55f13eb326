//! The network side as the helper uses it: what it has applied stays when it is dropped. On Windows boot-time filters hold
//! from before any program runs (they are laid down with the persistent ones), so this is for a computer whose filters were
//! lost; on macOS launchd runs nothing before the network, which SECURITY.md says.

use crate::arguments::Arguments;
use crate::store::Store;
use hamn_core::policy::NetworkPolicy;
use hamn_network::{Config, Network};
use tokio::sync::mpsc;

/// Puts `policy` in force and leaves it so.
///
/// # Errors
/// It could not be put in force.
pub(super) async fn load(policy: &NetworkPolicy, arguments: &Arguments) -> anyhow::Result<()> {
    let store = Store::open(&arguments.state_dir)?;
    let (events, _ignored) = mpsc::channel(1);
    let mut network = Network::open(Config::new(&store.network_dir()), events).await?;
    network.apply(policy).await?;
    Ok(())
}
