//! The calls, as the host's disk has them.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquifer_model::ByteCount;
use rand::RngExt as _;

use super::content::Content;
use super::names::{Node, is_root};
use super::{BOOT_ID, Fate, Inode, Moment, SimDisk, State, broken, off};
use crate::files::host::{Entry, Space, parent};
use crate::files::sound::{GRAIN, Look, READ_AHEAD_MAX, Sound};

/// An open file. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SimFile {
    disk: SimDisk,
    inode: Inode,
    life: u64,
    path: PathBuf,
    sound: Option<Arc<Sound>>,
}

/// Holds a lock on a file until dropped.
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.0.lock();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no {}", path.display()))
}

fn wrong(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} {why}", path.display()))
}

fn or_none<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl State {
    fn file(&self, path: &Path) -> io::Result<Inode> {
        self.look()?;
        match self.names.get(path) {
            Some(Node::File(inode)) => Ok(inode),
            Some(Node::Folder) => Err(wrong(path, "is a folder")),
            None => Err(missing(path)),
        }
    }

    fn is_dir(&self, path: &Path) -> bool {
        is_root(path) || self.names.get(path) == Some(Node::Folder)
    }

    fn needs_folder(&self, path: &Path) -> io::Result<()> {
        let above = parent(path)?;
        if self.is_dir(above) { Ok(()) } else { Err(missing(above)) }
    }

    fn content(&mut self, inode: Inode) -> io::Result<&mut Content> {
        // It outlives its name while it is open, but not the machine.
        self.contents.get_mut(&inode).ok_or_else(broken)
    }

    /// Does a change of names as far as its fate lets it: a name is there or it is not.
    fn change_names(&mut self, change: impl FnOnce(&mut State)) -> io::Result<()> {
        let fate = self.begin()?;
        if !matches!(fate, Fate::Last(Moment::Before | Moment::Within)) {
            change(self);
        }
        fate.told()
    }
}

impl SimDisk {
    pub(in crate::files) fn open(&self, path: &Path) -> io::Result<SimFile> {
        let state = self.0.lock();
        let inode = state.file(path)?;
        Ok(SimFile { disk: self.clone(), inode, life: state.life, path: path.to_owned(), sound: None })
    }

    pub(in crate::files) fn open_or_create(&self, path: &Path) -> io::Result<SimFile> {
        match or_none(self.open(path))? {
            Some(file) => Ok(file),
            None => self.create_new(path),
        }
    }

    pub(in crate::files) fn create_new(&self, path: &Path) -> io::Result<SimFile> {
        {
            let mut state = self.0.lock();
            state.look()?;
            if state.names.get(path).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.needs_folder(path)?;
            state.change_names(|state| state.make_file(path))?;
        }
        self.open(path)
    }

    pub(in crate::files) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new(BOOT_ID) {
            return Ok(self.0.lock().boot_id());
        }
        self.open(path)?.read_all()
    }

    pub(in crate::files) fn read_if_exists(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        or_none(self.read(path))
    }

    pub(in crate::files) fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, bytes)?;
        self.sync_dir(parent(path)?)
    }

    pub(in crate::files) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.as_os_str().to_owned();
        name.push(".tmp");
        let temporary = PathBuf::from(name);
        let file = self.open_or_create(&temporary)?;
        file.set_size(ByteCount::ZERO)?;
        file.write_all_at(0, &mut [IoSlice::new(bytes)])?;
        file.sync_data()?;
        self.rename(&temporary, path)
    }

    pub(in crate::files) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.look()?;
        if state.names.get(from).is_none() {
            return Err(missing(from));
        }
        state.needs_folder(to)?;
        state.change_names(|state| state.names.rename(from, to))
    }

    pub(in crate::files) fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.look()?;
        match state.names.get(path) {
            None => Ok(()),
            Some(Node::Folder) => Err(wrong(path, "is a folder")),
            Some(Node::File(_)) => state.change_names(|state| state.names.remove(path)),
        }
    }

    pub(in crate::files) fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.look()?;
        match state.names.get(path) {
            None => return Ok(()),
            Some(Node::File(_)) => return Err(wrong(path, "is no folder")),
            Some(Node::Folder) => {}
        }
        // One by one, from the leaves: it may be cut short anywhere.
        loop {
            let mut last = path.to_owned();
            while let Some((child, _)) = state.names.children(&last).pop() {
                last = child;
            }
            state.change_names(|state| state.names.remove(&last))?;
            if last == path {
                return Ok(());
            }
        }
    }

    pub(in crate::files) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || self.is_dir(path) {
            return Ok(());
        }
        let above = parent(path)?;
        self.create_dir_all(above)?;
        {
            let mut state = self.0.lock();
            state.look()?;
            if state.names.get(path).is_some() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            state.change_names(|state| state.names.put(path, Node::Folder))?;
        }
        self.sync_dir(above)
    }

    pub(in crate::files) fn is_dir(&self, path: &Path) -> bool {
        self.0.lock().is_dir(path)
    }

    pub(in crate::files) fn exists(&self, path: &Path) -> io::Result<bool> {
        let state = self.0.lock();
        state.look()?;
        Ok(is_root(path) || state.names.get(path).is_some())
    }

    pub(in crate::files) fn size_of(&self, path: &Path) -> io::Result<Option<ByteCount>> {
        or_none(self.open(path))?.map(|file| file.size()).transpose()
    }

    pub(in crate::files) fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.0.lock();
        state.look()?;
        if !state.is_dir(path) {
            return Err(missing(path));
        }
        let entry = |(path, node): (PathBuf, Node)| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some(Entry { name, is_dir: node == Node::Folder })
        };
        Ok(state.names.children(path).into_iter().filter_map(entry).collect())
    }

    pub(in crate::files) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        state.look()?;
        if !state.is_dir(path) {
            return Err(missing(path));
        }
        state.counts.syncs += 1;
        if std::mem::take(&mut state.faults.sync) {
            state.counts.failures += 1;
            return Err(broken());
        }
        state.change_names(|state| state.names.sync(path))
    }

    pub(in crate::files) fn lock(&self, path: &Path) -> io::Result<Option<SimLock>> {
        let file = self.open_or_create(path)?;
        let free = self.0.lock().locks.insert(path.to_owned());
        Ok(free.then(|| SimLock { disk: self.clone(), path: path.to_owned(), life: file.life }))
    }

    pub(in crate::files) fn space(&self) -> io::Result<Space> {
        let state = self.0.lock();
        state.look()?;
        Ok(Space { total: ByteCount(state.capacity), available: ByteCount(state.room()) })
    }
}

impl SimFile {
    pub(in crate::files) fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self, state: &State) -> io::Result<()> {
        if state.life == self.life { Ok(()) } else { Err(off()) }
    }

    /// Looks at the bytes.
    fn look<T>(&self, look: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.0.lock();
        state.look()?;
        self.check(&state)?;
        look(state.content(self.inode)?.seen())
    }

    pub(in crate::files) fn size(&self) -> io::Result<ByteCount> {
        self.look(|bytes| Ok(ByteCount(bytes.len() as u64)))
    }

    pub(in crate::files) fn with_sound(self, sound: &Arc<Sound>) -> SimFile {
        SimFile { sound: Some(sound.clone()), ..self }
    }

    pub(in crate::files) fn sound(&self) -> Option<&Sound> {
        self.sound.as_deref()
    }

    pub(in crate::files) fn read_and_look(&self, position: u64, count: usize) -> io::Result<(Vec<u8>, Look)> {
        let look = self.begin_read(position, count as u64);
        Ok((self.read_up_to(position, count)?, look))
    }

    /// What a read brings back is left to chance as well.
    fn begin_read(&self, position: u64, count: u64) -> Look {
        let Some(sound) = &self.sound else { return Look::unknown() };
        let end = position.saturating_add(count);
        let from = if self.is_cached() { end } else { position / GRAIN * GRAIN };
        let to = if self.is_cached() { end } else { end.saturating_add(READ_AHEAD_MAX) };
        sound.begin(position..end, from..to)
    }

    fn read_up_to(&self, position: u64, count: usize) -> io::Result<Vec<u8>> {
        self.look(|bytes| {
            let from = place(position).min(bytes.len());
            Ok(bytes[from..from.saturating_add(count).min(bytes.len())].to_vec())
        })
    }

    /// What is cached is left to chance.
    pub(in crate::files) fn is_cached(&self) -> bool {
        self.disk.0.lock().rng.random_ratio(3, 4)
    }

    pub(in crate::files) fn read_cached_and_look(
        &self,
        position: u64,
        count: usize,
    ) -> io::Result<Option<(Vec<u8>, Look)>> {
        if !self.is_cached() {
            return Ok(None);
        }
        let known = self.sound.as_ref().filter(|sound| sound.covers(position, count as u64));
        let look = known.map_or_else(|| self.begin_read(position, count as u64), Sound::known);
        let bytes = self.read_up_to(position, count)?;
        Ok(Some((bytes, look)).filter(|(bytes, _)| bytes.len() == count))
    }

    pub(in crate::files) fn read_exact_at(&self, position: u64, out: &mut [u8]) -> io::Result<()> {
        let _look = self.begin_read(position, out.len() as u64);
        self.look(|bytes| {
            let from = place(position);
            let found = bytes.get(from..from.saturating_add(out.len()));
            out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    pub(in crate::files) fn read_all(&self) -> io::Result<Vec<u8>> {
        let _look = self.begin_read(0, u64::MAX);
        self.look(|bytes| Ok(bytes.to_vec()))
    }

    pub(in crate::files) fn forget_clean_pages(&self) {
        let mut state = self.disk.0.lock();
        if state.look().and_then(|()| self.check(&state)).is_ok()
            && let Ok(content) = state.content(self.inode)
        {
            content.forget_clean();
        }
    }

    pub(in crate::files) fn write_all_at(&self, position: u64, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        self.check(&state)?;
        let fate = state.begin()?;
        let bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        let room = state.room();
        let size = state.content(self.inode)?.size();
        let over = (position + bytes as u64).saturating_sub(size).saturating_sub(room);
        let (done, outcome) = match fate {
            Fate::Last(Moment::Before) => (0, fate.told()),
            Fate::Last(Moment::Within) => (bytes / 2, fate.told()),
            Fate::Last(Moment::After) => (bytes, fate.told()),
            Fate::Whole if std::mem::take(&mut state.faults.write) => (bytes / 2, Err(broken())),
            Fate::Whole if over > 0 => {
                (bytes.saturating_sub(place(over)), Err(io::ErrorKind::StorageFull.into()))
            }
            Fate::Whole => (bytes, Ok(())),
        };
        if fate == Fate::Whole && outcome.is_err() {
            state.counts.failures += 1;
        }
        let content = state.content(self.inode)?;
        if done == bytes {
            content.write(place(position), slices);
        } else if done > 0 {
            let whole: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            content.write(place(position), &[IoSlice::new(&whole[..done])]);
        }
        outcome
    }

    pub(in crate::files) fn set_size(&self, size: ByteCount) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        self.check(&state)?;
        let fate = state.begin()?;
        if let Some(sound) = &self.sound {
            sound.forget_from(size.get());
        }
        let room = state.room();
        let content = state.content(self.inode)?;
        if fate == Fate::Whole && size.get().saturating_sub(content.size()) > room {
            state.counts.failures += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if !matches!(fate, Fate::Last(Moment::Before | Moment::Within)) {
            content.resize(place(size.get()));
        }
        fate.told()
    }

    pub(in crate::files) fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock();
        self.check(&state)?;
        let fate = state.begin()?;
        state.counts.syncs += 1;
        let fails = fate == Fate::Whole && std::mem::take(&mut state.faults.sync);
        state.counts.failures += u64::from(fails);
        let State { contents, rng, .. } = &mut *state;
        let content = contents.get_mut(&self.inode).ok_or_else(broken)?;
        match fate {
            Fate::Last(Moment::Before) => {}
            Fate::Last(Moment::Within) => content.sync_some(rng),
            Fate::Whole if fails => {
                content.drop_dirty();
                return Err(broken());
            }
            Fate::Whole | Fate::Last(Moment::After) => content.sync(),
        }
        fate.told()
    }
}

fn place(position: u64) -> usize {
    usize::try_from(position).expect("simulated files fit in memory")
}
