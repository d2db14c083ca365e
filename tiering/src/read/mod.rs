//! A range's way back: locate, fetch, read ahead.
//!
//! A read answers with what is loaded by its deadline, as whole batches that are slices of cached chunks; whatever was begun for
//! it goes on after it, and the next poll finds it further along. Several requests are in flight for one sequential reader, and
//! one request serves all who want the same bytes.
//!
//! "Out of range" is only ever said of what the manifest does not name. A store that fails is retried behind empty answers, and
//! after `tier.read.deadline.ms` is an error that says to try again. An object that is named and not there is loss: an alarm.
//!
//! This does not know the local log: its caller sends here what lies below it.

mod answer;
mod metrics;
/// How far to read ahead; pure.
pub mod ahead;
/// Reads that fail, and since when.
mod failing;
/// Buffers that are being filled.
mod filling;
/// Loads under way.
mod flights;
/// Footers and indexes.
pub(crate) mod index;
/// Parts of logs.
mod chunks;
/// Chunks laid end to end.
mod rope;
/// Batches cut out of them.
mod cut;
/// Readers, recognised.
mod streams;
/// Where they are.
mod readers;
/// What to keep for them.
mod shelf;
/// By time instead of offset.
mod time;

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, Offset, TopicPartition};
use aquifer_runtime::tasks::TaskGroup;
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::damage::Damages;
use crate::manifest::load::Pages;
use crate::manifest::locate::{self, Located};
use crate::manifest::view::View;
use crate::manifest::{Entry, Manifest};
use crate::object::SegmentIndex;
use crate::options::Options;
use crate::store::Store;

use ahead::{Ahead, AheadLimits};
use chunks::Chunks;
use cut::{Cut, Progress};
use failing::Failing;
use flights::Flights;
use index::Indexes;
use readers::{ReaderId, Readers};
use streams::{Expected, Streams};

pub use answer::{ColdRead, ColdRequest, ReadError, Tail};
pub use metrics::ReadMetrics;
pub use time::TimeLookup;

/// Memory for pages of old entries.
const PAGES_BYTES: ByteCount = ByteCount::mib(16);
/// How often a read starts over because objects went between manifest and fetch.
const MOVED_MAX: usize = 3;
/// Lookups by time that open a batch at the same time. Each may expand it to 128 MiB.
const LOOKUPS_MAX: usize = 2;

/// Reads all partitions. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    options: Options,
    indexes: Indexes,
    chunks: Chunks,
    pages: Pages,
    streams: Streams,
    readers: Arc<Readers>,
    manifests: Flights<(TopicPartition, Duration), Option<Arc<Manifest>>>,
    entries: Flights<(TopicPartition, Offset), Option<Arc<Entry>>>,
    /// What readers wait for and fails.
    failing: Failing,
    /// A place for each lookup that opens batches.
    lookups: Arc<Semaphore>,
    damages: Arc<Damages>,
    metrics: ReadMetrics,
}

/// What of a history may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// What consumers may: from the log's start on.
    FromLogStart,
    /// All that is named. The oldest segment may begin before the log's start.
    AllNamed,
}

/// Why a read stops early.
enum Stop {
    /// Its wait is over; what it waits for goes on.
    Pending,
    /// It cannot be done.
    Failed(ReadError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Stop {
        Stop::Failed(error)
    }
}

impl Reader {
    /// A reader with empty caches.
    pub(crate) fn new(
        store: Store,
        options: Options,
        tasks: TaskGroup,
        damages: Arc<Damages>,
        metrics: ReadMetrics,
    ) -> Reader {
        let indexes = Indexes::new(store.clone(), options.index_cache_bytes, tasks.clone(), metrics.clone());
        let readers = Arc::new(Readers::new(streams::IDLE));
        Reader(Arc::new(Inner {
            chunks: Chunks::new(
                (store.clone(), indexes.clone()),
                readers.clone(),
                &options,
                tasks.clone(),
                metrics.clone(),
            ),
            indexes,
            pages: Pages::new(store.clone(), PAGES_BYTES),
            readers,
            streams: Streams::new(options.ahead_bytes_total, options.streams_max),
            manifests: Flights::new("cold manifest", tasks.clone()),
            entries: Flights::new("cold page", tasks),
            failing: Failing::new(options.streams_max, 2 * options.read_deadline),
            lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)),
            damages,
            store,
            options,
            metrics,
        }))
    }

    /// Pages of old entries, shared with whoever else needs them.
    pub(crate) fn pages(&self) -> &Pages {
        &self.0.pages
    }

    /// Waits until a load has waited for memory for long. For one waiter.
    pub(crate) async fn short_of_memory(&self) {
        self.0.chunks.short().await;
    }

    /// Reads from an offset on.
    pub async fn read(&self, view: &Arc<View>, request: ColdRequest) -> Result<ColdRead, ReadError> {
        self.read_within(Reach::FromLogStart, view, request).await
    }

    /// The same, also before the log's start, as far as something is named there.
    pub(crate) async fn copy(&self, view: &Arc<View>, request: ColdRequest) -> Result<ColdRead, ReadError> {
        self.read_within(Reach::AllNamed, view, request).await
    }

    async fn read_within(
        &self,
        reach: Reach,
        view: &Arc<View>,
        request: ColdRequest,
    ) -> Result<ColdRead, ReadError> {
        let mut moved = 0;
        let asked = self.0.store.world().clock.now();
        loop {
            match self.try_read(reach, view, request, asked).await {
                Err(Stop::Failed(ReadError::Lost { key })) => {
                    // Its name may have gone since the manifest was read; a fresh one tells.
                    moved += 1;
                    self.after_missing(view, request.offset, key, moved).await?;
                }
                Ok(read) => {
                    self.0.failing.end(&(request.partition, request.offset));
                    self.0.metrics.reads.inc();
                    self.0.metrics.bytes.inc_by(read.bytes.get());
                    return Ok(read);
                }
                Err(Stop::Pending) => return self.pending(request, None),
                Err(Stop::Failed(ReadError::Unavailable { message })) => {
                    let empty = self.pending(request, Some(message))?;
                    // A store that refuses at once must not be asked as fast as a consumer can poll.
                    tokio::time::sleep_until(request.wait_until).await;
                    return Ok(empty);
                }
                Err(Stop::Failed(error)) => {
                    if let ReadError::Corrupt { key, what } = &error {
                        self.0.damages.note(request.partition, key, what);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Nothing in time: an empty answer, or an error once the store has failed for too long.
    fn pending(&self, request: ColdRequest, failure: Option<String>) -> Result<ColdRead, ReadError> {
        let now = self.0.store.world().clock.now();
        let since = self.failing_since(request, failure.as_deref(), now);
        if since.is_some_and(|since| now.duration_since(since) >= self.0.options.read_deadline) {
            let message = failure.unwrap_or_else(|| "it has not answered".to_owned());
            return Err(ReadError::Unavailable { message });
        }
        self.0.metrics.pending.inc();
        let (slices, aborted) = (Vec::new(), Vec::new());
        Ok(ColdRead { slices, bytes: ByteCount::ZERO, next: request.offset, aborted, pending: true })
    }

    /// Since when what this request waits for fails; said once when it begins.
    fn failing_since(&self, request: ColdRequest, failure: Option<&str>, now: Instant) -> Option<Instant> {
        let place = (request.partition, request.offset);
        if let Some(since) = self.0.failing.since(place, now) {
            return Some(since);
        }
        let message = failure?;
        tracing::warn!(partition = %request.partition, offset = %request.offset, message, "cold read fails");
        self.0.failing.begin(place, now);
        Some(now)
    }

    /// An object was not there. If a fresh manifest still names what covers the offset by that key, it is lost.
    async fn after_missing(
        &self,
        view: &Arc<View>,
        offset: Offset,
        key: String,
        moved: usize,
    ) -> Result<(), ReadError> {
        let manifest = view.refresh().await.map_err(|error| ReadError::of_manifest(&error))?;
        let manifest = manifest.ok_or(ReadError::NotTiered)?;
        let named = match locate::by_offset(&manifest, offset) {
            Located::Entry(entry) => entry.object.as_str() == key,
            Located::Page(page) if page.object.as_str() == key => true,
            Located::Page(page) => {
                let entries = self.0.pages.get(manifest.partition(), page).await;
                let entries = entries.map_err(|error| ReadError::of_manifest(&error))?;
                locate::entry_by_offset(&entries, offset).is_some_and(|entry| entry.object.as_str() == key)
            }
            Located::Nowhere => false,
        };
        if named || moved > MOVED_MAX {
            self.0.metrics.lost.inc();
            tracing::error!(partition = %manifest.partition(), object = key, "data loss: a named object is not there");
            self.0.damages.note(manifest.partition(), &key, "a named object is not there");
            return Err(ReadError::Lost { key });
        }
        Ok(())
    }

    async fn try_read(
        &self,
        reach: Reach,
        view: &Arc<View>,
        request: ColdRequest,
        asked: Instant,
    ) -> Result<ColdRead, Stop> {
        let inner = &self.0;
        let limits = self.ahead_limits();
        let located = self.locate(reach, view, &request).await;
        let (manifest, entry, index) = located
            .inspect_err(|_| inner.streams.put_off(request.partition, request.offset, &limits, asked))?;
        let base = entry.range().base;
        let from = u64::from(aquifer_model::offset_index::floor(&index.offsets, base, request.offset));
        let (id, ahead) = inner.streams.take(request.partition, request.offset, &limits, asked);
        let mut stream =
            TakenStream { reader: self, request: &request, entry: &entry, id, ahead, answered: None };
        stream.is_at(from);
        // Before waiting for the first chunk, so that all the others are on their way meanwhile.
        self.load_ahead(&manifest, &entry, from, stream.ahead).await;
        let (read, end) = self.collect(&entry, &index, from, stream.ahead.is_sequential(), &request).await?;
        stream.ahead.took(read.bytes, &limits);
        stream.answered = Some(read.next);
        stream.is_at(end);
        self.load_ahead(&manifest, &entry, end, stream.ahead).await;
        Ok(read)
    }

    /// The manifest, the entry that covers a request's offset, and its index.
    async fn locate(
        &self,
        reach: Reach,
        view: &Arc<View>,
        request: &ColdRequest,
    ) -> Result<(Arc<Manifest>, Arc<Entry>, Arc<SegmentIndex>), Stop> {
        let until = request.wait_until;
        let (manifest, entry) = self.find(reach, view, request.offset, until).await?;
        if request.offset == entry.range().base && self.is_unknown(request, &entry) {
            // Where a segment begins is known without its index: who replays from there gets the first chunk meanwhile.
            self.0.chunks.load_start(request.partition, &entry).await;
        }
        let index = tokio::time::timeout_at(until, self.0.indexes.get(&entry)).await;
        let index = index.map_err(|_| Stop::Pending)??;
        Ok((manifest, entry, index))
    }

    /// Whether nothing is known of a reader nor of where it reads. One that goes on has had its chunks loaded ahead.
    fn is_unknown(&self, request: &ColdRequest, entry: &Entry) -> bool {
        !self.0.indexes.has(entry)
            && !self.0.streams.expects(request.partition, request.offset)
            && !self.0.damages.knows(entry.object.as_str())
    }

    fn ahead_limits(&self) -> AheadLimits {
        let Options { ahead_bytes_max: bytes_max, ahead_horizon: horizon, .. } = self.0.options;
        AheadLimits { chunk: self.0.chunks.coarse(), bytes_max, horizon }
    }

    /// The manifest, and the entry that covers an offset.
    async fn find(
        &self,
        reach: Reach,
        view: &Arc<View>,
        offset: Offset,
        until: Instant,
    ) -> Result<(Arc<Manifest>, Arc<Entry>), Stop> {
        let age_max = self.0.options.manifest_age_max;
        let mut manifest = self.manifest(view, age_max, until).await?;
        if manifest.end().is_none_or(|end| end <= offset) {
            // The tier may have grown since.
            manifest = self.manifest(view, Duration::ZERO, until).await?;
        }
        let out = ReadError::OutOfRange {
            start: manifest.log_start(),
            end: manifest.end().unwrap_or(manifest.log_start()),
        };
        if reach == Reach::FromLogStart && offset < manifest.log_start() {
            return Err(out.into());
        }
        let entry = self.entry(&manifest, offset, until).await?.ok_or(out)?;
        Ok((manifest, entry))
    }

    async fn manifest(
        &self,
        view: &Arc<View>,
        age_max: Duration,
        until: Instant,
    ) -> Result<Arc<Manifest>, Stop> {
        if let Some(fresh) = view.fresh(age_max) {
            return Ok(fresh.ok_or(ReadError::NotTiered)?);
        }
        let asked = view.clone();
        let flight = self.0.manifests.join((view.partition(), age_max), move || async move {
            asked.get(age_max).await.map_err(|error| ReadError::of_manifest(&error))
        });
        if let Some(known) = view.known().filter(|_| !age_max.is_zero()) {
            // Good enough while a newer one is on its way: an object that has gone since is met with a fresh one, and what is
            // cached can be read while the store is away.
            return Ok(known);
        }
        let found = flight.outcome_until(until).await.ok_or(Stop::Pending)??;
        Ok(found.ok_or(ReadError::NotTiered)?)
    }

    async fn entry(
        &self,
        manifest: &Arc<Manifest>,
        offset: Offset,
        until: Instant,
    ) -> Result<Option<Arc<Entry>>, Stop> {
        match locate::by_offset(manifest, offset) {
            Located::Nowhere => Ok(None),
            Located::Entry(entry) => Ok(Some(Arc::new(entry.clone()))),
            Located::Page(page) => {
                let (pages, partition, page) = (self.0.pages.clone(), manifest.partition(), page.clone());
                let flight = self.0.entries.join((partition, offset), move || async move {
                    let entries = pages.get(partition, &page).await;
                    let entries = entries.map_err(|error| ReadError::of_manifest(&error))?;
                    Ok(locate::entry_by_offset(&entries, offset).cloned().map(Arc::new))
                });
                Ok(flight.outcome_until(until).await.ok_or(Stop::Pending)??)
            }
        }
    }

    /// Begins to load the window ahead of a position, on into the segments that follow.
    async fn load_ahead(&self, manifest: &Arc<Manifest>, entry: &Arc<Entry>, from: u64, ahead: Ahead) {
        let now = self.0.store.world().clock.now();
        let mut left = ahead.window(self.0.streams.share(now)).get();
        let (mut entry, mut from) = (entry.clone(), from);
        for _ in 0..self.0.options.ahead_segments_max {
            let end = entry.segment.log_bytes.get();
            self.0.chunks.load_ahead(manifest.partition(), &entry, from, from.saturating_add(left)).await;
            left = left.saturating_sub(end.saturating_sub(from));
            if left == 0 {
                break;
            }
            // A page that is not here yet is begun; the next read of this reader goes on from it.
            match self.entry(manifest, entry.range().next, now).await {
                Ok(Some(next)) => entry = next,
                _ => break,
            }
            from = 0;
        }
    }

    /// Takes batches from the chunks, waiting only for the first.
    async fn collect(
        &self,
        entry: &Arc<Entry>,
        index: &SegmentIndex,
        from: u64,
        sequential: bool,
        request: &ColdRequest,
    ) -> Result<(ColdRead, u64), Stop> {
        let mut cut = Cut::new(entry, from, request.offset);
        loop {
            match cut.step(request)? {
                Progress::Took | Progress::Skipped => {}
                Progress::Done => break,
                Progress::NeedsMore => {
                    let end = cut.rope.end();
                    let loaded = self.0.chunks.loaded(entry, end).await;
                    let (range, bytes) = match loaded {
                        Some(loaded) => loaded,
                        None if cut.has_some() => break,
                        None => {
                            let (range, flight) =
                                self.0.chunks.load(request.partition, entry, end, sequential);
                            let bytes = flight.outcome_until(request.wait_until).await;
                            (range, bytes.ok_or(Stop::Pending)??)
                        }
                    };
                    cut.rope.push(bytes.slice((end - range.start) as usize..));
                }
            }
        }
        Ok(cut.finish(index)?)
    }

    /// The tier's state at its end; `None` if nothing was ever tiered.
    pub async fn tail(&self, view: &View) -> Result<Option<Tail>, ReadError> {
        let manifest = view.refresh().await.map_err(|error| ReadError::of_manifest(&error))?;
        let Some((manifest, end)) = manifest.and_then(|manifest| manifest.end().map(|end| (manifest, end)))
        else {
            return Ok(None);
        };
        let producers = match manifest.entries().last() {
            Some(last) => self.0.indexes.get(&Arc::new(last.clone())).await?.producers.clone(),
            None => Bytes::new(),
        };
        Ok(Some(Tail { log_start: manifest.log_start(), end, epochs: manifest.epochs(), producers }))
    }
}

/// A reader whose read is under way; goes back to where it is expected next, also when the read is dropped.
struct TakenStream<'a> {
    reader: &'a Reader,
    request: &'a ColdRequest,
    entry: &'a Entry,
    id: ReaderId,
    ahead: Ahead,
    /// Behind what it was given.
    answered: Option<Offset>,
}

impl TakenStream<'_> {
    /// Says where in the segment's log it is.
    fn is_at(&self, position: u64) {
        let (inner, now) = (&self.reader.0, self.reader.0.store.world().clock.now());
        inner.readers.moved(self.id, self.request.partition, self.entry.range(), position, now);
    }
}

impl Drop for TakenStream<'_> {
    fn drop(&mut self) {
        let inner = &self.reader.0;
        // One that was given nothing is expected at the same place again.
        let expected = Expected {
            offset: self.answered.unwrap_or(self.request.offset),
            segment: self.entry.range().base,
            answered: self.answered.is_some(),
        };
        let now = inner.store.world().clock.now();
        let left = inner.streams.expect((self.id, self.ahead), self.request.partition, expected, now);
        if let Some(id) = left {
            inner.readers.gone(id);
        }
    }
}
