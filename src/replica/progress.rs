//! Which offsets are acknowledged: pure.
//!
//! The high watermark is the least of what every in-sync replica holds safely. What the leader itself holds safely depends on the
//! topic's durability: with `fsync` what is synced to disk, with `replicated` what is in the log. It never goes back while one
//! leader leads, and stands still while fewer than `min.insync.replicas` are in sync, also for records that asked for less
//! (KIP-966): a record that could still be lost must not be seen.

use aquifer_model::Offset;
use aquifer_runtime::planted::{self, Planted};

use crate::config::Durability;

/// The leader's view of how far its partition is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    high_watermark: Offset,
    in_sync: usize,
    in_sync_min: usize,
}

/// What the leader's own log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) end: Offset,
    pub(crate) synced: Offset,
    pub(crate) durability: Durability,
}

impl Own {
    /// The end of what this replica vouches for.
    fn safe(self) -> Offset {
        match self.durability {
            Durability::Fsync if planted::is(Planted::AckBeforeSync) => self.end,
            Durability::Fsync => self.synced,
            Durability::Replicated => self.end,
        }
    }
}

impl Progress {
    /// A leader that starts with what it knows to be acknowledged. `in_sync` counts the replicas in the ISR, `in_sync_min` is
    /// `min.insync.replicas`, but never more than there are replicas.
    pub(crate) fn new(high_watermark: Offset, in_sync: usize, in_sync_min: usize) -> Progress {
        Progress { high_watermark, in_sync, in_sync_min }
    }

    /// Takes a change of the ISR or of the topic's configuration.
    pub(crate) fn set_in_sync(&mut self, in_sync: usize, in_sync_min: usize) {
        self.in_sync = in_sync;
        self.in_sync_min = in_sync_min;
    }

    /// How many are in sync, and how many must be.
    pub(crate) fn in_sync(&self) -> (usize, usize) {
        (self.in_sync, self.in_sync_min)
    }

    /// Takes what the leader's own log holds now; gives the high watermark if it rose.
    #[must_use]
    pub(crate) fn advance(&mut self, own: Own) -> Option<Offset> {
        if self.in_sync < self.in_sync_min || own.safe() <= self.high_watermark {
            return None;
        }
        self.high_watermark = own.safe();
        Some(self.high_watermark)
    }

    /// The first offset that is not acknowledged.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.high_watermark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(number: i64) -> Offset {
        Offset::new(number).unwrap()
    }

    #[test]
    fn the_watermark_follows_what_is_safe_and_never_goes_back() {
        let own = |end, synced, durability| Own { end: offset(end), synced: offset(synced), durability };
        for (durability, end, synced, expected) in [
            (Durability::Fsync, 10, 5, Some(5)),
            (Durability::Replicated, 10, 5, Some(10)),
            (Durability::Fsync, 10, 3, None),
            (Durability::Fsync, 10, 2, None),
            (Durability::Replicated, 2, 0, None),
        ] {
            let mut progress = Progress::new(offset(3), 1, 1);
            let advanced = progress.advance(own(end, synced, durability)).map(Offset::get);
            assert_eq!(advanced, expected, "{durability:?} end {end} synced {synced}");
            assert_eq!(progress.high_watermark().get(), expected.unwrap_or(3));
        }
    }

    #[test]
    fn the_watermark_stands_still_below_min_in_sync() {
        let mut progress = Progress::new(offset(0), 1, 2);
        let own = Own { end: offset(9), synced: offset(9), durability: Durability::Fsync };
        assert_eq!(progress.advance(own), None);
        progress.set_in_sync(2, 2);
        assert_eq!(progress.advance(own), Some(offset(9)));
    }
}
