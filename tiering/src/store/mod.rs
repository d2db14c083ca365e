//! A bucket, or a folder that stands in for one.
//!
//! The one place that talks to object_store. Each request has a deadline and is counted; what failed is repeated with growing,
//! jittered pauses while repeating it is harmless; and an error says whether the thing may have happened (`StoreError`).
//! Only `Store::put_new` is not repeated blindly: its caller settles it by reading the key.
//!
//! A folder is written with fsync, of the file and of its name, so that "stored" means the same as it does of a bucket.

mod error;
mod file;
mod list;
mod memory;
mod metrics;
mod multipart;
mod open_error;
mod retry;
mod s3;
mod url;

/// Does a store keep the promises that this crate builds on?
pub mod certify;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aquifer_model::{ByteCount, Timestamp};
use aquifer_runtime::World;
use aquifer_runtime::tasks;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{GetOptions, GetRange, GetResultPayload, ObjectStore, PutMode, PutOptions, PutPayload};
use uuid::Uuid;

use crate::path::{self, Key, Prefix};
use retry::Retry;

pub use error::{Operation, Refusal, StoreError};
#[cfg(feature = "sim")]
pub use memory::set_memory;
pub use metrics::{ByOperation, StoreMetrics};
pub use multipart::Multipart;
pub use open_error::OpenError;
pub use retry::StoreOptions;
pub use s3::{Created, install_tls};
pub use url::{Location, S3Location};

/// How many objects looks at the store's clock leave: stores do not like it when one is written more than once a second.
const CLOCK_OBJECTS: u64 = 64;

/// How an object got into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// By one request.
    Once,
    /// By the last of several: an earlier one may still arrive, and bring the object back if it is removed before.
    Repeatedly,
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectFacts {
    /// Its key.
    pub key: Key,
    /// Its length.
    pub size: ByteCount,
    /// When it was written, by the store's clock.
    pub modified: Timestamp,
}

/// A store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    objects: Arc<dyn ObjectStore>,
    /// The bucket's settings, where it is one.
    bucket: Option<s3::Bucket>,
    location: Location,
    /// For people: no settings and no secrets.
    url: String,
    options: StoreOptions,
    world: World,
    metrics: StoreMetrics,
}

impl Store {
    /// Opens what a URL names, and makes nothing: a bucket or a folder that is not there is rather a mistyped one. Asks a bucket
    /// nothing yet. The connections of its data are kept up by the threads that this runs on, whoever makes requests.
    pub async fn open(
        url: &str,
        options: StoreOptions,
        world: World,
        metrics: StoreMetrics,
    ) -> Result<Store, OpenError> {
        let bad = |why| OpenError::BadUrl { url: url.to_owned(), why };
        let location = Location::parse(url).map_err(bad)?;
        let (objects, bucket, shown) = match &location {
            Location::Memory => (memory::open(), None, "memory:///".to_owned()),
            Location::Folder(path) => {
                (open_folder(path, &world)?, None, format!("file://{}", path.display()))
            }
            Location::S3(place) => {
                let (objects, bucket) = s3::open(place, &options).await?;
                let objects = match place.prefix.as_str() {
                    "" => objects,
                    prefix => Arc::new(PrefixStore::new(objects, prefix)),
                };
                let shown = format!("s3://{}/{}", place.bucket, place.prefix);
                (objects, Some(bucket), shown.trim_end_matches('/').to_owned())
            }
        };
        Ok(Store(Arc::new(Inner { objects, bucket, location, url: shown, options, world, metrics })))
    }

    /// Makes the folder that a URL names, if it names one and there is none; for those who know that it is to be a new one.
    pub fn make_folder(url: &str, world: &World) -> Result<(), OpenError> {
        match Location::parse(url) {
            Err(why) => Err(OpenError::BadUrl { url: url.to_owned(), why }),
            Ok(Location::Memory | Location::S3(_)) => Ok(()),
            Ok(Location::Folder(path)) => {
                let made = world.disk.create_dir_all(&path);
                made.map_err(|error| OpenError::Folder { path, why: error.to_string() })
            }
        }
    }

    /// The same store with something put between it and its objects: how tests make it fail.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn wrapped(&self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Store {
        Store(Arc::new(Inner {
            objects: wrap(self.0.objects.clone()),
            bucket: self.0.bucket.clone(),
            location: self.0.location.clone(),
            url: self.0.url.clone(),
            options: self.0.options.clone(),
            world: self.0.world.clone(),
            metrics: StoreMetrics::default(),
        }))
    }

    /// Where it is, for people; no settings and no secrets.
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// What it counts.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.0.metrics
    }

    pub(crate) fn world(&self) -> &World {
        &self.0.world
    }

    /// Asks the store for one listing: reachable, right bucket, right credentials? One attempt.
    pub async fn check(&self) -> Result<(), OpenError> {
        let mut listing = self.0.objects.list(Some(path::cluster().path()));
        let listed = match tokio::time::timeout(self.0.options.attempt, listing.next()).await {
            Err(_) => {
                let why = format!("no answer within {:?}", self.0.options.attempt);
                return Err(OpenError::Unreachable { at: self.place(), why });
            }
            Ok(None | Some(Ok(_))) => return Ok(()),
            Ok(Some(Err(error))) => error::classify(Operation::List, path::cluster().as_str(), error),
        };
        Err(self.explain(listed))
    }

    /// Makes the bucket where there is none; a folder and memory are always there.
    pub async fn create_bucket_if_missing(&self) -> Result<Created, OpenError> {
        match (&self.0.bucket, self.check().await) {
            (_, Ok(())) => Ok(Created::Existed),
            (Some(bucket), Err(OpenError::BucketMissing { .. })) => bucket.create().await,
            (_, Err(error)) => Err(error),
        }
    }

    /// Lets the bucket drop multipart uploads that were never finished. Best effort, with a log line.
    pub async fn set_lifecycle(&self) {
        if let Some(bucket) = &self.0.bucket {
            bucket.set_lifecycle().await;
        }
    }

    fn place(&self) -> String {
        match &self.0.location {
            Location::S3(place) => place.endpoint.clone().unwrap_or_else(|| "AWS".to_owned()),
            _ => self.0.url.clone(),
        }
    }

    /// Says what to do about an error of the first request.
    fn explain(&self, error: StoreError) -> OpenError {
        let bucket = match &self.0.location {
            Location::S3(place) => place.bucket.clone(),
            _ => String::new(),
        };
        let at = self.place();
        match error {
            StoreError::Refused { why: Refusal::BucketMissing, .. } => {
                OpenError::BucketMissing { bucket, at }
            }
            StoreError::Refused { why: Refusal::Credentials, message, .. } => {
                OpenError::WrongCredentials { at, why: message }
            }
            StoreError::Refused { why: Refusal::Permission, message, .. } => {
                OpenError::Permission { store: self.0.url.clone(), why: message }
            }
            StoreError::Refused { why: Refusal::Region, message, .. } => {
                OpenError::WrongRegion { bucket, why: message }
            }
            StoreError::Unavailable { message, .. } | StoreError::Indeterminate { message, .. } => {
                OpenError::Unreachable { at, why: message }
            }
            other => OpenError::Unusable { at, why: other.to_string() },
        }
    }

    /// Writes an object unless its key is taken. Not repeated: after [`StoreError::AlreadyExists`] and
    /// [`StoreError::Indeterminate`] the caller reads the key to see whose it is.
    pub async fn put_new(&self, key: &Key, bytes: Bytes) -> Result<(), StoreError> {
        let size = bytes.len() as u64;
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = self.0.objects.put_opts(key.path(), PutPayload::from(bytes), options);
        self.attempt(Operation::Create, key.as_str(), size, put).await?;
        self.0.metrics.sent.inc_by(size);
        Ok(())
    }

    /// Writes an object whose key nobody else ever writes, so that repeating it does no harm.
    pub async fn put(&self, key: &Key, parts: Vec<Bytes>) -> Result<Sent, StoreError> {
        let payload: PutPayload = parts.into_iter().collect();
        let size = payload.content_length() as u64;
        let attempts = AtomicU32::new(0);
        let put = || {
            attempts.fetch_add(1, Ordering::Relaxed);
            self.0.objects.put_opts(key.path(), payload.clone(), PutOptions::default())
        };
        self.repeat(Operation::Put, key.as_str(), size, put).await?;
        self.0.metrics.sent.inc_by(size);
        Ok(if attempts.into_inner() > 1 { Sent::Repeatedly } else { Sent::Once })
    }

    /// Begins an object that is written in parts.
    pub async fn multipart(&self, key: &Key) -> Result<Multipart, StoreError> {
        Multipart::begin(self.clone(), key.clone()).await
    }

    /// All of an object of at most `bytes_max`.
    pub async fn get(&self, key: &Key, bytes_max: ByteCount) -> Result<Bytes, StoreError> {
        let get = || async {
            let found = self.0.objects.get_opts(key.path(), GetOptions::default()).await?;
            let size = found.meta.size;
            if size > bytes_max.get() { Ok(Err(size)) } else { found.bytes().await.map(Ok) }
        };
        let found = self.repeat(Operation::Get, key.as_str(), bytes_max.get(), get).await?;
        let bytes = found.map_err(|bytes| StoreError::TooLarge {
            key: key.to_string(),
            bytes,
            bytes_max: bytes_max.get(),
        })?;
        self.0.metrics.received.inc_by(bytes.len() as u64);
        Ok(bytes)
    }

    /// A range of an object; all of it, or an error.
    pub async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes, StoreError> {
        let wanted = range.end.saturating_sub(range.start);
        let get = || self.get_with(key, GetRange::Bounded(range.clone()));
        match self.repeat(Operation::Get, key.as_str(), wanted, get).await {
            Ok((bytes, _)) if bytes.len() as u64 == wanted => {
                self.0.metrics.received.inc_by(wanted);
                Ok(bytes)
            }
            Ok((bytes, _)) => Err(self.fewer_came(key, &range, bytes.len() as u64).await),
            Err(error) => Err(self.of_range(key, &range, error).await),
        }
    }

    /// What it means that a range was answered with other than all of its bytes.
    async fn fewer_came(&self, key: &Key, range: &Range<u64>, received: u64) -> StoreError {
        let message = format!("bytes {} to {} were asked for, {received} came", range.start, range.end);
        let unavailable =
            StoreError::Unavailable { operation: Operation::Get, key: key.to_string(), message };
        self.unless_short(key, range, unavailable).await
    }

    /// What it means that a range was refused.
    async fn of_range(&self, key: &Key, range: &Range<u64>, error: StoreError) -> StoreError {
        match error {
            StoreError::Refused { why: Refusal::Request, .. } => self.unless_short(key, range, error).await,
            error => error,
        }
    }

    /// The object may end before the range does: then somebody cut it, and asking again does not help.
    async fn unless_short(&self, key: &Key, range: &Range<u64>, error: StoreError) -> StoreError {
        match self.head(key).await {
            Ok(facts) if facts.size.get() < range.end => {
                let (bytes, wanted) = (facts.size.get(), range.end);
                StoreError::Short { key: key.to_string(), bytes, wanted }
            }
            Ok(_) => error,
            Err(StoreError::NotFound { key }) => StoreError::NotFound { key },
            Err(_) => error,
        }
    }

    /// A range of an object, from `start` to as far as `into` goes: all of it, or an error. `see` is shown the bytes in pieces as
    /// they arrive, while they are at hand; what it made of them is given back. An attempt that is repeated begins anew; one at a
    /// folder's file that was out of time is not, as the visit that hangs there still has the buffer.
    pub async fn get_range_into<B, W>(
        &self,
        key: &Key,
        start: u64,
        mut into: B,
        see: fn(&mut W, &[u8]),
    ) -> Result<(B, W), StoreError>
    where
        B: AsMut<[u8]> + Send + 'static,
        W: Default + Send + 'static,
    {
        let wanted = into.as_mut().len() as u64;
        let range = start..start + wanted;
        let mut retry = self.retry();
        let mut slot = Some(into);
        loop {
            let fill = self.fill(key, range.clone(), &mut slot, see);
            let outcome = self.attempt(Operation::Get, key.as_str(), wanted, fill).await;
            match (outcome, slot.take()) {
                (Ok((received, seen)), Some(into)) if received == wanted => {
                    self.0.metrics.received.inc_by(received);
                    return Ok((into, seen));
                }
                (Ok((received, _)), _) => return Err(self.fewer_came(key, &range, received).await),
                (Err(error), Some(into)) if error.is_transient() => {
                    retry.pause(error).await?;
                    slot = Some(into);
                }
                (Err(error), _) => return Err(self.of_range(key, &range, error).await),
            }
        }
    }

    /// One attempt to fill the buffer in `slot`, which is away while a folder's file is read into it. Bytes beyond it are counted
    /// and dropped.
    async fn fill<B, W>(
        &self,
        key: &Key,
        range: Range<u64>,
        slot: &mut Option<B>,
        see: fn(&mut W, &[u8]),
    ) -> object_store::Result<(u64, W)>
    where
        B: AsMut<[u8]> + Send + 'static,
        W: Default + Send + 'static,
    {
        let start = range.start;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let mut pieces = match self.0.objects.get_opts(key.path(), options).await?.payload {
            GetResultPayload::Stream(pieces) => pieces,
            GetResultPayload::File(file, _) => {
                let mut into = slot.take();
                let read = move || {
                    let room = into.as_mut().map(AsMut::as_mut).unwrap_or_default();
                    let outcome = file::read_into(&file, start, room, see);
                    (into, outcome)
                };
                let (into, outcome) = tasks::blocking(read).await;
                *slot = into;
                return outcome.map_err(|error| object_store::Error::Generic {
                    store: "LocalFileSystem",
                    source: Box::new(error),
                });
            }
        };
        let into = slot.as_mut().map(AsMut::as_mut).unwrap_or_default();
        let (mut received, mut seen) = (0, W::default());
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            let room = into.get_mut(received..).unwrap_or_default();
            let count = room.len().min(piece.len());
            room[..count].copy_from_slice(&piece[..count]);
            see(&mut seen, &piece[..count]);
            received += piece.len();
        }
        Ok((received as u64, seen))
    }

    /// The last bytes of an object, at most `count`, and its whole length.
    pub async fn get_suffix(&self, key: &Key, count: ByteCount) -> Result<(Bytes, ByteCount), StoreError> {
        let get = || self.get_with(key, GetRange::Suffix(count.get()));
        let (bytes, size) = self.repeat(Operation::Get, key.as_str(), count.get(), get).await?;
        self.0.metrics.received.inc_by(bytes.len() as u64);
        Ok((bytes, ByteCount(size)))
    }

    async fn get_with(&self, key: &Key, range: GetRange) -> object_store::Result<(Bytes, u64)> {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let found = self.0.objects.get_opts(key.path(), options).await?;
        let size = found.meta.size;
        Ok((found.bytes().await?, size))
    }

    /// The facts of an object.
    pub async fn head(&self, key: &Key) -> Result<ObjectFacts, StoreError> {
        let head = || async {
            let options = GetOptions { head: true, ..GetOptions::default() };
            Ok(self.0.objects.get_opts(key.path(), options).await?.meta)
        };
        Ok(list::facts(self.repeat(Operation::Head, key.as_str(), 0, head).await?))
    }

    /// All objects below a prefix, in order of their keys, from behind `after` on. Ends after an error.
    pub fn list(
        &self,
        prefix: &Prefix,
        after: Option<&Key>,
    ) -> BoxStream<'static, Result<ObjectFacts, StoreError>> {
        list::Listing::new(self.clone(), prefix.clone(), after.cloned()).stream()
    }

    /// The names of the folders directly below a prefix, in order.
    pub async fn folders(&self, prefix: &Prefix) -> Result<Vec<String>, StoreError> {
        let list = || self.0.objects.list_with_delimiter(Some(prefix.path()));
        let found = self.repeat(Operation::List, prefix.as_str(), 0, list).await?;
        let mut names: Vec<String> =
            found.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect();
        names.sort();
        Ok(names)
    }

    /// Removes objects, a thousand in a request where the store can. One that is not there is no error.
    pub async fn delete(&self, keys: Vec<Key>) -> Result<(), StoreError> {
        let Some(first) = keys.first().map(ToString::to_string) else {
            return Ok(());
        };
        let delete = || async {
            let paths: Vec<_> = keys.iter().map(|key| Ok(key.path().clone())).collect();
            let mut outcomes = self.0.objects.delete_stream(stream::iter(paths).boxed());
            let mut failure = None;
            while let Some(outcome) = outcomes.next().await {
                match outcome {
                    Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => failure = Some(error),
                }
            }
            failure.map_or(Ok(()), Err)
        };
        self.repeat(Operation::Delete, &first, 0, delete).await
    }

    /// Makes sure that an object which was found, rather than just written, would survive a power cut. A bucket never shows what
    /// would not; a folder shows a file as soon as it has its name, which is before that name is synced.
    pub async fn harden(&self, key: &Key) -> Result<(), StoreError> {
        let Location::Folder(root) = &self.0.location else {
            return Ok(());
        };
        let (disk, path) = (self.0.world.disk.clone(), root.join(key.as_str()));
        let synced = aquifer_runtime::tasks::blocking(move || {
            disk.open_read(&path)?.sync_data()?;
            path.parent().map_or(Ok(()), |folder| disk.sync_dir(folder))
        });
        synced.await.map_err(|error| StoreError::Indeterminate {
            operation: Operation::Create,
            key: key.to_string(),
            message: error.to_string(),
        })
    }

    /// The store's own time: what a write now is stamped with. Costs two requests. What is written stays, for a later look to
    /// write over: one that is removed could be brought back by a write that comes late, and nobody would look for it.
    pub async fn clock(&self) -> Result<Timestamp, StoreError> {
        let slot = self.0.world.rng.number() % CLOCK_OBJECTS;
        let key = path::probe_object(Uuid::from_u128(slot.into()), "clock");
        self.put(&key, vec![Bytes::from_static(b"tick")]).await?;
        Ok(self.head(&key).await?.modified)
    }

    /// Removes what unfinished uploads below a prefix have left: parts in a bucket that are older than `before`, staged files in a
    /// folder. Gives how many.
    pub async fn abort_uploads(&self, prefix: &Prefix, before: Timestamp) -> Result<u64, StoreError> {
        let failed = |message| {
            let key = prefix.as_str().to_owned();
            StoreError::Unavailable { operation: Operation::Part, key, message }
        };
        match (&self.0.bucket, &self.0.location) {
            (Some(bucket), _) => bucket.abort_uploads(prefix.as_str(), before.millis()).await.map_err(failed),
            (None, Location::Folder(root)) => {
                let folder = root.join(prefix.as_str());
                let disk = self.0.world.disk.clone();
                let removed = aquifer_runtime::tasks::blocking(move || remove_staged(&disk, &folder)).await;
                removed.map_err(|error| failed(error.to_string()))
            }
            (None, _) => Ok(0),
        }
    }

    /// One attempt, within its time.
    async fn attempt<T>(
        &self,
        operation: Operation,
        key: &str,
        bytes: u64,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, StoreError> {
        let patience = self.0.options.patience(ByteCount(bytes));
        let began = self.0.world.clock.now();
        let outcome = match tokio::time::timeout(patience, request).await {
            Ok(outcome) => outcome.map_err(|error| error::classify(operation, key, error)),
            Err(_) => Err(StoreError::Indeterminate {
                operation,
                key: key.to_owned(),
                message: format!("no answer within {patience:?}"),
            }),
        };
        let seconds = self.0.world.clock.now().duration_since(began).as_secs_f64();
        self.0.metrics.note(operation, seconds, outcome.as_ref().err());
        outcome
    }

    /// Attempts until one succeeds, one fails for good, or the deadline passes.
    async fn repeat<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        operation: Operation,
        key: &str,
        bytes: u64,
        request: impl Fn() -> F,
    ) -> Result<T, StoreError> {
        let mut retry = self.retry();
        loop {
            match self.attempt(operation, key, bytes, request()).await {
                Err(error) if error.is_transient() => retry.pause(error).await?,
                outcome => return outcome,
            }
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        Retry::new(self.clone())
    }
}

fn open_folder(path: &std::path::Path, world: &World) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let failed = |why: String| OpenError::Folder { path: path.to_owned(), why };
    match world.disk.list(path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(OpenError::FolderMissing { path: path.to_owned() });
        }
        Err(error) => return Err(failed(error.to_string())),
    }
    let folder = LocalFileSystem::new_with_prefix(path).map_err(|error| failed(error::message(&error)))?;
    Ok(Arc::new(folder.with_fsync(true)))
}

/// object_store stages `name#1` beside `name`; a crash leaves it, and no listing shows it.
fn remove_staged(disk: &aquifer_runtime::files::Disk, folder: &std::path::Path) -> std::io::Result<u64> {
    if !disk.exists(folder)? {
        return Ok(0);
    }
    let mut removed = 0;
    for entry in disk.list(folder)? {
        let staged = entry.name.rsplit_once('#').is_some_and(|(_, number)| number.parse::<u32>().is_ok());
        if staged && !entry.is_dir {
            disk.remove(&folder.join(entry.name))?;
            removed += 1;
        }
    }
    Ok(removed)
}
