//! Lookups by time.
//!
//! The time index says from where on to look; from there batches are walked by their headers to the first whose newest record is
//! new enough, and only that one is opened, and expanded if it is compressed. Exact, but for producers of compressed batches
//! that nobody looked into: one that lies about its newest timestamp is passed over for the next, one that cannot be opened stands
//! for its records as a whole.

use std::sync::Arc;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::offset_index::{self, OffsetEntry};
use aquifer_model::{BatchHeader, LeaderEpoch, Offset, OffsetRange, Timestamp, record, time_index};
use aquifer_runtime::files::File;

use super::error::ReadError;
use super::gaps::Gaps;
use super::handle::Log;
use super::index::Index;
use super::open_files::FileSlot;
use super::read::damaged;
use super::scan::{Depth, Scan, Step};
use super::segment::Sealed;

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
    gaps: Gaps,
    /// For a closed segment, where its index comes from; for the open one, where to start.
    start: Start,
}

enum Start {
    Sealed(Arc<Sealed>),
    At(OffsetEntry),
}

/// Where a segment begins, for one whose index says nothing better.
const BEGINNING: OffsetEntry = OffsetEntry { relative: 0, position: 0 };

/// What a look into a segment came to.
enum Looked {
    Found(TimedOffset),
    /// It goes on with what is not to be seen.
    Beyond,
    Nothing,
    /// The index names a place where its batch does not begin.
    Astray,
}

impl Log {
    /// The first record in `[local start, until)` at or after `timestamp`. Blocks, and expands batches: see [`Log::expanding`].
    pub fn offset_for_timestamp(
        &self,
        timestamp: Timestamp,
        until: Offset,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let wanted = Wanted { timestamp, until };
        self.steadily(|| self.search(&wanted))
    }

    /// The first of the records in `[local start, until)` with the newest timestamp; `None` if no record has one. Blocks,
    /// and expands batches.
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
            let entry = match &candidate.start {
                Start::At(entry) => *entry,
                Start::Sealed(sealed) => {
                    self.with_index(sealed, |index| start_in(index, candidate.base, wanted.timestamp))?
                }
            };
            let looked = match self.look(&candidate, entry, wanted, start)? {
                Looked::Astray => self.look(&candidate, BEGINNING, wanted, start)?,
                looked => looked,
            };
            match looked {
                Looked::Found(found) => return Ok(Some(found)),
                Looked::Beyond => return Ok(None),
                Looked::Nothing | Looked::Astray => {}
            }
        }
        Ok(None)
    }

    /// Looks into a segment from an entry of its index on. With every checksum, and with what none covers, the offsets and epochs: by
    /// what is damaged the wrong record would be found. The index keeps the walk short.
    fn look(
        &self,
        candidate: &Candidate,
        from: OffsetEntry,
        wanted: &Wanted,
        start: Offset,
    ) -> Result<Looked, ReadError> {
        let path = candidate.slot.path();
        let by_index = from.position > 0;
        let mut scan = Scan::new(self.open(candidate)?, Depth::Whole, from.position.into(), candidate.end);
        let (mut expected, mut epoch) = (candidate.base.plus(from.relative.into()), None);
        let mut gaps = if by_index { Gaps::NEVER } else { candidate.gaps };
        let mut is_first = true;
        while let Some((position, header)) = next(&mut scan, &candidate.slot)? {
            if !gaps.allow(expected, header.base_offset) || header.leader_epoch < epoch {
                if is_first && by_index {
                    return Ok(Looked::Astray);
                }
                return Err(damaged(path, position, "a batch does not continue the one before"));
            }
            (expected, epoch, gaps, is_first) =
                (header.next_offset(), header.leader_epoch, candidate.gaps, false);
            if header.base_offset >= wanted.until {
                return Ok(Looked::Beyond);
            }
            if header.max_timestamp() < wanted.timestamp || header.next_offset() <= start {
                continue;
            }
            let io = |error| ReadError::io(path, error);
            let batch = scan.bytes(position, header.size()).map_err(io)?;
            let Some(packed) = batch.get(HEADER_BYTES..header.size()) else {
                return Err(damaged(path, position, "the file ends within a batch"));
            };
            let within = OffsetRange { base: start, next: wanted.until };
            let found = record::first_at_or_after(&header, packed, wanted.timestamp, within);
            if let Some((offset, timestamp)) = found {
                let epoch = header.leader_epoch;
                return Ok(Looked::Found(TimedOffset { offset, timestamp, epoch }));
            }
        }
        Ok(Looked::Nothing)
    }

    /// Segments that may hold a record at or after `timestamp`, oldest first.
    fn candidates(&self, timestamp: Timestamp, until: Offset) -> Vec<Candidate> {
        let state = self.state.lock();
        let gaps = state.compacted.gaps();
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
                gaps,
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
                gaps,
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

/// A place before which all batches are older than `timestamp`.
fn start_in(index: &Index, base: Offset, timestamp: Timestamp) -> OffsetEntry {
    let relative = time_index::floor(&index.times, timestamp);
    offset_index::floor_entry(&index.offsets, base, base.plus(relative.into()))
}

fn next(scan: &mut Scan, slot: &FileSlot) -> Result<Option<(u64, BatchHeader)>, ReadError> {
    match scan.step().map_err(|error| ReadError::io(slot.path(), error))? {
        Step::Batch(position, header) => Ok(Some((position, header))),
        Step::End => Ok(None),
        Step::Damage(error) => Err(damaged(slot.path(), scan.position(), &error.to_string())),
    }
}
