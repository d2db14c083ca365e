//! Closed segments: closing one, their indexes, and handing them to whoever stores them elsewhere.

use std::io;
use std::sync::Arc;

use aquifer_model::{AbortedTxn, LeaderEpochs, Offset, OffsetRange, SealedSegment, Timestamp};
use aquifer_model::{offset_index, time_index};
use aquifer_runtime::files::File;
use bytes::Bytes;
use parking_lot::Mutex;

use super::append::Refusal;
use super::checkpoint::{SealedFacts, Snapshot, encode_snapshot};
use super::config::LogConfig;
use super::error::{AppendError, Corruption, ReadError, is_exhausted};
use super::handle::{Log, jitter};
use super::index::{self, Index, IndexMark};
use super::layout;
use super::open_files::FileSlot;
use super::replay::{Trusted, replay};
use super::segment::{Sealed, Tail, Unwritten};
use super::state::State;

/// All that storing a closed segment elsewhere needs.
#[derive(Debug)]
pub struct SealedParts {
    /// What it covers.
    pub facts: SealedSegment,
    /// Its batches: `facts.log_bytes` from the start of this file. Stays readable while it is held.
    pub log: File,
    /// As `aquifer_model::offset_index` writes it.
    pub offset_index: Bytes,
    /// As `aquifer_model::time_index` writes it.
    pub time_index: Bytes,
    /// Every aborted transaction that overlaps it, wherever its marker lies. Final only below the last stable offset.
    pub aborted: Vec<AbortedTxn>,
    /// The producers at its end; what [`super::Restart`] takes.
    pub producers: Bytes,
}

impl Log {
    /// Closes the open segment and opens the next, so that what it holds can be stored elsewhere. Nothing happens if it is empty.
    pub fn roll(&self) -> Result<(), AppendError> {
        let config = self.config();
        let now = self.now();
        let mut state = self.state.lock();
        self.check_writable(&state)?;
        if state.tail.bytes == 0 {
            return Ok(());
        }
        self.roll_locked(&mut state, &config, now)?;
        Ok(())
    }

    pub(super) fn roll_locked(
        &self,
        state: &mut State,
        config: &LogConfig,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let next = layout::segment_file(self.path(), state.tail.end, layout::LOG);
        let created = self.shared.files.create(next.clone());
        let active = created.map_err(|error| {
            if is_exhausted(&error) {
                self.shared.metrics.refused_full.inc();
                return Refusal::Full;
            }
            self.shared.health.fail(&next, "creation of", &error);
            Refusal::Failed
        })?;
        self.sync.note_name();
        self.shared.metrics.rolled_segments.inc();
        let (end, log_start) = (state.tail.end, state.log_start);
        state.tail.builder.note_time();
        let facts = state.tail.seal(now);
        let Tail { epochs, producers, base, builder, .. } =
            std::mem::replace(&mut state.tail, Tail::at(end, LeaderEpochs::new(), Default::default()));
        let snapshot = encode_snapshot(end, log_start, &epochs, &producers);
        state.tail.epochs = epochs;
        state.tail.producers = producers;
        state.sealed.push_back(Arc::new(Sealed {
            number: self.shared.number(),
            facts,
            log: std::mem::replace(&mut state.active, active),
            index_path: layout::segment_file(self.path(), base, layout::INDEX),
            unwritten: Mutex::new(Some(Arc::new(Unwritten { builder, snapshot }))),
        }));
        state.jitter = jitter(&self.shared, config);
        self.capture(state);
        self.shared.committer.request_settled(&self.sync);
        Ok(())
    }

    /// The closed segments on this disk, oldest first.
    pub fn sealed_segments(&self) -> Vec<SealedSegment> {
        let (facts, epochs): (Vec<SealedFacts>, LeaderEpochs) = {
            let state = self.state.lock();
            (state.sealed.iter().map(|sealed| sealed.facts).collect(), state.tail.epochs.clone())
        };
        facts.iter().map(|facts| facts.describe(&epochs)).collect()
    }

    /// The closed segment that holds `offset`, if it is closed and on this disk.
    pub fn sealed_containing(&self, offset: Offset) -> Option<SealedSegment> {
        let state = self.state.lock();
        state.sealed_at(offset).map(|sealed| sealed.facts.describe(&state.tail.epochs))
    }

    /// All that storing the closed segment that starts at `base` needs; `None` if there is no such segment on this disk. Blocks.
    ///
    /// Of a topic that is not to be compacted any more what is given is final: a swap that was under way has ended by then, and
    /// there is no other.
    pub fn sealed_parts(&self, base: Offset) -> Result<Option<SealedParts>, ReadError> {
        let _no_swap = self.books.lock();
        let (sealed, facts) = {
            let state = self.state.lock();
            let Some(sealed) =
                state.sealed_at(base).filter(|sealed| sealed.facts.range.base == base).cloned()
            else {
                return Ok(None);
            };
            let facts = sealed.facts.describe(&state.tail.epochs);
            (sealed, facts)
        };
        let log =
            self.shared.files.get(&sealed.log).map_err(|error| ReadError::io(sealed.log.path(), error))?;
        let (offset_index, time_index) = self.with_index(&sealed, |index| {
            (offset_index::encode(&index.offsets).into(), time_index::encode(&index.times).into())
        })?;
        let aborted = self.aborted(facts.range)?;
        let producers = self.snapshot_at(facts.range.next)?.encode().into();
        Ok(Some(SealedParts { facts, log, offset_index, time_index, aborted, producers }))
    }

    /// The aborted transactions that overlap `range`, in order of their markers. May load indexes, and so block, if there are
    /// any.
    pub fn aborted(&self, range: OffsetRange) -> Result<Vec<AbortedTxn>, ReadError> {
        let found = self.find_aborted(range, true)?;
        Ok(found.expect("whoever may load every index has looked into all that it takes"))
    }

    /// The same without loading an index: `None` if one would have to be.
    pub(super) fn aborted_in_memory(&self, range: OffsetRange) -> Result<Option<Vec<AbortedTxn>>, ReadError> {
        self.find_aborted(range, false)
    }

    fn find_aborted(&self, range: OffsetRange, may_load: bool) -> Result<Option<Vec<AbortedTxn>>, ReadError> {
        let (sealed, mut of_tail) = {
            let state = self.state.lock();
            let first = state.sealed.partition_point(|sealed| sealed.facts.range.next <= range.base);
            let sealed: Vec<_> =
                state.sealed.range(first..).filter(|sealed| sealed.facts.aborted > 0).cloned().collect();
            let of_tail = &state.tail.builder.index.aborted;
            (sealed, of_tail.iter().filter(|txn| txn.overlaps(range.base, range.next)).copied().collect())
        };
        let mut found = Vec::new();
        for sealed in sealed {
            let look = |index: &Index| {
                found.extend(index.aborted.iter().filter(|txn| txn.overlaps(range.base, range.next)));
                // No transaction that ends later starts before this.
                index.aborted.last().is_some_and(|last| last.stable >= range.next)
            };
            let settled = match self.with_loaded_index(&sealed, look) {
                Ok(settled) => settled,
                Err(_) if !may_load => return Ok(None),
                Err(look) => self.with_index(&sealed, look)?,
            };
            if settled {
                return Ok(Some(found));
            }
        }
        found.append(&mut of_tail);
        Ok(Some(found))
    }

    /// Shows a closed segment's indexes, from memory or from its file; makes them anew if the file is lost or damaged.
    pub(super) fn with_index<T>(
        &self,
        sealed: &Sealed,
        show: impl FnOnce(&Index) -> T,
    ) -> Result<T, ReadError> {
        let show = match self.with_loaded_index(sealed, show) {
            Ok(shown) => return Ok(shown),
            Err(show) => show,
        };
        let index = Arc::new(self.load_index(sealed)?);
        self.shared.indexes.insert(sealed.number, index.clone());
        Ok(show(&index))
    }

    /// The same if they need not be loaded; if they do, `show` is given back.
    pub(super) fn with_loaded_index<T, F: FnOnce(&Index) -> T>(
        &self,
        sealed: &Sealed,
        show: F,
    ) -> Result<T, F> {
        if let Some(unwritten) = &*sealed.unwritten.lock() {
            return Ok(show(&unwritten.builder.index));
        }
        match self.shared.indexes.get(sealed.number) {
            Some(index) => Ok(show(&index)),
            None => Err(show),
        }
    }

    fn load_index(&self, sealed: &Sealed) -> Result<Index, ReadError> {
        let path = &sealed.index_path;
        let io = |error: io::Error| ReadError::io(path, error);
        let SealedSpan { base, next, bytes } = SealedSpan::of(sealed);
        let stored = self.shared.world.disk.read_if_exists(path).map_err(io)?.unwrap_or_default();
        match index::load(&stored, base, bytes) {
            Ok(loaded) if loaded.mark.position == bytes && loaded.mark.next == next => {
                return Ok(loaded.builder.index);
            }
            Ok(_) => {}
            Err(error) => return Err(io(io::Error::new(io::ErrorKind::InvalidData, error))),
        }
        let rebuilt = self.rebuild_index(sealed)?;
        // Only a saving of work: the next reader would make it anew again. So a reader does not wait for whoever writes the books.
        if let Some(_books) = self.books.try_lock()
            && self.is_still(sealed)
        {
            self.store_index(sealed, &rebuilt);
        }
        Ok(rebuilt.index)
    }

    /// Makes a closed segment's index from its batches. One that has left the log meanwhile, for another in its place, may have it,
    /// too, as long as its bytes are there.
    fn rebuild_index(&self, sealed: &Sealed) -> Result<RebuiltIndex, ReadError> {
        let SealedSpan { base, next, bytes } = SealedSpan::of(sealed);
        if self.is_still(sealed) {
            tracing::warn!(path = %sealed.index_path.display(), "segment index is lost or damaged, making it anew from the segment");
            self.shared.metrics.rebuilt_indexes.inc();
        }
        let mut tail = self.replay(&self.snapshot_at(base)?, &sealed.log, bytes, next)?;
        tail.builder.note_time();
        let mark = tail.builder.mark(bytes, next);
        let chunk = tail.builder.chunk(&IndexMark::start(base), &mark);
        Ok(RebuiltIndex { index: tail.builder.index, chunk })
    }

    /// Called with the books held and the segment still in the log: in its place another's index may lie otherwise.
    fn store_index(&self, sealed: &Sealed, rebuilt: &RebuiltIndex) {
        let path = &sealed.index_path;
        if let Err(error) = self.shared.world.disk.write_atomic(path, &rebuilt.chunk) {
            tracing::warn!(path = %path.display(), %error, "could not store the new segment index");
        }
    }

    /// Makes the index file of a closed segment anew, unless the segment has left the log; gives whether it did. Blocks.
    pub(super) fn renew_index(&self, sealed: &Sealed) -> Result<bool, ReadError> {
        let rebuilt = self.rebuild_index(sealed)?;
        let _books = self.books.lock();
        if !self.is_still(sealed) {
            return Ok(false);
        }
        self.store_index(sealed, &rebuilt);
        self.shared.indexes.insert(sealed.number, Arc::new(rebuilt.index));
        Ok(true)
    }

    /// Whether this very segment is in the log.
    pub(super) fn is_still(&self, sealed: &Sealed) -> bool {
        let state = self.state.lock();
        state.sealed_at(sealed.facts.range.base).is_some_and(|found| found.number == sealed.number)
    }

    /// Walks a segment of `bytes` up to `until`, over the state at its start.
    pub(super) fn replay(
        &self,
        start: &Snapshot,
        log: &Arc<FileSlot>,
        bytes: u64,
        until: Offset,
    ) -> Result<Tail, ReadError> {
        self.replay_on(
            Tail::at(start.offset, start.epochs.clone(), start.producers.clone()),
            log,
            bytes,
            until,
        )
    }

    /// Walks a segment of `bytes` on from where `tail` stands.
    pub(super) fn replay_on(
        &self,
        tail: Tail,
        log: &Arc<FileSlot>,
        bytes: u64,
        until: Offset,
    ) -> Result<Tail, ReadError> {
        let file = self.shared.files.get(log).map_err(|error| ReadError::io(log.path(), error))?;
        let interval = self.config().index_interval_bytes;
        let gaps = self.state.lock().compacted.gaps();
        replay(tail, &file, &Trusted { end: bytes, until, gaps, interval, now: self.now() })
    }

    /// The state at the start of a segment (or at the end of the last closed one): from its snapshot, or, where that is lost,
    /// from the one before and the batches between. Where nothing older is left, producers are unknown, as for Kafka's
    /// producers whose records are gone.
    pub(super) fn snapshot_at(&self, base: Offset) -> Result<Snapshot, ReadError> {
        let (before, epochs, log_start) = {
            let state = self.state.lock();
            let before = base
                .get()
                .checked_sub(1)
                .and_then(Offset::new)
                .and_then(|last| state.sealed_at(last).cloned());
            let before = before.filter(|sealed| sealed.facts.range.next == base);
            (before, state.tail.epochs.clone(), state.log_start)
        };
        if let Some(before) = &before
            && let Some(unwritten) = &*before.unwritten.lock()
            && let Ok(snapshot) = Snapshot::decode(&unwritten.snapshot)
        {
            return Ok(snapshot);
        }
        let path = layout::segment_file(self.path(), base, layout::SNAPSHOT);
        let stored =
            self.shared.world.disk.read_if_exists(&path).map_err(|error| ReadError::io(&path, error))?;
        match stored.as_deref().map(Snapshot::decode) {
            Some(Ok(snapshot)) if snapshot.offset == base => return Ok(snapshot),
            _ => {}
        }
        let Some(before) = before else {
            let mut epochs = epochs;
            epochs.truncate_to(base);
            return Ok(Snapshot { offset: base, log_start, epochs, producers: Default::default() });
        };
        tracing::warn!(path = %path.display(), "producer snapshot is lost or damaged, making it anew from the segment before");
        let start = self.snapshot_at(before.facts.range.base)?;
        let tail = self.replay(&start, &before.log, before.facts.bytes.get(), base)?;
        if tail.end != base {
            let (file, position) = (before.log.path().to_owned(), tail.bytes);
            return Err(Corruption { file, position, what: format!("it ends at offset {}", tail.end) }.into());
        }
        Ok(Snapshot { offset: base, log_start, epochs: tail.epochs, producers: tail.producers })
    }
}

/// An index that was made from batches, and the file of it.
struct RebuiltIndex {
    index: Index,
    chunk: Vec<u8>,
}

struct SealedSpan {
    base: Offset,
    next: Offset,
    bytes: u64,
}

impl SealedSpan {
    fn of(sealed: &Sealed) -> SealedSpan {
        let OffsetRange { base, next } = sealed.facts.range;
        SealedSpan { base, next, bytes: sealed.facts.bytes.get() }
    }
}
