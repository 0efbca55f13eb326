//! One random thing that happens: an answer, a timer, a person, the weather, an accident.

use hamn_core::event::{Command, Event, TunnelEvent};
use hamn_core::plan::TunnelPlan;
use hamn_core::state::{Attempt, BlockReason, Generation, Timer};

use crate::fixtures;
use crate::host::{Stamp, Task, Weather};
use crate::random::Random;
use crate::world::{Checked, World};

impl World {
    /// Does one random thing, decided by `seed` alone.
    ///
    /// # Errors
    /// A broken property.
    pub fn step(&mut self, seed: u64) -> Checked {
        let mut random = Random::new(seed);
        let random = &mut random;
        if !self.alive {
            if random.one_in(8) {
                self.disk.target = None;
            }
            return if random.one_in(4) { self.reboot(random.next()) } else { self.start(random.next()) };
        }
        if !self.started && random.one_in(2) {
            let target = self.disk.target.clone();
            let crash = random.one_in(12).then(|| usize::try_from(random.below(4)).unwrap_or(0));
            return self.deliver(Event::Started { target }, crash, random);
        }
        match random.below(100) {
            0..=44 => self.advance(random, None),
            45..=59 => self.out_of_order(random),
            60..=69 => self.echo(random),
            70..=76 => self.command(random),
            77..=79 => self.change_settings(random),
            80..=83 => {
                let event = Event::Host { facts: fixtures::facts(random), path_changed: random.one_in(2) };
                self.deliver(event, None, random)
            }
            84..=87 => {
                self.change_weather(random);
                Ok(())
            }
            88..=90 => self.tunnel_trouble(random),
            91 => {
                self.kernel.damaged = true;
                self.deliver(Event::PolicyLost("the table is gone".to_owned()), None, random)
            }
            92 => {
                self.disk.api = fixtures::api(random);
                self.deliver(Event::ApiAddresses(self.disk.api.clone()), None, random)
            }
            93 | 94 => {
                self.weather.account = !random.one_in(4);
                self.deliver(Event::CredentialsChanged, None, random)
            }
            95..=97 => {
                let keep = usize::try_from(random.below(4)).unwrap_or(0);
                self.advance(random, Some(keep))
            }
            98 => {
                self.counts.crashes += 1;
                self.die();
                Ok(())
            }
            _ => self.deliver(Event::Shutdown { keep_blocking: random.one_in(2) }, None, random),
        }
    }

    /// Lets time pass until the next work or timer is due, and does it. False when there is none.
    ///
    /// # Errors
    /// A broken property.
    pub fn advance(&mut self, random: &mut Random, crash_after: Option<usize>) -> Checked {
        let work = self.works.iter().enumerate().min_by_key(|(_, work)| work.due_ms).map(|(index, work)| (index, work.due_ms));
        let timer = self.timers.iter().enumerate().min_by_key(|(_, timer)| timer.1).map(|(index, timer)| (index, timer.1));
        match (work, timer) {
            (Some((index, due_ms)), other) if other.is_none_or(|(_, timer_ms)| due_ms <= timer_ms) => {
                self.pass_time(due_ms);
                let work = self.works.remove(index);
                self.perform(work.task, crash_after, random)
            }
            (_, Some((index, due_ms))) => {
                self.pass_time(due_ms);
                let (timer, _) = self.timers.remove(index);
                self.deliver(Event::Timer(timer), crash_after, random)
            }
            (Some(_) | None, None) => Ok(()),
        }
    }

    const fn pass_time(&mut self, until_ms: u64) {
        if until_ms > self.now.monotonic_ms {
            self.now.monotonic_ms = until_ms;
        }
    }

    /// Does some work before it is due; applies keep their order.
    fn out_of_order(&mut self, random: &mut Random) -> Checked {
        if self.works.is_empty() {
            return self.advance(random, None);
        }
        let mut index = usize::try_from(random.below(self.works.len() as u64)).unwrap_or(0);
        if matches!(self.works[index].task, Task::Apply { .. }) {
            index = self.works.iter().position(|work| matches!(work.task, Task::Apply { .. })).unwrap_or(index);
        }
        let work = self.works.remove(index);
        self.perform(work.task, None, random)
    }

    fn perform(&mut self, task: Task, crash_after: Option<usize>, random: &mut Random) -> Checked {
        match task {
            Task::Answer(event) => self.deliver(event, crash_after, random),
            Task::Apply { generation, policy } => {
                let good = self.weather.firewall && (self.weather.calm || !random.one_in(24));
                let result = if good {
                    self.counts.applies += 1;
                    self.counts.opened += u64::from(policy.is_open());
                    self.kernel.policy = policy;
                    self.kernel.stamp = Stamp { process: self.process, generation };
                    self.kernel.damaged = false;
                    self.check_kernel()?;
                    Ok(())
                } else {
                    self.counts.failed_applies += 1;
                    Err("nft refused".to_owned())
                };
                self.answer(50, Event::PolicyApplied { generation, result }, random);
                Ok(())
            }
            Task::Prepare { attempt, .. } => {
                let result = self.prepare(random);
                self.answer(50, Event::Prepared { attempt, result }, random);
                Ok(())
            }
            Task::Handshake { attempt } => {
                if self.tunnels.iter().any(|tunnel| tunnel.attempt == attempt) {
                    if self.weather.gateway {
                        self.answer(20, Event::Tunnel { attempt, event: TunnelEvent::Verified }, random);
                    } else if random.one_in(2) {
                        let event = TunnelEvent::Failed(BlockReason::GatewaySilent);
                        self.answer(20_000, Event::Tunnel { attempt, event }, random);
                    }
                }
                Ok(())
            }
            Task::Stop { attempt } => {
                self.tunnels.retain(|tunnel| tunnel.attempt != attempt);
                self.answer(20, Event::TunnelStopped { attempt }, random);
                Ok(())
            }
        }
    }

    fn prepare(&self, random: &mut Random) -> Result<TunnelPlan, BlockReason> {
        if !self.weather.account {
            let reasons = [
                BlockReason::LoggedOut,
                BlockReason::CredentialsRejected,
                BlockReason::AccountExpired,
                BlockReason::TooManyDevices,
                BlockReason::DeviceRevoked,
                BlockReason::NoServer,
                BlockReason::NoProvider,
                BlockReason::NoProfile,
            ];
            return Err(*random.pick(&reasons));
        }
        if !self.weather.api {
            return Err(*random.pick(&[
                BlockReason::ApiUnreachable,
                BlockReason::ClockWrong,
                BlockReason::Internal,
                BlockReason::Offline,
            ]));
        }
        Ok(fixtures::plan(random.next()))
    }

    /// Answers soon; now and then twice.
    fn answer(&mut self, limit_ms: u64, event: Event, random: &mut Random) {
        if !self.weather.calm && random.one_in(16) {
            self.later(30_000, Task::Answer(event.clone()), random);
        }
        self.later(limit_ms, Task::Answer(event), random);
    }

    /// A late, duplicated or invented answer. What is not stale must be a true duplicate.
    fn echo(&mut self, random: &mut Random) -> Checked {
        if random.one_in(2) && !self.history.is_empty() {
            let index = usize::try_from(random.below(self.history.len() as u64)).unwrap_or(0);
            let event = self.history[index].clone();
            return self.deliver(event, None, random);
        }
        let attempt = Attempt(random.below(self.machine.generation().0 + 4));
        let generation = Generation(random.below(self.machine.generation().0 + 4));
        let event = match random.below(9) {
            0 => Event::PolicyApplied { generation, result: Ok(()) },
            1 => Event::PolicyApplied { generation, result: Err("late".to_owned()) },
            2 => Event::Prepared { attempt, result: Ok(fixtures::plan(random.next())) },
            3 => Event::Prepared { attempt, result: Err(BlockReason::LoggedOut) },
            4 => Event::Tunnel { attempt, event: TunnelEvent::Verified },
            5 => Event::TunnelStopped { attempt },
            6 => Event::Timer(Timer::Retry(attempt)),
            7 => Event::Timer(Timer::AttemptTimeout(attempt)),
            _ => Event::Started { target: self.disk.target.clone() },
        };
        if self.is_stale(&event) { self.deliver(event, None, random) } else { Ok(()) }
    }

    fn command(&mut self, random: &mut Random) -> Checked {
        let command = match random.below(10) {
            0..=5 => Command::Connect(random.pick(&fixtures::destinations()).clone()),
            6..=8 => Command::Disconnect,
            _ => Command::Reconnect,
        };
        let crash = random.one_in(6).then(|| usize::try_from(random.below(4)).unwrap_or(0));
        self.deliver(Event::Command(command), crash, random)
    }

    /// Settings are stored, then told; the helper may die in between.
    fn change_settings(&mut self, random: &mut Random) -> Checked {
        let settings = fixtures::settings(random);
        self.disk.settings = settings.clone();
        if random.one_in(8) {
            self.counts.crashes += 1;
            self.die();
            return self.start(random.next());
        }
        self.deliver(Event::SettingsChanged(settings), None, random)
    }

    fn change_weather(&mut self, random: &mut Random) {
        self.weather = Weather {
            api: !random.one_in(4),
            gateway: !random.one_in(4),
            firewall: !random.one_in(4),
            account: !random.one_in(6),
            calm: random.one_in(3),
        };
    }

    fn tunnel_trouble(&mut self, random: &mut Random) -> Checked {
        let Some(tunnel) = self.tunnels.first() else { return self.advance(random, None) };
        let attempt = tunnel.attempt;
        let event = match random.below(6) {
            0 => TunnelEvent::Stalled,
            1 => TunnelEvent::Recovered,
            2 => TunnelEvent::Failed(BlockReason::GatewaySilent),
            3 => {
                TunnelEvent::Failed(*random.pick(&[BlockReason::TunnelDevice, BlockReason::Offline, BlockReason::DeviceRevoked]))
            }
            4 => {
                self.tunnels.clear();
                TunnelEvent::Failed(BlockReason::TunnelDevice)
            }
            _ => {
                self.tunnels.clear();
                self.answer(20, Event::TunnelStopped { attempt }, random);
                return Ok(());
            }
        };
        self.deliver(Event::Tunnel { attempt, event }, None, random)
    }
}
