//! When to sweep the bucket, what may leave the local disk, where uploads go on: pure.

use std::time::Duration;

use aquifer_model::{ByteCount, Offset, OffsetRange, SealedSegment, Timestamp};
use aquifer_tiering::ManifestVersion;
use aquifer_tiering::gc::{CollectDepth, Collected};
use tokio::time::Instant;

use crate::log::{Keep, removable_before};

/// How often the leader looks for what no manifest names.
const ORPHANS_EVERY: Duration = Duration::from_secs(6 * 3600);

/// When to sweep. A sweep costs some requests whether or not there is anything to remove, so that a partition where nothing
/// happens must cost none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sweeps {
    every: Duration,
    late_max: Duration,
    orphans_at: Instant,
    removed_at: Instant,
    /// The manifest that the last sweep went by; `None` if there was none, or it left something.
    clean: Option<ManifestVersion>,
    /// Until then a write that was not answered may still bring what nothing names.
    late_until: Instant,
}

impl Sweeps {
    /// Of a partition that was just claimed. Orphans are first looked for after `first`, which is to differ between partitions;
    /// between two looks at what was removed lies `every`, which is best the grace of what is removed. A write comes at most
    /// `late_max` late, and whoever wrote before this claim may have left some on their way.
    pub(super) fn new(now: Instant, first: Duration, every: Duration, late_max: Duration) -> Sweeps {
        let (orphans_at, removed_at) = (now + first, now + first);
        Sweeps { every, late_max, orphans_at, removed_at, clean: None, late_until: now + late_max }
    }

    /// A write failed, or was sent more than once: what it has left goes after its grace, and what it brings late after that.
    pub(super) fn doubt(&mut self, now: Instant) {
        self.orphans_at = self.orphans_at.min(now + self.every);
        self.late_until = now + self.late_max;
    }

    /// How thoroughly to sweep now, if at all.
    pub(super) fn due(&self, now: Instant, newest: ManifestVersion) -> Option<CollectDepth> {
        if now >= self.orphans_at {
            return Some(CollectDepth::Orphans);
        }
        (now >= self.removed_at && self.clean != Some(newest)).then_some(CollectDepth::Removed)
    }

    /// Notes a sweep of this depth and what it did; `None` for one that failed.
    pub(super) fn swept(
        &mut self,
        now: Instant,
        depth: CollectDepth,
        collected: Option<Collected>,
        newest: ManifestVersion,
    ) {
        self.removed_at = now + self.every;
        self.clean = collected.filter(|collected| collected.left == 0).map(|_| newest);
        if depth == CollectDepth::Orphans {
            // What failed is tried again sooner, and what has grace is to go when that is over.
            let is_done = collected.is_some_and(|collected| collected.orphans_left == 0);
            let latest_gone = self.late_until + self.every;
            self.orphans_at = match is_done {
                false => now + self.every,
                true if now < latest_gone => latest_gone.min(now + ORPHANS_EVERY),
                true => now + ORPHANS_EVERY,
            };
        }
    }
}

/// Where uploads go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resume {
    /// With the local segment that holds this offset.
    At(Offset),
    /// With the first local segment, which starts here: what lies between it and the bucket's end was deleted.
    SkipTo(Offset),
    /// Not at all: records are missing from here to where the local log starts.
    Gap(Offset),
}

/// Where uploads go on for a log that starts at `log_start` (for readers) and on this disk with a segment at `first_base`.
pub(super) fn resume(tiered_end: Option<Offset>, log_start: Offset, first_base: Offset) -> Resume {
    match tiered_end {
        // The first segment of all may start anywhere, as long as nothing is missing before it.
        None if first_base <= log_start => Resume::At(first_base),
        None => Resume::Gap(log_start),
        Some(end) if end >= first_base => Resume::At(end),
        Some(_) if log_start >= first_base => Resume::SkipTo(first_base),
        Some(end) => Resume::Gap(end),
    }
}

/// How many of the oldest local segments no reader would miss: `covers` says that they are in the bucket, or they lie before the
/// log's start.
pub(super) fn covered(
    sealed: &[SealedSegment],
    log_start: Offset,
    covers: impl Fn(OffsetRange) -> bool,
) -> usize {
    let safe = |segment: &&SealedSegment| {
        let OffsetRange { base, next } = segment.range;
        next <= log_start || covers(OffsetRange { base: base.max(log_start), next })
    };
    sealed.iter().take_while(safe).count()
}

/// Which local segments may go: `None`, or all that end at or below the answer. Nothing goes that a reader would miss.
pub(super) fn trimmable(
    sealed: &[SealedSegment],
    active: ByteCount,
    keep: Keep,
    log_start: Offset,
    covers: impl Fn(OffsetRange) -> bool,
    now: Timestamp,
) -> Option<Offset> {
    let limit = sealed[..covered(sealed, log_start, covers)].last()?.range.next;
    removable_before(sealed, active, keep, limit, now)
}

#[cfg(test)]
mod tests {
    use aquifer_model::LeaderEpochs;

    use super::*;

    fn offset(number: i64) -> Offset {
        Offset::new(number).unwrap()
    }

    #[test]
    fn uploads_go_on_where_the_bucket_ends_and_never_over_a_hole() {
        for (end, log_start, first_base, expected) in [
            (None, 0, 0, Resume::At(offset(0))),
            (None, 50, 40, Resume::At(offset(40))),
            (None, 0, 40, Resume::Gap(offset(0))),
            (Some(30), 0, 0, Resume::At(offset(30))),
            (Some(30), 0, 30, Resume::At(offset(30))),
            (Some(30), 0, 40, Resume::Gap(offset(30))),
            (Some(30), 39, 40, Resume::Gap(offset(30))),
            (Some(30), 40, 40, Resume::SkipTo(offset(40))),
            (Some(30), 55, 40, Resume::SkipTo(offset(40))),
        ] {
            assert_eq!(resume(end.map(offset), offset(log_start), offset(first_base)), expected);
        }
    }

    #[test]
    fn only_what_the_bucket_covers_or_nobody_may_read_is_trimmed() {
        let segment = |at: i64| SealedSegment {
            range: OffsetRange { base: offset(at * 10), next: offset(at * 10 + 10) },
            log_bytes: ByteCount(100),
            timestamp_max: Timestamp(1_000),
            sealed_at: Timestamp(1_000),
            epochs: LeaderEpochs::new(),
        };
        let sealed: Vec<SealedSegment> = (0..4).map(segment).collect();
        let all = Keep { time: Some(Duration::ZERO), size: None };
        for (held, log_start, expected) in [
            ((0, 0), 0, None),
            ((0, 30), 0, Some(30)),
            ((0, 25), 0, Some(20)),
            // The bucket starts later than the log does.
            ((10, 40), 0, None),
            ((10, 40), 10, Some(40)),
            // A log start within a segment: only what is behind it has to be covered.
            ((15, 40), 15, Some(40)),
            ((15, 40), 14, Some(10)),
            ((0, 0), 25, Some(20)),
        ] {
            let covers = |range: OffsetRange| offset(held.0) <= range.base && range.next <= offset(held.1);
            let found = trimmable(&sealed, ByteCount(50), all, offset(log_start), covers, Timestamp(5_000));
            assert_eq!(found.map(Offset::get), expected, "{held:?} {log_start}");
        }
        let none = Keep { time: None, size: None };
        assert_eq!(trimmable(&sealed, ByteCount(50), none, offset(0), |_| true, Timestamp(5_000)), None);
    }

    #[tokio::test]
    async fn a_partition_where_nothing_happens_is_swept_seldom() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let (one, two) = (ManifestVersion(1), ManifestVersion(2));
        let claimed = aquifer_runtime::clock::Clock::system().now();
        let mut sweeps = Sweeps::new(claimed, minutes(1), minutes(5), Duration::ZERO);
        assert_eq!(sweeps.due(claimed, one), None);
        assert_eq!(sweeps.due(claimed + minutes(1), one), Some(CollectDepth::Orphans));
        // Late enough that what was there before the claim has had its grace.
        let start = claimed + minutes(5);
        let left = |left, orphans_left| Some(Collected { left, orphans_left, ..Collected::default() });
        sweeps.swept(start, CollectDepth::Orphans, left(3, 0), one);
        assert_eq!(sweeps.due(start + minutes(4), one), None);
        assert_eq!(sweeps.due(start + minutes(5), one), Some(CollectDepth::Removed));
        sweeps.swept(start, CollectDepth::Removed, left(0, 0), one);
        assert_eq!(sweeps.due(start + minutes(300), one), None);
        assert_eq!(sweeps.due(start + minutes(300), two), Some(CollectDepth::Removed));
        assert_eq!(sweeps.due(start + minutes(360), one), Some(CollectDepth::Orphans));
        sweeps.swept(start, CollectDepth::Orphans, None, one);
        assert_eq!(sweeps.due(start + minutes(5), one), Some(CollectDepth::Orphans));
        // An orphan in its grace goes when that is over, not hours later.
        sweeps.swept(start, CollectDepth::Orphans, left(1, 1), one);
        assert_eq!(sweeps.due(start + minutes(4), one), None);
        assert_eq!(sweeps.due(start + minutes(5), one), Some(CollectDepth::Orphans));
    }

    #[tokio::test]
    async fn what_a_failed_write_leaves_goes_after_its_grace_and_what_it_brings_late_after_that() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let version = ManifestVersion(1);
        let start = aquifer_runtime::clock::Clock::system().now();
        let all_gone = Some(Collected::default());
        let mut sweeps = Sweeps::new(start, minutes(1), minutes(5), minutes(60));
        // What whoever wrote before the claim may have sent has come by then, and had its grace.
        sweeps.swept(start + minutes(1), CollectDepth::Orphans, all_gone, version);
        assert_eq!(sweeps.due(start + minutes(64), version), None);
        assert_eq!(sweeps.due(start + minutes(65), version), Some(CollectDepth::Orphans));
        sweeps.swept(start + minutes(65), CollectDepth::Orphans, all_gone, version);
        assert_eq!(sweeps.due(start + minutes(200), version), None);
        sweeps.doubt(start + minutes(200));
        assert_eq!(sweeps.due(start + minutes(204), version), None);
        assert_eq!(sweeps.due(start + minutes(205), version), Some(CollectDepth::Orphans));
        sweeps.swept(start + minutes(205), CollectDepth::Orphans, all_gone, version);
        assert_eq!(sweeps.due(start + minutes(264), version), None);
        assert_eq!(sweeps.due(start + minutes(265), version), Some(CollectDepth::Orphans));
        sweeps.swept(start + minutes(265), CollectDepth::Orphans, all_gone, version);
        assert_eq!(sweeps.due(start + minutes(265 + 359), version), None);
    }
}
