//! `Records`: the record batches of one partition in a Produce or a Fetch.
//!
//! What is decoded is one slice of the frame. What is encoded may be many pieces (hot segments, cached chunks), which leave as
//! they are: `Writer` splices them into its segments. Nothing here looks into a batch.

use std::fmt;

use bytes::Bytes;

use crate::piece::{Piece, joined};

/// Bytes in pieces, or null (which is also the default, as it is Kafka's).
#[derive(Clone, Default)]
pub struct Records(Pieces);

#[derive(Clone, Default)]
enum Pieces {
    #[default]
    Null,
    /// Most answers hold one piece; it takes no allocation.
    One(Piece),
    Many(Vec<Piece>),
}

impl Records {
    pub const NULL: Records = Records(Pieces::Null);
    /// No bytes, yet not null: what a Fetch that found nothing answers.
    pub const EMPTY: Records = Records(Pieces::One(Piece::Here(Bytes::new())));

    pub fn is_null(&self) -> bool {
        matches!(self.0, Pieces::Null)
    }

    /// Null is empty, too.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Piece::len).sum()
    }

    pub fn pieces(&self) -> &[Piece] {
        match &self.0 {
            Pieces::Null => &[],
            Pieces::One(piece) => std::slice::from_ref(piece),
            Pieces::Many(pieces) => pieces,
        }
    }

    /// All bytes in one piece, which costs a copy only if there are several. Null gives no bytes. For what was decoded.
    ///
    /// # Panics
    /// If some are elsewhere.
    pub fn into_bytes(self) -> Bytes {
        joined(self.pieces())
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records(Pieces::One(Piece::Here(bytes)))
    }
}

impl From<Vec<Piece>> for Records {
    fn from(pieces: Vec<Piece>) -> Records {
        Records(Pieces::Many(pieces))
    }
}

impl From<Option<Bytes>> for Records {
    fn from(bytes: Option<Bytes>) -> Records {
        bytes.map(Records::from).unwrap_or_default()
    }
}

/// The same bytes are the same records, however they are cut, if all are here.
impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        self.is_null() == other.is_null()
            && match (self.pieces(), other.pieces()) {
                ([one], [other]) => one == other,
                (many, others) => match (here(many), here(others)) {
                    (Some(many), Some(others)) => many.into_iter().flatten().eq(others.into_iter().flatten()),
                    _ => many == others,
                },
            }
    }
}

fn here(pieces: &[Piece]) -> Option<Vec<&Bytes>> {
    pieces.iter().map(Piece::here).collect()
}

impl fmt::Debug for Records {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pieces::Null => out.write_str("null"),
            Pieces::One(_) | Pieces::Many(_) => {
                write!(out, "{} bytes in {} pieces", self.len(), self.pieces().len())
            }
        }
    }
}
