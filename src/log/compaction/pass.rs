//! A pass over one log: the keys of the dirty part are read, then what stays is written anew, segment by segment.
//!
//! Segments take the place of the old ones in the order of their offsets. So a pass that ends half-way, by a crash or otherwise,
//! has dropped older values whose newer ones are there, and no tombstone before what it stands for.
//!
//! A batch that is as it was written but cannot be opened, because its producer has compressed what no codec takes or what no memory
//! holds, stays as it is, and its keys count for nothing. It was taken before the topic was compacted. Damage, on the other hand,
//! ends the pass: the segment waits until it is mended.

use std::collections::HashSet;
use std::sync::Arc;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::record;
use aquifer_model::{BatchHeader, ByteCount, Offset, Timestamp};

use super::super::error::{ChangeError, ReadError};
use super::super::handle::Log;
use super::super::read::damaged;
use super::super::segment::Sealed;
use super::super::state::{Condition, Cuts};
use super::dirt::{Dirt, dirt};
use super::judge::Judge;
use super::key_map::{KeyMap, Put, Room};
use super::outcome::{CompactError, Made, Swapped};
use super::output::Output;
use super::thin::{Left, ThinError, records};
use super::walk::{Batch, Walk, Walked};
use crate::config::Compaction;

/// Bytes read and written by one step, give or take a batch.
const STEP_BYTES: u64 = 1 << 20;

/// What a pass may use.
#[derive(Debug, Clone, Copy)]
pub struct CompactOptions {
    /// Memory for keys (`log.cleaner.dedupe.buffer.size`).
    pub keys_bytes_max: ByteCount,
    /// Share of it that is filled (`log.cleaner.io.buffer.load.factor`).
    pub load_factor: f64,
}

/// What a step has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Bytes read from segments.
    pub read: ByteCount,
    /// Bytes written to new ones.
    pub written: ByteCount,
    /// Set by the last one.
    pub done: Option<PassOutcome>,
}

/// What a pass has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassOutcome {
    /// All below is clean now.
    pub clean_below: Offset,
    /// Bytes of the segments that it went over, before and after.
    pub bytes: (ByteCount, ByteCount),
    /// Records that went.
    pub dropped: u64,
    /// Of these, records without a key, from when the topic was not compacted.
    pub keyless: u64,
    /// Batches that cannot be opened, and stay whole.
    pub unopened: u64,
}

/// A pass under way.
#[derive(Debug)]
pub struct Pass {
    log: Arc<Log>,
    dirt: Dirt,
    judge: Judge,
    phase: Phase,
    /// Of the log, when it began.
    begun: Cuts,
    dropped: u64,
    unopened: u64,
    bytes: (ByteCount, ByteCount),
}

#[derive(Debug)]
enum Phase {
    /// Reads keys.
    Reading(Walk),
    /// Writes what stays.
    Writing(Walk, Option<Box<Output>>),
    Done,
}

impl Log {
    /// What is to be compacted of this log, of which nothing that reaches beyond `limit` may go: what is replicated, and of whose
    /// transactions it is known how they ended. `None` if nothing is, or the topic is not compacted, or the log is damaged.
    pub fn dirt(&self, limit: Offset) -> Result<Option<Dirt>, ReadError> {
        let config = self.config();
        let Some(settings) = config.cleanup.compaction() else { return Ok(None) };
        let (sealed, clean_below) = {
            let state = self.state.lock();
            if state.condition != Condition::Open || self.shared.health.has_failed() {
                return Ok(None);
            }
            let sealed: Vec<Arc<Sealed>> = state.sealed.iter().cloned().collect();
            (sealed, state.compacted.clean_below.unwrap_or(Offset::ZERO))
        };
        let facts: Vec<_> = sealed.iter().map(|sealed| sealed.facts).collect();
        dirt(&facts, clean_below, limit, &settings, self.now(), |first| {
            let first = sealed.iter().find(|sealed| sealed.facts.range == first.range);
            first.map_or(Ok(Timestamp::NONE), |first| self.first_time(first))
        })
    }

    /// Of a segment's first batch, if it has one.
    fn first_time(&self, sealed: &Arc<Sealed>) -> Result<Timestamp, ReadError> {
        if sealed.facts.bytes == ByteCount::ZERO {
            return Ok(Timestamp::NONE);
        }
        let path = sealed.log.path();
        let read = || {
            let head = self.file(&sealed.log)?.read_at(0, HEADER_BYTES);
            let head = head.map_err(|error| ReadError::of_read(path, 0, error))?;
            BatchHeader::parse(&head).map_err(|error| damaged(path, 0, &error.to_string()))
        };
        match read() {
            Ok(header) => Ok(header.max_timestamp()),
            // It has left the log meanwhile.
            Err(_) if !self.is_still(sealed) => Ok(Timestamp::NONE),
            Err(error) => {
                if let ReadError::Corrupt(corruption) = &error {
                    self.note_damage(corruption);
                }
                Err(error)
            }
        }
    }

    /// Begins a pass over what [`Log::dirt`] has told.
    pub fn compact(self: &Arc<Self>, dirt: Dirt, settings: &Compaction, options: CompactOptions) -> Pass {
        let (dirty, last, begun) = {
            let state = self.state.lock();
            let first = state.sealed.partition_point(|sealed| sealed.facts.range.next <= dirt.range.base);
            let dirty = state.sealed.range(first..);
            let dirty = dirty.take_while(|sealed| sealed.facts.range.next <= dirt.range.next);
            (Walk::over(dirty.cloned()), state.tail.producers.last_batches(), state.cuts)
        };
        let room = Room {
            bytes_max: options.keys_bytes_max,
            load_factor: options.load_factor,
            keys: dirt.range.count(),
        };
        let rng = &self.shared.world.rng;
        let now = self.now();
        let judge = Judge {
            keys: KeyMap::new(room, (rng.number(), rng.number())),
            until: dirt.range.next,
            now,
            horizon: now.plus(settings.delete_retention),
            last,
            in_transaction: HashSet::new(),
            keyless: 0,
        };
        let phase = Phase::Reading(dirty);
        let (log, bytes) = (self.clone(), Default::default());
        Pass { log, dirt, judge, phase, begun, dropped: 0, unopened: 0, bytes }
    }
}

impl Pass {
    /// Which log it goes over.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Does the next part. Blocks. After an error the pass is over.
    pub fn step(&mut self) -> Result<Step, CompactError> {
        let outcome = self.try_step();
        if let Err(error) = &outcome {
            let ahead: Vec<Arc<Sealed>> = self.give_up();
            if !self.log.still_has(&ahead) {
                return Err(CompactError::Overtaken);
            }
            if let CompactError::Read(ReadError::Corrupt(corruption)) = error {
                self.log.note_damage(corruption);
            }
        }
        outcome
    }

    /// Ends it; gives the segments that it still needed.
    fn give_up(&mut self) -> Vec<Arc<Sealed>> {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Reading(walk) => walk.ahead().cloned().collect(),
            Phase::Writing(walk, output) => {
                let ahead = walk.ahead().cloned().collect();
                if let Some(output) = output {
                    output.discard(&self.log);
                }
                ahead
            }
            Phase::Done => Vec::new(),
        }
    }

    fn try_step(&mut self) -> Result<Step, CompactError> {
        let mut step = Step { read: ByteCount::ZERO, written: ByteCount::ZERO, done: None };
        while step.done.is_none() && (step.read + step.written).get() < STEP_BYTES {
            match &mut self.phase {
                Phase::Reading(walk) => {
                    if !read_keys(&self.log, walk, &mut self.judge, &self.dirt, &mut step)? {
                        self.begin_writing()?;
                    }
                }
                Phase::Writing(..) => self.write_on(&mut step)?,
                Phase::Done => step.done = Some(self.outcome()),
            }
        }
        Ok(step)
    }

    fn outcome(&self) -> PassOutcome {
        let Judge { until, keyless, .. } = &self.judge;
        let (bytes, dropped, unopened) = (self.bytes, self.dropped, self.unopened);
        PassOutcome { clean_below: *until, bytes, dropped, keyless: *keyless, unopened }
    }

    fn begin_writing(&mut self) -> Result<(), CompactError> {
        let touched: Vec<Arc<Sealed>> = {
            let state = self.log.state.lock();
            let touched = state.sealed.iter().take_while(|sealed| sealed.facts.range.base < self.judge.until);
            touched.cloned().collect()
        };
        let last = touched.last().ok_or(CompactError::Overtaken)?;
        self.log.announce_gaps(last.facts.range.next, self.begun)?;
        self.phase = Phase::Writing(Walk::over(touched), None);
        Ok(())
    }

    /// Goes on by a batch, or to the next segment.
    fn write_on(&mut self, step: &mut Step) -> Result<(), CompactError> {
        let Phase::Writing(walk, output) = &mut self.phase else { return Ok(()) };
        let (log, begun) = (&self.log, self.begun);
        match walk.step(log)? {
            Walked::Segment(next) => {
                self.bytes.0 += next.facts.bytes;
                if let Some(output) = output.as_mut().filter(|output| output.has_room_for(&next)) {
                    output.take_in(&next);
                    return Ok(());
                }
                if let Some(full) = output.take() {
                    self.bytes.1 += put_in(log, *full, None, begun)?;
                }
                *output = Some(Box::new(Output::begin(log, &next)?));
            }
            Walked::Batch(batch) => {
                let output = output.as_mut().expect("batches follow their segment");
                let Batch { header, bytes, aborted, .. } = batch;
                step.read += ByteCount(bytes.len() as u64);
                let (left, dropped) = match self.judge.judge(&header, bytes, aborted) {
                    Ok(judged) => judged,
                    Err(error) => {
                        self.unopened += 1;
                        tell_unopened(&batch, &error, self.unopened);
                        (Left::Whole, 0)
                    }
                };
                self.dropped += u64::from(dropped);
                match left {
                    Left::Whole => {
                        step.written += ByteCount(bytes.len() as u64);
                        output.push(log, &header, bytes)?;
                    }
                    Left::Changed(bytes) => {
                        step.written += ByteCount(bytes.len() as u64);
                        output.note_change();
                        let header = BatchHeader::parse(&bytes).expect("it was made by us a moment ago");
                        output.push(log, &header, &bytes)?;
                    }
                    Left::Nothing => output.note_change(),
                }
            }
            Walked::End => {
                let clean_below = self.judge.until;
                let last = output.take().ok_or(CompactError::Overtaken)?;
                self.bytes.1 += put_in(log, *last, Some(clean_below), begun)?;
                self.phase = Phase::Done;
            }
        }
        Ok(())
    }
}

/// Says which batch cannot be opened; of many the first alone.
fn tell_unopened(batch: &Batch<'_>, error: &ThinError, count: u64) {
    let (path, position, offset) = (batch.segment.log.path(), batch.position, batch.header.base_offset);
    match count {
        1 => {
            tracing::warn!(path = %path.display(), position, %offset, %error, "a batch cannot be opened, and stays as it is")
        }
        _ => {
            tracing::debug!(path = %path.display(), position, %offset, %error, "a batch cannot be opened, and stays as it is")
        }
    }
}

/// Finishes a segment and puts it into the log; gives its bytes.
fn put_in(
    log: &Arc<Log>,
    output: Output,
    clean_below: Option<Offset>,
    begun: Cuts,
) -> Result<ByteCount, CompactError> {
    let as_it_was = output.sources.iter().map(|source| source.facts.bytes).sum();
    let finished = match output.finish(log)? {
        Made::Anew(finished) => finished,
        Made::Unchanged => {
            return match clean_below.map(|below| log.note_clean(below, begun)).transpose()? {
                Some(Swapped::Overtaken) => Err(CompactError::Overtaken),
                Some(Swapped::Done) | None => Ok(as_it_was),
            };
        }
    };
    let bytes = finished.facts.bytes;
    let refused = match log.swap(&finished, clean_below, begun) {
        Ok(Swapped::Done) => return Ok(bytes),
        Ok(Swapped::Overtaken) => CompactError::Overtaken,
        Err(error @ ChangeError::Full) => error.into(),
        // Perhaps decided: the next start knows.
        Err(error) => return Err(error.into()),
    };
    finished.discard(log);
    Err(refused)
}

/// Reads the keys of a batch; `false` once there are no more, or there is room for no more.
fn read_keys(
    log: &Log,
    walk: &mut Walk,
    judge: &mut Judge,
    dirt: &Dirt,
    step: &mut Step,
) -> Result<bool, CompactError> {
    let batch = match walk.step(log)? {
        Walked::Segment(_) => return Ok(true),
        Walked::End => return Ok(false),
        Walked::Batch(batch) => batch,
    };
    let header = &batch.header;
    step.read += ByteCount(batch.bytes.len() as u64);
    if header.is_control() || header.next_offset() <= dirt.range.base || batch.aborted.hold(header) {
        return Ok(true);
    }
    // Told when it is met again.
    let Ok(records) = records(header, batch.bytes) else { return Ok(true) };
    if record::walk::<record::RecordError>(header, &records, |_| Ok(())).is_err() {
        return Ok(true);
    }
    let mut full = None;
    let read = record::walk::<record::RecordError>(header, &records, |record| {
        if let Some(key) = record.key
            && full.is_none()
            && record.offset >= dirt.range.base
            && judge.keys.put(key, record.offset) == Put::Full
        {
            full = Some(record.offset);
        }
        Ok(())
    });
    read.expect("it was walked a moment ago");
    if let Some(full) = full {
        judge.until = full;
    }
    Ok(full.is_none())
}
