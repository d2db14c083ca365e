//! Threads of their own, for what must not stand in a queue with what serves.
//!
//! tokio gives a thread's tasks their turns one after the other, and looks for what came from the network only between some sixty of
//! them. Where a chunk of history is copied and checked, a small request that comes meanwhile waits for all of that. In threads of
//! their own both have what the kernel gives them, which is a processor at once wherever there is an idle one.

use std::future::Future;
use std::io;

use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

/// Threads that run tasks. What still runs when it is dropped is given up; a group's tasks are to be stopped before.
#[derive(Debug)]
pub struct Pool(Option<Runtime>);

impl Pool {
    /// Starts so many threads, under a name for people, and up to `blocking` more for what blocks while there is any. In a simulated
    /// machine there are none: it has one processor, and what they would run, whoever starts it runs.
    pub fn start(name: &'static str, threads: usize, blocking: usize) -> io::Result<Pool> {
        if cfg!(feature = "sim") {
            return Ok(Pool(None));
        }
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .thread_name(name)
            .worker_threads(threads.max(1))
            .max_blocking_threads(blocking.max(1))
            .enable_all();
        Ok(Pool(Some(builder.build()?)))
    }

    /// Runs something by these threads, and gives what comes of it. A panic is passed on.
    pub async fn run<T: Send + 'static>(&self, body: impl Future<Output = T> + Send + 'static) -> T {
        match self.place().spawn(body).await {
            Ok(value) => value,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    pub(super) fn place(&self) -> Place {
        Place(self.0.as_ref().map(|runtime| runtime.handle().clone()))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // One that is dropped by a task must not wait for the others.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Which threads run a group's tasks: a pool's, or those of whoever starts them.
#[derive(Clone, Debug)]
pub(super) struct Place(Option<Handle>);

impl Place {
    pub(super) const HERE: Place = Place(None);

    #[allow(clippy::disallowed_methods)] // The home of tasks.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.0 {
            Some(threads) => threads.spawn(task),
            None => tokio::spawn(task),
        }
    }
}

#[cfg(all(test, not(feature = "sim")))]
mod tests {
    use std::time::Duration;

    use super::super::TaskGroup;
    use super::*;

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn what_a_group_starts_within_a_pool_is_run_and_stopped_there() {
        let pool = Pool::start("apart", 1, 1).unwrap();
        assert_eq!(pool.run(async { thread() }).await, "apart");
        let group = TaskGroup::new();
        let (tell, told) = tokio::sync::oneshot::channel();
        let cancelled = group.cancelled().clone();
        group.within(&pool).spawn("task", async move {
            cancelled.cancelled().await;
            drop(tell.send(thread()));
        });
        group.stop(Duration::from_secs(10)).await.unwrap();
        assert_eq!(told.await.unwrap(), "apart");
        let group = TaskGroup::new();
        group.within(&pool).spawn("panics", async { panic!("it does") });
        // It is told before the group is cancelled.
        tokio::time::timeout(Duration::from_secs(10), group.cancelled().cancelled()).await.unwrap();
        assert_eq!(group.failure().unwrap().message, "it does");
    }

    #[tokio::test]
    async fn a_pool_that_is_dropped_waits_for_nothing() {
        let pool = Pool::start("apart", 1, 1).unwrap();
        TaskGroup::new().within(&pool).spawn("hangs", std::future::pending());
        drop(pool);
    }
}
