//! Memory for requests on their way in, of all connections together.
//!
//! A connection pays for a request step by step, as its bytes arrive, so that announcing a large one costs a stranger nothing and
//! us as little. Paying in steps could end with all of the budget in the hands of requests that each wait for more; so one
//! request at a time, of those that hold something already, may go on without paying. There is always one that gets on, and
//! memory is bounded by the budget and one request.
//!
//! Requests that come together are read together into a block, which is paid for as a whole and held until the last of them is
//! answered. Blocks are for when there is plenty, since what lies in one may have to wait for long: for a client that is over its
//! quota, or behind a request that waits for others. A connection that gets none pays for each request alone.
//!
//! What was paid for must arrive: each step has its time (`socket.request.arrival.ms`), and much less of it while others wait for
//! memory ([`Held::lapse`]). So strangers who announce requests and do not send them cannot keep the budget from those who do.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_runtime::budget::{ByteBudget, BytePermit};
use aquifer_runtime::clock::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// How long what was paid for may take to arrive while others wait for memory.
const PRESSED_MAX: Duration = Duration::from_secs(3);
/// Either time is longer by what the bytes need at this rate: a slow line is no attack.
const BYTES_PER_SECOND_MIN: u64 = 64 << 10;

/// The budget (`queued.max.request.bytes`).
#[derive(Debug, Clone)]
pub(crate) struct RequestMemory {
    budget: ByteBudget,
    overdraft: Arc<Semaphore>,
    arrival_max: Duration,
    /// How many wait for memory.
    waiting: Arc<watch::Sender<usize>>,
}

/// Memory that requests of one connection share: held until the last of them is answered, and nothing has come of a next one there.
pub(super) type Block = Arc<BytePermit>;

/// One that waits, until dropped.
struct Waiting<'a>(&'a watch::Sender<usize>);

/// What one request holds of it, until it is answered.
#[derive(Debug, Default)]
pub(super) struct Held {
    room: usize,
    permit: Option<BytePermit>,
    /// Memory that it shares with others of its connection.
    block: Option<Block>,
    overdraft: Option<OwnedSemaphorePermit>,
    /// The newest step: when it was paid for, and what its bytes take on a slow line.
    step: Option<(Instant, Duration)>,
}

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a watch::Sender<usize>) -> Waiting<'a> {
        waiting.send_modify(|count| *count += 1);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl RequestMemory {
    /// `arrival_max`: how long a step of a request may take to arrive (`socket.request.arrival.ms`).
    pub(crate) fn new(budget: ByteBudget, arrival_max: Duration) -> RequestMemory {
        let waiting = Arc::new(watch::Sender::new(0));
        RequestMemory { budget, overdraft: Arc::new(Semaphore::new(1)), arrival_max, waiting }
    }

    /// Waits until `held` has room for `bytes`. Cancel-safe; whoever gives up waits at the end of the queue next time.
    pub(super) async fn grow(&self, held: &mut Held, bytes: usize, clock: Clock) {
        let more = bytes.saturating_sub(held.room);
        if more == 0 {
            return;
        }
        if held.overdraft.is_none() {
            match self.budget.try_take(ByteCount(more as u64)) {
                Some(permit) => held.add(permit),
                None => self.wait(held, ByteCount(more as u64)).await,
            }
        }
        held.block = None;
        held.room = bytes;
        held.step = Some((clock.now(), slow_line(more)));
    }

    /// Memory of `bytes` for several requests of a connection, if there is plenty: three quarters of the budget are left to those
    /// who take no more than they need.
    pub(super) fn try_block(&self, bytes: usize) -> Option<Block> {
        let (bytes, max) = (ByteCount(bytes as u64), self.budget.max());
        let plenty = self.budget.available().get() >= max.get() / 4 * 3 + bytes.get();
        plenty.then(|| self.budget.try_take(bytes))?.map(Arc::new)
    }

    async fn wait(&self, held: &mut Held, more: ByteCount) {
        let _waiting = Waiting::begin(&self.waiting);
        let may_overdraw = held.permit.is_some() || held.block.is_some();
        tokio::select! {
            biased;
            permit = self.budget.take(more) => held.add(permit),
            only_one = self.overdraft.clone().acquire_owned(), if may_overdraw => {
                held.overdraft = Some(only_one.expect("the overdraft is never closed"));
            }
        }
    }
}

/// What `bytes` take on a slow line.
fn slow_line(bytes: usize) -> Duration {
    Duration::from_secs(bytes as u64 / BYTES_PER_SECOND_MIN)
}

impl Held {
    /// How many bytes there is room for.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Has room for `bytes` in a block from now on.
    pub(super) fn share(&mut self, block: &Block, bytes: usize, clock: Clock) {
        self.block = Some(block.clone());
        self.room = bytes;
        self.step = Some((clock.now(), slow_line(bytes)));
    }

    /// Holds a block until it has paid for memory of its own.
    pub(super) fn leave(&mut self, block: Block) {
        self.block = Some(block);
    }

    fn add(&mut self, permit: BytePermit) {
        match &mut self.permit {
            Some(have) => have.merge(permit),
            None => self.permit = Some(permit),
        }
    }

    /// Waits until what was paid for should have arrived; for ever while nothing was.
    pub(super) async fn lapse(&self, memory: &RequestMemory) {
        let Some((paid, slow_line)) = self.step else { return std::future::pending().await };
        let pressed = async {
            // The sender lives as long as any connection.
            drop(memory.waiting.subscribe().wait_for(|waiting| *waiting > 0).await);
            tokio::time::sleep_until(paid + PRESSED_MAX + slow_line).await;
        };
        drop(tokio::time::timeout_at(paid + memory.arrival_max + slow_line, pressed).await);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn memory(budget: &ByteBudget) -> (RequestMemory, Clock) {
        (RequestMemory::new(budget.clone(), Duration::from_secs(30)), Clock::system())
    }

    #[tokio::test]
    async fn requests_that_hold_all_of_the_budget_get_on_one_by_one() {
        let budget = ByteBudget::new(ByteCount::kib(128));
        let (memory, clock) = memory(&budget);
        let (mut first, mut second, mut third) = (Held::default(), Held::default(), Held::default());
        memory.grow(&mut first, 64 << 10, clock).await;
        memory.grow(&mut second, 64 << 10, clock).await;
        assert_eq!(budget.available(), ByteCount::ZERO);
        // Who holds nothing takes nothing from those who do.
        assert!(memory.grow(&mut third, 1, clock).now_or_never().is_none());
        memory.grow(&mut first, 256 << 10, clock).await;
        assert_eq!(first.room(), 256 << 10);
        assert!(memory.grow(&mut second, 256 << 10, clock).now_or_never().is_none());
        assert_eq!(second.room(), 64 << 10);
        drop(first);
        memory.grow(&mut second, 256 << 10, clock).await;
        memory.grow(&mut third, 1, clock).await;
        drop((second, third));
        assert_eq!(budget.available(), ByteCount::kib(128));
    }

    #[tokio::test]
    async fn a_block_is_for_when_there_is_plenty_and_held_until_the_last_has_left_it() {
        let budget = ByteBudget::new(ByteCount::kib(128));
        let (memory, clock) = memory(&budget);
        assert!(memory.try_block((32 << 10) + 1).is_none());
        let block = memory.try_block(32 << 10).expect("there is plenty");
        assert!(memory.try_block(1).is_none());
        let (mut first, mut second) = (Held::default(), Held::default());
        first.share(&block, 16 << 10, clock);
        second.share(&block, 8 << 10, clock);
        assert_eq!((first.room(), second.room()), (16 << 10, 8 << 10));
        drop(first);
        assert_eq!(budget.available(), ByteCount::kib(96));
        // What leaves it holds it until it has memory of its own, and waits for that like one that has some.
        let mut third = Held::default();
        third.leave(block);
        drop(second);
        let others = budget.try_take(ByteCount::kib(96));
        assert!(others.is_some());
        memory
            .grow(&mut third, 1, clock)
            .now_or_never()
            .expect("it is the only one, and goes on without paying");
        assert_eq!(budget.available(), ByteCount::kib(32));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_paid_for_has_its_time_and_much_less_while_others_wait() {
        let budget = ByteBudget::new(ByteCount::kib(128));
        let (memory, clock) = memory(&budget);
        let mut held = Held::default();
        assert!(held.lapse(&memory).now_or_never().is_none(), "nothing was paid for");
        let began = clock.now();
        memory.grow(&mut held, 128 << 10, clock).await;
        held.lapse(&memory).await;
        // Two seconds are what its bytes may take on a slow line.
        assert_eq!(clock.now() - began, Duration::from_secs(32));
        let mut other = Held::default();
        let began = clock.now();
        tokio::select! {
            () = memory.grow(&mut other, 1, clock) => panic!("there is no memory for it"),
            () = held.lapse(&memory) => {}
        }
        assert!(clock.now() - began <= Duration::from_millis(1), "its time under pressure was over already");
    }
}
