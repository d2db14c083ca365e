//! What goes up next; pure.
//!
//! Replicas roll their segments at different places, so a new leader's segment may begin before the tier's end: it is then
//! uploaded from there on. A segment goes only when all of it is stable: below the high watermark and the last stable offset,
//! so that its aborted transactions are all known.

use aquifer_model::{Offset, OffsetRange};

/// What to do for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Nothing is ready.
    Idle,
    /// Upload the segment with this index.
    Upload(usize),
    /// The local log starts behind the tier's end: records are missing in between. The tier is ahead or the log was trimmed
    /// without proof; uploading would leave a hole.
    Gap {
        /// Where the tier ends.
        tiered_end: Offset,
        /// Where the local log starts.
        local_start: Offset,
    },
}

/// Chooses among the sealed segments, oldest first.
pub fn next(sealed: &[OffsetRange], tiered_end: Option<Offset>, stable: Offset) -> Plan {
    let end = tiered_end.unwrap_or(Offset::ZERO);
    let waiting = sealed.partition_point(|range| range.next <= end);
    let Some(range) = sealed.get(waiting) else {
        return Plan::Idle;
    };
    if let Some(tiered_end) = tiered_end.filter(|end| *end < range.base) {
        return Plan::Gap { tiered_end, local_start: range.base };
    }
    if range.next <= stable { Plan::Upload(waiting) } else { Plan::Idle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_stable_segment_that_is_not_tiered_is_next() {
        let offset = |number| Offset::new(number).unwrap();
        let sealed = |ranges: &[(i64, i64)]| -> Vec<OffsetRange> {
            ranges
                .iter()
                .map(|(base, next)| OffsetRange { base: offset(*base), next: offset(*next) })
                .collect()
        };
        let gap = Plan::Gap { tiered_end: offset(5), local_start: offset(10) };
        for (ranges, end, stable, expected) in [
            (&[][..], None, 100, Plan::Idle),
            (&[(0, 10), (10, 20)], None, 100, Plan::Upload(0)),
            (&[(0, 10), (10, 20)], None, 9, Plan::Idle),
            (&[(0, 10), (10, 20)], Some(10), 100, Plan::Upload(1)),
            (&[(0, 10), (10, 20)], Some(10), 19, Plan::Idle),
            (&[(0, 10), (10, 20)], Some(4), 100, Plan::Upload(0)),
            (&[(0, 10), (10, 20)], Some(20), 100, Plan::Idle),
            (&[(0, 10), (10, 20)], Some(25), 100, Plan::Idle),
            (&[(10, 20)], Some(5), 100, gap),
            (&[(10, 20)], None, 100, Plan::Upload(0)),
        ] {
            assert_eq!(
                next(&sealed(ranges), end.map(offset), offset(stable)),
                expected,
                "{ranges:?} {end:?} {stable}"
            );
        }
    }
}
