//! Work that nobody waits for, held back to so many bytes a second.

use std::time::Duration;

use aquifer_model::ByteCount;
use tokio::time::Instant;

use crate::clock::Clock;

/// A steady rate. What was not used in time is not made up for: an idle hour is no reason for a rush.
#[derive(Debug)]
pub struct Pace {
    clock: Clock,
    per_second: Option<ByteCount>,
    due: Instant,
}

impl Pace {
    /// At most `per_second`; as fast as it goes where that is `None`.
    pub fn new(clock: Clock, per_second: Option<ByteCount>) -> Pace {
        let due = clock.now();
        Pace { clock, per_second, due }
    }

    /// Takes note of bytes that were read, and waits until their time is over.
    pub async fn spent(&mut self, bytes: ByteCount) {
        let Some(per_second) = self.per_second else { return };
        let took = Duration::from_secs_f64(bytes.get() as f64 / per_second.get().max(1) as f64);
        self.due = self.due.max(self.clock.now()) + took;
        tokio::time::sleep_until(self.due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_idleness_is_not_made_up_for() {
        let clock = Clock::system();
        let mut pace = Pace::new(clock, Some(ByteCount(1000)));
        let began = clock.now();
        for _ in 0..4 {
            pace.spent(ByteCount(500)).await;
        }
        assert_eq!(clock.now() - began, Duration::from_secs(2));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = clock.now();
        pace.spent(ByteCount(1000)).await;
        assert_eq!(clock.now() - began, Duration::from_secs(1));
        Pace::new(clock, None).spent(ByteCount::mib(1000)).await;
        assert_eq!(clock.now() - began, Duration::from_secs(1));
    }
}
