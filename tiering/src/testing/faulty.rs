//! A store that fails as stores do: late, before the deed, after it, and by saying that one's own write is another's.
//!
//! Seeded: the same seed makes the same choices in the same order of requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aquifer_runtime::rng::Rng;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// How often what goes wrong, in thousandths of requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// It fails, and nothing happened.
    pub before: u64,
    /// It happened, and its answer says that it failed.
    pub after: u64,
    /// A create happened, and its answer says that the key was taken.
    pub own_exists: u64,
    /// It takes up to `delay_max` longer.
    pub delayed: u64,
    /// The longest delay.
    pub delay_max: Duration,
}

/// The store.
#[derive(Debug)]
pub struct Faulty {
    inner: Arc<dyn ObjectStore>,
    faults: Faults,
    rng: Rng,
    switches: Arc<Switches>,
}

/// What a test turns by hand.
#[derive(Debug, Default)]
pub struct Switches {
    away: AtomicBool,
    gets: AtomicU64,
    latency_ms: AtomicU64,
    bytes_per_ms: AtomicU64,
}

impl Switches {
    /// Every request fails until it is back.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    /// Gets so far, heads excluded.
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::SeqCst)
    }

    /// Each get takes this long to its first byte, and then as long as its bytes need at this rate (0: no time).
    pub fn set_pace(&self, latency: Duration, bytes_per_second: u64) {
        self.latency_ms.store(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        self.bytes_per_ms.store(bytes_per_second / 1_000, Ordering::SeqCst);
    }
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "faulty {}", self.inner)
    }
}

enum Fate {
    Well,
    Before,
    After,
    OwnExists,
}

fn error(what: &'static str) -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: what.into() }
}

impl Faulty {
    /// Puts itself before a store.
    pub fn new(inner: Arc<dyn ObjectStore>, faults: Faults, seed: u64, switches: Arc<Switches>) -> Faulty {
        Faulty { inner, faults, rng: Rng::seeded(seed), switches }
    }

    async fn fate(&self) -> Fate {
        if self.switches.away.load(Ordering::SeqCst) {
            return Fate::Before;
        }
        let Faults { before, after, own_exists, delayed, delay_max } = self.faults;
        if self.rng.number() % 1_000 < delayed {
            let millis = u64::try_from(delay_max.as_millis()).unwrap_or(u64::MAX).max(1);
            tokio::time::sleep(Duration::from_millis(self.rng.number() % millis)).await;
        }
        match self.rng.number() % 1_000 {
            n if n < before => Fate::Before,
            n if n < before + after => Fate::After,
            n if n < before + after + own_exists => Fate::OwnExists,
            _ => Fate::Well,
        }
    }

    async fn fail_before(&self) -> Result<bool> {
        match self.fate().await {
            Fate::Before => Err(error("failed before")),
            Fate::After => Ok(true),
            _ => Ok(false),
        }
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let create = matches!(options.mode, PutMode::Create);
        match self.fate().await {
            Fate::Before => Err(error("failed before")),
            Fate::After => {
                self.inner.put_opts(location, payload, options).await?;
                Err(error("failed after"))
            }
            Fate::OwnExists if create => {
                self.inner.put_opts(location, payload, options).await?;
                let (path, source) = (location.to_string(), "it is one's own".into());
                Err(object_store::Error::AlreadyExists { path, source })
            }
            _ => self.inner.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        if self.fail_before().await? {
            return Err(error("failed after"));
        }
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        if self.fail_before().await? {
            return Err(error("failed after"));
        }
        let found = self.inner.get_opts(location, options).await?;
        if !head {
            self.switches.gets.fetch_add(1, Ordering::SeqCst);
            let bytes = found.range.end - found.range.start;
            let moving = bytes.checked_div(self.switches.bytes_per_ms.load(Ordering::SeqCst)).unwrap_or(0);
            let wait = self.switches.latency_ms.load(Ordering::SeqCst) + moving;
            if wait > 0 {
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
        Ok(found)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.switches.away.load(Ordering::SeqCst) {
            return Box::pin(futures::stream::iter([Err(error("away"))]));
        }
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.switches.away.load(Ordering::SeqCst) {
            return Box::pin(futures::stream::iter([Err(error("away"))]));
        }
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        if self.fail_before().await? {
            return Err(error("failed after"));
        }
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
