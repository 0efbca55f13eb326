//! Which counters of a session were seen (WireGuard paper §5.4.6, RFC 6479): the last 8192, in any order, each once.

/// Counters that may come late.
const WINDOW: u64 = 8_192;
const BITS: u64 = 64;
/// One word more than the window has, so that the window slides by whole words.
const WORDS: usize = 129;

pub(super) struct Window {
    /// Above the greatest counter seen.
    next: u64,
    seen: [u64; WORDS],
}

impl Window {
    pub(super) const fn new() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }

    /// Not seen, and not too late.
    pub(super) fn is_fresh(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        let (word, bit) = place(counter);
        self.next - counter <= WINDOW && self.seen.get(word).is_some_and(|seen| seen & bit == 0)
    }

    /// Notes the counter of an authentic packet. False if it is not fresh.
    pub(super) fn accept(&mut self, counter: u64) -> bool {
        if !self.is_fresh(counter) {
            return false;
        }
        if counter >= self.next {
            // Words that come into the window, from the first behind those in use.
            let (first, end) = (self.next.div_ceil(BITS), counter / BITS + 1);
            for number in first..end.min(first.saturating_add(WORDS_U64)) {
                if let Some(word) = self.seen.get_mut(place(number.saturating_mul(BITS)).0) {
                    *word = 0;
                }
            }
            self.next = counter.saturating_add(1);
        }
        let (word, bit) = place(counter);
        if let Some(seen) = self.seen.get_mut(word) {
            *seen |= bit;
        }
        true
    }
}

const WORDS_U64: u64 = WINDOW / BITS + 1;

fn place(counter: u64) -> (usize, u64) {
    (usize::try_from(counter / BITS % WORDS_U64).unwrap_or(0), 1 << (counter % BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    /// What the window stands for, without a bitmap.
    #[derive(Default)]
    struct Naive {
        seen: HashSet<u64>,
        greatest: Option<u64>,
    }

    impl Naive {
        fn accept(&mut self, counter: u64) -> bool {
            let late = self.greatest.is_some_and(|greatest| greatest >= counter && greatest - counter >= WINDOW);
            if late || !self.seen.insert(counter) {
                return false;
            }
            self.greatest = self.greatest.max(Some(counter));
            true
        }
    }

    proptest! {
        #[test]
        fn it_is_the_set_of_what_was_seen(
            start in prop::sample::select(vec![0, 1, 63, 64, 8_191, 8_255, 1 << 32, u64::MAX - 100_000]),
            steps in prop::collection::vec(
                prop_oneof![
                    6 => -3_i64..4,
                    3 => -200_i64..200,
                    2 => -8_400_i64..8_400,
                    1 => prop::sample::select(vec![-8_193, -8_192, -8_191, 8_191, 8_192, 8_256, 8_257, 16_512]),
                ],
                1..600,
            ),
        ) {
            let (mut window, mut naive, mut at) = (Window::new(), Naive::default(), start);
            for step in steps {
                at = at.saturating_add_signed(step).min(u64::MAX - 8_194);
                prop_assert_eq!(window.is_fresh(at), !naive.seen.contains(&at)
                    && naive.greatest.is_none_or(|greatest| at > greatest || greatest - at < WINDOW));
                prop_assert_eq!(window.accept(at), naive.accept(at), "{}", at);
            }
        }
    }

    #[test]
    fn the_window_has_its_size() {
        let mut window = Window::new();
        assert!(window.accept(WINDOW));
        assert!(!window.is_fresh(0), "one too late");
        assert!(window.accept(1) && !window.accept(1));
        assert!((2..WINDOW).all(|counter| window.accept(counter)));
        assert!((0..=WINDOW).all(|counter| !window.is_fresh(counter)));
        assert!(window.accept(1 << 40) && window.accept((1 << 40) - WINDOW + 1) && !window.accept((1 << 40) - WINDOW));
    }
}
