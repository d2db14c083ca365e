//! Reading versions and pages.
//!
//! The newest version is the last of a listing that starts behind a version known already, so its cost does not grow with the
//! history. Between the listing and the read a version may be superseded and removed; then the listing is repeated.

use std::sync::Arc;

use aquifer_model::format::{FormatError, crc32c};
use aquifer_model::{ByteCount, TopicPartition};
use futures::TryStreamExt as _;
use moka::future::Cache;

use super::codec::{MANIFEST_BYTES_MAX, PAGE_BYTES_MAX, decode_page};
use super::invariants::{self, Breach};
use super::{Entry, Manifest, ManifestVersion, PageRef};
use crate::path::{self, Key};
use crate::store::{Store, StoreError};

/// How often a version may vanish between listing and reading before it is called an error.
const VANISHED_MAX: usize = 5;
/// What an entry of a cached page is taken to weigh, in bytes.
const ENTRY_WEIGHT: usize = 300;

/// Why a manifest or a page could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ManifestError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is damaged, or of a newer program.
    #[error("{key}: {source}")]
    Format {
        /// Its key.
        key: String,
        /// What is wrong.
        source: FormatError,
    },
    /// Its bytes are sound but it contradicts itself.
    #[error("{key}: {source}")]
    Invalid {
        /// Its key.
        key: String,
        /// What is wrong.
        source: Breach,
    },
}

impl ManifestError {
    /// The object that is damaged, where one is.
    pub fn key(&self) -> Option<Key> {
        match self {
            ManifestError::Store(_) => None,
            ManifestError::Format { key, .. } | ManifestError::Invalid { key, .. } => Key::parse(key),
        }
    }
}

/// One version; `None` where there is none.
pub async fn version(
    store: &Store,
    partition: TopicPartition,
    version: ManifestVersion,
) -> Result<Option<Arc<Manifest>>, ManifestError> {
    let key = path::manifest(partition, version.0);
    let bytes = match store.get(&key, MANIFEST_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let invalid = |source| ManifestError::Invalid { key: key.to_string(), source };
    let manifest = Manifest::decode(&bytes);
    let manifest = manifest.map_err(|source| ManifestError::Format { key: key.to_string(), source })?;
    if manifest.partition != partition || manifest.version != version {
        return Err(invalid(Breach("it is the manifest of another partition or version")));
    }
    invariants::check(&manifest).map_err(invalid)?;
    Ok(Some(Arc::new(manifest)))
}

/// The newest version, looked for from `known` on. `None` if nothing was ever written.
pub async fn newest(
    store: &Store,
    partition: TopicPartition,
    known: Option<Arc<Manifest>>,
) -> Result<Option<Arc<Manifest>>, ManifestError> {
    let after = known.as_ref().map(|manifest| path::manifest(partition, manifest.version.0));
    let mut last_seen = String::new();
    for _ in 0..VANISHED_MAX {
        let listed: Vec<_> = store.list(&path::manifests(partition), after.as_ref()).try_collect().await?;
        let Some(last) = listed.iter().rev().find_map(|facts| path::parse_version(&facts.key)) else {
            return Ok(known);
        };
        if let Some(found) = version(store, partition, ManifestVersion(last)).await? {
            return Ok(Some(found));
        }
        last_seen = path::manifest(partition, last).to_string();
    }
    Err(StoreError::NotFound { key: last_seen }.into())
}

/// Pages, read once and kept: they never change.
#[derive(Debug, Clone)]
pub struct Pages {
    store: Store,
    cache: Cache<Key, Arc<Vec<Entry>>>,
}

impl Pages {
    /// Keeps about `bytes` of pages.
    pub fn new(store: Store, bytes: ByteCount) -> Pages {
        let weigh = |_: &Key, entries: &Arc<Vec<Entry>>| {
            u32::try_from(entries.len() * ENTRY_WEIGHT).unwrap_or(u32::MAX)
        };
        Pages { store, cache: Cache::builder().max_capacity(bytes.get()).weigher(weigh).build() }
    }

    /// The entries of a page.
    pub async fn get(
        &self,
        partition: TopicPartition,
        page: &PageRef,
    ) -> Result<Arc<Vec<Entry>>, ManifestError> {
        let load = read_page(&self.store, partition, page);
        let found = self.cache.try_get_with(page.object.clone(), load).await;
        found.map_err(|error| ManifestError::clone(&error))
    }
}

/// Reads a page, whether or not it is known already.
pub(crate) async fn read_page(
    store: &Store,
    partition: TopicPartition,
    page: &PageRef,
) -> Result<Arc<Vec<Entry>>, ManifestError> {
    let bytes = store.get(&page.object, PAGE_BYTES_MAX).await?;
    let key = || page.object.to_string();
    let (owner, entries) =
        decode_page(&bytes).map_err(|source| ManifestError::Format { key: key(), source })?;
    let contiguous = entries.windows(2).all(|pair| pair[0].range().next == pair[1].range().base);
    let spans = entries.first().is_some_and(|first| first.range().base == page.range.base)
        && entries.last().is_some_and(|last| last.range().next == page.range.next);
    if owner != partition || crc32c(&[&bytes]) != page.crc || !contiguous || !spans {
        let source = Breach("the page is not the one that the manifest names");
        return Err(ManifestError::Invalid { key: key(), source });
    }
    Ok(Arc::new(entries))
}
