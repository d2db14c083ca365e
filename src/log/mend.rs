//! Replaces a damaged closed segment by a copy of it that lay elsewhere.
//!
//! The copy is written beside the segment, and read back from the device with every checksum; only if it holds exactly the
//! segment's offsets, with gaps only where the log may have some, under the leaders that it knows, does it take the segment's name. One that does not come to that, for
//! whatever reason, is removed: it must not fill a disk that has no room for it, and none is begun where there is none. A crash
//! before the rename leaves the damage as it was and a copy that the next start removes, one after it the sound segment. The
//! index goes with the damaged bytes that it may have been made from; the next reader makes it anew.
//!
//! It does not know where the copy comes from, nor whether it may be believed.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, LeaderEpochs, OffsetRange};
use aquifer_runtime::files::File;
use bytes::Bytes;
use parking_lot::Mutex;

use super::checkpoint::SealedFacts;
use super::error::ChangeError;
use super::gaps::Gaps;
use super::handle::Log;
use super::layout;
use super::read::foreign_epoch;
use super::scan::{Depth, Scan, Step};
use super::segment::Sealed;

/// What a copy leaves free for what is appended meanwhile.
const ROOM_LEFT_MIN: ByteCount = ByteCount::mib(64);

/// Why a segment was not replaced; it is as it was.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// The copy is not one of this segment.
    #[error("the copy of {range} is none, at byte {position}: {what}")]
    Copy {
        /// The segment's.
        range: OffsetRange,
        /// Where in the copy.
        position: u64,
        /// What was found.
        what: String,
    },
    /// The disk has no room for both the damaged segment and its copy.
    #[error("no room for a copy of {needed} bytes with {available} bytes free")]
    NoRoom {
        /// The copy's size.
        needed: ByteCount,
        /// What is free.
        available: ByteCount,
    },
    /// The segment left the log meanwhile.
    #[error("the segment is not part of the log any more")]
    Gone,
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The log's books could not be written; the segment is replaced.
    #[error(transparent)]
    Books(#[from] ChangeError),
}

/// A copy that is being written. Dropped, it is removed.
#[derive(Debug)]
pub struct Mending {
    log: Arc<Log>,
    sealed: Arc<Sealed>,
    epochs: LeaderEpochs,
    gaps: Gaps,
    path: PathBuf,
    copy: File,
    bytes: u64,
    /// It has taken the segment's name.
    is_placed: bool,
}

impl Log {
    /// Begins a copy of the closed segment that holds `offset`; `None` if there is none, and refused without room for it. Blocks.
    pub fn mend(self: &Arc<Self>, offset: aquifer_model::Offset) -> Result<Option<Mending>, MendError> {
        let (sealed, epochs, gaps) = {
            let state = self.state.lock();
            let Some(sealed) = state.sealed_at(offset).cloned() else { return Ok(None) };
            let OffsetRange { base, next } = sealed.facts.range;
            (sealed, state.tail.epochs.slice(base, next), state.compacted.gaps())
        };
        let (disk, needed) = (&self.shared.world.disk, sealed.facts.bytes);
        let space = disk.space(self.path());
        let space = space.map_err(|error| MendError::Io { path: self.path().to_owned(), error })?;
        if space.available < needed + ROOM_LEFT_MIN {
            return Err(MendError::NoRoom { needed, available: space.available });
        }
        // A name of its own: one that was given up is perhaps still to be removed.
        let mut path = sealed.log.path().as_os_str().to_owned();
        path.push(format!(".{}{}", self.shared.number(), layout::TEMPORARY));
        let path = PathBuf::from(path);
        let open = || {
            let copy = disk.open_or_create(&path)?;
            copy.set_size(ByteCount::ZERO)?;
            Ok(copy)
        };
        let copy = open().map_err(|error| MendError::Io { path: path.clone(), error })?;
        Ok(Some(Mending { log: self.clone(), sealed, epochs, gaps, path, copy, bytes: 0, is_placed: false }))
    }
}

impl Mending {
    /// Which offsets the copy has to hold.
    pub fn range(&self) -> OffsetRange {
        self.sealed.facts.range
    }

    /// Adds to the copy. Blocks.
    pub fn write(&mut self, slices: &[Bytes]) -> Result<(), MendError> {
        for slice in slices {
            let written = self.copy.write_all_at(self.bytes, &mut [IoSlice::new(slice)]);
            written.map_err(|error| MendError::Io { path: self.path.clone(), error })?;
            self.bytes += slice.len() as u64;
        }
        Ok(())
    }

    /// Verifies the copy and puts it in the segment's place; durable on return. Blocks.
    pub fn finish(mut self) -> Result<(), MendError> {
        let path = self.path.clone();
        let io = |error| MendError::Io { path: path.clone(), error };
        self.copy.sync_data().map_err(io)?;
        // What the page cache has is what was written, not what the device has made of it.
        self.copy.forget_clean_pages();
        self.verify()?;
        let log = self.log.clone();
        let shared = &log.shared;
        let sealed = self.sealed.clone();
        let target = sealed.log.path();
        // Nothing is trimmed, cut or written to the books meanwhile.
        let mut books = log.books.lock();
        {
            let mut state = log.state.lock();
            let base = self.range().base;
            let Some(at) = state.sealed.iter().position(|sealed| sealed.facts.range.base == base) else {
                return Err(MendError::Gone);
            };
            if state.sealed[at].number != self.sealed.number {
                return Err(MendError::Gone);
            }
            shared.world.disk.rename(&self.path, target).map_err(io)?;
            self.is_placed = true;
            let unwritten = state.sealed[at].unwritten.lock().take();
            if unwritten.is_none() {
                shared.keeper.remove(&self.sealed.index_path);
            }
            state.sealed[at] = Arc::new(Sealed {
                number: shared.number(),
                facts: SealedFacts { bytes: ByteCount(self.bytes), ..self.sealed.facts },
                log: shared.files.slot(target.to_owned()),
                index_path: self.sealed.index_path.clone(),
                unwritten: Mutex::new(unwritten),
            });
            shared.indexes.remove(self.sealed.number);
            log.depart();
        }
        shared.world.disk.sync_dir(log.path()).map_err(io)?;
        log.forget_damage(|file| file == target);
        shared.metrics.mended_segments.inc();
        tracing::warn!(log = %log.partition(), topic = %log.topic(), path = %target.display(), "replaced a damaged segment by a sound copy");
        if self.sealed.facts.bytes != ByteCount(self.bytes) {
            log.save(&mut books, None)?;
        }
        Ok(())
    }

    fn verify(&self) -> Result<(), MendError> {
        let range = self.range();
        let wrong = |position, what: String| MendError::Copy { range, position, what };
        let mut scan = Scan::new(self.copy.clone(), Depth::Whole, 0, self.bytes);
        let mut expected = range.base;
        loop {
            let step = scan.step().map_err(|error| MendError::Io { path: self.path.clone(), error })?;
            match step {
                Step::End if self.gaps.allow(expected, range.next) => return Ok(()),
                Step::End => return Err(wrong(scan.position(), format!("it ends at offset {expected}"))),
                Step::Damage(error) => return Err(wrong(scan.position(), error.to_string())),
                Step::Batch(position, header) => {
                    let known = self.epochs.epoch_at(header.base_offset);
                    if !self.gaps.allow(expected, header.base_offset) || header.next_offset() > range.next {
                        let what = format!("offset {} where {expected} belongs", header.base_offset);
                        return Err(wrong(position, what));
                    }
                    if header.leader_epoch != known {
                        return Err(wrong(position, foreign_epoch(&header, known)));
                    }
                    expected = header.next_offset();
                }
            }
        }
    }
}

impl Drop for Mending {
    fn drop(&mut self) {
        if !self.is_placed {
            // By the keeper, since whoever drops it may not block.
            self.log.shared.keeper.remove_later([std::mem::take(&mut self.path)], Duration::ZERO);
        }
    }
}
