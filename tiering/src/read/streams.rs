//! Readers, recognised by where they go on.
//!
//! A fetch carries no session worth the name: what makes two of them one reader is that the second starts where the first one
//! ended. So a reader's state is kept under the offset that it will ask for next.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aquifer_model::{ByteCount, Offset, TopicPartition};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ahead::{Ahead, AheadLimits};
use super::readers::ReaderId;

/// A reader that has not come back for so long takes no share.
pub(super) const IDLE: Duration = Duration::from_secs(5);
/// How often the shares are counted anew.
const RECOUNT: Duration = Duration::from_millis(100);

/// Where a reader is expected.
type Place = (TopicPartition, Offset);

/// All readers.
#[derive(Debug)]
pub(super) struct Streams {
    total: ByteCount,
    streams_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<Place, Stream>,
    ids: u64,
    sharers: usize,
    counted: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    id: ReaderId,
    ahead: Ahead,
    /// The segment that it is in: readers of one segment share its chunks.
    segment: Offset,
    seen: Instant,
    /// When it was given data. One that was not is expected at the same place, and coming back there proves nothing.
    answered: Option<Instant>,
}

/// Where and how a reader is expected back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) offset: Offset,
    pub(super) segment: Offset,
    pub(super) answered: bool,
}

impl Inner {
    fn forget_oldest(&mut self) -> Option<ReaderId> {
        let oldest = self.waiting.iter().min_by_key(|(_, stream)| stream.seen).map(|(place, _)| *place);
        oldest.and_then(|place| self.waiting.remove(&place)).map(|stream| stream.id)
    }
}

impl Streams {
    /// No readers yet; `total` is what may be read ahead over all of them.
    pub(super) fn new(total: ByteCount, streams_max: usize) -> Streams {
        Streams { total, streams_max, inner: Mutex::default() }
    }

    /// Takes the reader that is expected at this place, and asked for it at `now`; a stranger is a new one.
    pub(super) fn take(
        &self,
        partition: TopicPartition,
        offset: Offset,
        limits: &AheadLimits,
        now: Instant,
    ) -> (ReaderId, Ahead) {
        let mut inner = self.inner.lock();
        match inner.waiting.remove(&(partition, offset)) {
            Some(mut stream) => {
                if let Some(answered) = stream.answered {
                    stream.ahead.returned(now.duration_since(answered), limits);
                }
                (stream.id, stream.ahead)
            }
            None => {
                inner.ids += 1;
                (ReaderId(inner.ids), Ahead::new())
            }
        }
    }

    /// Whether a reader is expected at this place.
    pub(super) fn expects(&self, partition: TopicPartition, offset: Offset) -> bool {
        self.inner.lock().waiting.contains_key(&(partition, offset))
    }

    /// Expects a reader where it will ask next. Where two are expected at one place, the one with the wider window stays. Gives
    /// the reader that is no longer expected anywhere, if there is one.
    pub(super) fn expect(
        &self,
        (id, ahead): (ReaderId, Ahead),
        partition: TopicPartition,
        expected: Expected,
        now: Instant,
    ) -> Option<ReaderId> {
        let Expected { offset, segment, answered } = expected;
        let answered = answered.then_some(now);
        let mut stream = Stream { id, ahead, segment, seen: now, answered };
        let place = (partition, offset);
        let mut inner = self.inner.lock();
        let Some(known) = inner.waiting.get_mut(&place) else {
            let forgotten =
                if inner.waiting.len() >= self.streams_max { inner.forget_oldest() } else { None };
            inner.waiting.insert(place, stream);
            return forgotten;
        };
        known.seen = now;
        // Whoever comes back first was away since the first of them was answered.
        stream.answered = known.answered.or(answered);
        known.answered = stream.answered;
        if known.ahead.window(ByteCount(u64::MAX)) > ahead.window(ByteCount(u64::MAX)) {
            return Some(id);
        }
        Some(std::mem::replace(known, stream).id)
    }

    /// The reader that is expected at this place came at `now`, and is to come again, which will prove nothing.
    pub(super) fn put_off(
        &self,
        partition: TopicPartition,
        offset: Offset,
        limits: &AheadLimits,
        now: Instant,
    ) {
        if let Some(stream) = self.inner.lock().waiting.get_mut(&(partition, offset)) {
            stream.seen = now;
            if let Some(answered) = stream.answered.take() {
                stream.ahead.returned(now.duration_since(answered), limits);
            }
        }
    }

    /// What may be read ahead of one reader. Readers of one segment count once: what is brought for one serves all.
    pub(super) fn share(&self, now: Instant) -> ByteCount {
        let mut inner = self.inner.lock();
        if inner.counted.is_none_or(|counted| now.duration_since(counted) >= RECOUNT) {
            inner.counted = Some(now);
            inner.waiting.retain(|_, stream| now.duration_since(stream.seen) < IDLE);
            let sequential = inner.waiting.iter().filter(|(_, stream)| stream.ahead.is_sequential());
            let distinct: HashSet<_> =
                sequential.map(|((partition, _), stream)| (*partition, stream.segment)).collect();
            inner.sharers = distinct.len();
        }
        ByteCount(self.total.get() / inner.sharers.max(1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aquifer_model::{PartitionIndex, TopicId};
    use aquifer_runtime::clock::Clock;
    use uuid::Uuid;

    use super::*;

    const PARTITION: TopicPartition =
        TopicPartition { topic: TopicId::new(Uuid::nil()), partition: PartitionIndex(0) };
    const LIMITS: AheadLimits = AheadLimits {
        chunk: ByteCount::mib(8),
        bytes_max: ByteCount::mib(192),
        horizon: Duration::from_secs(2),
    };

    fn offset(number: i64) -> Offset {
        Offset::new(number).unwrap()
    }

    /// Each second all of them read 10 MiB at one place, one some time behind the other. Gives the widest window
    /// of the last second.
    fn herd(readers: u32, behind: Duration) -> u64 {
        let streams = Streams::new(ByteCount::mib(256), 10);
        let start = Clock::system().now();
        let mut window = ByteCount::ZERO;
        for second in 0..60 {
            window = ByteCount::ZERO;
            for reader in 0..readers {
                let now = start + Duration::from_secs(second) + behind * reader;
                let place = offset(second as i64);
                let (id, mut ahead) = streams.take(PARTITION, place, &LIMITS, now);
                ahead.took(ByteCount::mib(10), &LIMITS);
                window = window.max(ahead.window(LIMITS.bytes_max));
                let expected =
                    Expected { offset: offset(second as i64 + 1), segment: Offset::ZERO, answered: true };
                streams.expect((id, ahead), PARTITION, expected, now);
            }
        }
        window.get() >> 20
    }

    #[test]
    fn a_herd_has_the_pace_of_one() {
        let one = herd(1, Duration::ZERO);
        assert!((16..=24).contains(&one), "10 MiB/s: {one}");
        let ten = herd(10, Duration::from_millis(25));
        assert!((16..=24).contains(&ten), "10 MiB/s each, at one place: {ten}");
    }

    #[test]
    fn one_that_was_put_off_has_come_back_once() {
        let streams = Streams::new(ByteCount::mib(256), 10);
        let (now, place) = (Clock::system().now(), offset(5));
        let expected = Expected { offset: place, segment: Offset::ZERO, answered: true };
        streams.expect((ReaderId(1), Ahead::new()), PARTITION, expected, now);
        let mut returned = Ahead::new();
        returned.returned(Duration::from_secs(1), &LIMITS);
        for after in 1..4 {
            streams.put_off(PARTITION, place, &LIMITS, now + Duration::from_secs(after));
        }
        let found = streams.take(PARTITION, place, &LIMITS, now + Duration::from_secs(4));
        assert_eq!(found, (ReaderId(1), returned));
    }
}
