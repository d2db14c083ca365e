//! What of a log is to be compacted, and how urgently. Pure.
//!
//! The *clean* part is what earlier passes have compacted; behind it lies the *dirty* part, of whole closed segments: none that
//! reaches beyond what is replicated and decided, and none whose newest record is younger than `min.compaction.lag.ms`.
//! A segment's time is the earlier of its newest record's and its closing, so that a timestamp in the future cannot keep a log
//! from being compacted for ever.

use aquifer_model::{ByteCount, Offset, OffsetRange, Timestamp};

use super::super::checkpoint::SealedFacts;
use crate::config::Compaction;

/// The dirty part of a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dirt {
    /// The offsets that a pass reads the keys of.
    pub range: OffsetRange,
    /// Bytes of it.
    pub bytes: ByteCount,
    /// Its share of what there is up to its end.
    pub ratio: f64,
    /// Whether its first record is older than `max.compaction.lag.ms`.
    pub is_overdue: bool,
}

impl Dirt {
    /// Whether it is time for a pass.
    pub fn is_due(&self, settings: &Compaction) -> bool {
        self.is_overdue || self.ratio > settings.dirty_ratio_min
    }
}

/// The dirty part of a log whose closed segments are `sealed`, of which all below `clean_below` is clean. Nothing that reaches beyond
/// `limit` is compacted. `first_record` is asked for the time of a segment's first record, seldom.
pub(super) fn dirt<E>(
    sealed: &[SealedFacts],
    clean_below: Offset,
    limit: Offset,
    settings: &Compaction,
    now: Timestamp,
    first_record: impl FnOnce(&SealedFacts) -> Result<Timestamp, E>,
) -> Result<Option<Dirt>, E> {
    let behind = sealed.partition_point(|facts| facts.range.next <= clean_below);
    let (clean, rest) = sealed.split_at(behind);
    let may_go = |facts: &&SealedFacts| {
        facts.range.next <= limit && aged_from(facts.timestamp_max, facts).plus(settings.lag_min) <= now
    };
    let dirty = &rest[..rest.iter().take_while(may_go).count()];
    let (Some(first), Some(last)) = (dirty.first(), dirty.last()) else { return Ok(None) };
    let sum = |facts: &[SealedFacts]| facts.iter().map(|facts| facts.bytes).sum::<ByteCount>();
    let (clean_bytes, bytes) = (sum(clean), sum(dirty));
    let ratio = bytes.get() as f64 / (clean_bytes + bytes).get().max(1) as f64;
    let is_overdue = match settings.lag_max {
        Some(lag) => aged_from(first_record(first)?, first).plus(lag) <= now,
        None => false,
    };
    let range = OffsetRange { base: clean_below.max(first.range.base), next: last.range.next };
    Ok(Some(Dirt { range, bytes, ratio, is_overdue }))
}

fn aged_from(time: Timestamp, facts: &SealedFacts) -> Timestamp {
    if time == Timestamp::NONE { facts.sealed_at } else { time.min(facts.sealed_at) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use super::*;

    const NOW: i64 = 1_000_000;

    fn offset(number: i64) -> Offset {
        Offset::new(number).unwrap()
    }

    /// Ten offsets and 100 bytes each: (newest timestamp, closed at).
    fn segments(times: &[(i64, i64)]) -> Vec<SealedFacts> {
        let segment = |(at, &(newest, closed)): (i64, &(i64, i64))| SealedFacts {
            range: OffsetRange { base: offset(at * 10), next: offset(at * 10 + 10) },
            bytes: ByteCount(100),
            timestamp_max: Timestamp(newest),
            sealed_at: Timestamp(closed),
            aborted: 0,
        };
        (0..).zip(times).map(segment).collect()
    }

    const OLD: (i64, i64) = (NOW - 500, NOW - 400);
    const YOUNG: (i64, i64) = (NOW - 50, NOW - 40);

    /// Expects (first offset, end, ratio).
    #[track_caller]
    fn check(
        times: &[(i64, i64)],
        clean_below: i64,
        limit: i64,
        lag: u64,
        expected: Option<(i64, i64, f64)>,
    ) {
        let settings = Compaction { lag_min: Duration::from_millis(lag), ..Compaction::default() };
        let first = |_: &SealedFacts| -> Result<Timestamp, Infallible> { unreachable!("there is no bound") };
        let now = Timestamp(NOW);
        let found =
            dirt(&segments(times), offset(clean_below), offset(limit), &settings, now, first).unwrap();
        let found = found.map(|dirt| (dirt.range.base.get(), dirt.range.next.get(), dirt.ratio));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_dirty_part_is_whole_segments_below_the_limit_and_old_enough() {
        check(&[OLD, OLD, OLD], 0, 1000, 100, Some((0, 30, 1.0)));
        check(&[OLD, OLD, OLD], 10, 1000, 100, Some((10, 30, 2.0 / 3.0)));
        // A pass that had no room for more keys has stopped within a segment.
        check(&[OLD, OLD, OLD], 15, 1000, 100, Some((15, 30, 2.0 / 3.0)));
        check(&[OLD, OLD, OLD], 30, 1000, 100, None);
        check(&[OLD, OLD, OLD], 0, 29, 100, Some((0, 20, 1.0)));
        check(&[OLD, OLD, OLD], 0, 9, 100, None);
        check(&[OLD, YOUNG, OLD], 0, 1000, 100, Some((0, 10, 1.0)));
        check(&[YOUNG, OLD], 0, 1000, 100, None);
        check(&[], 0, 1000, 0, None);
        // A timestamp in the future, or none, ages from the closing.
        check(&[(NOW + 999, NOW - 400), (-1, NOW - 400), (-1, NOW - 50)], 0, 1000, 100, Some((0, 20, 1.0)));
    }

    #[test]
    fn a_pass_is_due_by_the_dirty_share_or_by_the_age_of_the_first_dirty_record() {
        for (lag_max, first, closed, share, due) in [
            (None, 0, NOW - 400, 0.5, true),
            (None, 0, NOW - 400, 0.8, false),
            (Some(300), NOW - 301, NOW - 200, 0.8, true),
            (Some(300), NOW - 299, NOW - 200, 0.8, false),
            // No time, or one in the future, ages from the closing.
            (Some(300), -1, NOW - 400, 0.8, true),
            (Some(300), -1, NOW - 200, 0.8, false),
            (Some(300), NOW + 999, NOW - 400, 0.8, true),
        ] {
            let settings = Compaction {
                lag_max: lag_max.map(Duration::from_millis),
                dirty_ratio_min: share,
                ..Compaction::default()
            };
            let asked = |facts: &SealedFacts| -> Result<Timestamp, Infallible> {
                assert_eq!(facts.range.base, offset(10));
                Ok(Timestamp(first))
            };
            let segments = segments(&[(NOW - 500, closed); 3]);
            let now = Timestamp(NOW);
            let found = dirt(&segments, offset(10), Offset::MAX, &settings, now, asked).unwrap().unwrap();
            assert_eq!(found.is_due(&settings), due, "{lag_max:?} {first} {closed} {share}");
        }
    }
}
