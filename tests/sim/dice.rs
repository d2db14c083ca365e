//! Choices of a run, all from its seed.

use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// A source of choices. Each part of a run has one of its own, so that a change of one moves no other.
pub(crate) struct Dice(StdRng);

impl Dice {
    /// `part` tells the parts of one run apart.
    pub(crate) fn new(seed: u64, part: &str) -> Dice {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        (seed, part).hash(&mut hasher);
        Dice(StdRng::seed_from_u64(hasher.finish()))
    }

    pub(crate) fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.random_range(0..bound.max(1))
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// Of a hundred times, so many.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(self.within(range))
    }
}
