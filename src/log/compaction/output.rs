//! A segment that is being written: what stays of one closed segment, or of several small ones that follow each other.
//!
//! It grows under a name that the next start removes (`swap.rs` gives it its own), together with an index that is made as the
//! index of a segment that is appended to is: by taking note of each batch in turn.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use aquifer_model::{BatchHeader, ByteCount, OffsetRange, Timestamp};
use aquifer_runtime::files::File;

use super::super::checkpoint::SealedFacts;
use super::super::config::LogConfig;
use super::super::error::{ChangeError, is_exhausted};
use super::super::handle::Log;
use super::super::index::IndexMark;
use super::super::layout;
use super::super::segment::{Sealed, Tail, marker_in};
use super::super::state::Condition;
use super::outcome::{CompactError, Finished, Made, Swapped};

/// Bytes that are written at once.
const BUFFER_BYTES: usize = 1 << 20;
/// Bytes after which what is written is synced: a file system may have whoever syncs another file wait for all of it.
const SYNC_BYTES: u64 = 8 << 20;
/// The most offsets that a segment may span, as in Kafka, whose tools read such files.
const SPAN_MAX: u64 = i32::MAX as u64;

/// A segment that grows.
#[derive(Debug)]
pub(super) struct Output {
    /// What it is made from.
    pub(super) sources: Vec<Arc<Sealed>>,
    path: PathBuf,
    file: File,
    written: u64,
    buffer: Vec<u8>,
    tail: Tail,
    config: Arc<LogConfig>,
    sealed_at: Timestamp,
    /// Whether it differs from its one source.
    is_changed: bool,
    /// Whether nobody who reads the log's end needs it in memory.
    is_far: bool,
}

impl Output {
    pub(super) fn begin(log: &Log, first: &Arc<Sealed>) -> Result<Output, CompactError> {
        if log.forget_swaps()? == Swapped::Overtaken {
            return Err(CompactError::Overtaken);
        }
        let base = first.facts.range.base;
        let path = layout::cleaned(first.log.path());
        let create = || {
            let file = log.shared.world.disk.open_or_create(&path)?;
            file.set_size(ByteCount::ZERO)?;
            Ok(file)
        };
        let file = create().map_err(|error| write_failed(log, &path, &error))?;
        let start = log.snapshot_at(base)?;
        Ok(Output {
            sources: vec![first.clone()],
            path,
            file,
            written: 0,
            buffer: Vec::new(),
            tail: Tail::at(base, start.epochs, start.producers),
            config: log.config(),
            sealed_at: first.facts.sealed_at,
            is_changed: false,
            is_far: log.is_far_behind(first.facts.range.next),
        })
    }

    /// Whether the next segment's records fit in behind those that are there.
    pub(super) fn has_room_for(&self, next: &Sealed) -> bool {
        self.tail.bytes + next.facts.bytes.get() <= self.config.segment_bytes.get()
            && next.facts.range.next.since(self.tail.base) <= SPAN_MAX
            && !self.tail.builder.is_full(ByteCount(self.config.segment_index_bytes.get() / 2))
    }

    /// Goes on with the next segment.
    pub(super) fn take_in(&mut self, next: &Arc<Sealed>) {
        self.sources.push(next.clone());
        self.sealed_at = self.sealed_at.max(next.facts.sealed_at);
        self.is_changed = true;
    }

    /// Notes that something of its source goes.
    pub(super) fn note_change(&mut self) {
        self.is_changed = true;
    }

    /// Adds a whole batch.
    pub(super) fn push(&mut self, log: &Log, header: &BatchHeader, batch: &[u8]) -> Result<(), CompactError> {
        // Batches that were compressed anew may have grown, though hardly to twice the size.
        if !self.tail.reaches(header.last_offset()) {
            return Err(CompactError::Large(self.tail.base));
        }
        let marker = marker_in(header, batch);
        self.tail.note(header, marker, self.config.index_interval_bytes, self.sealed_at);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= BUFFER_BYTES { self.flush(log) } else { Ok(()) }
    }

    fn flush(&mut self, log: &Log) -> Result<(), CompactError> {
        let written = self.file.write_all_at(self.written, &mut [IoSlice::new(&self.buffer)]);
        written.map_err(|error| write_failed(log, &self.path, &error))?;
        let before = self.written;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if before / SYNC_BYTES != self.written / SYNC_BYTES {
            self.file.sync_data().map_err(|error| write_failed(log, &self.path, &error))?;
            self.leave_memory();
        }
        Ok(())
    }

    /// Leaves nothing of what is synced in the page cache.
    fn leave_memory(&self) {
        if self.is_far {
            self.file.advise_unneeded(0, self.written);
        }
    }

    /// Syncs it, with its index. Nothing is left if it is what its source is, nor after an error.
    pub(super) fn finish(mut self, log: &Log) -> Result<Made, CompactError> {
        let facts = match self.is_changed {
            true => self.complete(log),
            false => Ok(None),
        };
        match facts {
            Ok(Some(facts)) => Ok(Made::Anew(Finished { sources: self.sources, facts })),
            Ok(None) => {
                self.discard(log);
                Ok(Made::Unchanged)
            }
            Err(error) => {
                self.discard(log);
                Err(error)
            }
        }
    }

    fn complete(&mut self, log: &Log) -> Result<Option<SealedFacts>, CompactError> {
        self.flush(log)?;
        self.tail.builder.note_time();
        let (first, last) = (self.sources.first(), self.sources.last());
        let (Some(first), Some(last)) = (first, last) else { return Ok(None) };
        let range = OffsetRange { base: first.facts.range.base, next: last.facts.range.next };
        let facts = SealedFacts { range, ..self.tail.seal(self.sealed_at) };
        let mark = self.tail.builder.mark(facts.bytes.get(), range.next);
        let chunk = self.tail.builder.chunk(&IndexMark::start(range.base), &mark);
        let index = layout::cleaned(&first.index_path);
        let sync = || -> io::Result<()> {
            self.file.sync_data()?;
            let file = log.shared.world.disk.open_or_create(&index)?;
            file.set_size(ByteCount::ZERO)?;
            file.write_all_at(0, &mut [IoSlice::new(&chunk)])?;
            file.sync_data()?;
            log.shared.world.disk.sync_dir(log.path())
        };
        sync().map_err(|error| write_failed(log, &self.path, &error))?;
        self.leave_memory();
        Ok(Some(facts))
    }

    /// Gives it up.
    pub(super) fn discard(self, log: &Log) {
        discard(log, &self.sources);
    }
}

impl Finished {
    /// Gives it up.
    pub(super) fn discard(self, log: &Log) {
        discard(log, &self.sources);
    }
}

fn discard(log: &Log, sources: &[Arc<Sealed>]) {
    if let Some(source) = sources.first() {
        log.shared.keeper.remove(&layout::cleaned(source.log.path()));
        log.shared.keeper.remove(&layout::cleaned(&source.index_path));
    }
}

fn write_failed(log: &Log, path: &std::path::Path, error: &io::Error) -> CompactError {
    // Deleted meanwhile, and the folder with it.
    if log.state.lock().condition == Condition::Closed {
        return CompactError::Overtaken;
    }
    if is_exhausted(error) {
        return ChangeError::Full.into();
    }
    log.shared.health.fail(path, "write of", error);
    ChangeError::Failed.into()
}
