//! What a log keeps in memory, under its two locks: [`State`], which appends change, and [`Books`], which say what is on disk
//! beside the batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::Offset;

use super::checkpoint::RecoveryPoint;
use super::error::Corruption;
use super::gaps::Gaps;
use super::index::{IndexMark, WrittenIndex};
use super::open_files::FileSlot;
use super::producer_room::Share;
use super::segment::{Sealed, Tail};
use super::uncaptured::Uncaptured;

/// Where a log stands.
#[derive(Debug)]
pub(super) struct State {
    pub(super) sealed: VecDeque<Arc<Sealed>>,
    pub(super) tail: Tail,
    /// What its producers have of the room for all logs'.
    pub(super) producer_share: Share,
    pub(super) active: Arc<FileSlot>,
    /// How much earlier than `segment.ms` this segment is closed.
    pub(super) jitter: Duration,
    pub(super) log_start: Offset,
    pub(super) local_start: Offset,
    pub(super) compacted: CompactedPart,
    pub(super) condition: Condition,
    /// Bytes appended since the last checkpoint was begun.
    pub(super) uncaptured: Uncaptured,
    /// Raised by each cut: a checkpoint begun before must not be written after.
    pub(super) cuts: Cuts,
}

/// What compaction has done to a log, here or where its batches came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CompactedPart {
    /// Below this every key stands once; `None` while the log never was to be compacted.
    pub(crate) clean_below: Option<Offset>,
    /// No gap between batches ends above this.
    pub(crate) gaps_below: Offset,
}

impl CompactedPart {
    /// Where batches may leave offsets out.
    pub(super) fn gaps(self) -> Gaps {
        Gaps::below(self.gaps_below)
    }

    /// Whether the log is to be compacted, or was at any time.
    pub(super) fn is_or_was(self) -> bool {
        self.clean_below.is_some() || self.gaps_below > Offset::ZERO
    }

    /// The same once a pass has come as far as `clean_below`, if it has, and left gaps below an offset.
    pub(super) fn with(self, clean_below: Option<Offset>, gaps_below: Offset) -> CompactedPart {
        CompactedPart {
            clean_below: clean_below.or(self.clean_below),
            gaps_below: self.gaps_below.max(gaps_below),
        }
    }

    /// The same of a log that ends here.
    pub(super) fn cut_to(self, end: Offset) -> CompactedPart {
        CompactedPart {
            clean_below: self.clean_below.map(|below| below.min(end)),
            gaps_below: self.gaps_below.min(end),
        }
    }
}

/// How often the end of a log was cut or moved: while it is the same, what was appended is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cuts(pub(super) u64);

/// What a log can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Open,
    Corrupt(Corruption),
    Closed,
}

impl State {
    /// The closed segment that holds `offset`.
    pub(super) fn sealed_at(&self, offset: Offset) -> Option<&Arc<Sealed>> {
        let behind = self.sealed.partition_point(|sealed| sealed.facts.range.base <= offset);
        let sealed = self.sealed.get(behind.checked_sub(1)?)?;
        sealed.facts.range.contains(offset).then_some(sealed)
    }
}

/// What is on disk.
#[derive(Debug)]
pub(super) struct Books {
    /// The last checkpoint's.
    pub(super) point: RecoveryPoint,
    /// How far the index file of the newest segment with one is written.
    pub(super) written: WrittenIndex,
    /// Whether the checkpoint says of files that they may lie beside their places (`compaction/swap.rs`). While it does, a crash
    /// would put into the log whatever lies there.
    pub(super) names_swaps: bool,
    /// Below which offset the partition file says that gaps may lie (`gap_mark.rs`).
    pub(super) gap_mark: Offset,
}

impl Books {
    /// Whether what is on disk covers more than a checkpoint that is about to be written.
    pub(super) fn are_beyond(&self, captured: &Captured) -> bool {
        let Captured { point, .. } = captured;
        let written = &self.written;
        point.offset < self.point.offset
            || (written.base, written.mark.position) > (point.segment, point.position)
    }
}

/// A place in the log and all that a restart there needs.
#[derive(Debug)]
pub(super) struct Captured {
    pub(super) point: RecoveryPoint,
    pub(super) mark: IndexMark,
    pub(super) cuts: Cuts,
}

/// Where the log is to begin, if that changes with the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Starts {
    pub(super) log_start: Offset,
    pub(super) local_start: Offset,
}

/// The end of a log as a place to restart from.
pub(super) fn point_at(tail: &Tail) -> RecoveryPoint {
    RecoveryPoint {
        segment: tail.base,
        position: tail.bytes,
        offset: tail.end,
        epochs: tail.epochs.clone(),
        producers: tail.producers.encode(),
    }
}
