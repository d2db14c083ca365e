//! Walks the batches of a segment file, from one position to another.
//!
//! By headers alone where the bytes are trusted (their checksum was checked when they were written, or at recovery), or with
//! every checksum where they are not. Reads a window at a time, so that a gigabyte is never in memory, and skips bodies that
//! nobody asked for.

use std::io;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::{BatchError, BatchHeader};
use aquifer_runtime::files::File;

/// Bytes read at once when only headers are wanted; small batches share a window, large ones are skipped over.
const HEADERS_WINDOW_BYTES: usize = 32 << 10;
/// Bytes read at once when all of them are wanted.
const WHOLE_WINDOW_BYTES: usize = 1 << 20;

/// How much of each batch is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Its header.
    Headers,
    /// All of it, checksum included.
    Whole,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A batch that starts at this position, in bytes from the file's start.
    Batch(u64, BatchHeader),
    /// No batch: bytes that are none, or too few of them.
    Damage(BatchError),
    /// The end.
    End,
}

/// A walk.
#[derive(Debug)]
pub(crate) struct Scan {
    file: File,
    depth: Depth,
    position: u64,
    end: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl Scan {
    /// Over `[position, end)`; `position` must be where a batch starts.
    pub(crate) fn new(file: File, depth: Depth, position: u64, end: u64) -> Scan {
        Scan { file, depth, position, end, window: Vec::new(), window_start: position }
    }

    /// Where the next batch would start.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch. After damage or the end, the same again.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        if self.position >= self.end {
            return Ok(Step::End);
        }
        let position = self.position;
        let header = match BatchHeader::parse(self.bytes(position, HEADER_BYTES)?) {
            Ok(header) => header,
            Err(error) => return Ok(Step::Damage(error)),
        };
        let size = header.size() as u64;
        if position + size > self.end {
            return Ok(Step::Damage(BatchError::Short));
        }
        if self.depth == Depth::Whole
            && let Err(error) = header.verify(self.bytes(position, header.size())?)
        {
            return Ok(Step::Damage(error));
        }
        self.position += size;
        Ok(Step::Batch(position, header))
    }

    /// Up to `count` bytes at `position`; fewer at the end.
    pub(crate) fn bytes(&mut self, position: u64, count: usize) -> io::Result<&[u8]> {
        let within = position >= self.window_start
            && position + count as u64 <= self.window_start + self.window.len() as u64;
        if !within {
            let window = match self.depth {
                Depth::Headers => HEADERS_WINDOW_BYTES,
                Depth::Whole => WHOLE_WINDOW_BYTES,
            };
            let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
            self.window = self.file.read_at(position, window.max(count).min(left))?;
            self.window_start = position;
        }
        let from = (position - self.window_start) as usize;
        let to = (from + count).min(self.window.len());
        Ok(&self.window[from.min(to)..to])
    }
}
