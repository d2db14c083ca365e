//! What is wrong with a compacted partition, as another client read it from the beginning: pure.
//!
//! What was acknowledged says which record lies at each offset; all of it was, since the producer waited. A record may be missing
//! only below where the last compaction came to, and there only if a newer one of its key lies there too, or if it is a tombstone. So
//! whoever reads to the end knows of each key what was last said of it.

use super::updates::{Update, Updates};
use crate::reading::identify;
use aquifer_checker::Partition;
use std::collections::HashMap;
use std::fmt;

/// More than these say no more.
const SHOWN: usize = 10;

/// What was written to one partition.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) partition: Partition,
    pub(super) updates: Updates,
    runs: Vec<Run>,
}

/// Records with consecutive numbers at consecutive offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) offset: i64,
    pub(super) number: u64,
    pub(super) count: u64,
}

/// Takes what is read, record by record.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    written: &'a Written,
    /// By number.
    is_there: Vec<bool>,
    /// The number of the newest record of each key.
    newest: HashMap<u64, u64>,
    last_offset: i64,
    faults: Vec<String>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) faults: Vec<String>,
    /// Records that were written, and those that are there still.
    pub(super) written: u64,
    pub(super) there: u64,
    /// Keys whose last record is a tombstone.
    pub(super) gone: u64,
}

impl Written {
    /// Puts together what was acknowledged. Fails, with the reason, if that is not every record once, in the order of numbers.
    pub(super) fn new(
        partition: Partition,
        updates: Updates,
        mut runs: Vec<Run>,
        sent: u64,
    ) -> Result<Written, String> {
        runs.sort_by_key(|run| run.number);
        let (mut number, mut offset) = (0, 0);
        for run in &runs {
            if run.number != number || run.offset < offset {
                return Err(format!(
                    "{partition}: record {} was acknowledged at offset {}, behind record {number} before {offset}",
                    run.number, run.offset
                ));
            }
            number = run.number + run.count;
            offset = run.offset + run.count as i64;
        }
        if number != sent {
            return Err(format!("{partition}: {sent} records were sent, {number} acknowledged"));
        }
        Ok(Written { partition, updates, runs })
    }

    pub(super) fn count(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.number + run.count)
    }

    /// Behind the last record.
    pub(super) fn end(&self) -> i64 {
        self.runs.last().map_or(0, |run| run.offset + run.count as i64)
    }

    /// Bytes of all keys and values.
    pub(super) fn bytes(&self, value_bytes: u64) -> u64 {
        let Partition { index, .. } = self.partition;
        let of = |number| {
            let Update { key, is_tombstone } = self.updates.of(index, number);
            let value =
                if is_tombstone { 0 } else { format!("1 {index} {number} ").len() as u64 + value_bytes };
            key.to_string().len() as u64 + value
        };
        (0..self.count()).map(of).sum()
    }

    /// Which record was acknowledged at an offset.
    fn number_at(&self, offset: i64) -> Option<u64> {
        let behind = self.runs.partition_point(|run| run.offset <= offset);
        let run = self.runs[..behind].last()?;
        let into = u64::try_from(offset - run.offset).ok()?;
        (into < run.count).then_some(run.number + into)
    }

    /// Where a record was acknowledged.
    fn offset_of(&self, number: u64) -> i64 {
        let behind = self.runs.partition_point(|run| run.number <= number);
        self.runs[..behind].last().map_or(-1, |run| run.offset + (number - run.number) as i64)
    }
}

impl Judge<'_> {
    pub(super) fn new(written: &Written) -> Judge<'_> {
        let is_there = vec![false; usize::try_from(written.count()).unwrap_or(usize::MAX)];
        Judge { written, is_there, newest: HashMap::new(), last_offset: -1, faults: Vec::new() }
    }

    /// The next record that was read; a tombstone has no value.
    pub(super) fn read(&mut self, offset: i64, key: &[u8], value: Option<&[u8]>) {
        if offset <= self.last_offset {
            self.faults.push(format!("offset {offset} came after {}", self.last_offset));
        }
        self.last_offset = self.last_offset.max(offset);
        let Some(number) = self.written.number_at(offset) else {
            self.faults.push(format!("offset {offset}: nothing was ever written there"));
            return;
        };
        let update = self.written.updates.of(self.written.partition.index, number);
        let wrong = match value {
            _ if key != update.key.to_string().as_bytes() => {
                Some(format!("key {}", String::from_utf8_lossy(key)))
            }
            None => (!update.is_tombstone).then(|| "a tombstone".to_owned()),
            Some(_) if update.is_tombstone => Some("a value".to_owned()),
            Some(value) => match identify(&self.written.partition, value) {
                Ok((_, told)) => (told != number).then(|| format!("record {told}")),
                Err(what) => Some(what),
            },
        };
        if let Some(wrong) = wrong {
            self.faults
                .push(format!("offset {offset}: {wrong}, where record {number} was written: {update:?}"));
            return;
        }
        if let Some(is_there) = self.is_there.get_mut(number as usize) {
            *is_there = true;
        }
        self.newest.insert(update.key, number);
    }

    /// The verdict. No compaction has come to `clean_below` or further.
    pub(super) fn finish(self, clean_below: i64) -> Verdict {
        let Judge { written, is_there, newest, faults, .. } = self;
        let mut verdict = Verdict { faults, written: written.count(), ..Verdict::default() };
        // The record of each key that is next in the order of offsets.
        let mut next: HashMap<u64, u64> = HashMap::new();
        for number in (0..written.count()).rev() {
            let update = written.updates.of(written.partition.index, number);
            let newer = next.insert(update.key, number);
            let is_there = is_there.get(number as usize).copied().unwrap_or_default();
            verdict.there += u64::from(is_there);
            if newer.is_none() {
                verdict.gone += u64::from(update.is_tombstone);
                let found = newest.get(&update.key).copied();
                if found != Some(number) && !(found.is_none() && update.is_tombstone) {
                    verdict.faults.push(format!(
                        "key {}: its last record is {number}, {update:?}, and a reader ends with {found:?}",
                        update.key
                    ));
                }
            }
            let offset = written.offset_of(number);
            let may_be_gone = offset < clean_below
                && (update.is_tombstone || newer.is_some_and(|newer| written.offset_of(newer) < clean_below));
            if !is_there && !may_be_gone {
                verdict.faults.push(format!(
                    "record {number} at offset {offset} is lost: {update:?}, clean below {clean_below}, next of its key {newer:?}"
                ));
            }
        }
        verdict
    }
}

impl Verdict {
    /// Adds that of a partition.
    pub(super) fn add(&mut self, of: Verdict, index: u32) {
        let Verdict { faults, written, there, gone } = of;
        self.faults.extend(faults.into_iter().map(|fault| format!("partition {index}: {fault}")));
        self.written += written;
        self.there += there;
        self.gone += gone;
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { faults, written, there, gone } = self;
        write!(f, "{written} records written, {there} there, {gone} keys gone, {} faults", faults.len())?;
        faults.iter().take(SHOWN).try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATES: Updates = Updates { keys: 10, seed: 3, tombstone_one_in: 4 };
    const COUNT: u64 = 200;
    /// Offsets begin here, and have a gap before the second half, as after a batch that was aborted.
    const FIRST: i64 = 5;
    const GAP: i64 = 3;

    type Record = (i64, Vec<u8>, Option<Vec<u8>>);

    fn partition() -> Partition {
        Partition { topic: "t".to_owned(), index: 2 }
    }

    fn written() -> Written {
        let half = COUNT / 2;
        let runs = [
            Run { offset: FIRST + GAP + half as i64, number: half, count: half },
            Run { offset: FIRST, number: 0, count: half },
        ];
        Written::new(partition(), UPDATES, runs.to_vec(), COUNT).expect("whole")
    }

    fn record(written: &Written, number: u64) -> Record {
        let update = UPDATES.of(2, number);
        let value = format!("1 2 {number} 0123456789ab").into_bytes();
        (
            written.offset_of(number),
            update.key.to_string().into_bytes(),
            (!update.is_tombstone).then_some(value),
        )
    }

    /// What a compaction up to `clean_below` leaves, with its tombstones or without.
    fn compacted(written: &Written, clean_below: i64, keeps_tombstones: bool) -> Vec<Record> {
        let stays = |number: &u64| {
            let offset = written.offset_of(*number);
            let update = UPDATES.of(2, *number);
            let is_newest = !(*number + 1..COUNT).any(|newer| {
                UPDATES.of(2, newer).key == update.key && written.offset_of(newer) < clean_below
            });
            offset >= clean_below || (is_newest && (keeps_tombstones || !update.is_tombstone))
        };
        (0..COUNT).filter(stays).map(|number| record(written, number)).collect()
    }

    fn judged(written: &Written, records: &[Record], clean_below: i64) -> Verdict {
        let mut judge = Judge::new(written);
        for (offset, key, value) in records {
            judge.read(*offset, key, value.as_deref());
        }
        judge.finish(clean_below)
    }

    #[test]
    fn a_log_that_was_compacted_as_it_should_has_no_fault() {
        let written = written();
        let end = written.offset_of(COUNT - 1) + 1;
        for clean_below in [0, FIRST + 50, FIRST + 100, FIRST + 150, end] {
            for keeps_tombstones in [true, false] {
                let records = compacted(&written, clean_below, keeps_tombstones);
                let verdict = judged(&written, &records, clean_below);
                assert!(verdict.faults.is_empty(), "{clean_below}: {verdict}");
                assert_eq!(verdict.there, records.len() as u64);
            }
        }
    }

    #[test]
    fn each_record_that_is_taken_away_is_found() {
        let written = written();
        let clean_below = FIRST + 120;
        let records = compacted(&written, clean_below, false);
        for taken in 0..records.len() {
            let mut less = records.clone();
            let (offset, ..) = less.remove(taken);
            assert!(!judged(&written, &less, clean_below).faults.is_empty(), "offset {offset}");
        }
    }

    #[test]
    fn a_key_that_comes_back_a_value_that_was_never_written_and_a_double_are_found() {
        let written = written();
        let end = written.offset_of(COUNT - 1) + 1;
        let records = compacted(&written, end, false);
        // An older value of a key that was taken away.
        let gone = (0..COUNT).rev().find(|number| {
            let update = UPDATES.of(2, *number);
            update.is_tombstone && !(*number + 1..COUNT).any(|newer| UPDATES.of(2, newer).key == update.key)
        });
        let key = UPDATES.of(2, gone.expect("one key is gone")).key;
        let back = (0..COUNT).find(|number| UPDATES.of(2, *number).key == key).expect("its first");
        let mut more = records.clone();
        more.push(record(&written, back));
        more.sort();
        assert_eq!(judged(&written, &more, end).faults.len(), 1);

        let mut changed = records.clone();
        changed[0].2.as_mut().expect("a value")[15] ^= 1;
        assert!(!judged(&written, &changed, end).faults.is_empty());
        let mut elsewhere = records.clone();
        elsewhere[0].0 = FIRST + 100;
        assert!(!judged(&written, &elsewhere, end).faults.is_empty(), "an offset in the gap");
        let mut other = records.clone();
        other[0].1 = b"77".to_vec();
        assert!(!judged(&written, &other, end).faults.is_empty());
        let mut twice = records.clone();
        twice.insert(1, records[0].clone());
        assert_eq!(judged(&written, &twice, end).faults.len(), 1);
    }

    #[test]
    fn what_was_not_acknowledged_once_and_in_order_is_no_history() {
        let runs = |runs: &[(i64, u64, u64)], sent| {
            let run = |&(offset, number, count)| Run { offset, number, count };
            Written::new(partition(), UPDATES, runs.iter().map(run).collect(), sent).map(|_| ())
        };
        assert_eq!(runs(&[(0, 0, 3), (5, 3, 2)], 5), Ok(()));
        assert!(runs(&[(0, 0, 3), (5, 3, 2)], 6).is_err(), "one is not acknowledged");
        assert!(runs(&[(0, 0, 3), (5, 4, 1)], 5).is_err(), "one in between");
        assert!(runs(&[(0, 0, 3), (2, 3, 2)], 5).is_err(), "at an offset that is taken");
    }
}
