//! Changes to where a log begins and ends: cutting its end, starting it anew, moving its start, dropping local segments.
//!
//! All of them are durable on return, and all block. None runs beside another, nor beside a checkpoint: they hold the books.
//!
//! What a crash leaves, step by step:
//! - [`Log::truncate_to`]: the checkpoint moves to the new end first, then the bytes behind go. In between, the old tail is found
//!   again at the next start, whole, as if it had not been cut; whoever asked for the cut asks again.
//! - [`Log::restart_at`]: the checkpoint first says that all on disk is void, then files go, then it says that the log is empty.
//!   Once the first is written, the next start finishes what is left.
//! - [`Log::advance_start`] and [`Log::trim_local`]: the checkpoint no longer names the segments; their files go later, or at the
//!   next start.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aquifer_model::{ByteCount, LeaderEpochs, Offset};
use bytes::Bytes;

use super::append::Refusal;
use super::books::BooksError;
use super::checkpoint::{Checkpoint, Snapshot};
use super::error::{ChangeError, Corruption, ReadError};
use super::handle::Log;
use super::index::{self, IndexMark, WrittenIndex};
use super::layout;
use super::loss;
use super::open_files::FileSlot;
use super::producers::Producers;
use super::quarantine::{Cut, cut_tail};
use super::segment::{Sealed, Tail};
use super::state::{Books, CompactedPart, Condition, Starts, State, point_at};

/// How a log starts anew, empty.
#[derive(Debug, Clone)]
pub struct Restart {
    /// Its end and local start.
    pub at: Offset,
    /// Where it starts for readers; at most `at`.
    pub log_start: Offset,
    /// The leaders up to `at`.
    pub epochs: LeaderEpochs,
    /// The producers at `at`, as [`super::SealedParts::producers`] has them; empty for none.
    pub producers: Bytes,
}

impl From<ReadError> for ChangeError {
    fn from(error: ReadError) -> ChangeError {
        match error {
            ReadError::Corrupt(corruption) => ChangeError::Corrupt(corruption),
            ReadError::BelowLocalStart { local_start } => ChangeError::BelowLocalStart { local_start },
            ReadError::BeyondEnd { end } => ChangeError::Ahead { end },
            ReadError::Io { path, error } => {
                ChangeError::Corrupt(Corruption { file: path, position: 0, what: error.to_string() })
            }
            ReadError::Closed => ChangeError::Closed,
        }
    }
}

/// Where a log is to be cut, as it stood when that was asked for.
struct Target {
    end: Offset,
    /// The segment that holds it, and how much of it there is.
    log: Arc<FileSlot>,
    base: Offset,
    bytes: u64,
}

impl Log {
    /// Cuts the log so that it ends at `end`, or, if that lies within a batch, before that batch. Producers, epochs and aborted
    /// transactions follow. An end at or behind the log's own changes nothing. A log that is damaged behind `end` is sound
    /// afterwards.
    ///
    /// This is how a follower settles with its leader, whose answer is the end of an epoch: an epoch that starts at `end` goes, even
    /// if no record does.
    pub fn truncate_to(&self, end: Offset) -> Result<(), ChangeError> {
        let mut books = self.books.lock();
        let Some(target) = self.target(end)? else { return Ok(()) };
        // What stays has to be durable before a checkpoint says so; and of what goes the journal must bring nothing back.
        let held = self.shared.committer.keep_out_of_journal(&self.sync);
        let _held = held.ok_or(ChangeError::Failed)?;
        let mut tail = self.tail_at(&books, &target)?;
        self.check_present(&target.log, tail.bytes)?;
        tail.epochs = self.epochs();
        tail.epochs.truncate_to(tail.end);
        self.note_high_watermark(self.high_watermark_hint().min(tail.end));
        let checkpoint = self.keep_tail(&mut books, &tail).map_err(|error| self.books_failed(error))?;
        books.point = checkpoint.point;
        let mut state = self.state.lock();
        // A read that finds a file gone from here on begins anew, and waits for the lock.
        self.depart();
        let cut = self.cut_files(target.log, &tail);
        let active = cut.map_err(|(path, error)| self.change_failed(&path, &error))?;
        let kept = state.sealed.partition_point(|sealed| sealed.facts.range.base < tail.base);
        for sealed in state.sealed.drain(kept..) {
            self.shared.indexes.remove(sealed.number);
        }
        state.active = active;
        if let Condition::Corrupt(corruption) = &state.condition
            && !state.sealed.iter().any(|sealed| sealed.log.path() == corruption.file)
        {
            self.forget_loss().map_err(|error| self.change_failed(&self.folder, &error))?;
            state.condition = Condition::Open;
        }
        let end = tail.end;
        self.replace_tail(&mut state, tail);
        drop(state);
        self.lower_gap_mark(&mut books, end);
        Ok(())
    }

    /// What is to be cut; `None` if nothing is.
    fn target(&self, end: Offset) -> Result<Option<Target>, ChangeError> {
        let mut state = self.state.lock();
        self.check_changeable(&state)?;
        if end >= state.tail.end && state.condition == Condition::Open {
            // A leader that has written nothing leaves an epoch without records; a cut at the end takes it away.
            state.tail.epochs.truncate_to(end);
            return Ok(None);
        }
        let end = end.min(state.tail.end);
        if end < state.local_start {
            return Err(ChangeError::BelowLocalStart { local_start: state.local_start });
        }
        let target = match state.sealed_at(end) {
            Some(sealed) => Target {
                end,
                log: sealed.log.clone(),
                base: sealed.facts.range.base,
                bytes: sealed.facts.bytes.get(),
            },
            None => Target { end, log: state.active.clone(), base: state.tail.base, bytes: state.tail.bytes },
        };
        Ok(Some(target))
    }

    /// A file that has lost synced bytes must not be filled up with zeros.
    fn check_present(&self, log: &Arc<FileSlot>, bytes: u64) -> Result<(), ChangeError> {
        if bytes == 0 {
            return Ok(());
        }
        let size = self.shared.files.get(log).and_then(|file| file.size());
        let size = size.map_err(|error| ReadError::io(log.path(), error))?.get();
        if size >= bytes {
            return Ok(());
        }
        let what = format!("the file has {size} bytes, {bytes} were synced");
        Err(ChangeError::Corrupt(Corruption { file: log.path().to_owned(), position: size, what }))
    }

    fn check_changeable(&self, state: &State) -> Result<(), ChangeError> {
        match self.check_writable(state) {
            Ok(()) | Err(Refusal::Corrupt(_)) => Ok(()),
            Err(Refusal::Full) => Err(ChangeError::Full),
            Err(Refusal::Failed) => Err(ChangeError::Failed),
            Err(Refusal::Closed) => Err(ChangeError::Closed),
        }
    }

    /// The state at the target, from the nearest place where it is known.
    fn tail_at(&self, books: &Books, target: &Target) -> Result<Tail, ChangeError> {
        if let Some(tail) = self.tail_at_checkpoint(books, target) {
            return Ok(self.replay_on(tail, &target.log, target.bytes, target.end)?);
        }
        let start = Snapshot { offset: target.base, ..self.snapshot_at(target.base)? };
        if target.end == target.base {
            return Ok(Tail::at(target.base, start.epochs, start.producers));
        }
        Ok(self.replay(&start, &target.log, target.bytes, target.end)?)
    }

    /// The state at the last checkpoint, if that lies in the same segment and not behind the target.
    fn tail_at_checkpoint(&self, books: &Books, target: &Target) -> Option<Tail> {
        let point = &books.point;
        if point.segment != target.base || point.offset > target.end {
            return None;
        }
        let path = layout::segment_file(self.path(), target.base, layout::INDEX);
        let stored = self.shared.world.disk.read_if_exists(&path).ok()?.unwrap_or_default();
        let loaded = index::load(&stored, target.base, point.position).ok()?;
        let producers = Producers::decode(&point.producers).ok()?;
        (loaded.mark.position == point.position && loaded.mark.next == point.offset).then(|| Tail {
            base: point.segment,
            bytes: point.position,
            end: point.offset,
            builder: loaded.builder,
            epochs: point.epochs.clone(),
            producers,
        })
    }

    /// Writes the books for a log that ends with `tail`.
    fn keep_tail(&self, books: &mut Books, tail: &Tail) -> Result<Checkpoint, BooksError> {
        self.write_sealed(books, tail.base)?;
        let mark = tail.builder.mark(tail.bytes, tail.end);
        let chunk = tail.builder.chunk(&IndexMark::start(tail.base), &mark);
        let path = layout::segment_file(self.path(), tail.base, layout::INDEX);
        let written = self.shared.world.disk.replace(&path, &chunk);
        written.map_err(|error| BooksError { path, error })?;
        books.written = WrittenIndex { base: tail.base, mark, bytes: chunk.len() as u64 };
        let checkpoint = {
            let state = self.state.lock();
            let starts = Starts {
                log_start: state.log_start.min(tail.end),
                local_start: state.local_start.min(tail.end),
            };
            let compacted = state.compacted.cut_to(tail.end);
            self.checkpoint(&state.sealed, point_at(tail), starts, compacted)
        };
        self.write_checkpoint(&checkpoint)?;
        Ok(checkpoint)
    }

    /// Cuts the open segment's file to `tail`, and takes away all behind it.
    fn cut_files(&self, log: Arc<FileSlot>, tail: &Tail) -> Result<Arc<FileSlot>, (PathBuf, io::Error)> {
        self.set_aside(|base| base > tail.base)?;
        let path = log.path().to_owned();
        let at = |error| (path.clone(), error);
        log.forget_from(tail.bytes);
        // Nothing of it stays, so it does not matter whether it is still there.
        let log = match tail.bytes {
            0 => self.shared.files.create(path.clone()).map_err(at)?,
            _ => log,
        };
        let file = self.shared.files.get(&log).map_err(at)?;
        file.set_size(ByteCount(tail.bytes)).map_err(at)?;
        file.sync_data().map_err(at)?;
        self.shared.world.disk.sync_dir(self.path()).map_err(at)?;
        Ok(log)
    }

    /// Takes the segments in question out of the folder, durably; their bytes go later.
    fn set_aside(&self, which: impl Fn(Offset) -> bool) -> Result<(), (PathBuf, io::Error)> {
        let disk = &self.shared.world.disk;
        let at = |error| (self.folder.clone(), error);
        let mut aside = Vec::new();
        for entry in disk.list(self.path()).map_err(at)? {
            let extensions = [layout::LOG, layout::INDEX, layout::SNAPSHOT];
            let base =
                extensions.iter().find_map(|extension| layout::parse_segment_file(&entry.name, extension));
            if !base.is_some_and(&which) {
                continue;
            }
            let path = self.folder.join(&entry.name);
            let deleted = layout::deleted(&path, self.shared.number());
            disk.rename(&path, &deleted).map_err(|error| (path, error))?;
            aside.push(deleted);
        }
        disk.sync_dir(self.path()).map_err(at)?;
        self.shared.keeper.remove_later(aside, self.config().file_delete_delay_ms);
        Ok(())
    }

    fn change_failed(&self, path: &std::path::Path, error: &io::Error) -> ChangeError {
        // Half a cut is none that the log could go on from; the next start finds either end.
        self.shared.health.fail(path, "cut of", error);
        ChangeError::Failed
    }

    fn replace_tail(&self, state: &mut State, tail: Tail) {
        let (end, open) = (tail.end, (tail.base, tail.bytes));
        // What was damaged behind the cut is gone; what is damaged still will be found again.
        self.forget_damage(|_| true);
        state.tail = tail;
        state.log_start = state.log_start.min(end);
        state.local_start = state.local_start.min(end);
        state.compacted = state.compacted.cut_to(end);
        state.uncaptured.capture();
        state.cuts.0 += 1;
        self.sync.cut(end, open);
        self.depart();
    }

    /// Drops all that is on this disk and goes on, empty, at an offset: when the bucket is ahead of this log, or this log has
    /// records that the bucket contradicts.
    pub fn restart_at(&self, restart: Restart) -> Result<(), ChangeError> {
        let Restart { at, log_start, epochs, producers } = restart;
        let producers = match producers.is_empty() {
            true => Producers::default(),
            false => Snapshot::decode(&producers).map_err(ChangeError::Snapshot)?.producers,
        };
        let mut books = self.books.lock();
        // Of what goes the journal must bring nothing back.
        let held = self.shared.committer.keep_out_of_journal(&self.sync);
        let _held = held.ok_or(ChangeError::Failed)?;
        let mut state = self.state.lock();
        self.check_changeable(&state)?;
        self.depart();
        let tail = Tail::at(at, epochs, producers);
        let starts = Starts { log_start: log_start.min(at), local_start: at };
        self.note_high_watermark(at);
        let clean_below = state.compacted.clean_below.map(|_| at);
        let compacted = CompactedPart { clean_below, gaps_below: Offset::ZERO };
        let empty = self.checkpoint(&VecDeque::new(), point_at(&tail), starts, compacted);
        let void = Checkpoint { discard: true, ..empty.clone() };
        self.write_checkpoint(&void).map_err(|error| self.books_failed(error))?;
        let fail = |(path, error): (PathBuf, io::Error)| self.change_failed(&path, &error);
        self.set_aside(|_| true).map_err(fail)?;
        let path = layout::segment_file(self.path(), at, layout::LOG);
        let active = self.shared.files.create(path.clone()).map_err(|error| fail((path, error)))?;
        let snapshot = Snapshot {
            offset: at,
            log_start: starts.log_start,
            epochs: tail.epochs.clone(),
            producers: tail.producers.clone(),
        };
        let path = layout::segment_file(self.path(), at, layout::SNAPSHOT);
        let written = self.shared.world.disk.replace(&path, &snapshot.encode());
        written.map_err(|error| fail((path, error)))?;
        self.write_checkpoint(&empty).map_err(|failure| fail((failure.path, failure.error)))?;
        self.forget_loss().map_err(|error| fail((self.folder.clone(), error)))?;
        books.point = empty.point;
        books.written = WrittenIndex::none(at);
        for sealed in state.sealed.drain(..) {
            self.shared.indexes.remove(sealed.number);
        }
        state.active = active;
        state.condition = Condition::Open;
        self.replace_tail(&mut state, tail);
        state.compacted = compacted;
        state.log_start = starts.log_start;
        state.local_start = at;
        drop(state);
        self.lower_gap_mark(&mut books, Offset::ZERO);
        Ok(())
    }

    /// Moves the log's start up to `start`: nothing below exists from then on, here or anywhere. Segments wholly below go. A start
    /// at or before the log's own changes nothing.
    pub fn advance_start(&self, start: Offset) -> Result<(), ChangeError> {
        let mut books = self.books.lock();
        let starts = {
            let state = self.state.lock();
            self.check_changeable(&state)?;
            if start > state.tail.end {
                return Err(ChangeError::Ahead { end: state.tail.end });
            }
            if start <= state.log_start {
                return Ok(());
            }
            Starts { log_start: start, local_start: state.local_start.max(start) }
        };
        self.begin_at(&mut books, starts)?;
        // What is still on this disk keeps its leaders, also before the start: a segment is stored elsewhere as a whole.
        let mut state = self.state.lock();
        let first = state.sealed.front().map_or(state.tail.base, |sealed| sealed.facts.range.base);
        state.tail.epochs.trim_before(start.min(first));
        Ok(())
    }

    /// Drops closed segments that end at or below `below` from this disk; the log's start stays. Gives what that frees. The caller
    /// answers for the bytes being somewhere else.
    pub fn trim_local(&self, below: Offset) -> Result<ByteCount, ChangeError> {
        let mut books = self.books.lock();
        let starts = {
            let state = self.state.lock();
            self.check_changeable(&state)?;
            let gone = state.sealed.partition_point(|sealed| sealed.facts.range.next <= below);
            let Some(last) = gone.checked_sub(1) else { return Ok(ByteCount::ZERO) };
            let local_start = state.local_start.max(state.sealed[last].facts.range.next);
            Starts { log_start: state.log_start, local_start }
        };
        self.begin_at(&mut books, starts)
    }

    /// Makes the log begin elsewhere, first in the books, then in fact.
    fn begin_at(&self, books: &mut Books, starts: Starts) -> Result<ByteCount, ChangeError> {
        match self.save(books, Some(starts)) {
            // This is what the room was set aside for.
            Err(ChangeError::Full) if self.shared.reserve.release() => self.save(books, Some(starts))?,
            outcome => outcome?,
        }
        let gone: Vec<Arc<Sealed>> = {
            let mut state = self.state.lock();
            state.log_start = starts.log_start;
            state.local_start = starts.local_start;
            let gone = state.sealed.partition_point(|sealed| sealed.facts.range.next <= starts.local_start);
            state.sealed.drain(..gone).collect()
        };
        self.depart();
        let files = gone.iter().flat_map(|sealed| {
            self.shared.indexes.remove(sealed.number);
            let base = sealed.facts.range.base;
            [layout::LOG, layout::INDEX, layout::SNAPSHOT]
                .map(|extension| layout::segment_file(self.path(), base, extension))
        });
        let files: Vec<PathBuf> = files.collect();
        self.forget_damage(|file| files.iter().any(|gone| gone == file));
        self.shared.keeper.remove_later(files, self.config().file_delete_delay_ms);
        let shared = self.shared.clone();
        self.shared.keeper.submit(Box::new(move || shared.reserve.take()));
        Ok(gone.iter().map(|sealed| sealed.facts.bytes).sum())
    }

    /// Gives up the damaged tail of a log: its bytes go into quarantine, and the log takes appends again from before the damage.
    /// To be called only where they can be had elsewhere, or where somebody has decided to lose them. Damage within a closed
    /// segment is not settled by this.
    pub fn discard_corrupt_tail(&self) -> Result<(), ChangeError> {
        let _books = self.books.lock();
        let mut state = self.state.lock();
        self.check_changeable(&state)?;
        let Condition::Corrupt(corruption) = &state.condition else { return Ok(()) };
        let io = |error: &io::Error| self.change_failed(&self.folder, error);
        let file = self.shared.files.get(&state.active).map_err(|error| io(&error))?;
        let size = file.size().map_err(|error| io(&error))?.get();
        if corruption.file != state.active.path() || size < state.tail.bytes {
            return Err(ChangeError::Corrupt(corruption.clone()));
        }
        let names = self.shared.world.disk.list(self.path()).map_err(|error| io(&error))?;
        let bases = names.iter().filter_map(|entry| layout::parse_segment_file(&entry.name, layout::LOG));
        let cut = Cut {
            folder: self.path(),
            partition: self.partition,
            file: &file,
            position: state.tail.bytes,
            size,
            later: bases.filter(|base| *base > state.tail.base).collect(),
            end: state.tail.end,
        };
        let (bytes, _) = cut_tail(&self.shared, &cut).map_err(|error| io(&error))?;
        self.forget_loss().map_err(|error| io(&error))?;
        tracing::warn!(log = %self.partition, %corruption, %bytes, "gave up a damaged tail");
        state.condition = Condition::Open;
        self.depart();
        Ok(())
    }

    /// What the log lacks of its end has been settled: the note of it goes, durably.
    fn forget_loss(&self) -> io::Result<()> {
        loss::forget(&self.shared.world.disk, &self.folder)
    }

    /// Refuses all from now on, syncs, and writes the books a last time if a restart would have more than a little to read again.
    pub(super) fn close(&self) -> Result<(), ChangeError> {
        let mut books = self.books.lock();
        let settled = {
            let mut state = self.state.lock();
            match state.condition {
                Condition::Closed => return Ok(()),
                // Its checkpoint is the witness of what should be there; what is sound behind it is synced like any other's.
                Condition::Corrupt(_) => true,
                Condition::Open => {
                    state.condition = Condition::Closed;
                    let point = &books.point;
                    let behind = state.tail.bytes.saturating_sub(point.position);
                    let little = self.shared.options.closing_reread_bytes_max.get();
                    state.tail.base == point.segment && behind <= little
                }
            }
        };
        if !settled {
            return self.save(&mut books, None);
        }
        drop(self.shared.committer.sync(&self.sync));
        if self.shared.health.has_failed() { Err(ChangeError::Failed) } else { Ok(()) }
    }

    /// Refuses all from now on; what is on disk is about to go.
    pub(super) fn abandon(&self) {
        let _books = self.books.lock();
        let mut state = self.state.lock();
        state.condition = Condition::Closed;
        state.cuts.0 += 1;
        self.depart();
        self.end_damage();
        drop(state);
        self.sync.retire();
    }
}
