//! Turns of those with much to write.
//!
//! The kernel copies what is written to a socket while nothing else on that thread gets on. A large answer is written in steps, and
//! between two of them all that is ready comes first. But of many large answers each would have its step before it does: ten consumers
//! of history would hold up one at the tail for as long as ten steps take. So only as many write at a time as there are threads, each
//! until it is done or its socket is full.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Turns. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
}

impl Turns {
    /// So many at a time.
    pub(crate) fn new(at_a_time: usize) -> Turns {
        Turns(Arc::new(Semaphore::new(at_a_time.max(1))))
    }

    /// Waits for a turn; first come, first served.
    pub(crate) async fn take(&self) -> Turn<'_> {
        Turn { _permit: self.0.acquire().await.expect("never closed") }
    }
}
