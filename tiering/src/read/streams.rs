//! Readers, recognised by where they go on.
//!
//! A fetch carries no session worth the name: what makes two of them one reader is that the second starts where the first one
//! ended. So a reader's state is kept under the offset that it will ask for next.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aquifer_model::{ByteCount, Offset, TopicPartition};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::ahead::Ahead;

/// A reader that has not come back for so long takes no share.
const IDLE: Duration = Duration::from_secs(5);
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
    sharers: usize,
    counted: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    ahead: Ahead,
    /// The segment that it is in: readers of one segment share its chunks.
    segment: Offset,
    seen: Instant,
    /// It was given data; one that was not is expected at the same place, and coming back there proves nothing.
    answered: bool,
}

impl Streams {
    /// No readers yet; `total` is what may be read ahead over all of them.
    pub(super) fn new(total: ByteCount, streams_max: usize) -> Streams {
        Streams { total, streams_max, inner: Mutex::default() }
    }

    /// Takes the reader that is expected at this place; a stranger is a new one.
    pub(super) fn take(&self, partition: TopicPartition, offset: Offset, chunk: ByteCount) -> Ahead {
        match self.inner.lock().waiting.remove(&(partition, offset)) {
            Some(mut stream) => {
                if stream.answered {
                    stream.ahead.returned(chunk);
                }
                stream.ahead
            }
            None => Ahead::new(),
        }
    }

    /// Expects a reader behind what it was given.
    pub(super) fn expect(
        &self,
        partition: TopicPartition,
        offset: Offset,
        segment: Offset,
        ahead: Ahead,
        now: Instant,
    ) {
        self.put((partition, offset), Stream { ahead, segment, seen: now, answered: true });
    }

    /// Expects a reader that was given nothing at the same place again.
    pub(super) fn expect_again(
        &self,
        partition: TopicPartition,
        offset: Offset,
        segment: Offset,
        ahead: Ahead,
        now: Instant,
    ) {
        self.put((partition, offset), Stream { ahead, segment, seen: now, answered: false });
    }

    /// Where two are expected at one place, the one with the wider window stays.
    fn put(&self, place: Place, stream: Stream) {
        let mut inner = self.inner.lock();
        if inner.waiting.len() >= self.streams_max {
            let oldest = inner.waiting.iter().min_by_key(|(_, stream)| stream.seen).map(|(place, _)| *place);
            oldest.map(|place| inner.waiting.remove(&place));
        }
        let known = inner.waiting.entry(place).or_insert(stream);
        if known.ahead.window(ByteCount(u64::MAX)) <= stream.ahead.window(ByteCount(u64::MAX)) {
            *known = stream;
        }
        known.seen = stream.seen;
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
