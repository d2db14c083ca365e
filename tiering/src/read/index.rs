//! Footers and indexes, brought back and kept: one request for each segment, since the manifest knows how long its tail is.

use std::sync::Arc;

use aquifer_model::ByteCount;
use aquifer_runtime::tasks::TaskGroup;
use moka::future::Cache;

use super::flights::Flights;
use super::{ReadError, ReadMetrics};
use crate::manifest::Entry;
use crate::object::{SegmentIndex, TAIL_BYTES_MAX, TailError};
use crate::path::Key;
use crate::store::Store;

type IndexKey = (Key, u64);

/// All indexes. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Indexes {
    store: Store,
    cache: Cache<IndexKey, Arc<SegmentIndex>>,
    flights: Flights<IndexKey, Arc<SegmentIndex>>,
    metrics: ReadMetrics,
}

impl Indexes {
    /// Keeps about `bytes` of them.
    pub(crate) fn new(store: Store, bytes: ByteCount, tasks: TaskGroup, metrics: ReadMetrics) -> Indexes {
        let weigh = |_: &IndexKey, index: &Arc<SegmentIndex>| {
            let entries = index.offsets.len() * 8 + index.times.len() * 16 + index.aborted.len() * 32;
            u32::try_from(500 + entries + index.block_crcs.len() * 4 + index.producers.len())
                .unwrap_or(u32::MAX)
        };
        let cache = Cache::builder().max_capacity(bytes.get()).weigher(weigh).build();
        Indexes { store, cache, flights: Flights::new("cold index", tasks), metrics }
    }

    /// Whether the index of a segment is here.
    pub(super) fn has(&self, entry: &Entry) -> bool {
        self.cache.contains_key(&(entry.object.clone(), entry.position))
    }

    /// The index of a segment.
    pub(crate) async fn get(&self, entry: &Arc<Entry>) -> Result<Arc<SegmentIndex>, ReadError> {
        let key = (entry.object.clone(), entry.position);
        if let Some(found) = self.cache.get(&key).await {
            return Ok(found);
        }
        let (indexes, entry) = (self.clone(), entry.clone());
        self.flights.join(key, move || async move { indexes.bring(&entry).await }).outcome().await
    }

    async fn bring(&self, entry: &Entry) -> Result<Arc<SegmentIndex>, ReadError> {
        let key = (entry.object.clone(), entry.position);
        if let Some(found) = self.cache.get(&key).await {
            return Ok(found);
        }
        self.metrics.index_gets.inc();
        let index = Arc::new(read_index(&self.store, entry).await.inspect_err(|error| {
            if let ReadError::Corrupt { key, what } = error {
                self.metrics.corrupt.inc();
                tracing::error!(object = key, what, "an object in the bucket is damaged");
            }
        })?);
        self.cache.insert(key, index.clone()).await;
        Ok(index)
    }
}

/// Reads a segment's index; it must be of the segment that the entry names.
pub(crate) async fn read_index(store: &Store, entry: &Entry) -> Result<SegmentIndex, ReadError> {
    let corrupt = |what: String| ReadError::Corrupt { key: entry.object.to_string(), what };
    let tail_bytes = entry.image_bytes.saturating_sub(entry.segment.log_bytes);
    if tail_bytes > TAIL_BYTES_MAX {
        return Err(corrupt(format!("a tail of {tail_bytes} is too long")));
    }
    let start = entry.position.checked_add(entry.segment.log_bytes.get());
    let end = entry.position.checked_add(entry.image_bytes.get());
    let (Some(start), Some(end)) = (start, end) else {
        return Err(corrupt("its position makes no sense".to_owned()));
    };
    let bytes =
        store.get_range(&entry.object, start..end).await.map_err(|error| ReadError::of_store(&error))?;
    let index = SegmentIndex::decode_tail(&bytes).map_err(|error| match error {
        TailError::More(more) => corrupt(format!("the tail is {more} long, the manifest says {tail_bytes}")),
        TailError::Format(error) => corrupt(error.to_string()),
    })?;
    if index.segment != entry.segment || index.log_crc != entry.log_crc {
        return Err(corrupt("the footer is not of the segment that the manifest names".to_owned()));
    }
    Ok(index)
}
