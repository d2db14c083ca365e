//! A place in a partition, as people type it.

use std::time::Duration;

use aquifer_model::{Offset, Timestamp};

use crate::cli::consumer::Start;

/// Where to start, or where to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// A place that does not depend on the time.
    Start(Start),
    /// The first record that is not older than this.
    Ago(Duration),
}

impl Whence {
    /// Reads `beginning`, `end`, an offset, `-N`, `@MILLISECONDS` or `@-15m`.
    pub fn parse(text: &str) -> Result<Whence, String> {
        let wrong = || format!("{text:?} is none of beginning, end, an offset, -N, @MILLISECONDS, @-15m");
        let start = match text {
            "beginning" => Start::Beginning,
            "end" => Start::End,
            _ => {
                if let Some(ago) = text.strip_prefix("@-") {
                    return parse_duration(ago).map(Whence::Ago).ok_or_else(wrong);
                }
                if let Some(millis) = text.strip_prefix('@') {
                    let millis: u64 = millis.parse().map_err(|_| wrong())?;
                    Start::Since(Timestamp(i64::try_from(millis).map_err(|_| wrong())?))
                } else if let Some(back) = text.strip_prefix('-') {
                    Start::BeforeEnd(back.parse().map_err(|_| wrong())?)
                } else {
                    Start::At(text.parse().ok().and_then(Offset::new).ok_or_else(wrong)?)
                }
            }
        };
        Ok(Whence::Start(start))
    }

    /// What it means at this time.
    pub fn at(self, now: Timestamp) -> Start {
        match self {
            Whence::Start(start) => start,
            Whence::Ago(ago) => {
                let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                Start::Since(Timestamp(now.millis().saturating_sub(millis).max(0)))
            }
        }
    }
}

/// Reads a number with one of the units s, m, h and d.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_typed() {
        let at = |offset| Offset::new(offset).unwrap();
        for (text, expected) in [
            ("beginning", Some(Whence::Start(Start::Beginning))),
            ("end", Some(Whence::Start(Start::End))),
            ("0", Some(Whence::Start(Start::At(at(0))))),
            ("12", Some(Whence::Start(Start::At(at(12))))),
            ("-5", Some(Whence::Start(Start::BeforeEnd(5)))),
            ("@1700000000000", Some(Whence::Start(Start::Since(Timestamp(1_700_000_000_000))))),
            ("@-90s", Some(Whence::Ago(Duration::from_secs(90)))),
            ("@-2d", Some(Whence::Ago(Duration::from_secs(172_800)))),
            ("@-2w", None),
            ("@-", None),
            ("@", None),
            ("--5", None),
            ("earliest", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(Whence::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_time_ago_is_counted_from_now_and_ends_at_the_first_of_times() {
        let ago = Whence::Ago(Duration::from_secs(60));
        assert_eq!(ago.at(Timestamp(100_000)), Start::Since(Timestamp(40_000)));
        assert_eq!(ago.at(Timestamp(1_000)), Start::Since(Timestamp(0)));
    }
}
