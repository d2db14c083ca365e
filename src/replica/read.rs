//! The junction: hot or cold.
//!
//! Below the local start, records come from the bucket; from it on, from the local log. The caller gets the same thing either
//! way: whole batches, as stored. `OutOfRange` is never said of an offset between log start and log end, wherever its record
//! lies and whether or not the store answers.

use aquifer_model::{AbortedTxn, ByteCount, EpochStart, LeaderEpoch, Offset};
use aquifer_runtime::tasks;
use aquifer_tiering::Tier;
use aquifer_tiering::read::ColdRequest;
use bytes::Bytes;
use std::sync::Arc;
use tokio::time::Instant;

use super::error::ReadError;
use super::state::Replica;
use crate::log::{AbortedTxns, AtLeast, Log, Read, Slice, Stored};

/// Segments that one answer may span. Small segments would make it many, each with a read of its own.
const SEGMENTS_MAX: usize = 64;

/// What a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Everything acknowledged.
    ReadUncommitted,
    /// Only what no open transaction precedes, with the aborted ones named.
    ReadCommitted,
}

/// What to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRequest {
    pub(crate) offset: i64,
    pub(crate) bytes_max: ByteCount,
    pub(crate) at_least: AtLeast,
    pub(crate) isolation: Isolation,
}

/// What a reader is given: bytes for one that looks into them, [`Stored`] for one that sends them on.
pub(crate) trait Given: From<Bytes> + Send + 'static {
    /// Reads as far as nothing has to be waited for; `None` if that is not all.
    fn in_memory(log: &Arc<Log>, read: Read) -> Result<Option<Slice<Self>>, crate::log::ReadError>;

    /// Reads, and waits for the device if it must.
    fn waiting(log: &Arc<Log>, read: Read) -> Result<Slice<Self>, crate::log::ReadError>;

    /// How many bytes.
    fn size(&self) -> usize;
}

impl Given for Bytes {
    fn in_memory(log: &Arc<Log>, read: Read) -> Result<Option<Slice>, crate::log::ReadError> {
        log.read_in_memory(read)
    }

    fn waiting(log: &Arc<Log>, read: Read) -> Result<Slice, crate::log::ReadError> {
        log.read(read)
    }

    fn size(&self) -> usize {
        self.len()
    }
}

impl Given for Stored {
    fn in_memory(log: &Arc<Log>, read: Read) -> Result<Option<Slice<Stored>>, crate::log::ReadError> {
        log.lend_in_memory(read)
    }

    fn waiting(log: &Arc<Log>, read: Read) -> Result<Slice<Stored>, crate::log::ReadError> {
        log.lend(read)
    }

    fn size(&self) -> usize {
        self.len()
    }
}

/// Where what was asked for lies.
#[derive(Debug)]
pub(crate) enum Found<B> {
    /// In the local log, and here it is; may be empty.
    Hot(Batches<B>),
    /// In the bucket: [`Replica::read_cold`] gets it.
    Cold(ColdRead),
}

/// Whole batches.
#[derive(Debug)]
pub(crate) struct Batches<B> {
    pub(crate) slices: Vec<B>,
    /// The aborted transactions that overlap them; `None` for a reader that does not ask.
    pub(crate) aborted: Option<Vec<AbortedTxn>>,
    /// Whether more is there, in the local log, than the limits let in.
    pub(crate) cut: bool,
}

/// A read that has to go to the bucket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ColdRead {
    offset: Offset,
    bytes_max: ByteCount,
    at_least: AtLeast,
    /// Where the records that this reader may see end.
    upper: Offset,
    isolation: Isolation,
}

/// An answer from the local log, as far as it is there.
#[derive(Debug)]
struct Gathering<B> {
    batches: Batches<B>,
    /// What is still to be read.
    read: Read,
    segments_left: usize,
}

impl<B: Given> Gathering<B> {
    fn begin(from: Offset, until: Offset, request: ReadRequest) -> Gathering<B> {
        let ReadRequest { bytes_max, at_least, isolation, .. } = request;
        let aborted = match isolation {
            Isolation::ReadUncommitted => AbortedTxns::Skip,
            Isolation::ReadCommitted => AbortedTxns::Include,
        };
        let read = Read { from, until, bytes_max, at_least, aborted };
        Gathering { batches: Batches::empty(isolation), read, segments_left: SEGMENTS_MAX }
    }

    /// Reads one segment after the other by `one`, until the answer is full; false if that gives `None`, and there may be more.
    fn go_on(
        &mut self,
        one: impl Fn(Read) -> Result<Option<Slice<B>>, crate::log::ReadError>,
    ) -> Result<bool, ReadError> {
        let Gathering { batches, read, segments_left } = self;
        while *segments_left > 0
            && read.from < read.until
            && (batches.slices.is_empty() || read.bytes_max > ByteCount::ZERO)
        {
            let slice = match one(*read) {
                Ok(Some(slice)) => slice,
                Ok(None) => return Ok(false),
                // What is sound before the damage is given; who asks for what comes next is told.
                Err(crate::log::ReadError::Corrupt(_)) if !batches.slices.is_empty() => break,
                Err(error) => return Err(error.into()),
            };
            let size = slice.bytes.size();
            if size == 0 {
                break;
            }
            *segments_left -= 1;
            read.from = slice.range.next;
            read.bytes_max = read.bytes_max.saturating_sub(ByteCount(size as u64));
            read.at_least = AtLeast::Nothing;
            batches.slices.push(slice.bytes);
            if let Some(aborted) = &mut batches.aborted {
                aborted.extend(slice.aborted);
            }
        }
        Ok(true)
    }
}

/// The offsets that every answer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) last_stable: Offset,
}

impl<B> Default for Batches<B> {
    fn default() -> Batches<B> {
        Batches { slices: Vec::new(), aborted: None, cut: false }
    }
}

impl<B: Given> Batches<B> {
    fn empty(isolation: Isolation) -> Batches<B> {
        let aborted = (isolation == Isolation::ReadCommitted).then(Vec::new);
        Batches { slices: Vec::new(), aborted, cut: false }
    }

    /// How many bytes.
    pub(crate) fn size(&self) -> usize {
        self.slices.iter().map(B::size).sum()
    }
}

impl Replica {
    /// The offsets that every answer tells.
    pub(crate) fn bounds(&self) -> Bounds {
        let high_watermark = self.high_watermark();
        Bounds {
            log_start: self.log().offsets().start,
            high_watermark,
            last_stable: self.log().first_unstable(high_watermark).unwrap_or(high_watermark),
        }
    }

    /// Whether a record at this offset, if there is one, is read from the bucket.
    pub(crate) fn is_cold(&self, offset: i64) -> bool {
        let offsets = self.log().offsets();
        offset >= offsets.start.get() && offset < offsets.local_start.get()
    }

    /// Whether the record at this offset is known to be in the bucket.
    fn is_tiered(&self, offset: Offset) -> bool {
        self.tiered_end().is_some_and(|end| offset < end)
    }

    /// About how many bytes there are to read from an offset on, in the local log. Touches no file.
    pub(crate) fn available(&self, offset: i64, isolation: Isolation) -> ByteCount {
        let Some(from) = Offset::new(offset) else { return ByteCount::ZERO };
        self.log().bytes_from(from, self.upper(isolation))
    }

    /// The first offset that a reader may not see.
    pub(super) fn upper(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.high_watermark(),
            Isolation::ReadCommitted => self.last_stable(),
        }
    }

    /// Reads as leader, if the records are here; says so if they are in the bucket.
    pub(crate) async fn read<B: Given>(
        self: &Arc<Replica>,
        request: ReadRequest,
    ) -> Result<Found<B>, ReadError> {
        // A long poll outlives its replica's lead, and its topic.
        self.check_leader(-1)?;
        let offsets = self.log().offsets();
        let out_of_range =
            || ReadError::OutOfRange { offset: request.offset, start: offsets.start, end: offsets.end };
        let from = Offset::new(request.offset).ok_or_else(out_of_range)?;
        if from < offsets.start || from > offsets.end {
            return Err(out_of_range());
        }
        let upper = self.upper(request.isolation);
        let ReadRequest { bytes_max, at_least, isolation, .. } = request;
        let cold = ColdRead { offset: from, bytes_max, at_least, upper, isolation };
        if from < offsets.local_start {
            return Ok(Found::Cold(cold));
        }
        if from >= upper {
            return Ok(Found::Hot(Batches::empty(request.isolation)));
        }
        match self.read_hot(from, upper, request).await {
            // The segment was dropped between the look at the offsets and the read: it is in the bucket by now.
            Err(ReadError::Log(crate::log::ReadError::BelowLocalStart { .. })) => Ok(Found::Cold(cold)),
            // Damaged here, but in the bucket as well: that is as good, until the disk's copy is mended.
            Err(ReadError::Log(crate::log::ReadError::Corrupt(_))) if self.is_tiered(from) => {
                Ok(Found::Cold(cold))
            }
            Err(error) => Err(error),
            Ok(batches) => Ok(Found::Hot(batches)),
        }
    }

    async fn read_hot<B: Given>(
        self: &Arc<Replica>,
        from: Offset,
        upper: Offset,
        request: ReadRequest,
    ) -> Result<Batches<B>, ReadError> {
        let mut gathering = Gathering::begin(from, upper, request);
        if !gathering.go_on(|read| B::in_memory(self.log(), read))? {
            // The device has to be waited for: not on a thread that serves others.
            let replica = self.clone();
            let wait = move |read| B::waiting(replica.log(), read).map(Some);
            let rest = move || gathering.go_on(wait).map(|_| gathering);
            gathering = tasks::blocking(rest).await?;
        }
        let Gathering { mut batches, read, .. } = gathering;
        batches.cut = read.from < read.until;
        Ok(batches)
    }

    /// Reads from the bucket, waiting until `wait_until` at most. [`ReadError::Pending`] if it has not answered by then; the load
    /// goes on, and asking again finds it further on.
    ///
    /// Where the topic was compacted before it was tiered, there may be no batch from the offset on to its segment's end. The
    /// answer is in the next then, or here: a reader that got nothing would ask for the same offset for ever.
    pub(crate) async fn read_cold<B: Given>(
        self: &Arc<Replica>,
        tier: Option<&Tier>,
        mut cold: ColdRead,
        wait_until: Instant,
    ) -> Result<Batches<B>, ReadError> {
        let Some(tier) = tier else {
            return Err(ReadError::NoTier { local_start: self.log().offsets().local_start });
        };
        loop {
            let request = ColdRequest {
                partition: self.partition(),
                offset: cold.offset,
                bytes_max: cold.bytes_max,
                upper: cold.upper,
                wait_until,
            };
            let read = tier.read(request).await?;
            if !read.slices.is_empty() {
                let aborted = (cold.isolation == Isolation::ReadCommitted).then_some(read.aborted);
                let slices = read.slices.into_iter().map(B::from).collect();
                return Ok(Batches { slices, aborted, cut: false });
            }
            if read.pending {
                return Err(ReadError::Pending);
            }
            if read.next <= cold.offset || read.next >= cold.upper {
                return Ok(Batches::empty(cold.isolation));
            }
            // Rises with each segment, so there is an end to it.
            let ColdRead { bytes_max, at_least, isolation, .. } = cold;
            let request = ReadRequest { offset: read.next.get(), bytes_max, at_least, isolation };
            match self.read(request).await? {
                Found::Hot(batches) => return Ok(batches),
                Found::Cold(next) => cold = next,
            }
        }
    }

    /// Where the caller's history parts from ours, if it does: it last fetched a record of `epoch` and now asks for `offset`.
    pub(crate) fn divergence(&self, epoch: LeaderEpoch, offset: i64) -> Option<EpochStart> {
        let end = self.log().epoch_end(epoch)?;
        let diverges = end.epoch < epoch || end.end.get() < offset;
        diverges.then_some(EpochStart { epoch: end.epoch, start: end.end })
    }
}
