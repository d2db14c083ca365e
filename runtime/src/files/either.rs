//! A disk that is the machine's own or a simulated one: what the simulation is built with in place of the host's.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use aquifer_model::ByteCount;

use super::host::{self, Entry, Faults, Space};
use super::simulated::{SimDisk, SimFile, SimLock};
use super::sound::{Look, Sound};

/// A file system. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Disk {
    /// The machine's own.
    Host(host::Disk),
    /// One in memory.
    Simulated(SimDisk),
}

/// An open file. Cheap to clone.
#[derive(Debug, Clone)]
pub enum File {
    /// On the machine's own disk.
    Host(host::File),
    /// In memory.
    Simulated(SimFile),
}

/// Holds a lock on a file until dropped.
#[derive(Debug)]
#[allow(dead_code)] // Held, never read.
pub enum Lock {
    /// On the machine's own disk.
    Host(host::Lock),
    /// In memory.
    Simulated(SimLock),
}

impl Disk {
    /// The machine's own.
    pub fn host() -> Disk {
        Disk::Host(host::Disk::host())
    }

    /// The machine's own, but failing as told.
    pub fn failing(faults: Faults) -> Disk {
        Disk::Host(host::Disk::failing(faults))
    }

    /// As the host's.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        match self {
            Disk::Host(disk) => disk.open(path).map(File::Host),
            Disk::Simulated(disk) => disk.open(path).map(File::Simulated),
        }
    }

    /// As the host's.
    pub fn open_read(&self, path: &Path) -> io::Result<File> {
        match self {
            Disk::Host(disk) => disk.open_read(path).map(File::Host),
            Disk::Simulated(disk) => disk.open(path).map(File::Simulated),
        }
    }

    /// As the host's.
    pub fn open_or_create(&self, path: &Path) -> io::Result<File> {
        match self {
            Disk::Host(disk) => disk.open_or_create(path).map(File::Host),
            Disk::Simulated(disk) => disk.open_or_create(path).map(File::Simulated),
        }
    }

    /// As the host's.
    pub fn create_new(&self, path: &Path) -> io::Result<File> {
        match self {
            Disk::Host(disk) => disk.create_new(path).map(File::Host),
            Disk::Simulated(disk) => disk.create_new(path).map(File::Simulated),
        }
    }

    /// As the host's.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self {
            Disk::Host(disk) => disk.read(path),
            Disk::Simulated(disk) => disk.read(path),
        }
    }

    /// As the host's.
    pub fn read_if_exists(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match self {
            Disk::Host(disk) => disk.read_if_exists(path),
            Disk::Simulated(disk) => disk.read_if_exists(path),
        }
    }

    /// As the host's.
    pub fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self {
            Disk::Host(disk) => disk.write_atomic(path, bytes),
            Disk::Simulated(disk) => disk.write_atomic(path, bytes),
        }
    }

    /// As the host's.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        match self {
            Disk::Host(disk) => disk.replace(path, bytes),
            Disk::Simulated(disk) => disk.replace(path, bytes),
        }
    }

    /// As the host's.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self {
            Disk::Host(disk) => disk.rename(from, to),
            Disk::Simulated(disk) => disk.rename(from, to),
        }
    }

    /// As the host's.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Host(disk) => disk.remove(path),
            Disk::Simulated(disk) => disk.remove(path),
        }
    }

    /// As the host's.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Host(disk) => disk.remove_dir_all(path),
            Disk::Simulated(disk) => disk.remove_dir_all(path),
        }
    }

    /// As the host's.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Host(disk) => disk.create_dir_all(path),
            Disk::Simulated(disk) => disk.create_dir_all(path),
        }
    }

    /// As the host's.
    pub fn is_dir(&self, path: &Path) -> bool {
        match self {
            Disk::Host(disk) => disk.is_dir(path),
            Disk::Simulated(disk) => disk.is_dir(path),
        }
    }

    /// As the host's.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        match self {
            Disk::Host(disk) => disk.exists(path),
            Disk::Simulated(disk) => disk.exists(path),
        }
    }

    /// As the host's.
    pub fn size_of(&self, path: &Path) -> io::Result<Option<ByteCount>> {
        match self {
            Disk::Host(disk) => disk.size_of(path),
            Disk::Simulated(disk) => disk.size_of(path),
        }
    }

    /// As the host's.
    pub fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        match self {
            Disk::Host(disk) => disk.list(path),
            Disk::Simulated(disk) => disk.list(path),
        }
    }

    /// As the host's.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        match self {
            Disk::Host(disk) => disk.sync_dir(path),
            Disk::Simulated(disk) => disk.sync_dir(path),
        }
    }

    /// As the host's.
    pub fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        match self {
            Disk::Host(disk) => Ok(disk.lock(path)?.map(Lock::Host)),
            Disk::Simulated(disk) => Ok(disk.lock(path)?.map(Lock::Simulated)),
        }
    }

    /// As the host's; a simulated disk is mounted once in a run of its machine.
    pub fn mount_id(&self, path: &Path) -> io::Result<Option<u64>> {
        match self {
            Disk::Host(disk) => disk.mount_id(path),
            Disk::Simulated(_) => Ok(None),
        }
    }

    /// As the host's.
    pub fn space(&self, path: &Path) -> io::Result<Space> {
        match self {
            Disk::Host(disk) => disk.space(path),
            Disk::Simulated(disk) => disk.space(),
        }
    }
}

impl File {
    /// As the host's.
    pub fn path(&self) -> &Path {
        match self {
            File::Host(file) => file.path(),
            File::Simulated(file) => file.path(),
        }
    }

    /// As the host's.
    pub fn size(&self) -> io::Result<ByteCount> {
        match self {
            File::Host(file) => file.size(),
            File::Simulated(file) => file.size(),
        }
    }

    /// As the host's.
    pub fn with_sound(self, sound: &Arc<Sound>) -> File {
        match self {
            File::Host(file) => File::Host(file.with_sound(sound)),
            File::Simulated(file) => File::Simulated(file.with_sound(sound)),
        }
    }

    /// As the host's.
    pub fn sound(&self) -> Option<&Sound> {
        match self {
            File::Host(file) => file.sound(),
            File::Simulated(file) => file.sound(),
        }
    }

    /// As the host's.
    pub fn read_at(&self, position: u64, count: usize) -> io::Result<Vec<u8>> {
        Ok(self.read_and_look(position, count)?.0)
    }

    /// As the host's.
    pub fn read_and_look(&self, position: u64, count: usize) -> io::Result<(Vec<u8>, Look)> {
        match self {
            File::Host(file) => file.read_and_look(position, count),
            File::Simulated(file) => file.read_and_look(position, count),
        }
    }

    /// As the host's.
    pub fn read_cached_and_look(&self, position: u64, count: usize) -> io::Result<Option<(Vec<u8>, Look)>> {
        match self {
            File::Host(file) => file.read_cached_and_look(position, count),
            File::Simulated(file) => file.read_cached_and_look(position, count),
        }
    }

    /// As the host's.
    pub fn read_exact_known_at(&self, position: u64, out: &mut [u8]) -> io::Result<bool> {
        match self {
            File::Host(file) => file.read_exact_known_at(position, out),
            File::Simulated(file) => {
                let read = file.read_cached_and_look(position, out.len())?;
                Ok(read.map(|(read, _)| out.copy_from_slice(&read)).is_some())
            }
        }
    }

    /// As the host's.
    pub fn is_cached(&self, position: u64, count: u64) -> io::Result<bool> {
        match self {
            File::Host(file) => file.is_cached(position, count),
            File::Simulated(file) => Ok(file.is_cached()),
        }
    }

    /// As the host's.
    pub fn read_exact_at(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            File::Host(file) => file.read_exact_at(position, out),
            File::Simulated(file) => file.read_exact_at(position, out),
        }
    }

    /// As the host's.
    pub fn write_all_at(&self, position: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        match self {
            File::Host(file) => file.write_all_at(position, slices),
            File::Simulated(file) => file.write_all_at(position, slices),
        }
    }

    /// As the host's.
    pub fn set_size(&self, size: ByteCount) -> io::Result<()> {
        match self {
            File::Host(file) => file.set_size(size),
            File::Simulated(file) => file.set_size(size),
        }
    }

    /// As the host's.
    pub fn sync_data(&self) -> io::Result<()> {
        match self {
            File::Host(file) => file.sync_data(),
            File::Simulated(file) => file.sync_data(),
        }
    }

    /// As the host's; memory needs no advice.
    pub fn advise_unneeded(&self, position: u64, count: u64) {
        if let File::Host(file) = self {
            file.advise_unneeded(position, count);
        }
    }

    /// As the host's.
    pub fn forget_clean_pages(&self) {
        match self {
            File::Host(file) => file.forget_clean_pages(),
            File::Simulated(file) => file.forget_clean_pages(),
        }
    }

    /// As the host's.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        match self {
            File::Host(file) => file.read_all(),
            File::Simulated(file) => file.read_all(),
        }
    }
}
