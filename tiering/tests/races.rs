//! Writers that race, freeze and thaw over a store that fails in every way it can: nothing committed is ever lost, nobody ever
//! writes over another, and nothing is left behind.
//!
//! Time is paused: deadlines and pauses cost nothing, and a seed repeats its run.

#![allow(clippy::unwrap_used)] // All of this file is a test, helpers included.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{BrokerId, ByteCount, Offset, PartitionIndex, TopicId, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::rng::Rng;
use aquifer_runtime::tasks::TaskGroup;
use aquifer_tiering::gc::{CollectDepth, Retention};
use aquifer_tiering::inspect::{self, VerifyOptions};
use aquifer_tiering::manifest::commit::{ClaimError, CommitError};
use aquifer_tiering::store::{Store, StoreMetrics, StoreOptions};
use aquifer_tiering::testing::faulty::{Faults, Faulty, Switches};
use aquifer_tiering::testing::segments::{Recipe, epoch_of, offset_of};
use aquifer_tiering::testing::suite::read_all;
use aquifer_tiering::tier::{Claimed, Metrics, Setup, Tier};
use aquifer_tiering::upload::UploadError;
use aquifer_tiering::{Identity, Incarnation, Options};
use uuid::Uuid;

/// Records in each segment of these tests.
const SEGMENT: i64 = 100;
/// How many steps each broker takes.
const STEPS: usize = 25;
/// Epochs after which the contest is over.
const BROKERS: u64 = 3;

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
    })
}

async fn memory() -> Store {
    let (options, metrics) = (StoreOptions::default(), StoreMetrics::default());
    Store::open("memory:///", options, World::system(), metrics).await.unwrap()
}

/// What the whole contest knows.
#[derive(Default)]
struct Referee {
    /// The last epoch given out. Epochs rise over all brokers, as a controller sees to.
    epoch: i32,
    /// The furthest end that any commit has proved.
    proved: i64,
    /// How often a writer was fenced, and how often something was uploaded: the contest must have had some of both.
    fenced: usize,
    uploaded: usize,
}

struct Broker<'a> {
    tier: Tier,
    rng: Rng,
    folder: &'a Path,
    claimed: Option<Claimed>,
    frozen: Vec<Claimed>,
}

impl Broker<'_> {
    async fn step(&mut self, referee: &parking_lot::Mutex<Referee>) {
        let choice = self.rng.number() % 10;
        let Some(mut claimed) = self.claimed.take() else {
            let epoch = {
                let mut referee = referee.lock();
                referee.epoch += 1;
                epoch_of(referee.epoch)
            };
            match self.tier.claim(partition(), epoch).await {
                Ok(claimed) => self.claimed = Some(claimed),
                Err(ClaimError::Fenced(_)) => referee.lock().fenced += 1,
                Err(ClaimError::Manifest(_)) => {}
                Err(ClaimError::Deleted) => panic!("nobody deletes"),
            }
            return;
        };
        match choice {
            // Freezes: it goes on later, believing that it leads.
            0 => self.frozen.push(claimed),
            // Thaws one.
            1 if !self.frozen.is_empty() => {
                let mut thawed = self.frozen.remove(0);
                self.act(&mut thawed, choice, referee).await;
                self.claimed = Some(claimed);
            }
            _ => {
                let keep = self.act(&mut claimed, choice, referee).await;
                self.claimed = keep.then_some(claimed);
            }
        }
    }

    /// Gives whether the claim may still be good.
    async fn act(&self, claimed: &mut Claimed, choice: u64, referee: &parking_lot::Mutex<Referee>) -> bool {
        let outcome = match choice {
            0..=6 => {
                let base = claimed.manifest().end().unwrap_or(Offset::ZERO).get();
                let source = Recipe::small(base - base % SEGMENT).source(self.folder);
                // A task that is dropped midway, as on a change of leader.
                let patience =
                    Duration::from_millis(if choice == 6 { self.rng.number() % 400 } else { 600_000 });
                match tokio::time::timeout(patience, claimed.upload(source)).await {
                    Err(_) => return true,
                    Ok(Ok(proof)) => {
                        let mut referee = referee.lock();
                        referee.uploaded += 1;
                        referee.proved = referee.proved.max(proof.end().get());
                        return true;
                    }
                    Ok(Err(UploadError::Commit(error))) => Err(error),
                    Ok(Err(UploadError::Store(_) | UploadError::Gap { .. })) => return true,
                    Ok(Err(error)) => panic!("{error}"),
                }
            }
            7 => claimed.collect(CollectDepth::Orphans).await.map(drop),
            8 => claimed.collect(CollectDepth::Removed).await.map(drop),
            _ => {
                let keep = ByteCount(20_000 + self.rng.number() % 200_000);
                claimed.expire(Retention { bytes: Some(keep), ..Retention::default() }).await.map(drop)
            }
        };
        match outcome {
            Ok(()) | Err(CommitError::Manifest(_) | CommitError::Superseded(_)) => true,
            Err(CommitError::Fenced(_)) => {
                referee.lock().fenced += 1;
                false
            }
            Err(CommitError::Invalid(breach)) => panic!("a change breaks the manifest: {breach}"),
        }
    }
}

async fn contest(seed: u64) -> Referee {
    let (store, tasks) = (memory().await, TaskGroup::new());
    let folder = tempfile::tempdir().unwrap();
    let faults =
        Faults { before: 60, after: 60, own_exists: 60, delayed: 300, delay_max: Duration::from_millis(300) };
    let referee = parking_lot::Mutex::new(Referee::default());
    let brokers = (0..BROKERS).map(|broker| {
        let (seed, switches) = (seed * 100 + broker, Arc::new(Switches::default()));
        let faulty = store.wrapped(|inner| Arc::new(Faulty::new(inner, faults, seed, switches)));
        let (tasks, folder, referee) = (&tasks, folder.path(), &referee);
        async move {
            let (tier, rng) = (tier(faulty, broker, broker + 1, tasks), Rng::seeded(seed));
            let mut broker = Broker { tier, rng, folder, claimed: None, frozen: Vec::new() };
            for _ in 0..STEPS {
                broker.step(referee).await;
            }
        }
    });
    futures::future::join_all(brokers).await;
    let referee = referee.into_inner();

    // The last word: a leader over a store that works.
    let last = tier(store.clone(), 9, 99, &tasks);
    let mut claimed = last.claim(partition(), epoch_of(referee.epoch + 1)).await.unwrap();
    let end = claimed.manifest().end().unwrap_or(Offset::ZERO).get();
    assert!(end >= referee.proved, "seed {seed}: {} was proved, the tier ends at {end}", referee.proved);
    let before = inspect::verify(&store, VerifyOptions::default().deep()).await.unwrap();
    assert!(before.is_clean(), "seed {seed}: {before:?}");
    claimed.collect(CollectDepth::Orphans).await.unwrap();
    let after = inspect::verify(&store, VerifyOptions::default()).await.unwrap();
    assert!(after.is_clean() && after.orphans.is_empty() && after.removed == 0, "seed {seed}: {after:?}");
    let start = claimed.manifest().log_start().get();
    let (bytes, _) = read_all(&last, partition(), start, end).await;
    let expected: Vec<u8> =
        (start..end).step_by(SEGMENT as usize).flat_map(|base| Recipe::small(base).log()).collect();
    assert!(bytes == expected, "seed {seed}: what was uploaded comes back, each record once, in order");
    referee
}

#[tokio::test(start_paused = true)]
async fn nothing_committed_is_lost_whoever_writes() {
    let (mut fenced, mut uploaded) = (0, 0);
    for seed in 0..40 {
        let referee = contest(seed).await;
        fenced += referee.fenced;
        uploaded += referee.uploaded;
    }
    assert!(fenced > 100 && uploaded > 100, "the contest was one: {fenced} fenced, {uploaded} uploaded");
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
