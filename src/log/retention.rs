//! Which local segments may go. Pure.
//!
//! Segments go oldest first and only as a whole, so the answer is one offset. A segment's age counts from the *earlier* of its
//! newest record and the moment it was sealed, so that a timestamp in the future cannot pin the disk for ever. What must not go
//! whatever its age (not yet in the bucket, not yet replicated) is the caller's `limit`.

use std::time::Duration;

use aquifer_model::{ByteCount, Offset, SealedSegment, Timestamp};

/// How much is kept. `None` is without end (Kafka's -1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// For how long.
    pub time: Option<Duration>,
    /// How many bytes, the open segment included.
    pub size: Option<ByteCount>,
}

/// All of `segments` (sealed, oldest first) that ends at or below the answer may go; `None` if nothing may. `active` is what the
/// open segment holds; nothing that reaches beyond `limit` goes.
pub fn removable_before(
    segments: &[SealedSegment],
    active: ByteCount,
    keep: Keep,
    limit: Offset,
    now: Timestamp,
) -> Option<Offset> {
    let mut held: ByteCount = segments.iter().map(|segment| segment.log_bytes).sum::<ByteCount>() + active;
    let mut before = None;
    for segment in segments {
        let old = keep.time.is_some_and(|time| aged_from(segment).plus(time) < now);
        // As in Kafka, a segment goes only if what is left still holds what was asked for.
        let spare = keep.size.is_some_and(|size| held.saturating_sub(segment.log_bytes) >= size);
        if segment.range.next > limit || !(old || spare) {
            break;
        }
        held = held.saturating_sub(segment.log_bytes);
        before = Some(segment.range.next);
    }
    before
}

fn aged_from(segment: &SealedSegment) -> Timestamp {
    if segment.timestamp_max == Timestamp::NONE {
        return segment.sealed_at;
    }
    segment.timestamp_max.min(segment.sealed_at)
}

#[cfg(test)]
mod tests {
    use aquifer_model::{LeaderEpochs, OffsetRange};

    use super::*;

    const NOW: i64 = 1_000_000;

    /// Ten records and 100 bytes each: (newest timestamp, sealed at).
    fn segments(times: &[(i64, i64)]) -> Vec<SealedSegment> {
        let offset = |number: usize| Offset::new(number as i64 * 10).unwrap();
        let segment = |(at, &(newest, sealed)): (usize, &(i64, i64))| SealedSegment {
            range: OffsetRange { base: offset(at), next: offset(at + 1) },
            log_bytes: ByteCount(100),
            timestamp_max: Timestamp(newest),
            sealed_at: Timestamp(sealed),
            epochs: LeaderEpochs::new(),
        };
        times.iter().enumerate().map(segment).collect()
    }

    #[track_caller]
    fn check(times: &[(i64, i64)], time: Option<u64>, size: Option<u64>, limit: i64, expected: Option<i64>) {
        let keep = Keep { time: time.map(Duration::from_millis), size: size.map(ByteCount) };
        let limit = Offset::new(limit).unwrap();
        let found = removable_before(&segments(times), ByteCount(50), keep, limit, Timestamp(NOW));
        assert_eq!(found.map(Offset::get), expected);
    }

    #[test]
    fn old_segments_go_oldest_first_and_never_beyond_the_limit() {
        let old = (NOW - 500, NOW - 400);
        let young = (NOW - 50, NOW - 40);
        check(&[old, old, young], Some(100), None, 1000, Some(20));
        check(&[old, old, young], Some(100), None, 19, Some(10));
        check(&[old, old, young], Some(100), None, 9, None);
        check(&[young, old], Some(100), None, 1000, None);
        check(&[old], None, None, 1000, None);
        check(&[], Some(0), Some(0), 1000, None);
    }

    #[test]
    fn a_timestamp_in_the_future_or_none_ages_from_the_sealing() {
        check(&[(NOW + 999_999, NOW - 400)], Some(100), None, 1000, Some(10));
        check(&[(-1, NOW - 50)], Some(100), None, 1000, None);
        check(&[(-1, NOW - 400)], Some(100), None, 1000, Some(10));
    }

    #[test]
    fn by_size_only_what_is_wholly_spare_goes() {
        let young = (NOW, NOW);
        check(&[young, young, young], None, Some(350), 1000, None);
        check(&[young, young, young], None, Some(250), 1000, Some(10));
        check(&[young, young, young], None, Some(249), 1000, Some(10));
        check(&[young, young, young], None, Some(150), 1000, Some(20));
        check(&[young, young, young], None, Some(0), 15, Some(10));
    }
}
