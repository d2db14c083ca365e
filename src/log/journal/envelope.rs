//! The bytes of the journal: an *envelope* is what one write of it holds.
//!
//! ```text
//! head: run, sequence, the pieces (whose, segment, position, length), CRC-32C of their bytes | the pieces' bytes | zeros to a block
//! ```
//!
//! A file's first envelope has no pieces, and says how long the file is.
//!
//! Envelopes start at multiples of a block, so that none shares one with another that is durable already. A file is filled from its
//! start; what lies behind its last envelope is of an earlier filling, or zeros. So an envelope counts only if it is of the same
//! *run* (an opening of the directory) as the one before it, and has a higher sequence. A run is a random number: bytes of clients,
//! of which an earlier filling is full, cannot pass for an envelope.
//!
//! Where an envelope should be and no sound one is, the file ends, unless a later one of the same filling follows: each was
//! synced before the next was written, so that something durable was damaged then.

use std::io;

use aquifer_model::format::{ENVELOPE_BYTES, Format, FormatError, Tags, Writer, crc32c};
use aquifer_model::{Offset, PartitionIndex, TopicId, TopicPartition};
use aquifer_runtime::files::File;
use bytes::Bytes;

const FORMAT: Format = Format { name: "journal envelope", magic: *b"AQJE", version: 1 };

/// Where envelopes start, in bytes: no device writes less than a sector, and none of ours has larger ones.
pub(super) const BLOCK_BYTES: u64 = 4096;
/// A head is not longer. It bounds the pieces of an envelope.
const HEAD_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a piece in the head, and of the head without pieces, at the most.
const PIECE_BYTES: u64 = 40;
const BARE_HEAD_BYTES: u64 = 64;
/// A file's length, in its first envelope.
const TAG_FILE_BYTES: u32 = 1;
/// Bytes read in one go while an envelope is looked for.
const SEARCH_BYTES: u64 = 1 << 20;

/// Bytes of a log, and where they belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) log: TopicPartition,
    /// The segment's base.
    pub(super) segment: Offset,
    pub(super) position: u64,
    pub(super) bytes: u32,
}

/// Which envelope it is, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) run: u64,
    pub(super) sequence: u64,
    pub(super) pieces: Vec<Piece>,
    pub(super) crc: u32,
    /// How long the file is that this is the first of.
    pub(super) file_bytes: Option<u64>,
}

/// What is where an envelope should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// One, with the bytes of its pieces one behind the other, and where the next would start.
    Envelope(Head, Vec<u8>, u64),
    /// Bytes that are none, or not all of one.
    Nothing,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u64(self.run);
        writer.u64(self.sequence);
        writer.list(&self.pieces, |writer, piece| {
            writer.uuid(piece.log.topic.uuid());
            writer.i32(piece.log.partition.0);
            writer.i64(piece.segment.get());
            writer.u64(piece.position);
            writer.u32(piece.bytes);
        });
        writer.u32(self.crc);
        let mut tags = Tags::default();
        if let Some(bytes) = self.file_bytes {
            tags.set_optional(TAG_FILE_BYTES, Bytes::copy_from_slice(&bytes.to_be_bytes()));
        }
        writer.tags(&tags);
        FORMAT.seal(&writer.finish())
    }

    /// The head at the start of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Result<Head, FormatError> {
        let (_, body) = FORMAT.open(bytes)?;
        let mut reader = FORMAT.reader(body);
        let (run, sequence) = (reader.u64()?, reader.u64()?);
        let pieces = reader.list(PIECE_BYTES as usize, |reader| {
            let topic = TopicId::new(reader.uuid()?);
            let log = TopicPartition { topic, partition: PartitionIndex(reader.i32()?) };
            let segment = Offset::new(reader.i64()?).ok_or(FORMAT.invalid("an offset is negative"))?;
            Ok(Piece { log, segment, position: reader.u64()?, bytes: reader.u32()? })
        })?;
        let crc = reader.u32()?;
        let tags = reader.tags(&[TAG_FILE_BYTES])?;
        reader.end()?;
        let file_bytes = tags.get(TAG_FILE_BYTES).map(|value| FORMAT.reader(value).u64()).transpose()?;
        Ok(Head { run, sequence, pieces, crc, file_bytes })
    }
}

/// How many bytes an envelope of so many pieces of so many bytes takes at the most.
pub(super) fn size(pieces: usize, bytes: u64) -> u64 {
    let head = ENVELOPE_BYTES as u64 + BARE_HEAD_BYTES + PIECE_BYTES * pieces as u64;
    (head + bytes).next_multiple_of(BLOCK_BYTES)
}

/// How many pieces may be in one envelope.
pub(super) const PIECES_MAX: usize = ((HEAD_BYTES_MAX - BARE_HEAD_BYTES) / PIECE_BYTES) as usize;

/// How long the head at the start of `bytes` says that it is, but for what it is wrapped in.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn body_bytes(bytes: &[u8]) -> Option<u32> {
    FORMAT.length(bytes)
}

/// What is at `position` of a file of `size` bytes. An envelope of a newer program at its start is an error: nothing may be passed over
/// that was promised. Elsewhere there is none, since a file is of one run, and so of one program.
pub(super) fn read(file: &File, position: u64, size: u64) -> io::Result<Result<Found, FormatError>> {
    let left = size.saturating_sub(position);
    let start = file.read_at(position, left.min(BLOCK_BYTES) as usize)?;
    let Some(length) = FORMAT.length(&start) else { return Ok(Ok(Found::Nothing)) };
    let head_bytes = ENVELOPE_BYTES as u64 + u64::from(length);
    if head_bytes > left.min(HEAD_BYTES_MAX) {
        return Ok(Ok(Found::Nothing));
    }
    let head = match start.get(..head_bytes as usize) {
        Some(head) => head.to_vec(),
        None => file.read_at(position, head_bytes as usize)?,
    };
    let head = match Head::decode(&head) {
        Ok(head) => head,
        Err(error @ (FormatError::Version { .. } | FormatError::RequiredField { .. })) if position == 0 => {
            return Ok(Err(error));
        }
        Err(_) => return Ok(Ok(Found::Nothing)),
    };
    let bytes: u64 = head.pieces.iter().map(|piece| u64::from(piece.bytes)).sum();
    if bytes > left - head_bytes {
        return Ok(Ok(Found::Nothing));
    }
    let payload = file.read_at(position + head_bytes, bytes as usize)?;
    if payload.len() as u64 != bytes || crc32c(&[&payload]) != head.crc {
        return Ok(Ok(Found::Nothing));
    }
    let next = position + (head_bytes + bytes).next_multiple_of(BLOCK_BYTES);
    Ok(Ok(Found::Envelope(head, payload, next)))
}

/// Where, behind `position`, the next sound envelope of `run` lies whose sequence is above `sequence`.
pub(super) fn find_later(
    file: &File,
    position: u64,
    size: u64,
    (run, sequence): (u64, u64),
) -> io::Result<Option<u64>> {
    let mut window_at = position + BLOCK_BYTES;
    while window_at < size {
        let window = file.read_at(window_at, SEARCH_BYTES as usize)?;
        for (block, at) in
            window.chunks(BLOCK_BYTES as usize).zip((window_at..).step_by(BLOCK_BYTES as usize))
        {
            if FORMAT.length(block).is_none() {
                continue;
            }
            if let Ok(Found::Envelope(head, ..)) = read(file, at, size)?
                && head.run == run
                && head.sequence > sequence
            {
                return Ok(Some(at));
            }
        }
        if window.is_empty() {
            break;
        }
        window_at += window.len() as u64;
    }
    Ok(None)
}
