//! The bytes of a sealed segment's object.
//!
//! ```text
//! log bytes, as on disk | offset index | time index | aborted transactions | producer snapshot | leader epochs | block checksums
//! | footer (envelope "AQSF") | trailer: footer length (u32), tail length (u32), "AQUIFER1"
//! ```
//!
//! Everything behind the log is the *tail*. The footer says of each part where it is, how long, its CRC-32C and how it is coded
//! and encrypted (0: not at all). The trailer has a fixed length, so one read from the end finds the rest; the manifest knows
//! the tail's length, so a reader needs exactly one. A segment's image may lie anywhere in an object: positions count from its
//! start.
//!
//! The log is checksummed in blocks of `BLOCK_BYTES`, so that any aligned part of it can be verified by itself as it comes
//! back, whatever batches it cuts.
//!
//! Objects are written once and never changed; half of one is never visible, in any store.

/// Checksums of blocks.
mod blocks;
/// Reads a log once: verifies each batch, and makes the indexes.
pub mod scan;

use aquifer_model::format::{Format, FormatError, Reader, Tags, Writer, crc32c};
use aquifer_model::offset_index::{self, OffsetEntry};
use aquifer_model::time_index::{self, TimeEntry};
use aquifer_model::{
    AbortedTxn, ByteCount, LeaderEpoch, LeaderEpochs, Offset, OffsetRange, PartitionIndex, SealedSegment,
    Timestamp, TopicId, TopicPartition, aborted,
};
use bytes::Bytes;

pub use blocks::BlockSums;

/// The log's checksummed block, in bytes. Written into each footer; readers go by that.
pub const BLOCK_BYTES: u32 = 1 << 20;
/// The trailer's length, in bytes.
pub const TRAILER_BYTES: usize = 16;
/// What a reader that knows no tail length reads from the end first.
pub const TAIL_GUESS: ByteCount = ByteCount::kib(64);
/// No tail is longer: the indexes of a 4 GiB segment stay far below.
pub const TAIL_BYTES_MAX: ByteCount = ByteCount::mib(64);

const FOOTER: Format = Format { name: "segment footer", magic: *b"AQSF", version: 1 };
const END: [u8; 8] = *b"AQUIFER1";

/// A part's kind; never renumbered. Kinds unknown here are skipped: one that must be understood comes as a required field.
mod kind {
    pub(super) const LOG: u64 = 0;
    pub(super) const OFFSET_INDEX: u64 = 1;
    pub(super) const TIME_INDEX: u64 = 2;
    pub(super) const ABORTED: u64 = 3;
    pub(super) const PRODUCERS: u64 = 4;
    pub(super) const EPOCHS: u64 = 5;
    pub(super) const BLOCK_CHECKSUMS: u64 = 6;
}

/// Codec and encryption of a part that is stored as it is.
const PLAIN: u8 = 0;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    kind: u64,
    position: u64,
    length: u64,
    crc: u32,
    codec: u8,
    encryption: u8,
}

/// All that a segment's object says besides the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIndex {
    /// Whose log.
    pub partition: TopicPartition,
    /// Its facts.
    pub segment: SealedSegment,
    /// The epoch of the leader that uploaded it.
    pub uploader: LeaderEpoch,
    /// CRC-32C of the log.
    pub log_crc: u32,
    /// Length of a checksummed block.
    pub block_bytes: u32,
    /// CRC-32C of each block of the log.
    pub block_crcs: Vec<u32>,
    /// Sparse, by offset.
    pub offsets: Vec<OffsetEntry>,
    /// Sparse, by time.
    pub times: Vec<TimeEntry>,
    /// Every aborted transaction that overlaps the segment.
    pub aborted: Vec<AbortedTxn>,
    /// The producers' state at the segment's end, in the local log's own format.
    pub producers: Bytes,
}

/// Why a tail could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TailError {
    /// It is longer than what was read: read this many bytes from the end.
    #[error("the tail is {0} long")]
    More(ByteCount),
    /// It makes no sense.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl SegmentIndex {
    /// The tail that goes behind the log.
    pub fn encode_tail(&self) -> Vec<u8> {
        let log_bytes = self.segment.log_bytes.get();
        let mut out = Vec::new();
        let plain = |kind, position, length, crc| Part {
            kind,
            position,
            length,
            crc,
            codec: PLAIN,
            encryption: PLAIN,
        };
        let mut parts = vec![plain(kind::LOG, 0, log_bytes, self.log_crc)];
        let mut epochs = Writer::new();
        self.segment.epochs.write(&mut epochs);
        let crcs: Vec<u8> = self.block_crcs.iter().flat_map(|crc| crc.to_be_bytes()).collect();
        for (kind, bytes) in [
            (kind::OFFSET_INDEX, offset_index::encode(&self.offsets)),
            (kind::TIME_INDEX, time_index::encode(&self.times)),
            (kind::ABORTED, aborted::encode(&self.aborted)),
            (kind::PRODUCERS, self.producers.to_vec()),
            (kind::EPOCHS, epochs.finish()),
            (kind::BLOCK_CHECKSUMS, crcs),
        ] {
            parts.push(plain(kind, log_bytes + out.len() as u64, bytes.len() as u64, crc32c(&[&bytes])));
            out.extend_from_slice(&bytes);
        }
        let footer = self.encode_footer(&parts);
        out.extend_from_slice(&footer);
        let length =
            |count: usize| u32::try_from(count).expect("tails are bounded far below 4 GiB").to_be_bytes();
        let tail = length(out.len() + TRAILER_BYTES);
        out.extend_from_slice(&length(footer.len()));
        out.extend_from_slice(&tail);
        out.extend_from_slice(&END);
        out
    }

    fn encode_footer(&self, parts: &[Part]) -> Vec<u8> {
        let mut body = Writer::new();
        body.uuid(self.partition.topic.uuid());
        body.i32(self.partition.partition.0);
        body.i64(self.segment.range.base.get());
        body.i64(self.segment.range.next.get());
        body.i64(self.segment.timestamp_max.0);
        body.i64(self.segment.sealed_at.0);
        body.i32(self.uploader.get());
        body.u32(self.block_bytes);
        body.list(parts, |body, part| {
            body.varint(part.kind);
            body.u64(part.position);
            body.u64(part.length);
            body.u32(part.crc);
            body.u8(part.codec);
            body.u8(part.encryption);
        });
        body.tags(&Tags::default());
        FOOTER.seal(&body.finish())
    }

    /// Reads a tail from the last bytes of an image, as many as there are.
    pub fn decode_tail(bytes: &Bytes) -> Result<SegmentIndex, TailError> {
        let short = || FormatError::Short { format: FOOTER.name };
        let trailer = bytes.len().checked_sub(TRAILER_BYTES).ok_or_else(short)?;
        let mut reader = Reader::new(FOOTER.name, &bytes[trailer..]);
        let (footer_bytes, tail_bytes) = (reader.u32()? as usize, reader.u32()? as usize);
        if reader.rest() != END {
            return Err(FormatError::Magic { format: FOOTER.name }.into());
        }
        if tail_bytes as u64 > TAIL_BYTES_MAX.get() || footer_bytes + TRAILER_BYTES > tail_bytes {
            return Err(FOOTER.invalid("the trailer's lengths make no sense").into());
        }
        let Some(start) = bytes.len().checked_sub(tail_bytes) else {
            return Err(TailError::More(ByteCount(tail_bytes as u64)));
        };
        let tail = bytes.slice(start..);
        let (_, body) = FOOTER.open(&tail[tail_bytes - TRAILER_BYTES - footer_bytes..])?;
        Ok(Footer::decode(body)?.index(&tail)?)
    }

    /// Checks a run of whole blocks of the log, `position` being a multiple of the block's length; the last may be the log's end.
    pub fn verify(&self, position: u64, bytes: &[u8]) -> Result<(), BadBlock> {
        let sums = bytes.chunks(self.block_bytes as usize).map(|block| crc32c(&[block]));
        self.compare(position, sums)
    }

    /// The same for bytes whose sums are known. Sums of blocks of another length than this object's prove nothing: an error.
    pub fn verify_sums(&self, position: u64, sums: &[u32]) -> Result<(), BadBlock> {
        if self.block_bytes != BLOCK_BYTES {
            return Err(BadBlock { position });
        }
        self.compare(position, sums.iter().copied())
    }

    fn compare(&self, position: u64, sums: impl Iterator<Item = u32>) -> Result<(), BadBlock> {
        let block_bytes = u64::from(self.block_bytes);
        for (index, sum) in (position / block_bytes..).zip(sums) {
            let expected = usize::try_from(index).ok().and_then(|index| self.block_crcs.get(index));
            if expected != Some(&sum) {
                return Err(BadBlock { position: index * block_bytes });
            }
        }
        Ok(())
    }
}

/// Bytes that are not what was uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the block at {position} has a wrong checksum")]
pub struct BadBlock {
    /// Where the block starts in the log.
    pub position: u64,
}

struct Footer {
    partition: TopicPartition,
    range: OffsetRange,
    timestamp_max: Timestamp,
    sealed_at: Timestamp,
    uploader: LeaderEpoch,
    block_bytes: u32,
    parts: Vec<Part>,
}

impl Footer {
    fn decode(body: &[u8]) -> Result<Footer, FormatError> {
        let mut body = FOOTER.reader(body);
        let topic = TopicId::new(body.uuid()?);
        let partition = TopicPartition { topic, partition: PartitionIndex(body.i32()?) };
        let offset = |number| Offset::new(number).ok_or_else(|| FOOTER.invalid("an offset is negative"));
        let range = OffsetRange { base: offset(body.i64()?)?, next: offset(body.i64()?)? };
        let footer = Footer {
            partition,
            range,
            timestamp_max: Timestamp(body.i64()?),
            sealed_at: Timestamp(body.i64()?),
            uploader: LeaderEpoch::new(body.i32()?).ok_or_else(|| FOOTER.invalid("the epoch is negative"))?,
            block_bytes: body.u32()?,
            parts: body.list(23, |body| {
                Ok(Part {
                    kind: body.varint()?,
                    position: body.u64()?,
                    length: body.u64()?,
                    crc: body.u32()?,
                    codec: body.u8()?,
                    encryption: body.u8()?,
                })
            })?,
        };
        body.tags(&[])?;
        body.end()?;
        if range.base > range.next || footer.block_bytes == 0 {
            return Err(FOOTER.invalid("the range or the block's length makes no sense"));
        }
        Ok(footer)
    }

    fn part(&self, kind: u64) -> Result<&Part, FormatError> {
        let part = self.parts.iter().find(|part| part.kind == kind);
        let part = part.ok_or_else(|| FOOTER.invalid("a part is missing"))?;
        if part.codec != PLAIN || part.encryption != PLAIN {
            return Err(
                FOOTER.invalid("a part is coded or encrypted in a way unknown here: use a newer aquifer")
            );
        }
        Ok(part)
    }

    /// A part's bytes, checked. The tail starts where the log ends.
    fn bytes(&self, kind: u64, tail: &Bytes) -> Result<Bytes, FormatError> {
        let (log, part) = (self.part(kind::LOG)?, self.part(kind)?);
        let start = part.position.checked_sub(log.length).and_then(|start| usize::try_from(start).ok());
        let end = start.and_then(|start| start.checked_add(usize::try_from(part.length).ok()?));
        let (Some(start), Some(end)) = (start, end.filter(|end| *end <= tail.len())) else {
            return Err(FormatError::Short { format: FOOTER.name });
        };
        let bytes = tail.slice(start..end);
        if crc32c(&[&bytes]) != part.crc {
            return Err(FormatError::Checksum { format: FOOTER.name });
        }
        Ok(bytes)
    }

    fn index(&self, tail: &Bytes) -> Result<SegmentIndex, FormatError> {
        let log = self.part(kind::LOG)?;
        let epochs = self.bytes(kind::EPOCHS, tail)?;
        let mut epochs = Reader::new(FOOTER.name, &epochs);
        let crcs = self.bytes(kind::BLOCK_CHECKSUMS, tail)?;
        let blocks = log.length.div_ceil(u64::from(self.block_bytes));
        if crcs.len() as u64 != blocks * 4 {
            return Err(FOOTER.invalid("there is not one checksum for each block"));
        }
        let index = SegmentIndex {
            partition: self.partition,
            segment: SealedSegment {
                range: self.range,
                log_bytes: ByteCount(log.length),
                timestamp_max: self.timestamp_max,
                sealed_at: self.sealed_at,
                epochs: LeaderEpochs::read(&mut epochs)?,
            },
            uploader: self.uploader,
            log_crc: log.crc,
            block_bytes: self.block_bytes,
            block_crcs: crcs
                .chunks_exact(4)
                .map(|crc| u32::from_be_bytes([crc[0], crc[1], crc[2], crc[3]]))
                .collect(),
            offsets: offset_index::decode(&self.bytes(kind::OFFSET_INDEX, tail)?)?,
            times: time_index::decode(&self.bytes(kind::TIME_INDEX, tail)?)?,
            aborted: aborted::decode(&self.bytes(kind::ABORTED, tail)?)?,
            producers: self.bytes(kind::PRODUCERS, tail)?,
        };
        epochs.end()?;
        Ok(index)
    }
}

#[cfg(test)]
mod tests;
