//! Memory for requests on their way in, of all connections together.
//!
//! A connection pays for a request step by step, as its bytes arrive, so that announcing a large one costs a stranger nothing and
//! us as little. Paying in steps could end with all of the budget in the hands of requests that each wait for more; so one
//! request at a time, of those that hold something already, may go on without paying. There is always one that gets on, and
//! memory is bounded by the budget and one request. Whoever has that favour must be quick ([`Held::deadline`]).

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_runtime::budget::{ByteBudget, BytePermit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long a request may take to arrive once it arrives at the cost of all others.
const OVERDRAFT_MAX: Duration = Duration::from_secs(30);

/// The budget (`queued.max.request.bytes`).
#[derive(Debug, Clone)]
pub(crate) struct RequestMemory {
    budget: ByteBudget,
    overdraft: Arc<Semaphore>,
}

/// What one request holds of it, until it is answered.
#[derive(Debug, Default)]
pub(super) struct Held {
    room: usize,
    permit: Option<BytePermit>,
    overdraft: Option<Overdraft>,
}

#[derive(Debug)]
struct Overdraft {
    _only_one: OwnedSemaphorePermit,
    deadline: Instant,
}

impl RequestMemory {
    pub(crate) fn new(budget: ByteBudget) -> RequestMemory {
        RequestMemory { budget, overdraft: Arc::new(Semaphore::new(1)) }
    }

    /// Waits until `held` has room for `bytes`. Cancel-safe; whoever gives up waits at the end of the queue next time.
    pub(super) async fn grow(&self, held: &mut Held, bytes: usize, now: Instant) {
        let more = bytes.saturating_sub(held.room);
        if more == 0 {
            return;
        }
        if held.overdraft.is_none() {
            let may_overdraw = held.permit.is_some();
            tokio::select! {
                biased;
                permit = self.budget.take(ByteCount(more as u64)) => match &mut held.permit {
                    Some(have) => have.merge(permit),
                    None => held.permit = Some(permit),
                },
                only_one = self.overdraft.clone().acquire_owned(), if may_overdraw => {
                    let only_one = only_one.expect("the overdraft is never closed");
                    held.overdraft = Some(Overdraft { _only_one: only_one, deadline: now + OVERDRAFT_MAX });
                }
            }
        }
        held.room = bytes;
    }
}

impl Held {
    /// How many bytes there is room for.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Until when the request must have arrived, if it is in the way of others.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.overdraft.as_ref().map(|overdraft| overdraft.deadline)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn requests_that_hold_all_of_the_budget_get_on_one_by_one() {
        let budget = ByteBudget::new(ByteCount::kib(128));
        let memory = RequestMemory::new(budget.clone());
        let now = Instant::now();
        let (mut first, mut second, mut third) = (Held::default(), Held::default(), Held::default());
        memory.grow(&mut first, 64 << 10, now).await;
        memory.grow(&mut second, 64 << 10, now).await;
        assert_eq!(budget.available(), ByteCount::ZERO);
        // Who holds nothing takes nothing from those who do.
        assert!(memory.grow(&mut third, 1, now).now_or_never().is_none());
        memory.grow(&mut first, 256 << 10, now).await;
        assert_eq!((first.room(), first.deadline()), (256 << 10, Some(now + OVERDRAFT_MAX)));
        assert!(memory.grow(&mut second, 256 << 10, now).now_or_never().is_none());
        assert_eq!((second.room(), second.deadline()), (64 << 10, None));
        drop(first);
        memory.grow(&mut second, 256 << 10, now).await;
        memory.grow(&mut third, 1, now).await;
        drop((second, third));
        assert_eq!(budget.available(), ByteCount::kib(128));
    }
}
