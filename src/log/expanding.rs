//! Work that expands compressed batches: away from the threads that serve, and a few at a time.
//!
//! A batch of some kilobytes may take a quarter of a second and a hundred megabytes to look into. Whoever wants that waits for one
//! of `log.record.expansions.max` places, which all logs of a directory share.

use std::sync::Arc;

use aquifer_runtime::tasks;

use super::handle::Log;

impl Log {
    /// Does what may expand batches, where there is a place for it.
    pub async fn expanding<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Log) -> T + Send + 'static,
    ) -> T {
        let place = self.shared.expansions.clone().acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let log = self.clone();
        // The thread holds the place: it works on if nobody waits for it any more.
        tasks::blocking(move || {
            let done = work(&log);
            drop(place);
            done
        })
        .await
    }
}
