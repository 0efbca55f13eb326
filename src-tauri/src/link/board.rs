//! Where the newest link hangs: one writer at a time, any number of readers, one listener that hears every change in order.

use super::{Link, Word};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Hears the link before and the link after a change.
type Listener = Box<dyn Fn(&Link, &Link) + Send + Sync>;

/// The newest link.
pub struct Board {
    /// Held while the listener hears, so that it hears the links in order. Readers never wait for it.
    telling: Mutex<()>,
    newest: Mutex<Newest>,
    listener: Listener,
}

struct Newest {
    link: Link,
    /// Connection of the status that is shown.
    session: Option<u64>,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board").field("newest", &self.newest().link).finish_non_exhaustive()
    }
}

impl Board {
    /// A board that says *connecting*. `listener` must not block for long: the next change waits for it.
    pub fn new(listener: impl Fn(&Link, &Link) + Send + Sync + 'static) -> Self {
        let newest = Newest { link: Link::first(now_unix_ms()), session: None };
        Self { telling: Mutex::new(()), newest: Mutex::new(newest), listener: Box::new(listener) }
    }

    /// The newest link.
    #[must_use]
    pub fn current(&self) -> Link {
        self.newest().link.clone()
    }

    /// Takes a word; the listener hears of it when it says something new.
    pub fn take(&self, word: Word) {
        let _in_order = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let session = match &word {
            Word::Status { session, .. } => Some(*session),
            Word::Down { .. } => None,
        };
        let (before, after) = {
            let mut newest = self.newest();
            let shown = newest.session;
            let Some(next) = newest.link.after(shown, word, now_unix_ms()) else { return };
            // A status that comes late from an ended connection stays older than the next connection's.
            newest.session = session.or(shown);
            (std::mem::replace(&mut newest.link, next.clone()), next)
        };
        (self.listener)(&before, &after);
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wall clock, milliseconds since 1970.
pub(crate) fn now_unix_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
