//! The rules alone, by `nft`: at early boot there is neither D-Bus nor a network to follow.

use crate::arguments::Arguments;
use hamn_core::policy::NetworkPolicy;
use hamn_network::firewall::apply::linux::Nft;
use hamn_network::firewall::ruleset::Ruleset;

/// Loads the rules of `policy`.
///
/// # Errors
/// They could not be loaded.
pub(super) async fn load(policy: &NetworkPolicy, _arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(ruleset) = Ruleset::lower(policy) {
        Nft::find()?.apply(&ruleset).await?;
    }
    Ok(())
}
