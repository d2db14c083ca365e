//! The local side of an upload: reads a segment's log away from the tasks that serve, verifying as it goes.
//!
//! Reads are sequential and large, and what was read leaves the page cache behind them, so that an upload costs tail readers
//! neither latency nor cached pages.

use std::io;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::{AbortedTxn, BatchHeader, ByteCount, Offset, SealedSegment};
use aquifer_runtime::files::File;
use aquifer_runtime::tasks::blocking;
use bytes::Bytes;

use super::UploadError;
use crate::object::scan::{Scan, Scanned};

/// How much is read at once.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// A sealed segment, as the local log hands it over.
#[derive(Debug, Clone)]
pub struct SegmentSource {
    /// Its facts. Checked against the bytes.
    pub segment: SealedSegment,
    /// The log file, of which the first `segment.log_bytes` are the segment.
    pub log: File,
    /// Every aborted transaction that overlaps its range, wherever the marker lies.
    pub aborted: Vec<AbortedTxn>,
    /// The producers' state as of its end, in the local log's own format.
    pub producers: Bytes,
}

/// Reads on from a position, feeding the scan.
#[derive(Debug)]
pub(super) struct LogReader {
    log: File,
    position: u64,
    end: u64,
    scan: Scan,
}

impl LogReader {
    pub(super) fn new(log: File, position: u64, end: u64, scan: Scan) -> LogReader {
        LogReader { log, position, end, scan }
    }

    /// The next pieces, about `bytes` in all, each [`PIECE_BYTES`] long but the last of the log. None at the end.
    pub(super) async fn read(self, bytes: usize) -> Result<(LogReader, Vec<Bytes>), UploadError> {
        blocking(move || self.read_blocking(bytes)).await
    }

    fn read_blocking(mut self, bytes: usize) -> Result<(LogReader, Vec<Bytes>), UploadError> {
        let mut pieces = Vec::new();
        let mut left = bytes as u64;
        while left > 0 && self.position < self.end {
            let count = (PIECE_BYTES as u64).min(self.end - self.position);
            let piece = self.log.read_at(self.position, count as usize).map_err(UploadError::LocalRead)?;
            if piece.len() as u64 != count {
                return Err(UploadError::LocalShort {
                    position: self.position + piece.len() as u64,
                    end: self.end,
                });
            }
            self.scan.feed(&piece)?;
            self.log.advise_unneeded(self.position, count);
            self.position += count;
            left = left.saturating_sub(count);
            pieces.push(Bytes::from(piece));
        }
        Ok((self, pieces))
    }

    /// Reads to the end, for what the scan says of it.
    pub(super) async fn read_through(mut self) -> Result<Scanned, UploadError> {
        loop {
            let (rest, pieces) = self.read(PIECE_BYTES).await?;
            if pieces.is_empty() {
                return rest.finish();
            }
            self = rest;
        }
    }

    pub(super) fn finish(self) -> Result<Scanned, UploadError> {
        Ok(self.scan.finish()?)
    }
}

/// Where what lies from `offset` on starts: the batch there or, if compaction has left that one out, the next. `None` if a batch
/// reaches over it, or nothing follows.
pub(super) async fn find_batch(
    log: File,
    end: ByteCount,
    offset: Offset,
) -> Result<Option<u64>, UploadError> {
    blocking(move || find_batch_blocking(&log, end.get(), offset)).await.map_err(UploadError::LocalRead)
}

fn find_batch_blocking(log: &File, end: u64, offset: Offset) -> io::Result<Option<u64>> {
    let (mut position, mut expected) = (0, Offset::ZERO);
    while position < end {
        let head = log.read_at(position, HEADER_BYTES)?;
        let Ok(header) = BatchHeader::parse(&head) else {
            return Ok(None);
        };
        if header.base_offset >= offset {
            return Ok((expected <= offset).then_some(position));
        }
        expected = header.next_offset();
        position += header.size() as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use aquifer_model::builder::BatchBuilder;
    use aquifer_model::compression::Compression;
    use aquifer_model::{LeaderEpoch, Timestamp};
    use aquifer_runtime::files::Disk;

    use super::*;

    /// A batch of two records.
    fn batch(base: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for value in [b"1", b"2"] {
            builder.push(Timestamp(1), None, Some(value), &[]);
        }
        let sent = builder.finish(Compression::None).expect("nothing is compressed");
        let mut header = BatchHeader::parse(&sent).expect("it was built a moment ago");
        header.place(Offset::new(base).expect("no offset is negative"), LeaderEpoch::ZERO);
        [&header.to_bytes()[..], &sent[HEADER_BYTES..]].concat()
    }

    #[test]
    fn what_lies_from_an_offset_on_may_begin_behind_a_gap() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = Disk::host().create_new(&folder.path().join("log")).expect("a file can be made");
        let (mut end, mut positions) = (0, Vec::new());
        for base in [4, 6, 20, 22] {
            let bytes = batch(base);
            file.write_all_at(end, &mut [IoSlice::new(&bytes)]).expect("a file can be written");
            positions.push(end);
            end += bytes.len() as u64;
        }
        for (offset, found) in [
            (4, Some(0)),
            (5, None),
            (6, Some(1)),
            (7, None),
            (8, Some(2)),
            (19, Some(2)),
            (20, Some(2)),
            (21, None),
            (22, Some(3)),
            (23, None),
            (24, None),
        ] {
            let offset = Offset::new(offset).expect("no offset is negative");
            let position = find_batch_blocking(&file, end, offset).expect("a file can be read");
            assert_eq!(position, found.map(|at: usize| positions[at]), "{offset}");
        }
    }
}
