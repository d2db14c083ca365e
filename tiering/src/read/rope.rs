//! Chunks laid end to end: batches are found in them and cut out of them without a copy.

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::{BatchError, BatchHeader};
use bytes::Bytes;

/// A run of a log's bytes, in pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct Rope {
    start: u64,
    end: u64,
    pieces: Vec<Bytes>,
}

impl Rope {
    /// An empty run that starts at this position.
    pub(super) fn new(start: u64) -> Rope {
        Rope { start, end: start, pieces: Vec::new() }
    }

    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Adds the bytes that follow.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.end += bytes.len() as u64;
        self.pieces.push(bytes);
    }

    /// The header of the batch at a position; `None` if not all of it is here.
    pub(super) fn header(&self, position: u64) -> Option<Result<BatchHeader, BatchError>> {
        let slices = self.slices(position, position + HEADER_BYTES as u64)?;
        if let [whole] = &slices[..] {
            return Some(BatchHeader::parse(whole));
        }
        Some(BatchHeader::parse(&slices.concat()))
    }

    /// The bytes from one position to another, as slices of the pieces; `None` if not all of them are here.
    pub(super) fn slices(&self, from: u64, to: u64) -> Option<Vec<Bytes>> {
        if from < self.start || to > self.end {
            return None;
        }
        let mut out = Vec::new();
        let mut at = self.start;
        for piece in &self.pieces {
            let (first, last) = (at, at + piece.len() as u64);
            at = last;
            let (from, to) = (from.max(first), to.min(last));
            if from < to {
                out.push(piece.slice((from - first) as usize..(to - first) as usize));
            }
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_cut_at_the_seams() {
        let mut rope = Rope::new(10);
        rope.push(Bytes::from_static(b"abc"));
        rope.push(Bytes::from_static(b"defg"));
        assert_eq!(rope.end(), 17);
        assert_eq!(rope.slices(11, 13), Some(vec![Bytes::from_static(b"bc")]));
        assert_eq!(rope.slices(12, 14), Some(vec![Bytes::from_static(b"c"), Bytes::from_static(b"d")]));
        assert_eq!(rope.slices(10, 17).unwrap().concat(), b"abcdefg");
        assert_eq!(rope.slices(13, 13), Some(vec![]));
        assert_eq!(rope.slices(9, 12), None);
        assert_eq!(rope.slices(12, 18), None);
        assert!(rope.header(10).is_none());
    }
}
