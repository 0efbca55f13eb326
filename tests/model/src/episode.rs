//! Episodes: a world from a seed, some hundred random steps, then a friendly end. A failing one is shortened before it is shown.

use crate::fixtures;
use crate::random::Random;
use crate::world::{Counts, Violation, World};

/// Steps of one episode.
const LENGTH: usize = 120;

/// A list of step seeds and where they start from: enough to repeat everything.
#[derive(Clone, Debug)]
pub struct Episode {
    /// Makes the first settings.
    pub seed: u64,
    /// One seed a step; each step draws only from its own, so that any of them can be left out.
    pub steps: Vec<u64>,
}

impl Episode {
    /// The episode of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let steps = (0..LENGTH).map(|_| random.next()).collect();
        Self { seed, steps }
    }

    /// Runs it.
    ///
    /// # Errors
    /// The broken property, with the number of the step.
    pub fn run(&self) -> Result<Counts, Violation> {
        self.run_traced(false)
    }

    /// Runs it, and tells every event.
    ///
    /// # Errors
    /// See `run`.
    pub fn run_traced(&self, trace: bool) -> Result<Counts, Violation> {
        let mut random = Random::new(self.seed ^ 0x5eed);
        let mut world = World::new(fixtures::settings(&mut random), self.seed);
        world.trace = trace;
        for (number, step) in self.steps.iter().enumerate() {
            world.step(*step).map_err(|broken| format!("step {number}: {broken}"))?;
        }
        world.settle(random.next()).map_err(|broken| format!("at the end: {broken}"))?;
        Ok(world.counts)
    }

    /// Leaves out steps as long as it still fails.
    #[must_use]
    pub fn shrink(mut self) -> Self {
        let mut size = self.steps.len();
        while size > 0 {
            let mut from = 0;
            while from < self.steps.len() {
                let mut shorter = self.clone();
                shorter.steps.drain(from..(from + size).min(self.steps.len()));
                if shorter.run().is_err() {
                    self = shorter;
                } else {
                    from += size;
                }
            }
            size /= 2;
        }
        self
    }
}

/// Adds the counts of one episode to a sum.
pub const fn add(sum: &mut Counts, one: &Counts) {
    sum.events += one.events;
    sum.crashes += one.crashes;
    sum.starts += one.starts;
    sum.tunnels += one.tunnels;
    sum.connected += one.connected;
    sum.applies += one.applies;
    sum.failed_applies += one.failed_applies;
    sum.opened += one.opened;
    sum.stale += one.stale;
    sum.settled += one.settled;
}
