//! Turns of those with much to write.
//!
//! The kernel handles what is written to a socket while nothing else on that thread gets on. So a large answer is written in steps, and
//! between two of them what is ready gets on. But of many large answers each would have its step first: ten consumers of history
//! would hold up one at the tail for as long as ten steps take. So only as many are written at a time as there are threads, a step
//! each, in the order in which they came.
//!
//! How long a step may be depends on whether there are small answers at all: they are noted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aquifer_runtime::clock::Clock;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// For so long after a small answer there may be another: some that are due ten times a second are noticed.
const SMALL_ABOUT: Duration = Duration::from_millis(200);
/// A small answer is not noted if one was so short a time before: a processor's store takes the line from all others.
const NOTED_BEFORE: Duration = Duration::from_millis(20);

/// Turns. Cheap to clone; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct WriteTurns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    permits: Semaphore,
    clock: Clock,
    began: Instant,
    /// When a small answer was noted last, in milliseconds since `began`; 0 before there was any.
    small: AtomicU64,
}

/// Somebody's turn, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
}

impl WriteTurns {
    /// So many at a time.
    pub(crate) fn new(at_a_time: usize, clock: Clock) -> WriteTurns {
        let permits = Semaphore::new(at_a_time.max(1));
        WriteTurns(Arc::new(Inner { permits, clock, began: clock.now(), small: AtomicU64::new(0) }))
    }

    /// Takes note of an answer that needs no turn.
    pub(crate) fn note_small(&self) {
        if self.since_small().is_none_or(|since| since >= NOTED_BEFORE) {
            self.0.small.store(self.millis().max(1), Ordering::Relaxed);
        }
    }

    /// Whether there were small answers just now.
    pub(crate) fn is_small_about(&self) -> bool {
        self.since_small().is_some_and(|since| since < SMALL_ABOUT)
    }

    fn since_small(&self) -> Option<Duration> {
        let noted = self.0.small.load(Ordering::Relaxed);
        (noted > 0).then(|| Duration::from_millis(self.millis().saturating_sub(noted)))
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.0.clock.now().duration_since(self.0.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// Waits for a turn: first come, first served.
    pub(crate) async fn take(&self) -> Turn<'_> {
        Turn { _permit: self.0.permits.acquire().await.expect("never closed") }
    }
}
