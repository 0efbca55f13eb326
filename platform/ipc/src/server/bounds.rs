//! The bounds that keep one bad client from harming another: connections in all, per user and per rank; calls per second.

use crate::caller::{Share, UserId};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// All numbers in one place; `Limits::default()` is what ships.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Of these, only for administrators.
    pub reserved_for_root: usize,
    /// At most so many for users who may do nothing but ask "protected or not".
    pub strangers: usize,
    /// Connections of one user who is no administrator.
    pub per_user: usize,
    /// Event streams of one user who is no administrator, so that commands still get through.
    pub event_streams_per_user: usize,
    /// New connections per second and user, administrators excepted.
    pub connections_per_second: u32,
    /// Time for a request's head; also how long an idle connection is kept.
    pub header: Duration,
    /// Time for a request with its body and its answer, events excepted.
    pub request: Duration,
    /// Time in which a reader must take something of what is written to it.
    pub write: Duration,
    /// Largest body in bytes.
    pub body: usize,
    /// Calls per second and user, administrators excepted.
    pub calls_per_second: u32,
    /// How long a call above that is held before it is refused, which slows a loop down.
    pub penalty: Duration,
    /// Time in which a person must have answered polkit's question; a request waits that much longer.
    pub question: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            reserved_for_root: 16,
            strangers: 64,
            per_user: 16,
            event_streams_per_user: 8,
            connections_per_second: 100,
            header: Duration::from_secs(5),
            request: Duration::from_secs(30),
            write: Duration::from_secs(10),
            body: 64 * 1024,
            calls_per_second: 50,
            penalty: Duration::from_millis(100),
            question: Duration::from_secs(120),
        }
    }
}

/// How much a connection counts when there are too many. Higher ranks displace idle lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// May only ask "protected or not".
    Stranger,
    /// May view and control.
    User,
    /// An administrator: uid 0, or elevated.
    Root,
}

/// Connections whose task has been told to end but still runs count up to this many above the limit.
const ENDING: usize = 32;

/// All open connections.
#[derive(Debug)]
pub struct Connections {
    limits: Limits,
    open: Mutex<Vec<Entry>>,
    tasks: AtomicUsize,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Entry {
    number: usize,
    share: Share,
    rank: Rank,
    activity: Arc<Activity>,
}

#[derive(Debug, Default)]
struct Activity {
    /// Requests that are being answered.
    answering: AtomicUsize,
    /// Event streams.
    streaming: AtomicUsize,
    evicted: Notify,
}

/// A place in the table, given back when dropped.
#[derive(Debug)]
pub struct Slot {
    table: Arc<Connections>,
    number: usize,
    activity: Arc<Activity>,
    share: Share,
}

/// Marks a connection as answering: it is not evicted meanwhile.
#[derive(Debug)]
pub struct Answering {
    activity: Arc<Activity>,
    stream: bool,
}

impl Connections {
    /// An empty table.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, open: Mutex::new(Vec::new()), tasks: AtomicUsize::new(0), next: AtomicUsize::new(0) })
    }

    /// Takes a connection in, or `None` when it must be refused. A connection that answers nothing makes room for a newer
    /// one of the same user or a higher rank: half-open connections cannot lock anybody out.
    #[must_use]
    pub fn admit(self: &Arc<Self>, share: Share, rank: Rank) -> Option<Slot> {
        let limits = &self.limits;
        let spare = if rank == Rank::Root { ENDING + limits.reserved_for_root } else { ENDING };
        if self.tasks.load(Ordering::Relaxed) >= limits.connections + spare {
            return None;
        }
        let mut open = lock(&self.open);
        if rank != Rank::Root && count(&open, |entry| entry.share == share) >= limits.per_user {
            evict(&mut open, |entry| entry.share == share)?;
        }
        if rank == Rank::Stranger && count(&open, |entry| entry.rank == Rank::Stranger) >= limits.strangers {
            evict(&mut open, |entry| entry.rank == Rank::Stranger)?;
        }
        let room =
            if rank == Rank::Root { limits.connections } else { limits.connections.saturating_sub(limits.reserved_for_root) };
        if open.len() >= room {
            evict(&mut open, |entry| entry.rank < rank)
                .or_else(|| evict(&mut open, |entry| rank == Rank::Root && entry.rank == rank))?;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let activity = Arc::new(Activity::default());
        open.push(Entry { number, share: share.clone(), rank, activity: Arc::clone(&activity) });
        self.tasks.fetch_add(1, Ordering::Relaxed);
        Some(Slot { table: Arc::clone(self), number, activity, share })
    }

    /// Connections that are open.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.open).len()
    }

    /// None is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn count(open: &[Entry], which: impl Fn(&Entry) -> bool) -> usize {
    open.iter().filter(|entry| which(entry)).count()
}

/// Ends the oldest connection of a kind that answers nothing.
fn evict(open: &mut Vec<Entry>, which: impl Fn(&Entry) -> bool) -> Option<()> {
    let idle = |entry: &Entry| entry.activity.answering.load(Ordering::Relaxed) == 0;
    let position = open.iter().position(|entry| idle(entry) && which(entry))?;
    open.remove(position).activity.evicted.notify_one();
    Some(())
}

impl Slot {
    /// Marks the start of an answer.
    #[must_use]
    pub fn answer(&self) -> Answering {
        self.activity.answering.fetch_add(1, Ordering::Relaxed);
        Answering { activity: Arc::clone(&self.activity), stream: false }
    }

    /// Marks the start of an event stream, or `None` when this user already has as many as one may have.
    #[must_use]
    pub fn stream(&self) -> Option<Answering> {
        let open = lock(&self.table.open);
        let own = open.iter().filter(|entry| entry.share == self.share);
        let streams: usize = own.map(|entry| entry.activity.streaming.load(Ordering::Relaxed)).sum();
        if !self.share.administrator && streams >= self.table.limits.event_streams_per_user {
            return None;
        }
        self.activity.answering.fetch_add(1, Ordering::Relaxed);
        self.activity.streaming.fetch_add(1, Ordering::Relaxed);
        Some(Answering { activity: Arc::clone(&self.activity), stream: true })
    }

    /// Waits until this connection has to make room.
    pub async fn evicted(&self) {
        self.activity.evicted.notified().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.table.open).retain(|entry| entry.number != self.number);
        self.table.tasks.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.activity.answering.fetch_sub(1, Ordering::Relaxed);
        if self.stream {
            self.activity.streaming.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A panic while the lock is held leaves plain counters behind, which stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Users whose buckets are remembered; full buckets are forgotten first.
const MOST_BUCKETS: usize = 1024;

/// Calls or connections per second and user: a token bucket each.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    buckets: Mutex<HashMap<UserId, (f64, Instant)>>,
}

impl Rate {
    /// Full buckets of `per_second` tokens.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), buckets: Mutex::new(HashMap::new()) }
    }

    /// Takes one token; false when there is none. An administrator needs none.
    #[must_use]
    pub fn take(&self, share: &Share, now: Instant) -> bool {
        if share.administrator {
            return true;
        }
        let refilled = |(tokens, at): (f64, Instant)| {
            self.per_second.mul_add(now.saturating_duration_since(at).as_secs_f64(), tokens).min(self.per_second)
        };
        let mut buckets = lock(&self.buckets);
        if buckets.len() >= MOST_BUCKETS {
            buckets.retain(|_, bucket| refilled(*bucket) < self.per_second);
        }
        if buckets.len() >= MOST_BUCKETS && !buckets.contains_key(&share.user) {
            return false;
        }
        let bucket = buckets.entry(share.user.clone()).or_insert((self.per_second, now));
        let tokens = refilled(*bucket);
        let granted = tokens >= 1.0;
        *bucket = (if granted { tokens - 1.0 } else { tokens }, now);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Arc<Connections> {
        let limits = Limits { connections: 10, reserved_for_root: 2, strangers: 4, per_user: 3, ..Limits::default() };
        Connections::new(limits)
    }

    #[test]
    fn one_user_gets_its_share_and_the_newest_idle_connections_stay() {
        let table = small();
        let slots: Vec<Slot> = (0..42).map(|_| table.admit(Share::unix(1000), Rank::User).unwrap()).collect();
        assert_eq!(table.len(), 3);
        let open: Vec<usize> = lock(&table.open).iter().map(|entry| entry.number).collect();
        assert_eq!(open, [39, 40, 41]);
        assert!(table.admit(Share::unix(1001), Rank::User).is_none(), "tasks that still end are bounded too");
        assert!(table.admit(Share::unix(0), Rank::Root).is_some(), "which does not concern root");
        drop(slots);
        assert!(table.is_empty());
        assert!(table.admit(Share::unix(1001), Rank::User).is_some());
    }

    #[test]
    fn a_connection_that_answers_is_not_evicted() {
        let table = small();
        let slots: Vec<Slot> = (0..3).map(|_| table.admit(Share::unix(1000), Rank::User).unwrap()).collect();
        let busy: Vec<Answering> = slots.iter().map(Slot::answer).collect();
        assert!(table.admit(Share::unix(1000), Rank::User).is_none());
        assert!(table.admit(Share::unix(1001), Rank::User).is_some(), "others are not affected");
        drop(busy);
        assert!(table.admit(Share::unix(1000), Rank::User).is_some());
    }

    #[test]
    fn strangers_leave_room_for_users_and_users_for_root() {
        let table = small();
        let mut slots: Vec<Slot> = (0..20).map(|n| table.admit(Share::unix(5000 + n), Rank::Stranger).unwrap()).collect();
        assert_eq!(table.len(), 4);
        slots.extend((0..8).map(|n| table.admit(Share::unix(1000 + n), Rank::User).unwrap()));
        assert_eq!(table.len(), 8, "users displaced idle strangers");
        assert!(table.admit(Share::unix(9000), Rank::Stranger).is_none());
        assert!(table.admit(Share::unix(2000), Rank::User).is_none());
        slots.extend((0..2).map(|_| table.admit(Share::unix(0), Rank::Root).unwrap()));
        assert_eq!(table.len(), 10);
        assert!(table.admit(Share::unix(0), Rank::Root).is_some(), "root displaces idle users");
    }

    // On Windows both halves of a divided token have the same user.
    #[test]
    fn an_elevated_program_is_not_kept_out_by_others_of_its_user() {
        let table = small();
        let user =
            Share { user: UserId::Windows(crate::caller::Sid::parse("S-1-5-21-1-2-3-1000").unwrap()), administrator: false };
        let elevated = Share { administrator: true, ..user.clone() };
        let slots: Vec<Slot> = (0..3).map(|_| table.admit(user.clone(), Rank::User).unwrap()).collect();
        let busy: Vec<Answering> = slots.iter().map(Slot::answer).collect();
        assert!(table.admit(user.clone(), Rank::User).is_none());
        let above: Vec<Slot> = (0..4).map(|_| table.admit(elevated.clone(), Rank::Root).unwrap()).collect();
        drop(busy);
        let _more: Vec<Slot> = (0..5).map(|_| table.admit(user.clone(), Rank::User).unwrap()).collect();
        assert_eq!(lock(&table.open).iter().filter(|entry| entry.share == elevated).count(), above.len());
        let (rate, now) = (Rate::new(5), Instant::now());
        assert_eq!((0..20).filter(|_| rate.take(&user, now)).count(), 5);
        assert!((0..20).all(|_| rate.take(&elevated, now)));
    }

    #[test]
    fn event_streams_of_a_user_are_bounded() {
        let table = Connections::new(Limits::default());
        let slots: Vec<Slot> = (0..9).map(|_| table.admit(Share::unix(1000), Rank::User).unwrap()).collect();
        let streams: Vec<_> = slots.iter().map(Slot::stream).collect();
        assert_eq!(streams.iter().flatten().count(), 8);
        drop(streams);
        assert!(slots[0].stream().is_some());
    }

    #[test]
    fn calls_above_the_rate_are_refused_until_tokens_return() {
        let rate = Rate::new(50);
        let start = Instant::now();
        let granted = (0..200).filter(|_| rate.take(&Share::unix(1000), start)).count();
        assert_eq!(granted, 50);
        assert!(rate.take(&Share::unix(1001), start), "another user has a bucket of its own");
        assert!((0..1000).all(|_| rate.take(&Share::unix(0), start)));
        assert_eq!((0..200).filter(|_| rate.take(&Share::unix(1000), start + Duration::from_millis(500))).count(), 25);
    }
}
