//! Housekeeping of one data directory, on a thread of its own: checkpoints, and removing files after a delay.
//!
//! Nothing that a producer waits for happens here. Each log has at most one checkpoint waiting, so the queue is bounded by the
//! number of logs; removals by the files there are. What is not removed when the process ends is found and removed at the next
//! start.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use aquifer_runtime::World;
use parking_lot::{Condvar, Mutex};

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
    /// In order of time as far as delays are equal; looked through as a whole.
    removals: Vec<Removal>,
    stopping: bool,
}

struct Removal {
    at: tokio::time::Instant,
    path: PathBuf,
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
        self.work.lock().removals.extend(paths.into_iter().map(|path| Removal { at, path }));
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
            if let Some(due) = work.removals.iter().position(|removal| removal.at <= now) {
                let removal = work.removals.swap_remove(due);
                drop(work);
                self.remove(&removal.path);
                work = self.work.lock();
                continue;
            }
            match work.removals.iter().map(|removal| removal.at).min() {
                Some(next) => {
                    self.wake.wait_for(&mut work, next.duration_since(now));
                }
                None => self.wake.wait(&mut work),
            }
        }
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
