//! Which leader wrote from which offset on.
//!
//! The history of a partition's leaders, as its batches carry it: epochs and start offsets both strictly rise. Followers
//! truncate by it and clients detect truncation by it (KIP-101, KIP-320). Local log, manifest and object each hold a copy;
//! all must agree with what a scan of the batches would give.

use crate::format::{FormatError, Reader, Writer};
use crate::offset::{LeaderEpoch, Offset};

/// From `start` on, until the next entry, `epoch`'s leader wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    /// Whose records.
    pub epoch: LeaderEpoch,
    /// The first of them.
    pub start: Offset,
}

/// The answer to "where did this epoch end?".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEnd {
    /// The largest epoch known that is at most the one asked for.
    pub epoch: LeaderEpoch,
    /// The first offset that is no longer its.
    pub end: Offset,
}

/// A history of leaders, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderEpochs(Vec<EpochStart>);

impl LeaderEpochs {
    /// A history with no entry.
    pub fn new() -> LeaderEpochs {
        LeaderEpochs::default()
    }

    /// Takes entries in ascending order; `None` if they are not.
    pub fn from_entries(entries: Vec<EpochStart>) -> Option<LeaderEpochs> {
        let ascending =
            entries.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start < pair[1].start);
        ascending.then_some(LeaderEpochs(entries))
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.0
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.0.last().map(|entry| entry.epoch)
    }

    /// Notes that a batch of `epoch` starts at `start`; gives whether that began a new entry. Entries that the new one
    /// contradicts (an epoch that wrote nothing before it was replaced) go, as in Kafka.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        while self.0.last().is_some_and(|last| last.start >= start) {
            self.0.pop();
        }
        self.0.push(EpochStart { epoch, start });
        true
    }

    /// Whose record the one at `offset` is; `None` before the first entry.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let behind = self.0.partition_point(|entry| entry.start <= offset);
        behind.checked_sub(1).map(|at| self.0[at].epoch)
    }

    /// Where `epoch` ended, in a log that ends at `log_end`. For an epoch older than all that is known, Kafka answers the start
    /// of the oldest entry under the epoch asked for; for one newer than all, there is no answer.
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        let latest = self.latest()?;
        if epoch == latest {
            return Some(EpochEnd { epoch, end: log_end });
        }
        if epoch > latest {
            return None;
        }
        let higher = self.0.partition_point(|entry| entry.epoch <= epoch);
        let end = self.0[higher].start;
        let known = higher.checked_sub(1).map_or(epoch, |at| self.0[at].epoch);
        Some(EpochEnd { epoch: known, end })
    }

    /// Drops what lies at or behind `end`.
    pub fn truncate_to(&mut self, end: Offset) {
        self.0.retain(|entry| entry.start < end);
    }

    /// Forgets what lies wholly before `start`; the epoch in force at `start` then starts there.
    pub fn trim_before(&mut self, start: Offset) {
        let behind = self.0.partition_point(|entry| entry.start <= start);
        if behind == 0 {
            return;
        }
        self.0.drain(..behind - 1);
        self.0[0].start = self.0[0].start.max(start);
    }

    /// The part of the history that covers `[base, next)`, its first entry starting at `base` at the earliest.
    #[must_use]
    pub fn slice(&self, base: Offset, next: Offset) -> LeaderEpochs {
        let first = self.0.partition_point(|entry| entry.start <= base).saturating_sub(1);
        let end = self.0.partition_point(|entry| entry.start < next);
        let mut part = LeaderEpochs(self.0[first.min(end)..end].to_vec());
        part.trim_before(base);
        part
    }

    /// Appends to a durable body: a count, then the entries.
    pub fn write(&self, writer: &mut Writer) {
        writer.list(&self.0, |writer, entry| {
            writer.i32(entry.epoch.get());
            writer.i64(entry.start.get());
        });
    }

    /// Reads what [`LeaderEpochs::write`] wrote.
    pub fn read(reader: &mut Reader<'_>) -> Result<LeaderEpochs, FormatError> {
        let invalid = |what| FormatError::Invalid { format: "leader epochs", what };
        let entries = reader.list(12, |reader| {
            Ok(EpochStart {
                epoch: LeaderEpoch::new(reader.i32()?).ok_or(invalid("an epoch is negative"))?,
                start: Offset::new(reader.i64()?).ok_or(invalid("a start offset is negative"))?,
            })
        })?;
        LeaderEpochs::from_entries(entries).ok_or(invalid("entries are out of order"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(number: i32) -> LeaderEpoch {
        LeaderEpoch::new(number).unwrap()
    }

    fn offset(number: i64) -> Offset {
        Offset::new(number).unwrap()
    }

    fn history(entries: &[(i32, i64)]) -> LeaderEpochs {
        let entries =
            entries.iter().map(|&(e, start)| EpochStart { epoch: epoch(e), start: offset(start) }).collect();
        LeaderEpochs::from_entries(entries).unwrap()
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next_that_wrote() {
        let epochs = history(&[(2, 0), (5, 10), (7, 30)]);
        for (asked, expected) in [
            (1, Some((1, 0))),
            (2, Some((2, 10))),
            (3, Some((2, 10))),
            (5, Some((5, 30))),
            (6, Some((5, 30))),
            (7, Some((7, 42))),
            (8, None),
        ] {
            let found = epochs.end_of(epoch(asked), offset(42)).map(|end| (end.epoch.get(), end.end.get()));
            assert_eq!(found, expected, "epoch {asked}");
        }
        assert_eq!(LeaderEpochs::new().end_of(epoch(0), offset(3)), None);
    }

    #[test]
    fn assigning_drops_what_the_new_entry_contradicts() {
        let mut epochs = history(&[(1, 0), (2, 10)]);
        assert!(!epochs.assign(epoch(2), offset(20)));
        assert!(!epochs.assign(epoch(1), offset(20)));
        assert!(epochs.assign(epoch(3), offset(10)));
        assert_eq!(epochs, history(&[(1, 0), (3, 10)]));
    }

    #[test]
    fn trimming_and_truncating_keep_the_epoch_in_force() {
        let epochs = history(&[(1, 0), (2, 10), (4, 20)]);
        for (base, next, expected) in [
            (0, 100, vec![(1, 0), (2, 10), (4, 20)]),
            (5, 15, vec![(1, 5), (2, 10)]),
            (10, 20, vec![(2, 10)]),
            (25, 30, vec![(4, 25)]),
        ] {
            assert_eq!(epochs.slice(offset(base), offset(next)), history(&expected), "[{base}, {next})");
        }
        assert_eq!(epochs.epoch_at(offset(19)), Some(epoch(2)));
        assert_eq!(history(&[(1, 5)]).epoch_at(offset(4)), None);
    }

    #[test]
    fn bytes_round_trip_and_disorder_is_refused() {
        let epochs = history(&[(1, 0), (2, 10)]);
        let mut writer = Writer::new();
        epochs.write(&mut writer);
        let body = writer.finish();
        assert_eq!(LeaderEpochs::read(&mut Reader::new("test", &body)), Ok(epochs));
        let mut writer = Writer::new();
        LeaderEpochs(vec![
            EpochStart { epoch: epoch(1), start: offset(9) },
            EpochStart { epoch: epoch(1), start: offset(10) },
        ])
        .write(&mut writer);
        assert!(LeaderEpochs::read(&mut Reader::new("test", &writer.finish())).is_err());
    }
}
