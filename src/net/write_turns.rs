//! Turns of those with much to write.
//!
//! The kernel handles what is written to a socket while nothing else on that thread gets on. So a large answer is written in steps, and
//! between two of them what is ready gets on. But of many large answers each would have its step first: ten consumers of history
//! would hold up one at the tail for as long as ten steps take. So only as many are written at a time as there are threads, a step
//! each, in the order in which they came.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Turns. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct WriteTurns(Arc<Semaphore>);

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
}

impl WriteTurns {
    /// So many at a time.
    pub(crate) fn new(at_a_time: usize) -> WriteTurns {
        WriteTurns(Arc::new(Semaphore::new(at_a_time.max(1))))
    }

    /// Waits for a turn: first come, first served.
    pub(crate) async fn take(&self) -> Turn<'_> {
        Turn { _permit: self.0.acquire().await.expect("never closed") }
    }
}
