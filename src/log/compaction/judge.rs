//! Which records stay. Pure.
//!
//! Below the offset up to which the keys were read:
//!
//! - the newest record of each key stays, the others go;
//! - a tombstone that is its key's newest record stays until `delete.retention.ms` after the first pass that has met it, so that
//!   whoever reads the log from the start to its end within that time learns that the key is gone;
//! - the records of an aborted transaction go, and count for no key: readers of committed records never see them;
//! - a marker stays as long as a batch of its transaction was there when the pass began, and then as long as a tombstone;
//! - a batch that no record stays of stays itself, empty, if it is its producer's last (whoever replays the log has to know the
//!   sequence to expect), or the last of all (readers at its offset have to learn that they have come to the end).
//!
//! All from that offset on stays as it is.

use std::collections::{HashMap, HashSet};

use aquifer_model::record::RawRecord;
use aquifer_model::{AbortedTxn, BatchHeader, Offset, ProducerId, Timestamp};

use super::super::producers::LastBatch;
use super::key_map::KeyMap;
use super::thin::{Emptied, Fate, Left, ThinError, thin};

/// The aborted transactions of a part of the log.
#[derive(Debug, Default)]
pub(super) struct Aborted(HashMap<ProducerId, Vec<(Offset, Offset)>>);

impl Aborted {
    pub(super) fn new(transactions: &[AbortedTxn]) -> Aborted {
        let mut aborted: HashMap<ProducerId, Vec<(Offset, Offset)>> = HashMap::new();
        for transaction in transactions {
            aborted.entry(transaction.producer).or_default().push((transaction.first, transaction.last));
        }
        Aborted(aborted)
    }

    /// Whether a batch of records belongs to one.
    pub(super) fn hold(&self, header: &BatchHeader) -> bool {
        let Some(producer) = header.producer().filter(|_| header.is_transactional()) else { return false };
        // In order of their markers, and a producer has one transaction at a time.
        let transactions = self.0.get(&producer.id).map_or(&[][..], Vec::as_slice);
        let begun = transactions.partition_point(|(first, _)| *first <= header.base_offset);
        transactions[..begun].last().is_some_and(|(_, last)| header.base_offset <= *last)
    }
}

/// Judges the batches of a log, from its start on.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) keys: KeyMap,
    /// From here on all stays.
    pub(super) until: Offset,
    pub(super) now: Timestamp,
    /// When what is met for the first time may go.
    pub(super) horizon: Timestamp,
    /// Of each producer that is remembered.
    pub(super) last: HashMap<ProducerId, LastBatch>,
    /// Producers with a batch of records behind their last marker.
    pub(super) in_transaction: HashSet<ProducerId>,
    /// Records without a key, which only a log can hold that was not always to be compacted; they go.
    pub(super) keyless: u64,
}

impl Judge {
    /// What is left of the next batch, and how many of its records went.
    pub(super) fn judge(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
        aborted: &Aborted,
    ) -> Result<(Left, u32), ThinError> {
        if header.base_offset >= self.until {
            return Ok((Left::Whole, 0));
        }
        let emptied = self.emptied(header);
        if header.is_control() {
            let fate = self.marker(header);
            return thin(header, batch, emptied, self.horizon, |_| fate);
        }
        if let Some(producer) = header.producer().filter(|_| header.is_transactional()) {
            self.in_transaction.insert(producer.id);
        }
        let is_aborted = aborted.hold(header);
        let Judge { keys, until, now, keyless, .. } = self;
        let horizon_passed = header.delete_horizon().is_some_and(|horizon| horizon <= *now);
        thin(header, batch, emptied, self.horizon, |record: &RawRecord<'_>| {
            if record.offset >= *until {
                return Fate::Stays;
            }
            let Some(key) = record.key.filter(|_| !is_aborted) else {
                *keyless += u64::from(!is_aborted);
                return Fate::Goes;
            };
            let is_newest = keys.newest(key).is_none_or(|newest| newest <= record.offset);
            match (is_newest, record.is_tombstone) {
                (false, _) => Fate::Goes,
                (true, false) => Fate::Stays,
                (true, true) if horizon_passed => Fate::Goes,
                (true, true) => Fate::StaysForAWhile,
            }
        })
    }

    fn emptied(&self, header: &BatchHeader) -> Emptied {
        let is_last = header.producer().is_some_and(|producer| match self.last.get(&producer.id) {
            Some(LastBatch::Records(last)) => header.last_offset() == *last,
            Some(LastBatch::Marker(epoch)) => header.is_control() && producer.epoch == *epoch,
            None => false,
        });
        let ends = header.next_offset() == self.until;
        if is_last || ends { Emptied::Stays } else { Emptied::Goes }
    }

    fn marker(&mut self, header: &BatchHeader) -> Fate {
        let Some(producer) = header.producer() else { return Fate::Stays };
        if self.in_transaction.remove(&producer.id) {
            return Fate::Stays;
        }
        match header.delete_horizon() {
            Some(horizon) if horizon <= self.now => Fate::Goes,
            Some(_) | None => Fate::StaysForAWhile,
        }
    }
}
