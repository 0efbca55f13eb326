//! Lockdown before the network comes up: reads the saved intent and loads the static rules. No D-Bus, no network, no tunnel.

use crate::administrator;
use crate::arguments::Arguments;
use crate::store::Store;
use hamn_core::location::Target;
use hamn_core::policy::{Facts, policy_for};
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::State;
use hamn_network::firewall::apply::linux::Nft;
use hamn_network::firewall::ruleset::Ruleset;

/// True when the saved intent is closed, cannot be read, or the settings or the administrator ask for lockdown (G7, G16).
#[must_use]
pub fn is_closed(arguments: &Arguments) -> bool {
    if !arguments.state_dir.exists() && std::fs::symlink_metadata(&arguments.state_dir).is_err() {
        // Never run before: only the administrator can have asked for lockdown.
        let (managed, _) = administrator::policy(&arguments.policy_dir);
        return managed.apply(&Settings::default()).settings.kill_switch == KillSwitch::Always;
    }
    let (managed, _) = administrator::policy(&arguments.policy_dir);
    let Ok(store) = Store::open(&arguments.state_dir) else { return true };
    let found = store.peek();
    let settings = managed.apply(&found.settings).settings;
    match (found.target, settings.kill_switch) {
        (None, _) | (_, KillSwitch::Always) => true,
        (Some(Target::Connected { .. }), KillSwitch::WhileConnected) => true,
        (Some(Target::Disconnected), KillSwitch::WhileConnected) => settings.auto_connect,
        (Some(_), KillSwitch::Off) => false,
    }
}

/// Loads the lockdown rules when the intent is closed. Says what it did.
///
/// # Errors
/// When the rules could not be loaded; the unit then fails visibly.
pub async fn run(arguments: &Arguments) -> anyhow::Result<&'static str> {
    if !is_closed(arguments) {
        return Ok("the saved intent is open: nothing to do");
    }
    let policy = policy_for(&State::Stopping { closed: true }, &Settings::default(), &Facts::default());
    if let Some(ruleset) = Ruleset::lower(&policy) {
        Nft::find()?.apply(&ruleset).await?;
    }
    Ok("the saved intent is closed: lockdown rules are in place")
}
