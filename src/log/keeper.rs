//! Housekeeping of one data directory, on a thread of its own: checkpoints, and removing files after a delay.
//!
//! Nothing that a producer waits for happens here. Each log has at most one checkpoint waiting, so the queue is bounded by the
//! number of logs; removals by the files there are. What is not removed when the process ends is found and removed at the next
//! start.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use aquifer_runtime::World;
use parking_lot::{Condvar, Mutex};
use tokio::time::Instant;

use super::metrics::Metrics;

/// Something to be done.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The queue, and the thread's body.
pub(crate) struct Keeper {
    world: World,
    metrics: Metrics,
    work: Mutex<Work>,
    wake: Condvar,
}

#[derive(Default)]
struct Work {
    jobs: VecDeque<Job>,
    /// By their time, and a number to tell apart those of one time.
    removals: BTreeMap<(Instant, u64), PathBuf>,
    numbers: u64,
    stopping: bool,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keeper")
    }
}

impl Keeper {
    pub(crate) fn new(world: &World, metrics: Metrics) -> Keeper {
        Keeper { world: world.clone(), metrics, work: Mutex::new(Work::default()), wake: Condvar::new() }
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
        self.wake.notify_all();
    }

    /// The thread's body.
    pub(crate) fn run(&self) {
        let mut work = self.work.lock();
        while !work.stopping {
            if let Some(job) = work.jobs.pop_front() {
                drop(work);
                job();
                work = self.work.lock();
                continue;
            }
            let now = self.world.clock.now();
            let next = work.removals.first_entry().map(|removal| (removal.key().0, removal));
            match next {
                Some((at, removal)) if at <= now => {
                    let path = removal.remove();
                    drop(work);
                    self.remove(&path);
                    work = self.work.lock();
                }
                Some((at, _)) => {
                    self.wake.wait_for(&mut work, at.duration_since(now));
                }
                None => self.wake.wait(&mut work),
            }
        }
        // Jobs hold what holds this queue.
        work.jobs.clear();
    }

    /// Removes a file or folder now.
    pub(crate) fn remove(&self, path: &std::path::Path) {
        let disk = &self.world.disk;
        let removed = if path.is_dir() { disk.remove_dir_all(path) } else { disk.remove(path) };
        if let Err(error) = removed {
            self.metrics.removal_failures.inc();
            tracing::warn!(path = %path.display(), %error, "could not remove what is not needed any more; the next start tries again");
        }
    }
}
