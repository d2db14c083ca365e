//! Objects that change in the bucket: found, told once, replaced by a sound copy where there is one.

#![allow(clippy::unwrap_used)] // All of this file is a test, helpers included.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{BrokerId, ByteCount, Offset, PartitionIndex, TopicId, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::pace::Pace;
use aquifer_runtime::tasks::TaskGroup;
use aquifer_tiering::examine::Damaged;
use aquifer_tiering::gc::Retention;
use aquifer_tiering::inspect::{VerifyOptions, verify};
use aquifer_tiering::manifest::{Entry, Manifest};
use aquifer_tiering::path::{self, Key};
use aquifer_tiering::read::{ColdRequest, ReadError};
use aquifer_tiering::store::{Store, StoreMetrics, StoreOptions};
use aquifer_tiering::testing::segments::{Recipe, epoch_of, offset_of};
use aquifer_tiering::tier::{Claimed, Metrics, Setup, Tier};
use aquifer_tiering::upload::SegmentSource;
use aquifer_tiering::{Identity, Incarnation, Options};
use bytes::Bytes;
use uuid::Uuid;

const SEGMENTS: usize = 12;

struct Bench {
    store: Store,
    tasks: TaskGroup,
    world: World,
    partition: TopicPartition,
    metrics: Metrics,
    _folder: tempfile::TempDir,
    sources: Vec<SegmentSource>,
}

/// A partition of some segments, the older ones in pages; and its tier and claim.
async fn bench() -> (Bench, Tier, Claimed) {
    let world = World::system();
    let metrics = StoreMetrics::default();
    let store = Store::open("memory:///", StoreOptions::default(), world.clone(), metrics).await.unwrap();
    let topic = TopicId::new(Uuid::from_u128(3));
    let partition = TopicPartition { topic, partition: PartitionIndex(0) };
    let folder = tempfile::tempdir().unwrap();
    let mut sources = Vec::new();
    let mut base = 0;
    for _ in 0..SEGMENTS {
        let recipe = Recipe::small(base);
        sources.push(recipe.source(folder.path()));
        base = recipe.next();
    }
    let tasks = TaskGroup::new();
    let bench =
        Bench { store, tasks, world, partition, metrics: Metrics::default(), _folder: folder, sources };
    let tier = bench.tier();
    let mut claimed = tier.claim(partition, epoch_of(0)).await.unwrap();
    for source in &bench.sources {
        claimed.upload(source.clone()).await.unwrap();
    }
    assert!(claimed.manifest().pages().len() >= 2, "older entries lie in pages");
    (bench, tier, claimed)
}

impl Bench {
    fn tier(&self) -> Tier {
        let identity =
            Identity { incarnation: Incarnation::FIRST, broker: BrokerId(1), process: self.world.rng.uuid() };
        let (store, world, tasks) = (self.store.clone(), self.world.clone(), self.tasks.clone());
        let options = Options { manifest_entries_max: 4, manifest_page_entries: 3, ..Options::default() };
        let metrics = self.metrics.clone();
        Tier::new(Setup { store, identity, options, world, tasks, metrics, adopted: true })
    }

    /// Changes a byte of an object.
    async fn harm(&self, object: &Key, at: usize) {
        let size = self.store.head(object).await.unwrap().size;
        let mut bytes = self.store.get(object, size).await.unwrap().to_vec();
        bytes[at] ^= 1;
        self.store.put(object, vec![Bytes::from(bytes)]).await.unwrap();
    }

    async fn examine(&self, tier: &Tier) -> Vec<String> {
        let (mut from, mut pace) = (Offset::ZERO, Pace::new(self.world.clock, None));
        tier.examine(self.partition, &mut from, &mut pace).await.unwrap();
        tier.damage().into_iter().map(|damaged| damaged.object).collect()
    }

    /// Every entry, oldest first, by the bucket alone.
    async fn entries(&self) -> Vec<Entry> {
        let tier = self.tier();
        let mut entries = Vec::new();
        let manifest = newest(&tier, self.partition).await;
        for source in &self.sources {
            let wait_until = self.world.clock.now() + Duration::from_secs(10);
            let (partition, offset) = (self.partition, source.segment.range.base);
            let request = ColdRequest {
                partition,
                offset,
                bytes_max: ByteCount::mib(1),
                upper: Offset::MAX,
                wait_until,
            };
            let read = tier.read(request).await.unwrap();
            assert_eq!(read.slices.concat().len(), source.segment.log_bytes.get() as usize);
        }
        entries.extend(manifest.entries().iter().cloned());
        entries
    }
}

async fn newest(tier: &Tier, partition: TopicPartition) -> Arc<Manifest> {
    tier.manifest(partition, Duration::ZERO).await.unwrap().unwrap()
}

/// The data object whose segment starts at an offset.
async fn object_at(bench: &Bench, base: Offset) -> Vec<Key> {
    use futures::TryStreamExt as _;
    let all: Vec<_> = bench.store.list(&path::data(bench.partition), None).try_collect().await.unwrap();
    let of = |key: &Key| path::parse_data(key).is_some_and(|name| name.base == base);
    all.into_iter().map(|facts| facts.key).filter(of).collect()
}

#[tokio::test]
async fn a_damaged_object_is_found_told_once_and_replaced_from_the_local_segment() {
    let (bench, tier, mut claimed) = bench().await;
    assert_eq!(bench.examine(&tier).await, Vec::<String>::new());
    // One that a page names, and one that the head does; in the log, in the tail, in the trailer.
    for number in [1, SEGMENTS - 1] {
        let source = bench.sources[number].clone();
        let log_bytes = source.segment.log_bytes.get() as usize;
        for at in [30, log_bytes - 1, log_bytes + 40] {
            let objects = object_at(&bench, source.segment.range.base).await;
            let object = objects.last().unwrap().clone();
            // Whichever of those with this base is named now.
            let mut named = None;
            for key in &objects {
                bench.harm(key, at).await;
                if bench.examine(&tier).await == [key.to_string()] {
                    named = Some(key.clone());
                    break;
                }
                bench.harm(key, at).await;
            }
            let named = named.unwrap_or_else(|| panic!("nobody finds damage to {object}"));
            let found = bench.metrics.scrub.found.get();
            assert_eq!(bench.examine(&tier).await, [named.to_string()]);
            assert_eq!(bench.metrics.scrub.found.get(), found, "told once");
            let report = verify(&bench.store, VerifyOptions::default().deep()).await.unwrap();
            assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
            let damaged = tier.damage().pop().unwrap();
            let Some(Damaged::Segment(entry)) = tier.identify(&damaged).await.unwrap() else {
                panic!("{damaged:?} is named")
            };
            // Another segment's bytes are no replacement, nor are others at the same offsets; neither is even sent.
            assert!(!claimed.replace(bench.sources[4].clone(), &entry).await.unwrap());
            let base = source.segment.range.base;
            let other = Recipe { timestamp: 5, ..Recipe::small(base.get()) }.source(bench._folder.path());
            let before = object_at(&bench, base).await.len();
            assert!(!claimed.replace(other, &entry).await.unwrap());
            assert_eq!(object_at(&bench, base).await.len(), before);
            let before = claimed.manifest();
            assert!(claimed.replace(source.clone(), &entry).await.unwrap());
            assert_eq!(bench.examine(&tier).await, Vec::<String>::new());
            let after = claimed.manifest();
            assert_eq!((after.segments(), after.end()), (before.segments(), before.end()));
            assert!(after.removed().iter().any(|removed| removed.object == named), "it goes after its grace");
            let report = verify(&bench.store, VerifyOptions::default().deep()).await.unwrap();
            assert!(report.is_clean(), "{:?}", report.problems);
        }
    }
    assert!(!bench.entries().await.is_empty());
}

#[tokio::test]
async fn a_damaged_page_is_told_and_forgotten_once_it_is_whole() {
    let (bench, tier, claimed) = bench().await;
    let page = claimed.manifest().pages()[0].object.clone();
    bench.harm(&page, 50).await;
    assert_eq!(bench.examine(&tier).await, [page.to_string()]);
    let report = verify(&bench.store, VerifyOptions::default().deep()).await.unwrap();
    assert_eq!(report.problems[0].object.as_deref(), Some(page.as_str()));
    bench.harm(&page, 50).await;
    assert_eq!(bench.examine(&tier).await, Vec::<String>::new());
}

/// A damaged page hides what it lists, not what others do.
#[tokio::test]
async fn verify_names_each_damaged_page_and_what_is_damaged_besides() {
    let (bench, _tier, claimed) = bench().await;
    let manifest = claimed.manifest();
    let mut harmed: Vec<Key> = manifest.pages()[..2].iter().map(|page| page.object.clone()).collect();
    harmed.push(manifest.entries()[0].object.clone());
    for object in &harmed {
        bench.harm(object, 50).await;
    }
    let report = verify(&bench.store, VerifyOptions::default().deep()).await.unwrap();
    let named: Vec<&str> = report.problems.iter().filter_map(|problem| problem.object.as_deref()).collect();
    assert_eq!(named, harmed.iter().map(Key::as_str).collect::<Vec<_>>());
    assert_eq!(report.orphans, [], "what a damaged page lists is no orphan");
}

#[tokio::test]
async fn damage_that_nothing_names_any_more_is_forgotten() {
    let (bench, tier, mut claimed) = bench().await;
    let gone = |tier: Tier| async move {
        let damaged = tier.damage().pop().expect("it was noted");
        let identified = tier.identify(&damaged).await.unwrap();
        assert_eq!(identified.is_none(), tier.damage().is_empty(), "what is nothing any more is forgotten");
        identified.is_none()
    };
    // A page from which retention took something is another page.
    let page = claimed.manifest().pages()[0].object.clone();
    let read = ColdRequest {
        partition: bench.partition,
        offset: Offset::ZERO,
        bytes_max: ByteCount::mib(1),
        upper: Offset::MAX,
        wait_until: bench.world.clock.now() + Duration::from_secs(10),
    };
    tier.read(read).await.unwrap();
    bench.harm(&page, 50).await;
    assert_eq!(bench.examine(&tier).await, [page.to_string()]);
    assert!(!gone(tier.clone()).await);
    let start = Some(bench.sources[0].segment.range.next);
    claimed.expire(Retention { start, ..Retention::default() }).await.unwrap();
    assert!(!claimed.manifest().pages().iter().any(|known| known.object == page));
    assert!(gone(tier.clone()).await);
    // A manifest that was superseded.
    let version = claimed.manifest().version().0;
    let key = path::manifest(bench.partition, version);
    bench.harm(&key, 60).await;
    assert_eq!(bench.examine(&tier).await, [key.to_string()]);
    assert_eq!(bench.metrics.scrub.damaged.get(), 1);
    assert!(!gone(tier.clone()).await);
    claimed.set_log_start(bench.sources[2].segment.range.base).await.unwrap();
    assert!(gone(tier.clone()).await);
    // All of a partition that is not here any more.
    let object = claimed.manifest().entries()[0].object.clone();
    bench.harm(&object, 30).await;
    assert_eq!(bench.examine(&tier).await, [object.to_string()]);
    tier.forget(bench.partition);
    assert_eq!((tier.damage(), bench.metrics.scrub.damaged.get()), (vec![], 0));
}

/// A search goes on where the bucket failed, and begins with a manifest that nobody has needed yet.
#[tokio::test]
async fn a_search_that_fails_goes_on_from_there() {
    let (bench, _, claimed) = bench().await;
    let partition = bench.partition;
    let last = claimed.manifest().entries().last().unwrap().object.clone();
    drop(claimed);
    bench.harm(&last, 30).await;
    let tier = bench.tier();
    let (mut from, mut pace) = (Offset::ZERO, Pace::new(bench.world.clock, None));
    tier.examine(partition, &mut from, &mut pace).await.unwrap();
    assert_eq!(tier.damage()[0].object, last.to_string());
    assert_eq!(from, bench.sources[SEGMENTS - 1].segment.range.next);
    // What was looked at is not read again.
    let bytes = bench.metrics.scrub.bytes.get();
    tier.examine(partition, &mut from, &mut pace).await.unwrap();
    assert_eq!(bench.metrics.scrub.bytes.get(), bytes);
    let mut middle = bench.sources[SEGMENTS / 2].segment.range.base;
    tier.examine(partition, &mut middle, &mut pace).await.unwrap();
    let half: u64 = bench.sources[SEGMENTS / 2..].iter().map(|source| source.segment.log_bytes.get()).sum();
    assert!(bench.metrics.scrub.bytes.get() - bytes <= half);
}

#[tokio::test]
async fn a_copy_of_a_segment_may_begin_before_the_log_does() {
    let (bench, tier, mut claimed) = bench().await;
    let source = &bench.sources[3];
    let range = source.segment.range;
    let inside = offset_of(range.base.get() + 45);
    claimed.set_log_start(inside).await.unwrap();
    claimed.expire(Retention { start: Some(inside), ..Retention::default() }).await.unwrap();
    let request = ColdRequest {
        partition: bench.partition,
        offset: range.base,
        bytes_max: ByteCount::mib(1),
        upper: range.next,
        wait_until: bench.world.clock.now() + Duration::from_secs(10),
    };
    assert!(matches!(tier.read(request).await, Err(ReadError::OutOfRange { .. })), "no consumer gets it");
    let copied = tier.copy(request).await.unwrap();
    assert_eq!(copied.slices.concat(), Recipe::small(range.base.get()).log());
    // What is named no longer is not to be had.
    let gone = ColdRequest { offset: Offset::ZERO, ..request };
    assert!(matches!(tier.copy(gone).await, Err(ReadError::OutOfRange { .. })));
}

#[tokio::test]
async fn a_damaged_newest_manifest_is_never_passed_over_and_committed_again_by_whoever_knows_it() {
    let (bench, tier, mut claimed) = bench().await;
    assert!(!claimed.examine_manifest().await.unwrap(), "it is sound");
    let known = claimed.manifest();
    let key = path::manifest(bench.partition, known.version().0);
    bench.harm(&key, 60).await;
    // Who does not know it gets nothing, least of all the version before.
    bench.tier().manifest(bench.partition, Duration::ZERO).await.unwrap_err();
    let report = verify(&bench.store, VerifyOptions::default()).await.unwrap();
    assert_eq!(report.problems[0].object.as_deref(), Some(key.as_str()));

    assert!(claimed.examine_manifest().await.unwrap());
    assert!(tier.damage().is_empty());
    let again = newest(&bench.tier(), bench.partition).await;
    assert_eq!(again.version().0, known.version().0 + 1);
    assert_eq!((again.end(), again.entries(), again.pages()), (known.end(), known.entries(), known.pages()));
    assert!(!claimed.examine_manifest().await.unwrap());
    // And so is one that is gone.
    let key = path::manifest(bench.partition, again.version().0);
    bench.store.delete(vec![key]).await.unwrap();
    assert!(claimed.examine_manifest().await.unwrap());
    assert_eq!(newest(&bench.tier(), bench.partition).await.version().0, again.version().0 + 1);
    let _ = offset_of(0);
}
