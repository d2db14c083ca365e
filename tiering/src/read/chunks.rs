//! Parts of logs, brought back and kept.
//!
//! A log is cut into chunks on a fixed grid, so that whatever reads the same range asks for the same thing, and ten readers of
//! one history make the requests of one. There are two grids: a coarse one (8 MiB) that keeps a store's answers long, and a
//! fine one (1 MiB) for the first read of a reader that may never come back, so that it is answered early.
//!
//! A chunk's bytes count against the budget from before they are asked for until the last slice of them is dropped, be it in
//! the cache or in an answer on its way out. A load that waits for its part for long has the cache drop what nobody is to come to,
//! and says that memory is short: answers that their clients do not take can be given up then. Each chunk is verified once, as it
//! arrives, by the footer's block checksums.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, TopicPartition};
use aquifer_runtime::budget::{ByteBudget, BytePermit};
use aquifer_runtime::buffers::{Buffer, Buffers};
use aquifer_runtime::metrics::Gauge;
use aquifer_runtime::planted::{self, Planted};
use aquifer_runtime::tasks::TaskGroup;
use bytes::Bytes;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::filling::{Filling, Fillings};
use super::flights::{Flight, Flights};
use super::index::Indexes;
use super::readers::Readers;
use super::shelf::{Shelf, Shelfmark};
use super::{ReadError, ReadMetrics};
use crate::manifest::Entry;
use crate::object::{BLOCK_BYTES, BlockSums};
use crate::options::Options;
use crate::path::Key;
use crate::store::Store;

/// How long a load waits for memory before it asks for some to be given back, each time.
const SHORT_AFTER: Duration = Duration::from_millis(100);
/// The same of one that is read ahead, which nobody may be waiting for yet.
const SHORT_AFTER_AHEAD: Duration = Duration::from_secs(2);

/// Names a chunk: where it lies in which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ChunkKey {
    object: Key,
    position: u64,
    length: u64,
}

/// A part of a segment's log, on one of the grids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkRange {
    /// Where it starts in the log.
    pub start: u64,
    /// How long it is; less than a whole chunk only at the log's end.
    pub length: u64,
}

/// Whether somebody waits for a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Urgency {
    Awaited,
    Ahead,
}

/// What the cache holds. moka drops what it evicts at leisure, and the budget cannot wait for that: the listener empties it.
#[derive(Debug)]
struct Cached {
    mark: Shelfmark,
    bytes: Mutex<Option<Bytes>>,
}

impl Cached {
    fn get(&self) -> Option<Bytes> {
        self.bytes.lock().clone()
    }
}

/// The bytes of a chunk and its part of the budget; freed together.
struct Held {
    buffer: Buffer,
    _room: Room,
}

/// A chunk's part of the budget.
struct Room {
    length: i64,
    memory: Gauge,
    _permit: BytePermit,
}

impl Room {
    fn new(length: u64, memory: &Gauge, permit: BytePermit) -> Room {
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        memory.inc_by(length);
        Room { length, memory: memory.clone(), _permit: permit }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.memory.dec_by(self.length);
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref()
    }
}

impl AsMut<[u8]> for Held {
    fn as_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut()
    }
}

/// A chunk on its way; the shelf reckons with it until this is dropped.
struct Coming<'a> {
    shelf: &'a Mutex<Shelf<ChunkKey>>,
    length: u64,
}

impl Coming<'_> {
    fn new(shelf: &Mutex<Shelf<ChunkKey>>, length: u64) -> Coming<'_> {
        shelf.lock().expect(length);
        Coming { shelf, length }
    }
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.shelf.lock().expected(self.length);
    }
}

/// All chunks. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Chunks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    indexes: Indexes,
    cache: Cache<ChunkKey, Arc<Cached>>,
    /// Says what the cache drops.
    shelf: Arc<Mutex<Shelf<ChunkKey>>>,
    readers: Arc<Readers>,
    flights: Flights<ChunkKey, Bytes>,
    fillings: Fillings<ChunkKey>,
    budget: ByteBudget,
    /// Told when a load has waited for the budget for long.
    short: Notify,
    buffers: Buffers,
    ahead_requests: Semaphore,
    metrics: ReadMetrics,
    coarse: u64,
    fine: u64,
}

impl Chunks {
    /// Nothing loaded yet.
    pub(super) fn new(
        (store, indexes): (Store, Indexes),
        readers: Arc<Readers>,
        options: &Options,
        tasks: TaskGroup,
        metrics: ReadMetrics,
    ) -> Chunks {
        let shelf = Arc::new(Mutex::new(Shelf::<ChunkKey>::new(options.cache_bytes.get())));
        let shelved = shelf.clone();
        let cache = Cache::builder()
            .max_capacity(options.cache_bytes.get())
            .weigher(|_, cached: &Arc<Cached>| u32::try_from(cached.mark.length).unwrap_or(u32::MAX))
            // The shelf decides what goes; what it leaves to moka goes by age.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |key: Arc<ChunkKey>, cached: Arc<Cached>, _| {
                drop(cached.bytes.lock().take());
                shelved.lock().forget(&cached.mark, &key);
            })
            .build();
        let (coarse, fine) = grids(options);
        Chunks(Arc::new(Inner {
            store,
            indexes,
            cache,
            shelf,
            readers,
            flights: Flights::new("cold chunk", tasks),
            fillings: Fillings::default(),
            budget: ByteBudget::new(options.cache_bytes + options.loading_bytes),
            short: Notify::new(),
            // What one replay has loaded into, the next one finds.
            buffers: Buffers::new(ByteCount(coarse), options.loading_bytes),
            ahead_requests: Semaphore::new(options.ahead_requests_max.max(1)),
            metrics,
            coarse,
            fine,
        }))
    }

    /// The length of a coarse chunk.
    pub(super) fn coarse(&self) -> ByteCount {
        ByteCount(self.0.coarse)
    }

    /// Waits until a load has waited for memory for long. For one waiter.
    pub(super) async fn short(&self) {
        self.0.short.notified().await;
    }

    /// A loaded chunk around a position, if there is one.
    pub(super) async fn loaded(&self, entry: &Entry, position: u64) -> Option<(ChunkRange, Bytes)> {
        for grid in [self.0.coarse, self.0.fine] {
            let range = range_at(entry, position, grid);
            if let Some(cached) = self.0.cache.get(&key(entry, range)).await {
                self.0.shelf.lock().used(&cached.mark);
                if let Some(bytes) = cached.get() {
                    return Some((range, bytes));
                }
            }
        }
        None
    }

    /// Joins the load of a chunk around a position, or begins it.
    pub(super) fn load(
        &self,
        partition: TopicPartition,
        entry: &Arc<Entry>,
        position: u64,
        sequential: bool,
    ) -> (ChunkRange, Flight<Bytes>) {
        let coarse = range_at(entry, position, self.0.coarse);
        let fine = range_at(entry, position, self.0.fine);
        for range in [coarse, fine] {
            if let Some(flight) = self.0.flights.find(&key(entry, range)) {
                return (range, flight);
            }
        }
        let range = if sequential { self.0.best_at(entry, position) } else { fine };
        (range, self.begin(partition, entry, range, Urgency::Awaited))
    }

    /// Begins to load where a segment begins, unless that is here.
    pub(super) async fn load_start(&self, partition: TopicPartition, entry: &Arc<Entry>) {
        if self.loaded(entry, 0).await.is_none() {
            drop(self.load(partition, entry, 0, false));
        }
    }

    /// Begins to load what of `[from, to)` is neither here nor on its way, as far as there is room for it.
    pub(super) async fn load_ahead(&self, partition: TopicPartition, entry: &Arc<Entry>, from: u64, to: u64) {
        let to = to.min(entry.segment.log_bytes.get());
        let mut room = None;
        let mut at = from;
        while at < to {
            let range = self.0.best_at(entry, at);
            if !self.0.has(entry, range) {
                let room = room.get_or_insert_with(|| self.0.room_ahead());
                if *room < range.length {
                    return;
                }
                *room -= range.length;
                self.begin(partition, entry, range, Urgency::Ahead);
            }
            at = range.start + range.length;
        }
    }

    fn begin(
        &self,
        partition: TopicPartition,
        entry: &Arc<Entry>,
        range: ChunkRange,
        urgency: Urgency,
    ) -> Flight<Bytes> {
        let (inner, entry) = (self.0.clone(), entry.clone());
        self.0.flights.join(key(&entry, range), move || async move {
            inner.bring(partition, &entry, range, urgency).await
        })
    }
}

impl Inner {
    /// Whether a chunk is here or on its way.
    fn has(&self, entry: &Entry, range: ChunkRange) -> bool {
        let key = key(entry, range);
        self.cache.contains_key(&key) || self.flights.find(&key).is_some()
    }

    /// What a sequential reader should have at a position: a coarse chunk, but where its beginning was brought in fine ones, the
    /// rest comes in fine ones too. They come at once and sooner, and nothing comes twice.
    fn best_at(&self, entry: &Entry, position: u64) -> ChunkRange {
        let coarse = range_at(entry, position, self.coarse);
        if self.has(entry, coarse) {
            return coarse;
        }
        let fine = range_at(entry, position, self.fine);
        let before =
            (fine.start > coarse.start).then(|| range_at(entry, fine.start.saturating_sub(1), self.fine));
        let begun = self.has(entry, fine) || before.is_some_and(|before| self.has(entry, before));
        if begun { fine } else { coarse }
    }

    fn room_ahead(&self) -> u64 {
        let positions = self.readers.positions(self.store.world().clock.now());
        self.shelf.lock().room_ahead(&positions)
    }

    async fn bring(
        &self,
        partition: TopicPartition,
        entry: &Arc<Entry>,
        range: ChunkRange,
        urgency: Urgency,
    ) -> Result<Bytes, ReadError> {
        let key = key(entry, range);
        // It may have come between the asker's look and this load's start.
        if let Some(bytes) = self.cache.get(&key).await.and_then(|cached| cached.get()) {
            return Ok(bytes);
        }
        let Some(mark) = self.fillings.begin(&key) else {
            let message = format!("an earlier read of {} still hangs", entry.object);
            return Err(ReadError::Unavailable { message });
        };
        let _coming = Coming::new(&self.shelf, range.length);
        let _turn = match urgency {
            Urgency::Awaited => None,
            Urgency::Ahead => self.ahead_requests.acquire().await.ok(),
        };
        let permit = self.room_for(range.length, urgency).await;
        let room = Room::new(range.length, &self.metrics.memory, permit);
        let buffer = self.buffers.take(usize::try_from(range.length).unwrap_or(usize::MAX)).await;
        let into = mark.with(Held { buffer, _room: room });
        let bytes = Bytes::from_owner(self.fetch(entry, range, into).await?);
        let ChunkRange { start, length } = range;
        let mark = Shelfmark { partition, segment: entry.range(), start, length };
        self.keep(key, mark, bytes.clone()).await;
        Ok(bytes)
    }

    async fn room_for(&self, length: u64, urgency: Urgency) -> BytePermit {
        let patience = match urgency {
            Urgency::Awaited => SHORT_AFTER,
            Urgency::Ahead => SHORT_AFTER_AHEAD,
        };
        let mut permit = std::pin::pin!(self.budget.take(ByteCount(length)));
        loop {
            if let Ok(permit) = tokio::time::timeout(patience, &mut permit).await {
                return permit;
            }
            self.metrics.memory_waits.inc();
            let positions = self.readers.positions(self.store.world().clock.now());
            let going = self.shelf.lock().spare(length, &positions);
            for key in &going {
                self.cache.invalidate(key).await;
            }
            self.cache.run_pending_tasks().await;
            if going.is_empty() {
                self.short.notify_one();
            }
        }
    }

    async fn keep(&self, key: ChunkKey, mark: Shelfmark, bytes: Bytes) {
        let positions = self.readers.positions(self.store.world().clock.now());
        let going = self.shelf.lock().put(&mark, key.clone(), &positions);
        for key in &going {
            self.cache.invalidate(key).await;
        }
        // Drops them now, rather than at moka's leisure: their room is wanted.
        self.cache.run_pending_tasks().await;
        self.cache.insert(key, Arc::new(Cached { mark, bytes: Mutex::new(Some(bytes)) })).await;
        self.cache.run_pending_tasks().await;
    }

    /// Brings a chunk and its segment's checksums at once. A damaged one is asked for a second time: it may have been the way.
    async fn fetch(
        &self,
        entry: &Arc<Entry>,
        range: ChunkRange,
        into: Filling<ChunkKey, Held>,
    ) -> Result<Held, ReadError> {
        let (index, (filled, mut sums)) =
            tokio::try_join!(self.indexes.get(entry), self.fill(entry, range, into))?;
        self.metrics.chunk_bytes.inc_by(range.length);
        // Where the sums are wrong, they may be of other blocks than the object's: the bytes decide.
        if index.verify_sums(range.start, &sums.finish()).is_ok()
            || index.verify(range.start, filled.as_ref()).is_ok()
        {
            return Ok(filled.end());
        }
        let (filled, _) = self.fill(entry, range, filled).await?;
        index.verify(range.start, filled.as_ref()).map_err(|bad| {
            self.metrics.corrupt.inc();
            tracing::error!(object = %entry.object, %bad, "an object in the bucket is damaged");
            ReadError::Corrupt { key: entry.object.to_string(), what: bad.to_string() }
        })?;
        Ok(filled.end())
    }

    async fn fill(
        &self,
        entry: &Entry,
        range: ChunkRange,
        into: Filling<ChunkKey, Held>,
    ) -> Result<(Filling<ChunkKey, Held>, BlockSums), ReadError> {
        self.metrics.chunk_gets.inc();
        let start = entry.position + range.start;
        let filled = self.store.get_range_into(&entry.object, start, into, BlockSums::update).await;
        filled.map_err(|error| ReadError::of_store(&error))
    }
}

/// Chunks hold whole checksummed blocks, and a coarse one whole fine ones.
fn grids(options: &Options) -> (u64, u64) {
    let fine = options.chunk_bytes_first.get().max(1).next_multiple_of(u64::from(BLOCK_BYTES));
    let coarse = options.chunk_bytes.get().max(1).next_multiple_of(fine);
    (coarse, fine)
}

fn range_at(entry: &Entry, position: u64, grid: u64) -> ChunkRange {
    let start = position - position % grid;
    ChunkRange { start, length: grid.min(entry.segment.log_bytes.get().saturating_sub(start)) }
}

fn key(entry: &Entry, range: ChunkRange) -> ChunkKey {
    if planted::is(Planted::CacheOfDeletedTopic) {
        let partition = entry.object.as_str().split('/').nth(2).unwrap_or_default();
        let object = Key::parse(&format!("{partition}/{}", entry.range().base));
        let object = object.expect("two numbers make a key");
        return ChunkKey { object, position: entry.position + range.start, length: range.length };
    }
    ChunkKey { object: entry.object.clone(), position: entry.position + range.start, length: range.length }
}
