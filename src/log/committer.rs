//! The way to the device: makes appended bytes durable, and says of each log up to where.
//!
//! Appends write to the page cache and tell their log's [`SyncPoint`]; a log with unsynced bytes stands in a queue once. A little
//! of many logs goes through the journal: its thread takes all logs that wait, and one sync serves them. What is too much for
//! that, or must be synced where it belongs, is synced log by log: a thread takes a log, and with it *all* that was appended until
//! then. Either way, however many producers wait, one sync serves them, and what is appended while it runs shares the next one.
//! Several threads serve several logs, since the file system turns syncs that come together into one commit of its journal.
//!
//! The journal is made once several logs wait at the same time (`log.journal.logs.min`).
//!
//! Only this file has a log's synced end moved, and hands on the point where recovery may start: both mean "durable", and nobody
//! else can know. After a failed sync neither moves again (see `health.rs`).
//!
//! A crash loses at most what lies behind the synced end.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use aquifer_model::TopicPartition;
use aquifer_runtime::World;
use aquifer_runtime::files::File;
use aquifer_runtime::planted::{self, Planted};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::config::LogDirOptions;
use super::error::is_exhausted;
use super::health::Health;
use super::journal::{Added, Journal, Turned, Write, Written, file_bytes};
use super::metrics::Metrics;
use super::sync_point::{Need, SyncPoint, Then, ToJournal};

/// The queues of logs with unsynced bytes, and the threads' bodies.
#[derive(Debug)]
pub(crate) struct Committer {
    world: World,
    health: Arc<Health>,
    metrics: Metrics,
    /// So many logs that wait at once are worth a journal.
    journal_logs_min: usize,
    journal: OnceLock<Journal>,
    /// It cannot be written to any more, though no sync has failed.
    journal_is_over: AtomicBool,
    queue: Mutex<Queue>,
    /// For threads that sync logs, and for the one of the journal.
    wake: Notify,
    wake_journal: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    /// To be synced by themselves.
    logs: VecDeque<Arc<SyncPoint>>,
    /// For the journal.
    small: VecDeque<Arc<SyncPoint>>,
    journal: Wish,
    stopping: bool,
}

/// Whether a journal is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Wish {
    /// Nobody would gain by it yet.
    #[default]
    None,
    /// It is worth its room.
    Wished,
    /// There is one, or there cannot be.
    Settled,
}

/// What the journal's thread does next.
enum Next {
    Make,
    Write,
    Stop,
}

/// Keeps a log out of the journal.
#[must_use]
pub(crate) struct Held<'a>(&'a SyncPoint);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.admit();
    }
}

impl Committer {
    pub(crate) fn new(
        world: &World,
        health: Arc<Health>,
        metrics: Metrics,
        journal: Option<Journal>,
        options: &LogDirOptions,
    ) -> Committer {
        let is_settled = journal.is_some() || file_bytes(options) == 0;
        Committer {
            world: world.clone(),
            health,
            metrics,
            journal_logs_min: options.journal_logs_min,
            queue: Mutex::new(Queue {
                journal: if is_settled { Wish::Settled } else { Wish::None },
                ..Queue::default()
            }),
            journal: journal.map(OnceLock::from).unwrap_or_default(),
            journal_is_over: AtomicBool::new(false),
            wake: Notify::new(),
            wake_journal: Notify::new(),
        }
    }

    /// Asks for a log to be made durable, for somebody who waits. Cheap while that is asked for already, or there is nothing to do.
    pub(crate) fn request(&self, log: &Arc<SyncPoint>) {
        let small = self.journal_in_use().map(|journal| journal.log_bytes_max);
        self.ask(log, Need::Durable, small);
    }

    /// The same for a checkpoint: nobody waits, but all must be synced where it belongs.
    pub(crate) fn request_settled(&self, log: &Arc<SyncPoint>) {
        self.ask(log, Need::Settled, None);
    }

    fn ask(&self, log: &Arc<SyncPoint>, need: Need, small: Option<u64>) {
        let wanted = log.ask(need, small);
        if wanted.sync {
            let mut queue = self.queue.lock();
            queue.logs.push_back(log.clone());
            // For checkpoints nobody waits.
            let is_wished = need == Need::Durable
                && queue.journal == Wish::None
                && queue.logs.len() >= self.journal_logs_min;
            if is_wished {
                queue.journal = Wish::Wished;
            }
            drop(queue);
            self.wake.notify_one();
            if is_wished {
                self.wake_journal.notify_one();
            }
        }
        if wanted.journal {
            self.queue.lock().small.push_back(log.clone());
            self.wake_journal.notify_one();
        }
    }

    fn journal_in_use(&self) -> Option<&Journal> {
        self.journal.get().filter(|_| !self.journal_is_over.load(Ordering::Acquire))
    }

    /// Whether the journal may have bytes of a log.
    pub(crate) fn has_in_journal(&self, log: TopicPartition) -> bool {
        self.journal.get().is_some_and(|journal| journal.holds(log))
    }

    /// Keeps a log out of the journal until what this gives is dropped, and syncs it: from here on its checkpoints say that all
    /// that the journal has of it is void. `None` once the directory has failed. Blocks.
    pub(crate) fn keep_out_of_journal<'a>(&self, log: &'a SyncPoint) -> Option<Held<'a>> {
        log.hold(|| self.journal.get().map(Journal::next_mark));
        let held = Held(log);
        // A checkpoint that this sync releases is older than whatever this is for.
        drop(self.sync(log));
        (!self.health.has_failed()).then_some(held)
    }

    /// Has the journal forget all that it has, synced where it belongs; gives whether it has. Blocks all that waits for the journal.
    pub(crate) fn empty_journal(&self) -> bool {
        let Some(journal) = self.journal.get() else { return true };
        let settle = |log: &Arc<SyncPoint>| {
            if let Some(then) = self.sync(log) {
                then();
            }
            !self.health.has_failed()
        };
        journal.empty(settle).unwrap_or_else(|(path, error)| {
            match is_exhausted(&error) {
                true => self.give_up_journal(&path, &error),
                false => self.health.fail(&path, "write of", &error),
            }
            false
        })
    }

    fn is_stopping(&self) -> bool {
        self.queue.lock().stopping
    }

    /// Ends every thread after the sync under way.
    pub(crate) fn stop(&self) {
        self.queue.lock().stopping = true;
        self.wake.notify_waiters();
        self.wake_journal.notify_one();
    }

    /// The body of a thread that syncs logs.
    pub(crate) async fn run(&self) {
        while let Some(log) = self.next().await {
            if let Some(then) = self.sync(&log) {
                then();
            }
            // What came while the sync ran goes to the end of the queue, behind the other logs.
            if log.is_left_to_sync() {
                self.queue.lock().logs.push_back(log);
            }
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
        let _one_at_a_time = log.alone();
        let to_sync = log.take();
        if self.health.has_failed() {
            return None;
        }
        let began = self.world.clock.now();
        for (_, file) in &to_sync.files {
            if let Err(error) = sync(file) {
                self.health.fail(file.path(), "sync of", &error);
                return None;
            }
        }
        if to_sync.names
            && let Err(error) = self.world.disk.sync_dir(&log.folder)
        {
            self.health.fail(&log.folder, "sync of", &error);
            return None;
        }
        self.metrics.syncs.inc();
        self.metrics.sync_seconds.observe((self.world.clock.now() - began).as_secs_f64());
        log.note_synced(to_sync)
    }

    /// The body of the journal's thread. `make` makes the journal, unless what it is given says that there is no time for it. Blocks.
    pub(crate) async fn run_journal(&self, make: impl Fn(&dyn Fn() -> bool) -> io::Result<Journal>) {
        loop {
            match self.next_for_journal().await {
                Next::Stop => return,
                Next::Make => match make(&|| self.is_stopping()) {
                    Ok(journal) => drop(self.journal.set(journal)),
                    Err(_) if self.is_stopping() => {}
                    Err(error) => {
                        self.metrics.journal_missing.set(1);
                        tracing::warn!(%error, "could not make the journal: each log is synced by itself, until the next start");
                    }
                },
                Next::Write => self.write_journal(),
            }
        }
    }

    async fn next_for_journal(&self) -> Next {
        loop {
            let woken = self.wake_journal.notified();
            {
                let mut queue = self.queue.lock();
                if queue.stopping {
                    return Next::Stop;
                }
                if !queue.small.is_empty() {
                    return Next::Write;
                }
                if queue.journal == Wish::Wished {
                    queue.journal = Wish::Settled;
                    return Next::Make;
                }
            }
            woken.await;
        }
    }

    /// Writes one envelope with what waits, and syncs it.
    fn write_journal(&self) {
        let Some(journal) = self.journal_in_use() else { return self.sync_instead() };
        if self.health.has_failed() {
            // Nobody will be told anything any more.
            return self.queue.lock().small.clear();
        }
        let mut write = journal.begin();
        let Gathered { group, later, unfit, is_full } = self.gather(journal, &mut write);
        if group.is_empty() {
            drop(write);
            if is_full {
                self.turn(journal);
            }
        } else if let Err((path, error)) = self.write_and_sync(write) {
            if !is_exhausted(&error) {
                return self.health.fail(&path, "write of", &error);
            }
            self.give_up_journal(&path, &error);
        } else {
            group.iter().for_each(|(log, taken)| log.note_journaled(taken));
        }
        for log in later.into_iter().chain(group.into_iter().map(|(log, _)| log)) {
            log.leave_queue_of_journal();
            self.request(&log);
        }
        unfit.iter().for_each(|log| self.sync_alone(log));
    }

    /// Takes what waits into an envelope, as much as there is room for.
    fn gather(&self, journal: &Journal, write: &mut Write<'_>) -> Gathered {
        let mut gathered = Gathered::default();
        loop {
            let Some(log) = self.queue.lock().small.pop_front() else { return gathered };
            // It may be too much by now, durable by another way, or have to wait for the next envelope because it was cut.
            let Some(taken) = log.to_journal(write.sequence, journal.log_bytes_max) else {
                gathered.later.push(log);
                continue;
            };
            match write.add(&log, &taken) {
                Added::Yes => gathered.group.push((log, taken)),
                Added::Changed => gathered.later.push(log),
                Added::Unfit => {
                    self.metrics.journal_full.inc();
                    gathered.unfit.push(log);
                }
                Added::NoRoom => {
                    self.queue.lock().small.push_front(log);
                    gathered.is_full = true;
                    return gathered;
                }
            }
        }
    }

    fn write_and_sync(&self, write: Write<'_>) -> Result<(), (PathBuf, io::Error)> {
        let began = self.world.clock.now();
        let path = write.path().to_owned();
        let at = |error| (path.clone(), error);
        let Written { file, bytes } = write.write().map_err(at)?;
        sync(&file).map_err(|error| {
            // Not for want of room, whatever it says: what was written is gone.
            self.health.fail(&path, "sync of", &error);
            at(error)
        })?;
        self.metrics.journal_syncs.inc();
        self.metrics.journal_bytes.inc_by(bytes);
        self.metrics.sync_seconds.observe((self.world.clock.now() - began).as_secs_f64());
        Ok(())
    }

    /// Has the journal go on to its other file.
    fn turn(&self, journal: &Journal) {
        match journal.turn() {
            Err((path, error)) if is_exhausted(&error) => self.give_up_journal(&path, &error),
            Err((path, error)) => self.health.fail(&path, "write of", &error),
            Ok(Turned::Done(to_settle)) => to_settle.iter().for_each(|log| self.request_settled(log)),
            Ok(Turned::NotYet(unsettled)) => {
                // More comes than can be written where it belongs.
                self.metrics.journal_full.inc();
                unsettled.iter().for_each(|log| self.request_settled(log));
                self.sync_instead();
            }
        }
    }

    /// For want of room, on a file system that takes new blocks for each write.
    fn give_up_journal(&self, path: &Path, error: &io::Error) {
        tracing::warn!(path = %path.display(), %error, "no room to write to the journal: each log is synced by itself");
        self.metrics.journal_missing.set(1);
        self.journal_is_over.store(true, Ordering::Release);
    }

    /// Has what waits for the journal synced log by log.
    fn sync_instead(&self) {
        let logs = std::mem::take(&mut self.queue.lock().small);
        logs.iter().for_each(|log| self.sync_alone(log));
    }

    fn sync_alone(&self, log: &Arc<SyncPoint>) {
        log.leave_queue_of_journal();
        self.ask(log, Need::Durable, None);
    }
}

/// Syncs a file, once: what a sync that fails has not written is gone, and the next one would say that all is well.
fn sync(file: &File) -> io::Result<()> {
    let synced = file.sync_data();
    if planted::is(Planted::FsyncRetried) && synced.is_err() { file.sync_data() } else { synced }
}

/// What an envelope is to hold.
#[derive(Default)]
struct Gathered {
    group: Vec<(Arc<SyncPoint>, ToJournal)>,
    /// Logs that stood in the queue and have to ask again.
    later: Vec<Arc<SyncPoint>>,
    /// Logs that are to be synced by themselves.
    unfit: Vec<Arc<SyncPoint>>,
    /// Whether one more did not fit.
    is_full: bool,
}
