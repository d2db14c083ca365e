//! [`LogDir`]: one data directory and the logs in it.
//!
//! Held by one process at a time. A folder under `topics` is a partition by its name; a folder that nobody asked for (a *stray*)
//! is listed and left alone until somebody says what to do with it.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aquifer_model::format::FormatError;
use aquifer_model::{ByteCount, Offset, TopicName, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::files::{Lock, Space};
use aquifer_runtime::metrics::Registry;
use aquifer_runtime::tasks::TaskGroup;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use uuid::Uuid;

use super::checkpoint::{DirectoryFile, PartitionFile, decode_boot, encode_boot};
use super::config::{LogConfig, LogDirOptions};
use super::damage::PageCache;
use super::error::{ChangeError, DirFailure, OpenDirError, OpenLogError};
use super::handle::Log;
use super::health::Health;
use super::journal::{Journal, Replayed, remove, replay};
use super::layout;
use super::metrics::Metrics;
use super::recovery;
use super::report::RecoveryFinding;
use super::shared::{Before, Past, Shared};

/// Logs are opened under one of so many locks, so that none is opened twice at once and different ones seldom wait.
const OPENING_LOCKS: usize = 64;

/// One data directory.
#[derive(Debug)]
pub struct LogDir {
    shared: Arc<Shared>,
    uuid: Uuid,
    /// This run of the machine, until it is noted.
    boot: Mutex<Option<String>>,
    /// The last process saw it fail, and not all logs are opened yet.
    failed_before: AtomicBool,
    /// Logs that were to be opened and could not be.
    unopened: Mutex<HashSet<TopicPartition>>,
    /// Logs in whose folder there was no segment when they were first to be opened, until they are.
    blank: Mutex<HashSet<TopicPartition>>,
    tasks: TaskGroup,
    /// The one that watches over threads.
    runtime: tokio::runtime::Handle,
    logs: RwLock<HashMap<TopicPartition, Arc<Log>>>,
    opening: Vec<Mutex<()>>,
    /// Held while folders are made, so that none is used before its name, and those above it, are durable.
    making: Mutex<()>,
    closed: AtomicBool,
    _lock: Lock,
}

/// A log that lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whose.
    pub partition: TopicPartition,
    /// Its topic's name.
    pub topic: TopicName,
}

/// A log that is to be opened, or made.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose.
    pub partition: TopicPartition,
    /// Its topic's name.
    pub topic: TopicName,
    /// Its settings.
    pub config: LogConfig,
}

impl LogDir {
    /// Opens a data directory, making it if there is none, and starts its threads in `tasks`. Blocks; needs a tokio runtime
    /// entered. No log is opened yet.
    pub fn open(
        world: &World,
        path: &Path,
        options: LogDirOptions,
        tasks: &TaskGroup,
        registry: &mut Registry,
    ) -> Result<Arc<LogDir>, OpenDirError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| OpenDirError::Io { path, error }
        };
        let disk = &world.disk;
        disk.create_dir_all(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotADirectory => OpenDirError::NotADirectory(path.to_owned()),
            _ => OpenDirError::Io { path: path.to_owned(), error },
        })?;
        let lock_path = path.join(layout::LOCK);
        let lock = disk.lock(&lock_path).map_err(at(&lock_path))?;
        let lock = lock.ok_or_else(|| OpenDirError::Locked(path.to_owned()))?;
        let (format, is_new) = read_format(world, path)?;
        for folder in [layout::TOPICS, layout::QUARANTINE] {
            disk.create_dir_all(&path.join(folder)).map_err(at(path))?;
        }
        let clean = path.join(layout::CLEAN);
        let before = match disk.exists(&clean).map_err(at(&clean))? {
            _ if is_new => Before::New,
            true => Before::Closed,
            false => Before::Killed,
        };
        // From here on a stop without a word is an unclean one.
        disk.remove(&clean).map_err(at(&clean))?;
        disk.sync_dir(path).map_err(at(path))?;
        let (mut pages, boot) = read_boot(world, path).map_err(at(path))?;
        let failed_before = disk.exists(&path.join(layout::FAILED)).map_err(at(path))?;
        if failed_before {
            // The same run of the machine, perhaps, but pages that were not written may have been called clean.
            pages = PageCache::PerhapsLost;
        }
        let metrics = Metrics::register(registry);
        let health = Arc::new(Health::new(&world.disk, path, metrics.failed.clone()));
        let needed = before != Before::Closed;
        let Replayed { journal, is_damaged, bytes } =
            replay(world, path, needed, format.is_journaled, pages, &options, &health)?;
        metrics.journal_replayed_bytes.inc_by(bytes);
        note_journal(world, path, format, journal.is_some()).map_err(at(path))?;
        if journal.is_none() && disk.exists(&path.join(layout::JOURNAL)).map_err(at(path))? {
            // Of another size, or not wanted any more.
            remove(disk, path).map_err(at(path))?;
        }
        let past = Past { before, pages, journal_is_damaged: is_damaged };
        let shared = Arc::new(Shared::new(world, path, options, metrics, past, health, journal));
        let dir = Arc::new(LogDir {
            shared,
            uuid: format.uuid,
            boot: Mutex::new(boot),
            failed_before: AtomicBool::new(failed_before),
            unopened: Mutex::default(),
            blank: Mutex::default(),
            tasks: tasks.clone(),
            runtime: tokio::runtime::Handle::current(),
            logs: RwLock::new(HashMap::new()),
            opening: (0..OPENING_LOCKS).map(|_| Mutex::new(())).collect(),
            making: Mutex::new(()),
            closed: AtomicBool::new(false),
            _lock: lock,
        });
        dir.tidy().map_err(at(path))?;
        if dir.space().map_err(at(path))?.available < dir.shared.options.reserve_bytes {
            dir.shared.reserve.give_back();
        } else {
            let held = dir.shared.clone();
            dir.shared.keeper.submit(Box::new(move || held.reserve.take()));
        }
        dir.start().map_err(at(path))?;
        Ok(dir)
    }

    fn start(&self) -> io::Result<()> {
        for _ in 0..self.shared.options.sync_threads.max(1) {
            let shared = self.shared.clone();
            self.tasks.spawn_thread("log-committer", async move { shared.committer.run().await })?;
        }
        let (shared, uuid) = (self.shared.clone(), self.uuid);
        self.tasks.spawn_thread("log-journal", async move {
            shared.committer.run_journal(|is_stopping| make_journal(&shared, uuid, is_stopping)).await;
        })?;
        let shared = self.shared.clone();
        self.tasks.spawn_thread("log-keeper", async move { shared.keeper.run().await })?;
        let (shared, cancelled) = (self.shared.clone(), self.tasks.cancelled().clone());
        self.tasks.spawn("log-dir-stop", async move {
            cancelled.cancelled().await;
            shared.committer.stop();
            shared.keeper.stop();
        });
        Ok(())
    }

    /// Hands folders that were deleted but not removed to the keeper, and removes folders of topics without partitions.
    fn tidy(&self) -> io::Result<()> {
        let disk = &self.shared.world.disk;
        let topics = self.shared.path.join(layout::TOPICS);
        for topic in disk.list(&topics)?.into_iter().filter(|entry| entry.is_dir) {
            let folder = topics.join(topic.name);
            let entries = disk.list(&folder)?;
            if entries.is_empty() {
                disk.remove_dir_all(&folder)?;
            }
            let deleted = entries.into_iter().filter(|entry| entry.name.ends_with(layout::DELETED));
            let paths: Vec<PathBuf> = deleted.map(|entry| folder.join(entry.name)).collect();
            self.shared.keeper.remove_later(paths, std::time::Duration::ZERO);
        }
        Ok(())
    }

    /// The directory's identity, given to it when it was made. A directory that was wiped has another.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Whether the last process to have it closed every log; true for one just made.
    pub fn was_clean(&self) -> bool {
        self.shared.past.before != Before::Killed
    }

    /// Tells when the directory has failed: then its partitions are to be given up. Stays so until a new start.
    pub fn failure(&self) -> watch::Receiver<Option<DirFailure>> {
        self.shared.health.subscribe()
    }

    /// Waits until damage is found in a log that was not known before. For one waiter.
    pub async fn damaged(&self) {
        self.shared.damaged.notified().await;
    }

    /// From now on idle idempotent producers are remembered for this long.
    pub fn set_producer_id_expiration(&self, age: std::time::Duration) {
        self.shared.set_producer_id_expiration(age);
    }

    /// How full its file system is.
    pub fn space(&self) -> io::Result<Space> {
        self.shared.world.disk.space(&self.shared.path)
    }

    #[cfg(test)]
    pub(super) fn pages(&self) -> PageCache {
        self.shared.past.pages
    }

    /// How many segment files are open.
    pub fn open_files(&self) -> usize {
        self.shared.files.open_count()
    }

    /// The logs on disk, open or not.
    pub fn found(&self) -> io::Result<Vec<Found>> {
        let disk = &self.shared.world.disk;
        let topics = self.shared.path.join(layout::TOPICS);
        let mut found = Vec::new();
        for entry in disk.list(&topics)?.into_iter().filter(|entry| entry.is_dir) {
            let Ok(topic) = TopicName::new(&entry.name) else { continue };
            let partitions = disk.list(&topics.join(&entry.name))?;
            let partitions = partitions.iter().filter(|entry| entry.is_dir);
            let partitions = partitions.filter_map(|entry| layout::parse_partition(&entry.name));
            found.extend(partitions.map(|partition| Found { partition, topic: topic.clone() }));
        }
        Ok(found)
    }

    /// A log that is open.
    pub fn get(&self, partition: TopicPartition) -> Option<Arc<Log>> {
        self.logs.read().get(&partition).cloned()
    }

    /// The logs that are open.
    pub fn open_logs(&self) -> Vec<Arc<Log>> {
        self.logs.read().values().cloned().collect()
    }

    /// Opens a log, making it if there is none; one that is open already is given as it is. Blocks.
    pub fn open_or_create(&self, wanted: Wanted) -> Result<Arc<Log>, OpenLogError> {
        let Wanted { partition, topic, config } = wanted;
        let _alone = self.opening_lock(partition).lock();
        if let Some(log) = self.get(partition) {
            return Ok(log);
        }
        if self.closed.load(Ordering::Acquire) || self.shared.health.has_failed() {
            return Err(OpenLogError::Failed);
        }
        let folder = self.topic_folder(&topic).join(partition.to_string());
        if self.shared.committer.has_in_journal(partition) && !self.shared.committer.empty_journal() {
            // It has something of a log of this name that was deleted.
            return Err(OpenLogError::Failed);
        }
        let gap_mark = self.claim(&folder, partition, &topic)?;
        if self.is_blank(&folder)? {
            self.blank.lock().insert(partition);
        }
        let mut recovered = recovery::recover(&self.shared, &folder, partition, &config, gap_mark)?;
        recovered.report.is_blank = self.blank.lock().contains(&partition)
            || (recovered.tail.end == Offset::ZERO && !self.is_known(&folder)?);
        let much = recovered.report.reread.get() > self.shared.options.checkpoint_bytes.get() / 4;
        let lost = !recovered.report.findings.is_empty();
        let log = Log::new(self.shared.clone(), partition, topic, folder, config, recovered);
        if lost {
            self.save_after_recovery(&log)?;
        } else if much {
            log.save_later();
        }
        if gap_mark.is_none() {
            saved_or_full(log.note_gap_mark())?;
        }
        self.blank.lock().remove(&partition);
        self.logs.write().insert(partition, log.clone());
        self.shared.metrics.open_logs.inc();
        Ok(log)
    }

    /// Whether there is no segment in a log's folder. An attempt to open it makes one, so this is remembered until one succeeds.
    fn is_blank(&self, folder: &Path) -> Result<bool, OpenLogError> {
        let entries = self.shared.world.disk.list(folder);
        let entries = entries.map_err(|error| OpenLogError::Io { path: folder.to_owned(), error })?;
        Ok(!entries.iter().any(|entry| layout::parse_segment_file(&entry.name, layout::LOG).is_some()))
    }

    /// Whether a log that is empty is known to have been so when it was last in use.
    fn is_known(&self, folder: &Path) -> Result<bool, OpenLogError> {
        let path = folder.join(layout::CHECKPOINT);
        let has_checkpoint = self.shared.world.disk.exists(&path);
        Ok(self.was_clean() || has_checkpoint.map_err(|error| OpenLogError::Io { path, error })?)
    }

    /// So that the next start need not do it all again.
    fn save_after_recovery(&self, log: &Arc<Log>) -> Result<(), OpenLogError> {
        let corrupt =
            log.recovery().findings.iter().any(|finding| matches!(finding, RecoveryFinding::Corrupt(_)));
        if corrupt {
            // The old checkpoint is the witness of what should be there.
            return Ok(());
        }
        saved_or_full(log.save(&mut log.books.lock(), None))
    }

    /// Opens many logs on several threads; at a start, all that are to be opened. On return they are durable up to their ends, so
    /// that what was acknowledged before can be told at once. Blocks.
    pub fn open_many(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
    ) -> Vec<(TopicPartition, Result<Arc<Log>, OpenLogError>)> {
        let dir = self.clone();
        let opened =
            self.for_each("log-recovery", self.shared.options.recovery_threads, wanted, move |wanted| {
                (wanted.partition, dir.open_or_create(wanted))
            });
        // The committer has been at it since the first was open; this lends it a hand, and waits.
        let logs = opened.iter().filter_map(|(_, log)| log.as_ref().ok());
        let unsynced: Vec<Arc<Log>> = logs.filter(|log| log.synced_end() < log.end()).cloned().collect();
        self.for_each("log-settling", self.shared.options.sync_threads, unsynced, |log| log.settle());
        let is_whole = {
            let mut unopened = self.unopened.lock();
            for (partition, log) in &opened {
                match log {
                    Ok(_) => unopened.remove(partition),
                    Err(_) => unopened.insert(*partition),
                };
            }
            unopened.is_empty()
        };
        if is_whole {
            self.note_boot();
            self.forget_failure();
            self.forget_damage_of_journal();
        }
        opened
    }

    /// From now on a log that is opened in this run of the machine has lost no pages. For a stray that was not opened yet that may
    /// be wrong, on the safe side: what a power cut has left of it counts as damage.
    fn note_boot(&self) {
        if self.shared.health.has_failed() {
            return;
        }
        let mut boot = self.boot.lock();
        let Some(id) = &*boot else { return };
        let path = self.shared.path.join(layout::BOOT);
        match self.shared.world.disk.write_atomic(&path, &encode_boot(id)) {
            Ok(()) => *boot = None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "could not note the run of the machine")
            }
        }
    }

    /// Every log was read from the device: what a failure left is dealt with. A crash may bring the note back, on the safe side.
    fn forget_failure(&self) {
        if self.failed_before.swap(false, Ordering::AcqRel) {
            self.shared.health.forget_note();
        }
    }

    /// Every log that lacks something for want of a part of the journal is noted by itself.
    fn forget_damage_of_journal(&self) {
        let path = self.shared.path.join(layout::LOST);
        if self.shared.past.journal_is_damaged
            && let Err(error) = self.shared.world.disk.remove(&path)
        {
            tracing::warn!(path = %path.display(), %error, "could not remove the note of a damaged journal");
        }
    }

    /// Does something with each item, on several threads, this one among them; gives what came of it, in any order.
    fn for_each<T: Send + 'static, U: Send + 'static>(
        &self,
        name: &'static str,
        threads: usize,
        items: Vec<T>,
        work: impl Fn(T) -> U + Send + Sync + 'static,
    ) -> Vec<U> {
        let _entered = self.runtime.enter();
        let count = items.len();
        let others = threads.min(count).saturating_sub(1);
        let queue = Arc::new(Mutex::new(items));
        let work = Arc::new(work);
        let (finished, results) = std::sync::mpsc::channel();
        for _ in 0..others {
            let (queue, work, finished) = (queue.clone(), work.clone(), finished.clone());
            let body = async move { drain(&queue, &*work, &finished) };
            if let Err(error) = self.tasks.spawn_thread(name, body) {
                tracing::warn!(%error, name, "could not start a thread; going on with fewer");
            }
        }
        drain(&queue, &*work, &finished);
        drop(finished);
        // Ends early if a thread has panicked and the others have dropped their ends.
        results.iter().take(count).collect()
    }

    fn opening_lock(&self, partition: TopicPartition) -> &Mutex<()> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(partition);
        &self.opening[hash as usize % OPENING_LOCKS]
    }

    fn topic_folder(&self, topic: &TopicName) -> PathBuf {
        self.shared.path.join(layout::TOPICS).join(topic.as_str())
    }

    /// Makes the folder if there is none, and checks that it is whose its name says. Gives below which offset gaps may lie in it, if
    /// that is known here.
    fn claim(
        &self,
        folder: &Path,
        partition: TopicPartition,
        topic: &TopicName,
    ) -> Result<Option<Offset>, OpenLogError> {
        let disk = &self.shared.world.disk;
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| OpenLogError::Io { path, error }
        };
        {
            let _alone = self.making.lock();
            disk.create_dir_all(folder).map_err(at(folder))?;
        }
        let path = folder.join(layout::PARTITION);
        let stored = disk.read_if_exists(&path).map_err(at(&path))?;
        if stored.as_ref().is_some_and(Vec::is_empty) {
            tracing::warn!(path = %path.display(), "writing an empty partition file anew");
        }
        match stored.as_deref().filter(|bytes| !bytes.is_empty()).map(PartitionFile::decode) {
            Some(Ok(found)) if found.partition == partition => return Ok(found.gaps_below),
            Some(Ok(PartitionFile { partition: found, .. })) => {
                return Err(OpenLogError::Mismatch { path: folder.to_owned(), expected: partition, found });
            }
            // A newer program's file must not be taken for damage and written anew.
            Some(Err(error @ (FormatError::Version { .. } | FormatError::RequiredField { .. }))) => {
                return Err(OpenLogError::Format { path, error });
            }
            // The folder's name says the same.
            Some(Err(error)) => {
                tracing::warn!(path = %path.display(), %error, "writing a damaged partition file anew")
            }
            None => {}
        }
        // Of a log that has lost it nothing is known, but where there is nothing yet there are no gaps.
        let is_new = stored.is_none() && disk.list(folder).map_err(at(folder))?.is_empty();
        let gaps_below = is_new.then_some(Offset::ZERO);
        let file = PartitionFile { partition, topic: topic.clone(), gaps_below };
        // Durable some time: what a crash leaves of it is written anew.
        let write = || {
            let stored = disk.open_or_create(&path)?;
            stored.set_size(ByteCount::ZERO)?;
            stored.write_all_at(0, &mut [IoSlice::new(&file.encode())])
        };
        write().map_err(at(&path))?;
        Ok(gaps_below)
    }

    /// Deletes a log, open or not; one that is not there is no error. It is gone at once, its bytes after a while. Blocks.
    pub fn delete(&self, partition: TopicPartition) -> Result<(), OpenLogError> {
        let _alone = self.opening_lock(partition).lock();
        let disk = &self.shared.world.disk;
        let topics = self.shared.path.join(layout::TOPICS);
        let open = self.logs.write().remove(&partition);
        self.unopened.lock().remove(&partition);
        self.blank.lock().remove(&partition);
        let delay = match &open {
            Some(log) => {
                log.abandon();
                self.shared.metrics.open_logs.dec();
                log.config().file_delete_delay_ms
            }
            None => LogConfig::default().file_delete_delay_ms,
        };
        let at = |error| OpenLogError::Io { path: topics.clone(), error };
        // The name of one that is not open has to be looked for among all.
        let topic = match open {
            Some(log) => Some(log.topic().clone()),
            None => self
                .found()
                .map_err(at)?
                .into_iter()
                .find(|found| found.partition == partition)
                .map(|found| found.topic),
        };
        let Some(topic) = topic else { return Ok(()) };
        let folder = self.topic_folder(&topic);
        let path = folder.join(partition.to_string());
        // Made again and deleted again under the same name within the delay: the uuid keeps the two apart.
        let number = self.shared.world.rng.number();
        let deleted = layout::deleted(&path, number);
        disk.rename(&path, &deleted).map_err(at)?;
        disk.sync_dir(&folder).map_err(at)?;
        self.shared.keeper.remove_later([deleted], delay);
        Ok(())
    }

    /// Closes every log: all appended is synced, and a restart has nothing to read again. Blocks. Appends and reads are refused
    /// from then on.
    pub fn close(&self) -> Result<(), ChangeError> {
        self.closed.store(true, Ordering::Release);
        let threads = self.shared.options.sync_threads;
        // One that cannot be closed keeps no other from it.
        let outcomes = self.for_each("log-closing", threads, self.open_logs(), |log| log.close());
        outcomes.into_iter().collect::<Result<(), ChangeError>>()?;
        // What a power cut has left of one that could not be opened is still to be seen.
        if self.unopened.lock().is_empty() {
            self.note_boot();
        }
        if !self.is_accounted_for() {
            return Ok(());
        }
        let path = self.shared.path.join(layout::CLEAN);
        let written = self
            .shared
            .world
            .disk
            .write_atomic(&path, &DirectoryFile { uuid: self.uuid, is_journaled: false }.encode());
        written.map_err(|error| {
            self.shared.health.fail(&path, "write of", &error);
            ChangeError::Failed
        })
    }

    /// Whether every log on disk was closed in order, by this process or, if this one has not opened it, by the one before; and none is
    /// blank of which nobody has learned yet whether it ever held anything.
    fn is_accounted_for(&self) -> bool {
        let logs = self.logs.read();
        if !self.blank.lock().is_empty() || logs.values().any(|log| log.is_in_doubt()) {
            return false;
        }
        if self.was_clean() {
            return true;
        }
        match self.found() {
            Ok(found) => found.iter().all(|found| logs.contains_key(&found.partition)),
            Err(error) => {
                tracing::warn!(path = %self.path().display(), %error, "cannot list the logs; the next start counts as one after a crash");
                false
            }
        }
    }
}

/// With too little room for a small file the old one has to do.
fn saved_or_full(saved: Result<(), ChangeError>) -> Result<(), OpenLogError> {
    match saved {
        Ok(()) | Err(ChangeError::Full) => Ok(()),
        Err(_) => Err(OpenLogError::Failed),
    }
}

/// Works off a queue. Results are as many as items, and whoever waits for them is there until the end.
fn drain<T, U>(queue: &Mutex<Vec<T>>, work: impl Fn(T) -> U, finished: &std::sync::mpsc::Sender<U>) {
    loop {
        let Some(item) = queue.lock().pop() else { return };
        if finished.send(work(item)).is_err() {
            return;
        }
    }
}

/// Whether the page cache may have been lost since the directory was last open, because the machine has restarted or the file
/// system was mounted anew; if so, also what tells this run and this mount from others, which is noted once what the loss has
/// left is dealt with.
fn read_boot(world: &World, path: &Path) -> io::Result<(PageCache, Option<String>)> {
    // Linux has a new one at each start. Elsewhere there is no telling, and the machine may always have restarted.
    let Some(boot) = world.disk.read_if_exists(Path::new("/proc/sys/kernel/random/boot_id"))? else {
        return Ok((PageCache::PerhapsLost, None));
    };
    let boot = String::from_utf8_lossy(&boot).trim().to_owned();
    let boot = match world.disk.mount_id(path)? {
        Some(mount) => format!("{boot} {mount}"),
        None => boot,
    };
    let last = world.disk.read_if_exists(&path.join(layout::BOOT))?;
    if last.is_some_and(|bytes| decode_boot(&bytes).is_ok_and(|last| last == boot)) {
        return Ok((PageCache::Kept, None));
    }
    Ok((PageCache::PerhapsLost, Some(boot)))
}

/// What the directory says of itself; made anew for a directory that says nothing. Also whether it was.
fn read_format(world: &World, path: &Path) -> Result<(DirectoryFile, bool), OpenDirError> {
    let file = path.join(layout::FORMAT);
    let at = |error| OpenDirError::Io { path: file.clone(), error };
    if let Some(bytes) = world.disk.read_if_exists(&file).map_err(at)? {
        let format = DirectoryFile::decode(&bytes)
            .map_err(|error| OpenDirError::Format { path: file.clone(), error })?;
        return Ok((format, false));
    }
    let format = DirectoryFile { uuid: world.rng.uuid(), is_journaled: false };
    world.disk.write_atomic(&file, &format.encode()).map_err(at)?;
    Ok((format, true))
}

/// Has the directory say whether it has a journal, so that no program opens it that does not know of journals.
fn note_journal(world: &World, path: &Path, known: DirectoryFile, is_journaled: bool) -> io::Result<()> {
    if known.is_journaled == is_journaled {
        return Ok(());
    }
    let format = DirectoryFile { is_journaled, ..known };
    world.disk.write_atomic(&path.join(layout::FORMAT), &format.encode())
}

/// Makes the directory's journal.
fn make_journal(shared: &Shared, uuid: Uuid, is_stopping: &dyn Fn() -> bool) -> io::Result<Journal> {
    let (world, path) = (&shared.world, &shared.path);
    let journal = Journal::make(&world.disk, path, world.rng.number(), &shared.options, is_stopping)?;
    let noted = note_journal(world, path, DirectoryFile { uuid, is_journaled: false }, true);
    noted.or_else(|error| remove(&world.disk, path).and(Err(error)))?;
    Ok(journal)
}
