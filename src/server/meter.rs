//! How much of a thread's time something takes, which is what quotas of `request_percentage` count.

use std::pin::pin;
use std::time::Duration;

use aquifer_runtime::clock::Clock;

/// Waits for `work`; gives also for how long it had a thread, all told. While it waits for something, it has none.
pub(super) async fn timed<T>(clock: Clock, work: impl Future<Output = T>) -> (T, Duration) {
    let mut work = pin!(work);
    let mut took = Duration::ZERO;
    let done = std::future::poll_fn(|context| {
        let began = clock.now();
        let polled = work.as_mut().poll(context);
        took += clock.now().saturating_duration_since(began);
        polled
    })
    .await;
    (done, took)
}
