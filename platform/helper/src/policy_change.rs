//! The administrator's policy takes effect while the helper runs, as far as it can (G15).

use crate::service::Service;
use hamn_core::event::{Command, Event};
use hamn_core::location::{Destination, Target};
use hamn_core::managed::{Effective, Managed};
use tracing::{info, warn};

/// A tunnel that was wanted goes where the administrator says by now, if the policy says where (G15).
pub(crate) fn as_managed(target: Target, effective: &Effective) -> Target {
    match target {
        Target::Connected { .. } if effective.is_locked("destination") => {
            Target::Connected { destination: effective.settings.destination.clone() }
        }
        Target::Connected { .. } | Target::Disconnected => target,
    }
}

impl Service {
    /// Puts another policy over the user's settings. Which provider is asked is decided at the start alone.
    pub(crate) async fn policy_changed(&mut self, managed: Managed, notes: Vec<String>) {
        if managed == self.managed {
            return;
        }
        info!("the administrator's policy has changed");
        let provider_before = self.effective().provider;
        self.managed = managed;
        self.announcer.clear_warning("policy");
        let effective = self.effective();
        let moved = "The policy names another provider; it is asked once the helper has been restarted.".to_owned();
        for note in notes.into_iter().chain((effective.provider != provider_before).then_some(moved)) {
            warn!("{note}");
            self.announcer.warn("policy", note);
        }
        self.dispatch(Event::SettingsChanged(effective.settings.clone())).await;
        if let Some(command) = self.demanded(&effective) {
            self.dispatch(Event::Command(command)).await;
        }
        self.publish();
    }

    /// What the policy asks for that settings alone do not bring about.
    fn demanded(&self, effective: &Effective) -> Option<Command> {
        let now = self.machine.target().clone();
        match as_managed(now.clone(), effective) {
            Target::Connected { destination } if now != (Target::Connected { destination: destination.clone() }) => {
                Some(Command::Connect(destination))
            }
            // The next attempt is refused.
            Target::Connected { destination: Destination::Profile { .. } } if !effective.profiles_allowed => {
                Some(Command::Reconnect)
            }
            Target::Disconnected if effective.settings.auto_connect && effective.is_locked("auto-connect") => {
                Some(Command::Connect(effective.settings.destination.clone()))
            }
            Target::Connected { .. } | Target::Disconnected => None,
        }
    }
}
