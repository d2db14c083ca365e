//! What a Fetch brings together: hot and cold, within the limits of one request and of the broker's memory.
//!
//! What is hot is read first, in order; beside cold partitions it takes at most half of the answer, so that neither kind can
//! starve the other. What is cold is asked of the bucket, all partitions side by side, and waited for at most
//! `remote.fetch.max.wait.ms`; once there is enough to answer, what is not just behind is left for the next request, which
//! finds its load further on. While nothing is there, the watermarks are waited for: never a tick.
//!
//! Memory: room for the records is set aside before they are read, and stays so until the answer has left. Who finds little room
//! answers short; who finds none waits for a little, holding nothing, and then takes a place in the reserve
//! ([`super::answer_memory`]). So no two answers can wait for each other. Beyond its room goes at most one batch an answer
//! (KIP-74).

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, EpochStart, LeaderEpoch};
use aquifer_protocol::ErrorCode;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Instant;

use super::answer_memory::Held;
use super::context::Context;
use super::errors;
use super::fetch_session::Wanted;
use crate::log::{AtLeast, Stored};
use crate::replica::error::ReadError;
use crate::replica::read::{Batches, ColdRead, Found, Isolation, ReadRequest};
use crate::replica::{Marks, Replica};

/// The least that an answer waits for room for, where it cannot have all that it asks.
const ROOM_MIN: ByteCount = ByteCount::kib(64);
/// How long an answer waits for its turn before it takes a place in the reserve: longer than those who read need to make room.
const TURN_MAX: Duration = Duration::from_millis(100);
/// How long an answer that is complete waits for cold data that may be just behind.
const STRAGGLERS: Duration = Duration::from_millis(10);
/// After so much that was read from memory, others get their turn: where it has to be verified, some tenths of a millisecond.
const YIELD_BYTES: ByteCount = ByteCount::kib(512);

/// A partition to read, if it can be.
pub(super) struct Target {
    pub(super) wanted: Wanted,
    pub(super) replica: Result<Arc<Replica>, ErrorCode>,
}

/// What is answered for one partition.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) error: ErrorCode,
    pub(super) batches: Batches<Stored>,
    pub(super) diverging: Option<EpochStart>,
}

/// All answers, in the order of the targets, and the memory set aside for them.
pub(super) struct Gathered {
    pub(super) answers: Vec<Answer>,
    pub(super) memory: Option<Held>,
}

/// The limits of one request.
#[derive(Debug)]
pub(super) struct Gathering {
    pub(super) isolation: Isolation,
    pub(super) bytes_min: usize,
    pub(super) bytes_max: ByteCount,
    pub(super) deadline: Instant,
    pub(super) cold_deadline: Instant,
}

/// Room for records; without memory there is none, not even for one batch.
struct Room {
    bytes: ByteCount,
    memory: Option<Held>,
}

/// A partition's read from the bucket, not begun yet.
struct Cold {
    at: usize,
    replica: Arc<Replica>,
    read: ColdRead,
    share: ByteCount,
}

/// What a look at all partitions found.
#[derive(Default)]
struct Look {
    answers: Vec<Answer>,
    cold: Vec<Cold>,
    /// Some of the answers came from the bucket.
    any_cold: bool,
    /// Room that is left for whoever comes next.
    left: ByteCount,
    used: ByteCount,
}

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Answer: nothing is gained by waiting.
    Answer,
    /// Look again: a partition that had nothing has some now.
    LookAgain,
    /// Wait, if there is not enough yet.
    Wait,
}

impl Gathering {
    /// Reads until there is enough, or time is up.
    pub(super) async fn run(&self, context: &Context, targets: &[Target]) -> Gathered {
        loop {
            // Subscribe before reading: what arrives in between wakes the wait below.
            let marks = targets.iter().filter_map(|target| Some(target.replica.as_ref().ok()?.marks()));
            let mut marks: Vec<_> = marks.collect();
            let mut room = self.room(context, targets).await;
            let mut look = self.look(context, targets, &room).await;
            let next = self.read_cold(context, &mut look, &mut marks).await;
            let size = size_of(&look.answers);
            let late = context.world.clock.now() >= self.deadline;
            if late || size >= self.bytes_min || targets.is_empty() || next == Next::Answer {
                return room.keep(look);
            }
            // Batches are given whole, and there may be little memory: what is there can be enough, and what the limits let in less.
            let is_cut = || look.answers.iter().any(|answer| answer.batches.cut);
            if size > 0 && next == Next::Wait && is_cut() && self.may_be_enough(targets) {
                return room.keep(look);
            }
            if next == Next::LookAgain {
                continue;
            }
            // Nothing is held while waiting; too little to answer is read again.
            if size > 0 {
                look.answers.clear();
            }
            drop(room.memory.take());
            let in_time = self.wait_for_more(targets, &mut marks).await;
            if !in_time && size == 0 {
                return room.keep(look);
            }
        }
    }

    /// Sets room aside for what may be read.
    async fn room(&self, context: &Context, targets: &[Target]) -> Room {
        let wanted = targets
            .iter()
            .filter(|target| target.replica.is_ok())
            .map(|target| bytes_max(&target.wanted))
            .sum();
        let mut bytes = self.bytes_max.min(wanted);
        loop {
            if let Some(held) = context.answers.try_take(bytes, context.world.clock.now()) {
                return Room { bytes, memory: Some(held) };
            }
            if bytes <= ROOM_MIN {
                break;
            }
            context.metrics.fetches_short.inc();
            bytes = ByteCount(bytes.get() / 2).max(ROOM_MIN);
        }
        let mut turn = std::pin::pin!(context.answers.take(bytes, context.world.clock));
        let soon = self.deadline.min(context.world.clock.now() + TURN_MAX);
        if let Ok(held) = tokio::time::timeout_at(soon, &mut turn).await {
            return Room { bytes, memory: Some(held) };
        }
        if let Some(held) = context.answers.take_reserve(context.world.clock.now()) {
            context.metrics.fetches_from_reserve.inc();
            return Room { bytes, memory: Some(held) };
        }
        match tokio::time::timeout_at(self.deadline, turn).await {
            Ok(held) => Room { bytes, memory: Some(held) },
            Err(_) => {
                context.metrics.fetches_without_room.inc();
                Room { bytes: ByteCount::ZERO, memory: None }
            }
        }
    }

    /// Reads what is hot, and finds what is cold.
    async fn look(&self, context: &Context, targets: &[Target], room: &Room) -> Look {
        let is_cold = |at: &usize| {
            let target = &targets[*at];
            target.replica.as_ref().is_ok_and(|replica| replica.is_cold(target.wanted.fetch_offset))
        };
        let (cold, hot): (Vec<usize>, Vec<usize>) = (0..targets.len()).partition(is_cold);
        let answers = targets.iter().map(|_| Answer::default()).collect();
        let left = if cold.is_empty() { room.bytes } else { ByteCount(room.bytes.get().div_ceil(2)) };
        let mut look = Look { answers, left, ..Look::default() };
        let mut yielded = ByteCount::ZERO;
        for at in hot {
            self.look_at(context, &mut look, at, &targets[at], room).await;
            if look.used.saturating_sub(yielded) >= YIELD_BYTES {
                yielded = look.used;
                tokio::task::yield_now().await;
            }
        }
        look.left = room.bytes.saturating_sub(look.used);
        for at in cold {
            self.look_at(context, &mut look, at, &targets[at], room).await;
        }
        look
    }

    async fn look_at(&self, context: &Context, look: &mut Look, at: usize, target: &Target, room: &Room) {
        let replica = match &target.replica {
            Ok(replica) => replica,
            Err(code) => {
                look.answers[at].error = *code;
                return;
            }
        };
        let Wanted { fetch_offset, last_fetched_epoch, .. } = target.wanted;
        if let Some(epoch) = LeaderEpoch::new(last_fetched_epoch) {
            look.answers[at].diverging = replica.divergence(epoch, fetch_offset);
            if look.answers[at].diverging.is_some() {
                return;
            }
        }
        let share = bytes_max(&target.wanted).min(look.left);
        // Even where the client's limit is nothing, but not where there is no memory for it.
        let first = look.used == ByteCount::ZERO && look.cold.is_empty() && room.memory.is_some();
        let request = ReadRequest {
            offset: fetch_offset,
            bytes_max: share,
            at_least: if first { AtLeast::OneBatch } else { AtLeast::Nothing },
            isolation: self.isolation,
        };
        match replica.read(request).await {
            Ok(Found::Hot(batches)) => {
                let size = ByteCount(batches.size() as u64);
                look.used += size;
                look.left = look.left.saturating_sub(size);
                look.answers[at].batches = batches;
            }
            // What has no room left in this answer is not asked for: it comes sooner in a later one.
            Ok(Found::Cold(_)) if share == ByteCount::ZERO && !first => {}
            Ok(Found::Cold(read)) => {
                look.left = look.left.saturating_sub(share);
                look.cold.push(Cold { at, replica: replica.clone(), read, share });
            }
            Err(error) => look.answers[at] = failed(context, replica, &error),
        }
    }

    /// Reads what is cold, all at once.
    async fn read_cold(
        &self,
        context: &Context,
        look: &mut Look,
        marks: &mut [watch::Receiver<Marks>],
    ) -> Next {
        let urgent = look.answers.iter().any(|answer| !answer.error.is_none() || answer.diverging.is_some());
        if look.cold.is_empty() {
            return if urgent { Next::Answer } else { Next::Wait };
        }
        let mut size = size_of(&look.answers);
        let enough = self.bytes_min.max(1);
        let mut until = self.cold_deadline;
        if size >= enough || urgent {
            until = until.min(context.world.clock.now() + STRAGGLERS);
        }
        let cold = std::mem::take(&mut look.cold);
        let shares: Vec<(usize, ByteCount)> = cold.iter().map(|cold| (cold.at, cold.share)).collect();
        let mut reads: FuturesUnordered<_> =
            cold.into_iter().map(|cold| self.read_one_cold(context, cold)).collect();
        let mut changes: FuturesUnordered<_> = marks.iter_mut().map(|marks| marks.changed()).collect();
        let mut next = Next::Answer;
        loop {
            tokio::select! {
                biased;
                read = reads.next() => match read {
                    None => break,
                    Some((at, answer)) => {
                        size += answer.batches.size();
                        look.any_cold |= !answer.batches.slices.is_empty();
                        look.answers[at] = answer;
                        if size >= enough {
                            until = until.min(context.world.clock.now() + STRAGGLERS);
                        }
                    }
                },
                Some(_) = changes.next(), if size < enough => {
                    next = Next::LookAgain;
                    break;
                }
                // The reads that are dropped here go on behind the bucket's cache.
                () = tokio::time::sleep_until(until) => break,
            }
        }
        let mut sizes =
            shares.iter().map(|(at, share)| (ByteCount(look.answers[*at].batches.size() as u64), *share));
        for oversized in oversized(look.used > ByteCount::ZERO, &mut sizes) {
            look.answers[shares[oversized].0].batches = Batches::default();
        }
        next
    }

    async fn read_one_cold(&self, context: &Context, cold: Cold) -> (usize, Answer) {
        let read = cold.replica.read_cold(context.tier.as_ref(), cold.read, self.cold_deadline).await;
        let answer = match read {
            Ok(batches) => Answer { batches, ..Answer::default() },
            Err(error) => failed(context, &cold.replica, &error),
        };
        (cold.at, answer)
    }

    /// Waits until there may be enough; gives whether time is left.
    async fn wait_for_more(&self, targets: &[Target], marks: &mut [watch::Receiver<Marks>]) -> bool {
        loop {
            let mut changes: FuturesUnordered<_> = marks.iter_mut().map(|marks| marks.changed()).collect();
            if tokio::time::timeout_at(self.deadline, changes.next()).await.is_err() {
                return false;
            }
            drop(changes);
            if self.bytes_min <= 1 || self.may_be_enough(targets) {
                return true;
            }
        }
    }

    /// Whether it is time to read: by what the logs say that they hold, without a look at any file.
    fn may_be_enough(&self, targets: &[Target]) -> bool {
        let mut bytes = ByteCount::ZERO;
        for target in targets {
            let Ok(replica) = &target.replica else { continue };
            if replica.check_leader(target.wanted.current_leader_epoch).is_err() {
                return true;
            }
            bytes +=
                replica.available(target.wanted.fetch_offset, self.isolation).min(bytes_max(&target.wanted));
        }
        bytes >= ByteCount(self.bytes_min as u64).min(self.bytes_max)
    }
}

impl Room {
    /// Holds on to what the answers take.
    fn keep(self, look: Look) -> Gathered {
        let Look { answers, any_cold, .. } = look;
        let size = ByteCount(size_of(&answers) as u64);
        let mut memory = self.memory;
        match &mut memory {
            Some(held) if size > ByteCount::ZERO => {
                held.shrink_to(size);
                if any_cold {
                    held.keeps_chunks();
                }
            }
            _ => memory = None,
        }
        Gathered { answers, memory }
    }
}

fn bytes_max(wanted: &Wanted) -> ByteCount {
    ByteCount(u64::try_from(wanted.bytes_max).unwrap_or(0))
}

fn size_of(answers: &[Answer]) -> usize {
    answers.iter().map(|answer| answer.batches.size()).sum()
}

/// The bucket gives a first batch whole, however large, but an answer has at most one batch that is larger than its share, and
/// only as its first. Gives the places of the others.
fn oversized(mut any: bool, sizes: &mut dyn Iterator<Item = (ByteCount, ByteCount)>) -> Vec<usize> {
    let mut too_large = Vec::new();
    for (at, (size, share)) in sizes.enumerate() {
        if any && size > share {
            too_large.push(at);
        }
        any |= size > ByteCount::ZERO;
    }
    too_large
}

fn failed(context: &Context, replica: &Replica, error: &ReadError) -> Answer {
    match error {
        ReadError::Pending | ReadError::NotYet | ReadError::OutOfRange { .. } | ReadError::Role(_) => {}
        ReadError::Log(_) | ReadError::Tier(_) | ReadError::Manifest(_) | ReadError::NoTier { .. } => {
            context.metrics.reads_failed.inc();
            tracing::warn!(partition = %replica.partition(), topic = %replica.topic(), %error, "fetch failed");
        }
    }
    Answer { error: errors::of_read(error), ..Answer::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_batch_of_an_answer_may_be_larger_than_its_share() {
        for (any, sizes, expected) in [
            (false, &[(10, 5), (10, 5), (5, 5)][..], &[1][..]),
            (false, &[(0, 5), (10, 5), (6, 5)], &[2]),
            (true, &[(10, 5), (5, 5), (0, 0)], &[0]),
            (false, &[], &[]),
        ] {
            let mut sizes = sizes.iter().map(|&(size, share)| (ByteCount(size), ByteCount(share)));
            assert_eq!(oversized(any, &mut sizes), expected);
        }
    }
}
