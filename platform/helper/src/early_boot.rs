//! Lockdown before the network comes up: reads the saved intent and loads the static rules. No D-Bus, no network, no tunnel.

use crate::administrator;
use crate::arguments::Arguments;
use crate::clock;
use crate::store::Store;
use hamn_core::event::Event;
use hamn_core::machine::Machine;
use hamn_core::policy::{Facts, policy_for};
use hamn_core::settings::Settings;
use hamn_core::state::State;

#[cfg(target_os = "linux")]
#[path = "early_boot/linux.rs"]
mod rules;
#[cfg(any(target_os = "macos", windows))]
#[path = "early_boot/facade.rs"]
mod rules;

/// True when the saved intent is closed, cannot be read, or the settings or the administrator ask for lockdown (G7, G16):
/// the answer of the machine that the helper will run, with the files that the helper will read.
#[must_use]
pub fn is_closed(arguments: &Arguments) -> bool {
    let (managed, _) = administrator::policy(&arguments.policy_dir);
    let Ok(store) = Store::inspect(&arguments.state_dir) else { return true };
    let found = store.with_runtime_dir(&arguments.runtime_dir).peek(&managed.defaults());
    let mut machine = Machine::new(managed.apply(&found.settings).settings, Vec::new(), 0);
    machine.handle(Event::Started { target: found.target }, clock::now());
    machine.is_closed()
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
    rules::load(&policy, arguments).await?;
    Ok("the saved intent is closed: lockdown rules are in place")
}
