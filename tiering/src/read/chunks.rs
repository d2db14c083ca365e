//! Parts of logs, brought back and kept.
//!
//! A log is cut into chunks on a fixed grid, so that whatever reads the same range asks for the same thing, and ten readers of
//! one history make the requests of one. There are two grids: a coarse one (8 MiB) that keeps a store's answers long, and a
//! fine one (1 MiB) for the first read of a reader that may never come back, so that it is answered early.
//!
//! A chunk's bytes count against the budget from before they are asked for until the last slice of them is dropped, be it in
//! the cache or in an answer on its way out. Each chunk is verified once, as it arrives, by the footer's block checksums.

use std::sync::Arc;

use aquifer_model::ByteCount;
use aquifer_runtime::budget::{ByteBudget, BytePermit};
use aquifer_runtime::metrics::Gauge;
use aquifer_runtime::planted::{self, Planted};
use aquifer_runtime::tasks::TaskGroup;
use bytes::Bytes;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::flights::{Flight, Flights};
use super::index::Indexes;
use super::{ReadError, ReadMetrics};
use crate::manifest::Entry;
use crate::object::BLOCK_BYTES;
use crate::options::Options;
use crate::path::Key;
use crate::store::Store;

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
    length: u64,
    bytes: Mutex<Option<Bytes>>,
}

impl Cached {
    fn get(&self) -> Option<Bytes> {
        self.bytes.lock().clone()
    }
}

/// The bytes of a chunk and its part of the budget; freed together.
struct Held {
    bytes: Bytes,
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
        &self.bytes
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
    flights: Flights<ChunkKey, Bytes>,
    budget: ByteBudget,
    ahead_requests: Semaphore,
    metrics: ReadMetrics,
    coarse: u64,
    fine: u64,
}

impl Chunks {
    /// Nothing loaded yet.
    pub(super) fn new(
        store: Store,
        indexes: Indexes,
        options: &Options,
        tasks: TaskGroup,
        metrics: ReadMetrics,
    ) -> Chunks {
        let cache = Cache::builder()
            .max_capacity(options.cache_bytes.get())
            .weigher(|_: &ChunkKey, cached: &Arc<Cached>| u32::try_from(cached.length).unwrap_or(u32::MAX))
            // By recency alone: what was read ahead and not yet used must not lose to what is used up.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(|_, cached: Arc<Cached>, _| drop(cached.bytes.lock().take()))
            .build();
        let (coarse, fine) = grids(options);
        Chunks(Arc::new(Inner {
            store,
            indexes,
            cache,
            flights: Flights::new("cold chunk", tasks),
            budget: ByteBudget::new(options.cache_bytes + options.loading_bytes),
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

    /// A loaded chunk around a position, if there is one.
    pub(super) async fn loaded(&self, entry: &Entry, position: u64) -> Option<(ChunkRange, Bytes)> {
        for grid in [self.0.coarse, self.0.fine] {
            let range = range_at(entry, position, grid);
            if let Some(bytes) = self.0.cached(&key(entry, range)).await {
                return Some((range, bytes));
            }
        }
        None
    }

    /// Joins the load of a chunk around a position, or begins it: a coarse one for a sequential reader, a fine one for others.
    pub(super) fn load(
        &self,
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
        let range = if sequential { coarse } else { fine };
        (range, self.begin(entry, range, Urgency::Awaited))
    }

    /// Begins to load coarse chunks of `[from, to)` that are neither here nor on their way.
    pub(super) async fn load_ahead(&self, entry: &Arc<Entry>, from: u64, to: u64) {
        let to = to.min(entry.segment.log_bytes.get());
        let mut at = from;
        while at < to {
            let range = range_at(entry, at, self.0.coarse);
            if !self.0.cache.contains_key(&key(entry, range)) {
                self.begin(entry, range, Urgency::Ahead);
            }
            at = range.start + range.length;
        }
    }

    fn begin(&self, entry: &Arc<Entry>, range: ChunkRange, urgency: Urgency) -> Flight<Bytes> {
        let (inner, entry) = (self.0.clone(), entry.clone());
        self.0
            .flights
            .join(key(&entry, range), move || async move { inner.bring(&entry, range, urgency).await })
    }
}

impl Inner {
    async fn cached(&self, key: &ChunkKey) -> Option<Bytes> {
        self.cache.get(key).await?.get()
    }

    async fn bring(
        &self,
        entry: &Arc<Entry>,
        range: ChunkRange,
        urgency: Urgency,
    ) -> Result<Bytes, ReadError> {
        let key = key(entry, range);
        // It may have come between the asker's look and this load's start.
        if let Some(bytes) = self.cached(&key).await {
            return Ok(bytes);
        }
        let _turn = match urgency {
            Urgency::Awaited => None,
            Urgency::Ahead => self.ahead_requests.acquire().await.ok(),
        };
        let permit = self.budget.take(ByteCount(range.length)).await;
        let room = Room::new(range.length, &self.metrics.memory, permit);
        let bytes = self.fetch(entry, range).await?;
        let bytes = Bytes::from_owner(Held { bytes, _room: room });
        let cached = Cached { length: range.length, bytes: Mutex::new(Some(bytes.clone())) };
        self.cache.insert(key, Arc::new(cached)).await;
        // Evicts now what no longer fits, rather than at moka's leisure.
        self.cache.run_pending_tasks().await;
        Ok(bytes)
    }

    /// Brings a chunk and its segment's checksums at once. A damaged one is asked for a second time: it may have been the way.
    async fn fetch(&self, entry: &Arc<Entry>, range: ChunkRange) -> Result<Bytes, ReadError> {
        let start = entry.position + range.start;
        let get = || async {
            self.metrics.chunk_gets.inc();
            let bytes = self.store.get_range(&entry.object, start..start + range.length).await;
            bytes.map_err(|error| ReadError::of_store(&error))
        };
        let (index, bytes) = tokio::try_join!(self.indexes.get(entry), get())?;
        self.metrics.chunk_bytes.inc_by(range.length);
        if index.verify(range.start, &bytes).is_ok() {
            return Ok(bytes);
        }
        let bytes = get().await?;
        index.verify(range.start, &bytes).map_err(|bad| {
            self.metrics.corrupt.inc();
            tracing::error!(object = %entry.object, %bad, "an object in the bucket is damaged");
            ReadError::Corrupt { key: entry.object.to_string(), what: bad.to_string() }
        })?;
        Ok(bytes)
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
