//! The way to the device: makes appended bytes durable, log by log, and says up to where.
//!
//! Appends write to the page cache and tell their log's [`SyncPoint`]; a log with unsynced bytes stands in the committer's queue
//! once. A committer thread takes it, and with it *all* that was appended until then: however many producers wait, one sync
//! serves them. What is appended while that sync runs shares the next one. Several threads serve several logs, since the file
//! system turns syncs that come together into one commit of its journal.
//!
//! Only this file moves a log's synced end, and hands on the point where recovery may start: both mean "durable", and nobody
//! else can know. After a failed sync neither moves again (see `health.rs`).
//!
//! A crash loses at most what lies behind the synced end.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use aquifer_model::Offset;
use aquifer_runtime::World;
use aquifer_runtime::files::File;
use aquifer_runtime::planted::{self, Planted};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::health::Health;
use super::metrics::Metrics;

/// Something quick to be done once bytes are durable.
pub(crate) type Then = Box<dyn FnOnce() + Send>;

/// What one log has written and not synced yet, and how far it is synced.
pub(crate) struct SyncPoint {
    folder: PathBuf,
    unsynced: Mutex<Unsynced>,
    /// Held for the length of a sync: one at a time for each log.
    syncing: Mutex<()>,
    synced: watch::Sender<Offset>,
    /// Called each time the synced end has risen.
    observer: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Unsynced {
    end: Offset,
    /// Files with unsynced bytes, by their segment's base; the last is the open segment's.
    files: Vec<(Offset, File)>,
    /// Whether names in the folder are unsynced.
    names: bool,
    /// Raised by each cut, so that a sync that began before says nothing about offsets behind it.
    cuts: u64,
    /// Stands in the queue, or is being synced.
    queued: bool,
    /// What to do once all of this is durable.
    then: Option<Then>,
}

impl Unsynced {
    fn is_empty(&self) -> bool {
        self.files.is_empty() && !self.names && self.then.is_none()
    }
}

impl std::fmt::Debug for SyncPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncPoint").field("synced", &*self.synced.borrow()).finish_non_exhaustive()
    }
}

impl SyncPoint {
    /// Of a log in `folder` that ends at `end` and is known to be durable up to `checkpoint`. What lies between was found in these
    /// files; a crash of the process alone may have left it in the page cache.
    pub(crate) fn recovered(
        folder: &Path,
        checkpoint: Offset,
        files: Vec<(Offset, File)>,
        end: Offset,
    ) -> SyncPoint {
        let names = !files.is_empty();
        let synced = if names { checkpoint.min(end) } else { end };
        SyncPoint {
            folder: folder.to_owned(),
            unsynced: Mutex::new(Unsynced { end, files, names, ..Unsynced::default() }),
            syncing: Mutex::new(()),
            synced: watch::Sender::new(synced),
            observer: OnceLock::new(),
        }
    }

    /// The synced end.
    pub(crate) fn synced(&self) -> Offset {
        *self.synced.borrow()
    }

    /// Has `observer` called, by a committer thread, each time the synced end has risen. It must be quick. The first one set stays.
    pub(crate) fn observe(&self, observer: Box<dyn Fn() + Send + Sync>) {
        // A log has one owner; a second observer would be its mistake, and the first is the one that works.
        let _ = self.observer.set(observer);
    }

    /// To wait for the synced end.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Offset> {
        self.synced.subscribe()
    }

    /// Takes note that the segment at `base` was written to, and that the log now ends at `end`.
    pub(crate) fn note_written(&self, base: Offset, file: &File, end: Offset) {
        let mut unsynced = self.unsynced.lock();
        unsynced.end = end;
        if unsynced.files.last().is_none_or(|(last, _)| *last != base) {
            unsynced.files.push((base, file.clone()));
        }
    }

    /// Takes note of a new file in the folder.
    pub(crate) fn note_name(&self) {
        self.unsynced.lock().names = true;
    }

    /// Has `then` run once all that was noted so far is durable; replaces one that still waits.
    pub(crate) fn then(&self, then: Then) {
        self.unsynced.lock().then = Some(then);
    }

    /// The log was cut to `end`, or made to start anew there, and is durable up to it.
    pub(crate) fn cut(&self, end: Offset) {
        let mut unsynced = self.unsynced.lock();
        let Unsynced { queued, cuts, .. } = *unsynced;
        *unsynced = Unsynced { end, queued, cuts: cuts + 1, ..Unsynced::default() };
        self.synced.send_replace(end);
    }

    /// Forgets what is unsynced, for good, and waits for a sync under way: the files are about to go.
    pub(crate) fn retire(&self) {
        self.cut(self.synced());
        drop(self.syncing.lock());
    }
}

/// The queue of logs with unsynced bytes, and the threads' body.
#[derive(Debug)]
pub(crate) struct Committer {
    world: World,
    health: Arc<Health>,
    metrics: Metrics,
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    logs: VecDeque<Arc<SyncPoint>>,
    stopping: bool,
}

impl Committer {
    pub(crate) fn new(world: &World, health: Arc<Health>, metrics: Metrics) -> Committer {
        let queue = Mutex::new(Queue::default());
        Committer { world: world.clone(), health, metrics, queue, wake: Notify::new() }
    }

    /// Asks for a sync of a log. Cheap while one is asked for already, or there is nothing to sync.
    pub(crate) fn request(&self, log: &Arc<SyncPoint>) {
        {
            let mut unsynced = log.unsynced.lock();
            if unsynced.queued || unsynced.is_empty() {
                return;
            }
            unsynced.queued = true;
        }
        self.queue.lock().logs.push_back(log.clone());
        self.wake.notify_one();
    }

    /// Ends every [`Committer::run`] after the sync under way.
    pub(crate) fn stop(&self) {
        self.queue.lock().stopping = true;
        self.wake.notify_waiters();
    }

    /// A thread's body.
    pub(crate) async fn run(&self) {
        while let Some(log) = self.next().await {
            if let Some(then) = self.sync(&log) {
                then();
            }
            // What came while the sync ran goes to the end of the queue, behind the other logs.
            let mut unsynced = log.unsynced.lock();
            if unsynced.is_empty() {
                unsynced.queued = false;
                continue;
            }
            drop(unsynced);
            self.queue.lock().logs.push_back(log);
        }
    }

    async fn next(&self) -> Option<Arc<SyncPoint>> {
        loop {
            // First of all: what is told from here on is not missed.
            let woken = self.wake.notified();
            {
                let mut queue = self.queue.lock();
                if queue.stopping {
                    return None;
                }
                if let Some(log) = queue.logs.pop_front() {
                    return Some(log);
                }
            }
            woken.await;
        }
    }

    /// Syncs all that a log has written so far; gives what is to be done then. Does nothing once the directory has failed.
    pub(crate) fn sync(&self, log: &SyncPoint) -> Option<Then> {
        let _one_at_a_time = log.syncing.lock();
        let (end, cuts, files, names, then) = {
            let mut unsynced = log.unsynced.lock();
            let files = std::mem::take(&mut unsynced.files);
            let names = std::mem::take(&mut unsynced.names);
            (unsynced.end, unsynced.cuts, files, names, unsynced.then.take())
        };
        if self.health.has_failed() {
            return None;
        }
        let began = self.world.clock.now();
        for (_, file) in &files {
            if let Err(error) = file.sync_data()
                && !(planted::is(Planted::FsyncRetried) && file.sync_data().is_ok())
            {
                self.health.fail(file.path(), "sync of", &error);
                return None;
            }
        }
        if names && let Err(error) = self.world.disk.sync_dir(&log.folder) {
            self.health.fail(&log.folder, "sync of", &error);
            return None;
        }
        self.metrics.syncs.inc();
        self.metrics.sync_seconds.observe((self.world.clock.now() - began).as_secs_f64());
        let unsynced = log.unsynced.lock();
        if unsynced.cuts != cuts {
            return None;
        }
        let moved = log.synced.send_if_modified(|synced| {
            let moved = *synced < end;
            *synced = (*synced).max(end);
            moved
        });
        drop(unsynced);
        if moved && let Some(observer) = log.observer.get() {
            observer();
        }
        then
    }
}
