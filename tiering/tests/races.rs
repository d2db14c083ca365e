//! Races of writers, one at a time: what lands late, what was dropped midway, who lost. The contest of all of them at once is in
//! `storefaults.rs`.
//!
//! Time is paused: deadlines and pauses cost nothing.

#![allow(clippy::unwrap_used)] // All of this file is a test, helpers included.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{BrokerId, Offset, PartitionIndex, TopicId, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::rng::Rng;
use aquifer_runtime::tasks::TaskGroup;
use aquifer_tiering::gc::{CollectDepth, Retention};
use aquifer_tiering::inspect::{self, VerifyOptions};
use aquifer_tiering::manifest::commit::{ClaimError, CommitError};
use aquifer_tiering::store::{Store, StoreMetrics, StoreOptions};
use aquifer_tiering::testing::faulty::{Faults, Faulty, Switches};
use aquifer_tiering::testing::segments::{Recipe, epoch_of, offset_of};
use aquifer_tiering::tier::{Metrics, Setup, Tier};
use aquifer_tiering::upload::UploadError;
use aquifer_tiering::{Identity, Incarnation, Options};
use uuid::Uuid;

/// Records in each segment of these tests.
const SEGMENT: i64 = 100;

fn options() -> Options {
    Options {
        manifest_entries_max: 5,
        manifest_page_entries: 3,
        manifest_age_max: Duration::ZERO,
        delete_grace: Duration::ZERO,
        expire_segments_max: 3,
        ..Options::default()
    }
}

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId::new(Uuid::from_u128(1)), partition: PartitionIndex(0) }
}

fn tier(store: Store, broker: u64, process: u64, tasks: &TaskGroup) -> Tier {
    let process = Uuid::from_u128(u128::from(process));
    let broker = BrokerId(i32::try_from(broker).unwrap());
    let identity = Identity { incarnation: Incarnation::FIRST, broker, process };
    let metrics = Metrics::default();
    Tier::new(Setup {
        store,
        identity,
        options: options(),
        world: World::system(),
        tasks: tasks.clone(),
        metrics,
        adopted: true,
    })
}

async fn memory() -> Store {
    let (options, metrics) = (StoreOptions::default(), StoreMetrics::default());
    Store::open("memory:///", options, World::system(), metrics).await.unwrap()
}

/// Every version that a writer could have in flight when it froze: with and without an answer, before and after the claim.
#[tokio::test(start_paused = true)]
async fn a_write_that_lands_late_collides() {
    let (store, tasks) = (memory().await, TaskGroup::new());
    let folder = tempfile::tempdir().unwrap();
    let switches = Arc::new(Switches::default());
    let own = switches.clone();
    let away = store.wrapped(|inner| Arc::new(Faulty::new(inner, Faults::default(), 1, own)));
    let (old, new) = (tier(away, 1, 1, &tasks), tier(store.clone(), 2, 2, &tasks));
    let mut frozen = old.claim(partition(), epoch_of(1)).await.unwrap();
    frozen.upload(Recipe::small(0).source(folder.path())).await.unwrap();
    // The store goes away in the middle: the commit stays open.
    switches.set_away(true);
    let open = frozen.set_log_start(offset_of(10)).await;
    assert!(matches!(open, Err(CommitError::Manifest(_))), "{open:?}");
    let mut claimed = new.claim(partition(), epoch_of(2)).await.unwrap();
    claimed.upload(Recipe { epoch: 1, ..Recipe::small(100) }.source(folder.path())).await.unwrap();
    claimed.collect(CollectDepth::Orphans).await.unwrap();
    switches.set_away(false);
    let thawed = frozen.set_log_start(offset_of(20)).await;
    assert!(matches!(thawed, Err(CommitError::Fenced(_))), "{thawed:?}");
    assert_eq!(claimed.manifest().log_start(), offset_of(0));
    assert!(inspect::verify(&store, VerifyOptions::default().deep()).await.unwrap().is_clean());
}

/// Two processes with equal claims, as after a copy of a data directory. What the winner uploads are not the loser's records, though
/// they have the same offsets and the same epoch: the loser may drop nothing for them.
#[tokio::test(start_paused = true)]
async fn a_rivals_manifest_proves_nothing() {
    let (store, tasks) = (memory().await, TaskGroup::new());
    let folder = tempfile::tempdir().unwrap();
    let (winner, loser) = (tier(store.clone(), 1, 1, &tasks), tier(store, 1, 2, &tasks));
    let epoch = epoch_of(2);
    let mut claimed = winner.claim(partition(), epoch).await.unwrap();
    let lost = loser.claim(partition(), epoch).await;
    assert!(matches!(lost, Err(ClaimError::Fenced(_))), "{lost:?}");
    let proof = claimed.upload(Recipe::small(0).source(folder.path())).await.unwrap();
    // A reader of the loser's learns of it.
    let seen = loser.manifest(partition(), Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(seen.end(), Some(proof.end()));
    assert_eq!(loser.known(partition(), epoch), None);
    assert_eq!(winner.known(partition(), epoch), Some(proof));
    // Nor does a claim of its own, of another epoch, to whoever leads under this one.
    assert_eq!(winner.known(partition(), epoch_of(3)), None);
}

/// A commit that was given up by its task is settled by the next, not written over.
#[tokio::test(start_paused = true)]
async fn what_was_dropped_midway_is_settled_first() {
    let (store, tasks) = (memory().await, TaskGroup::new());
    let folder = tempfile::tempdir().unwrap();
    let faults = Faults { delayed: 1_000, delay_max: Duration::from_millis(100), ..Faults::default() };
    for seed in 0..50 {
        let slow = store.wrapped(|inner| Arc::new(Faulty::new(inner, faults, seed, Arc::default())));
        let tier = tier(slow, 1, 1, &tasks);
        let topic = TopicId::new(Uuid::from_u128(u128::from(seed) + 10));
        let id = TopicPartition { topic, partition: PartitionIndex(0) };
        let mut claimed = tier.claim(id, epoch_of(1)).await.unwrap();
        let rng = Rng::seeded(seed);
        let mut uploads = 0;
        while claimed.manifest().end().unwrap_or(Offset::ZERO) < offset_of(500) {
            let base = claimed.manifest().end().unwrap_or(Offset::ZERO).get();
            let source = Recipe::small(base).source(folder.path());
            let patience = Duration::from_millis(rng.number() % 300);
            let _ = tokio::time::timeout(patience, claimed.upload(source)).await;
            // Half of the time the whole writer is dropped with its task, and the same process claims the same epoch again.
            if rng.number().is_multiple_of(2) {
                drop(claimed);
                claimed = tier.claim(id, epoch_of(1)).await.unwrap();
            }
            uploads += 1;
            assert!(uploads < 1_000, "seed {seed}: it comes to an end");
        }
        let report = inspect::verify(&store, VerifyOptions::of(topic)).await.unwrap();
        assert!(report.is_clean(), "seed {seed}: {report:?}");
    }
}

/// Records that were deleted before they were tiered leave no hole: uploads go on behind them.
#[tokio::test(start_paused = true)]
async fn what_was_deleted_before_it_was_tiered_is_skipped() {
    let (store, tasks) = (memory().await, TaskGroup::new());
    let folder = tempfile::tempdir().unwrap();
    let tier = tier(store.clone(), 1, 1, &tasks);
    let mut claimed = tier.claim(partition(), epoch_of(1)).await.unwrap();
    claimed.upload(Recipe::small(0).source(folder.path())).await.unwrap();
    let end = claimed.manifest().end().unwrap();
    // At or before the end there is nothing to skip, and no version to write.
    let version = claimed.manifest().version();
    claimed.skip_to(end).await.unwrap();
    assert_eq!(claimed.manifest().version(), version);
    let later = end.get() + 5 * SEGMENT;
    assert!(matches!(
        claimed.upload(Recipe::small(later).source(folder.path())).await,
        Err(UploadError::Gap { .. })
    ));
    let proof = claimed.skip_to(offset_of(later)).await.unwrap();
    assert_eq!((proof.end(), proof.log_start()), (offset_of(later), offset_of(later)));
    claimed.upload(Recipe::small(later).source(folder.path())).await.unwrap();
    assert_eq!(claimed.manifest().segments(), 1);
    // A log start behind the end is taken up to there, once.
    let version = claimed.manifest().version();
    let far = Retention { start: Some(offset_of(later * 100)), ..Retention::default() };
    claimed.expire(far).await.unwrap();
    let settled = claimed.manifest().version();
    assert!(settled > version);
    claimed.expire(far).await.unwrap();
    assert_eq!(claimed.manifest().version(), settled, "nothing new is not written");
    let report = inspect::verify(&store, VerifyOptions::of(partition().topic)).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}
