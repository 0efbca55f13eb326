//! What is decided of anything that is kept, with a number in place of a system.

use super::*;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

#[derive(Debug, thiserror::Error)]
#[error("refused")]
pub struct Refused;

/// What the number should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Leave,
    Clear,
    Set(u32),
}

impl Wish for Order {
    fn asks(&self) -> Asks {
        match self {
            Self::Leave => Asks::Nothing,
            Self::Clear => Asks::Removal,
            Self::Set(_) => Asks::Keeping,
        }
    }
}

impl Order {
    const fn value(self) -> Option<u32> {
        match self {
            Self::Leave | Self::Clear => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// What others may change, and how it behaves.
#[derive(Default)]
pub struct Behaviour {
    pub value: Option<u32>,
    pub refuses: bool,
    pub unreadable: bool,
    /// So many changes are accepted and not carried out.
    pub ignores: usize,
    /// What differs is the system's own doing.
    pub by_itself: bool,
    pub lacks: bool,
    /// Calls wait until it is false.
    pub hangs: bool,
    pub puts: usize,
}

#[derive(Clone, Default)]
pub struct World(Arc<(Mutex<Behaviour>, Condvar)>);

impl World {
    pub fn lock(&self) -> MutexGuard<'_, Behaviour> {
        self.0.0.lock().unwrap()
    }

    pub fn value(&self) -> Option<u32> {
        self.lock().value
    }

    fn puts(&self) -> usize {
        self.lock().puts
    }

    pub fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.lock());
        self.0.1.notify_all();
    }

    fn when_it_goes_on(&self) -> MutexGuard<'_, Behaviour> {
        self.0.1.wait_while(self.lock(), |behaviour| behaviour.hangs).unwrap()
    }
}

/// A number that others may change. A change that fails may leave half of it, or nothing.
pub struct Number<const ALL_OR_NOTHING: bool, const WAIT_MS: u64> {
    pub world: World,
    pub every: Duration,
}

impl<const ALL_OR_NOTHING: bool, const WAIT_MS: u64> Guarded for Number<ALL_OR_NOTHING, WAIT_MS> {
    type Wish = Order;
    type Error = Refused;
    const NAME: &'static str = "the number";
    const ALL_OR_NOTHING: bool = ALL_OR_NOTHING;
    const WAIT: Duration = Duration::from_millis(WAIT_MS);

    fn every(&self) -> Duration {
        self.every
    }

    fn put(&mut self, wish: &Order) -> Result<Option<String>, Refused> {
        let mut world = self.world.when_it_goes_on();
        world.puts += 1;
        if world.refuses {
            return Err(Refused);
        }
        if world.ignores > 0 {
            world.ignores -= 1;
        } else {
            world.value = wish.value();
        }
        Ok((*wish == Order::Clear).then(|| "cleared".to_owned()))
    }

    fn difference(&mut self, wish: &Order) -> Result<Option<Difference>, Refused> {
        let world = self.world.when_it_goes_on();
        if world.unreadable {
            return Err(Refused);
        }
        let (found, wanted) = (world.value, wish.value());
        let differs = || Difference { what: format!("{found:?} instead of {wanted:?}"), tampered: !world.by_itself };
        Ok((found != wanted).then(differs))
    }

    fn lacks(&mut self, _wish: &Order) -> Result<Option<String>, Refused> {
        Ok(self.world.lock().lacks.then(|| "there is no place for it".to_owned()))
    }

    fn in_words(wish: &Order) -> &'static str {
        if wish.value().is_some() { "the number is set" } else { "no number" }
    }
}

/// Not kept yet.
pub fn number<const ALL_OR_NOTHING: bool, const WAIT_MS: u64>(world: &World) -> Number<ALL_OR_NOTHING, WAIT_MS> {
    Number { world: world.clone(), every: LONG }
}

fn kept<const ALL_OR_NOTHING: bool>() -> (Kept<Number<ALL_OR_NOTHING, 1>>, World) {
    let world = World::default();
    (Kept::new(number(&world)), world)
}

fn is_refused<T>(result: Result<T, KeepError>) -> bool {
    matches!(result, Err(KeepError::System(error)) if error.to_string() == "refused")
}

#[test]
fn what_another_program_changes_is_restored_and_told() {
    let (mut kept, world) = kept::<true>();
    assert_eq!((kept.every(), kept.guard().unwrap(), world.puts()), (None, None, 0), "nothing before the first wish");
    assert!(kept.check().is_err());
    assert_eq!(kept.apply(Order::Set(7)).unwrap(), None);
    assert_eq!((kept.every(), kept.check()), (Some(LONG), Ok("the number is set".to_owned())));
    assert_eq!(kept.guard().unwrap(), None);
    world.lock().value = Some(8);
    assert_eq!(kept.check(), Err("Some(8) instead of Some(7)".to_owned()));
    assert_eq!(kept.guard().unwrap().as_deref(), Some("Some(8) instead of Some(7)"));
    assert_eq!((world.value(), kept.guard().unwrap()), (Some(7), None), "told once");
}

#[test]
fn what_the_system_does_by_itself_is_followed_and_nobody_accused() {
    let (mut kept, world) = kept::<false>();
    kept.apply(Order::Set(7)).unwrap();
    world.change(|world| (world.value, world.by_itself) = (None, true));
    assert_eq!(kept.guard().unwrap(), None);
    assert_eq!(world.value(), Some(7));
}

#[test]
fn what_was_accepted_is_read_back_and_tried_once_more() {
    let (mut kept, world) = kept::<true>();
    world.lock().ignores = 1;
    kept.apply(Order::Set(7)).unwrap();
    assert_eq!((world.value(), world.puts()), (Some(7), 2));
    world.change(|world| (world.ignores, world.puts) = (usize::MAX, 0));
    let error = kept.apply(Order::Set(9)).unwrap_err().to_string();
    assert_eq!(error, "what was set reads back differently: Some(7) instead of Some(9)");
    assert_eq!(world.puts(), ATTEMPTS, "not for ever");
    assert!(!kept.holds() && kept.check().is_err());
    world.lock().value = Some(8);
    assert!(matches!(kept.guard(), Err(KeepError::ReadsBackDifferently(_))), "nor is it claimed when it is guarded");
}

#[test]
fn what_cannot_be_read_is_never_called_true() {
    let (mut kept, world) = kept::<true>();
    kept.apply(Order::Set(7)).unwrap();
    world.lock().unreadable = true;
    assert!(is_refused(kept.guard()) && is_refused(kept.apply(Order::Set(7))));
    assert_eq!(kept.check(), Err("refused".to_owned()));
    assert!(!kept.holds());
}

#[test]
fn a_change_that_fails_leaves_guarded_what_is_in_force_and_is_checked_against_what_was_asked() {
    let (mut kept, world) = kept::<true>();
    kept.apply(Order::Set(7)).unwrap();
    world.lock().refuses = true;
    assert!(is_refused(kept.apply(Order::Set(9))));
    assert_eq!(kept.check(), Err("Some(7) instead of Some(9)".to_owned()), "the rules of before are not those of the policy");
    world.change(|world| (world.refuses, world.value) = (false, None));
    assert!(kept.guard().unwrap().is_some());
    assert_eq!(world.value(), Some(7), "the old fence, not none and not one that its caller gave up");
}

#[test]
fn a_change_that_leaves_half_of_itself_is_completed_by_guarding() {
    let (mut kept, world) = kept::<false>();
    kept.apply(Order::Set(7)).unwrap();
    world.lock().refuses = true;
    assert!(is_refused(kept.apply(Order::Set(9))));
    assert_eq!(kept.every(), Some(LONG));
    world.lock().refuses = false;
    assert!(kept.guard().unwrap().is_some());
    assert_eq!((world.value(), kept.check().is_ok()), (Some(9), true));
}

#[test]
fn what_is_removed_is_not_brought_back_even_when_that_fails() {
    for refuses in [false, true] {
        let (mut kept, world) = kept::<true>();
        kept.apply(Order::Set(7)).unwrap();
        world.lock().refuses = refuses;
        let said = kept.apply(Order::Clear);
        assert!(if refuses { is_refused(said) } else { said.unwrap().as_deref() == Some("cleared") });
        world.change(|world| (world.refuses, world.value) = (false, Some(7)));
        assert_eq!((kept.guard().unwrap(), kept.every()), (None, None));
        assert_eq!(world.value(), Some(7));
        assert_eq!(kept.check(), Err("Some(7) instead of None".to_owned()), "nor is it claimed that it is gone");
    }
}

#[test]
fn a_wish_that_leaves_everything_changes_neither_system_nor_guard() {
    let (mut kept, world) = kept::<false>();
    kept.apply(Order::Leave).unwrap();
    assert_eq!((world.puts(), kept.check()), (0, Ok("no number".to_owned())));
    kept.apply(Order::Set(7)).unwrap();
    kept.apply(Order::Leave).unwrap();
    assert!(kept.holds());
    world.lock().value = None;
    assert!(kept.guard().unwrap().is_some());
    assert_eq!((world.value(), kept.check()), (Some(7), Ok("the number is set".to_owned())));
}

#[test]
fn what_is_missing_fails_a_change_and_a_check_but_is_no_tampering() {
    let (mut kept, world) = kept::<false>();
    world.lock().lacks = true;
    assert_eq!(kept.apply(Order::Set(7)).unwrap_err().to_string(), "there is no place for it");
    assert!(!kept.holds());
    assert_eq!(kept.check(), Err("there is no place for it".to_owned()));
    assert_eq!(kept.guard().unwrap(), None);
    world.change(|world| (world.lacks, world.value) = (false, None));
    assert!(kept.guard().unwrap().is_some(), "it is guarded from the first moment");
    assert!(kept.check().is_ok());
}

#[test]
fn it_holds_what_was_made_true_until_that_is_removed() {
    let (mut kept, world) = kept::<false>();
    kept.apply(Order::Set(7)).unwrap();
    assert!(kept.holds());
    world.lock().refuses = true;
    assert!(is_refused(kept.apply(Order::Clear)) && kept.holds());
    world.lock().refuses = false;
    kept.apply(Order::Clear).unwrap();
    assert!(!kept.holds());
}

#[test]
fn wishes_of_dns_and_of_rules_mean_what_they_say() {
    let set = DnsWish::Set(crate::fixtures::dns_plan(&[]));
    assert_eq!(
        [DnsWish::Unchanged, DnsWish::Original, set].map(|wish| wish.asks()),
        [Asks::Nothing, Asks::Removal, Asks::Keeping]
    );
    assert_eq!([None, Some(())].map(|wish| wish.asks()), [Asks::Removal, Asks::Keeping]);
}
