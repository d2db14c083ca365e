//! What becomes of a pass and of the segments that it writes.

use std::sync::Arc;

use aquifer_model::Offset;

use super::super::checkpoint::SealedFacts;
use super::super::error::{ChangeError, ReadError};
use super::super::segment::Sealed;

/// Why a pass has ended early. The log is as sound as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A segment cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk is full, or has failed.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Segments left the log meanwhile, its end was cut, it was closed, or it is not to be compacted any more: no failure.
    #[error("the log was changed meanwhile")]
    Overtaken,
    /// What is left of a segment takes more room than a segment has.
    #[error("what is left of the segment at offset {0} is too large")]
    Large(Offset),
}

/// What a segment that was gone over has become.
#[derive(Debug)]
pub(super) enum Made {
    /// All of it stays as it is; nothing lies beside it.
    Unchanged,
    /// Another, in its place or in that of several.
    Anew(Finished),
}

/// A segment that is written and synced, beside its place.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) sources: Vec<Arc<Sealed>>,
    pub(super) facts: SealedFacts,
}

/// What became of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swapped {
    Done,
    /// What the pass was made for is not so any more.
    Overtaken,
}
