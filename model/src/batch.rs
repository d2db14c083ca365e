//! The header of a record batch v2, and the few fields of it that a broker may change.
//!
//! ```text
//!  0 base offset      i64 ┐                        43 producer id     i64
//!  8 batch length     i32 │ outside the checksum   51 producer epoch  i16
//! 12 leader epoch     i32 │                        53 base sequence   i32
//! 16 magic            i8  │                        57 record count    i32
//! 17 CRC-32C          u32 ┘                        61 records (compressed as one, or not)
//! 21 attributes       i16 ┐
//! 23 last offset delta i32│ all under the checksum, to the end
//! 27 base timestamp   i64 │
//! 35 max timestamp    i64 ┘
//! ```
//!
//! Batches pass through the broker untouched: it reads these 61 bytes, checks the checksum, sets base offset and leader epoch
//! (which lie outside it) and moves the rest by reference. Only a topic with `message.timestamp.type=LogAppendTime` has more of
//! the header written anew, and its checksum with it.

use crate::compression::Compression;
use crate::format::crc32c;
use crate::ids::{ProducerEpoch, ProducerId};
use crate::offset::{LeaderEpoch, Offset};
use crate::time::Timestamp;

/// Length of the header, in bytes.
pub const HEADER_BYTES: usize = 61;
/// The part of the header that `batch length` does not count.
pub const LENGTH_PREFIX_BYTES: usize = 12;
/// Where the checksummed part starts.
const CHECKSUMMED_FROM: usize = 21;
/// The only format that Aquifer stores; 0 and 1 went out of use with Kafka 0.11.
const MAGIC: u8 = 2;

const COMPRESSION_BITS: i16 = 0b111;
const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

/// Why bytes are no record batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header, or than the batch length says.
    #[error("record batch is cut short")]
    Short,
    /// Message format 0 or 1, or no batch at all.
    #[error("record batch has magic {0}, only 2 is supported")]
    Magic(u8),
    /// The bytes changed after the producer made them.
    #[error("record batch has checksum {found:#010x}, its bytes give {computed:#010x}")]
    Checksum {
        /// In the header.
        found: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// The header contradicts itself.
    #[error("record batch has an invalid {0}")]
    Field(&'static str),
}

/// A producer's place in its sequence, as one batch states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchProducer {
    /// Who.
    pub id: ProducerId,
    /// Which incarnation.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record; the others follow, and 0 comes after 2^31 - 1.
    pub base_sequence: i32,
}

/// The 61 bytes, read. The fields a broker never looks at (`attributes` apart from its named bits) are kept as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record; what a producer sent here means nothing until [`BatchHeader::place`].
    pub base_offset: Offset,
    /// Bytes after the length field: 49 of header and the records.
    batch_length: i32,
    /// Epoch of the leader that wrote it; `None` in what producers send.
    pub leader_epoch: Option<LeaderEpoch>,
    crc: u32,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`. Checks what the header alone can say of itself, not the checksum and not that
    /// all of the batch is present.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            // The magic lies within what even a short message of an old format has.
            return Err(match bytes.get(16) {
                Some(&magic) if magic != MAGIC => BatchError::Magic(magic),
                _ => BatchError::Short,
            });
        };
        if head[16] != MAGIC {
            return Err(BatchError::Magic(head[16]));
        }
        let header = BatchHeader {
            base_offset: Offset::new(i64_at(head, 0)).ok_or(BatchError::Field("base offset"))?,
            batch_length: i32_at(head, 8),
            leader_epoch: LeaderEpoch::new(i32_at(head, 12)),
            crc: i32_at(head, 17) as u32,
            attributes: i16_at(head, 21),
            last_offset_delta: i32_at(head, 23),
            base_timestamp: Timestamp(i64_at(head, 27)),
            max_timestamp: Timestamp(i64_at(head, 35)),
            producer_id: i64_at(head, 43),
            producer_epoch: i16_at(head, 51),
            base_sequence: i32_at(head, 53),
            record_count: i32_at(head, 57),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), BatchError> {
        if self.batch_length < (HEADER_BYTES - LENGTH_PREFIX_BYTES) as i32 {
            return Err(BatchError::Field("length"));
        }
        if self.last_offset_delta < 0
            || self.base_offset.get().checked_add(i64::from(self.last_offset_delta)).is_none()
        {
            return Err(BatchError::Field("last offset delta"));
        }
        if self.record_count < 0 {
            return Err(BatchError::Field("record count"));
        }
        if self.compression_bits().is_none() {
            return Err(BatchError::Field("compression type"));
        }
        Ok(())
    }

    /// The header as bytes, checksum field included as it stands.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0..8].copy_from_slice(&self.base_offset.get().to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.leader_epoch.map_or(-1, LeaderEpoch::get).to_be_bytes());
        out[16] = MAGIC;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
        out
    }

    /// The whole batch's length, in bytes, header included.
    pub fn size(&self) -> usize {
        self.batch_length as usize + LENGTH_PREFIX_BYTES
    }

    /// Checks the checksum of a whole batch, `bytes[..size]`.
    pub fn verify(&self, bytes: &[u8]) -> Result<(), BatchError> {
        let whole = bytes.get(..self.size()).ok_or(BatchError::Short)?;
        let computed = crc32c(&[&whole[CHECKSUMMED_FROM..]]);
        if computed == self.crc { Ok(()) } else { Err(BatchError::Checksum { found: self.crc, computed }) }
    }

    /// Sets what a leader decides: where the batch lies, and under which leader. The checksum does not cover these.
    pub fn place(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        self.base_offset = base_offset;
        self.leader_epoch = Some(leader_epoch);
    }

    /// Sets the time of arrival as the time of every record (`LogAppendTime`), and the checksum anew. `records` is all that
    /// follows the header.
    pub fn stamp(&mut self, arrival: Timestamp, records: &[u8]) {
        self.attributes |= LOG_APPEND_TIME_BIT;
        self.max_timestamp = arrival;
        self.set_checksum(records);
    }

    /// Corrects the newest timestamp to what the records say, and the checksum with it. `records` is all that follows the header.
    pub fn correct_max_timestamp(&mut self, timestamp: Timestamp, records: &[u8]) {
        self.max_timestamp = timestamp;
        self.set_checksum(records);
    }

    /// Writes the checksum anew over the header's fields and `records`.
    pub fn set_checksum(&mut self, records: &[u8]) {
        let head = self.to_bytes();
        self.crc = crc32c(&[&head[CHECKSUMMED_FROM..], records]);
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as u64)
    }

    /// The first offset behind the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// How many offsets the batch takes up; more than its records once compaction has thinned it.
    pub fn offset_count(&self) -> u64 {
        self.last_offset_delta as u64 + 1
    }

    /// How many records it holds.
    pub fn record_count(&self) -> u32 {
        self.record_count as u32
    }

    /// How its records are compressed.
    pub fn compression(&self) -> Compression {
        self.compression_bits().expect("parse refuses a compression type that does not exist")
    }

    fn compression_bits(&self) -> Option<Compression> {
        Compression::from_bits((self.attributes & COMPRESSION_BITS) as u8)
    }

    /// Timestamp of its first record when it was made.
    pub fn base_timestamp(&self) -> Timestamp {
        self.base_timestamp
    }

    /// The newest of its records' timestamps, as the header says.
    pub fn max_timestamp(&self) -> Timestamp {
        self.max_timestamp
    }

    /// Whether the records' timestamps are the time of arrival.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// Whether it is part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// Whether its record is a marker of a transaction's end. Clients may not send these.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Whether `base timestamp` is the time at which compaction may drop its tombstones. Clients may not send these.
    pub fn has_delete_horizon(&self) -> bool {
        self.attributes & DELETE_HORIZON_BIT != 0
    }

    /// From when on compaction may drop its tombstones, or the marker that it is; `None` before a first pass has seen them.
    /// Where there is one it stands in place of the base timestamp, and the records' timestamps count from it (KIP-534).
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        self.has_delete_horizon().then_some(self.base_timestamp)
    }

    /// The header of what compaction leaves of this batch: the same offsets, leader, producer and kind. `records` is all that
    /// follows it, as stored.
    ///
    /// # Panics
    /// For more records than there were, or 2 GiB of them.
    pub fn thinned(&self, left: &Thinned, records: &[u8]) -> BatchHeader {
        let Thinned { compression, record_count, base, max_timestamp } = *left;
        let (base_timestamp, horizon) = match base {
            BaseTimestamp::OfRecords(timestamp) => (timestamp, 0),
            BaseTimestamp::DeleteHorizon(timestamp) => (timestamp, DELETE_HORIZON_BIT),
        };
        let record_count = i32::try_from(record_count).ok().filter(|count| *count <= self.record_count);
        let batch_length = i32::try_from(HEADER_BYTES - LENGTH_PREFIX_BYTES + records.len());
        let mut header = BatchHeader {
            batch_length: batch_length.expect("batches are bounded far below 2 GiB"),
            attributes: self.attributes & !(COMPRESSION_BITS | DELETE_HORIZON_BIT)
                | i16::from(compression.bits())
                | horizon,
            base_timestamp,
            max_timestamp,
            record_count: record_count.expect("compaction adds no records"),
            ..*self
        };
        header.set_checksum(records);
        header
    }

    /// The idempotent producer behind it; `None` where there is none.
    pub fn producer(&self) -> Option<BatchProducer> {
        if self.producer_id < 0 {
            return None;
        }
        Some(BatchProducer {
            id: ProducerId(self.producer_id),
            epoch: ProducerEpoch(self.producer_epoch),
            base_sequence: self.base_sequence,
        })
    }

    /// The sequence of its last record, for a batch of an idempotent producer.
    pub fn last_sequence(&self) -> i32 {
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last % (i64::from(i32::MAX) + 1)) as i32
    }
}

/// What the base timestamp of a batch says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseTimestamp {
    /// Only what the records' timestamps count from.
    OfRecords(Timestamp),
    /// That, and when its tombstones may go.
    DeleteHorizon(Timestamp),
}

/// What compaction leaves of a batch, as far as its header says.
#[derive(Debug, Clone, Copy)]
pub struct Thinned {
    /// How the records that are left are compressed.
    pub compression: Compression,
    /// How many are left; may be none.
    pub record_count: u32,
    /// What their timestamps count from.
    pub base: BaseTimestamp,
    /// The newest of them, or [`Timestamp::NONE`].
    pub max_timestamp: Timestamp,
}

/// Everything that makes up a header that is written here rather than received.
#[derive(Debug, Clone, Copy)]
pub struct NewBatch {
    /// How `records` is compressed.
    pub compression: Compression,
    /// Part of a transaction.
    pub transactional: bool,
    /// Holds a marker.
    pub control: bool,
    /// Timestamp of the first record.
    pub base_timestamp: Timestamp,
    /// Newest timestamp.
    pub max_timestamp: Timestamp,
    /// The idempotent producer, if any.
    pub producer: Option<BatchProducer>,
    /// How many records, at least 1.
    pub record_count: u32,
}

impl NewBatch {
    /// A header for these records (as stored, compressed or not), at offset 0 and without a leader.
    ///
    /// # Panics
    /// For no records, or 2 GiB of them: whoever builds batches bounds them far below.
    pub fn header(&self, records: &[u8]) -> BatchHeader {
        assert!(self.record_count > 0, "a batch holds a record");
        let record_count =
            i32::try_from(self.record_count).expect("batches are bounded far below 2^31 records");
        let batch_length = i32::try_from(HEADER_BYTES - LENGTH_PREFIX_BYTES + records.len())
            .expect("batches are bounded far below 2 GiB");
        let bit = |set: bool, bit: i16| if set { bit } else { 0 };
        let mut header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length,
            leader_epoch: None,
            crc: 0,
            attributes: i16::from(self.compression.bits())
                | bit(self.transactional, TRANSACTIONAL_BIT)
                | bit(self.control, CONTROL_BIT),
            last_offset_delta: record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.map_or(-1, |producer| producer.id.0),
            producer_epoch: self.producer.map_or(-1, |producer| producer.epoch.0),
            base_sequence: self.producer.map_or(-1, |producer| producer.base_sequence),
            record_count,
        };
        header.set_checksum(records);
        header
    }
}

fn i64_at(head: &[u8; HEADER_BYTES], at: usize) -> i64 {
    let mut out = [0; 8];
    out.copy_from_slice(&head[at..at + 8]);
    i64::from_be_bytes(out)
}

fn i32_at(head: &[u8; HEADER_BYTES], at: usize) -> i32 {
    let mut out = [0; 4];
    out.copy_from_slice(&head[at..at + 4]);
    i32::from_be_bytes(out)
}

fn i16_at(head: &[u8; HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes([head[at], head[at + 1]])
}
