//! Where readers are: what they will want next follows from it.

use std::collections::HashMap;
use std::time::Duration;

use aquifer_model::{Offset, OffsetRange, TopicPartition};
use parking_lot::Mutex;
use tokio::time::Instant;

/// A place in a partition's log, in order: the segment's base offset, and the position in it.
pub(super) type LogPlace = (Offset, u64);

/// Readers of partitions, each list in order of place.
pub(super) type Positions = HashMap<TopicPartition, Vec<Reader>>;

/// A reader in a partition's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reader {
    /// What it wants next.
    pub(super) at: LogPlace,
    /// Where the segment that it is in ends.
    pub(super) segment_next: Offset,
}

/// Tells readers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ReaderId(pub(super) u64);

/// All readers that came by of late.
#[derive(Debug)]
pub(super) struct Readers {
    /// One that has not come back for so long is no longer reckoned with.
    idle_max: Duration,
    by_id: Mutex<HashMap<ReaderId, Seen>>,
}

#[derive(Debug)]
struct Seen {
    partition: TopicPartition,
    reader: Reader,
    when: Instant,
}

impl Readers {
    /// None yet.
    pub(super) fn new(idle_max: Duration) -> Readers {
        Readers { idle_max, by_id: Mutex::default() }
    }

    /// A reader is at this position of a segment's log.
    pub(super) fn moved(
        &self,
        id: ReaderId,
        partition: TopicPartition,
        segment: OffsetRange,
        position: u64,
        now: Instant,
    ) {
        let reader = Reader { at: (segment.base, position), segment_next: segment.next };
        self.by_id.lock().insert(id, Seen { partition, reader, when: now });
    }

    /// A reader has become one with another, or was forgotten.
    pub(super) fn gone(&self, id: ReaderId) {
        self.by_id.lock().remove(&id);
    }

    /// Where all are, in order.
    pub(super) fn positions(&self, now: Instant) -> Positions {
        let mut by_id = self.by_id.lock();
        by_id.retain(|_, seen| now.duration_since(seen.when) < self.idle_max);
        let mut positions = Positions::new();
        for seen in by_id.values() {
            positions.entry(seen.partition).or_default().push(seen.reader);
        }
        positions.values_mut().for_each(|readers| readers.sort_by_key(|reader| reader.at));
        positions
    }
}
