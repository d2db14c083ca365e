//! How fast partitions may be made and deleted (KIP-599's token bucket). Pure: time comes in.
//!
//! Each costs files, an entry of the metadata log and an object in the bucket. A burst is free, since who sets a cluster up makes
//! many at once; what goes on for long is held to a rate. As in KIP-599 whoever finds a token left is let through whole, and
//! leaves a debt if it wants more than there are: otherwise a topic larger than the burst could never be made.

use std::time::Duration;

use tokio::time::Instant;

/// After a rest as many may come at once as else in so long.
const BURST_SECONDS: f64 = 100.0;

/// The bucket of tokens.
#[derive(Debug)]
pub(super) struct CreationRate {
    /// In seconds' worth, so that it stays right when the rate is changed.
    tokens: f64,
    filled: Instant,
}

impl CreationRate {
    /// Full.
    pub(super) fn new(now: Instant) -> CreationRate {
        CreationRate { tokens: BURST_SECONDS, filled: now }
    }

    /// Takes `partitions`, which come back at `per_second`; or says how long to wait for that.
    pub(super) fn take(&mut self, partitions: usize, per_second: u32, now: Instant) -> Result<(), Duration> {
        let per_second = f64::from(per_second);
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed).min(BURST_SECONDS);
        self.filled = now;
        let one = 1.0 / per_second;
        if self.tokens < one {
            return Err(Duration::from_secs_f64(one - self.tokens));
        }
        self.tokens -= partitions as f64 * one;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_a_debt_is_waited_for_and_a_rest_gives_no_more_than_a_burst() {
        let began = aquifer_runtime::clock::Clock::system().now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut rate = CreationRate::new(began);
        assert_eq!(rate.take(9_900, 100, at(0)), Ok(()));
        assert_eq!(rate.take(1_000, 100, at(0)), Ok(()), "some are left");
        let wait = rate.take(1, 100, at(0)).expect_err("a debt of nine seconds");
        assert!((9.0..9.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(rate.take(1, 100, at(10)), Ok(()));
        assert_eq!(rate.take(10_000, 100, at(100_000)), Ok(()));
        assert!(rate.take(1, 100, at(100_000)).is_err());
    }
}
