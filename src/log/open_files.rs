//! The budget of open files: a segment's file is opened when it is needed and closed when it has gone cold.
//!
//! Thousands of partitions with dozens of segments each would exhaust any limit if a descriptor were held per file. A handle
//! given out keeps its descriptor for as long as it is held, whatever the budget says: a read under way, and bytes that are not
//! synced yet, never lose their file. In particular a file with unsynced bytes is always held by the committer, so that an error
//! of writing it back is reported to the descriptor that is then synced.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use aquifer_runtime::files::{Disk, File, Sound};
use aquifer_runtime::metrics::Gauge;
use parking_lot::Mutex;

use super::error::lacks_descriptors;

/// A ring of so few is not looked through for slots that are gone.
const RING_MIN: usize = 64;

/// The files of one data directory that are open.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    disk: Disk,
    open_max: usize,
    /// How many are open.
    open: Gauge,
    /// Every slot with an open file once, and at most as many that have lost theirs, or are gone; the clock hand goes round it.
    ring: Mutex<VecDeque<Weak<FileSlot>>>,
}

/// One file that may be open or not.
#[derive(Debug)]
pub(crate) struct FileSlot {
    path: PathBuf,
    file: Mutex<Option<File>>,
    /// What of it is known to be sound in memory, whether the file is open or not.
    sound: Arc<Sound>,
    /// Set at each use, cleared as the hand passes; a file passed twice without use is closed.
    used: AtomicBool,
    /// Of all slots.
    open: Gauge,
}

impl Drop for FileSlot {
    fn drop(&mut self) {
        self.close();
    }
}

impl FileSlot {
    /// Keeps an open file, unless there is one; whether there was none.
    fn keep(&self, file: &File) -> bool {
        let is_new = self.file.lock().replace(file.clone()).is_none();
        if is_new {
            self.open.inc();
        }
        is_new
    }

    fn close(&self) {
        if self.file.lock().take().is_some() {
            self.open.dec();
        }
    }

    /// The file, if it need not be opened.
    pub(crate) fn opened(&self) -> Option<File> {
        let open = self.file.lock();
        self.used.store(true, Ordering::Relaxed);
        open.clone()
    }

    /// Forgets what was known of the file behind this: it is cut there, perhaps by another slot, or damage was found.
    pub(crate) fn forget_from(&self, position: u64) {
        self.sound.forget_from(position);
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl OpenFiles {
    /// `open` tells how many are open.
    pub(crate) fn new(disk: Disk, open_max: usize, open: Gauge) -> OpenFiles {
        OpenFiles { disk, open_max: open_max.max(1), open, ring: Mutex::new(VecDeque::new()) }
    }

    /// A slot for a file that exists.
    pub(crate) fn slot(&self, path: PathBuf) -> Arc<FileSlot> {
        let (file, used, open) = (Mutex::new(None), AtomicBool::new(false), self.open.clone());
        Arc::new(FileSlot { path, file, sound: Arc::default(), used, open })
    }

    /// Makes an empty file, or empties one that a crash has left under this name.
    pub(crate) fn create(&self, path: PathBuf) -> io::Result<Arc<FileSlot>> {
        let file = self.with_descriptor(|| self.disk.open_or_create(&path))?;
        file.set_size(aquifer_model::ByteCount::ZERO)?;
        let slot = self.slot(path);
        slot.used.store(true, Ordering::Relaxed);
        slot.keep(&file.with_sound(&slot.sound));
        self.admit(&slot);
        Ok(slot)
    }

    /// The file, opened if need be.
    pub(crate) fn get(&self, slot: &Arc<FileSlot>) -> io::Result<File> {
        if let Some(file) = slot.opened() {
            return Ok(file);
        }
        // Not under the slot's lock: making room takes those of others.
        let file = self.with_descriptor(|| self.disk.open(&slot.path))?.with_sound(&slot.sound);
        if slot.keep(&file) {
            self.admit(slot);
        }
        Ok(file)
    }

    /// Opens a file; where descriptors have run out, with half of those held here closed first.
    fn with_descriptor<T>(&self, open: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match open() {
            Err(error) if lacks_descriptors(&error) => {
                let mut ring = self.ring.lock();
                let keep = ring.len() / 2;
                tracing::warn!(%error, closing = ring.len() - keep, "too many files are open, closing cold ones");
                close_cold(&mut ring, keep);
                drop(ring);
                open()
            }
            opened => opened,
        }
    }

    /// Takes a slot into the ring, and closes cold files while there are too many.
    fn admit(&self, slot: &Arc<FileSlot>) {
        let mut ring = self.ring.lock();
        ring.push_back(Arc::downgrade(slot));
        if ring.len() > 2 * self.open_count().max(RING_MIN) {
            ring.retain(|slot| slot.strong_count() > 0);
        }
        close_cold(&mut ring, self.open_max);
    }

    /// How many files are open.
    pub(crate) fn open_count(&self) -> usize {
        usize::try_from(self.open.get()).unwrap_or(0)
    }
}

fn close_cold(ring: &mut VecDeque<Weak<FileSlot>>, keep: usize) {
    // Two rounds pass every slot twice, so there is something to close.
    let mut steps = ring.len() * 2;
    while ring.len() > keep && steps > 0 {
        steps -= 1;
        let Some(coldest) = ring.pop_front() else { return };
        let Some(slot) = coldest.upgrade() else { continue };
        if slot.used.swap(false, Ordering::Relaxed) {
            ring.push_back(coldest);
        } else {
            slot.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    #[test]
    fn cold_files_are_closed_and_opened_again_with_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let files = OpenFiles::new(Disk::host(), 3, Gauge::default());
        let slots: Vec<_> =
            (0..10u8).map(|n| files.create(dir.path().join(n.to_string())).unwrap()).collect();
        assert!(files.open_count() <= 3);
        for round in 0..3u64 {
            for (n, slot) in (0u8..).zip(&slots) {
                files.get(slot).unwrap().write_all_at(round, &mut [IoSlice::new(&[n])]).unwrap();
                assert!(files.open_count() <= 3);
            }
        }
        let open = slots.iter().filter(|slot| slot.file.lock().is_some()).count();
        assert!((1..=3).contains(&open), "{open} open");
        for (n, slot) in (0u8..).zip(&slots) {
            assert_eq!(files.get(slot).unwrap().read_all().unwrap(), [n; 3]);
        }
        drop(slots);
        assert_eq!(files.open_count(), 0, "those of logs that are gone are not open");
        let last = files.create(dir.path().join("last")).unwrap();
        assert!(files.get(&last).is_ok());
    }
}
