//! Memory for records in answers, of all connections together.
//!
//! Room is set aside before records are read, and given back once the answer has left. Clients that do not read what they asked
//! for, or read it a byte at a time, could between them hold all that there is. So while others find no room, an answer that has
//! had more time than a slow line needs is given up, and its connection with it. And there is a reserve behind the budget:
//! a number of places, each good for one small answer. A connection has at most one, since its fetches are answered one after the
//! other. When all places are taken, whoever has had one the longest, if that is longer than anyone needs who reads, loses it,
//! and the connection with it. So whoever reads gets on, however many do not.
//!
//! An answer with records from the bucket keeps whole chunks of a segment, which may be far more than itself. While loads of chunks
//! find no room, the oldest of these that has had its time is given up as well.
//!
//! Bounded by the budget, and a batch for each place of the reserve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_runtime::budget::{ByteBudget, BytePermit};
use aquifer_runtime::clock::Clock;
use aquifer_runtime::tasks::TaskGroup;
use aquifer_tiering::Tier;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Answers that the reserve is good for at a time.
const PLACES: usize = 64;
/// How long an answer keeps its place in the reserve, even though others want it.
const HOLD_MIN: Duration = Duration::from_secs(1);

/// How long an answer may take to leave while others find no room, besides what it needs at the rate below.
const LEAVE_MAX: Duration = Duration::from_secs(2);
const BYTES_PER_SECOND_MIN: u64 = 4 << 20;

/// The budget (`queued.max.response.bytes`), and the reserve.
#[derive(Debug, Clone)]
pub(crate) struct AnswerMemory {
    budget: ByteBudget,
    lent: Arc<Mutex<Lent>>,
    reserve: Arc<Reserve>,
}

/// What one answer holds of it, until dropped.
#[derive(Debug)]
pub(crate) struct Held(Holding);

#[derive(Debug)]
enum Holding {
    Budget(Loan),
    Reserve(Place),
}

#[derive(Debug, Default)]
struct Lent {
    numbers: u64,
    /// By their number, which is their order.
    by_number: BTreeMap<u64, Due>,
}

/// Until when an answer may keep what it has, should others need it.
#[derive(Debug)]
struct Due {
    taken: Instant,
    at: Instant,
    /// It keeps chunks.
    cold: bool,
    recalled: CancellationToken,
}

#[derive(Debug)]
struct Loan {
    permit: BytePermit,
    lent: Arc<Mutex<Lent>>,
    number: u64,
    recalled: CancellationToken,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.lent.lock().by_number.remove(&self.number);
    }
}

#[derive(Debug)]
struct Reserve {
    places: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    numbers: u64,
    /// By their number, which is their order.
    by_number: BTreeMap<u64, Standing>,
}

/// Who has a place.
#[derive(Debug)]
struct Standing {
    since: Instant,
    /// It keeps chunks.
    cold: bool,
    recalled: CancellationToken,
}

#[derive(Debug)]
struct Place {
    reserve: Arc<Reserve>,
    number: u64,
    recalled: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.reserve.taken.lock().by_number.remove(&self.number);
    }
}

impl Held {
    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: ByteCount) {
        match &mut self.0 {
            Holding::Budget(loan) => {
                loan.permit.shrink_to(bytes);
                if let Some(due) = loan.lent.lock().by_number.get_mut(&loan.number) {
                    due.at = due.taken + patience(bytes);
                }
            }
            Holding::Reserve(_) => {}
        }
    }

    /// Says that the answer keeps chunks.
    pub(super) fn keeps_chunks(&self) {
        match &self.0 {
            Holding::Budget(loan) => {
                if let Some(due) = loan.lent.lock().by_number.get_mut(&loan.number) {
                    due.cold = true;
                }
            }
            Holding::Reserve(place) => {
                if let Some(standing) = place.reserve.taken.lock().by_number.get_mut(&place.number) {
                    standing.cold = true;
                }
            }
        }
    }

    /// Waits until others need it more, and the answer is to be given up; for most that is never.
    pub(crate) async fn recalled(&self) {
        match &self.0 {
            Holding::Budget(loan) => loan.recalled.cancelled().await,
            Holding::Reserve(place) => place.recalled.cancelled().await,
        }
    }
}

impl AnswerMemory {
    pub(crate) fn new(bytes: ByteCount) -> AnswerMemory {
        let reserve = Reserve { places: PLACES, taken: Mutex::default() };
        AnswerMemory { budget: ByteBudget::new(bytes), lent: Arc::default(), reserve: Arc::new(reserve) }
    }

    /// Takes room in the budget if there is some at once.
    pub(crate) fn try_take(&self, bytes: ByteCount, now: Instant) -> Option<Held> {
        self.budget.try_take(bytes).map(|permit| self.lend(permit, now))
    }

    /// Waits for room in the budget, in turn. Before, it recalls an answer that has had its time.
    pub(super) async fn take(&self, bytes: ByteCount, clock: Clock) -> Held {
        self.recall(clock.now());
        let permit = self.budget.take(bytes).await;
        self.lend(permit, clock.now())
    }

    fn lend(&self, permit: BytePermit, now: Instant) -> Held {
        let recalled = CancellationToken::new();
        let at = now + patience(permit.bytes());
        let due = Due { taken: now, at, cold: false, recalled: recalled.clone() };
        let mut lent = self.lent.lock();
        lent.numbers += 1;
        let number = lent.numbers;
        lent.by_number.insert(number, due);
        Held(Holding::Budget(Loan { permit, lent: self.lent.clone(), number, recalled }))
    }

    /// Recalls the oldest answer that is past its time.
    fn recall(&self, now: Instant) {
        self.recall_if(|due| due.at <= now);
    }

    /// From now on, gives up answers that keep chunks while loads of others find no room.
    pub(crate) fn make_way_for(&self, tier: Tier, clock: Clock, group: &TaskGroup) {
        let (memory, cancelled) = (self.clone(), group.cancelled().clone());
        group.spawn("chunk-recall", async move {
            loop {
                tokio::select! {
                    () = cancelled.cancelled() => return,
                    () = tier.short_of_memory() => memory.recall_chunks(clock.now()),
                }
            }
        });
    }

    /// Recalls the oldest answer that is past its time and keeps chunks.
    fn recall_chunks(&self, now: Instant) {
        if self.recall_if(|due| due.cold && due.at <= now) {
            return;
        }
        let mut taken = self.reserve.taken.lock();
        let late = |standing: &Standing| standing.cold && now.duration_since(standing.since) >= LEAVE_MAX;
        let late = taken.by_number.iter().find(|(_, standing)| late(standing)).map(|(number, _)| *number);
        if let Some(standing) = late.and_then(|number| taken.by_number.remove(&number)) {
            standing.recalled.cancel();
        }
    }

    fn recall_if(&self, is_due: impl Fn(&Due) -> bool) -> bool {
        let mut lent = self.lent.lock();
        let late = lent.by_number.iter().find(|(_, due)| is_due(due)).map(|(number, _)| *number);
        let late = late.and_then(|number| lent.by_number.remove(&number));
        late.inspect(|due| due.recalled.cancel()).is_some()
    }

    /// Takes a place in the reserve, if there is one or somebody has had one for too long.
    pub(super) fn take_reserve(&self, now: Instant) -> Option<Held> {
        let mut taken = self.reserve.taken.lock();
        if taken.by_number.len() >= self.reserve.places {
            let oldest = taken.by_number.first_entry()?;
            if now.duration_since(oldest.get().since) < HOLD_MIN {
                return None;
            }
            oldest.remove().recalled.cancel();
        }
        taken.numbers += 1;
        let (number, recalled) = (taken.numbers, CancellationToken::new());
        taken.by_number.insert(number, Standing { since: now, cold: false, recalled: recalled.clone() });
        Some(Held(Holding::Reserve(Place { reserve: self.reserve.clone(), number, recalled })))
    }
}

fn patience(bytes: ByteCount) -> Duration {
    LEAVE_MAX + Duration::from_secs(bytes.get() / BYTES_PER_SECOND_MIN)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_had_more_time_than_a_slow_line_needs_makes_way_and_no_other() {
        let memory = AnswerMemory::new(ByteCount::mib(16));
        let clock = Clock::system();
        let long_ago = clock.now() - Duration::from_secs(4);
        let large = memory.try_take(ByteCount::mib(14), long_ago).expect("there is room");
        let mut small = memory.try_take(ByteCount::mib(2), long_ago).expect("there is room");
        small.shrink_to(ByteCount::mib(1));
        let young = memory.try_take(ByteCount::mib(1), clock.now()).expect("there is room");
        assert!(memory.take(ByteCount::mib(1), clock).now_or_never().is_none());
        // Four seconds: enough for 1 MiB, not for 14.
        assert!(small.recalled().now_or_never().is_some());
        assert!(large.recalled().now_or_never().is_none() && young.recalled().now_or_never().is_none());
        drop(small);
        assert!(memory.take(ByteCount::mib(1), clock).now_or_never().is_some());
        assert!(large.recalled().now_or_never().is_none(), "nobody needed its room");
    }

    #[tokio::test]
    async fn of_answers_that_keep_chunks_the_oldest_that_had_its_time_makes_way() {
        let memory = AnswerMemory::new(ByteCount::mib(16));
        let now = Clock::system().now();
        let long_ago = now - Duration::from_secs(4);
        let hot = memory.try_take(ByteCount::mib(1), long_ago).expect("there is room");
        let cold = memory.try_take(ByteCount::mib(1), long_ago).expect("there is room");
        let young = memory.try_take(ByteCount::mib(1), now).expect("there is room");
        let place = memory.take_reserve(long_ago).expect("a place");
        [&cold, &young, &place].into_iter().for_each(Held::keeps_chunks);
        let recalled = || [&hot, &cold, &young, &place].map(|held| held.recalled().now_or_never().is_some());
        memory.recall_chunks(now);
        assert_eq!(recalled(), [false, true, false, false]);
        memory.recall_chunks(now);
        assert_eq!(recalled(), [false, true, false, true]);
        memory.recall_chunks(now);
        assert_eq!(recalled(), [false, true, false, true], "nobody else has had its time");
    }

    #[tokio::test]
    async fn whoever_has_stood_in_the_reserve_the_longest_makes_way() {
        let memory = AnswerMemory::new(ByteCount::kib(64));
        let began = aquifer_runtime::clock::Clock::system().now();
        let mut held: Vec<Held> = (0..PLACES).filter_map(|_| memory.take_reserve(began)).collect();
        assert_eq!(held.len(), PLACES);
        assert!(memory.take_reserve(began + HOLD_MIN / 2).is_none(), "these may yet be reading");
        // One that was read makes room without anybody's loss.
        held.remove(1);
        held.push(memory.take_reserve(began + HOLD_MIN / 2).expect("a place"));
        assert!(held.iter().all(|held| held.recalled().now_or_never().is_none()));
        let late = memory.take_reserve(began + HOLD_MIN).expect("a place");
        let recalled = held.iter().map(|held| held.recalled().now_or_never().is_some());
        assert!(recalled.eq((0..PLACES).map(|at| at == 0)), "the first, and no other");
        drop((held, late));
        let again: Vec<Held> = (0..PLACES).filter_map(|_| memory.take_reserve(began)).collect();
        assert_eq!(again.len(), PLACES, "a place that was taken away is not given back twice");
    }
}
