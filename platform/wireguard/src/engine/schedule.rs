//! When a peer's timers are due, so that the thread sleeps until then.
//!
//! gotatun's `Tunn` keeps WireGuard's timers but tells only what is due *now*. This keeps the same time stamps beside it
//! and computes the earliest moment at which one of them can fire. To be early costs a wake-up, nothing else.

use gotatun::noise::TimerParams;
use std::collections::VecDeque;
use std::time::Duration;

/// Age of a session at which it is forgotten (WireGuard paper §6.1, Reject-After-Time).
const REJECT_AFTER_MS: u64 = 180_000;
/// Age at which its receiver asks for another (Reject-After-Time − Keepalive-Timeout − Rekey-Timeout).
const REKEY_ON_RECEIVE_MS: u64 = 165_000;
/// Age at which all keys are wiped.
const WIPE_AFTER_MS: u64 = 3 * REJECT_AFTER_MS;
/// Sessions that one peer can have.
const SESSIONS: usize = 8;
/// `Tunn` takes the time only when its timers are updated: while packets flow, that often.
pub(super) const TICK_MS: u64 = 250;
/// A timer with jitter is asked again after so long, then less and less often.
const RETRY_MS: u64 = 100;
const RETRY_SHIFT: u32 = 7;

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Time stamps of one peer, in milliseconds of the boot clock.
#[derive(Debug)]
pub(super) struct Schedule {
    params: TimerParams,
    keepalive_ms: Option<u64>,
    /// Last time that `Tunn` updated its timers.
    ticked_ms: Option<u64>,
    /// Overdue ticks in a row that changed nothing.
    overdue: u32,
    initiation_ms: Option<u64>,
    established_ms: VecDeque<u64>,
    initiator: bool,
    /// First data sent since something was heard.
    unheard_ms: Option<u64>,
    /// First data heard since something was sent.
    unanswered_ms: Option<u64>,
    last_ms: Option<u64>,
    sent_data: bool,
    heard_data: bool,
}

impl Schedule {
    pub(super) fn new(params: TimerParams, keepalive_s: Option<u16>) -> Self {
        let mut schedule = Self {
            params,
            keepalive_ms: None,
            ticked_ms: None,
            overdue: 0,
            initiation_ms: None,
            established_ms: VecDeque::with_capacity(SESSIONS),
            initiator: false,
            unheard_ms: None,
            unanswered_ms: None,
            last_ms: None,
            sent_data: false,
            heard_data: false,
        };
        schedule.set_keepalive(keepalive_s);
        schedule
    }

    pub(super) fn set_keepalive(&mut self, seconds: Option<u16>) {
        self.keepalive_ms = seconds.filter(|seconds| *seconds > 0).map(|seconds| u64::from(seconds) * 1_000);
        self.overdue = 0;
    }

    /// Forgets everything but the settings.
    pub(super) fn reset(&mut self) {
        let keepalive_ms = self.keepalive_ms;
        *self = Self { keepalive_ms, ..Self::new(self.params.clone(), None) };
    }

    /// Whether `Tunn` must take the time before it handles a packet.
    pub(super) fn is_stale(&self, now_ms: u64) -> bool {
        self.ticked_ms.is_none_or(|then| now_ms >= then.saturating_add(TICK_MS))
    }

    /// `Tunn` updated its timers, and did something or not.
    pub(super) fn ticked(&mut self, now_ms: u64, acted: bool) {
        self.ticked_ms = Some(now_ms);
        let due = self.earliest_ms().is_some_and(|due| due <= now_ms);
        self.overdue = if due && !acted { self.overdue.saturating_add(1) } else { 0 };
        self.established_ms.retain(|then| now_ms < then.saturating_add(WIPE_AFTER_MS));
        // An initiation that is not repeated by now is none: it was answered or given up.
        let patience = ms(*self.params.rekey_timeout.end()).saturating_add(1_000);
        if self.initiation_ms.is_some_and(|then| now_ms > then.saturating_add(patience)) {
            self.initiation_ms = None;
        }
        let patience = ms(*self.params.new_handshake_timeout.end()).saturating_add(1_000);
        if self.unheard_ms.is_some_and(|then| now_ms > then.saturating_add(patience)) {
            self.unheard_ms = None;
        }
        let patience = ms(*self.params.keepalive_timeout.end()).saturating_add(1_000);
        if self.unanswered_ms.is_some_and(|then| now_ms > then.saturating_add(patience)) {
            self.unanswered_ms = None;
        }
    }

    /// A handshake initiation went out.
    pub(super) fn initiated(&mut self, now_ms: u64) {
        self.initiation_ms = Some(now_ms);
        self.sent(now_ms, false);
    }

    /// One went out in this pass.
    pub(super) fn has_just_initiated(&self, now_ms: u64) -> bool {
        self.initiation_ms == Some(now_ms)
    }

    /// A session was agreed on.
    pub(super) fn established(&mut self, now_ms: u64, initiator: bool) {
        if self.established_ms.len() >= SESSIONS {
            self.established_ms.pop_front();
        }
        self.established_ms.push_back(now_ms);
        self.initiator = initiator;
        if initiator {
            self.initiation_ms = None;
        }
        (self.sent_data, self.heard_data) = (false, false);
        self.heard(now_ms, false);
    }

    /// Something authentic went out. True if a timer was started by it.
    pub(super) fn sent(&mut self, now_ms: u64, data: bool) -> bool {
        self.unanswered_ms = None;
        let starts = data && (self.unheard_ms.is_none() || !self.sent_data) || self.last_ms.is_none();
        self.last_ms = Some(now_ms);
        if data {
            self.sent_data = true;
            self.unheard_ms.get_or_insert(now_ms);
        }
        starts
    }

    /// Something authentic came in. True if a timer was started by it.
    pub(super) fn heard(&mut self, now_ms: u64, data: bool) -> bool {
        self.unheard_ms = None;
        let starts = data && (self.unanswered_ms.is_none() || !self.heard_data) || self.last_ms.is_none();
        self.last_ms = Some(now_ms);
        if data {
            self.heard_data = true;
            self.unanswered_ms.get_or_insert(now_ms);
        }
        starts
    }

    /// Nothing is left to wait for but the end of sessions: the handshake was given up.
    pub(super) fn expired(&mut self) {
        (self.initiation_ms, self.unheard_ms, self.unanswered_ms, self.last_ms) = (None, None, None, None);
        self.established_ms.clear();
        self.overdue = 0;
    }

    /// The moment of the next tick.
    pub(super) fn due_ms(&self, now_ms: u64) -> Option<u64> {
        let due = self.earliest_ms()?;
        if due > now_ms || self.overdue == 0 {
            return Some(due.max(now_ms));
        }
        let wait = RETRY_MS << (self.overdue - 1).min(RETRY_SHIFT);
        Some(self.ticked_ms.map_or(now_ms, |then| then.saturating_add(wait)).max(now_ms))
    }

    fn earliest_ms(&self) -> Option<u64> {
        let TimerParams { keepalive_timeout, new_handshake_timeout, rekey_timeout, rekey_after_time } = &self.params;
        let after = |then: Option<u64>, wait: u64| then.map(|then| then.saturating_add(wait));
        let newest = self.established_ms.back().copied().filter(|_| self.initiator);
        // The first tick of a peer sends the first keepalive, or nothing.
        let keepalive = self.keepalive_ms.and_then(|wait| after(self.last_ms, wait));
        let first = self.keepalive_ms.filter(|_| self.ticked_ms.is_none()).map(|_| 0);
        let mut ends = self.established_ms.iter().flat_map(|then| [then + REJECT_AFTER_MS, then + WIPE_AFTER_MS]);
        let seen = self.ticked_ms.unwrap_or(0);
        [
            first,
            keepalive,
            after(self.initiation_ms, ms(*rekey_timeout.start())),
            after(self.unheard_ms, ms(*new_handshake_timeout.start())),
            after(self.unanswered_ms, ms(*keepalive_timeout.start())),
            after(newest.filter(|_| self.sent_data), ms(*rekey_after_time.start())),
            after(newest.filter(|_| self.heard_data), REKEY_ON_RECEIVE_MS),
            // One tick after each end is enough. Strictly later: `Tunn` forgets what is older than that.
            ends.find(|end| *end >= seen).map(|end| end + 1),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(keepalive_s: Option<u16>) -> Schedule {
        Schedule::new(TimerParams::default(), keepalive_s)
    }

    #[test]
    fn an_idle_peer_waits_for_nothing() {
        let mut peer = schedule(None);
        assert_eq!(peer.due_ms(5), None);
        peer.ticked(5, false);
        assert_eq!(peer.due_ms(5), None);
        let mut peer = schedule(Some(25));
        assert_eq!(peer.due_ms(5), Some(5), "the first keepalive goes out at once");
        peer.ticked(5, true);
        peer.initiated(5);
        assert_eq!(peer.due_ms(5), Some(5_005), "the initiation is repeated");
        peer.established(100, true);
        assert_eq!(peer.due_ms(100), Some(25_100));
    }

    #[test]
    fn each_timer_has_its_moment() {
        let mut peer = schedule(None);
        peer.established(1_000, true);
        peer.ticked(1_000, false);
        assert_eq!(peer.due_ms(1_000), Some(181_001), "the session is forgotten");
        assert!(peer.sent(2_000, true));
        assert_eq!(peer.due_ms(2_000), Some(17_000), "silence of 15 s");
        assert!(peer.heard(3_000, true));
        assert_eq!(peer.due_ms(3_000), Some(13_000), "a passive keepalive");
        assert!(peer.sent(4_000, true));
        assert!(!peer.sent(4_001, true), "the timer runs already");
        peer.heard(4_002, false);
        assert_eq!(peer.due_ms(5_000), Some(121_000), "rekey");
        peer.expired();
        assert_eq!(peer.due_ms(6_000), None);
    }

    #[test]
    fn what_never_fires_is_asked_ever_less_often() {
        let mut peer = schedule(Some(1));
        peer.ticked(0, false);
        peer.sent(0, false);
        let (mut now, mut ticks) = (0, 0);
        while now < 120_000 {
            now = peer.due_ms(now).unwrap().max(now + 1);
            peer.ticked(now, false);
            ticks += 1;
        }
        assert!(ticks < 30, "{ticks} wake-ups in two minutes");
    }

    #[test]
    fn a_timer_with_jitter_is_asked_again_soon() {
        let mut peer = schedule(None);
        peer.ticked(0, false);
        peer.initiated(0);
        let mut asked = Vec::new();
        while asked.len() < 4 {
            let now = peer.due_ms(asked.last().copied().unwrap_or(0)).unwrap();
            asked.push(now);
            assert_eq!(peer.due_ms(now), Some(now), "due when its moment has come");
            peer.ticked(now, false);
        }
        assert_eq!(asked, [5_000, 5_100, 5_300, 5_700]);
    }

    #[test]
    fn ends_of_sessions_are_looked_at_once_each() {
        let mut peer = schedule(None);
        peer.established(0, false);
        peer.ticked(0, false);
        let mut looks = Vec::new();
        let mut now = 0;
        while let Some(due) = peer.due_ms(now) {
            now = due.max(now + 1);
            looks.push(now);
            peer.ticked(now, false);
        }
        assert_eq!(looks, [180_001, 540_001]);
    }
}
