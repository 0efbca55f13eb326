//! What is decided about anything that is kept as a policy wants it, on systems whose calls block: which wish is guarded,
//! that everything is read back, and what counts as tampering. Pure: the calls are those of a [`Guarded`].

use super::Ended;
use crate::dns::plan::DnsWish;
use std::time::Duration;

/// A change is made at most so often before what reads back differently is an error: a list that ran into a change by
/// another program reads wrongly once.
const ATTEMPTS: usize = 2;

/// What a wish means for guarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Everything stays as it is, guarded or not.
    Nothing,
    /// Ours is removed, and nothing is guarded.
    Removal,
    /// Ours is made true and guarded.
    Keeping,
}

/// What is applied.
pub trait Wish: Clone + Send + 'static {
    /// What it means.
    fn asks(&self) -> Asks;
}

impl Wish for DnsWish {
    fn asks(&self) -> Asks {
        match self {
            Self::Unchanged => Asks::Nothing,
            Self::Original => Asks::Removal,
            Self::Set(_) => Asks::Keeping,
        }
    }
}

/// Rules, or none at all.
impl<T: Clone + Send + 'static> Wish for Option<T> {
    fn asks(&self) -> Asks {
        if self.is_some() { Asks::Keeping } else { Asks::Removal }
    }
}

/// How the system differs from a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In words.
    pub what: String,
    /// Another program did it. False for what the system does by itself, as when a link comes or goes.
    pub tampered: bool,
}

/// The calls of one system for one thing: firewall, routes or DNS. They may block.
pub trait Guarded: Send + 'static {
    /// What is applied.
    type Wish: Wish;
    /// Why a call failed.
    type Error: std::error::Error + Send + Sync + 'static;
    /// For messages.
    const NAME: &'static str;
    /// True when a change that fails leaves in force what was there before: that is guarded on. Otherwise the new wish is,
    /// since nothing of the old one can be relied on.
    const ALL_OR_NOTHING: bool;
    /// All calls of one change or one comparison together may take so long.
    const WAIT: Duration = Duration::from_secs(20);

    /// How often it is compared when nothing tells of changes. Asked anew after each change and each comparison.
    fn every(&self) -> Duration;

    /// Makes the wish true. It need not read back. Says what is worth saying to people.
    ///
    /// # Errors
    /// A call failed; nothing is more open than before, unless the wish is.
    fn put(&mut self, wish: &Self::Wish) -> Result<Option<String>, Self::Error>;

    /// Reads back. What cannot be true at present, as routes into an interface that is gone, is no difference.
    ///
    /// # Errors
    /// It cannot be read.
    fn difference(&mut self, wish: &Self::Wish) -> Result<Option<Difference>, Self::Error>;

    /// What the wish still needs that is nobody's change, as its interface. An error when it is applied and when it is
    /// checked, but nothing that guarding could restore: the monitor tells of it.
    ///
    /// # Errors
    /// It cannot be read.
    fn lacks(&mut self, _wish: &Self::Wish) -> Result<Option<String>, Self::Error> {
        Ok(None)
    }

    /// The wish as a state of the system, for people.
    fn in_words(wish: &Self::Wish) -> &'static str;
}

/// Why a wish is not true.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A call failed.
    #[error(transparent)]
    System(Box<dyn std::error::Error + Send + Sync>),
    /// Everything was accepted but reads back otherwise.
    #[error("what was set reads back differently: {0}")]
    ReadsBackDifferently(String),
    /// Something is missing that is not ours to make.
    #[error("{0}")]
    Lacks(String),
    /// All calls together took too long. They go on, and what they make true is guarded.
    #[error("the system takes too long")]
    TooSlow,
    /// The calls were cut off.
    #[error(transparent)]
    Ended(#[from] Ended),
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> KeepError {
    KeepError::System(Box::new(error))
}

/// One thing with what is wanted of it. Whoever holds it alone may call, so guarding never sees half of a change.
pub struct Kept<G: Guarded> {
    system: G,
    /// The newest wish, also one that could not be made true: what is checked.
    wanted: Option<G::Wish>,
    /// What another program's change is undone for.
    guarded: Option<G::Wish>,
    holds: bool,
}

impl<G: Guarded> Kept<G> {
    /// Nothing is changed before the first wish.
    pub const fn new(system: G) -> Self {
        Self { system, wanted: None, guarded: None, holds: false }
    }

    /// Makes the wish true, reads it back, and guards it from then on. Says what is worth saying.
    ///
    /// # Errors
    /// It is not true. What is guarded then is said by [`Guarded::ALL_OR_NOTHING`].
    pub fn apply(&mut self, wish: G::Wish) -> Result<Option<String>, KeepError> {
        let asks = wish.asks();
        match asks {
            Asks::Nothing => {
                self.wanted.get_or_insert(wish);
                return Ok(None);
            }
            // Not guarded while it is removed, or guarding would bring it back.
            Asks::Removal => self.guarded = None,
            Asks::Keeping => {
                self.holds = false;
                if !G::ALL_OR_NOTHING {
                    self.guarded = Some(wish.clone());
                }
            }
        }
        self.wanted = Some(wish.clone());
        let said = self.make_true(&wish)?;
        if asks == Asks::Keeping {
            self.guarded = Some(wish.clone());
        }
        if let Some(what) = self.system.lacks(&wish).map_err(failed)? {
            return Err(KeepError::Lacks(what));
        }
        self.holds = asks == Asks::Keeping;
        Ok(said)
    }

    /// Restores what differs from what is guarded and says what another program had changed. `None`: nothing differed, or
    /// only what the system itself changes.
    ///
    /// # Errors
    /// It differs still, or nobody can tell.
    pub fn guard(&mut self) -> Result<Option<String>, KeepError> {
        let Some(wish) = self.guarded.clone() else { return Ok(None) };
        let Some(Difference { what, tampered }) = self.system.difference(&wish).map_err(failed)? else { return Ok(None) };
        self.make_true(&wish)?;
        if !tampered {
            tracing::info!(what, "{} follows the system", G::NAME);
        }
        Ok(tampered.then_some(what))
    }

    /// Compares with the newest wish: what is in force, or in what it differs.
    ///
    /// # Errors
    /// The difference, in words.
    pub fn check(&mut self) -> Result<String, String> {
        let Some(wish) = &self.wanted else { return Err("no policy was applied yet".to_owned()) };
        let in_words = |error: G::Error| error.to_string();
        if let Some(difference) = self.system.difference(wish).map_err(in_words)? {
            return Err(difference.what);
        }
        match self.system.lacks(wish).map_err(in_words)? {
            Some(what) => Err(what),
            None => Ok(G::in_words(wish).to_owned()),
        }
    }

    /// How soon it is compared without being told; `None` while nothing is guarded.
    pub fn every(&self) -> Option<Duration> {
        self.guarded.as_ref().map(|_| self.system.every())
    }

    /// True when the newest wish is one of ours and was made true.
    pub const fn holds(&self) -> bool {
        self.holds
    }

    fn make_true(&mut self, wish: &G::Wish) -> Result<Option<String>, KeepError> {
        let mut said = None;
        let mut left = String::new();
        for _ in 0..ATTEMPTS {
            let now = self.system.put(wish).map_err(failed)?;
            said = said.or(now);
            match self.system.difference(wish).map_err(failed)? {
                None => return Ok(said),
                Some(difference) => left = difference.what,
            }
        }
        Err(KeepError::ReadsBackDifferently(left))
    }
}

#[cfg(test)]
#[path = "guarded_tests.rs"]
pub(crate) mod tests;
