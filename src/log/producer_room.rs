//! How many producers all logs of a data directory remember together.
//!
//! Each log says how many it has whenever that may have changed; a log that goes takes its share along. Who is to be forgotten is
//! decided where the producers are: a log that grows beyond the room for all forgets of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aquifer_runtime::metrics::Gauge;

/// A log forgets none of its last few for the sake of others.
const KEPT_MIN: usize = 16;

/// The room for all.
#[derive(Debug, Clone)]
pub(super) struct ProducerRoom(Arc<Room>);

#[derive(Debug)]
struct Room {
    total: AtomicUsize,
    total_max: usize,
    shown: Gauge,
}

/// What one log has of it, until dropped.
#[derive(Debug)]
pub(super) struct Share {
    room: ProducerRoom,
    count: usize,
}

impl ProducerRoom {
    /// Room for `total_max` (`log.producer.ids.total.max`); `shown` tells how many there are.
    pub(super) fn new(total_max: usize, shown: Gauge) -> ProducerRoom {
        ProducerRoom(Arc::new(Room { total: AtomicUsize::new(0), total_max, shown }))
    }

    /// For a log that has `count`, all of which it keeps.
    pub(super) fn share_of(&self, count: usize) -> Share {
        let mut share = Share { room: self.clone(), count: 0 };
        let _keeps_all = share.settle(count);
        share
    }
}

impl Share {
    /// The log has `count` now. Gives how many it may keep: fewer, if there are too many in all.
    pub(super) fn settle(&mut self, count: usize) -> usize {
        if count == self.count {
            return usize::MAX;
        }
        let room = &self.room.0;
        let (more, less) = (count.saturating_sub(self.count), self.count.saturating_sub(count));
        self.count = count;
        room.total.fetch_add(more, Ordering::Relaxed);
        let total = room.total.fetch_sub(less, Ordering::Relaxed) - less;
        room.shown.inc_by(more as i64);
        room.shown.dec_by(less as i64);
        if total > room.total_max && more > 0 { (count - 1).max(KEPT_MIN) } else { usize::MAX }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _keeps_all = self.settle(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_grows_beyond_the_room_for_all_forgets_and_one_that_does_not_grow_keeps_its_own() {
        let shown = Gauge::default();
        let room = ProducerRoom::new(100, shown.clone());
        let (mut first, mut second) = (room.share_of(0), room.share_of(0));
        assert_eq!(first.settle(60), usize::MAX);
        assert_eq!(second.settle(40), usize::MAX);
        assert_eq!(second.settle(41), 40);
        assert_eq!(first.settle(60), usize::MAX, "it has brought no new one");
        assert_eq!(second.settle(20), usize::MAX);
        assert_eq!(shown.get(), 80);
        drop(first);
        assert_eq!(shown.get(), 20);
        assert_eq!(second.settle(101), 100);
        let mut small = room.share_of(0);
        assert_eq!(small.settle(3), KEPT_MIN, "the last few stay");
    }
}
