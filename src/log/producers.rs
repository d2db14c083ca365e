//! What a log remembers of its producers: sequences, so that a retry is not a second record, and open transactions. Pure.
//!
//! Per producer: its newest epoch, its last five batches (a client has at most five in flight), and the start of its open
//! transaction. A batch is first judged ([`Producers::judge`]), then written, then noted ([`Producers::note`]): a batch that
//! could not be written leaves no trace. The state is a function of the batches in order, so that replaying a log's tail over a
//! snapshot gives what was lost in a crash.
//!
//! Knows no file, and of time only what it is told: `last_seen` is the broker's clock, since producers that send old timestamps
//! must not be forgotten for it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use aquifer_model::format::{FormatError, Reader, Tags, Writer};
use aquifer_model::{AbortedTxn, BatchHeader, Offset, ProducerEpoch, ProducerId, Timestamp};
use bytes::Bytes;

/// Batches remembered per producer: as many as an idempotent client may have in flight.
const BATCHES_MAX: usize = 5;
/// When there are too many producers, this part of them goes at once, so that each newcomer does not search all.
const FORGET_SHARE: usize = 16;

/// The producers of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    entries: HashMap<ProducerId, Entry>,
    /// Open transactions, by their first offset.
    open: BTreeMap<Offset, ProducerId>,
    /// Ended transactions whose markers may lie at or above the high watermark, in order of their markers.
    ended: VecDeque<EndedTxn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    epoch: ProducerEpoch,
    /// The last batches, oldest first; `len` of them count.
    batches: [Sent; BATCHES_MAX],
    len: u8,
    last_seen: Timestamp,
    txn_first: Option<Offset>,
    coordinator_epoch: i32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sent {
    base_sequence: i32,
    last_sequence: i32,
    base: Offset,
    last: Offset,
    timestamp: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct EndedTxn {
    first: Offset,
    marker: Offset,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It continues its producer's sequence.
    New,
    /// It was written before, there.
    Duplicate { base: Offset, last: Offset, timestamp: Timestamp },
    /// It leaves a gap, or goes back beyond what is remembered.
    OutOfOrder { expected: i32 },
    /// A newer incarnation has written.
    Fenced { current: ProducerEpoch },
}

/// What a marker says of its transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Abort,
    Commit,
}

/// A control record, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) ending: Ending,
    pub(crate) coordinator_epoch: i32,
}

impl Marker {
    /// From the key (version, type) and value (version, coordinator epoch) of a control record; `None` for kinds of control
    /// record that end no transaction.
    pub(crate) fn parse(key: &[u8], value: &[u8]) -> Option<Marker> {
        let kind = key.get(2..4)?;
        let ending = match i16::from_be_bytes([kind[0], kind[1]]) {
            0 => Ending::Abort,
            1 => Ending::Commit,
            _ => return None,
        };
        let epoch = value.get(2..6)?;
        Some(Marker {
            ending,
            coordinator_epoch: i32::from_be_bytes([epoch[0], epoch[1], epoch[2], epoch[3]]),
        })
    }
}

/// The batch that tells most of a producer: whoever replays a log has to come by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LastBatch {
    /// Its newest records, of which this is the last offset.
    Records(Offset),
    /// It has sent nothing since the marker of this epoch.
    Marker(ProducerEpoch),
}

/// What is remembered of one producer, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    /// Who.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record; `None` if it has written nothing in this epoch.
    pub last_sequence: Option<i32>,
    /// The newest time in its last batch.
    pub last_timestamp: Option<Timestamp>,
    /// The epoch of the coordinator that last ended a transaction of it.
    pub coordinator_epoch: i32,
    /// Where its open transaction began.
    pub transaction_start: Option<Offset>,
}

impl Producers {
    /// What is remembered of each, by id.
    pub(crate) fn states(&self) -> Vec<ProducerState> {
        let state = |(id, entry): (&ProducerId, &Entry)| ProducerState {
            id: *id,
            epoch: entry.epoch,
            last_sequence: entry.newest().map(|sent| sent.last_sequence),
            last_timestamp: entry.newest().map(|sent| Timestamp(sent.timestamp)),
            coordinator_epoch: entry.coordinator_epoch,
            transaction_start: entry.txn_first,
        };
        let mut states: Vec<ProducerState> = self.entries.iter().map(state).collect();
        states.sort_by_key(|state| state.id);
        states
    }

    /// The last batch of each.
    pub(crate) fn last_batches(&self) -> HashMap<ProducerId, LastBatch> {
        let last = |entry: &Entry| match entry.newest() {
            Some(sent) => LastBatch::Records(sent.last),
            None => LastBatch::Marker(entry.epoch),
        };
        self.entries.iter().map(|(id, entry)| (*id, last(entry))).collect()
    }

    /// How many are remembered.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Judges a batch of a client by its header; a batch without a producer is always new.
    pub(crate) fn judge(&self, header: &BatchHeader) -> Verdict {
        let Some(producer) = header.producer() else {
            return Verdict::New;
        };
        // Whoever is not known here (forgotten, or its records are gone) may start anywhere, as in Kafka.
        let Some(entry) = self.entries.get(&producer.id) else {
            return Verdict::New;
        };
        if producer.epoch < entry.epoch {
            return Verdict::Fenced { current: entry.epoch };
        }
        if header.is_control() {
            return Verdict::New;
        }
        let newer = producer.epoch > entry.epoch;
        if !newer && let Some(sent) = entry.find(producer.base_sequence, header.last_sequence()) {
            return Verdict::Duplicate {
                base: sent.base,
                last: sent.last,
                timestamp: Timestamp(sent.timestamp),
            };
        }
        let expected = match entry.newest() {
            Some(sent) if !newer => following(sent.last_sequence),
            _ => 0,
        };
        if producer.base_sequence == expected { Verdict::New } else { Verdict::OutOfOrder { expected } }
    }

    /// Notes a batch that is in the log. `marker` is its control record, if it has one. Gives the transaction that it aborts.
    pub(crate) fn note(
        &mut self,
        header: &BatchHeader,
        marker: Option<Marker>,
        now: Timestamp,
    ) -> Option<AbortedTxn> {
        let producer = header.producer()?;
        let entry = self.entries.entry(producer.id).or_insert_with(|| Entry::new(producer.epoch));
        entry.last_seen = now;
        if producer.epoch != entry.epoch {
            entry.epoch = producer.epoch;
            entry.len = 0;
        }
        if let Some(marker) = marker {
            entry.coordinator_epoch = entry.coordinator_epoch.max(marker.coordinator_epoch);
            let first = entry.txn_first.take()?;
            self.open.remove(&first);
            self.ended.push_back(EndedTxn { first, marker: header.base_offset });
            let aborted = marker.ending == Ending::Abort;
            // No later transaction can start before the oldest one that is still open.
            let stable = self.open.keys().next().copied().unwrap_or(header.next_offset());
            return aborted.then_some(AbortedTxn {
                producer: producer.id,
                first,
                last: header.base_offset,
                stable,
            });
        }
        if header.is_control() {
            return None;
        }
        entry.push(Sent {
            base_sequence: producer.base_sequence,
            last_sequence: header.last_sequence(),
            base: header.base_offset,
            last: header.last_offset(),
            timestamp: header.max_timestamp().0,
        });
        if header.is_transactional() && entry.txn_first.is_none() {
            entry.txn_first = Some(header.base_offset);
            self.open.insert(header.base_offset, producer.id);
        }
        None
    }

    /// The first offset that a reader of committed records may not pass yet, below `high_watermark`: of a transaction that is
    /// open, or whose end is not replicated yet.
    pub(crate) fn first_unstable(&mut self, high_watermark: Offset) -> Option<Offset> {
        while self.ended.front().is_some_and(|txn| txn.marker < high_watermark) {
            self.ended.pop_front();
        }
        let ended = self.ended.iter().map(|txn| txn.first).min();
        let open = self.open.keys().next().copied();
        [ended, open].into_iter().flatten().min()
    }

    /// Forgets producers idle for longer than `age`, then the longest idle while there are more than `max`. Those with an open
    /// transaction stay. Gives how many went for lack of room.
    pub(crate) fn forget(&mut self, now: Timestamp, age: Duration, max: usize) -> usize {
        self.entries.retain(|_, entry| entry.txn_first.is_some() || now.since(entry.last_seen) < age);
        if self.entries.len() <= max {
            return 0;
        }
        let mut idle: Vec<(Timestamp, ProducerId)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.txn_first.is_none())
            .map(|(id, entry)| (entry.last_seen, *id))
            .collect();
        idle.sort_unstable();
        let surplus = (self.entries.len() - max + max / FORGET_SHARE).min(idle.len());
        for (_, id) in &idle[..surplus] {
            self.entries.remove(id);
        }
        surplus
    }

    /// As bytes of their own; none where there is nothing to remember.
    pub(crate) fn encode(&self) -> Bytes {
        if self.entries.is_empty() && self.ended.is_empty() {
            return Bytes::new();
        }
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.finish().into()
    }

    /// Reads what [`Producers::encode`] gave.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Producers, FormatError> {
        if bytes.is_empty() {
            return Ok(Producers::default());
        }
        let mut reader = Reader::new("producer state", bytes);
        let producers = Producers::read(&mut reader)?;
        reader.end()?;
        Ok(producers)
    }

    /// Appends to a durable body.
    pub(crate) fn write(&self, writer: &mut Writer) {
        let mut entries: Vec<(&ProducerId, &Entry)> = self.entries.iter().collect();
        entries.sort_unstable_by_key(|(id, _)| **id);
        writer.list(&entries, |writer, (id, entry)| {
            writer.i64(id.0);
            entry.write(writer);
        });
        let ended: Vec<EndedTxn> = self.ended.iter().copied().collect();
        writer.list(&ended, |writer, txn| {
            writer.i64(txn.first.get());
            writer.i64(txn.marker.get());
        });
    }

    /// Reads what [`Producers::write`] wrote.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Producers, FormatError> {
        let entries = reader.list(24, |reader| Ok((ProducerId(reader.i64()?), Entry::read(reader)?)))?;
        let mut producers = Producers::default();
        let invalid = |what| Err(FormatError::Invalid { format: "producer state", what });
        for (id, entry) in entries {
            if let Some(first) = entry.txn_first
                && producers.open.insert(first, id).is_some()
            {
                return invalid("two transactions begin at one offset");
            }
            if producers.entries.insert(id, entry).is_some() {
                return invalid("a producer is named twice");
            }
        }
        let ended = reader
            .list(16, |reader| Ok(EndedTxn { first: read_offset(reader)?, marker: read_offset(reader)? }))?;
        producers.ended = ended.into();
        Ok(producers)
    }
}

impl Entry {
    fn new(epoch: ProducerEpoch) -> Entry {
        Entry {
            epoch,
            batches: [Sent::default(); BATCHES_MAX],
            len: 0,
            last_seen: Timestamp::NONE,
            txn_first: None,
            coordinator_epoch: -1,
        }
    }

    fn sent(&self) -> &[Sent] {
        &self.batches[..usize::from(self.len)]
    }

    fn newest(&self) -> Option<&Sent> {
        self.sent().last()
    }

    fn find(&self, base_sequence: i32, last_sequence: i32) -> Option<&Sent> {
        self.sent()
            .iter()
            .find(|sent| sent.base_sequence == base_sequence && sent.last_sequence == last_sequence)
    }

    fn push(&mut self, sent: Sent) {
        if usize::from(self.len) == BATCHES_MAX {
            self.batches.rotate_left(1);
            self.len -= 1;
        }
        self.batches[usize::from(self.len)] = sent;
        self.len += 1;
    }

    fn write(&self, writer: &mut Writer) {
        writer.i16(self.epoch.0);
        writer.i64(self.last_seen.0);
        writer.i32(self.coordinator_epoch);
        writer.option(self.txn_first, |writer, first| writer.i64(first.get()));
        writer.list(self.sent(), |writer, sent| {
            writer.i32(sent.base_sequence);
            writer.i32(sent.last_sequence);
            writer.i64(sent.base.get());
            writer.i64(sent.last.get());
            writer.i64(sent.timestamp);
        });
        writer.tags(&Tags::default());
    }

    fn read(reader: &mut Reader<'_>) -> Result<Entry, FormatError> {
        let mut entry = Entry::new(ProducerEpoch(reader.i16()?));
        entry.last_seen = Timestamp(reader.i64()?);
        entry.coordinator_epoch = reader.i32()?;
        entry.txn_first = reader.option(read_offset)?;
        let batches = reader.list(32, |reader| {
            Ok(Sent {
                base_sequence: reader.i32()?,
                last_sequence: reader.i32()?,
                base: read_offset(reader)?,
                last: read_offset(reader)?,
                timestamp: reader.i64()?,
            })
        })?;
        batches.into_iter().for_each(|sent| entry.push(sent));
        reader.tags(&[])?;
        Ok(entry)
    }
}

fn read_offset(reader: &mut Reader<'_>) -> Result<Offset, FormatError> {
    let invalid = FormatError::Invalid { format: "producer state", what: "an offset is negative" };
    Offset::new(reader.i64()?).ok_or(invalid)
}

/// Sequences go on at 0 after 2^31 - 1.
fn following(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
mod tests;
