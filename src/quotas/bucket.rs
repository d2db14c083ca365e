//! Tokens that come back with time (KIP-599). Pure: time comes in.
//!
//! A burst is free, since who sets a cluster up makes many partitions at once; what goes on for long is held to a rate. Whoever
//! finds the bucket not in debt is let through whole, and may leave a debt: otherwise a topic larger than the burst could never
//! be made.

use std::time::Duration;

use tokio::time::Instant;

/// The bucket. What it holds is kept in seconds' worth, so that it stays right when the rate is changed.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    /// After a rest as much may be taken at once as else in so many seconds.
    burst: f64,
    /// Below zero it is in debt.
    held: f64,
    filled: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn full(burst: Duration, now: Instant) -> TokenBucket {
        TokenBucket { burst: burst.as_secs_f64(), held: burst.as_secs_f64(), filled: now }
    }

    /// How long it is in debt yet, in milliseconds rounded up; zero if it is not.
    pub(crate) fn debt(&mut self, now: Instant) -> Duration {
        self.fill(now);
        let millis = (-self.held * 1000.0).ceil().clamp(0.0, f64::from(i32::MAX));
        Duration::from_millis(millis as u64)
    }

    /// Takes `tokens`, which come back at `per_second`, whether they are there or not.
    pub(crate) fn take(&mut self, tokens: usize, per_second: f64, now: Instant) {
        self.fill(now);
        self.held -= tokens as f64 / per_second;
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.held = (self.held + passed).min(self.burst);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_a_debt_is_waited_for_and_a_rest_gives_no_more_than_a_burst() {
        let began = aquifer_runtime::clock::Clock::system().now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut bucket = TokenBucket::full(Duration::from_secs(100), began);
        bucket.take(9_900, 100.0, at(0));
        assert_eq!(bucket.debt(at(0)), Duration::ZERO, "some are left");
        bucket.take(1_000, 100.0, at(0));
        let debt = bucket.debt(at(0)).as_secs_f64();
        assert!((9.0..9.1).contains(&debt), "{debt}");
        assert_eq!(bucket.debt(at(10)), Duration::ZERO);
        bucket.take(200, 100.0, at(10));
        assert_eq!(bucket.debt(at(10)), Duration::from_secs(1));
        assert_eq!(bucket.debt(at(100_000)), Duration::ZERO);
        bucket.take(10_100, 100.0, at(100_000));
        assert_eq!(bucket.debt(at(100_000)), Duration::from_secs(1), "a rest gives no more than a burst");
    }

    /// The example that Kafka gives: 5 a second, a burst of 500, 560 at once.
    #[test]
    fn a_debt_lasts_as_long_as_what_was_too_much() {
        let now = aquifer_runtime::clock::Clock::system().now();
        let mut bucket = TokenBucket::full(Duration::from_secs(100), now);
        bucket.take(560, 5.0, now);
        assert_eq!(bucket.debt(now), Duration::from_secs(12));
    }
}
