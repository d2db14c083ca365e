//! How long requests took: the first of a connection one by one, then in a histogram, whose percentiles keep three digits.
//!
//! A histogram takes 213 KiB, and ten thousand connections with three of them each would spend the first second of a run on fresh
//! memory: on what they are to measure.

use std::borrow::Cow;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Shorter times are all one.
const LOWEST_NS: u64 = 100;
/// Longer times are all one: an hour.
const HIGHEST_NS: u64 = 3_600_000_000_000;
/// Digits that are kept.
const DIGITS: u8 = 3;
/// So many are kept one by one: some KiB.
const FEW: usize = 512;

/// Latencies of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Latencies {
    /// In nanoseconds, as long as they are few.
    few: Vec<u64>,
    /// All of them, once they are more.
    many: Option<Histogram<u64>>,
}

impl Latencies {
    pub(super) fn new() -> Latencies {
        Latencies::default()
    }

    pub(super) fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        match &mut self.many {
            Some(many) => many.saturating_record(nanos),
            None if self.few.len() < FEW => self.few.push(nanos),
            None => self.many().saturating_record(nanos),
        }
    }

    /// Takes in what another has recorded.
    pub(super) fn add(&mut self, other: &Latencies) {
        let into = self.many();
        other.few.iter().for_each(|nanos| into.saturating_record(*nanos));
        if let Some(many) = &other.many {
            into.add(many).expect("all have the same bounds");
        }
    }

    /// How many were recorded.
    pub(super) fn count(&self) -> u64 {
        self.few.len() as u64 + self.many.as_ref().map_or(0, Histogram::len)
    }

    /// The latency in milliseconds that so large a part of all does not exceed; `None` where nothing was recorded.
    pub(super) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        (self.count() > 0).then(|| millis(self.all().value_at_quantile(quantile)))
    }

    /// The longest, in milliseconds.
    pub(super) fn max_ms(&self) -> Option<f64> {
        (self.count() > 0).then(|| millis(self.all().max()))
    }

    fn all(&self) -> Cow<'_, Histogram<u64>> {
        self.many.as_ref().map_or_else(|| Cow::Owned(histogram_of(&self.few)), Cow::Borrowed)
    }

    /// All of them, from now on in a histogram.
    fn many(&mut self) -> &mut Histogram<u64> {
        let few = std::mem::take(&mut self.few);
        self.many.get_or_insert_with(|| histogram_of(&few))
    }
}

fn histogram_of(few: &[u64]) -> Histogram<u64> {
    let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS);
    let mut histogram = histogram.expect("these constants are bounds that a histogram may have");
    few.iter().for_each(|nanos| histogram.saturating_record(*nanos));
    histogram
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
        let mut few = Latencies::new();
        (1..=10).for_each(|ms| few.record(Duration::from_millis(ms)));
        assert_eq!(
            (few.count(), few.quantile_ms(0.5).map(f64::round), few.many.is_none()),
            (10, Some(5.0), true)
        );
        (11..=2000).for_each(|ms| few.record(Duration::from_millis(ms)));
        assert_eq!(few.count(), 2000);
        for (found, expected) in [(few.quantile_ms(0.5), 1000.0), (few.max_ms(), 2000.0)] {
            assert!((found.unwrap() / expected - 1.0).abs() < 0.002, "the first are among them: {found:?}");
        }
        all.record(Duration::from_secs(1 << 40));
        assert!(all.max_ms().unwrap() > 3_000_000.0, "what is too long is not lost");
    }
}
