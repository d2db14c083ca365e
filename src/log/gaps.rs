//! Whether offsets may be missing between the batches of a log.
//!
//! A leader gives offsets out without gaps, so that a batch which does not continue the one before is damage: something between
//! the two was lost. In a log of a topic that is compacted, or was at any time, only a batch that goes back is.

use aquifer_model::Offset;

/// What may lie between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// Nothing.
    Never,
    /// Offsets whose records compaction has dropped, here or at the leader that they came from.
    Compacted,
}

impl Gaps {
    /// Of a log whose compaction has come as far as this; `None`: it never was to be compacted.
    pub(crate) fn of(cleaned: Option<Offset>) -> Gaps {
        if cleaned.is_some() { Gaps::Compacted } else { Gaps::Never }
    }

    /// Whether `found` may follow where `expected` is the next offset.
    pub(crate) fn allow(self, expected: Offset, found: Offset) -> bool {
        match self {
            Gaps::Never => found == expected,
            Gaps::Compacted => found >= expected,
        }
    }
}
