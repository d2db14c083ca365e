//! Tokens that come back with time (KIP-599). Pure: time comes in.
//!
//! A burst is free, since who sets a cluster up makes many partitions at once; what goes on for long is held to a rate. Whoever
//! finds the bucket not in debt is let through whole, and may leave a debt: otherwise a topic larger than the burst could never
//! be made.

use std::time::Duration;

use tokio::time::Instant;

/// The bucket. The rate at which it is filled is told each time, since it may be changed: what is owed is then paid back at the new
/// one.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    /// After a rest as much may be taken at once as else in so long.
    burst: Duration,
    /// Tokens. Below zero it is in debt.
    held: f64,
    filled: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn full(burst: Duration, per_second: f64, now: Instant) -> TokenBucket {
        TokenBucket { burst, held: burst.as_secs_f64() * per_second, filled: now }
    }

    /// How long it is in debt yet, in milliseconds rounded up; zero if it is not.
    pub(crate) fn debt(&mut self, per_second: f64, now: Instant) -> Duration {
        self.fill(per_second, now);
        // As many as an answer can tell, if the rate is next to nothing.
        let millis = (-self.held / per_second * 1000.0).ceil().clamp(0.0, f64::from(i32::MAX));
        Duration::from_millis(millis as u64)
    }

    /// Takes `tokens`, whether they are there or not.
    pub(crate) fn take(&mut self, tokens: usize, per_second: f64, now: Instant) {
        self.fill(per_second, now);
        self.held -= tokens as f64;
    }

    fn fill(&mut self, per_second: f64, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.held = (self.held + passed * per_second).min(self.burst.as_secs_f64() * per_second);
        self.filled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BURST: Duration = Duration::from_secs(100);

    #[test]
    fn a_burst_is_free_a_debt_is_waited_for_and_a_rest_gives_no_more_than_a_burst() {
        let began = aquifer_runtime::clock::Clock::system().now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut bucket = TokenBucket::full(BURST, 100.0, began);
        bucket.take(9_900, 100.0, at(0));
        assert_eq!(bucket.debt(100.0, at(0)), Duration::ZERO, "some are left");
        bucket.take(1_000, 100.0, at(0));
        assert_eq!(bucket.debt(100.0, at(0)), Duration::from_secs(9));
        assert_eq!(bucket.debt(100.0, at(10)), Duration::ZERO);
        bucket.take(200, 100.0, at(10));
        assert_eq!(bucket.debt(100.0, at(10)), Duration::from_secs(1));
        assert_eq!(bucket.debt(100.0, at(100_000)), Duration::ZERO);
        bucket.take(10_100, 100.0, at(100_000));
        assert_eq!(
            bucket.debt(100.0, at(100_000)),
            Duration::from_secs(1),
            "a rest gives no more than a burst"
        );
    }

    /// The example that Kafka gives: 5 a second, a burst of 500, 560 at once.
    #[test]
    fn a_debt_lasts_as_long_as_what_was_too_much() {
        let now = aquifer_runtime::clock::Clock::system().now();
        let mut bucket = TokenBucket::full(BURST, 5.0, now);
        bucket.take(560, 5.0, now);
        assert_eq!(bucket.debt(5.0, now), Duration::from_secs(12));
    }

    #[test]
    fn a_debt_is_paid_back_at_the_rate_that_holds_by_then() {
        let began = aquifer_runtime::clock::Clock::system().now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut bucket = TokenBucket::full(BURST, 5.0, began);
        bucket.take(560, 5.0, at(0));
        assert_eq!(bucket.debt(60.0, at(0)), Duration::from_secs(1), "it was raised");
        assert_eq!(bucket.debt(0.5, at(0)), Duration::from_secs(120), "it was lowered");
        assert_eq!(bucket.debt(10.0, at(3)), Duration::from_secs(3), "what has passed counts at it, too");
        assert_eq!(bucket.debt(10.0, at(6)), Duration::ZERO);
        // Of what was saved at a higher rate no more is left than a burst of the lower.
        assert_eq!(bucket.debt(5.0, at(1_000)), Duration::ZERO);
        bucket.take(101, 1.0, at(1_000));
        assert_eq!(bucket.debt(1.0, at(1_000)), Duration::from_secs(1));
    }

    #[test]
    fn a_rate_next_to_nothing_is_overcome_by_a_higher_one() {
        let began = aquifer_runtime::clock::Clock::system().now();
        let at = |seconds| began + Duration::from_secs(seconds);
        for tiny in [f64::MIN_POSITIVE, 1e-300, 1e-9] {
            let mut bucket = TokenBucket::full(BURST, tiny, began);
            bucket.take(10, tiny, at(0));
            assert_eq!(bucket.debt(tiny, at(1)), Duration::from_millis(i32::MAX as u64), "{tiny}");
            assert_eq!(bucket.debt(5.0, at(1)), Duration::from_secs(2), "{tiny}");
            assert_eq!(bucket.debt(5.0, at(3)), Duration::ZERO, "{tiny}");
        }
    }
}
