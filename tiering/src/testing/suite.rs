//! What every store must pass: memory, a folder, MinIO, LocalStack, S3 itself.
//!
//! Each check makes topics of its own, so that they may run against a bucket that holds others.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aquifer_model::compression::Compression;
use aquifer_model::{
    AbortedTxn, BrokerId, ByteCount, OffsetRange, PartitionIndex, ProducerId, Timestamp, TopicId, TopicName,
    TopicPartition,
};
use aquifer_runtime::World;
use aquifer_runtime::tasks::TaskGroup;
use bytes::Bytes;
use futures::future::join_all;

use super::segments::{Recipe, epoch_of, offset_of};
use crate::cluster::{Acquaintance, AdoptError, Identity, Incarnation};
use crate::gc::{CollectDepth, Retention};
use crate::manifest::commit::{ClaimError, CommitError};
use crate::manifest::load::ManifestError;
use crate::options::Options;
use crate::path::DataName;
use crate::read::{ColdRead, ColdRequest, ReadError, TimeLookup};
use crate::store::{Store, StoreError};
use crate::tier::{Metrics, Setup, Tier};
use crate::topic::{TopicRecord, TopicState};
use crate::upload::UploadError;
use crate::{inspect, path};

/// How long a read may take before the suite calls it stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store, and a folder for local segments.
#[derive(Debug)]
pub struct Bench {
    store: Store,
    folder: PathBuf,
    tasks: TaskGroup,
}

/// Runs every check.
///
/// # Panics
/// At the first that fails.
pub async fn run(store: Store, folder: &Path) {
    let bench = Bench { store, folder: folder.to_owned(), tasks: TaskGroup::new() };
    bench.certifies().await;
    bench.brings_back_what_was_uploaded().await;
    bench.uploads_in_parts().await;
    bench.goes_on_inside_a_segment().await;
    bench.refuses_damage_and_holes().await;
    bench.lets_one_of_equal_claims_win().await;
    bench.fences_a_frozen_writer_for_ever().await;
    bench.spills_and_expires().await;
    bench.looks_up_times_and_epochs().await;
    bench.looks_up_times_behind_a_page_without_a_match().await;
    bench.tells_loss_from_removal().await;
    bench.tells_what_was_cut_short().await;
    bench.keeps_what_went_through_its_grace().await;
    bench.deletes_topics_for_good().await;
    bench.belongs_to_one_cluster().await;
    bench.tasks.stop(PATIENCE).await.expect("loads end when they are asked to");
    assert_eq!(bench.tasks.failure(), None);
}

/// Small bounds, so that little data meets all of them. No grace: what is removed goes with the next sweep.
fn options() -> Options {
    Options {
        upload_multipart_threshold: ByteCount::mib(6),
        upload_part_bytes: ByteCount::mib(5),
        index_interval: ByteCount::kib(4),
        manifest_entries_max: 4,
        manifest_page_entries: 3,
        manifest_age_max: Duration::ZERO,
        chunk_bytes: ByteCount::mib(2),
        delete_grace: Duration::ZERO,
        late_write_max: Duration::ZERO,
        expire_segments_max: 2,
        ..Options::default()
    }
}

impl Bench {
    fn tier(&self) -> Tier {
        self.tier_with(options())
    }

    /// A tier of a process of its own.
    fn tier_with(&self, options: Options) -> Tier {
        Tier::new(self.setup(options))
    }

    fn setup(&self, options: Options) -> Setup {
        let world = World::system();
        let process = world.rng.uuid();
        Setup {
            store: self.store.clone(),
            identity: Identity { incarnation: Incarnation::FIRST, broker: BrokerId(1), process },
            options,
            world,
            tasks: self.tasks.clone(),
            metrics: Metrics::default(),
            adopted: true,
        }
    }

    fn partition(&self) -> TopicPartition {
        TopicPartition { topic: TopicId::new(World::system().rng.uuid()), partition: PartitionIndex(0) }
    }

    async fn certifies(&self) {
        self.store.certify().await.expect("the store keeps its promises");
    }

    async fn brings_back_what_was_uploaded(&self) {
        let (tier, partition) = (self.tier(), self.partition());
        let mut claimed = tier.claim(partition, epoch_of(3)).await.expect("nobody else claims");
        let mut logs = Vec::new();
        let mut base = 0;
        for (compression, value_bytes) in
            [(Compression::None, 100), (Compression::Zstd, 1_000), (Compression::None, 30_000)]
        {
            let recipe = Recipe { compression, value_bytes, ..Recipe::small(base) };
            let mut source = recipe.source(&self.folder);
            let txn = |first, last| AbortedTxn {
                producer: ProducerId(7),
                first: offset_of(base + first),
                last: offset_of(base + last),
                stable: offset_of(base + last + 1),
            };
            source.aborted = vec![txn(5, 8), txn(95, 130)];
            let proof = claimed.upload(source.clone()).await.expect("a sound segment goes up");
            assert!(proof.covers(source.segment.range));
            // A second time there is nothing to do.
            assert_eq!(claimed.upload(source).await.expect("it is there"), proof);
            logs.push(recipe.log());
            base = recipe.next();
        }
        let reader = self.tier();
        let (bytes, reads) = read_all(&reader, partition, 0, base).await;
        assert_eq!(bytes, logs.concat());
        assert_eq!(reads[0].aborted.iter().map(|txn| txn.first.get()).collect::<Vec<_>>(), [5, 95]);
        let outside = reader.read(request(partition, base)).await;
        assert_eq!(outside, Err(ReadError::OutOfRange { start: offset_of(0), end: offset_of(base) }));
        let tail = reader.tail(partition).await.expect("the store answers").expect("it is tiered");
        assert_eq!(
            (tail.end, &tail.producers[..]),
            (offset_of(base), format!("producers at {base}").as_bytes())
        );
        assert_eq!(reader.read(request(self.partition(), 0)).await, Err(ReadError::NotTiered));
    }

    async fn uploads_in_parts(&self) {
        let (tier, partition) = (self.tier(), self.partition());
        let recipe = Recipe { batches: 60, records: 25, value_bytes: 10_000, ..Recipe::small(0) };
        let mut claimed = tier.claim(partition, epoch_of(0)).await.expect("nobody else claims");
        claimed.upload(recipe.source(&self.folder)).await.expect("a large segment goes up");
        let (bytes, _) = read_all(&self.tier(), partition, 0, recipe.next()).await;
        assert!(bytes == recipe.log(), "a large segment comes back as it was");
    }

    async fn goes_on_inside_a_segment(&self) {
        let (tier, partition) = (self.tier(), self.partition());
        let first = Recipe { batches: 4, ..Recipe::small(0) };
        let whole = Recipe { batches: 12, ..Recipe::small(0) };
        let mut claimed = tier.claim(partition, epoch_of(0)).await.expect("nobody else claims");
        claimed.upload(first.source(&self.folder)).await.expect("it goes up");
        // Another replica rolled later: its segment starts before the tier's end.
        let proof = claimed.upload(whole.source(&self.folder)).await.expect("the rest goes up");
        assert_eq!(proof.end(), offset_of(120));
        assert_eq!(
            claimed.manifest().entries()[1].range(),
            OffsetRange { base: offset_of(40), next: offset_of(120) }
        );
        let (bytes, _) = read_all(&self.tier(), partition, 0, 120).await;
        assert_eq!(bytes, whole.log());
        let misaligned = Recipe { records: 9, batches: 100, ..Recipe::small(1) };
        let refused = claimed.upload(misaligned.source(&self.folder)).await;
        assert!(matches!(refused, Err(UploadError::Misaligned { .. })), "{refused:?}");
    }

    async fn refuses_damage_and_holes(&self) {
        let (tier, partition) = (self.tier(), self.partition());
        let mut claimed = tier.claim(partition, epoch_of(0)).await.expect("nobody else claims");
        let recipe = Recipe::small(0);
        let flipped = recipe.source(&self.folder);
        flipped.log.write_all_at(700, &mut [std::io::IoSlice::new(b"!")]).expect("a test's folder has room");
        let refused = claimed.upload(flipped).await;
        assert!(matches!(refused, Err(UploadError::LocalCorrupt(_))), "{refused:?}");
        let short = recipe.source(&self.folder);
        short.log.set_size(ByteCount(500)).expect("a test's file can be cut");
        let refused = claimed.upload(short).await;
        assert!(matches!(refused, Err(UploadError::LocalShort { .. })), "{refused:?}");
        claimed.upload(recipe.source(&self.folder)).await.expect("it goes up");
        let refused = claimed.upload(Recipe::small(200).source(&self.folder)).await;
        assert!(matches!(refused, Err(UploadError::Gap { .. })), "{refused:?}");
        assert_eq!(claimed.proof().end(), offset_of(100));
    }

    async fn lets_one_of_equal_claims_win(&self) {
        let partition = self.partition();
        let tiers: Vec<Tier> = (0..6).map(|_| self.tier()).collect();
        let outcomes = join_all(tiers.iter().map(|tier| tier.claim(partition, epoch_of(5)))).await;
        let mut winners: Vec<_> = outcomes
            .into_iter()
            .filter_map(|outcome| match outcome {
                Ok(claimed) => Some(claimed),
                Err(ClaimError::Fenced(_)) => None,
                Err(error) => panic!("a rival is fenced, not {error}"),
            })
            .collect();
        assert_eq!(winners.len(), 1, "one claim wins");
        winners[0].upload(Recipe::small(0).source(&self.folder)).await.expect("the winner writes");
        for tier in &tiers {
            let again = tier.claim(partition, epoch_of(4)).await;
            assert!(matches!(again, Err(ClaimError::Fenced(_))), "a lower epoch is fenced: {again:?}");
        }
    }

    async fn fences_a_frozen_writer_for_ever(&self) {
        let partition = self.partition();
        let (old, new) = (self.tier(), self.tier());
        let mut frozen = old.claim(partition, epoch_of(1)).await.expect("nobody else claims");
        frozen.upload(Recipe::small(0).source(&self.folder)).await.expect("it goes up");
        let mut claimed = new.claim(partition, epoch_of(2)).await.expect("a higher epoch claims");
        for base in [100, 200, 300] {
            claimed
                .upload(Recipe { epoch: 1, ..Recipe::small(base) }.source(&self.folder))
                .await
                .expect("it goes up");
        }
        claimed.collect(CollectDepth::Removed).await.expect("superseded versions go");
        let left = manifest_versions(&self.store, partition).await;
        // The claims' first versions (1 and 3), the one before each (2), and the newest.
        assert_eq!(left, [1, 2, 3, 6]);
        let thawed = frozen.upload(Recipe::small(100).source(&self.folder)).await;
        let fenced = matches!(thawed, Err(UploadError::Commit(CommitError::Fenced(_))));
        assert!(fenced, "a thawed writer is fenced: {thawed:?}");
        let again = frozen.set_log_start(offset_of(50)).await;
        assert!(matches!(again, Err(CommitError::Fenced(_))), "and stays so: {again:?}");
        // Its upload is an orphan of an older claim, and goes.
        let before = inspect::verify(&self.store, inspect::VerifyOptions::of(partition.topic))
            .await
            .expect("it is read");
        assert_eq!((before.problems.len(), before.orphans.len()), (0, 1), "{before:?}");
        let collected = claimed.collect(CollectDepth::Orphans).await.expect("orphans go");
        assert_eq!(collected.objects, 1);
        let (bytes, _) = read_all(&self.tier(), partition, 0, 400).await;
        assert_eq!(bytes.len(), 4 * Recipe::small(0).log().len());
    }

    async fn spills_and_expires(&self) {
        let (tier, partition) = (self.tier(), self.partition());
        let mut claimed = tier.claim(partition, epoch_of(0)).await.expect("nobody else claims");
        let mut logs = Vec::new();
        for segment in 0..12 {
            let recipe = Recipe::small(segment * 100);
            claimed.upload(recipe.source(&self.folder)).await.expect("it goes up");
            logs.push(recipe.log());
        }
        let manifest = claimed.manifest();
        assert_eq!((manifest.pages().len(), manifest.entries().len(), manifest.segments()), (3, 3, 12));
        let (bytes, _) = read_all(&self.tier(), partition, 0, 1_200).await;
        assert_eq!(bytes, logs.concat());
        // Four segments of the pages go: one page, and part of the next.
        let retention = Retention { start: Some(offset_of(450)), ..Retention::default() };
        let expired = claimed.expire(retention).await.expect("it expires");
        assert_eq!((expired.segments, claimed.manifest().log_start()), (4, offset_of(450)));
        let below = self.tier().read(request(partition, 449)).await;
        assert_eq!(below, Err(ReadError::OutOfRange { start: offset_of(450), end: offset_of(1_200) }));
        let (bytes, _) = read_all(&self.tier(), partition, 450, 1_200).await;
        assert_eq!(bytes.len(), logs[4..].concat().len() - logs[4].len() / 2);
        let bytes = ByteCount(logs[0].len() as u64 * 2);
        let expired = claimed.expire(Retention { bytes: Some(bytes), ..Retention::default() }).await;
        assert_eq!(expired.expect("it expires").segments, 6);
        let collected = claimed.collect(CollectDepth::Removed).await.expect("they go");
        assert!(collected.objects >= 10 + 3, "{collected:?}");
        let report = inspect::verify(&self.store, inspect::VerifyOptions::of(partition.topic).deep()).await;
        let report = report.expect("it is read");
        assert!(report.is_clean() && report.orphans.is_empty(), "{report:?}");
        assert_eq!(report.segments, 2);
        let all = claimed.expire(Retention { bytes: Some(ByteCount::ZERO), ..Retention::default() }).await;
        assert_eq!(all.expect("it expires").segments, 2);
        claimed
            .upload(Recipe::small(1_200).source(&self.folder))
            .await
            .expect("an emptied tier goes on at its end");
        assert_eq!(claimed.manifest().first(), Some(offset_of(1_200)));
    }

    async fn looks_up_times_and_epochs(&self) {
        let (tier, partition) = (self.tier(), self.partition());
        let mut claimed = tier.claim(partition, epoch_of(9)).await.expect("nobody else claims");
        let first = Recipe { timestamp: 10_000, epoch: 2, compression: Compression::Lz4, ..Recipe::small(0) };
        let second = Recipe { timestamp: 50_000, epoch: 5, ..Recipe::small(100) };
        for recipe in [first, second] {
            claimed.upload(recipe.source(&self.folder)).await.expect("it goes up");
        }
        let reader = self.tier();
        for (at, expected) in [
            (0, Some((0, 10_000, 2))),
            (10_005, Some((5, 10_005, 2))),
            // Behind the last record of a batch comes the first of the next.
            (10_010, Some((10, 11_000, 2))),
            (19_010, Some((100, 50_000, 5))),
            (59_009, Some((199, 59_009, 5))),
            (59_010, None),
        ] {
            let until = World::system().clock.now() + PATIENCE;
            let found =
                reader.offset_for_timestamp(partition, Timestamp(at), until).await.expect("it is looked up");
            let expected =
                expected.map_or(TimeLookup::NotHere, |(offset, timestamp, epoch)| TimeLookup::Found {
                    offset: offset_of(offset),
                    timestamp: Timestamp(timestamp),
                    epoch: Some(epoch_of(epoch)),
                });
            assert_eq!(found, expected, "at {at}");
        }
        for (epoch, expected) in [(2, Some((2, 100))), (4, Some((2, 100))), (5, Some((5, 200))), (6, None)] {
            let end = reader.epoch_end(partition, epoch_of(epoch)).await.expect("it is looked up");
            assert_eq!(end.map(|end| (end.epoch.get(), end.end.get())), expected, "epoch {epoch}");
        }
    }

    async fn looks_up_times_behind_a_page_without_a_match(&self) {
        let (tier, partition) = (self.tier(), self.partition());
        let mut claimed = tier.claim(partition, epoch_of(0)).await.expect("nobody else claims");
        for number in 0..12 {
            let small = Recipe::small(number * 100);
            // What makes the first page match lies before the log's start.
            let timestamp = match number {
                0 => 50_000_000,
                4 => 40_000_000,
                _ => small.timestamp,
            };
            let recipe = Recipe { timestamp, ..small };
            claimed.upload(recipe.source(&self.folder)).await.expect("it goes up");
        }
        assert!(claimed.manifest().pages().len() >= 2, "older entries lie in pages");
        claimed.set_log_start(offset_of(100)).await.expect("it is committed");
        let until = World::system().clock.now() + PATIENCE;
        let found = self.tier().offset_for_timestamp(partition, Timestamp(30_000_000), until).await;
        let (offset, timestamp, epoch) = (offset_of(400), Timestamp(40_000_000), Some(epoch_of(0)));
        assert_eq!(found.expect("it is looked up"), TimeLookup::Found { offset, timestamp, epoch });
    }

    async fn tells_loss_from_removal(&self) {
        let (tier, partition) = (self.tier(), self.partition());
        let mut claimed = tier.claim(partition, epoch_of(0)).await.expect("nobody else claims");
        for base in [0, 100] {
            claimed.upload(Recipe::small(base).source(&self.folder)).await.expect("it goes up");
        }
        // A reader whose manifest is old meets objects that are gone, and is told by a fresh one.
        let stale = self.tier_with(Options { manifest_age_max: PATIENCE, ..options() });
        stale.refresh(partition).await.expect("it is read");
        let start = Retention { start: Some(offset_of(100)), ..Retention::default() };
        claimed.expire(start).await.expect("it expires");
        claimed.collect(CollectDepth::Removed).await.expect("it goes");
        let gone = stale.read(request(partition, 0)).await;
        assert_eq!(gone, Err(ReadError::OutOfRange { start: offset_of(100), end: offset_of(200) }));
        let key = claimed.manifest().entries()[0].object.clone();
        self.store.delete(vec![key.clone()]).await.expect("it goes");
        let lost = self.tier().read(request(partition, 100)).await;
        assert_eq!(lost, Err(ReadError::Lost { key: key.to_string() }));
        let report = inspect::verify(&self.store, inspect::VerifyOptions::of(partition.topic)).await;
        assert_eq!(report.expect("it is read").problems.len(), 1);
    }

    /// A store that is away is asked again, an object that ends early is damaged: the two must not be taken for each other.
    async fn tells_what_was_cut_short(&self) {
        let key = path::probe_object(self.partition().topic.uuid(), "short");
        self.store.put(&key, vec![Bytes::from_static(b"0123456789")]).await.expect("it is written");
        assert_eq!(&self.store.get_range(&key, 3..10).await.expect("it is there")[..], b"3456789");
        for range in [5..11, 10..20, 4000..5000] {
            let read = self.store.get_range(&key, range.clone()).await;
            assert!(
                matches!(read, Err(StoreError::Short { bytes: 10, wanted, .. }) if wanted == range.end),
                "{read:?}"
            );
            let into = vec![0; (range.end - range.start) as usize];
            let read = self.store.get_range_into(&key, range.start, into, |(), _| ()).await;
            assert!(matches!(read, Err(StoreError::Short { bytes: 10, .. })), "{read:?}");
        }
        let see = |seen: &mut Vec<u8>, piece: &[u8]| seen.extend_from_slice(piece);
        let (into, seen) = self.store.get_range_into(&key, 3, vec![0; 7], see).await.expect("it is there");
        assert_eq!((&into[..], &seen[..]), (&b"3456789"[..], &b"3456789"[..]));
        self.store.delete(vec![key]).await.expect("it goes");
    }

    async fn keeps_what_went_through_its_grace(&self) {
        let patient = self.tier_with(Options { delete_grace: PATIENCE, ..options() });
        let partition = self.partition();
        let mut claimed = patient.claim(partition, epoch_of(0)).await.expect("nobody else claims");
        for base in [0, 100] {
            claimed.upload(Recipe::small(base).source(&self.folder)).await.expect("it goes up");
        }
        let reader = self.tier_with(Options { manifest_age_max: PATIENCE, ..options() });
        reader.refresh(partition).await.expect("it is read");
        let all = claimed.expire(Retention { bytes: Some(ByteCount::ZERO), ..Retention::default() }).await;
        assert_eq!(all.expect("it expires").segments, 2);
        let collected = claimed.collect(CollectDepth::Orphans).await.expect("it is swept");
        // Two segments, on the list and as objects, and the superseded versions that no claim pins.
        assert_eq!(collected.objects, 0, "{collected:?}");
        assert!(collected.left >= 3, "{collected:?}");
        // Who read the manifest before goes on reading.
        let (bytes, _) = read_all(&reader, partition, 0, 200).await;
        assert_eq!(bytes, [Recipe::small(0).log(), Recipe::small(100).log()].concat());
        let report = inspect::verify(&self.store, inspect::VerifyOptions::of(partition.topic)).await;
        let report = report.expect("it is read");
        assert_eq!((report.is_clean(), report.orphans.len(), report.removed), (true, 0, 2), "{report:?}");
    }

    async fn deletes_topics_for_good(&self) {
        let (tier, partition) = (self.tier(), self.partition());
        let record = |state, revision| TopicRecord {
            id: partition.topic,
            name: TopicName::new("orders").expect("a good name"),
            partitions: 2,
            configs: vec![("retention.ms".to_owned(), "-1".to_owned())],
            state,
            revision,
        };
        tier.record_topic(&record(TopicState::Live, 4)).await.expect("it is written");
        let mut claimed = tier.claim(partition, epoch_of(0)).await.expect("nobody else claims");
        claimed.upload(Recipe::small(0).source(&self.folder)).await.expect("it goes up");
        let controller = self.tier();
        tier.record_topic(&record(TopicState::Deleted, 7)).await.expect("it is written");
        // A late write of an older revision changes nothing.
        tier.record_topic(&record(TopicState::Live, 4)).await.expect("it is written");
        let stored = crate::topic::read(&self.store, partition.topic).await.expect("it is read");
        assert_eq!(stored, Some(record(TopicState::Deleted, 7)));
        for _ in 0..2 {
            controller.delete_topic(partition.topic, 2).await.expect("it is deleted");
        }
        let other_controller = self.tier();
        other_controller.delete_topic(partition.topic, 2).await.expect("it is deleted already");
        let upload = claimed.upload(Recipe::small(100).source(&self.folder)).await;
        assert!(matches!(upload, Err(UploadError::Commit(CommitError::Fenced(_)))), "{upload:?}");
        let again = tier.claim(partition, epoch_of(1)).await;
        assert!(matches!(again, Err(ClaimError::Deleted)), "{again:?}");
        let collected = controller.collect_deleted(partition.topic, 2).await.expect("it is collected");
        assert_eq!((collected.left, collected.objects >= 1), (0, true), "{collected:?}");
        let left = keys(&self.store, &path::data(partition)).await;
        assert_eq!(left, Vec::<String>::new());
        assert!(!manifest_versions(&self.store, partition).await.is_empty(), "the marker stays");
        // A write that was sent before the end arrives behind it.
        let careful = self.tier_with(Options { late_write_max: PATIENCE, ..options() });
        let name = DataName {
            base: offset_of(200),
            incarnation: 1,
            epoch: epoch_of(0),
            unique: World::system().rng.uuid(),
        };
        let late = path::data_object(partition, &name);
        self.store.put(&late, vec![Bytes::from_static(b"late")]).await.expect("it is written");
        let collected = careful.collect_deleted(partition.topic, 2).await.expect("it is collected");
        assert_eq!(
            (collected.left, collected.objects),
            (2, 1),
            "each partition is looked at again: {collected:?}"
        );
        let collected = controller.collect_deleted(partition.topic, 2).await.expect("it is collected");
        assert_eq!((collected.left, collected.objects), (0, 0), "{collected:?}");
    }

    async fn belongs_to_one_cluster(&self) {
        match self.tier().adopt("first", Acquaintance::Again).await {
            Ok(_) | Err(AdoptError::Unmarked { .. }) => {}
            Err(AdoptError::Foreign { .. }) => return,
            Err(error) => panic!("it is known whose it is: {error}"),
        }
        let marker = self.tier().adopt("first", Acquaintance::First).await;
        let marker = marker.expect("the marker can be written");
        assert_eq!(marker.incarnation, Incarnation::FIRST);
        let late = Tier::new(Setup { adopted: false, ..self.setup(options()) });
        let refused = late.claim(self.partition(), epoch_of(0)).await;
        let is_put_off = |error: &ClaimError| match error {
            ClaimError::Manifest(ManifestError::Store(error)) => error.is_transient(),
            _ => false,
        };
        assert!(refused.as_ref().is_err_and(is_put_off), "nothing is written before: {refused:?}");
        assert_eq!(late.adopt("first", Acquaintance::Again).await.expect("it is its own"), marker);
        late.claim(self.partition(), epoch_of(0)).await.expect("it is its own");
        let foreign = self.tier().adopt("second", Acquaintance::First).await;
        assert!(matches!(foreign, Err(AdoptError::Foreign { .. })), "{foreign:?}");
    }
}

/// A read of up to a megabyte that may wait long.
pub fn request(partition: TopicPartition, offset: i64) -> ColdRequest {
    ColdRequest {
        partition,
        offset: offset_of(offset),
        bytes_max: ByteCount::mib(1),
        upper: aquifer_model::Offset::MAX,
        wait_until: World::system().clock.now() + PATIENCE,
    }
}

/// Reads everything from one offset to another, as a consumer does.
///
/// # Panics
/// If a read fails, goes back or stands still.
pub async fn read_all(
    tier: &Tier,
    partition: TopicPartition,
    from: i64,
    to: i64,
) -> (Vec<u8>, Vec<ColdRead>) {
    let mut bytes = Vec::new();
    let mut reads = Vec::new();
    let mut at = from;
    while at < to {
        let read = tier.read(request(partition, at)).await.expect("what is tiered can be read");
        assert!(!read.pending, "the store answers within {PATIENCE:?}");
        assert!(read.next.get() > at, "a read goes on");
        bytes.extend_from_slice(&read.slices.concat());
        at = read.next.get();
        reads.push(read);
    }
    (bytes, reads)
}

async fn keys(store: &Store, prefix: &path::Prefix) -> Vec<String> {
    use futures::TryStreamExt as _;
    let all: Vec<_> = store.list(prefix, None).try_collect().await.expect("the store lists");
    all.into_iter().map(|facts| facts.key.to_string()).collect()
}

async fn manifest_versions(store: &Store, partition: TopicPartition) -> Vec<u64> {
    let keys = keys(store, &path::manifests(partition)).await;
    keys.iter().filter_map(|key| path::parse_version(&path::Key::parse(key)?)).collect()
}
