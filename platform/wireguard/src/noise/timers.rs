//! WireGuard's timers of one peer (WireGuard paper §6.1 to §6.5): pure, in milliseconds of a clock that is passed in. What is due
//! is kept as the moment at which it is due, so that one minimum tells how long the thread may sleep.

use super::hash::random;
use gotatun::noise::TimerParams;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long an unanswered initiation is repeated (Rekey-Attempt-Time).
pub(super) const REKEY_ATTEMPT_MS: u64 = 90_000;

/// A handshake that we began and that is repeated until it is answered.
#[derive(Clone, Copy)]
struct Attempt {
    gives_up_ms: u64,
    due_ms: u64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send an initiation.
    Initiation,
    /// Send a keepalive if there is a session.
    Keepalive,
    /// Send a keepalive, and if there is no session ask for one.
    PersistentKeepalive,
    /// Nobody answers: what waits is dropped. A persistent keepalive tries again in its time.
    GiveUp,
}

pub(super) struct Timers {
    params: TimerParams,
    keepalive_ms: Option<u64>,
    attempt: Option<Attempt>,
    /// When the last initiation went out.
    initiated_ms: Option<u64>,
    /// Data was sent and nothing heard since: a handshake is due.
    silence_due_ms: Option<u64>,
    /// Data was heard and nothing sent since: a keepalive is due.
    answer_due_ms: Option<u64>,
    /// The next persistent keepalive.
    keepalive_due_ms: Option<u64>,
    jitter: u64,
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Timers {
    pub(super) fn new(params: TimerParams, keepalive_s: Option<u16>) -> Self {
        let jitter = random::<8>().map_or(1, |bytes| u64::from_ne_bytes(*bytes));
        let keepalive_ms = interval_ms(keepalive_s);
        let (attempt, initiated_ms, silence_due_ms, answer_due_ms) = (None, None, None, None);
        // The first keepalive is due at once.
        let keepalive_due_ms = keepalive_ms.map(|_| 0);
        Self { params, keepalive_ms, attempt, initiated_ms, silence_due_ms, answer_due_ms, keepalive_due_ms, jitter }
    }

    /// Seconds between persistent keepalives, or none. Newly switched on, the first is due at once.
    pub(super) fn set_keepalive(&mut self, now_ms: u64, seconds: Option<u16>) {
        let was_off = self.keepalive_ms.is_none();
        self.keepalive_ms = interval_ms(seconds);
        self.keepalive_due_ms = self.keepalive_ms.map(|wait| if was_off { now_ms } else { now_ms.saturating_add(wait) });
    }

    pub(super) const fn keeps_alive(&self) -> bool {
        self.keepalive_ms.is_some()
    }

    /// As new, with the same settings.
    pub(super) fn reset(&mut self) {
        (self.attempt, self.initiated_ms, self.silence_due_ms, self.answer_due_ms) = (None, None, None, None);
        self.keepalive_due_ms = self.keepalive_ms.map(|_| 0);
    }

    /// Asks for a handshake, unless one is under way: as soon as an initiation may follow the last one (§6.2).
    pub(super) fn want_session(&mut self, now_ms: u64) {
        let wait = ms(*self.params.rekey_timeout.start());
        let soonest = self.initiated_ms.map_or(now_ms, |then| then.saturating_add(wait).max(now_ms));
        self.attempt.get_or_insert(Attempt { gives_up_ms: now_ms.saturating_add(REKEY_ATTEMPT_MS), due_ms: soonest });
    }

    /// Somebody has something to send: the attempt has all its time again (§6.4).
    pub(super) fn want_to_send(&mut self, now_ms: u64) {
        self.want_session(now_ms);
        if let Some(attempt) = &mut self.attempt {
            attempt.gives_up_ms = now_ms.saturating_add(REKEY_ATTEMPT_MS);
        }
    }

    /// Whether an initiation went out at this very moment.
    pub(super) fn has_just_initiated(&self, now_ms: u64) -> bool {
        self.initiated_ms == Some(now_ms)
    }

    /// An initiation goes out.
    pub(super) fn initiated(&mut self, now_ms: u64) {
        let wait = self.sample(self.params.rekey_timeout.clone()).max(1);
        let gives_up_ms = self.attempt.map_or(now_ms.saturating_add(REKEY_ATTEMPT_MS), |attempt| attempt.gives_up_ms);
        self.attempt = Some(Attempt { gives_up_ms, due_ms: now_ms.saturating_add(wait) });
        self.initiated_ms = Some(now_ms);
        self.sent(now_ms, false);
    }

    /// New keys were agreed on. The age at which their initiator asks for the next.
    pub(super) fn agreed(&mut self, now_ms: u64) -> u64 {
        self.heard(now_ms, false);
        self.sample(self.params.rekey_after_time.clone())
    }

    /// There is a session that both sides use: nothing is repeated any more.
    pub(super) const fn confirmed(&mut self) {
        self.attempt = None;
    }

    /// Something authentic goes out.
    pub(super) fn sent(&mut self, now_ms: u64, data: bool) {
        self.answer_due_ms = None;
        self.keepalive_due_ms = self.keepalive_ms.map(|wait| now_ms.saturating_add(wait));
        if data && self.silence_due_ms.is_none() {
            let wait = self.sample(self.params.new_handshake_timeout.clone());
            self.silence_due_ms = Some(now_ms.saturating_add(wait));
        }
    }

    /// Something authentic came in.
    pub(super) fn heard(&mut self, now_ms: u64, data: bool) {
        self.silence_due_ms = None;
        self.keepalive_due_ms = self.keepalive_ms.map(|wait| now_ms.saturating_add(wait));
        if data && self.answer_due_ms.is_none() {
            let wait = self.sample(self.params.keepalive_timeout.clone());
            self.answer_due_ms = Some(now_ms.saturating_add(wait));
        }
    }

    /// The next moment at which [`Self::take`] has something to say.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let attempt = self.attempt.map(|attempt| attempt.due_ms.min(attempt.gives_up_ms));
        [attempt, self.silence_due_ms, self.answer_due_ms, self.keepalive_due_ms].into_iter().flatten().min()
    }

    /// What is due, once. Ask until it is nothing.
    pub(super) fn take(&mut self, now_ms: u64) -> Option<Due> {
        let due = |moment: &mut u64| *moment <= now_ms;
        let silent = self.silence_due_ms.take_if(due).is_some();
        if let Some(attempt) = self.attempt {
            if attempt.gives_up_ms <= now_ms {
                self.attempt = None;
                return Some(Due::GiveUp);
            }
            if attempt.due_ms <= now_ms {
                return Some(Due::Initiation);
            }
        } else if silent {
            // An initiation that is to be sent is due by itself when the last is old enough.
            self.want_session(now_ms);
            return self.take(now_ms);
        }
        if self.answer_due_ms.take_if(due).is_some() {
            return Some(Due::Keepalive);
        }
        if self.keepalive_due_ms.is_some_and(|moment| moment <= now_ms) {
            self.keepalive_due_ms = self.keepalive_ms.map(|wait| now_ms.saturating_add(wait));
            return Some(Due::PersistentKeepalive);
        }
        None
    }

    /// Evenly from the range, in milliseconds. Jitter keeps peers apart (§6.1) and is no secret, so the generator is a small one
    /// (SplitMix64).
    fn sample(&mut self, range: RangeInclusive<Duration>) -> u64 {
        let (start, end) = (ms(*range.start()), ms(*range.end()));
        let Some(choices) = end.checked_sub(start).filter(|width| *width > 0).map(|width| width.saturating_add(1)) else {
            return start;
        };
        self.jitter = self.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.jitter;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        start + (mixed ^ (mixed >> 31)) % choices
    }
}

fn interval_ms(seconds: Option<u16>) -> Option<u64> {
    seconds.filter(|seconds| *seconds > 0).map(|seconds| u64::from(seconds) * 1_000)
}
