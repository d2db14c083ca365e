//! Replaces a damaged closed segment by a copy of it that lay elsewhere.
//!
//! The copy is written beside the segment, under a name that the next start removes, and read back with every checksum; only
//! if it holds exactly the segment's offsets, under the leaders that the log knows, does it take the segment's name. A crash
//! before the rename leaves the damage as it was, one after it the sound segment. The index goes with the damaged bytes
//! that it may have been made from; the next reader makes it anew.
//!
//! It does not know where the copy comes from, nor whether it may be believed.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use aquifer_model::{ByteCount, LeaderEpochs, OffsetRange};
use aquifer_runtime::files::File;
use bytes::Bytes;
use parking_lot::Mutex;

use super::checkpoint::SealedFacts;
use super::error::ChangeError;
use super::handle::Log;
use super::layout;
use super::scan::{Depth, Scan, Step};
use super::segment::Sealed;

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

/// A copy that is being written.
#[derive(Debug)]
pub struct Mending {
    log: Arc<Log>,
    sealed: Arc<Sealed>,
    epochs: LeaderEpochs,
    path: PathBuf,
    copy: File,
    bytes: u64,
}

impl Log {
    /// Begins a copy of the closed segment that holds `offset`; `None` if there is none. Blocks.
    pub fn mend(self: &Arc<Self>, offset: aquifer_model::Offset) -> Result<Option<Mending>, MendError> {
        let (sealed, epochs) = {
            let state = self.state.lock();
            let Some(sealed) = state.sealed_at(offset).cloned() else { return Ok(None) };
            let OffsetRange { base, next } = sealed.facts.range;
            (sealed, state.tail.epochs.slice(base, next))
        };
        let mut path = sealed.log.path().as_os_str().to_owned();
        path.push(layout::TEMPORARY);
        let path = PathBuf::from(path);
        let open = || {
            let copy = self.shared.world.disk.open_or_create(&path)?;
            copy.set_size(ByteCount::ZERO)?;
            Ok(copy)
        };
        let copy = open().map_err(|error| MendError::Io { path: path.clone(), error })?;
        Ok(Some(Mending { log: self.clone(), sealed, epochs, path, copy, bytes: 0 }))
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
    pub fn finish(self) -> Result<(), MendError> {
        let log = self.log.clone();
        let outcome = self.replace();
        match &outcome {
            Ok(()) | Err(MendError::Books(_)) => {}
            // What is left of the copy is removed at the next start at the latest.
            Err(_) => log.shared.keeper.remove(&self.path),
        }
        outcome
    }

    fn replace(&self) -> Result<(), MendError> {
        let io = |error| MendError::Io { path: self.path.clone(), error };
        self.copy.sync_data().map_err(io)?;
        self.verify()?;
        let (log, shared) = (&self.log, &self.log.shared);
        let target = self.sealed.log.path();
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
                Step::End if expected == range.next => return Ok(()),
                Step::End => return Err(wrong(scan.position(), format!("it ends at offset {expected}"))),
                Step::Damage(error) => return Err(wrong(scan.position(), error.to_string())),
                Step::Batch(position, header) => {
                    let known = self.epochs.epoch_at(header.base_offset);
                    if header.base_offset != expected || header.leader_epoch != known {
                        let what = format!("offset {} follows {expected}", header.base_offset);
                        return Err(wrong(position, what));
                    }
                    expected = header.next_offset();
                }
            }
        }
    }
}
