//! Whole batches in a run of bytes.
//!
//! A segment, an answer to Fetch and a range of an object are all the same thing: batches one behind the other. This walks
//! them by their headers, and says how the run ends.

use crate::batch::{BatchError, BatchHeader};

/// A batch found in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Where it starts in the run, in bytes.
    pub position: usize,
    /// Its header.
    pub header: BatchHeader,
}

/// How a run of batches ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// With the last byte of a batch.
    Whole,
    /// Within a batch whose header, so far as it is there, is sound.
    Partial,
    /// With bytes that are no batch.
    Invalid(BatchError),
}

/// Walks whole batches; checks headers, not checksums.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    tail: Option<Tail>,
}

impl<'a> Batches<'a> {
    /// From the start of `bytes`, which must be the start of a batch.
    pub fn new(bytes: &'a [u8]) -> Batches<'a> {
        Batches { bytes, position: 0, tail: None }
    }

    /// Where the batches seen so far end, in bytes.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How the run ended; `None` while batches are left.
    pub fn tail(&self) -> Option<Tail> {
        self.tail
    }
}

impl Iterator for Batches<'_> {
    type Item = Located;

    fn next(&mut self) -> Option<Located> {
        if self.tail.is_some() {
            return None;
        }
        let left = &self.bytes[self.position..];
        if left.is_empty() {
            self.tail = Some(Tail::Whole);
            return None;
        }
        match BatchHeader::parse(left) {
            Ok(header) if header.size() <= left.len() => {
                let position = self.position;
                self.position += header.size();
                Some(Located { position, header })
            }
            Ok(_) | Err(BatchError::Short) => {
                self.tail = Some(Tail::Partial);
                None
            }
            Err(error) => {
                self.tail = Some(Tail::Invalid(error));
                None
            }
        }
    }
}
