//! How long requests may take, and when what failed is tried again.

use std::time::Duration;

use aquifer_model::ByteCount;

use super::{Store, StoreError};

/// Bounds of a store's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// `tier.store.deadline.ms`: how long a request is repeated before its failure is given back.
    pub deadline: Duration,
    /// `tier.store.attempt.ms`: how long one attempt of a small request may take.
    pub attempt: Duration,
    /// `tier.store.bytes.per.second.min`: an attempt that moves bytes may take as much longer as they need at this rate.
    pub bytes_per_second_min: ByteCount,
    /// `tier.store.backoff.ms`: the pause before the first repetition; it doubles from there.
    pub backoff: Duration,
    /// `tier.store.backoff.max.ms`: the longest pause.
    pub backoff_max: Duration,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions {
            deadline: Duration::from_secs(30),
            attempt: Duration::from_secs(10),
            bytes_per_second_min: ByteCount::mib(1),
            backoff: Duration::from_millis(50),
            backoff_max: Duration::from_secs(3),
        }
    }
}

impl StoreOptions {
    /// How long one attempt may take that moves so many bytes.
    pub(super) fn patience(&self, bytes: ByteCount) -> Duration {
        self.attempt + Duration::from_secs(bytes.get() / self.bytes_per_second_min.get().max(1))
    }
}

/// Growing, jittered pauses up to a deadline.
#[derive(Debug)]
pub(crate) struct Retry {
    store: Store,
    deadline: tokio::time::Instant,
    pause: Duration,
}

impl Retry {
    pub(super) fn new(store: Store) -> Retry {
        let (deadline, pause) =
            (store.0.world.clock.now() + store.0.options.deadline, store.0.options.backoff);
        Retry { store, deadline, pause }
    }

    /// Waits before the next attempt; gives the error back once the deadline would pass.
    pub(crate) async fn pause(&mut self, error: StoreError) -> Result<(), StoreError> {
        let world = &self.store.0.world;
        let pause = world.rng.jittered(self.pause);
        if world.clock.now() + pause >= self.deadline {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, "trying again");
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(self.store.0.options.backoff_max);
        Ok(())
    }
}
