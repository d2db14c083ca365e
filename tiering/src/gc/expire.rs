//! What retention takes; pure.
//!
//! As in Kafka: whole segments, oldest first, and none behind one that stays. By age a segment goes once its newest record is
//! too old; by size while the rest alone is still as large as what is to be kept; by the log start once all of it lies before.

use std::time::Duration;

use aquifer_model::{ByteCount, Offset, Timestamp};

use crate::manifest::Entry;

/// What to keep. `None` each time: everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// `retention.bytes`, less what is not tiered yet.
    pub bytes: Option<ByteCount>,
    /// `retention.ms`.
    pub age: Option<Duration>,
    /// Nothing before this offset (`DeleteRecords`).
    pub start: Option<Offset>,
}

/// How many of the oldest entries go, out of a partition with `total` bytes of log.
pub fn due(
    oldest: &[Entry],
    total: ByteCount,
    log_start: Offset,
    retention: Retention,
    now: Timestamp,
) -> usize {
    let mut left = total;
    let goes = |entry: &&Entry| {
        let segment = &entry.segment;
        let rest = left.saturating_sub(segment.log_bytes);
        let before = segment.range.next <= log_start;
        // A segment whose records carry no time has that of its sealing.
        let newest =
            if segment.timestamp_max < Timestamp(0) { segment.sealed_at } else { segment.timestamp_max };
        let old = retention.age.is_some_and(|age| now.since(newest) > age);
        let much = retention.bytes.is_some_and(|bytes| rest >= bytes);
        left = rest;
        before || old || much
    };
    oldest
        .iter()
        .take_while({
            let mut goes = goes;
            move |entry| goes(entry)
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::entry;

    #[test]
    fn whole_segments_go_from_the_front() {
        // Three segments of 100 bytes; newest records at 1 s, 5 s and 2 s.
        let stamped = |base, next, timestamp| {
            let mut entry = entry(base, next);
            entry.segment.log_bytes = ByteCount(100);
            entry.segment.timestamp_max = Timestamp(timestamp);
            entry
        };
        let entries = [stamped(0, 10, 1_000), stamped(10, 20, 5_000), stamped(20, 30, 2_000)];
        let age = |millis| Retention { age: Some(Duration::from_millis(millis)), ..Retention::default() };
        let bytes = |bytes| Retention { bytes: Some(ByteCount(bytes)), ..Retention::default() };
        let keep = Retention::default();
        for (retention, log_start, now, expected) in [
            (keep, 0, 1_000_000, 0),
            (keep, 9, 0, 0),
            (keep, 10, 0, 1),
            (keep, 25, 0, 2),
            (age(1_000), 0, 2_000, 0),
            (age(1_000), 0, 2_001, 1),
            // The third is older than the second, and stays behind it.
            (age(1_000), 0, 5_000, 1),
            (age(1_000), 0, 6_001, 3),
            (bytes(300), 0, 0, 0),
            (bytes(200), 0, 0, 1),
            (bytes(150), 0, 0, 1),
            (bytes(0), 0, 0, 3),
        ] {
            let start = Offset::new(log_start).unwrap();
            let found = due(&entries, ByteCount(300), start, retention, Timestamp(now));
            assert_eq!(found, expected, "{retention:?} start {log_start} now {now}");
        }
        let mut timeless = entries[0].clone();
        timeless.segment.timestamp_max = Timestamp::NONE;
        timeless.segment.sealed_at = Timestamp(4_000);
        assert_eq!(due(&[timeless], ByteCount(100), Offset::ZERO, age(1_000), Timestamp(4_500)), 0);
    }
}
