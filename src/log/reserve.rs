//! Room set aside on the device for the moment when it is full.
//!
//! Freeing space means dropping segments, and dropping segments means writing a checkpoint first, which takes space. So a little
//! is held in a file of nothing, given back when a checkpoint that would free more finds none, and taken again once there is
//! room. A start that finds no more than this free gives it back at once: the metadata, too, has to write a little before anything can
//! make room. Best effort: without it all works as long as the disk is not full to the last block.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use aquifer_model::ByteCount;
use aquifer_runtime::files::Disk;
use parking_lot::Mutex;

/// Bytes written in one go. Written rather than only claimed: a file system may promise the same block twice.
const STEP_BYTES: usize = 1 << 20;

/// The file.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: Disk,
    path: PathBuf,
    size: ByteCount,
    /// Whether it is held; also keeps two from filling it at once.
    held: Mutex<bool>,
}

impl Reserve {
    pub(crate) fn new(disk: &Disk, path: &Path, size: ByteCount) -> Reserve {
        Reserve { disk: disk.clone(), path: path.to_owned(), size, held: Mutex::new(false) }
    }

    /// Takes the room, if it is not held already.
    pub(crate) fn take(&self) {
        let mut held = self.held.lock();
        if *held {
            return;
        }
        match self.fill() {
            Ok(()) => *held = true,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "no room to set aside for a full disk");
                // The last blocks are better left to others.
                self.empty();
            }
        }
    }

    /// Gives the room back; whether there was any.
    pub(crate) fn release(&self) -> bool {
        let mut held = self.held.lock();
        let was_held = std::mem::replace(&mut *held, false);
        if was_held {
            self.empty();
        }
        was_held
    }

    /// Gives back what an earlier process has taken.
    pub(crate) fn give_back(&self) {
        *self.held.lock() = false;
        self.empty();
    }

    fn fill(&self) -> io::Result<()> {
        let file = self.disk.open_or_create(&self.path)?;
        let mut position = file.size()?.get();
        let zeros = vec![0; STEP_BYTES.min(self.size.get() as usize)];
        while position < self.size.get() {
            let step = zeros.len().min((self.size.get() - position) as usize);
            file.write_all_at(position, &mut [IoSlice::new(&zeros[..step])])?;
            position += step as u64;
        }
        file.sync_data()
    }

    fn empty(&self) {
        let emptied = self.disk.open_or_create(&self.path).and_then(|file| file.set_size(ByteCount::ZERO));
        if let Err(error) = emptied {
            tracing::warn!(path = %self.path.display(), %error, "could not give back the room set aside for a full disk");
        }
    }
}

#[cfg(test)]
mod tests {
    use aquifer_runtime::files::Faults;

    use super::*;

    #[test]
    fn room_is_taken_given_back_and_not_taken_from_the_last_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let faults = Faults::default();
        let disk = Disk::failing(faults.clone());
        let size = ByteCount((3 << 19) + 5);
        let reserve = Reserve::new(&disk, &path, size);
        assert!(!reserve.release());
        for _ in 0..2 {
            reserve.take();
            assert_eq!(disk.size_of(&path).unwrap(), Some(size));
        }
        assert!(reserve.release());
        assert_eq!(disk.size_of(&path).unwrap(), Some(ByteCount::ZERO));
        assert!(!reserve.release());
        reserve.take();
        let next = Reserve::new(&disk, &path, size);
        next.give_back();
        assert_eq!(disk.size_of(&path).unwrap(), Some(ByteCount::ZERO));
        assert!(!next.release());
        reserve.release();
        faults.fail_writes(Some(io::ErrorKind::StorageFull));
        reserve.take();
        assert_eq!(disk.size_of(&path).unwrap(), Some(ByteCount::ZERO));
        assert!(!reserve.release());
    }
}
