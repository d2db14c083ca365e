//! What a start after a crash would read again: bytes of logs behind their recovery points, of each and of all together.
//!
//! To write back what is being written is not free: who appends meets the sync of the same file. So few logs may have much behind
//! their recovery points, and many have little each. Partitions that are written side by side come to it one after the other: synced all at
//! once, they would fill the device's queue for a tenth of a second.

use aquifer_model::{ByteCount, PartitionIndex, TopicPartition};
use aquifer_runtime::metrics::Gauge;

use super::config::LogDirOptions;

/// How many times as much a log may have while all together have little: from so many, by its partition, to twice as many.
const WHILE_LITTLE: u64 = 2;
/// By the golden ratio, as a part of 2^32, numbers that follow each other lie well apart.
const GOLDEN: u32 = 0x9E37_79B9;

/// Of one log, until dropped. Counted in `all` as well, which is shown.
#[derive(Debug)]
pub(super) struct Uncaptured {
    bytes: u64,
    all: Gauge,
    /// Its place between those that come to it first and last, as a part of 2^32.
    place: u32,
}

impl Uncaptured {
    /// Of the log of a partition that begins with so many.
    pub(super) fn new(partition: TopicPartition, bytes: u64, all: Gauge) -> Uncaptured {
        let TopicPartition { topic, partition: PartitionIndex(number) } = partition;
        let (_, of_topic) = topic.uuid().as_u64_pair();
        let place = number.cast_unsigned().wrapping_mul(GOLDEN).wrapping_add(of_topic as u32);
        let mut of_log = Uncaptured { bytes: 0, all, place };
        of_log.add(bytes);
        of_log
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.all.inc_by(bytes.cast_signed());
    }

    /// The recovery point moves on to the log's end.
    pub(super) fn capture(&mut self) {
        self.all.dec_by(std::mem::take(&mut self.bytes).cast_signed());
    }

    /// Whether the recovery point is to move on.
    pub(super) fn is_due(&self, options: &LogDirOptions) -> bool {
        let LogDirOptions { checkpoint_bytes: ByteCount(least), recovery_bytes, .. } = *options;
        if self.bytes < least {
            return false;
        }
        let first = least.saturating_mul(WHILE_LITTLE);
        let later = (u128::from(first) * u128::from(self.place)) >> u32::BITS;
        let is_much = self.all.get().cast_unsigned() > recovery_bytes.get();
        is_much || u128::from(self.bytes) >= u128::from(first) + later
    }
}

impl Drop for Uncaptured {
    fn drop(&mut self) {
        self.capture();
    }
}

#[cfg(test)]
mod tests {
    use aquifer_model::TopicId;

    use super::*;

    fn numbered(number: i32) -> TopicPartition {
        TopicPartition { topic: TopicId::ZERO, partition: PartitionIndex(number) }
    }

    #[test]
    fn few_logs_may_have_more_behind_their_recovery_points_than_many() {
        let options = LogDirOptions {
            checkpoint_bytes: ByteCount(10),
            recovery_bytes: ByteCount(60),
            ..LogDirOptions::default()
        };
        let all = Gauge::default();
        let mut one = Uncaptured::new(numbered(0), 19, all.clone());
        assert!(!one.is_due(&options));
        one.add(1);
        assert!(one.is_due(&options), "twice as much as it should have");
        one.capture();
        assert_eq!(all.get(), 0);
        let bounds = (0..5).map(|number| {
            let due =
                |bytes: &u64| Uncaptured::new(numbered(number), *bytes, Gauge::default()).is_due(&options);
            (0..=40).find(due).expect("four times as much at most")
        });
        assert_eq!(bounds.collect::<Vec<_>>(), [20, 32, 24, 37, 29], "one after the other");
        one = Uncaptured::new(numbered(1), 30, all.clone());
        let mut other = Uncaptured::new(numbered(3), 30, all.clone());
        assert!(!one.is_due(&options) && !other.is_due(&options), "together they have no more than they may");
        other.add(1);
        assert!(one.is_due(&options) && other.is_due(&options));
        other.capture();
        other.add(9);
        drop(other);
        assert_eq!(all.get(), 30, "a log that goes is no more to be read");
        other = Uncaptured::new(numbered(3), 9, all.clone());
        one.add(60);
        assert!(!other.is_due(&options) && all.get() == 99, "it has too little by itself");
    }
}
