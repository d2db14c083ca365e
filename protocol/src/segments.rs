//! `Segments`: an encoded message, as the pieces that leave one behind the other.

use bytes::Bytes;

use crate::piece::{Piece, joined};

/// Bytes in order, cut where record batches were spliced in. No piece is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segments(Vec<Piece>);

impl Segments {
    pub(crate) fn new(pieces: Vec<Piece>) -> Segments {
        Segments(pieces)
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.0.iter().map(Piece::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// Puts another message behind this one, so that both leave together.
    pub fn append(&mut self, next: Segments) {
        self.0.extend(next.0);
    }

    /// All in one piece; a copy unless it is one. For tests and for small messages.
    ///
    /// # Panics
    /// If some of it is elsewhere.
    pub fn into_bytes(self) -> Bytes {
        joined(&self.0)
    }
}
