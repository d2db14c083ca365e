//! The segments of a log: the closed ones, and the tail that grows.

use std::path::PathBuf;
use std::sync::Arc;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::record;
use aquifer_model::{BatchHeader, ByteCount, LeaderEpochs, Offset, OffsetRange, Timestamp};
use bytes::Bytes;
use parking_lot::Mutex;

use super::checkpoint::SealedFacts;
use super::index::IndexBuilder;
use super::open_files::FileSlot;
use super::producers::{Marker, Producers};

/// A closed segment.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// Unique in the process; the key of its indexes in the cache.
    pub(crate) number: u64,
    pub(crate) facts: SealedFacts,
    pub(crate) log: Arc<FileSlot>,
    pub(crate) index_path: PathBuf,
    /// What the keeper has not written to disk yet.
    pub(crate) unwritten: Mutex<Option<Arc<Unwritten>>>,
}

/// What closing a segment leaves to be written.
#[derive(Debug)]
pub(crate) struct Unwritten {
    pub(crate) builder: IndexBuilder,
    /// The snapshot at the segment's end.
    pub(crate) snapshot: Vec<u8>,
}

/// The open segment and all that is known at the log's end. A function of the batches in order: appending, recovery and
/// truncation all go through [`Tail::note`], and so agree.
#[derive(Debug, Clone)]
pub(crate) struct Tail {
    /// The open segment's first offset.
    pub(crate) base: Offset,
    /// Its length.
    pub(crate) bytes: u64,
    /// The log end offset.
    pub(crate) end: Offset,
    pub(crate) builder: IndexBuilder,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: Producers,
}

impl Tail {
    /// At the start of an empty segment.
    pub(crate) fn at(base: Offset, epochs: LeaderEpochs, producers: Producers) -> Tail {
        Tail { base, bytes: 0, end: base, builder: IndexBuilder::new(), epochs, producers }
    }

    /// Takes note of the batch that now lies at the segment's end.
    pub(crate) fn note(
        &mut self,
        header: &BatchHeader,
        marker: Option<Marker>,
        interval: ByteCount,
        now: Timestamp,
    ) {
        let relative =
            u32::try_from(header.base_offset.since(self.base)).expect("segments are rolled before that");
        let position = u32::try_from(self.bytes).expect("segments are rolled before that");
        self.builder.note(header, relative, position, interval, now);
        if let Some(epoch) = header.leader_epoch {
            self.epochs.assign(epoch, header.base_offset);
        }
        if let Some(aborted) = self.producers.note(header, marker, now) {
            self.builder.index.aborted.push(aborted);
        }
        self.bytes += header.size() as u64;
        self.end = header.next_offset();
    }

    /// Whether a batch that ends at `last` has a place in an index of 32-bit numbers.
    pub(crate) fn reaches(&self, last: Offset) -> bool {
        last.since(self.base) <= u64::from(u32::MAX) && self.bytes <= u64::from(u32::MAX)
    }

    /// What is known of the segment once it is closed.
    pub(crate) fn seal(&self, sealed_at: Timestamp) -> SealedFacts {
        SealedFacts {
            range: OffsetRange { base: self.base, next: self.end },
            bytes: ByteCount(self.bytes),
            timestamp_max: self.builder.running.timestamp_max,
            sealed_at,
            aborted: u32::try_from(self.builder.index.aborted.len()).unwrap_or(u32::MAX),
        }
    }
}

/// The marker in a whole control batch. Control batches are never compressed.
pub(crate) fn marker_in(header: &BatchHeader, batch: &[u8]) -> Option<Marker> {
    if !header.is_control() {
        return None;
    }
    let records = Bytes::copy_from_slice(batch.get(HEADER_BYTES..)?);
    let record = record::read(header, &records).ok()?.into_iter().next()?;
    Marker::parse(&record.key?, &record.value?)
}
