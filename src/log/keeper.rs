//! Housekeeping of one data directory, on a thread of its own: checkpoints, and removing files after a delay.
//!
//! Nothing that a producer waits for happens here. Each log has at most one checkpoint waiting, so the queue is bounded by the
//! number of logs; removals by the files there are. What is not removed when the process ends is found and removed at the next
//! start.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use aquifer_runtime::World;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::metrics::Metrics;

/// Something to be done.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The queue, and the thread's body.
pub(crate) struct Keeper {
    world: World,
    metrics: Metrics,
    work: Mutex<Work>,
    wake: Notify,
}

#[derive(Default)]
struct Work {
    jobs: VecDeque<Job>,
    /// By their time, and a number to tell apart those of one time.
    removals: BTreeMap<(Instant, u64), PathBuf>,
    numbers: u64,
    stopping: bool,
}

/// What the thread does next.
enum Next {
    Job(Job),
    Remove(PathBuf),
    WaitUntil(Instant),
    Wait,
    Stop,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

impl Keeper {
    pub(crate) fn new(world: &World, metrics: Metrics) -> Keeper {
        Keeper { world: world.clone(), metrics, work: Mutex::new(Work::default()), wake: Notify::new() }
    }

    /// Runs a job soon.
    pub(crate) fn submit(&self, job: Job) {
        self.work.lock().jobs.push_back(job);
        self.wake.notify_one();
    }

    /// Removes files or folders after `delay`.
    pub(crate) fn remove_later(&self, paths: impl IntoIterator<Item = PathBuf>, delay: Duration) {
        let at = self.world.clock.now() + delay;
        let mut work = self.work.lock();
        for path in paths {
            work.numbers += 1;
            let number = work.numbers;
            work.removals.insert((at, number), path);
        }
        drop(work);
        self.wake.notify_one();
    }

    /// Ends [`Keeper::run`] after the job under way.
    pub(crate) fn stop(&self) {
        self.work.lock().stopping = true;
        self.wake.notify_one();
    }

    /// The thread's body.
    pub(crate) async fn run(&self) {
        loop {
            match self.next() {
                Next::Job(job) => job(),
                Next::Remove(path) => self.remove(&path),
                // A deadline that passes and a notice that comes are the same: there is something to look at.
                Next::WaitUntil(at) => drop(tokio::time::timeout_at(at, self.wake.notified()).await),
                Next::Wait => self.wake.notified().await,
                Next::Stop => break,
            }
        }
        // Jobs hold what holds this queue.
        self.work.lock().jobs.clear();
    }

    fn next(&self) -> Next {
        let mut work = self.work.lock();
        if work.stopping {
            return Next::Stop;
        }
        if let Some(job) = work.jobs.pop_front() {
            return Next::Job(job);
        }
        match work.removals.first_entry() {
            Some(removal) if removal.key().0 <= self.world.clock.now() => Next::Remove(removal.remove()),
            Some(removal) => Next::WaitUntil(removal.key().0),
            None => Next::Wait,
        }
    }

    /// Removes a file or folder now.
    pub(crate) fn remove(&self, path: &std::path::Path) {
        let disk = &self.world.disk;
        let removed = if disk.is_dir(path) { disk.remove_dir_all(path) } else { disk.remove(path) };
        if let Err(error) = removed {
            self.metrics.removal_failures.inc();
            tracing::warn!(path = %path.display(), %error, "could not remove what is not needed any more; the next start tries again");
        }
    }
}
