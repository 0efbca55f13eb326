//! Decides, from what was sent and heard, when to ask, when a tunnel is stalled and when it has failed. Pure.

use crate::options::Limits;
use hamn_core::event::TunnelEvent;
use hamn_core::state::BlockReason;

/// A look at the clock that comes this much later than it was meant to means that the machine slept, or that this process
/// was stopped.
const SLEPT_MS: u64 = 5_000;
/// Between two looks while there is traffic.
const LOOK_MS: u64 = 250;
/// Between two looks while nothing is sent, at most: each is there to notice sleep. Traffic calls for a look by itself.
const LOOK_IDLE_MS: u64 = 5_000;

/// What the counters say at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) now_ms: u64,
    /// Packets sent into the tunnel so far, our own questions excluded.
    pub(crate) sent: u64,
    /// Whatever proves that the gateway carries our traffic, counted.
    pub(crate) heard: u64,
    /// Answers to our own questions, also counted in `heard`.
    pub(crate) answers: u64,
}

/// What to do after a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) event: Option<TunnelEvent>,
    /// Ask the gateway something that it must answer.
    pub(crate) ask: bool,
    /// Take the next of several endpoints.
    pub(crate) switch_endpoint: bool,
    /// The machine slept: new socket and handshake at once (NET-06).
    pub(crate) rebind: bool,
    /// Nothing is outstanding: the next packet into the tunnel calls for a look.
    pub(crate) idle: bool,
    /// Look again after so long.
    pub(crate) again_ms: u64,
}

/// Memory of a tunnel that was verified.
#[derive(Debug)]
pub(crate) struct Liveness {
    limits: Limits,
    last: Look,
    /// When the next look is due.
    due_ms: u64,
    heard_ms: u64,
    asked_ms: u64,
    switched_ms: u64,
    /// When the first packet was sent after the last that was heard.
    unanswered_ms: Option<u64>,
    /// When the first question was put after the last answer. Where only our direction is broken, others' retransmissions
    /// still come out of the tunnel: they end a silence, and answer no question. A gateway that has never answered is not
    /// held to it.
    question_ms: Option<u64>,
    stalled: bool,
}

impl Liveness {
    pub(crate) fn new(limits: Limits, now: Look) -> Self {
        let now_ms = now.now_ms;
        Self {
            limits,
            last: now,
            due_ms: now_ms,
            heard_ms: now_ms,
            asked_ms: now_ms,
            switched_ms: now_ms,
            unanswered_ms: None,
            question_ms: None,
            stalled: false,
        }
    }

    pub(crate) const fn stalled(&self) -> bool {
        self.stalled
    }

    /// The outer path or the key is new: what was sent before says nothing about it.
    pub(crate) fn start_over(&mut self, now_ms: u64) {
        self.due_ms = now_ms;
        self.unanswered_ms = self.unanswered_ms.map(|_| now_ms);
        self.question_ms = self.question_ms.map(|_| now_ms);
        self.heard_ms = now_ms;
    }

    pub(crate) fn look(&mut self, look: Look) -> Step {
        let slept = look.now_ms.saturating_sub(self.due_ms) > SLEPT_MS;
        if slept {
            self.start_over(look.now_ms);
        }
        let mut step = Step { rebind: slept, again_ms: LOOK_MS, ..Step::default() };
        let active = look.heard != self.last.heard || look.sent != self.last.sent;
        if look.answers != self.last.answers {
            self.question_ms = None;
        }
        if look.heard != self.last.heard {
            self.heard_ms = look.now_ms;
            self.unanswered_ms = None;
        } else if look.sent != self.last.sent {
            self.unanswered_ms.get_or_insert(look.now_ms);
        }
        self.last = look;
        let waiting_since = self.unanswered_ms.into_iter().chain(self.question_ms).min();
        if waiting_since.is_none() && std::mem::take(&mut self.stalled) {
            step.event = Some(TunnelEvent::Recovered);
        }
        match waiting_since {
            Some(since) => self.silent(look.now_ms, look.now_ms.saturating_sub(since), &mut step),
            None if look.now_ms.saturating_sub(self.heard_ms) >= self.limits.idle_probe_ms => {
                // The question is a packet that wants an answer like any other.
                self.unanswered_ms = Some(look.now_ms);
                self.ask(look.now_ms, &mut step);
            }
            None if active => {}
            None => {
                step.idle = true;
                let ask_ms = self.heard_ms.saturating_add(self.limits.idle_probe_ms);
                step.again_ms = ask_ms.saturating_sub(look.now_ms).min(LOOK_IDLE_MS);
            }
        }
        self.due_ms = look.now_ms.saturating_add(step.again_ms);
        step
    }

    fn silent(&mut self, now_ms: u64, silent_ms: u64, step: &mut Step) {
        if silent_ms >= self.limits.fail_after_ms {
            step.event = Some(TunnelEvent::Failed(BlockReason::GatewaySilent));
            return;
        }
        let may_ask = now_ms.saturating_sub(self.asked_ms) >= self.limits.probe_every_ms;
        if silent_ms >= self.limits.probe_after_ms && may_ask {
            self.ask(now_ms, step);
        }
        if silent_ms >= self.limits.stall_after_ms && !self.stalled {
            self.stalled = true;
            self.switched_ms = now_ms;
            step.event = Some(TunnelEvent::Stalled);
        }
        if self.stalled && now_ms.saturating_sub(self.switched_ms) >= self.limits.switch_endpoint_ms {
            self.switched_ms = now_ms;
            step.switch_endpoint = true;
        }
    }

    fn ask(&mut self, now_ms: u64, step: &mut Step) {
        self.asked_ms = now_ms;
        if self.last.answers > 0 {
            self.question_ms.get_or_insert(now_ms);
        }
        step.ask = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 250 ms from `from_ms` to `to_ms` at counters that do not change; returns events and times.
    fn wait(liveness: &mut Liveness, sent: u64, heard: u64, from_ms: u64, to_ms: u64) -> Vec<(u64, TunnelEvent)> {
        let mut seen = vec![];
        let mut now_ms = from_ms;
        while now_ms <= to_ms {
            let step = liveness.look(Look { now_ms, sent, heard, answers: 0 });
            assert!(!step.rebind);
            let failed = matches!(step.event, Some(TunnelEvent::Failed(_)));
            seen.extend(step.event.map(|event| (now_ms, event)));
            if failed {
                break;
            }
            now_ms += 250;
        }
        seen
    }

    fn fresh() -> Liveness {
        Liveness::new(Limits::default(), Look { now_ms: 0, sent: 0, heard: 0, answers: 0 })
    }

    #[test]
    fn silence_after_sending_stalls_then_fails_within_ten_seconds() {
        let mut liveness = fresh();
        let seen = wait(&mut liveness, 1, 0, 250, 20_000);
        assert_eq!(seen, [(2_750, TunnelEvent::Stalled), (10_250, TunnelEvent::Failed(BlockReason::GatewaySilent))]);
    }

    #[test]
    fn an_idle_tunnel_asks_and_notices_a_dead_gateway_within_thirty_seconds() {
        let mut liveness = fresh();
        let seen = wait(&mut liveness, 0, 0, 250, 60_000);
        assert_eq!(seen, [(20_500, TunnelEvent::Stalled), (28_000, TunnelEvent::Failed(BlockReason::GatewaySilent))]);
    }

    #[test]
    fn an_idle_tunnel_with_a_live_gateway_says_nothing() {
        let mut liveness = fresh();
        let (mut heard, mut asked) = (0, 0);
        for now_ms in (250..600_000).step_by(250) {
            let step = liveness.look(Look { now_ms, sent: 0, heard, answers: 0 });
            assert_eq!(step.event, None);
            if step.ask {
                asked += 1;
                heard += 1;
            }
        }
        assert!((25..=40).contains(&asked), "{asked} questions in ten minutes");
    }

    #[test]
    fn one_way_traffic_is_asked_about_but_never_stalls() {
        let mut liveness = fresh();
        let (mut sent, mut heard) = (0, 0);
        for now_ms in (250..60_000).step_by(250) {
            sent += 10;
            let step = liveness.look(Look { now_ms, sent, heard, answers: 0 });
            assert_eq!(step.event, None, "{now_ms}");
            heard += u64::from(step.ask);
        }
        assert!(heard > 20);
    }

    /// Looks every 250 ms at a tunnel that sends all the time; every 1.5 s something is heard that answers nothing.
    fn deaf(liveness: &mut Liveness, answers: u64, to_ms: u64) -> Vec<(u64, TunnelEvent)> {
        let mut seen = vec![];
        for now_ms in (250..=to_ms).step_by(250) {
            let (sent, heard) = (now_ms, answers + now_ms / 1_500);
            let step = liveness.look(Look { now_ms, sent, heard, answers });
            seen.extend(step.event.map(|event| (now_ms, event)));
        }
        seen
    }

    #[test]
    fn a_gateway_that_speaks_and_does_not_hear_is_noticed() {
        let mut liveness = Liveness::new(Limits::default(), Look { now_ms: 0, sent: 0, heard: 1, answers: 1 });
        assert_eq!(
            deaf(&mut liveness, 1, 11_250),
            [(3_750, TunnelEvent::Stalled), (11_250, TunnelEvent::Failed(BlockReason::GatewaySilent))]
        );
    }

    #[test]
    fn what_answers_no_question_does_not_recover_and_an_answer_does() {
        let mut liveness = Liveness::new(Limits::default(), Look { now_ms: 0, sent: 0, heard: 1, answers: 1 });
        assert_eq!(deaf(&mut liveness, 1, 5_000), [(3_750, TunnelEvent::Stalled)]);
        let heard = Look { now_ms: 5_250, sent: 5_000, heard: 90, answers: 1 };
        assert_eq!(liveness.look(heard).event, None);
        assert!(liveness.stalled());
        let answered = Look { now_ms: 5_500, heard: 91, answers: 2, ..heard };
        assert_eq!(liveness.look(answered).event, Some(TunnelEvent::Recovered));
        assert!(!liveness.stalled());
    }

    #[test]
    fn who_never_answered_a_question_is_not_held_to_it() {
        assert_eq!(deaf(&mut fresh(), 0, 60_000), []);
    }

    #[test]
    fn hearing_anything_recovers() {
        let mut liveness = fresh();
        wait(&mut liveness, 1, 0, 250, 5_000);
        assert!(liveness.stalled());
        let step = liveness.look(Look { now_ms: 5_250, sent: 1, heard: 1, answers: 0 });
        assert_eq!(step.event, Some(TunnelEvent::Recovered));
        assert!(!liveness.stalled());
    }

    #[test]
    fn sleep_is_no_silence_and_asks_for_a_new_socket() {
        let mut liveness = fresh();
        wait(&mut liveness, 1, 0, 250, 1_000);
        let step = liveness.look(Look { now_ms: 3_600_000, sent: 1, heard: 0, answers: 0 });
        assert!(step.rebind);
        assert_eq!(step.event, None);
        let seen = wait(&mut liveness, 1, 0, 3_600_250, 3_603_000);
        assert_eq!(seen, [(3_602_500, TunnelEvent::Stalled)]);
    }

    #[test]
    fn an_idle_look_in_its_time_is_no_sleep_and_the_question_comes_in_its_time() {
        let mut liveness = fresh();
        let (mut now_ms, mut looks) = (250, 0);
        loop {
            let step = liveness.look(Look { now_ms, sent: 0, heard: 0, answers: 0 });
            assert!(!step.rebind);
            if step.ask {
                break;
            }
            looks += 1;
            // An alarm may ring a little late.
            now_ms += step.again_ms + 1;
        }
        assert!((18_000..18_100).contains(&now_ms), "{now_ms}");
        assert!(looks < 6, "{looks}");
        // A packet that wakes the watch between two looks is no sleep either; ten seconds behind the time are.
        let mut liveness = fresh();
        let again_ms = liveness.look(Look { now_ms: 0, sent: 0, heard: 0, answers: 0 }).again_ms;
        assert_eq!(again_ms, 5_000);
        assert!(!liveness.look(Look { now_ms: 4_900, sent: 1, heard: 1, answers: 0 }).rebind);
        assert!(liveness.look(Look { now_ms: 15_000, sent: 1, heard: 1, answers: 0 }).rebind);
    }

    #[test]
    fn a_stalled_tunnel_tries_its_other_endpoints() {
        let mut liveness = fresh();
        let mut switches = vec![];
        for now_ms in (250..10_000).step_by(250) {
            if liveness.look(Look { now_ms, sent: 1, heard: 0, answers: 0 }).switch_endpoint {
                switches.push(now_ms);
            }
        }
        assert_eq!(switches, [5_750, 8_750]);
    }

    #[test]
    fn the_engine_alone_never_speaks() {
        let mut liveness = Liveness::new(Limits::engine_only(), Look { now_ms: 0, sent: 0, heard: 0, answers: 0 });
        assert_eq!(wait(&mut liveness, 1, 0, 250, 600_000), []);
    }
}
