//! A bucket in a simulated world: one linear order of all requests, and every way in which a real one may fail to tell of them.
//!
//! A request sets out with a delay and a fate, both drawn from the seed, and is carried out when the world's time has come, whether
//! or not anybody still waits: a writer that has crashed or lost patience has not called its write back. Some are held for
//! minutes. Answers may be lost or wrong in the ways that S3 has; what is carried out is always whole.
//!
//! A listing of several pages is not one moment's: what is written or removed between two pages shows or does not.
//!
//! The world moves the bucket's time on with [`SimBucket::advance`]; where tokio's time is the world's, [`SimBucket::run`] does.
//! Objects are stamped with that time, and with no other clock.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use futures::{FutureExt as _, TryStreamExt as _};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use aquifer_runtime::rng::Rng;

/// How long a request is held that comes late.
const HELD_MAX: Duration = Duration::from_secs(10 * 60);
/// How long a removal takes that was told as done.
const REMOVAL_MAX: Duration = Duration::from_secs(2 * 60);

/// What a page of a listing holds, as in S3.
const PAGE_KEYS: usize = 1_000;
/// What the bucket's clock shows at its beginning, in seconds of Unix time.
const BEGINNING: Duration = Duration::from_secs(1_700_000_000);

/// How often what goes wrong, in thousandths of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BucketFaults {
    /// It fails, and nothing happened: reset connections, 500, 503.
    pub before: u64,
    /// It happened, and its answer says that it failed.
    pub after: u64,
    /// Nobody is answered. It happens, minutes later.
    pub held: u64,
    /// A create did not happen and is answered by 409: another one is under way. Nothing is settled by that.
    pub conflict: u64,
    /// A create happened, and is answered by 412: a retry below met its own write.
    pub own_exists: u64,
    /// Bytes end early.
    pub short: u64,
    /// A removal is told as done and done later.
    pub late_removal: u64,
    /// The longest time that a request takes.
    pub latency_max: Duration,
}

impl BucketFaults {
    /// A bucket that only takes its time.
    pub fn none() -> BucketFaults {
        BucketFaults { latency_max: Duration::from_millis(40), ..BucketFaults::default() }
    }
}

/// The bucket. Cheap to clone; clones are the same bucket.
#[derive(Clone)]
pub struct SimBucket(Arc<Inner>);

struct Inner {
    objects: Arc<InMemory>,
    stamps: Arc<Stamps>,
    state: Mutex<State>,
    /// Rings when something is put on its way.
    news: Notify,
    rng: Rng,
}

/// When each object was written, by the bucket's own clock.
#[derive(Default)]
struct Stamps {
    now: Mutex<Duration>,
    written: Mutex<BTreeMap<Path, Duration>>,
}

impl Stamps {
    fn written(&self, path: &Path) {
        let now = *self.now.lock();
        self.written.lock().insert(path.clone(), now);
    }

    #[allow(clippy::disallowed_types)] // The only way to make what object_store calls a time; no clock is asked.
    fn stamp(&self, meta: &mut ObjectMeta) {
        let written = self.written.lock().get(&meta.location).copied().unwrap_or_default();
        meta.last_modified = (std::time::SystemTime::UNIX_EPOCH + BEGINNING + written).into();
    }
}

struct State {
    now: Duration,
    faults: BucketFaults,
    away: bool,
    frozen: bool,
    /// By due time, and a number to keep those of one time in order.
    in_flight: BTreeMap<(Duration, u64), Deed>,
    number: u64,
    /// At this request, counted from 1, whoever asks is struck: before it sets out, or once it was carried out.
    strike: Option<(u64, Moment)>,
    is_struck: bool,
    counts: BTreeMap<&'static str, u64>,
    page_keys: usize,
}

/// On which side of a request something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It never sets out.
    Before,
    /// It is carried out, and nobody is told.
    After,
}

/// The name by which requests of all kinds are counted.
const REQUESTS: &str = "requests";

type Deed = Box<dyn FnOnce() + Send>;

impl fmt::Debug for SimBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimBucket")
    }
}

impl fmt::Display for SimBucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated bucket")
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    Before,
    After,
    Held,
    Conflict,
    OwnExists,
    Short,
}

impl Fate {
    fn name(self) -> Option<&'static str> {
        match self {
            Fate::Well => None,
            Fate::Before => Some("failed before"),
            Fate::After => Some("failed after"),
            Fate::Held => Some("held"),
            Fate::Conflict => Some("409"),
            Fate::OwnExists => Some("412 on one's own"),
            Fate::Short => Some("short"),
        }
    }
}

/// What kind of request it is, as far as its fate goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Create,
    Write,
    Removal,
}

fn error(what: &'static str) -> object_store::Error {
    object_store::Error::Generic { store: "simulated", source: what.into() }
}

fn taken(path: &Path) -> object_store::Error {
    object_store::Error::AlreadyExists { path: path.to_string(), source: "so it is said".into() }
}

impl SimBucket {
    /// An empty one.
    pub fn new(seed: u64) -> SimBucket {
        SimBucket(Arc::new(Inner {
            objects: Arc::new(InMemory::new()),
            stamps: Arc::default(),
            news: Notify::new(),
            state: Mutex::new(State {
                now: Duration::ZERO,
                faults: BucketFaults::none(),
                away: false,
                frozen: false,
                in_flight: BTreeMap::new(),
                number: 0,
                strike: None,
                is_struck: false,
                counts: BTreeMap::new(),
                page_keys: PAGE_KEYS,
            }),
            rng: Rng::seeded(seed),
        }))
    }

    /// What is in it, past all faults.
    pub fn contents(&self) -> Arc<dyn ObjectStore> {
        self.0.objects.clone()
    }

    /// From now on requests go wrong as often as this.
    pub fn set_faults(&self, faults: BucketFaults) {
        self.0.state.lock().faults = faults;
    }

    /// While it is away nothing is carried out, and every request fails.
    pub fn set_away(&self, away: bool) {
        self.0.state.lock().away = away;
    }

    /// While it is frozen requests wait, those under way among them.
    pub fn set_frozen(&self, frozen: bool) {
        self.0.state.lock().frozen = frozen;
    }

    /// From now on a page of a listing holds so many keys.
    pub fn set_page_keys(&self, keys: usize) {
        self.0.state.lock().page_keys = keys.max(1);
    }

    /// The request of this number is not answered, and [`SimBucket::take_strike`] tells when it has come.
    pub fn strike_at(&self, request: u64, moment: Moment) {
        self.0.state.lock().strike = Some((request, moment));
    }

    /// Whether that request has come since the last call.
    pub fn take_strike(&self) -> bool {
        std::mem::take(&mut self.0.state.lock().is_struck)
    }

    /// What was asked of it and what went wrong, by name.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.state.lock().counts.clone()
    }

    /// How many requests went wrong.
    pub fn faults(&self) -> u64 {
        self.0.state.lock().counts.iter().filter(|(name, _)| **name != REQUESTS).map(|(_, count)| count).sum()
    }

    /// How many requests are under way.
    pub fn in_flight(&self) -> usize {
        self.0.state.lock().in_flight.len()
    }

    /// Moves the bucket's time on as tokio's goes, which a test may have paused, for as long as this is awaited.
    #[allow(clippy::disallowed_methods)] // Whose time it is, is the test's affair.
    pub async fn run(&self) {
        let began = tokio::time::Instant::now();
        loop {
            self.advance(began.elapsed());
            let next = self.0.state.lock().in_flight.first_key_value().map(|((due, _), _)| began + *due);
            let news = self.0.news.notified();
            match next {
                Some(next) => drop(tokio::time::timeout_at(next, news).await),
                None => news.await,
            }
        }
    }

    /// Moves the bucket's time on and carries out what is due.
    pub fn advance(&self, now: Duration) {
        *self.0.stamps.now.lock() = now;
        loop {
            let deed = {
                let mut state = self.0.state.lock();
                state.now = now;
                let frozen = state.frozen;
                match state.in_flight.first_entry() {
                    Some(first) if first.key().0 <= now && !frozen => first.remove(),
                    _ => return,
                }
            };
            deed();
        }
    }

    fn below(&self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.rng.number() % bound }
    }

    fn within(&self, longest: Duration) -> Duration {
        Duration::from_micros(self.below(u64::try_from(longest.as_micros()).unwrap_or(u64::MAX)))
    }

    fn fate(&self, kind: Kind, faults: &BucketFaults) -> Fate {
        let drawn = self.below(1_000);
        let kinds: [(u64, Fate, bool); 6] = [
            (faults.before, Fate::Before, true),
            (faults.after, Fate::After, kind != Kind::Read),
            (faults.held, Fate::Held, true),
            (faults.conflict, Fate::Conflict, kind == Kind::Create),
            (faults.own_exists, Fate::OwnExists, kind == Kind::Create),
            (faults.short, Fate::Short, kind == Kind::Read),
        ];
        let mut upto = 0;
        for (rate, fate, fits) in kinds {
            upto += rate;
            if drawn < upto {
                return if fits { fate } else { Fate::Well };
            }
        }
        Fate::Well
    }

    /// Puts a request on its way and waits for what comes back.
    async fn ask<T: Send + 'static>(
        &self,
        kind: Kind,
        path: &Path,
        deed: impl FnOnce(&InMemory) -> Result<T> + Send + 'static,
    ) -> Result<(T, Fate)> {
        match self.set_out(kind, path, deed).await {
            Ok(answer) => answer,
            // Held, or struck: no answer comes, and whoever waits runs out of patience.
            Err(_) => std::future::pending().await,
        }
    }

    /// Puts a request on its way.
    fn set_out<T: Send + 'static>(
        &self,
        kind: Kind,
        path: &Path,
        deed: impl FnOnce(&InMemory) -> Result<T> + Send + 'static,
    ) -> oneshot::Receiver<Result<(T, Fate)>> {
        let (tell, told) = oneshot::channel();
        let mut state = self.0.state.lock();
        *state.counts.entry(REQUESTS).or_default() += 1;
        let requests = state.counts[REQUESTS];
        if let Some((_, moment)) = state.strike.take_if(|(request, _)| *request == requests) {
            state.is_struck = true;
            if moment == Moment::After {
                // Nobody is told how it went.
                drop(deed(&self.0.objects));
            }
            return told;
        }
        let (faults, away) = (state.faults, state.away);
        let fate = if away { Fate::Before } else { self.fate(kind, &faults) };
        if let Some(name) = fate.name() {
            *state.counts.entry(name).or_default() += 1;
        }
        let mut due = state.now + self.within(faults.latency_max.max(Duration::from_millis(1)));
        if fate == Fate::Held {
            due += self.within(HELD_MAX);
        }
        state.number += 1;
        let number = state.number;
        let (objects, path) = (self.0.objects.clone(), path.clone());
        let carry_out = move || {
            let answer = match fate {
                Fate::Before => Err(error("failed before")),
                Fate::Conflict => Err(taken(&path)),
                Fate::After => deed(&objects).and(Err(error("failed after"))),
                Fate::OwnExists => deed(&objects).and(Err(taken(&path))),
                Fate::Held => return drop(deed(&objects)),
                Fate::Well | Fate::Short => deed(&objects),
            };
            // Whoever asked may be gone.
            let _ = tell.send(answer.map(|answer| (answer, fate)));
        };
        state.in_flight.insert((due, number), Box::new(carry_out));
        self.0.news.notify_one();
        told
    }

    /// Removes an object; perhaps only some time after that was told as done.
    async fn remove(&self, path: Path) -> Result<()> {
        let objects = self.0.objects.clone();
        let gone = path.clone();
        let remove = move || {
            let one = stream::iter([Ok(gone)]).boxed();
            at_once(objects.delete_stream(one).try_collect::<Vec<_>>()).map(drop)
        };
        let late = self.below(1_000) < self.0.state.lock().faults.late_removal;
        if !late {
            return self.ask(Kind::Removal, &path, move |_| remove()).await.map(|_| ());
        }
        let removal = Box::new(move || drop(remove()));
        let delay = self.within(REMOVAL_MAX);
        {
            let mut state = self.0.state.lock();
            *state.counts.entry("late removal").or_default() += 1;
            state.number += 1;
            let due = (state.now + delay, state.number);
            state.in_flight.insert(due, removal);
            self.0.news.notify_one();
        }
        self.ask(Kind::Removal, &path, |_| Ok(())).await.map(|_| ())
    }
}

/// The memory behind it answers at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a store in memory has nothing to wait for")
}

/// Ends the bytes of an answer early.
fn shortened(found: GetResult, bytes: Bytes) -> GetResult {
    let half = bytes.slice(..bytes.len() / 2);
    let cut: Vec<Result<Bytes>> = vec![Ok(half), Err(error("the connection was closed"))];
    GetResult { payload: GetResultPayload::Stream(stream::iter(cut).boxed()), ..found }
}

#[async_trait]
impl ObjectStore for SimBucket {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let kind = if matches!(options.mode, PutMode::Create) { Kind::Create } else { Kind::Write };
        let (path, stamps) = (location.clone(), self.0.stamps.clone());
        let put = move |objects: &InMemory| {
            let put = at_once(objects.put_opts(&path, payload, options));
            put.inspect(|_| stamps.written(&path))
        };
        Ok(self.ask(kind, location, put).await?.0)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = location.clone();
        let begin = move |objects: &InMemory| at_once(objects.put_multipart_opts(&path, options));
        let (upload, _) = self.ask(Kind::Write, location, begin).await?;
        Ok(Box::new(SimUpload {
            bucket: self.clone(),
            path: location.clone(),
            upload: Arc::new(Mutex::new(upload)),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let (path, stamps) = (location.clone(), self.0.stamps.clone());
        let head = options.head;
        let get = move |objects: &InMemory| {
            let mut found = at_once(objects.get_opts(&path, options))?;
            stamps.stamp(&mut found.meta);
            Ok(found)
        };
        let (found, fate) = self.ask(Kind::Read, location, get).await?;
        if fate != Fate::Short || head {
            return Ok(found);
        }
        let GetResult { payload, meta, range, attributes, extensions } = found;
        let whole = GetResult {
            payload,
            meta: meta.clone(),
            range: range.clone(),
            attributes: attributes.clone(),
            extensions: extensions.clone(),
        };
        let bytes = at_once(whole.bytes())?;
        let rest = GetResultPayload::Stream(stream::empty().boxed());
        Ok(shortened(GetResult { payload: rest, meta, range, attributes, extensions }, bytes))
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let bucket = self.clone();
        let delete = move |location: Result<Path>| {
            let bucket = bucket.clone();
            async move {
                let location = location?;
                bucket.remove(location.clone()).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.cloned(), None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix.cloned(), Some(offset.clone()))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (path, stamps) = (prefix.cloned(), self.0.stamps.clone());
        let list = move |objects: &InMemory| {
            let mut found = at_once(objects.list_with_delimiter(path.as_ref()))?;
            found.objects.iter_mut().for_each(|meta| stamps.stamp(meta));
            Ok(found)
        };
        Ok(self.ask(Kind::Read, &prefix.cloned().unwrap_or_default(), list).await?.0)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (source, target, stamps) = (from.clone(), to.clone(), self.0.stamps.clone());
        let copy = move |objects: &InMemory| {
            at_once(objects.copy_opts(&source, &target, options)).inspect(|()| stamps.written(&target))
        };
        self.ask(Kind::Write, to, copy).await.map(|_| ())
    }
}

impl SimBucket {
    /// A page at a time, each as the bucket is when it is asked for.
    fn listing(&self, prefix: Option<Path>, offset: Option<Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let bucket = self.clone();
        let pages = stream::try_unfold(Some(offset), move |behind| {
            let (bucket, prefix) = (bucket.clone(), prefix.clone());
            async move {
                let Some(behind) = behind else { return Ok(None) };
                let (page, is_last) = bucket.page(prefix, behind).await?;
                let next = page.iter().rev().find_map(|item| Some(item.as_ref().ok()?.location.clone()));
                let next = if is_last { None } else { next.map(Some) };
                Ok::<_, object_store::Error>(Some((stream::iter(page), next)))
            }
        });
        pages.try_flatten().boxed()
    }

    /// What a page holds, and whether it is the last.
    async fn page(
        &self,
        prefix: Option<Path>,
        behind: Option<Path>,
    ) -> Result<(Vec<Result<ObjectMeta>>, bool)> {
        let page_keys = self.0.state.lock().page_keys;
        let (below, stamps) = (prefix.clone(), self.0.stamps.clone());
        let list = move |objects: &InMemory| {
            let found = match &behind {
                Some(offset) => objects.list_with_offset(below.as_ref(), offset),
                None => objects.list(below.as_ref()),
            };
            let mut found = at_once(found.try_collect::<Vec<_>>())?;
            let is_last = found.len() <= page_keys;
            found.truncate(page_keys);
            found.iter_mut().for_each(|meta| stamps.stamp(meta));
            Ok((found, is_last))
        };
        let ((found, is_last), fate) = self.ask(Kind::Read, &prefix.unwrap_or_default(), list).await?;
        let whole = found.into_iter().map(Ok);
        // A listing that breaks has given a beginning.
        Ok(match fate {
            Fate::Short => {
                let half = whole.len() / 2;
                (whole.take(half).chain([Err(error("the connection was closed"))]).collect(), true)
            }
            _ => (whole.collect(), is_last),
        })
    }
}

/// An upload in parts.
struct SimUpload {
    bucket: SimBucket,
    path: Path,
    upload: Arc<Mutex<Box<dyn MultipartUpload>>>,
}

impl fmt::Debug for SimUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimUpload").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for SimUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Its place among the parts is that of the call.
        let part = self.upload.lock().put_part(data);
        let (bucket, path) = (self.bucket.clone(), self.path.clone());
        Box::pin(async move { bucket.ask(Kind::Write, &path, move |_| at_once(part)).await.map(|_| ()) })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let (upload, path, stamps) = (self.upload.clone(), self.path.clone(), self.bucket.0.stamps.clone());
        let complete =
            move |_: &InMemory| at_once(upload.lock().complete()).inspect(|_| stamps.written(&path));
        Ok(self.bucket.ask(Kind::Write, &self.path, complete).await?.0)
    }

    async fn abort(&mut self) -> Result<()> {
        let upload = self.upload.clone();
        self.bucket.ask(Kind::Write, &self.path, move |_| at_once(upload.lock().abort())).await.map(|_| ())
    }
}
