//! Randomness: uuids and jitter. Seeded as a whole, so that a simulated run can be repeated.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng};
use uuid::Uuid;

/// A handle to one generator. Cheap to clone; clones draw from the same stream.
#[derive(Clone)]
pub struct Rng(Arc<Mutex<StdRng>>);

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rng")
    }
}

impl Rng {
    /// Seeded by the machine.
    pub fn system() -> Rng {
        Rng(Arc::new(Mutex::new(rand::make_rng())))
    }

    /// The same numbers in every run.
    pub fn seeded(seed: u64) -> Rng {
        Rng(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// A random uuid (version 4).
    pub fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.0.lock().fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// A random number.
    pub fn number(&self) -> u64 {
        self.0.lock().next_u64()
    }

    /// Between half of `duration` and one and a half of it, so that what starts together does not stay together.
    pub fn jittered(&self, duration: Duration) -> Duration {
        duration.mul_f64(self.0.lock().random_range(0.5..1.5))
    }
}
