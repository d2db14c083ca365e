//! Reads a log once: verifies each batch, and makes the indexes.
//!
//! Whatever goes into the bucket stays for ever, so nothing goes in on trust: every batch's checksum is checked on its way up,
//! offsets must rise, and each batch's epoch must be the one that the segment's history says. The indexes are made from the
//! same bytes; the local ones, which may be damaged, are not used.
//!
//! Pure: it is fed pieces of any size, in order.

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::offset_index::OffsetEntry;
use aquifer_model::time_index::TimeEntry;
use aquifer_model::{BatchError, BatchHeader, ByteCount, LeaderEpochs, Offset, OffsetRange, Timestamp};
use crc_fast::{CrcAlgorithm, Digest};

use super::BlockSums;

/// Where a batch's checksummed part starts, and where its checksum lies.
const CHECKSUMMED_FROM: usize = 21;
const CHECKSUM_AT: usize = 17;

/// Why local bytes must not be uploaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not a batch, or not the one that was written.
    #[error("at {position}: {source}")]
    Batch {
        /// Where in the log.
        position: u64,
        /// What is wrong.
        source: BatchError,
    },
    /// A batch out of order, or outside of the segment's range.
    #[error(
        "at {position}: the batch at offset {found} should start at or behind {expected}, and end within {range}"
    )]
    Offset {
        /// Where in the log.
        position: u64,
        /// Its base offset.
        found: Offset,
        /// The least that it could be.
        expected: Offset,
        /// The segment's.
        range: OffsetRange,
    },
    /// A batch of a leader that the segment's history does not know there.
    #[error(
        "at {position}: the batch at offset {offset} has another leader epoch than the segment's history"
    )]
    Epoch {
        /// Where in the log.
        position: u64,
        /// Its base offset.
        offset: Offset,
    },
    /// The log ends within a batch.
    #[error("the log ends within the batch at {position}")]
    Cut {
        /// Where the batch starts.
        position: u64,
    },
}

/// What was learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Bytes seen.
    pub log_bytes: ByteCount,
    /// CRC-32C of all of them.
    pub log_crc: u32,
    /// CRC-32C of each block.
    pub block_crcs: Vec<u32>,
    /// The newest timestamp of a batch.
    pub timestamp_max: Timestamp,
    /// Sparse, by offset.
    pub offsets: Vec<OffsetEntry>,
    /// Sparse, by time.
    pub times: Vec<TimeEntry>,
    /// How many batches there were.
    pub batches: u64,
}

/// The walk under way.
#[derive(Debug)]
pub struct Scan {
    range: OffsetRange,
    epochs: LeaderEpochs,
    interval: u64,
    position: u64,
    expected: Offset,
    indexed_until: Option<u64>,
    batch: Option<OpenBatch>,
    head: Vec<u8>,
    blocks: BlockSums,
    log: Digest,
    found: Scanned,
}

/// A batch whose end has not been seen.
#[derive(Debug)]
struct OpenBatch {
    position: u64,
    left: usize,
    crc: Digest,
    stated: u32,
}

fn digest() -> Digest {
    Digest::new(CrcAlgorithm::Crc32Iscsi)
}

impl Scan {
    /// A walk over the log of `range`, written by these leaders, with an index entry for about each `interval`.
    pub fn new(range: OffsetRange, epochs: LeaderEpochs, interval: ByteCount) -> Scan {
        let found = Scanned {
            log_bytes: ByteCount::ZERO,
            log_crc: 0,
            block_crcs: Vec::new(),
            timestamp_max: Timestamp::NONE,
            offsets: Vec::new(),
            times: Vec::new(),
            batches: 0,
        };
        Scan {
            range,
            epochs,
            interval: interval.get(),
            position: 0,
            expected: range.base,
            indexed_until: None,
            batch: None,
            head: Vec::with_capacity(HEADER_BYTES),
            blocks: BlockSums::default(),
            log: digest(),
            found,
        }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), ScanError> {
        self.checksum(piece);
        let mut left = piece;
        while !left.is_empty() {
            left = match &mut self.batch {
                None => self.take_head(left)?,
                Some(_) => self.take_body(left)?,
            };
        }
        Ok(())
    }

    /// Ends the walk.
    pub fn finish(mut self) -> Result<Scanned, ScanError> {
        if self.batch.is_some() || !self.head.is_empty() {
            let within =
                self.batch.as_ref().map_or(self.position - self.head.len() as u64, |batch| batch.position);
            return Err(ScanError::Cut { position: within });
        }
        self.found.block_crcs = self.blocks.finish();
        self.found.log_crc = self.log.finalize() as u32;
        self.found.log_bytes = ByteCount(self.position);
        Ok(self.found)
    }

    fn checksum(&mut self, piece: &[u8]) {
        self.log.update(piece);
        self.blocks.update(piece);
    }

    fn take_head<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], ScanError> {
        let missing = HEADER_BYTES - self.head.len();
        let (head, rest) = piece.split_at(missing.min(piece.len()));
        self.head.extend_from_slice(head);
        self.position += head.len() as u64;
        if self.head.len() == HEADER_BYTES {
            let head = std::mem::take(&mut self.head);
            self.begin(&head, self.position - HEADER_BYTES as u64)?;
        }
        Ok(rest)
    }

    fn begin(&mut self, head: &[u8], position: u64) -> Result<(), ScanError> {
        let header = BatchHeader::parse(head).map_err(|source| ScanError::Batch { position, source })?;
        let found = header.base_offset;
        if found < self.expected || header.next_offset() > self.range.next {
            return Err(ScanError::Offset { position, found, expected: self.expected, range: self.range });
        }
        if header.leader_epoch.is_none() || header.leader_epoch != self.epochs.epoch_at(found) {
            return Err(ScanError::Epoch { position, offset: found });
        }
        self.expected = header.next_offset();
        self.index(&header, position);
        let mut crc = digest();
        crc.update(&head[CHECKSUMMED_FROM..]);
        let stated = u32::from_be_bytes([0, 1, 2, 3].map(|at| head[CHECKSUM_AT + at]));
        self.batch = Some(OpenBatch { position, left: header.size() - HEADER_BYTES, crc, stated });
        self.end_of_batch()
    }

    fn take_body<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], ScanError> {
        let Some(batch) = &mut self.batch else {
            return Ok(piece);
        };
        let (body, rest) = piece.split_at(batch.left.min(piece.len()));
        batch.crc.update(body);
        batch.left -= body.len();
        self.position += body.len() as u64;
        self.end_of_batch()?;
        Ok(rest)
    }

    fn end_of_batch(&mut self) -> Result<(), ScanError> {
        let Some(batch) = self.batch.take_if(|batch| batch.left == 0) else {
            return Ok(());
        };
        let (found, computed) = (batch.stated, batch.crc.finalize() as u32);
        if found != computed {
            let source = BatchError::Checksum { found, computed };
            return Err(ScanError::Batch { position: batch.position, source });
        }
        self.found.batches += 1;
        Ok(())
    }

    fn index(&mut self, header: &BatchHeader, position: u64) {
        self.found.timestamp_max = self.found.timestamp_max.max(header.max_timestamp());
        let due = self.indexed_until.is_none_or(|until| position >= until);
        let relative = u32::try_from(header.base_offset.since(self.range.base));
        let (true, Ok(relative), Ok(position32)) = (due, relative, u32::try_from(position)) else {
            return;
        };
        self.indexed_until = Some(position + self.interval);
        self.found.offsets.push(OffsetEntry { relative, position: position32 });
        let timestamp = self.found.timestamp_max;
        if self.found.times.last().is_none_or(|last| last.timestamp < timestamp) {
            self.found.times.push(TimeEntry { timestamp, relative });
        }
    }
}
