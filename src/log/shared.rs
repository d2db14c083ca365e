//! What all logs of one data directory have in common.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_runtime::World;
use tokio::sync::{Notify, Semaphore};

use super::committer::Committer;
use super::config::LogDirOptions;
use super::damage::PageCache;
use super::health::Health;
use super::index::IndexCache;
use super::journal::Journal;
use super::keeper::Keeper;
use super::layout;
use super::metrics::Metrics;
use super::open_files::OpenFiles;
use super::producer_room::ProducerRoom;
use super::reserve::Reserve;

/// What happened to a directory before it was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Past {
    pub(crate) before: Before,
    /// Whether what was written, and not synced, may be gone.
    pub(crate) pages: PageCache,
    /// Whether something of the journal could not be read. Then no tail counts as never acknowledged.
    pub(crate) journal_is_damaged: bool,
}

/// How the last process to have a directory left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// There was none.
    New,
    /// Every log in it was closed: all that is found in them is durable.
    Closed,
    /// Without a word, or with a log that it could not open.
    Killed,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) world: World,
    pub(crate) options: LogDirOptions,
    pub(crate) metrics: Metrics,
    pub(crate) health: Arc<Health>,
    pub(crate) files: OpenFiles,
    pub(crate) indexes: IndexCache,
    pub(crate) committer: Committer,
    pub(crate) keeper: Keeper,
    pub(crate) reserve: Reserve,
    pub(super) producer_room: ProducerRoom,
    /// A place for each batch that is expanded to be looked into.
    pub(super) expansions: Arc<Semaphore>,
    pub(crate) past: Past,
    /// Told when damage is found.
    pub(crate) damaged: Notify,
    /// Whether this file system can say what is in the page cache.
    pub(super) tells_cached: bool,
    /// From how many bytes on a reader is lent what it asked for; `None` if nothing is, by configuration or since the kernel cannot tell
    /// what has left the page cache.
    pub(super) lends: Option<ByteCount>,
    numbers: AtomicU64,
    /// In milliseconds; it changes while the broker runs.
    producer_id_expiration: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        world: &World,
        path: &Path,
        options: LogDirOptions,
        metrics: Metrics,
        past: Past,
        health: Arc<Health>,
        journal: Option<Journal>,
    ) -> Shared {
        let told = world.disk.open(&path.join(layout::FORMAT));
        let tells_cached = told.as_ref().is_ok_and(|file| file.read_cached_and_look(0, 1).is_ok());
        let tells_left = told.is_ok_and(|file| file.is_cached(0, 1).is_ok());
        let least = options.lend_bytes_min;
        Shared {
            path: path.to_owned(),
            world: world.clone(),
            metrics: metrics.clone(),
            files: OpenFiles::new(world.disk.clone(), options.files_open_max, metrics.open_files.clone()),
            indexes: IndexCache::new(options.index_cache_bytes),
            committer: Committer::new(world, health.clone(), metrics.clone(), journal, &options),
            producer_room: ProducerRoom::new(options.producer_ids_total_max, metrics.producers.clone()),
            expansions: Arc::new(Semaphore::new(options.expansions_max)),
            keeper: Keeper::new(world, metrics),
            reserve: Reserve::new(&world.disk, &path.join(layout::RESERVE), options.reserve_bytes),
            health,
            past,
            damaged: Notify::new(),
            producer_id_expiration: AtomicU64::new(millis(options.producer_id_expiration_ms)),
            options,
            tells_cached,
            lends: (tells_cached && tells_left && least > ByteCount::ZERO).then_some(least),
            numbers: AtomicU64::new(0),
        }
    }

    /// How long an idle idempotent producer is remembered.
    pub(super) fn producer_id_expiration(&self) -> Duration {
        Duration::from_millis(self.producer_id_expiration.load(Ordering::Relaxed))
    }

    /// The same from now on.
    pub(super) fn set_producer_id_expiration(&self, age: Duration) {
        self.producer_id_expiration.store(millis(age), Ordering::Relaxed);
    }

    /// A number that was not used before in this process.
    pub(crate) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Where a tail that is cut off goes.
    pub(crate) fn quarantine_file(&self, name: &str) -> PathBuf {
        self.path.join(layout::QUARANTINE).join(name)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
