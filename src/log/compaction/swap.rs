//! Puts a new segment in the place of those that it was made from.
//!
//! What is in a log is what its checkpoint says, so that is where it is decided, in these steps:
//!
//! 1. The new segment and its index lie beside their places, named `.cleaned`, synced, and their names with them. A crash: the
//!    next start removes them.
//! 2. The checkpoint is replaced by one that has the new segment instead of the old ones, and says that its files may lie beside
//!    their places. From here on it is part of the log. A crash: the next start puts what lies beside into its place, and removes
//!    what was swallowed.
//! 3. Files change names, while nobody can look for them: the old segment and index go aside, the new ones come. Readers that
//!    hold the old file go on with it, and begin anew if they came too late for that; see `Log::steadily`.
//! 4. The names are synced; only then can another checkpoint be written, which says nothing of files beside. What was swallowed
//!    goes. A crash: as after 2.
//! 5. Before anything is written beside the log again, there is such a checkpoint: by the old one the next start would take a
//!    file that is not whole.
//!
//! All of that with the books held: no cut, trim or other checkpoint comes in between. Kafka renames to `.swap` instead, since
//! its files are its only record of which segments there are; a list that is replaced as a whole needs no half-way names.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquifer_model::Offset;
use parking_lot::Mutex;

use super::super::books::BooksError;
use super::super::checkpoint::{CompactionProgress, SealedFacts};
use super::super::error::{ChangeError, OpenLogError};
use super::super::handle::Log;
use super::super::index;
use super::super::layout;
use super::super::opening::Opening;
use super::super::segment::Sealed;
use super::super::state::{Books, Condition, Cuts, Starts};
use super::outcome::{CompactError, Finished, Swapped};

/// The files of a segment that a compaction makes anew.
const MADE_ANEW: [&str; 2] = [layout::LOG, layout::INDEX];

impl Log {
    /// Makes sure that the next start puts nothing into the log that lies beside it. Blocks.
    pub(super) fn forget_swaps(&self) -> Result<Swapped, ChangeError> {
        let mut books = self.books.lock();
        if self.state.lock().condition != Condition::Open {
            return Ok(Swapped::Overtaken);
        }
        if books.names_swaps {
            self.save(&mut books, None)?;
        }
        if books.names_swaps { Ok(Swapped::Overtaken) } else { Ok(Swapped::Done) }
    }

    /// Makes it durable that a pass is about to leave gaps below an offset. Blocks.
    pub(super) fn announce_gaps(&self, below: Offset, begun: Cuts) -> Result<(), CompactError> {
        let mut books = self.books.lock();
        if !self.may_go_on(begun) {
            return Err(CompactError::Overtaken);
        }
        Ok(self.raise_gap_mark(&mut books, below)?)
    }

    /// Whether a pass that was begun when the log's end had been cut so often may change the log; true for as long as the books
    /// are held. What it knows of newer values may have been cut off since, and of a log that is not to be compacted any more the
    /// segments may be on their way into the bucket.
    fn may_go_on(&self, begun: Cuts) -> bool {
        let is_to_be_compacted = self.config().cleanup.compaction().is_some();
        let state = self.state.lock();
        is_to_be_compacted && state.condition == Condition::Open && state.cuts == begun
    }

    /// Puts a new segment into the log. With `clean_below`, all below that is clean from then on. Blocks.
    pub(super) fn swap(
        &self,
        new: &Finished,
        clean_below: Option<Offset>,
        begun: Cuts,
    ) -> Result<Swapped, ChangeError> {
        let mut books = self.books.lock();
        // While the books are held, nothing leaves the log.
        if !self.may_go_on(begun) || !self.still_has(&new.sources) {
            return Ok(Swapped::Overtaken);
        }
        // What the checkpoint is to say of the rest has to be on disk.
        self.save(&mut books, None)?;
        let sealed = Arc::new(self.sealed_from(new.facts));
        books.names_swaps = true;
        self.decide(&books, &sealed, clean_below)?;
        let failed = |(path, error): (PathBuf, io::Error)| {
            // Half a swap is no state to go on from; the next start finishes it.
            self.shared.health.fail(&path, "swap of", &error);
            ChangeError::Failed
        };
        let base = new.facts.range.base;
        {
            let mut state = self.state.lock();
            // A read that has found its place but not its file begins anew, and waits for the lock.
            self.depart();
            for extension in MADE_ANEW {
                self.put_in_place(base, extension).map_err(failed)?;
            }
            let first = state.sealed.partition_point(|known| known.facts.range.base < base);
            let gone = state.sealed.iter().skip(first).take(new.sources.len());
            gone.for_each(|known| self.shared.indexes.remove(known.number));
            state.sealed.drain(first..first + new.sources.len());
            state.sealed.insert(first, sealed);
            state.compacted = state.compacted.with(clean_below, new.facts.range.next);
        }
        let swallowed = new.sources.iter().skip(1).map(|source| source.facts.range.base);
        let swallowed: Vec<PathBuf> = swallowed.flat_map(|base| self.files_of(base)).collect();
        for path in &swallowed {
            self.set_aside_file(path).map_err(failed)?;
        }
        // The sources were read whole, and were sound: what was misread once is no damage, nor what their indexes lacked.
        let anew = MADE_ANEW.map(|extension| layout::segment_file(self.path(), base, extension));
        self.forget_damage(|file| anew.iter().chain(&swallowed).any(|gone| gone == file));
        self.shared.world.disk.sync_dir(self.path()).map_err(|error| failed((self.folder.clone(), error)))?;
        Ok(Swapped::Done)
    }

    /// Notes that all below an offset is clean, though nothing of it was to be written anew.
    pub(super) fn note_clean(&self, below: Offset, begun: Cuts) -> Result<Swapped, ChangeError> {
        let mut books = self.books.lock();
        if !self.may_go_on(begun) {
            return Ok(Swapped::Overtaken);
        }
        self.state.lock().compacted.clean_below = Some(below);
        self.save(&mut books, None)?;
        Ok(Swapped::Done)
    }

    /// Whether all of these are in the log, one behind the other, and the log is sound.
    pub(super) fn still_has(&self, segments: &[Arc<Sealed>]) -> bool {
        let state = self.state.lock();
        let Some(base) = segments.first().map(|first| first.facts.range.base) else { return true };
        let first = state.sealed.partition_point(|known| known.facts.range.base < base);
        let known = state.sealed.iter().skip(first).take(segments.len());
        state.condition == Condition::Open
            && known.len() == segments.len()
            && known.zip(segments).all(|(known, asked)| Arc::ptr_eq(known, asked))
    }

    fn sealed_from(&self, facts: SealedFacts) -> Sealed {
        let path = |extension| layout::segment_file(self.path(), facts.range.base, extension);
        Sealed {
            number: self.shared.number(),
            facts,
            log: self.shared.files.slot(path(layout::LOG)),
            index_path: path(layout::INDEX),
            unwritten: Mutex::new(None),
        }
    }

    /// Writes the checkpoint by which the new segment belongs to the log.
    fn decide(
        &self,
        books: &Books,
        new: &Arc<Sealed>,
        clean_below: Option<Offset>,
    ) -> Result<(), ChangeError> {
        let mut checkpoint = {
            let state = self.state.lock();
            let range = new.facts.range;
            let mut sealed = state.sealed.clone();
            sealed
                .retain(|known| known.facts.range.next <= range.base || known.facts.range.base >= range.next);
            let at = sealed.partition_point(|known| known.facts.range.base < range.base);
            sealed.insert(at, new.clone());
            let starts = Starts { log_start: state.log_start, local_start: state.local_start };
            let compacted = state.compacted.with(clean_below, range.next);
            self.checkpoint(&sealed, books.point.clone(), starts, compacted)
        };
        if let Some(compaction) = &mut checkpoint.compaction {
            compaction.swapping = vec![new.facts.range.base];
        }
        let path = self.path().join(layout::CHECKPOINT);
        let disk = &self.shared.world.disk;
        // In two steps: a refusal for want of space must mean that nothing is decided.
        let replaced = disk.replace(&path, &checkpoint.encode());
        replaced.map_err(|error| self.books_failed(BooksError { path: path.clone(), error }))?;
        disk.sync_dir(self.path()).map_err(|error| {
            self.shared.health.fail(&path, "sync of", &error);
            ChangeError::Failed
        })
    }

    fn put_in_place(&self, base: Offset, extension: &str) -> Result<(), (PathBuf, io::Error)> {
        let path = layout::segment_file(self.path(), base, extension);
        self.set_aside_file(&path)?;
        let renamed = self.shared.world.disk.rename(&layout::cleaned(&path), &path);
        renamed.map_err(|error| (path, error))
    }

    /// Takes a file out of the way, if it is there. Its bytes go later: that takes time for a large one.
    fn set_aside_file(&self, path: &Path) -> Result<(), (PathBuf, io::Error)> {
        let deleted = layout::deleted(path, self.shared.number());
        match self.shared.world.disk.rename(path, &deleted) {
            // Whoever reads it still holds it open.
            Ok(()) => self.shared.keeper.remove_later([deleted], std::time::Duration::ZERO),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err((path.to_owned(), error)),
        }
        Ok(())
    }

    fn files_of(&self, base: Offset) -> [PathBuf; 3] {
        [layout::LOG, layout::INDEX, layout::SNAPSHOT]
            .map(|extension| layout::segment_file(self.path(), base, extension))
    }
}

impl Opening<'_> {
    /// Finishes or undoes what a crash has left of a swap; `decided` is what the checkpoint says of it, if there is one.
    pub(in super::super) fn settle_swaps(
        &mut self,
        decided: Option<(&CompactionProgress, &[SealedFacts])>,
    ) -> Result<(), OpenLogError> {
        let disk = &self.shared.world.disk;
        let mut touched = false;
        for name in std::mem::take(&mut self.beside) {
            let beside = self.folder.join(&name);
            let place = name.strip_suffix(layout::CLEANED).unwrap_or(&name);
            let of = |extension| layout::parse_segment_file(place, extension);
            let base = MADE_ANEW.into_iter().find_map(of);
            let belongs = base.is_some_and(|base| match decided {
                Some((compaction, _)) => compaction.swapping.contains(&base),
                // Without the old segment it must have been decided.
                None => !self.bases.contains(&base),
            });
            match belongs {
                true => disk.rename(&beside, &self.folder.join(place)),
                false => disk.remove(&beside),
            }
            .map_err(Self::io(&beside))?;
            touched = true;
        }
        if touched {
            let listed = disk.list(self.folder).map_err(Self::io(self.folder))?;
            self.bases = listed
                .iter()
                .filter_map(|entry| layout::parse_segment_file(&entry.name, layout::LOG))
                .collect();
            self.bases.sort_unstable();
        }
        let swallowed = match decided {
            Some((_, sealed)) => self.within(sealed.iter().map(|facts| (facts.range.base, facts.range.next))),
            None if self.gaps.end() > Offset::ZERO => self.swallowed_by_indexes()?,
            None => Vec::new(),
        };
        for base in &swallowed {
            self.remove_segment(*base)?;
        }
        self.bases.retain(|base| !swallowed.contains(base));
        if touched || !swallowed.is_empty() {
            disk.sync_dir(self.folder).map_err(Self::io(self.folder))?;
        }
        Ok(())
    }

    /// Segments that start within one of these ranges, but not where it does: those of which there is any file.
    fn within(&self, ranges: impl Iterator<Item = (Offset, Offset)>) -> Vec<Offset> {
        let named: BTreeSet<Offset> = self.bases.iter().chain(&self.small).copied().collect();
        let starts_within = |(base, next): (Offset, Offset)| -> Vec<Offset> {
            named.range(base.next()..).copied().take_while(|known| *known < next).collect()
        };
        ranges.flat_map(starts_within).collect()
    }

    /// The same by what the segments' indexes say of where they end. One whose index is lost, too, swallows none: what its batches
    /// say of that no checksum covers, and those behind it may be all that there is of them.
    fn swallowed_by_indexes(&self) -> Result<Vec<Offset>, OpenLogError> {
        let mut ranges: Vec<(Offset, Offset)> = Vec::new();
        for base in &self.bases {
            if ranges.last().is_some_and(|(_, next)| base < next) {
                continue;
            }
            let (log, path) = (self.path(*base, layout::LOG), self.path(*base, layout::INDEX));
            let size = self.shared.world.disk.size_of(&log).map_err(Self::io(&log))?.unwrap_or_default();
            let stored = self.shared.world.disk.read_if_exists(&path).map_err(Self::io(&path))?;
            let loaded = index::load(&stored.unwrap_or_default(), *base, size.get())
                .map_err(|error| OpenLogError::Format { path, error })?;
            if loaded.mark.position == size.get() && loaded.mark.next > *base {
                ranges.push((*base, loaded.mark.next));
            }
        }
        Ok(self.within(ranges.into_iter()))
    }
}
