//! Batches cut out of a rope: which ones answer a request.

use aquifer_model::{BatchHeader, ByteCount, Offset};

use super::rope::Rope;
use super::{ColdRead, ColdRequest, ReadError};
use crate::manifest::Entry;
use crate::object::SegmentIndex;

/// Batches being cut out of a rope.
pub(super) struct Cut<'a> {
    entry: &'a Entry,
    /// What is there of the log.
    pub(super) rope: Rope,
    /// Where the next batch starts.
    at: u64,
    /// Where the first batch of the answer starts, and its base offset.
    taken: Option<(u64, Offset)>,
    next: Offset,
}

pub(super) enum Progress {
    Skipped,
    Took,
    NeedsMore,
    Done,
}

impl Cut<'_> {
    /// Nothing is there yet, and `from` is where a batch starts.
    pub(super) fn new(entry: &Entry, from: u64, offset: Offset) -> Cut<'_> {
        Cut { entry, rope: Rope::new(from), at: from, taken: None, next: offset }
    }

    /// Whether the answer has a batch.
    pub(super) fn has_some(&self) -> bool {
        self.taken.is_some()
    }

    /// Looks at the next batch.
    pub(super) fn step(&mut self, request: &ColdRequest) -> Result<Progress, ReadError> {
        let log_bytes = self.entry.segment.log_bytes.get();
        if self.at >= log_bytes {
            return Ok(Progress::Done);
        }
        let header = match self.rope.header(self.at) {
            Some(header) => header.map_err(|error| self.corrupt(error.to_string()))?,
            None if self.rope.end() >= log_bytes => {
                return Err(self.corrupt("the log ends within a batch".to_owned()));
            }
            None => return Ok(Progress::NeedsMore),
        };
        let end = self.at + header.size() as u64;
        if end > log_bytes {
            return Err(self.corrupt("the log ends within a batch".to_owned()));
        }
        if self.taken.is_none() && header.next_offset() <= request.offset {
            return Ok(self.skip(end));
        }
        if header.base_offset >= request.upper || self.is_full(&header, request) {
            return Ok(Progress::Done);
        }
        if self.rope.end() < end {
            return Ok(Progress::NeedsMore);
        }
        self.taken.get_or_insert((self.at, header.base_offset));
        self.at = end;
        self.next = header.next_offset();
        Ok(Progress::Took)
    }

    /// Goes on behind a batch that ends before the offset asked for; what lies before need not be here.
    fn skip(&mut self, end: u64) -> Progress {
        if end > self.rope.end() {
            self.rope = Rope::new(end);
        }
        self.at = end;
        Progress::Skipped
    }

    fn is_full(&self, header: &BatchHeader, request: &ColdRequest) -> bool {
        self.taken.is_some_and(|(start, _)| self.at - start + header.size() as u64 > request.bytes_max.get())
    }

    fn corrupt(&self, what: String) -> ReadError {
        ReadError::Corrupt {
            key: self.entry.object.to_string(),
            what: format!("at {} of the log: {what}", self.at),
        }
    }

    /// The answer, and where it ends in the log.
    pub(super) fn finish(self, index: &SegmentIndex) -> Result<(ColdRead, u64), ReadError> {
        let Some((start, first)) = self.taken else {
            // At the log's end, compaction has emptied the rest of the segment's range; before it, the upper bound was met.
            let emptied = self.at >= self.entry.segment.log_bytes.get();
            let next = if emptied { self.entry.range().next } else { self.next };
            let (slices, aborted) = (Vec::new(), Vec::new());
            let read = ColdRead { slices, bytes: ByteCount::ZERO, next, aborted, pending: false };
            return Ok((read, self.at));
        };
        let slices =
            self.rope.slices(start, self.at).ok_or_else(|| self.corrupt("bytes are missing".to_owned()))?;
        let overlapping = index.aborted.iter().filter(|txn| txn.overlaps(first, self.next));
        let read = ColdRead {
            slices,
            bytes: ByteCount(self.at - start),
            next: self.next,
            aborted: overlapping.copied().collect(),
            pending: false,
        };
        Ok((read, self.at))
    }
}
