//! What happens as the local disk fills.
//!
//! Above `log.disk.high.watermark`, segments that the bucket holds leave the disk ahead of `local.retention.*`, oldest first
//! whosesoever they are, until what is too much is on its way out. Where that is not enough, clients' appends are refused, with
//! an error that they retry, before the device is so full that nothing works any more. Files go only after
//! `file.delete.delay.ms`, so that what was dropped is counted until then: one look does not drop what the last one has.
//!
//! The choice is pure; the keeper carries it out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use aquifer_model::{ByteCount, Offset, Timestamp};
use aquifer_runtime::files::Space;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Appends are not refused while so much is free, however large a share of the disk is in use.
const AMPLE: ByteCount = ByteCount::mib(10 << 10);

/// How full the disk may become.
#[derive(Debug)]
pub(super) struct DiskGuard {
    full: AtomicBool,
    /// What was dropped, and when its files will have gone.
    leaving: Mutex<VecDeque<(Instant, ByteCount)>>,
}

/// A segment that may be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Droppable {
    /// Whose, as the caller counts.
    pub(super) owner: usize,
    pub(super) sealed_at: Timestamp,
    pub(super) bytes: ByteCount,
    /// Where it ends.
    pub(super) next: Offset,
}

impl DiskGuard {
    pub(super) fn new() -> DiskGuard {
        DiskGuard { full: AtomicBool::new(false), leaving: Mutex::default() }
    }

    /// Whether clients' appends are refused.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Takes the verdict of a look; gives whether it is another than before.
    pub(super) fn set_full(&self, full: bool) -> bool {
        self.full.swap(full, Ordering::Relaxed) != full
    }

    /// Notes what was dropped.
    pub(super) fn note_leaving(&self, bytes: ByteCount, gone_at: Instant) {
        if bytes > ByteCount::ZERO {
            self.leaving.lock().push_back((gone_at, bytes));
        }
    }

    /// What was dropped and still takes room.
    pub(super) fn leaving(&self, now: Instant) -> ByteCount {
        let mut leaving = self.leaving.lock();
        leaving.retain(|(gone_at, _)| *gone_at > now);
        leaving.iter().map(|(_, bytes)| *bytes).sum()
    }
}

/// How much more is in use than `watermark`, a share of the whole, allows.
pub(super) fn excess(space: &Space, watermark: f64) -> ByteCount {
    let spare = space.total.get() as f64 * (1.0 - watermark);
    ByteCount(spare as u64).saturating_sub(space.available)
}

/// Whether the disk is so full that nothing may be added, once `leaving` has left.
pub(super) fn is_full(space: &Space, watermark: f64, leaving: ByteCount) -> bool {
    excess(space, watermark) > leaving && space.available < AMPLE
}

/// Which segments to drop to free `wanted`: for each owner the offset below which they go. Of one owner only the oldest ever go,
/// so each owner's must come in order.
pub(super) fn choose(mut droppable: Vec<Droppable>, wanted: ByteCount) -> Vec<(usize, Offset)> {
    // Stable: of one owner, what was sealed in the same moment stays in order.
    droppable.sort_by_key(|segment| segment.sealed_at);
    let mut chosen: Vec<(usize, Offset)> = Vec::new();
    let mut freed = ByteCount::ZERO;
    for segment in droppable {
        if freed >= wanted {
            break;
        }
        freed += segment.bytes;
        match chosen.iter_mut().find(|(owner, _)| *owner == segment.owner) {
            Some((_, below)) => *below = segment.next.max(*below),
            None => chosen.push((segment.owner, segment.next)),
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(total: u64, available: u64) -> Space {
        Space { total: gib(total), available: gib(available) }
    }

    fn gib(count: u64) -> ByteCount {
        ByteCount::mib(count << 10)
    }

    #[test]
    fn too_much_is_what_the_watermark_does_not_allow() {
        for (total, available, watermark, leaving, expected, full) in [
            (100, 50, 0.9, 0, 0, false),
            (100, 10, 0.9, 0, 0, false),
            (100, 4, 0.9, 0, 6, true),
            (100, 4, 0.9, 6, 6, false),
            // A large disk is not full with so much left.
            (4000, 100, 0.9, 0, 300, false),
            (4000, 9, 0.9, 0, 391, true),
            (100, 0, 1.0, 0, 0, false),
        ] {
            let space = space(total, available);
            let rounded = (excess(&space, watermark).get() as f64 / gib(1).get() as f64).round() as u64;
            assert_eq!(rounded, expected, "{space:?}");
            assert_eq!(is_full(&space, watermark, gib(leaving)), full, "{space:?} {leaving}");
        }
    }

    #[test]
    fn the_oldest_go_first_whosesoever_they_are() {
        let segment = |owner, sealed, next| Droppable {
            owner,
            sealed_at: Timestamp(sealed),
            bytes: ByteCount(100),
            next: Offset::new(next).unwrap(),
        };
        let all = vec![segment(0, 10, 5), segment(0, 30, 9), segment(1, 20, 100), segment(1, 20, 200)];
        for (wanted, expected) in [
            (0, &[][..]),
            (1, &[(0, 5)]),
            (200, &[(0, 5), (1, 100)]),
            (201, &[(0, 5), (1, 200)]),
            (1_000, &[(0, 9), (1, 200)]),
        ] {
            let chosen = choose(all.clone(), ByteCount(wanted));
            let chosen: Vec<(usize, i64)> =
                chosen.into_iter().map(|(owner, below)| (owner, below.get())).collect();
            assert_eq!(chosen, expected, "{wanted}");
        }
    }

    #[tokio::test]
    async fn what_was_dropped_counts_until_its_files_are_gone() {
        let guard = DiskGuard::new();
        let now = Instant::now();
        let later = |seconds| now + std::time::Duration::from_secs(seconds);
        guard.note_leaving(ByteCount(5), later(10));
        guard.note_leaving(ByteCount(7), later(20));
        assert_eq!(guard.leaving(now), ByteCount(12));
        assert_eq!(guard.leaving(later(10)), ByteCount(7));
        assert_eq!(guard.leaving(later(20)), ByteCount::ZERO);
        assert!(guard.set_full(true) && !guard.set_full(true) && guard.is_full());
    }
}
