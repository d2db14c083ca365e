//! The books of a log: what is written beside the batches so that a restart need not read them all.
//!
//! A *recovery point* is captured on the way of an append, under the lock, every so many bytes and whenever a segment closes. It
//! is handed through the committer, which lets it go once all before it is durable, to the keeper, which writes it:
//!
//! 1. the indexes and the end snapshots of closed segments, synced;
//! 2. the open segment's index up to the point, synced;
//! 3. the checkpoint, replaced as a whole.
//!
//! A crash after 1 or 2 leaves index chunks and snapshots that the old checkpoint does not reach; recovery passes over them and
//! they are written again. A full disk keeps the old checkpoint, with a metric: only more is read again then.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_model::{ByteCount, Offset};

use super::checkpoint::{Checkpoint, CompactionProgress, RecoveryPoint};
use super::error::{ChangeError, is_exhausted};
use super::handle::Log;
use super::index::{IndexMark, WrittenIndex};
use super::layout;
use super::segment::Sealed;
use super::state::{Books, Captured, CompactedPart, Starts, State, point_at};

impl Log {
    /// Begins a checkpoint at the log's end; it is written once all up to here is durable.
    pub(super) fn capture(&self, state: &mut State) {
        let captured = self.captured(state);
        let this = self.this.clone();
        self.sync.then(Box::new(move || {
            if let Some(log) = this.upgrade() {
                log.offer(captured);
            }
        }));
    }

    /// Begins a checkpoint at the log's end, and has all up to here made durable for it. Nobody waits.
    pub(super) fn save_later(&self) {
        self.capture(&mut self.state.lock());
        self.shared.committer.request_settled(&self.sync);
    }

    /// Hands a checkpoint whose bytes are durable to the keeper; one that waits there still is replaced.
    fn offer(self: Arc<Log>, captured: Captured) {
        if self.waiting.lock().replace(captured).is_none() {
            let keeper = self.shared.clone();
            keeper.keeper.submit(Box::new(move || self.keep()));
        }
    }

    pub(super) fn captured(&self, state: &mut State) -> Captured {
        state.uncaptured.capture();
        let (age, max) = (self.shared.producer_id_expiration(), self.shared.options.producer_ids_max);
        state.tail.producers.forget(self.now(), age, max);
        let point = point_at(&state.tail);
        Captured { mark: state.tail.builder.mark(point.position, point.offset), point, cuts: state.cuts }
    }

    /// Writes the checkpoint that waits. The keeper's job.
    fn keep(&self) {
        let mut books = self.books.lock();
        let Some(captured) = self.waiting.lock().take() else { return };
        // A failure has been told by then; the old checkpoint stays and is true.
        let _ = self.write_books(&mut books, captured, None);
    }

    /// Writes a checkpoint here and now, with all before it synced. `starts` are the log's new ones, if they change.
    pub(super) fn save(&self, books: &mut Books, starts: Option<Starts>) -> Result<(), ChangeError> {
        let captured = self.captured(&mut self.state.lock());
        // A checkpoint that this sync releases is older than the one at hand.
        drop(self.shared.committer.sync(&self.sync));
        if self.shared.health.has_failed() {
            return Err(ChangeError::Failed);
        }
        self.write_books(books, captured, starts)
    }

    fn write_books(
        &self,
        books: &mut Books,
        captured: Captured,
        starts: Option<Starts>,
    ) -> Result<(), ChangeError> {
        if self.shared.health.has_failed() {
            return Err(ChangeError::Failed);
        }
        // Begun before a cut, or overtaken by a later one that was written at once.
        if captured.cuts != self.state.lock().cuts || books.are_beyond(&captured) {
            return Ok(());
        }
        self.try_write_books(books, captured, starts).map_err(|error| self.books_failed(error))?;
        self.shared.metrics.checkpoints.inc();
        Ok(())
    }

    /// Judges a failed write of the books.
    pub(super) fn books_failed(&self, failure: BooksError) -> ChangeError {
        let BooksError { path, error } = failure;
        if is_exhausted(&error) {
            self.shared.metrics.checkpoint_failures.inc();
            tracing::warn!(path = %path.display(), %error, "no space for a checkpoint; a restart would read more again");
            return ChangeError::Full;
        }
        self.shared.health.fail(&path, "write of", &error);
        ChangeError::Failed
    }

    fn try_write_books(
        &self,
        books: &mut Books,
        captured: Captured,
        starts: Option<Starts>,
    ) -> Result<(), BooksError> {
        let Captured { point, mark, .. } = captured;
        self.write_sealed(books, point.segment)?;
        if books.written.base != point.segment {
            books.written = WrittenIndex::none(point.segment);
        }
        let from = books.written;
        if let Some(chunk) = self.chunk(&from.mark, &mark, point.segment) {
            self.append_chunk(books, point.segment, mark, &chunk)?;
        }
        let checkpoint = {
            let state = self.state.lock();
            let Starts { log_start, local_start } =
                starts.unwrap_or(Starts { log_start: state.log_start, local_start: state.local_start });
            let compacted = state.compacted;
            self.checkpoint(&state.sealed, point, Starts { log_start, local_start }, compacted)
        };
        self.write_checkpoint(&checkpoint)?;
        books.point = checkpoint.point;
        books.names_swaps = false;
        Ok(())
    }

    /// Writes what is unwritten of closed segments below `until`, in order.
    pub(super) fn write_sealed(&self, books: &mut Books, until: Offset) -> Result<(), BooksError> {
        let unwritten: Vec<Arc<Sealed>> = {
            let state = self.state.lock();
            let below = state.sealed.iter().filter(|sealed| sealed.facts.range.next <= until);
            below.filter(|sealed| sealed.unwritten.lock().is_some()).cloned().collect()
        };
        for sealed in unwritten {
            let Some(unwritten) = sealed.unwritten.lock().clone() else { continue };
            let base = sealed.facts.range.base;
            if books.written.base != base {
                books.written = WrittenIndex::none(base);
            }
            let mark = unwritten.builder.mark(sealed.facts.bytes.get(), sealed.facts.range.next);
            let chunk = unwritten.builder.chunk(&books.written.mark, &mark);
            self.append_chunk(books, base, mark, &chunk)?;
            let snapshot = layout::segment_file(self.path(), sealed.facts.range.next, layout::SNAPSHOT);
            // Its name, like that of the index, becomes durable with the checkpoint's.
            let written = self.shared.world.disk.replace(&snapshot, &unwritten.snapshot);
            written.map_err(|error| BooksError { path: snapshot, error })?;
            *sealed.unwritten.lock() = None;
        }
        Ok(())
    }

    /// The index chunk that lies between two marks of the segment at `base`; `None` if there is nothing to add.
    fn chunk(&self, from: &IndexMark, to: &IndexMark, base: Offset) -> Option<Vec<u8>> {
        if from == to {
            return None;
        }
        let state = self.state.lock();
        if state.tail.base == base {
            return Some(state.tail.builder.chunk(from, to));
        }
        // Closed since; and unwritten, since whoever writes it holds the books.
        let sealed = state.sealed_at(base)?;
        let unwritten = sealed.unwritten.lock();
        unwritten.as_ref().map(|unwritten| unwritten.builder.chunk(from, to))
    }

    fn append_chunk(
        &self,
        books: &mut Books,
        base: Offset,
        mark: IndexMark,
        chunk: &[u8],
    ) -> Result<(), BooksError> {
        let path = layout::segment_file(self.path(), base, layout::INDEX);
        let at = books.written.bytes;
        let write = || -> io::Result<()> {
            let file = self.shared.world.disk.open_or_create(&path)?;
            file.set_size(ByteCount(at))?;
            file.write_all_at(at, &mut [IoSlice::new(chunk)])?;
            file.sync_data()
        };
        write().map_err(|error| BooksError { path: path.clone(), error })?;
        books.written = WrittenIndex { base, mark, bytes: at + chunk.len() as u64 };
        Ok(())
    }

    pub(super) fn checkpoint(
        &self,
        sealed: &VecDeque<Arc<Sealed>>,
        point: RecoveryPoint,
        starts: Starts,
        compacted: CompactedPart,
    ) -> Checkpoint {
        let Starts { log_start, local_start } = starts;
        let within = sealed
            .iter()
            .map(|sealed| sealed.facts)
            .filter(|facts| facts.range.base < point.segment && facts.range.next > local_start);
        let high_watermark = Offset::new(self.high_watermark.load(Ordering::Relaxed)).unwrap_or(Offset::ZERO);
        let high_watermark = high_watermark.min(point.offset);
        let compaction = compacted.is_or_was().then(|| CompactionProgress {
            clean_below: compacted.clean_below.unwrap_or(Offset::ZERO).min(point.offset),
            gaps_below: compacted.gaps_below,
            swapping: Vec::new(),
        });
        Checkpoint {
            log_start,
            local_start,
            high_watermark,
            sealed: within.collect(),
            discard: false,
            compaction,
            journal: self.sync.journal_mark(),
            point,
        }
    }

    pub(super) fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<(), BooksError> {
        let path = self.path().join(layout::CHECKPOINT);
        let written = self.shared.world.disk.write_atomic(&path, &checkpoint.encode());
        written.map_err(|error| BooksError { path, error })
    }
}

/// A file that could not be written.
#[derive(Debug)]
pub(super) struct BooksError {
    pub(super) path: PathBuf,
    pub(super) error: io::Error,
}
