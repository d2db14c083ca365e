//! How long requests took, in a histogram: recording costs some nanoseconds and no memory, percentiles keep three digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Shorter times are all one.
const LOWEST_NS: u64 = 100;
/// Longer times are all one: an hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;
/// Digits that are kept.
const DIGITS: u8 = 3;

/// Latencies of one kind.
#[derive(Debug, Clone)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS);
        Latencies(histogram.expect("these constants are bounds that a histogram may have"))
    }

    pub(super) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes in what another has recorded.
    pub(super) fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many were recorded.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency in milliseconds that so large a part of all does not exceed; `None` where nothing was recorded.
    pub(super) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (self.count() > 0).then(|| millis(self.0.value_at_quantile(quantile)))
    }

    /// The longest, in milliseconds.
    pub(super) fn max_ms(&self) -> Option<f64> {
        (self.count() > 0).then(|| millis(self.0.max()))
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_that_were_added() {
        let mut all = Latencies::new();
        assert_eq!((all.quantile_ms(0.5), all.max_ms()), (None, None));
        for part in 0..4 {
            let mut some = Latencies::new();
            (1..=1000).filter(|ms| ms % 4 == part).for_each(|ms| some.record(Duration::from_millis(ms)));
            all.add(&some);
        }
        assert_eq!(all.count(), 1000);
        for (quantile, expected) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0)] {
            let found = all.quantile_ms(quantile).unwrap();
            assert!((found / expected - 1.0).abs() < 0.002, "{quantile}: {found}");
        }
        all.record(Duration::from_secs(1 << 40));
        assert!(all.max_ms().unwrap() > 3_000_000.0, "what is too long is not lost");
    }
}
