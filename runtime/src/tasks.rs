//! Tasks and threads: each has a name, an owner and an end.
//!
//! A group owns what it started and ends it: [`TaskGroup::stop`] asks, and waits. A panic in any of them cancels the whole
//! group and is reported by name: a broker with a dead part must stop, not limp.

use std::any::Any;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use pool::Place;

pub use pool::Pool;

/// Owns tasks and threads. Cheap to clone; clones are the same group.
#[derive(Clone, Debug)]
pub struct TaskGroup {
    inner: Arc<Inner>,
    place: Place,
}

#[derive(Debug)]
struct Inner {
    cancel: CancellationToken,
    running: tokio_util::task::TaskTracker,
    /// What runs, by name, for whoever waits for its end in vain.
    names: Mutex<BTreeMap<&'static str, usize>>,
    failure: Mutex<Option<Failure>>,
}

/// A task or thread that panicked, or ended though others count on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{task} failed: {message}")]
pub struct Failure {
    /// Its name.
    pub task: String,
    /// What it said.
    pub message: String,
}

/// A group did not end in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("still running {waited:?} after they were asked to stop: {running:?}")]
pub struct StopTimeout {
    /// What is left, and how many of each.
    pub running: BTreeMap<&'static str, usize>,
    /// How long they had.
    pub waited: Duration,
}

impl Default for TaskGroup {
    fn default() -> TaskGroup {
        TaskGroup::new()
    }
}

impl TaskGroup {
    /// An empty group.
    pub fn new() -> TaskGroup {
        let inner = Inner {
            cancel: CancellationToken::new(),
            running: tokio_util::task::TaskTracker::new(),
            names: Mutex::default(),
            failure: Mutex::new(None),
        };
        TaskGroup { inner: Arc::new(inner), place: Place::HERE }
    }

    /// The same group, whose tasks run by a pool's threads.
    #[must_use]
    pub fn within(&self, pool: &Pool) -> TaskGroup {
        TaskGroup { inner: self.inner.clone(), place: pool.place() }
    }

    /// Is cancelled when the group is asked to stop or something in it has panicked. Tasks await it and end.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.inner.cancel
    }

    /// What panicked first, if anything.
    pub fn failure(&self) -> Option<Failure> {
        self.inner.failure.lock().clone()
    }

    /// Starts a task. It must end soon after [`TaskGroup::cancelled`].
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.place.spawn(task);
        let group = self.clone();
        self.begin(name);
        self.place.spawn(self.inner.running.track_future(async move {
            group.watch(name, handle).await;
            group.end(name);
        }));
    }

    /// Starts a task that others count on until the group is stopped: if it ends before, by whatever, that is a failure like a
    /// panic.
    pub fn spawn_lasting(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let group = self.clone();
        self.spawn(name, async move {
            task.await;
            if !group.inner.cancel.is_cancelled() {
                group.fail(name, "it ended by itself".to_owned());
            }
        });
    }

    /// Starts a thread for what blocks: `body` runs there alone. It waits as tasks do, and must end soon after
    /// [`TaskGroup::cancelled`], which it awaits or is woken for by its own means.
    #[cfg(not(feature = "sim"))]
    #[allow(clippy::disallowed_methods)] // The home of threads.
    pub fn spawn_thread(
        &self,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let (done, ended) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Handle::current();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let body = std::panic::AssertUnwindSafe(|| runtime.block_on(body));
            let outcome = std::panic::catch_unwind(body);
            // The group may be gone by then; nobody is left to tell.
            let _ = done.send(outcome.err().map(|panic| panic_message(&*panic)));
        })?;
        let group = self.clone();
        self.begin(name);
        tokio::spawn(self.inner.running.track_future(async move {
            if let Ok(Some(message)) = ended.await {
                group.fail(name, message);
            }
            group.end(name);
        }));
        Ok(())
    }

    /// Starts a task in a thread's place: the simulated machine has one processor, and when a thread goes on there is chance.
    #[cfg(feature = "sim")]
    pub fn spawn_thread(
        &self,
        name: &'static str,
        body: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        self.spawn(name, simulated::scheduled(body));
        Ok(())
    }

    fn begin(&self, name: &'static str) {
        *self.inner.names.lock().entry(name).or_default() += 1;
    }

    fn end(&self, name: &'static str) {
        let mut names = self.inner.names.lock();
        match names.get_mut(name) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(names.remove(name)),
        }
    }

    async fn watch(&self, name: &'static str, handle: JoinHandle<()>) {
        if let Err(error) = handle.await
            && error.is_panic()
        {
            self.fail(name, panic_message(&*error.into_panic()));
        }
    }

    fn fail(&self, task: &str, message: String) {
        tracing::error!(task, message, "a task failed: stopping");
        self.inner.failure.lock().get_or_insert(Failure { task: task.to_owned(), message });
        self.inner.cancel.cancel();
    }

    /// Asks all to end and waits until they have, at most `patience`.
    pub async fn stop(&self, patience: Duration) -> Result<(), StopTimeout> {
        self.inner.cancel.cancel();
        self.inner.running.close();
        let waited = tokio::time::timeout(patience, self.inner.running.wait()).await;
        waited.map_err(|_| StopTimeout { running: self.inner.names.lock().clone(), waited: patience })
    }
}

/// Runs what may block for long (reads of cold pages, opening many files) away from the tasks that serve. Costs some 30 us, so
/// not for what is quick. A panic is passed on; where the threads are being stopped it never comes back.
#[cfg(not(feature = "sim"))]
#[allow(clippy::disallowed_methods)] // The home of threads.
pub async fn blocking<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(body).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

/// Runs what may block, after a while: the simulated machine has one processor.
#[cfg(feature = "sim")]
pub async fn blocking<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    simulated::turn().await;
    body()
}

/// Threads of their own, for what must not stand in a queue with what serves.
mod pool;
/// When, in a simulated machine, a thread gets its turn.
#[cfg(feature = "sim")]
mod simulated;

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_cancels_the_group_and_is_named() {
        let group = TaskGroup::new();
        let token = group.cancelled().clone();
        group.spawn("patient", async move { token.cancelled().await });
        group.spawn("hasty", async { panic!("too fast") });
        group.cancelled().cancelled().await;
        group.stop(Duration::from_secs(10)).await.unwrap();
        assert_eq!(
            group.failure(),
            Some(Failure { task: "hasty".to_owned(), message: "too fast".to_owned() })
        );
    }

    #[tokio::test]
    async fn a_task_that_others_count_on_may_not_end_before_the_group() {
        let stopped = TaskGroup::new();
        let token = stopped.cancelled().clone();
        stopped.spawn_lasting("keeper", async move { token.cancelled().await });
        stopped.stop(Duration::from_secs(10)).await.unwrap();
        assert_eq!(stopped.failure(), None);
        let left = TaskGroup::new();
        left.spawn_lasting("keeper", async {});
        left.cancelled().cancelled().await;
        assert_eq!(left.failure().unwrap().to_string(), "keeper failed: it ended by itself");
    }

    #[tokio::test]
    async fn threads_are_waited_for() {
        let group = TaskGroup::new();
        let (tell, told) = tokio::sync::oneshot::channel::<()>();
        group.spawn_thread("reader", async move { drop(told.await) }).unwrap();
        let error = group.stop(Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(error.running, BTreeMap::from([("reader", 1)]));
        drop(tell);
        group.stop(Duration::from_secs(10)).await.unwrap();
        assert_eq!(group.failure(), None);
    }
}
