//! From wherever the world is: make the host friendly, and every goal is reached within bounds (G22).

use hamn_core::event::{Command, Event, HostFacts};
use hamn_core::location::{Destination, Target};
use hamn_core::settings::KillSwitch;
use hamn_core::state::{BlockReason, State};

use crate::fixtures;
use crate::host::Weather;
use crate::random::Random;
use crate::world::{Checked, World, ensure};

/// Model time within which a goal is reached: one longest backoff and a few attempts.
const BOUND_MS: u64 = 600_000;

impl World {
    /// Goes to where the intent points, then through connect, disconnect and the end.
    ///
    /// # Errors
    /// A goal is not reached, or a property breaks on the way.
    pub fn settle(&mut self, seed: u64) -> Checked {
        let mut random = Random::new(seed);
        let random = &mut random;
        self.make_friendly(random)?;
        if self.stopping {
            return self.reach_the_end(random);
        }
        self.reach_goal(random)?;
        let destination = random.pick(&fixtures::destinations()).clone();
        self.deliver(Event::Command(Command::Connect(destination)), None, random)?;
        self.reach_goal(random)?;
        if random.one_in(2) {
            self.deliver(Event::Command(Command::Disconnect), None, random)?;
            self.reach_goal(random)?;
        }
        self.deliver(Event::Shutdown { keep_blocking: random.one_in(4) }, None, random)?;
        self.reach_the_end(random)
    }

    fn make_friendly(&mut self, random: &mut Random) -> Checked {
        self.weather = Weather::FRIENDLY;
        if !self.alive {
            self.start(random.next())?;
        }
        if !self.started {
            let target = self.disk.target.clone();
            self.deliver(Event::Started { target }, None, random)?;
        }
        if !self.online {
            let facts = HostFacts { online: true, ipv4: true, ..HostFacts::default() };
            self.deliver(Event::Host { facts, path_changed: false }, None, random)?;
        }
        Ok(())
    }

    fn reach_goal(&mut self, random: &mut Random) -> Checked {
        let start_ms = self.now.monotonic_ms;
        let mut told = false;
        for _ in 0..2000 {
            if self.works.is_empty() && self.at_goal() {
                return self.check_goal();
            }
            // The user does what a reason that waits for the user asks for, once.
            if let State::Blocked { retry: None, reason } = self.machine.state()
                && *reason != BlockReason::IntentUnreadable
                && !told
                && self.machine.in_force()
            {
                told = true;
                self.deliver(Event::CredentialsChanged, None, random)?;
                continue;
            }
            let idle = self.works.is_empty() && self.timers.is_empty();
            ensure(!idle, "nothing is under way and the goal is not reached", &self.machine)?;
            self.advance(random, None)?;
            let spent = self.now.monotonic_ms - start_ms;
            ensure(spent <= BOUND_MS, "the goal is not reached in time", &self.machine)?;
        }
        Err(format!("the goal is not reached in 2000 events: {:?}", self.machine))
    }

    fn at_goal(&self) -> bool {
        let there = match (&self.intent.target, self.machine.state()) {
            (Some(Target::Connected { .. }), State::Connected { .. })
            | (Some(Target::Disconnected), State::Disconnected)
            | (None, State::Blocked { reason: BlockReason::IntentUnreadable, .. }) => true,
            (_, State::Connected { .. } | State::Disconnected | State::Blocked { .. })
            | (_, State::Connecting { .. } | State::Disconnecting { .. } | State::Stopping { .. }) => false,
        };
        there && self.machine.in_force()
    }

    fn check_goal(&self) -> Checked {
        ensure(
            Some(&self.kernel.policy) == self.machine.policy() && !self.kernel.damaged,
            "the policy is not applied",
            &self.kernel,
        )?;
        let tunnels = usize::from(self.intent.wants_tunnel());
        ensure(self.tunnels.len() == tunnels, "the wrong number of tunnels", &self.tunnels)?;
        let open = self.intent.target == Some(Target::Disconnected) && self.intent.settings.kill_switch != KillSwitch::Always;
        ensure(self.kernel.policy.is_open() == open, "the network is not what the intent says", &self.kernel)?;
        ensure(self.disk.target == self.intent.target, "the intent is not on disk", &self.disk)
    }

    /// A helper that was asked to end does, and leaves the rules of the intent (G7).
    fn reach_the_end(&mut self, random: &mut Random) -> Checked {
        let stopped = self.stopping;
        // A command in between does not keep it alive.
        if self.alive && stopped && random.one_in(2) {
            self.deliver(Event::Command(Command::Connect(Destination::Best)), None, random)?;
        }
        for _ in 0..500 {
            if !self.alive {
                self.counts.settled += 1;
                // A last apply that failed leaves the earlier rules: not more open, and `restore-network` opens them.
                if stopped && self.machine.apply_error().is_none() {
                    ensure(
                        self.kernel.policy.is_open() != self.intent.closed(),
                        "ended with the wrong rules",
                        &(&self.kernel, &self.intent),
                    )?;
                }
                return Ok(());
            }
            let idle = self.works.is_empty() && self.timers.is_empty();
            ensure(!idle, "nothing is under way and the helper does not end", &self.machine)?;
            self.advance(random, None)?;
        }
        Err(format!("the helper does not end: {:?}", self.machine))
    }
}
