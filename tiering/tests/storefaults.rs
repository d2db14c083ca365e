//! Writers that race, freeze and thaw, and readers beside them, over a bucket that fails in every way it can: nothing committed is
//! ever lost, nobody writes over another, readers get what was written, and nothing is left behind.
//!
//! Time is paused: deadlines, graces and writes that come minutes late cost nothing, and a seed repeats its run. With the tests
//! a few thousand requests go wrong; `cargo xtask prove storefaults-sim` asks for more.

#![allow(clippy::unwrap_used)] // All of this file is a test, helpers included.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aquifer_model::{BrokerId, ByteCount, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::clock::Clock;
use aquifer_runtime::files::Disk;
use aquifer_runtime::rng::Rng;
use aquifer_runtime::tasks::TaskGroup;
use aquifer_tiering::gc::{CollectDepth, Retention};
use aquifer_tiering::inspect::{self, VerifyOptions};
use aquifer_tiering::manifest::commit::{ClaimError, CommitError};
use aquifer_tiering::read::{ColdRequest, ReadError};
use aquifer_tiering::store::{Store, StoreMetrics, StoreOptions};
use aquifer_tiering::testing::bucket::{BucketFaults, SimBucket};
use aquifer_tiering::testing::segments::{Recipe, epoch_of, offset_of};
use aquifer_tiering::testing::suite::read_all;
use aquifer_tiering::tier::{Claimed, Metrics, Setup, Tier};
use aquifer_tiering::upload::UploadError;
use aquifer_tiering::{Identity, Incarnation, Options};
use parking_lot::Mutex;
use uuid::Uuid;

/// Records in each segment of these tests.
const SEGMENT: i64 = 100;
/// How many steps each broker takes.
const STEPS: usize = 30;
const BROKERS: u64 = 3;
/// So many faults with the tests; `AQUIFER_STORE_FAULTS` asks for others.
const FAULTS: u64 = 3_000;
const GRACE: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(60);

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId::new(Uuid::from_u128(1)), partition: PartitionIndex(0) }
}

/// The world of one seed.
struct Arena {
    seed: u64,
    bucket: SimBucket,
    world: World,
    tasks: TaskGroup,
    options: Options,
    referee: Mutex<Referee>,
}

/// What the whole contest knows.
#[derive(Default)]
struct Referee {
    /// The last epoch given out. Epochs rise over all brokers, as a controller sees to.
    epoch: i32,
    /// The furthest end that any commit has proved.
    proved: i64,
    /// What happened: a contest must have had some of each.
    happened: BTreeMap<&'static str, u64>,
    logs: BTreeMap<i64, Vec<u8>>,
}

impl Referee {
    fn note(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }

    /// The bytes of the segment that starts here.
    fn log(&mut self, base: i64) -> &[u8] {
        self.logs.entry(base).or_insert_with(|| Recipe::small(base).log())
    }
}

impl Arena {
    fn new(seed: u64) -> Arena {
        let rng = Rng::seeded(seed);
        let clock = Clock::simulated(Timestamp(1_700_000_000_000));
        let bucket = SimBucket::new(rng.number());
        // Listings of some pages, objects of some parts, manifests of some generations of pages: with as little data as possible.
        bucket.set_page_keys(3 + (rng.number() % 20) as usize);
        let part = ByteCount(if rng.number().is_multiple_of(2) { 4_096 } else { 1 << 20 });
        let options = Options {
            upload_multipart_threshold: part,
            upload_part_bytes: part,
            manifest_entries_max: 5,
            manifest_page_entries: 3,
            manifest_age_max: Duration::from_secs(10),
            delete_grace: GRACE,
            expire_segments_max: 3,
            chunk_bytes: ByteCount::mib(1),
            chunk_bytes_first: ByteCount::kib(256),
            cache_bytes: ByteCount::mib(6),
            ahead_bytes_total: ByteCount::mib(4),
            ..Options::default()
        };
        let world = World { clock, rng, disk: Disk::host() };
        Arena { seed, bucket, world, tasks: TaskGroup::new(), options, referee: Mutex::default() }
    }

    /// What went wrong is drawn anew: much of one kind meets what a little of each never does.
    fn faults(&self) -> BucketFaults {
        let rate = |most: u64| {
            let number = self.world.rng.number();
            if number.is_multiple_of(2) { 0 } else { number / 2 % most }
        };
        BucketFaults {
            before: rate(300),
            after: rate(200),
            held: rate(60),
            conflict: rate(200),
            own_exists: rate(200),
            short: rate(300),
            late_removal: 0,
            latency_max: Duration::from_millis(20 + rate(2_000)),
        }
    }

    async fn store(&self) -> Store {
        let (options, metrics) = (StoreOptions::default(), StoreMetrics::default());
        let store = Store::open("memory:///", options, self.world.clone(), metrics).await.unwrap();
        let bucket = self.bucket.clone();
        store.wrapped(|_| Arc::new(bucket))
    }

    async fn tier(&self, broker: u64) -> Tier {
        let process = self.world.rng.uuid();
        let broker = BrokerId(i32::try_from(broker).unwrap());
        Tier::new(Setup {
            store: self.store().await,
            identity: Identity { incarnation: Incarnation::FIRST, broker, process },
            options: self.options.clone(),
            world: self.world.clone(),
            tasks: self.tasks.clone(),
            metrics: Metrics::default(),
            adopted: true,
        })
    }

    fn note(&self, what: &'static str) {
        self.referee.lock().note(what);
    }

    async fn pause(&self, longest: Duration) {
        let millis = u64::try_from(longest.as_millis()).unwrap();
        tokio::time::sleep(Duration::from_millis(self.world.rng.number() % millis)).await;
    }

    /// Fails unless these are the bytes of all batches from that of `from` up to `next`.
    fn check_bytes(&self, bytes: &[u8], from: i64, next: i64) {
        let mut referee = self.referee.lock();
        let first = from - from % SEGMENT;
        let expected: Vec<u8> =
            (first..next).step_by(SEGMENT as usize).flat_map(|base| referee.log(base).to_vec()).collect();
        // All batches are equally long.
        let batch_bytes = referee.log(0).len() / 10;
        let place = |offset: i64| (offset - first) as usize / 10 * batch_bytes;
        let is_it = bytes == &expected[place(from)..place(next)];
        assert!(is_it, "seed {}: other bytes than were written from {from} to {next}", self.seed);
    }
}

struct Broker<'a> {
    arena: &'a Arena,
    tier: Tier,
    folder: &'a Path,
    claimed: Option<Claimed>,
    frozen: Vec<Claimed>,
}

impl Broker<'_> {
    async fn step(&mut self) {
        let choice = self.arena.world.rng.number() % 12;
        let Some(mut claimed) = self.claimed.take() else { return self.claim().await };
        match choice {
            // Freezes: it goes on later, believing that it leads.
            0 => self.frozen.push(claimed),
            // Thaws one.
            1 if !self.frozen.is_empty() => {
                let mut thawed = self.frozen.remove(0);
                self.act(&mut thawed, self.arena.world.rng.number() % 12).await;
                self.arena.note("thawed");
                self.claimed = Some(claimed);
            }
            _ => {
                let keep = self.act(&mut claimed, choice).await;
                self.claimed = keep.then_some(claimed);
            }
        }
    }

    async fn claim(&mut self) {
        let epoch = {
            let mut referee = self.arena.referee.lock();
            referee.epoch += 1;
            epoch_of(referee.epoch)
        };
        match self.tier.claim(partition(), epoch).await {
            Ok(claimed) => {
                self.arena.note("claimed");
                self.claimed = Some(claimed);
            }
            Err(ClaimError::Fenced(_)) => self.arena.note("fenced"),
            Err(ClaimError::Manifest(_)) => {}
            Err(ClaimError::Deleted) => panic!("nobody deletes"),
        }
    }

    /// Gives whether the claim may still be good.
    async fn act(&self, claimed: &mut Claimed, choice: u64) -> bool {
        let arena = self.arena;
        let rng = &arena.world.rng;
        let outcome = match choice {
            0..=6 => match self.upload(claimed, choice == 6).await {
                Some(error) => Err(error),
                None => return true,
            },
            7 => claimed.collect(CollectDepth::Orphans).await.map(drop),
            8 => claimed.collect(CollectDepth::Removed).await.map(drop),
            // Somebody deletes records.
            9 => {
                let behind = claimed.manifest().log_start().get() + (rng.number() % 150) as i64;
                claimed.set_log_start(offset_of(behind)).await.map(drop)
            }
            _ => {
                let keep = ByteCount(20_000 + rng.number() % 200_000);
                claimed.expire(Retention { bytes: Some(keep), ..Retention::default() }).await.map(drop)
            }
        };
        match outcome {
            Ok(()) => true,
            Err(CommitError::Manifest(_) | CommitError::Superseded(_)) => {
                arena.note("failed");
                true
            }
            Err(CommitError::Fenced(_)) => {
                arena.note("fenced");
                false
            }
            Err(CommitError::Invalid(breach)) => {
                panic!("seed {}: a change breaks the manifest: {breach}", arena.seed)
            }
        }
    }

    async fn upload(&self, claimed: &mut Claimed, dropped: bool) -> Option<CommitError> {
        let (arena, rng) = (self.arena, &self.arena.world.rng);
        let base = claimed.manifest().end().unwrap_or(Offset::ZERO).get();
        let source = Recipe::small(base - base % SEGMENT).source(self.folder);
        // A task that is dropped midway, as on a change of leader.
        let patience = if dropped { Duration::from_millis(rng.number() % 4_000) } else { PATIENCE * 60 };
        match tokio::time::timeout(patience, claimed.upload(source)).await {
            Err(_) if dropped => arena.note("dropped midway"),
            Err(_) => panic!("seed {}: an upload does not end", arena.seed),
            Ok(Ok(proof)) => {
                let mut referee = arena.referee.lock();
                referee.note("uploaded");
                referee.proved = referee.proved.max(proof.end().get());
            }
            Ok(Err(UploadError::Commit(error))) => return Some(error),
            Ok(Err(UploadError::Store(_) | UploadError::Gap { .. })) => arena.note("failed"),
            Ok(Err(error)) => panic!("seed {}: {error}", arena.seed),
        }
        None
    }
}

/// Reads here and there for as long as the contest goes on.
async fn read_along(arena: &Arena, tier: Tier, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        arena.pause(Duration::from_secs(5)).await;
        let proved = arena.referee.lock().proved;
        if proved == 0 {
            continue;
        }
        let offset = (arena.world.rng.number() % proved.unsigned_abs()) as i64;
        let request = ColdRequest {
            partition: partition(),
            offset: offset_of(offset),
            bytes_max: ByteCount(1 + arena.world.rng.number() % 60_000),
            upper: Offset::MAX,
            wait_until: arena.world.clock.now() + Duration::from_secs(20),
        };
        match tier.read(request).await {
            Ok(read) if read.slices.is_empty() => arena.note("read nothing in time"),
            Ok(read) => {
                let from = offset - offset % 10;
                arena.check_bytes(&read.slices.concat(), from, read.next.get());
                arena.note("read");
            }
            Err(ReadError::OutOfRange { start, end }) => {
                assert!(offset < start.get() || offset >= end.get(), "seed {}: {offset} denied", arena.seed);
            }
            Err(ReadError::NotTiered) => {}
            Err(ReadError::Unavailable { .. }) => arena.note("could not read"),
            Err(error) => panic!("seed {}: {error}", arena.seed),
        }
    }
}

async fn contest(arena: &Arena) {
    let folder = tempfile::tempdir().unwrap();
    let over = AtomicBool::new(false);
    let weather = async {
        while !over.load(Ordering::Relaxed) {
            arena.bucket.set_faults(arena.faults());
            arena.pause(Duration::from_secs(120)).await;
        }
    };
    let brokers = async {
        let folder = folder.path();
        let brokers = (0..BROKERS).map(|number| async move {
            let tier = arena.tier(number).await;
            let mut broker = Broker { arena, tier, folder, claimed: None, frozen: Vec::new() };
            for _ in 0..STEPS {
                broker.step().await;
                arena.pause(Duration::from_secs(20)).await;
            }
        });
        futures::future::join_all(brokers).await;
        over.store(true, Ordering::Relaxed);
    };
    futures::join!(weather, brokers, read_along(arena, arena.tier(8).await, &over));
    arena.bucket.set_faults(BucketFaults::none());
    audit(arena).await;
}

/// The last word: a leader over a bucket that works, once all that was under way has come.
async fn audit(arena: &Arena) {
    let seed = arena.seed;
    while arena.bucket.in_flight() > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (epoch, proved) = {
        let referee = arena.referee.lock();
        (referee.epoch + 1, referee.proved)
    };
    let (last, store) = (arena.tier(9).await, arena.store().await);
    let mut claimed = last.claim(partition(), epoch_of(epoch)).await.unwrap();
    let end = claimed.manifest().end().unwrap_or(Offset::ZERO).get();
    assert!(end >= proved, "seed {seed}: {proved} was proved, the tier ends at {end}");
    let before = inspect::verify(&store, VerifyOptions::default().deep()).await.unwrap();
    assert!(before.is_clean(), "seed {seed}: {before:?}");
    tokio::time::sleep(GRACE + Duration::from_secs(1)).await;
    claimed.collect(CollectDepth::Orphans).await.unwrap();
    let after = inspect::verify(&store, VerifyOptions::default()).await.unwrap();
    assert!(after.is_clean() && after.orphans.is_empty() && after.removed == 0, "seed {seed}: {after:?}");
    let start = claimed.manifest().first().unwrap_or(Offset::ZERO).get();
    if start < end {
        let (bytes, _) = read_all(&last, partition(), claimed.manifest().log_start().get(), end).await;
        arena.check_bytes(&bytes, claimed.manifest().log_start().get() / 10 * 10, end);
    }
}

fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |value| value.parse().unwrap())
}

#[test]
fn nothing_is_lost_and_nothing_left_behind_however_the_bucket_fails() {
    let (wanted, first) = (asked("AQUIFER_STORE_FAULTS", FAULTS), asked("AQUIFER_STORE_SEED", 1));
    let (mut faults, mut seed) = (0, first);
    let (mut kinds, mut happened) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
    while faults < wanted {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let arena = Arena::new(seed);
            tokio::select! {
                () = arena.bucket.run() => {}
                () = contest(&arena) => {}
            }
            faults += arena.bucket.faults();
            for (kind, count) in arena.bucket.counts() {
                *kinds.entry(kind).or_default() += count;
            }
            for (what, count) in std::mem::take(&mut arena.referee.lock().happened) {
                *happened.entry(what).or_default() += count;
            }
            arena.tasks.stop(PATIENCE).await.unwrap();
        });
        seed += 1;
    }
    println!("{faults} faults, seeds {first} to {}: audit clean", seed - 1);
    println!("requests: {kinds:?}\nwriters and readers: {happened:?}");
    for what in ["uploaded", "fenced", "thawed", "read", "dropped midway"] {
        assert!(
            happened.get(what).is_some_and(|count| *count > 10),
            "the contest was one: {what} in {happened:?}"
        );
    }
}

/// A version that drops a segment is made, and reaches the bucket only minutes later: the grace counts from then, when readers may
/// still hold a manifest that names it.
#[test]
fn grace_counts_from_the_commit() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let arena = Arena::new(1);
        tokio::select! {
            () = arena.bucket.run() => {}
            () = expires_late(&arena) => {}
        }
    });
}

async fn expires_late(arena: &Arena) {
    let folder = tempfile::tempdir().unwrap();
    let mut claimed = arena.tier(1).await.claim(partition(), epoch_of(1)).await.unwrap();
    for base in [0, SEGMENT] {
        claimed.upload(Recipe::small(base).source(folder.path())).await.unwrap();
    }
    let dropped = claimed.manifest().entries()[0].object.clone();
    claimed.set_log_start(offset_of(SEGMENT)).await.unwrap();
    let before = arena.bucket.counts()["requests"];
    let away = async {
        // A look at the bucket's clock is two requests. Once the second is on its way, all later ones meet a bucket that is away.
        while arena.bucket.counts()["requests"] < before + 2 {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        arena.bucket.set_away(true);
    };
    let start = Retention { start: Some(offset_of(SEGMENT)), ..Retention::default() };
    let (expired, ()) = tokio::join!(claimed.expire(start), away);
    assert!(matches!(expired, Err(CommitError::Manifest(_))), "{expired:?}");
    tokio::time::sleep(GRACE * 10).await;
    arena.bucket.set_away(false);
    let store = arena.store().await;
    claimed.collect(CollectDepth::Removed).await.unwrap();
    assert_eq!(claimed.manifest().removed().len(), 1, "it was committed just now");
    store.head(&dropped).await.unwrap();
    tokio::time::sleep(GRACE).await;
    claimed.collect(CollectDepth::Removed).await.unwrap();
    assert!(store.head(&dropped).await.unwrap_err().is_not_found());
}
