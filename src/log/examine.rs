//! Looks whether what lies on disk is what was written: segments with every checksum, and the small files beside them.
//!
//! Nobody waits for it, so it goes a piece at a time, as its caller's budget lets it. It reads what is far behind the end from the
//! device and not from the page cache, and leaves none of it there: what readers of the tail want stays.
//!
//! What it finds is noted like what a read finds ([`Log::damage`]). Indexes, snapshots, the checkpoint and the partition file say
//! nothing that the batches and the process do not know, and are written anew at once. A damaged segment is not touched here.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_model::{ByteCount, LeaderEpochs, Offset, OffsetRange};

use super::checkpoint::{Checkpoint, PartitionFile, Snapshot};
use super::error::{ChangeError, Corruption, ReadError};
use super::gaps::Gaps;
use super::handle::Log;
use super::index;
use super::layout;
use super::read::foreign_epoch;
use super::scan::{Depth, Scan, Step};
use super::segment::Sealed;
use super::state::Condition;

/// A look at one segment, under way.
#[derive(Debug)]
pub struct Examination {
    log: Arc<Log>,
    range: OffsetRange,
    scan: Scan,
    file: aquifer_runtime::files::File,
    expected: Offset,
    epochs: LeaderEpochs,
    gaps: Gaps,
    departures: u64,
    is_far: bool,
}

/// How far a look has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// So much was read, and there is more.
    More(ByteCount),
    /// All of it is as it was written; so much was read last.
    Sound(ByteCount),
    /// It is damaged here. Noted.
    Damaged(Corruption),
    /// It looks damaged, but bytes have left the log meanwhile, perhaps these: nothing can be said.
    Gone,
}

impl Log {
    /// Where the segments on this disk start, oldest first, the open one last.
    pub fn bases(&self) -> Vec<Offset> {
        let state = self.state.lock();
        let sealed = state.sealed.iter().map(|sealed| sealed.facts.range.base);
        sealed.chain([state.tail.base]).collect()
    }

    /// Begins to look at the segment that starts at `base`; `None` if there is none, or the log is closed or deleted. Blocks.
    pub fn examine(self: &Arc<Self>, base: Offset) -> Result<Option<Examination>, ReadError> {
        let departures = self.departures.load(Ordering::Acquire);
        let (slot, range, bytes, epochs, gaps) = {
            let state = self.state.lock();
            if state.condition == Condition::Closed {
                return Ok(None);
            }
            let gaps = state.compacted.gaps();
            let tail = &state.tail;
            if base == tail.base {
                let range = OffsetRange { base, next: tail.end };
                (state.active.clone(), range, tail.bytes, tail.epochs.slice(base, tail.end), gaps)
            } else {
                let sealed = state.sealed_at(base).filter(|sealed| sealed.facts.range.base == base);
                let Some(sealed) = sealed else { return Ok(None) };
                let range = sealed.facts.range;
                let epochs = tail.epochs.slice(range.base, range.next);
                (sealed.log.clone(), range, sealed.facts.bytes.get(), epochs, gaps)
            }
        };
        let file = match self.shared.files.get(&slot) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if self.departures.load(Ordering::Acquire) != departures {
                    return Ok(None);
                }
                let what = "the file is missing".to_owned();
                self.note_damage(&Corruption { file: slot.path().to_owned(), position: 0, what });
                return Ok(None);
            }
            Err(error) => return Err(ReadError::io(slot.path(), error)),
        };
        let is_far = self.is_far_behind(range.next);
        if is_far {
            file.forget_clean_pages();
        }
        Ok(Some(Examination {
            log: self.clone(),
            range,
            scan: Scan::new(file.clone(), Depth::Whole, 0, bytes),
            file,
            expected: range.base,
            epochs,
            gaps,
            departures,
            is_far,
        }))
    }

    /// Looks at all of the segment that starts at `base` in one go. Blocks for as long as that takes to read.
    pub fn examine_whole(self: &Arc<Self>, base: Offset) -> Result<Looked, ReadError> {
        let Some(mut examination) = self.examine(base)? else { return Ok(Looked::Gone) };
        loop {
            match examination.go_on(ByteCount(u64::MAX))? {
                Looked::More(_) => {}
                looked => return Ok(looked),
            }
        }
    }

    /// Looks at the small files of the segment that starts at `base`, and writes anew what is damaged. Blocks.
    pub fn examine_books(&self, base: Offset) -> Result<(), ReadError> {
        let sealed = {
            let state = self.state.lock();
            if state.condition == Condition::Closed {
                return Ok(());
            }
            state.sealed_at(base).filter(|sealed| sealed.facts.range.base == base).cloned()
        };
        if let Some(sealed) = sealed.filter(|sealed| sealed.unwritten.lock().is_none()) {
            self.examine_index(&sealed)?;
        }
        self.examine_snapshot(base)
    }

    fn examine_index(&self, sealed: &Sealed) -> Result<(), ReadError> {
        let path = &sealed.index_path;
        let stored =
            self.shared.world.disk.read_if_exists(path).map_err(|error| ReadError::io(path, error))?;
        let stored = stored.unwrap_or_default();
        let (range, bytes) = (sealed.facts.range, sealed.facts.bytes.get());
        let (position, what) = match index::load(&stored, range.base, bytes) {
            Ok(loaded) if loaded.mark.position == bytes && loaded.mark.next == range.next => return Ok(()),
            Ok(loaded) => (loaded.file_bytes, "the index is damaged from there on".to_owned()),
            Err(error) => (0, error.to_string()),
        };
        if !self.is_still(sealed) {
            return Ok(());
        }
        self.note_damage(&Corruption { file: path.clone(), position, what });
        self.shared.indexes.remove(sealed.number);
        match self.renew_index(sealed)? {
            true => self.mended(path),
            // What has taken the segment's place brought its own.
            false => self.forget_damage(|file| file == path),
        }
        Ok(())
    }

    fn examine_snapshot(&self, base: Offset) -> Result<(), ReadError> {
        let path = layout::segment_file(self.path(), base, layout::SNAPSHOT);
        let Some(stored) = self.read_book(&path)? else { return Ok(()) };
        let what = match Snapshot::decode(&stored) {
            Ok(snapshot) if snapshot.offset == base => return Ok(()),
            Ok(snapshot) => format!("it is the snapshot of offset {}", snapshot.offset),
            Err(error) => error.to_string(),
        };
        let before = {
            let state = self.state.lock();
            let last = base.get().checked_sub(1).and_then(Offset::new);
            last.and_then(|last| state.sealed_at(last).cloned())
        };
        // Written by somebody else meanwhile, or dropped.
        if self.read_book(&path)?.as_ref() != Some(&stored) {
            return Ok(());
        }
        self.note_damage(&Corruption { file: path.clone(), position: 0, what });
        if before.is_none() {
            // The producers at the start of all that is here cannot be made anew from here.
            return Ok(());
        }
        let snapshot = self.snapshot_at(base)?;
        self.rewrite(&path, &snapshot.encode())
    }

    /// Looks at what the log as a whole has beside its batches, and writes anew what is damaged. Blocks.
    pub fn examine_log_books(&self) -> Result<(), ReadError> {
        let path = self.path().join(layout::PARTITION);
        // Under the lock under which it and the checkpoint are written.
        let mut books = self.books.lock();
        let stored = self.read_book(&path)?.unwrap_or_default();
        if PartitionFile::decode(&stored).ok().is_none_or(|found| found.partition != self.partition())
            && self.is_there()?
        {
            let what = "it does not say whose log this is".to_owned();
            self.note_damage(&Corruption { file: path.clone(), position: 0, what });
            self.rewrite(&path, &self.partition_file(books.gap_mark).encode())?;
        }
        let path = self.path().join(layout::CHECKPOINT);
        let Some(stored) = self.read_book(&path)? else { return Ok(()) };
        let Err(error) = Checkpoint::decode(&stored) else { return Ok(()) };
        self.note_damage(&Corruption { file: path.clone(), position: 0, what: error.to_string() });
        match self.save(&mut books, None) {
            Ok(()) => self.mended(&path),
            Err(ChangeError::Corrupt(corruption)) => return Err(corruption.into()),
            // Told already; tried again at the next look.
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "could not write a damaged checkpoint anew")
            }
        }
        Ok(())
    }

    fn read_book(&self, path: &Path) -> Result<Option<Vec<u8>>, ReadError> {
        self.shared.world.disk.read_if_exists(path).map_err(|error| ReadError::io(path, error))
    }

    fn rewrite(&self, path: &Path, bytes: &[u8]) -> Result<(), ReadError> {
        self.shared.world.disk.write_atomic(path, bytes).map_err(|error| ReadError::io(path, error))?;
        self.mended(path);
        Ok(())
    }

    fn mended(&self, path: &Path) {
        tracing::warn!(log = %self.partition(), path = %path.display(), "wrote a damaged file anew");
        self.forget_damage(|file| file == path);
    }

    /// Whether the log still has its folder.
    fn is_there(&self) -> Result<bool, ReadError> {
        self.shared.world.disk.exists(self.path()).map_err(|error| ReadError::io(self.path(), error))
    }
}

impl Examination {
    /// Which offsets it looks at.
    pub fn range(&self) -> OffsetRange {
        self.range
    }

    /// Looks at about so many bytes more. Blocks.
    pub fn go_on(&mut self, bytes: ByteCount) -> Result<Looked, ReadError> {
        let began = self.scan.position();
        let looked = loop {
            let at = self.scan.position();
            let step = match self.scan.step().map_err(|error| ReadError::of_read(self.file.path(), at, error))
            {
                Ok(step) => step,
                Err(ReadError::Corrupt(corruption)) => break Looked::Damaged(corruption),
                Err(error) => return Err(error),
            };
            let read = ByteCount(self.scan.position() - began);
            let damage = match step {
                Step::End if self.gaps.allow(self.expected, self.range.next) => break Looked::Sound(read),
                Step::End => Some((self.scan.position(), format!("it ends at offset {}", self.expected))),
                Step::Damage(error) => Some((self.scan.position(), error.to_string())),
                Step::Batch(position, header) => {
                    let known = self.epochs.epoch_at(header.base_offset);
                    let what = if !self.gaps.allow(self.expected, header.base_offset)
                        || header.next_offset() > self.range.next
                    {
                        Some(format!("a batch of offset {} follows {}", header.base_offset, self.expected))
                    } else if header.leader_epoch != known {
                        Some(foreign_epoch(&header, known))
                    } else {
                        self.expected = header.next_offset();
                        None
                    };
                    what.map(|what| (position, what))
                }
            };
            if let Some((position, what)) = damage {
                break Looked::Damaged(Corruption { file: self.file.path().to_owned(), position, what });
            }
            if read >= bytes {
                break Looked::More(read);
            }
        };
        let end = self.scan.position();
        self.log.shared.metrics.scrubbed_bytes.inc_by(end - began);
        if self.is_far && end > began {
            self.file.advise_unneeded(began, end - began);
        }
        let has_departed = self.log.departures.load(Ordering::Acquire) != self.departures;
        match &looked {
            Looked::Damaged(_) if has_departed => return Ok(Looked::Gone),
            Looked::Damaged(corruption) => self.log.note_damage(corruption),
            // What was misread once, or brought back by an operator, is damaged no longer. Damage in the end of a log lies behind
            // what was looked at here.
            Looked::Sound(_) if !has_departed => {
                let unsettled = self.log.corruption();
                let path = self.file.path();
                if unsettled.is_none_or(|corruption| corruption.file != path) {
                    self.log.forget_damage(|file| file == path);
                }
            }
            Looked::Sound(_) | Looked::More(_) | Looked::Gone => {}
        }
        Ok(looked)
    }
}
