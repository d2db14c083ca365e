//! How much was used, over a few windows of time: Kafka's rate of sampled sums. Pure: time comes in.
//!
//! Use is summed up in samples, each of which begins with the first use behind the end of the one before. The rate is what all
//! samples hold, by the time since the oldest began, which is taken to be no less than all windows but the newest: who has used
//! nothing for a while may use at once what all of these allow. A sample counts as a whole until nothing in it lies within the
//! windows any more, so that who spends everything at once is held back until then, and over a long while gets what is allowed.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How many windows of which length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    /// At least two, the newest of which is not over yet.
    pub(crate) count: u32,
    pub(crate) size: Duration,
}

impl Windows {
    /// The time of all of them.
    fn all(self) -> Duration {
        self.size * self.count
    }

    /// The time of those that are over, in seconds: what may be used at once after a rest is a rate's worth of it.
    pub(super) fn whole_seconds(self) -> f64 {
        (self.size * self.count.saturating_sub(1)).as_secs_f64()
    }
}

/// What was used lately.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// Oldest first.
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    began: Instant,
    last: Instant,
    used: f64,
}

impl Rate {
    /// Adds what was used; below zero, it takes back what was not used after all.
    pub(super) fn record(&mut self, used: f64, windows: Windows, now: Instant) {
        match self.samples.back_mut() {
            Some(sample) if now.saturating_duration_since(sample.began) < windows.size => {
                sample.used += used;
                sample.last = now;
            }
            Some(_) | None => {
                self.samples.push_back(Sample { began: now, last: now, used });
                if self.samples.len() > windows.count as usize + 1 {
                    self.samples.pop_front();
                }
            }
        }
    }

    /// What was used within the windows.
    pub(super) fn used(&mut self, windows: Windows, now: Instant) -> f64 {
        self.samples.retain(|sample| now.saturating_duration_since(sample.last) < windows.all());
        self.samples.iter().map(|sample| sample.used).sum()
    }

    /// How long to use nothing, until what was used is no more than `per_second`.
    pub(super) fn rest(&mut self, per_second: f64, windows: Windows, now: Instant) -> Duration {
        // With a rate R over the time T, (R - limit) / limit * T is this.
        let seconds = self.used(windows, now) / per_second - self.span(windows, now);
        rounded(seconds)
    }

    /// The time over which what is held was used, in seconds.
    fn span(&self, windows: Windows, now: Instant) -> f64 {
        let oldest = self.samples.front().map_or(now, |sample| sample.began);
        let elapsed = now.saturating_duration_since(oldest);
        let over = elapsed.div_duration_f64(windows.size).floor();
        let missing = (f64::from(windows.count) - 1.0 - over).max(0.0);
        elapsed.as_secs_f64() + missing * windows.size.as_secs_f64()
    }
}

/// In whole milliseconds, as Kafka rounds, and no more than an answer can tell.
fn rounded(seconds: f64) -> Duration {
    Duration::from_millis((seconds * 1000.0).round().clamp(0.0, f64::from(i32::MAX)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOWS: Windows = Windows { count: 11, size: Duration::from_secs(1) };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Uses at the given milliseconds, and after the last of them the rest.
    fn check(uses: &[(u64, f64)], per_second: f64, expected_ms: u64) {
        let began = aquifer_runtime::clock::Clock::system().now();
        let mut rate = Rate::default();
        let mut rest = Duration::ZERO;
        for (at, used) in uses {
            let now = began + ms(*at);
            rate.record(*used, WINDOWS, now);
            rest = rate.rest(per_second, WINDOWS, now);
        }
        assert_eq!(rest, ms(expected_ms), "{uses:?} of {per_second} a second");
    }

    /// The figures are Kafka's, by its formulas.
    #[test]
    fn who_uses_more_rests_for_the_difference() {
        // Ten seconds' worth is free at first.
        check(&[(0, 5000.0)], 500.0, 0);
        // 5250 / 10 s is 525; (525 - 500) / 500 * 10 s.
        check(&[(0, 5250.0)], 500.0, 500);
        // The window in progress counts: 5600 / 10.5 s is 533.3; 33.3 / 500 * 10.5 s.
        check(&[(0, 5000.0), (500, 600.0)], 500.0, 700);
        // At its end the time falls back to ten windows, as there are fewer that are missing.
        check(&[(0, 5000.0), (1000, 600.0)], 500.0, 1200);
        // From ten seconds on, it is the time since the oldest sample began: 6000 / 10.5 s.
        check(&[(0, 5000.0), (10_500, 1000.0)], 500.0, 1500);
        // What lies behind the windows is forgotten, and with the only sample also how long ago it was.
        check(&[(0, 5000.0), (11_000, 5000.0)], 500.0, 0);
        // A sample is kept whole while some of it lies within: 10001 / 11.5 s.
        check(&[(0, 5000.0), (999, 1.0), (11_500, 5000.0)], 500.0, 8502);
        check(&[(0, 5000.0), (999, 1.0), (11_999, 5000.0)], 500.0, 0);
    }

    #[test]
    fn what_is_taken_back_was_never_used() {
        let now = aquifer_runtime::clock::Clock::system().now();
        let mut rate = Rate::default();
        rate.record(1000.0, WINDOWS, now);
        rate.record(9000.0, WINDOWS, now + ms(10));
        assert_eq!(rate.rest(500.0, WINDOWS, now + ms(10)), ms(9990));
        rate.record(-9000.0, WINDOWS, now + ms(10));
        assert_eq!(rate.rest(500.0, WINDOWS, now + ms(10)), Duration::ZERO);
        assert_eq!(rate.used(WINDOWS, now + ms(10)), 1000.0);
    }

    /// Whoever always uses more at once, and rests for as long as it is told, gets what is allowed over three times all windows.
    #[test]
    fn over_a_long_while_it_is_what_is_allowed() {
        for used in [1_000.0, 16_384.0, 64_000.0, 250_000.0] {
            let began = aquifer_runtime::clock::Clock::system().now();
            let (mut rate, mut now, mut sum) = (Rate::default(), began, 0.0);
            let end = began + WINDOWS.all() * 3;
            while now < end {
                rate.record(used, WINDOWS, now);
                sum += used;
                now += rate.rest(1e6, WINDOWS, now) + ms(1);
            }
            let share = sum / 1e6 / (WINDOWS.all() * 3).as_secs_f64();
            assert!((0.95..1.1).contains(&share), "{used} at a time: {share}");
        }
    }

    #[test]
    fn samples_are_bounded_and_long_rests_can_be_told() {
        let mut now = aquifer_runtime::clock::Clock::system().now();
        let mut rate = Rate::default();
        for _ in 0..100 {
            rate.record(1.0, WINDOWS, now);
            now += ms(1000);
        }
        assert!(rate.samples.len() <= 12);
        rate.record(1e300, WINDOWS, now);
        assert_eq!(rate.rest(1e-300, WINDOWS, now), ms(i32::MAX as u64));
    }
}
