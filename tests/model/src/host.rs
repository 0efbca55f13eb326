//! What surrounds the machine: disk, kernel, weather, and the work that the shell has in hand.

use hamn_core::event::Event;
use hamn_core::location::{Destination, Target};
use hamn_core::net::Endpoint;
use hamn_core::plan::TunnelPlan;
use hamn_core::policy::NetworkPolicy;
use hamn_core::settings::{KillSwitch, Settings};
use hamn_core::state::{Attempt, Generation};

/// What survives a crash: written when `PersistTarget` is executed, not when it is decided.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The intent; `None` when the file cannot be read.
    pub target: Option<Target>,
    /// The settings.
    pub settings: Settings,
    /// The pinned API addresses.
    pub api: Vec<Endpoint>,
}

impl Disk {
    /// What a helper that starts from this disk promises.
    #[must_use]
    pub fn intent(&self) -> Intent {
        Intent { target: self.target.clone(), settings: self.settings.clone() }
    }
}

/// Intent and settings as the outside world sees them: the model's own notion of *closed*, independent of the machine's.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// `None`: unreadable.
    pub target: Option<Target>,
    /// Settings that were delivered.
    pub settings: Settings,
}

impl Intent {
    /// An open network is forbidden (G6, G16).
    #[must_use]
    pub fn closed(&self) -> bool {
        match (&self.target, self.settings.kill_switch) {
            (None, _) | (_, KillSwitch::Always) => true,
            (Some(Target::Connected { .. }), mode) => mode != KillSwitch::Off,
            (Some(Target::Disconnected), _) => false,
        }
    }

    /// A tunnel is wanted.
    #[must_use]
    pub const fn wants_tunnel(&self) -> bool {
        matches!(self.target, Some(Target::Connected { .. }))
    }
}

/// Which helper process made a policy, and its number there. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Number of the helper process.
    pub process: u64,
    /// Generation.
    pub generation: Generation,
}

/// The kernel's rules: they outlive the helper.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What was applied last with success.
    pub policy: NetworkPolicy,
    /// By whom.
    pub stamp: Stamp,
    /// Another program destroyed it, and nobody has applied it since.
    pub damaged: bool,
}

/// What goes well at the moment.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the weather")]
pub struct Weather {
    /// The provider answers, or a cached list is good.
    pub api: bool,
    /// The gateway answers.
    pub gateway: bool,
    /// The firewall takes rules.
    pub firewall: bool,
    /// The account is good.
    pub account: bool,
    /// Answers come quickly and nothing fails by chance.
    pub calm: bool,
}

impl Weather {
    /// Everything works.
    pub const FRIENDLY: Self = Self { api: true, gateway: true, firewall: true, account: true, calm: true };
}

/// A tunnel that runs.
#[derive(Clone, Debug)]
pub struct LiveTunnel {
    /// Its attempt.
    pub attempt: Attempt,
    /// Its plan.
    pub plan: TunnelPlan,
}

/// Work in the shell's hands, due at a moment of model time.
#[derive(Clone, Debug)]
pub struct Work {
    /// Monotonic milliseconds.
    pub due_ms: u64,
    /// What.
    pub task: Task,
}

/// Kinds of work.
#[derive(Clone, Debug)]
pub enum Task {
    /// Make a policy true, then answer. Applies run in the order in which they were asked for.
    Apply {
        /// Number.
        generation: Generation,
        /// Policy.
        policy: NetworkPolicy,
    },
    /// Resolve a destination, then answer.
    Prepare {
        /// Attempt.
        attempt: Attempt,
        /// Destination.
        destination: Destination,
    },
    /// Handshake, then report.
    Handshake {
        /// Attempt.
        attempt: Attempt,
    },
    /// Take a tunnel down, then answer.
    Stop {
        /// Attempt.
        attempt: Attempt,
    },
    /// Hand an answer to the machine.
    Answer(Event),
}
