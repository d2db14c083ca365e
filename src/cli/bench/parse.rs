//! Numbers as people type them.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest time that a run may take.
const SECONDS_MAX: f64 = 7.0 * 86_400.0;

/// Records a second, at least and at most.
const RATES: RangeInclusive<f64> = 0.001..=1e8;

/// Reads a number of records a second.
pub(super) fn rate(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| RATES.contains(number));
    number.ok_or_else(|| format!("{text:?} is no number from {} to {}", RATES.start(), RATES.end()))
}

/// Reads a time in seconds, perhaps with a fraction.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|number: &f64| (0.0..=SECONDS_MAX).contains(number));
    number
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("{text:?} is no time between 0 seconds and a week"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sensible() {
        assert_eq!(rate("0.5"), Ok(0.5));
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for text in ["", "a", "-1", "NaN", "inf", "1e300", "1e300000"] {
            assert!(rate(text).is_err() && seconds(text).is_err(), "{text}");
        }
        assert!(rate("0").is_err() && rate("1e-300").is_err());
        assert!(seconds("0").is_ok() && seconds("1e9").is_err());
    }
}
