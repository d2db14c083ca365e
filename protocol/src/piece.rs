//! `Piece`: bytes of a message that are here, or that are taken from elsewhere as it is sent.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A run of bytes of a message.
#[derive(Clone, Debug)]
pub enum Piece {
    Here(Bytes),
    Elsewhere(Elsewhere),
}

/// Bytes that are not in this process's memory: part of a file. What it is, whoever makes it and whoever sends it agree on; a
/// message knows how many bytes there are.
#[derive(Clone)]
pub struct Elsewhere {
    what: Arc<dyn Any + Send + Sync>,
    length: usize,
}

impl Piece {
    pub fn len(&self) -> usize {
        match self {
            Piece::Here(bytes) => bytes.len(),
            Piece::Elsewhere(elsewhere) => elsewhere.length,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are here.
    pub fn here(&self) -> Option<&Bytes> {
        match self {
            Piece::Here(bytes) => Some(bytes),
            Piece::Elsewhere(_) => None,
        }
    }
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Piece {
        Piece::Here(bytes)
    }
}

impl Elsewhere {
    pub fn new(what: Arc<dyn Any + Send + Sync>, length: usize) -> Elsewhere {
        Elsewhere { what, length }
    }

    /// What it is, if it is a `T`.
    pub fn downcast<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.what.clone().downcast().ok()
    }
}

/// Equal bytes are equal; what is elsewhere is equal to itself alone.
impl PartialEq for Piece {
    fn eq(&self, other: &Piece) -> bool {
        match (self, other) {
            (Piece::Here(bytes), Piece::Here(others)) => bytes == others,
            (Piece::Elsewhere(elsewhere), Piece::Elsewhere(other)) => {
                elsewhere.length == other.length && Arc::ptr_eq(&elsewhere.what, &other.what)
            }
            _ => false,
        }
    }
}

impl fmt::Debug for Elsewhere {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes elsewhere", self.length)
    }
}

/// All bytes in one piece, which costs a copy only if there are several.
///
/// # Panics
/// If some are elsewhere.
pub(crate) fn joined(pieces: &[Piece]) -> Bytes {
    let here =
        |piece: &Piece| piece.here().expect("only what is sent to a reader of records is elsewhere").clone();
    match pieces {
        [] => Bytes::new(),
        [one] => here(one),
        many => many.iter().map(here).collect::<Vec<Bytes>>().concat().into(),
    }
}
