//! The machine's own files, and their failures made on purpose.

use std::collections::HashMap;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquifer_model::ByteCount;
use parking_lot::Mutex;
use rustix::fs::{Advice, AtFlags, FlockOperation, StatxFlags};
use rustix::io::ReadWriteFlags;

use super::sound::{GRAIN, Look, READ_AHEAD_MAX, Sound};
use super::write_back::Unsynced;

/// The number of `cachestat` on every architecture; the C library has no name for it yet.
const CACHESTAT: libc::c_long = 451;

/// A file system. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    faults: Option<Faults>,
}

/// A disk's failures, made on purpose: what follows a full or a broken disk has to be tested too. Cheap to clone; clones steer
/// the same disk.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<FailingCalls>>);

#[derive(Debug, Default)]
struct FailingCalls {
    writes: Option<io::ErrorKind>,
    syncs: Option<io::ErrorKind>,
    no_descriptors: bool,
    /// Operations that change something or make it durable.
    operations: u64,
    /// After so many of them there are no more.
    operations_max: Option<u64>,
    /// How long files were when they were last synced.
    synced: HashMap<PathBuf, u64>,
}

impl Faults {
    /// From now on every write fails like this, after half of its bytes; `None` ends it.
    pub fn fail_writes(&self, kind: Option<io::ErrorKind>) {
        self.0.lock().writes = kind;
    }

    /// From now on every sync fails like this; `None` ends it.
    pub fn fail_syncs(&self, kind: Option<io::ErrorKind>) {
        self.0.lock().syncs = kind;
    }

    /// Whether opening a file fails for want of a descriptor, from now on.
    pub fn exhaust_descriptors(&self, exhausted: bool) {
        self.0.lock().no_descriptors = exhausted;
    }

    /// After so many more operations that change something or make it durable every one fails, and nothing is changed; `None` ends it.
    pub fn stop_after(&self, operations: Option<u64>) {
        let mut calls = self.0.lock();
        (calls.operations, calls.operations_max) = (0, operations);
    }

    /// How many bytes a file had when it was last synced: so many of them, if it still has so many, survive a power cut.
    pub fn synced_bytes(&self, path: &Path) -> u64 {
        self.0.lock().synced.get(path).copied().unwrap_or_default()
    }

    fn note_synced(faults: &Option<Faults>, path: &Path, bytes: u64) {
        if let Some(faults) = faults {
            faults.0.lock().synced.insert(path.to_owned(), bytes);
        }
    }

    fn note_size(faults: &Option<Faults>, path: &Path, bytes: u64) {
        if let Some(faults) = faults
            && let Some(synced) = faults.0.lock().synced.get_mut(path)
        {
            *synced = bytes.min(*synced);
        }
    }

    /// Counts an operation that is to change something.
    fn check_change(faults: &Option<Faults>) -> io::Result<()> {
        let Some(faults) = faults else { return Ok(()) };
        let mut calls = faults.0.lock();
        calls.operations += 1;
        match calls.operations_max {
            Some(max) if calls.operations > max => Err(io::Error::other("the device has stopped")),
            _ => Ok(()),
        }
    }

    fn check_open(faults: &Option<Faults>) -> io::Result<()> {
        match faults.as_ref().is_some_and(|faults| faults.0.lock().no_descriptors) {
            true => Err(rustix::io::Errno::MFILE.into()),
            false => Ok(()),
        }
    }

    fn check_sync(faults: &Option<Faults>) -> io::Result<()> {
        match faults.as_ref().and_then(|faults| faults.0.lock().syncs) {
            Some(kind) => Err(kind.into()),
            None => Ok(()),
        }
    }

    fn check_write(faults: &Option<Faults>) -> Option<io::Error> {
        faults.as_ref().and_then(|faults| faults.0.lock().writes).map(io::Error::from)
    }
}

/// An open file. Cheap to clone; clones share one descriptor.
#[derive(Debug, Clone)]
pub struct File {
    open: Arc<Open>,
    /// Where somebody keeps account of it.
    sound: Option<Arc<Sound>>,
}

#[derive(Debug)]
struct Open {
    file: fs::File,
    unsynced: Unsynced,
    path: PathBuf,
    faults: Option<Faults>,
}

/// Holds a lock on a file, against other processes, until dropped.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] fs::File);

/// What a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its last path component; entries whose name is not UTF-8 are not ours and are left out.
    pub name: String,
    /// Whether it is a folder itself.
    pub is_dir: bool,
}

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What may be filled in all: what is in use and what is available. As `df` counts, without what is kept for root or lies beyond
    /// a quota.
    pub total: ByteCount,
    /// What this process may still fill.
    pub available: ByteCount,
}

#[allow(clippy::disallowed_methods)] // The home of files.
impl Disk {
    /// The machine's own.
    pub fn host() -> Disk {
        Disk::default()
    }

    /// The machine's own, but failing as told.
    pub fn failing(faults: Faults) -> Disk {
        Disk { faults: Some(faults) }
    }

    fn file(&self, file: fs::File, path: &Path) -> File {
        let (unsynced, path) = (Unsynced::default(), path.to_owned());
        let open = Open { file, unsynced, path, faults: self.faults.clone() };
        File { open: Arc::new(open), sound: None }
    }

    /// Opens for reading and writing; the file must exist.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        Faults::check_open(&self.faults)?;
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        Ok(self.file(file, path))
    }

    /// Opens for reading only; the file must exist.
    pub fn open_read(&self, path: &Path) -> io::Result<File> {
        Ok(self.file(fs::File::open(path)?, path))
    }

    /// Opens for reading and writing; makes an empty file where there is none.
    pub fn open_or_create(&self, path: &Path) -> io::Result<File> {
        Faults::check_open(&self.faults)?;
        Faults::check_change(&self.faults)?;
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(self.file(file, path))
    }

    /// Makes an empty file; one that exists is an error.
    pub fn create_new(&self, path: &Path) -> io::Result<File> {
        Faults::check_change(&self.faults)?;
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(self.file(file, path))
    }

    /// All bytes of a file.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    /// All bytes of a file; `None` where there is none.
    pub fn read_if_exists(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces a file so that a crash leaves the old bytes or the new, durable on return. Works through `<path>.tmp`, which a
    /// crash may leave behind and the next write replaces.
    pub fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes)?;
        self.sync_dir(parent(path)?)
    }

    /// As [`Disk::write_atomic`], but until the folder is synced a crash may bring the old bytes back.
    pub fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let temporary = PathBuf::from(name);
        Faults::check_change(&self.faults)?;
        let mut file = fs::File::create(&temporary)?;
        if let Some(error) = Faults::check_write(&self.faults) {
            return Err(error);
        }
        file.write_all(bytes)?;
        Faults::check_sync(&self.faults)?;
        file.sync_data()?;
        drop(file);
        Faults::check_change(&self.faults)?;
        fs::rename(&temporary, path)
    }

    /// Renames within a file system. Durable only after the folders are synced.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Faults::check_change(&self.faults)?;
        fs::rename(from, to)
    }

    /// Removes a file; one that is not there is no error.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        Faults::check_change(&self.faults)?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a folder and all in it; one that is not there is no error.
    pub fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        Faults::check_change(&self.faults)?;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes a folder and those above it, each durable on return. Where one of them is a file, the error is `NotADirectory`.
    pub fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        let above = parent(path)?;
        self.create_dir_all(above)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Err(_) if !path.is_dir() => Err(io::ErrorKind::NotADirectory.into()),
            _ => self.sync_dir(above),
        }
    }

    /// Whether there is a folder of this name.
    pub fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }

    /// Whether a file or folder exists.
    pub fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    /// A file's length, without opening it; `None` where there is none.
    pub fn size_of(&self, path: &Path) -> io::Result<Option<ByteCount>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(ByteCount(metadata.len()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a folder holds, by name.
    pub fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Makes the names in a folder durable.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Faults::check_change(&self.faults)?;
        Faults::check_sync(&self.faults)?;
        fs::File::open(path)?.sync_all()
    }

    /// Locks a file against other processes, making it where there is none. `None` if another process holds it.
    pub fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Which mount `path` lies on: a number that no other mount has had since the machine started. What was in the page cache and
    /// not synced is gone once a file system is unmounted by force, or was shut down, also without a restart of the machine. `None`
    /// where the kernel cannot tell (Linux before 6.8).
    pub fn mount_id(&self, path: &Path) -> io::Result<Option<u64>> {
        // STATX_MNT_ID_UNIQUE; rustix has no name for it yet.
        let unique = StatxFlags::from_bits_retain(0x4000);
        let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), unique)?;
        Ok((found.stx_mask & unique.bits() != 0).then_some(found.stx_mnt_id))
    }

    /// How full the file system of `path` is.
    pub fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        let in_use = stat.f_blocks.saturating_sub(stat.f_bfree);
        let bytes = |blocks: u64| ByteCount(blocks.saturating_mul(stat.f_frsize));
        Ok(Space { total: bytes(in_use.saturating_add(stat.f_bavail)), available: bytes(stat.f_bavail) })
    }
}

/// Whether what is to be read is in the page cache.
enum IsCached {
    Yes,
    No,
}

/// Where what a read may bring back starts, what it reads ends, and what the kernel may read ahead ends.
fn brought_back(position: u64, count: u64) -> (u64, u64, u64) {
    let end = position.saturating_add(count);
    (position / GRAIN * GRAIN, end, end.saturating_add(READ_AHEAD_MAX))
}

/// After a read that did not wait and found something missing, which had just been there: the kernel may be bringing it back.
fn forget_missed(sound: &Sound, position: u64, count: u64) {
    let (before, _, behind) = brought_back(position, count);
    sound.forget(before..behind);
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.open.file.as_fd()
    }
}

impl File {
    /// The file, with an account of what is known to be sound: one for all who have it open.
    pub fn with_sound(self, sound: &Arc<Sound>) -> File {
        File { sound: Some(sound.clone()), ..self }
    }

    /// What is known to be sound, if there is an account of it.
    pub fn sound(&self) -> Option<&Sound> {
        self.sound.as_deref()
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.open.path
    }

    /// Its length.
    pub fn size(&self) -> io::Result<ByteCount> {
        Ok(ByteCount(self.open.file.metadata()?.len()))
    }

    /// Up to `count` bytes from `position`; fewer only at the end of the file. The buffer is not zeroed first.
    pub fn read_at(&self, position: u64, count: usize) -> io::Result<Vec<u8>> {
        Ok(self.read_and_look(position, count)?.0)
    }

    /// The same, for whoever verifies it.
    pub fn read_and_look(&self, position: u64, count: usize) -> io::Result<(Vec<u8>, Look)> {
        let Some(sound) = &self.sound else {
            return Ok((self.read_up_to(position, count)?, Look::unknown()));
        };
        if let Ok(Some(read)) = self.read_cached_and_look(position, count) {
            return Ok(read);
        }
        let look = self.begin_read(sound, position, count as u64, IsCached::No);
        Ok((self.read_up_to(position, count)?, look))
    }

    /// The same without a wait for the device: `None` if the page cache has not all of it, or the file ends before.
    /// [`io::ErrorKind::Unsupported`] where that cannot be asked: it can of ext4, xfs and btrfs, but not of overlayfs.
    pub fn read_cached_and_look(&self, position: u64, count: usize) -> io::Result<Option<(Vec<u8>, Look)>> {
        let Some(sound) = &self.sound else {
            return Ok(self.read_up_to_cached(position, count)?.map(|read| (read, Look::unknown())));
        };
        let look = match self.is_cached(position, count as u64) {
            Ok(true) if sound.covers(position, count as u64) => sound.known(),
            Ok(true) => self.begin_read(sound, position, count as u64, IsCached::Yes),
            // Even a read that does not wait would begin to bring it back.
            Ok(false) => return Ok(None),
            Err(_) => self.begin_read(sound, position, count as u64, IsCached::No),
        };
        let read = self.read_up_to_cached(position, count)?;
        if read.is_none() {
            forget_missed(sound, position, count as u64);
        }
        Ok(read.map(|read| (read, look)))
    }

    /// Forgets what a read may bring back, given whether what it reads is in the page cache.
    fn begin_read(&self, sound: &Arc<Sound>, position: u64, count: u64, is_cached: IsCached) -> Look {
        let (before, end, behind) = brought_back(position, count);
        // Of what nobody knows nothing is lost.
        let is_kept = |range| {
            let known = sound.known_within(range);
            known.is_none_or(|known| self.is_cached(known.start, known.end - known.start).unwrap_or(false))
        };
        let brings = match is_cached {
            IsCached::Yes if is_kept(end..behind) => end..end,
            IsCached::Yes => end..behind,
            IsCached::No if is_kept(before..position) => position..behind,
            IsCached::No => before..behind,
        };
        sound.begin(position..end, brings)
    }

    fn read_up_to(&self, position: u64, count: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::with_capacity(count);
        while out.len() < count {
            let at = position + out.len() as u64;
            // The capacity may exceed what was asked for; what was not asked for must not be read.
            let left = count - out.len();
            let spare = &mut out.spare_capacity_mut()[..left];
            let (read, _) = match rustix::io::pread(self.open.file.as_fd(), spare, at) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            let read = read.len();
            if read == 0 {
                break;
            }
            // SAFETY: pread has just initialised `read` bytes behind the current length, within the capacity.
            #[allow(unsafe_code)]
            unsafe {
                out.set_len(out.len() + read);
            }
        }
        Ok(out)
    }

    fn read_up_to_cached(&self, position: u64, count: usize) -> io::Result<Option<Vec<u8>>> {
        let mut out: Vec<u8> = Vec::with_capacity(count);
        let spare = libc::iovec { iov_base: out.as_mut_ptr().cast(), iov_len: count };
        let Ok(at) = libc::off64_t::try_from(position) else { return Ok(None) };
        // SAFETY: the one slice is the vector's own memory, of this capacity or more, which nothing else refers to during the call.
        #[allow(unsafe_code)]
        let read = unsafe {
            libc::preadv64v2(self.open.file.as_raw_fd(), &raw const spare, 1, at, libc::RWF_NOWAIT)
        };
        match usize::try_from(read) {
            Ok(read) if read == count => {
                // SAFETY: the call has just initialised so many bytes.
                #[allow(unsafe_code)]
                unsafe {
                    out.set_len(count);
                }
                Ok(Some(out))
            }
            Ok(_) => Ok(None),
            Err(_) => {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }

    /// Fills `out` from `position`, if the page cache has all of it; whether it had. For what is known to be sound, and is in the page
    /// cache. [`io::ErrorKind::Unsupported`] as for [`File::read_cached_and_look`].
    pub fn read_exact_known_at(&self, position: u64, out: &mut [u8]) -> io::Result<bool> {
        let count = out.len();
        let read = rustix::io::preadv2(
            &self.open.file,
            &mut [IoSliceMut::new(out)],
            position,
            ReadWriteFlags::NOWAIT,
        );
        let is_read = match read {
            Ok(read) => read == count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => false,
            Err(error) => return Err(error.into()),
        };
        if !is_read && let Some(sound) = &self.sound {
            forget_missed(sound, position, count as u64);
        }
        Ok(is_read)
    }

    /// Whether the page cache has all of these bytes, or the kernel is reading them. It may lose them at any time, and may have lost them
    /// and read them again since it was last asked. [`io::ErrorKind::Unsupported`] where the kernel cannot tell (Linux before 6.5), or may not.
    pub fn is_cached(&self, position: u64, count: u64) -> io::Result<bool> {
        /// `struct cachestat_range`.
        #[repr(C)]
        struct Range {
            position: u64,
            count: u64,
        }
        /// `struct cachestat`: pages.
        #[repr(C)]
        #[derive(Default)]
        struct Pages {
            cached: u64,
            _dirty: u64,
            _written_back: u64,
            _evicted: u64,
            _recently_evicted: u64,
        }
        if count == 0 {
            return Ok(true);
        }
        let (range, mut pages) = (Range { position, count }, Pages::default());
        // SAFETY: the kernel reads the one and fills the other, both of which have the layout that it wants and live during the call.
        #[allow(unsafe_code)]
        let outcome = unsafe {
            libc::syscall(CACHESTAT, self.open.file.as_raw_fd(), &raw const range, &raw mut pages, 0)
        };
        if outcome != 0 {
            return Err(match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ENOSYS) => io::ErrorKind::Unsupported.into(),
                error if error.kind() == io::ErrorKind::PermissionDenied => io::ErrorKind::Unsupported.into(),
                error => error,
            });
        }
        let page = rustix::param::page_size() as u64;
        let (first, last) = (position / page, (position + count - 1) / page);
        Ok(pages.cached > last - first)
    }

    /// Fills `out` from `position`; a file that ends before is an error.
    pub fn read_exact_at(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        let count = out.len() as u64;
        let _look = self.sound.as_ref().map(|sound| self.begin_read(sound, position, count, IsCached::No));
        std::os::unix::fs::FileExt::read_exact_at(&self.open.file, out, position)
    }

    /// Writes all slices, one behind the other, from `position`. On an error some bytes may have been written.
    pub fn write_all_at(&self, position: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // The kernel takes at most this many slices a call (UIO_MAXIOV).
        const SLICES_MAX: usize = 1024;
        Faults::check_change(&self.open.faults)?;
        if let Some(error) = Faults::check_write(&self.open.faults) {
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            rustix::io::pwrite(&self.open.file, &bytes[..bytes.len() / 2], position)?;
            return Err(error);
        }
        let mut at = position;
        let mut left = slices;
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let some = &left[..left.len().min(SLICES_MAX)];
            let written = match rustix::io::pwritev(&self.open.file, some, at) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other?,
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
        self.open.unsynced.note_written(position, at);
        Ok(())
    }

    /// Cuts or extends the file.
    pub fn set_size(&self, size: ByteCount) -> io::Result<()> {
        Faults::check_change(&self.open.faults)?;
        if let Some(sound) = &self.sound {
            sound.forget_from(size.get());
        }
        self.open.file.set_len(size.get())?;
        Faults::note_size(&self.open.faults, &self.open.path, size.get());
        Ok(())
    }

    /// Makes all bytes and the length durable. After an error nothing may be assumed durable, and the call must not be repeated:
    /// the kernel drops the failed pages, and a second call may succeed without them.
    pub fn sync_data(&self) -> io::Result<()> {
        Faults::check_change(&self.open.faults)?;
        Faults::check_sync(&self.open.faults)?;
        self.open.unsynced.write_back(&self.open.file)?;
        if self.open.faults.is_none() {
            return self.open.file.sync_data();
        }
        let bytes = self.size()?.get();
        self.open.file.sync_data()?;
        Faults::note_synced(&self.open.faults, &self.open.path, bytes);
        Ok(())
    }

    /// Tells the kernel that a range need not stay in the page cache. Dirty pages stay.
    pub fn advise_unneeded(&self, position: u64, count: u64) {
        // Advice only, as above.
        let _ = rustix::fs::fadvise(
            &self.open.file,
            position,
            std::num::NonZeroU64::new(count),
            Advice::DontNeed,
        );
    }

    /// Has the next reads come from the device, as far as that can be had: pages that are clean are dropped. Those whose sync failed
    /// are clean and were never written, so that without this they are read as if they were safe. Dirty pages stay.
    pub fn forget_clean_pages(&self) {
        // Advice only, as above; a count of 0 is the whole file.
        let _ = rustix::fs::fadvise(&self.open.file, 0, None, Advice::DontNeed);
    }

    /// All bytes, from the start.
    pub fn read_all(&self) -> io::Result<Vec<u8>> {
        let _look = self.sound.as_ref().map(|sound| self.begin_read(sound, 0, u64::MAX, IsCached::No));
        let mut out = Vec::new();
        let mut file = &self.open.file;
        io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
        file.read_to_end(&mut out)?;
        Ok(out)
    }
}

/// Lets this process have as many descriptors open as it may allow itself: the soft limit is for programs that use select(2).
pub fn raise_open_files_max() -> io::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    Ok(rustix::process::setrlimit(rustix::process::Resource::Nofile, raised)?)
}

/// How many descriptors this process may have open at once.
pub fn open_files_max() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // Without a limit of its own, what Linux allows at most by default.
    limit.current.unwrap_or(1 << 20)
}

pub(super) fn parent(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path has no parent folder"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_land_in_order_and_reads_stop_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::host();
        let file = disk.create_new(&dir.path().join("log")).unwrap();
        let parts: Vec<Vec<u8>> = (0..3000u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_all_at(8, &mut slices).unwrap();
        assert_eq!(file.size().unwrap(), ByteCount(8 + 12_000));
        assert_eq!(file.read_at(8, 12_000).unwrap(), parts.concat());
        assert_eq!(file.read_at(12_004, 100).unwrap(), parts[2999]);
        assert_eq!(file.read_at(99_999, 10).unwrap(), b"");
        assert!(file.read_exact_at(12_004, &mut [0; 5]).is_err());
        assert!(disk.create_new(file.path()).is_err());
    }

    #[test]
    fn what_was_just_written_is_cached_where_that_can_be_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = Disk::host().create_new(&dir.path().join("log")).unwrap();
        let written = [7; 12_000];
        file.write_all_at(0, &mut [IoSlice::new(&written)]).unwrap();
        let read_cached =
            |at, count| Ok::<_, io::Error>(file.read_cached_and_look(at, count)?.map(|(bytes, _)| bytes));
        match read_cached(0, written.len()) {
            Ok(cached) => {
                assert_eq!(cached.as_deref(), Some(&written[..]));
                assert_eq!(read_cached(0, 0).unwrap().as_deref(), Some(&[][..]));
                assert_eq!(read_cached(11_999, 2).unwrap(), None, "the file ends before");
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        }
    }

    /// The kernel begins to bring back what is missing also for a read that does not wait.
    #[test]
    fn a_read_that_does_not_wait_brings_nothing_back_that_counts_as_known() {
        let dir = tempfile::tempdir().unwrap();
        let file = Disk::host().create_new(&dir.path().join("log")).unwrap().with_sound(&Arc::default());
        let sound = file.sound().unwrap();
        let size = 4 << 20;
        file.write_all_at(0, &mut [IoSlice::new(&vec![7; size])]).unwrap();
        sound.add_written(0..size as u64);
        file.sync_data().unwrap();
        if !tells_cached(&file) {
            println!("this machine cannot tell what is in the page cache: nothing is ever lent on it");
            return;
        }
        let half = size as u64 / 2;
        let known_and_cached = |at| sound.covers(at, 4096) && file.is_cached(at, 4096).unwrap();
        let reads: [(&str, &dyn Fn() -> bool); 4] = [
            ("of what is known", &|| file.read_cached_and_look(0, 4096).unwrap().is_none()),
            ("of what is not", &|| file.read_cached_and_look(half, 4096).unwrap().is_none()),
            ("of what was in the page cache a moment before", &|| {
                !file.read_exact_known_at(9, &mut [0; 61]).unwrap()
            }),
            ("that waits", &|| file.read_at(half - 9, 1).is_ok()),
        ];
        for (read, done) in reads {
            sound.add_written(0..half);
            sound.forget_from(half);
            file.forget_clean_pages();
            assert!(done(), "a read {read}");
            // For as long as the device may take.
            for page in (0..200).flat_map(|_| (0..size as u64).step_by(4096)) {
                assert!(!known_and_cached(page), "page {page} after a read {read}");
            }
        }
    }

    /// Not all file systems can.
    fn tells_cached(file: &File) -> bool {
        file.read_up_to_cached(0, 1).is_ok() && file.is_cached(0, 1).is_ok_and(|is_cached| is_cached)
    }

    #[test]
    fn an_atomic_write_replaces_and_a_lock_excludes() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::host();
        let deep = dir.path().join("a/b/c");
        disk.create_dir_all(&deep).unwrap();
        let path = deep.join("note");
        for bytes in [&b"first"[..], b"2"] {
            disk.write_atomic(&path, bytes).unwrap();
            assert_eq!(disk.read(&path).unwrap(), bytes);
        }
        let names: Vec<String> = disk.list(&deep).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["note"]);
        let held = disk.lock(&deep.join("lock")).unwrap();
        assert!(held.is_some());
        assert!(disk.lock(&deep.join("lock")).unwrap().is_none());
        drop(held);
        assert!(disk.lock(&deep.join("lock")).unwrap().is_some());
        assert_eq!(disk.read_if_exists(&deep.join("none")).unwrap(), None);
        assert!(disk.space(&deep).unwrap().total > ByteCount::ZERO);
        assert_eq!(disk.mount_id(&deep).unwrap(), disk.mount_id(dir.path()).unwrap());
    }
}
