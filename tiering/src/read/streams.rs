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
    /// It was given data; one that was not is expected at the same place, and coming back there proves nothing.
    answered: bool,
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

    /// Takes the reader that is expected at this place; a stranger is a new one.
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
                if stream.answered {
                    stream.ahead.returned(now.duration_since(stream.seen), limits);
                }
                (stream.id, stream.ahead)
            }
            None => {
                inner.ids += 1;
                (ReaderId(inner.ids), Ahead::new())
            }
        }
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
        let stream = Stream { id, ahead, segment, seen: now, answered };
        let place = (partition, offset);
        let mut inner = self.inner.lock();
        let Some(known) = inner.waiting.get_mut(&place) else {
            let forgotten =
                if inner.waiting.len() >= self.streams_max { inner.forget_oldest() } else { None };
            inner.waiting.insert(place, stream);
            return forgotten;
        };
        known.seen = now;
        if known.ahead.window(ByteCount(u64::MAX)) > ahead.window(ByteCount(u64::MAX)) {
            return Some(id);
        }
        Some(std::mem::replace(known, stream).id)
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
