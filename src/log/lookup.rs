//! Lookups by time.
//!
//! The time index says from where on to look; from there batches are walked by their headers to the first whose newest record is
//! new enough, and only that one is opened, and expanded if it is compressed. Exact, but for producers that lie about a compressed
//! batch's newest timestamp: such a batch is passed over for the next.

use std::sync::Arc;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::compression::Compression;
use aquifer_model::{BatchHeader, LeaderEpoch, Offset, Timestamp, offset_index, record, time_index};
use aquifer_runtime::files::File;
use bytes::Bytes;

use super::error::ReadError;
use super::handle::Log;
use super::index::Index;
use super::open_files::FileSlot;
use super::read::damaged;
use super::scan::{Depth, Scan, Step};
use super::segment::Sealed;
use super::validate::{EXPANDED_BYTES_MAX, expand};

/// A record found by its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOffset {
    /// Where it is.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Whose it is.
    pub epoch: Option<LeaderEpoch>,
}

/// A segment to look into.
struct Candidate {
    slot: Arc<FileSlot>,
    base: Offset,
    end: u64,
    timestamp_max: Timestamp,
    /// For a closed segment, where its index comes from; for the open one, where to start.
    start: Start,
}

enum Start {
    Sealed(Arc<Sealed>),
    At(u64),
}

impl Log {
    /// The first record in `[local start, until)` at or after `timestamp`. Blocks.
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        until: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let wanted = Wanted { timestamp, until };
        self.steadily(|| self.search(&wanted))
    }

    /// The first of the records in `[local start, until)` with the newest timestamp; `None` if no record has one. Blocks.
    pub fn max_timestamp(&self, until: Offset) -> Result<Option<TimedOffset>, ReadError> {
        self.steadily(|| {
            let newest =
                self.candidates(Timestamp::NONE, until).iter().map(|candidate| candidate.timestamp_max).max();
            let Some(newest) = newest.filter(|newest| *newest != Timestamp::NONE) else { return Ok(None) };
            let wanted = Wanted { timestamp: newest, until };
            if let Some(found) = self.search(&wanted)? {
                return Ok(Some(found));
            }
            // The newest lies at or beyond `until`: what is visible has to be walked.
            self.newest_below(until)
        })
    }

    fn newest_below(&self, until: Offset) -> Result<Option<TimedOffset>, ReadError> {
        let mut newest = Timestamp::NONE;
        for candidate in self.candidates(Timestamp::NONE, until) {
            let file = self.open(&candidate)?;
            let mut scan = Scan::new(file, Depth::Headers, 0, candidate.end);
            while let Some((_, header)) = next(&mut scan, &candidate.slot)? {
                if header.next_offset() <= until {
                    newest = newest.max(header.max_timestamp());
                }
            }
        }
        if newest == Timestamp::NONE {
            return Ok(None);
        }
        self.search(&Wanted { timestamp: newest, until })
    }

    fn search(&self, wanted: &Wanted) -> Result<Option<TimedOffset>, ReadError> {
        let start = self.offsets().local_start;
        for candidate in self.candidates(wanted.timestamp, wanted.until) {
            let position = match &candidate.start {
                Start::At(position) => *position,
                Start::Sealed(sealed) => {
                    self.with_index(sealed, |index| start_in(index, candidate.base, wanted.timestamp))?
                }
            };
            let file = self.open(&candidate)?;
            // With every checksum: by a damaged timestamp the wrong record would be found. The index keeps the walk short.
            let mut scan = Scan::new(file, Depth::Whole, position, candidate.end);
            while let Some((position, header)) = next(&mut scan, &candidate.slot)? {
                if header.base_offset >= wanted.until {
                    return Ok(None);
                }
                if header.max_timestamp() < wanted.timestamp || header.next_offset() <= start {
                    continue;
                }
                let io = |error| ReadError::io(candidate.slot.path(), error);
                let batch = Bytes::copy_from_slice(scan.bytes(position, header.size()).map_err(io)?);
                let found = first_at_or_after(&header, &batch, wanted, start);
                if let Some(found) = found.map_err(|what| damaged(candidate.slot.path(), position, &what))? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// Segments that may hold a record at or after `timestamp`, oldest first.
    fn candidates(&self, timestamp: Timestamp, until: Offset) -> Vec<Candidate> {
        let state = self.state.lock();
        let sealed = state
            .sealed
            .iter()
            .filter(|sealed| sealed.facts.timestamp_max >= timestamp && sealed.facts.range.base < until);
        let mut candidates: Vec<Candidate> = sealed
            .map(|sealed| Candidate {
                slot: sealed.log.clone(),
                base: sealed.facts.range.base,
                end: sealed.facts.bytes.get(),
                timestamp_max: sealed.facts.timestamp_max,
                start: Start::Sealed(sealed.clone()),
            })
            .collect();
        let tail = &state.tail;
        if tail.builder.running.timestamp_max >= timestamp && tail.base < until {
            candidates.push(Candidate {
                slot: state.active.clone(),
                base: tail.base,
                end: tail.bytes,
                timestamp_max: tail.builder.running.timestamp_max,
                start: Start::At(start_in(&tail.builder.index, tail.base, timestamp)),
            });
        }
        candidates
    }

    fn open(&self, candidate: &Candidate) -> Result<File, ReadError> {
        self.shared.files.get(&candidate.slot).map_err(|error| ReadError::io(candidate.slot.path(), error))
    }
}

struct Wanted {
    timestamp: Timestamp,
    until: Offset,
}

/// A position before which all batches are older than `timestamp`.
fn start_in(index: &Index, base: Offset, timestamp: Timestamp) -> u64 {
    let relative = time_index::floor(&index.times, timestamp);
    offset_index::floor(&index.offsets, base, base.plus(relative.into())).into()
}

fn next(scan: &mut Scan, slot: &FileSlot) -> Result<Option<(u64, BatchHeader)>, ReadError> {
    match scan.step().map_err(|error| ReadError::io(slot.path(), error))? {
        Step::Batch(position, header) => Ok(Some((position, header))),
        Step::End => Ok(None),
        Step::Damage(error) => Err(damaged(slot.path(), scan.position(), &error.to_string())),
    }
}

/// The first record of a batch that is new enough and in bounds.
fn first_at_or_after(
    header: &BatchHeader,
    batch: &Bytes,
    wanted: &Wanted,
    start: Offset,
) -> Result<Option<TimedOffset>, String> {
    let epoch = header.leader_epoch;
    if batch.len() < header.size() {
        return Err("the file ends within a batch".to_owned());
    }
    let records = batch.slice(HEADER_BYTES..);
    let records = match header.compression() {
        Compression::None => records,
        codec => expand(codec, &records, EXPANDED_BYTES_MAX).map_err(|error| error.to_string())?.into(),
    };
    let records = record::read(header, &records).map_err(|error| error.to_string())?;
    let mut fitting = records.iter().filter(|record| {
        record.timestamp >= wanted.timestamp && record.offset >= start && record.offset < wanted.until
    });
    Ok(fitting.next().map(|record| TimedOffset { offset: record.offset, timestamp: record.timestamp, epoch }))
}
