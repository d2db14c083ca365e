//! Cold reads over a store as slow as S3: how many requests, how fast, and what a reader sees while the store is away.
//!
//! Time is paused and moves only while everything waits, so a rate is that of the requests' geometry, the same on any machine.

#![allow(clippy::unwrap_used)] // All of this file is a test, helpers included.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::compression::Compression;
use aquifer_model::{BrokerId, ByteCount, Offset, PartitionIndex, TopicId, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::tasks::TaskGroup;
use aquifer_tiering::read::{ColdRead, ColdRequest, ReadError};
use aquifer_tiering::store::{Store, StoreMetrics, StoreOptions};
use aquifer_tiering::testing::faulty::{Faults, Faulty, Switches};
use aquifer_tiering::testing::segments::{Recipe, epoch_of, offset_of};
use aquifer_tiering::tier::{Metrics, Setup, Tier};
use aquifer_tiering::{Identity, Incarnation, Options};
use futures::StreamExt as _;
use uuid::Uuid;

/// S3's usual first byte, and rate of one answer.
const LATENCY: Duration = Duration::from_millis(30);
const BYTES_PER_SECOND: u64 = 90_000_000;
/// What a consumer asks for at once: librdkafka's default.
const FETCH_BYTES: ByteCount = ByteCount::mib(1);
/// How long a consumer waits: Kafka's default.
const FETCH_WAIT: Duration = Duration::from_millis(500);

struct Bench {
    slow: Store,
    plain: Store,
    switches: Arc<Switches>,
    tasks: TaskGroup,
    world: World,
    partition: TopicPartition,
    end: i64,
    log_bytes: u64,
}

/// A partition of this many segments of 16 MiB each, in a store that is slow to read from.
async fn bench(segments: u32) -> Bench {
    let world = World::system();
    let metrics = StoreMetrics::default();
    let plain = Store::open("memory:///", StoreOptions::default(), world.clone(), metrics).await.unwrap();
    let switches = Arc::new(Switches::default());
    let turned = switches.clone();
    let slow = plain.wrapped(|inner| Arc::new(Faulty::new(inner, Faults::default(), 1, turned)));
    let topic = TopicId::new(Uuid::from_u128(3));
    let partition = TopicPartition { topic, partition: PartitionIndex(0) };
    let mut bench =
        Bench { slow, plain, switches, tasks: TaskGroup::new(), world, partition, end: 0, log_bytes: 0 };
    let folder = tempfile::tempdir().unwrap();
    let tier = bench.tier_over(bench.plain.clone(), Options::default());
    let mut claimed = tier.claim(partition, epoch_of(0)).await.unwrap();
    for _ in 0..segments {
        // Just below 16 MiB, so that there are two chunks to a segment.
        let (batches, records, value_bytes) = (64, 4, 65_000);
        let recipe = Recipe { batches, records, value_bytes, ..Recipe::small(bench.end) };
        let source = recipe.source(folder.path());
        bench.log_bytes += source.segment.log_bytes.get();
        claimed.upload(source).await.unwrap();
        bench.end = recipe.next();
    }
    bench.switches.set_pace(LATENCY, BYTES_PER_SECOND);
    bench
}

impl Bench {
    fn tier_over(&self, store: Store, options: Options) -> Tier {
        self.tier_counting(store, options, Metrics::default())
    }

    fn tier_counting(&self, store: Store, options: Options, metrics: Metrics) -> Tier {
        let identity =
            Identity { incarnation: Incarnation::FIRST, broker: BrokerId(1), process: self.world.rng.uuid() };
        let (world, tasks) = (self.world.clone(), self.tasks.clone());
        Tier::new(Setup { store, identity, options, world, tasks, metrics, adopted: true })
    }

    fn tier(&self) -> Tier {
        self.tier_over(self.slow.clone(), Options::default())
    }

    async fn fetch(&self, tier: &Tier, offset: i64, wait: Duration) -> Result<ColdRead, ReadError> {
        let wait_until = self.world.clock.now() + wait;
        let (partition, offset) = (self.partition, offset_of(offset));
        tier.read(ColdRequest { partition, offset, bytes_max: FETCH_BYTES, upper: Offset::MAX, wait_until })
            .await
    }

    /// A consumer, from one offset to the end: how many bytes it was given.
    async fn replay(&self, tier: &Tier, from: i64) -> u64 {
        let (mut at, mut bytes) = (from, 0);
        while at < self.end {
            let read = self.fetch(tier, at, FETCH_WAIT).await.unwrap();
            bytes += read.bytes.get();
            at = read.next.get();
        }
        bytes
    }

    async fn seconds(&self, work: impl Future<Output = ()>) -> f64 {
        let began = self.world.clock.now();
        work.await;
        self.world.clock.now().duration_since(began).as_secs_f64()
    }

    /// Sixteen plain GETs of 8 MiB at once, over all the data: what the store can give.
    async fn plain_gets(&self) {
        let manifest = self.tier().manifest(self.partition, Duration::ZERO).await.unwrap().unwrap();
        let mut ranges = Vec::new();
        for entry in manifest.entries() {
            let log_bytes = entry.segment.log_bytes.get();
            let starts = (0..log_bytes).step_by(8 << 20);
            ranges
                .extend(starts.map(|start| (entry.object.clone(), start..log_bytes.min(start + (8 << 20)))));
        }
        let gets = ranges
            .into_iter()
            .map(|(key, range)| async move { self.slow.get_range(&key, range).await.unwrap() });
        futures::stream::iter(gets).buffer_unordered(16).for_each(|_| async {}).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_consumer_replays_as_fast_as_sixteen_plain_gets() {
    let bench = bench(48).await;
    let plain = bench.seconds(bench.plain_gets()).await;
    let tier = bench.tier();
    let before = bench.switches.gets();
    let replay = bench.seconds(async { assert_eq!(bench.replay(&tier, 0).await, bench.log_bytes) }).await;
    let gets = bench.switches.gets() - before;
    let ratio = plain / replay;
    println!(
        "plain {plain:.2} s, replay {replay:.2} s: {ratio:.2}; {gets} GETs for {} MiB",
        bench.log_bytes >> 20
    );
    assert!(ratio >= 0.85, "a replay runs at {ratio:.2} of sixteen plain GETs");
    // Two chunks and an index each; the manifest; and the first chunk in eight small ones.
    assert!(gets <= 48 * 3 + 1 + 7, "{gets} GETs");
}

#[tokio::test(start_paused = true)]
async fn ten_consumers_of_one_history_make_the_requests_of_one() {
    let bench = bench(12).await;
    let one = bench.tier();
    let before = bench.switches.gets();
    bench.replay(&one, 0).await;
    let alone = bench.switches.gets() - before;
    let ten = bench.tier();
    let before = bench.switches.gets();
    let consumers = (0..10).map(|_| bench.replay(&ten, 0));
    let bytes: u64 = futures::future::join_all(consumers).await.into_iter().sum();
    assert_eq!(bytes, 10 * bench.log_bytes);
    let together = bench.switches.gets() - before;
    assert!(together <= alone + 2, "one makes {alone} GETs, ten make {together}");
}

#[tokio::test(start_paused = true)]
async fn a_first_read_is_answered_early_and_a_jump_fetches_little() {
    let bench = bench(4).await;
    let tier = bench.tier();
    let first = bench
        .seconds(async { assert!(bench.fetch(&tier, 0, FETCH_WAIT).await.unwrap().bytes.get() > 0) })
        .await;
    // Manifest, index, and a small chunk.
    assert!(first < 0.15, "the first answer takes {first:.3} s");
    let before = (bench.switches.gets(), bench.slow.metrics().received.get());
    for offset in [700, 300, 900, 500] {
        assert!(!bench.fetch(&tier, offset, FETCH_WAIT).await.unwrap().pending);
    }
    let (gets, received) = (bench.switches.gets() - before.0, bench.slow.metrics().received.get() - before.1);
    // One small chunk each, or two where a batch crosses, and an index for each of four segments.
    assert!(gets <= 4 * 2 + 4 && received <= 9 << 20, "{gets} GETs brought {received} bytes");
}

/// Answers keep the chunks that they are cut from. Whoever lacks that memory says so, and gets on once they are gone.
#[tokio::test(start_paused = true)]
async fn what_answers_keep_of_chunks_is_asked_back() {
    let bench = bench(8).await;
    let (cache_bytes, loading_bytes) = (ByteCount::mib(8), ByteCount::mib(8));
    let tier =
        bench.tier_over(bench.slow.clone(), Options { cache_bytes, loading_bytes, ..Options::default() });
    let mut kept = Vec::new();
    let mut at = 0;
    loop {
        let read = bench.fetch(&tier, at, FETCH_WAIT).await.unwrap();
        if read.pending {
            break;
        }
        kept.push(read.slices);
        // Jumps, each to a chunk of its own.
        at += 40;
        assert!(at < bench.end, "all of it was kept within a budget of 16 MiB");
    }
    tokio::time::timeout(FETCH_WAIT, tier.short_of_memory()).await.expect("it is said");
    assert!(bench.fetch(&tier, at, FETCH_WAIT).await.unwrap().pending, "it is kept yet");
    drop(kept);
    assert!(!bench.fetch(&tier, at, FETCH_WAIT).await.unwrap().pending);
}

#[tokio::test(start_paused = true)]
async fn a_load_goes_on_when_its_reader_has_stopped_waiting() {
    let bench = bench(1).await;
    let tier = bench.tier();
    bench.switches.set_pace(Duration::from_secs(2), BYTES_PER_SECOND);
    let mut polls = 0;
    loop {
        polls += 1;
        let read = bench.fetch(&tier, 0, Duration::from_millis(100)).await.unwrap();
        if !read.pending {
            break;
        }
        assert_eq!((read.next, read.slices.len()), (offset_of(0), 0));
    }
    // The manifest, then the index and the first chunk side by side: two seconds each, none of them asked for twice.
    assert!((35..=55).contains(&polls), "{polls} polls");
    assert!(bench.switches.gets() <= 3, "{} GETs", bench.switches.gets());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_an_empty_answer_then_an_error_then_forgotten() {
    let bench = bench(2).await;
    let tier = bench.tier();
    assert!(bench.fetch(&tier, 0, FETCH_WAIT).await.unwrap().bytes.get() > 0);
    bench.switches.set_away(true);
    let began = bench.world.clock.now();
    let away_for = || bench.world.clock.now().duration_since(began);
    let unread = 300;
    let error = loop {
        match bench.fetch(&tier, unread, FETCH_WAIT).await {
            Ok(read) => assert!(read.pending, "nothing is there to be read"),
            Err(error) => break error,
        }
        assert!(away_for() < Duration::from_secs(120), "a reader is told in the end");
    };
    assert!(matches!(error, ReadError::Unavailable { .. }), "{error}");
    let deadline = Options::default().read_deadline;
    assert!(away_for() >= deadline, "told after {:?}", away_for());
    // What is loaded is read all the same.
    assert!(!bench.fetch(&tier, 0, FETCH_WAIT).await.unwrap().pending);
    bench.switches.set_away(false);
    let back = bench.world.clock.now();
    while bench.fetch(&tier, unread, FETCH_WAIT).await.is_ok_and(|read| read.pending)
        || bench.fetch(&tier, unread, FETCH_WAIT).await.is_err()
    {
        assert!(
            bench.world.clock.now().duration_since(back) < Duration::from_secs(10),
            "it is read again soon"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_comes_back() {
    let bench = bench(12).await;
    let mib = ByteCount::mib;
    let bound = 64 << 20;
    let (cache_bytes, loading_bytes, ahead_bytes_total) = (mib(32), mib(32), mib(20));
    let options = Options { cache_bytes, loading_bytes, ahead_bytes_total, ..Options::default() };
    let metrics = Metrics::default();
    let tier = bench.tier_counting(bench.slow.clone(), options, metrics.clone());
    // Three readers, at places far apart, that hold on to what they were last given.
    let mut places = [0, bench.end / 3, 2 * bench.end / 3];
    let mut held = std::collections::VecDeque::new();
    let mut most = 0;
    while places[0] < bench.end / 3 {
        for at in &mut places {
            if *at < bench.end {
                let read = bench.fetch(&tier, *at, FETCH_WAIT).await.unwrap();
                *at = read.next.get();
                held.push_back(read.slices);
            }
            most = most.max(metrics.read.memory.get());
            assert!(most <= bound, "{most} bytes are held");
        }
        while held.len() > 6 {
            held.pop_front();
        }
    }
    assert!(most > 32 << 20, "what is held by answers counts: {most}");
    drop(held);
    drop(tier);
    bench.tasks.stop(Duration::from_secs(60)).await.unwrap();
    assert_eq!(metrics.read.memory.get(), 0, "all of it comes back");
}

#[tokio::test(start_paused = true)]
async fn damage_in_the_bucket_is_never_served() {
    let bench = bench(1).await;
    let tier = bench.tier();
    let manifest = tier.manifest(bench.partition, Duration::ZERO).await.unwrap().unwrap();
    let entry = &manifest.entries()[0];
    let mut bytes = bench.plain.get(&entry.object, ByteCount::mib(64)).await.unwrap().to_vec();
    bytes[3 << 20] ^= 1;
    bench.plain.put(&entry.object, vec![bytes.into()]).await.unwrap();
    // The sound part is read, the damaged block is an error that names the object.
    let mut at = 0;
    let error = loop {
        match bench.fetch(&tier, at, FETCH_WAIT).await {
            Ok(read) => at = read.next.get(),
            Err(error) => break error,
        }
        assert!(at < bench.end, "the damage is met");
    };
    assert!(matches!(&error, ReadError::Corrupt { key, .. } if *key == entry.object.to_string()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn batches_that_cross_chunks_and_compressed_ones_come_whole() {
    let bench = bench(0).await;
    let folder = tempfile::tempdir().unwrap();
    let tier = bench.tier_over(bench.plain.clone(), Options::default());
    let mut claimed = tier.claim(bench.partition, epoch_of(1)).await.unwrap();
    // One batch of 3 MiB between small ones: larger than a fetch and than a small chunk.
    let small = Recipe { compression: Compression::Lz4, epoch: 1, ..Recipe::small(0) };
    let large = Recipe { batches: 3, records: 3, value_bytes: 1 << 20, epoch: 1, ..Recipe::small(100) };
    for recipe in [small, large] {
        claimed.upload(recipe.source(folder.path())).await.unwrap();
    }
    let reader = bench.tier();
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < large.next() {
        let read = bench.fetch(&reader, at, Duration::from_secs(5)).await.unwrap();
        assert!(!read.pending);
        bytes.extend(read.slices.concat());
        at = read.next.get();
    }
    assert!(bytes == [small.log(), large.log()].concat());
    // From within a batch, the batch comes whole.
    let read = bench.fetch(&reader, 104, Duration::from_secs(5)).await.unwrap();
    assert_eq!(aquifer_model::BatchHeader::parse(&read.slices.concat()).unwrap().base_offset, offset_of(103));
}
