//! The facts of one sealed segment.
//!
//! A segment is *sealed* when it is closed and will never change. What is known of it here is all that the bucket's manifest
//! says of it, so that a lookup by offset, time or epoch needs no other read.

use crate::epochs::LeaderEpochs;
use crate::offset::OffsetRange;
use crate::size::ByteCount;
use crate::time::Timestamp;

/// What is known of a sealed segment without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedSegment {
    /// The offsets that it covers; compaction may leave holes inside.
    pub range: OffsetRange,
    /// Length of its batches.
    pub log_bytes: ByteCount,
    /// Newest record timestamp; [`Timestamp::NONE`] if no record has one.
    pub timestamp_max: Timestamp,
    /// When it was sealed, by the broker's clock. Local retention counts from the earlier of this and `timestamp_max`, so that
    /// a timestamp in the future cannot pin the disk.
    pub sealed_at: Timestamp,
    /// Who wrote it: at least one entry, the first at the segment's base.
    pub epochs: LeaderEpochs,
}
