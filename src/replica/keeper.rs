//! Which partitions' segments are to be rolled, uploaded or dropped, and when.
//!
//! One task looks over all partitions every now and then, which costs a few uncontended locks each, and starts work where there is
//! some. The work itself is bounded in number, so that ten thousand partitions do not upload at once, and done in turns, so that
//! one that lags does not keep the others waiting. Partitions that cannot lead before they have asked the bucket do not stand
//! behind uploads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aquifer_model::{ByteCount, Timestamp, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::tasks::{self, TaskGroup};
use aquifer_tiering::{Tier, TieredUpTo};
use tokio::time::Instant;

use super::archiving::{ArchiveRules, Done};
use super::disk::{self, Droppable};
use super::registry::Replicas;
use super::state::{Replica, Role};
use super::turns::Turns;
use crate::log::{Keep, removable_before};

/// Partitions that ask the bucket at once where they end.
const RECOVERIES_MAX: usize = 16;
/// Partitions whose retention one visit to the threads for blocking work deals with.
const RETENTION_CHUNK: usize = 64;

/// When and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeeperOptions {
    /// Between two looks at all partitions (`tier.check.interval.ms`).
    pub(crate) check_interval: Duration,
    /// An open segment of a tiered topic is sealed at this age (`tier.roll.ms`).
    pub(crate) roll_after: Duration,
    /// Between two looks at what retention lets go (`log.retention.check.interval.ms`).
    pub(crate) retention_interval: Duration,
    /// Partitions that may upload at once (`tier.upload.concurrency`).
    pub(crate) uploads_max: usize,
    /// Wait after a first failure; doubles with each, up to `retry_max` (`tier.upload.retry.backoff.ms`).
    pub(crate) retry_min: Duration,
    /// (`tier.upload.retry.backoff.max.ms`)
    pub(crate) retry_max: Duration,
    /// Between two sweeps of what was removed from the bucket: its grace (`tier.delete.grace.ms`).
    pub(crate) sweep_interval: Duration,
    /// How late a write may reach the bucket (`tier.late.write.max.ms`).
    pub(crate) late_write_max: Duration,
    /// How long one claim, upload or sweep may take, besides what its bytes need (`tier.upload.deadline.ms`).
    pub(crate) upload_deadline: Duration,
    /// The slowest that bytes may move (`tier.store.bytes.per.second.min`).
    pub(crate) bytes_per_second_min: ByteCount,
    /// After how long uploads that do not move are told of (`tier.upload.stall.ms`).
    pub(crate) stall_after: Duration,
}

impl KeeperOptions {
    /// What of it holds for all work between a partition and the bucket.
    pub(crate) fn archive_rules(&self, replicas: &Replicas) -> ArchiveRules {
        ArchiveRules {
            retry_min: self.retry_min,
            retry_max: self.retry_max,
            sweep_interval: self.sweep_interval,
            late_write_max: self.late_write_max,
            deadline: self.upload_deadline,
            bytes_per_second_min: self.bytes_per_second_min,
            stall_after: self.stall_after,
            metrics: replicas.metrics().clone(),
        }
    }
}

/// Partitions that have something to do in the bucket.
type Archives = Turns<TopicPartition, Arc<Replica>>;

/// Looks over all partitions.
#[derive(Debug)]
pub(crate) struct Keeper {
    replicas: Arc<Replicas>,
    tier: Option<Tier>,
    options: KeeperOptions,
    rules: ArchiveRules,
    world: World,
    uploads: Arc<Archives>,
    recoveries: Arc<Archives>,
    retaining: AtomicBool,
    relieving: AtomicBool,
    group: TaskGroup,
}

impl Keeper {
    pub(crate) fn new(
        replicas: Arc<Replicas>,
        tier: Option<Tier>,
        options: KeeperOptions,
        world: World,
        group: TaskGroup,
    ) -> Arc<Keeper> {
        let rules = options.archive_rules(&replicas);
        Arc::new(Keeper {
            uploads: Arc::new(Turns::new(options.uploads_max)),
            recoveries: Arc::new(Turns::new(RECOVERIES_MAX)),
            retaining: AtomicBool::new(false),
            relieving: AtomicBool::new(false),
            replicas,
            tier,
            options,
            rules,
            world,
            group,
        })
    }

    /// Looks, again and again, until the group is stopped.
    pub(crate) async fn run(self: Arc<Keeper>) {
        let mut retention_due = self.world.clock.now();
        loop {
            tokio::select! {
                () = self.group.cancelled().cancelled() => return,
                () = tokio::time::sleep(self.options.check_interval) => {}
            }
            let now = self.world.clock.now();
            let retain = now >= retention_due;
            let replicas = self.replicas.all();
            self.look_at_disk(&replicas, now);
            if retain {
                retention_due = now + self.world.rng.jittered(self.options.retention_interval);
                self.start_retention(&replicas);
            }
            let mut stalled = 0;
            for replica in &replicas {
                self.look_at(replica, now, retain);
                stalled += i64::from(self.tier.is_some() && replica.watch_uploads(now, &self.rules));
            }
            self.rules.metrics.stalled.set(stalled);
        }
    }

    fn look_at(self: &Arc<Keeper>, replica: &Arc<Replica>, now: Instant, retain: bool) {
        match replica.role() {
            Role::NotLeading | Role::Offline(_) => {}
            Role::Recovering(_) => {
                if replica.has_archive_work(now) {
                    self.start_archive(replica, &self.recoveries);
                }
            }
            Role::Leader(_) if self.tier.is_some() && replica.config().tiered => {
                self.roll_if_old(replica);
                if retain || replica.has_archive_work(now) {
                    self.start_archive(replica, &self.uploads);
                }
            }
            Role::Leader(_) => {}
        }
    }

    /// What is not sealed is not in the bucket: the age of the open segment is how much a lost disk would cost.
    fn roll_if_old(&self, replica: &Arc<Replica>) {
        let age = replica.log().active_since().map(|since| self.world.clock.wall().since(since));
        if age.is_some_and(|age| age >= self.options.roll_after)
            && let Err(error) = replica.log().roll()
        {
            self.rules.metrics.retention_failures.inc();
            tracing::warn!(partition = %replica.partition(), topic = %replica.topic(), %error, "cannot seal a segment");
        }
    }

    fn start_archive(self: &Arc<Keeper>, replica: &Arc<Replica>, archives: &Arc<Archives>) {
        let Some(tier) = self.tier.clone() else { return };
        if !archives.admit(replica.partition(), replica.clone()) {
            return;
        }
        let (keeper, archives) = (self.clone(), archives.clone());
        self.group.spawn("archive", async move {
            let work = async {
                while let Some((partition, replica)) = archives.next() {
                    match replica.work_on_archive(&tier, &keeper.rules).await {
                        Done::More => archives.again(partition, replica),
                        Done::Idle | Done::Retry | Done::Stopped => archives.done(partition),
                    }
                }
            };
            // A stop in the middle of an upload leaves an object that nothing names; the next claim collects it.
            tokio::select! {
                () = keeper.group.cancelled().cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Lets go what retention does not keep: of a topic that is only local, the log's start rises; of one that is tiered, local
    /// segments go that the bucket is known to hold, whether or not it answers now.
    fn start_retention(self: &Arc<Keeper>, replicas: &[Arc<Replica>]) {
        if self.retaining.swap(true, Ordering::AcqRel) {
            return;
        }
        let leads = |replica: &&Arc<Replica>| matches!(replica.role(), Role::Leader(_));
        let replicas: Vec<Arc<Replica>> = replicas.iter().filter(leads).cloned().collect();
        let keeper = self.clone();
        self.group.spawn("retention", async move {
            for chunk in replicas.chunks(RETENTION_CHUNK) {
                if keeper.group.cancelled().is_cancelled() {
                    break;
                }
                let (keeper, chunk, now) = (keeper.clone(), chunk.to_vec(), keeper.world.clock.wall());
                tasks::blocking(move || chunk.iter().for_each(|replica| keeper.retain(replica, now))).await;
            }
            keeper.retaining.store(false, Ordering::Release);
        });
    }

    /// Makes room as the disk fills, and shuts the door when there is none to be made.
    fn look_at_disk(self: &Arc<Keeper>, replicas: &[Arc<Replica>], now: Instant) {
        let guard = self.replicas.disk();
        // It may have changed: whoever has a full disk can have a little more of it while they make room.
        let watermark = self.replicas.configs().broker().log.disk_high_watermark;
        let space = match self.replicas.logs().space() {
            Ok(space) => space,
            Err(error) => {
                self.rules.metrics.retention_failures.inc();
                tracing::warn!(%error, "cannot tell how full the disk is");
                return;
            }
        };
        let metrics = &self.rules.metrics;
        metrics.disk_free.set(i64::try_from(space.available.get()).unwrap_or(i64::MAX));
        metrics.disk_total.set(i64::try_from(space.total.get()).unwrap_or(i64::MAX));
        let (excess, leaving) = (disk::excess(&space, watermark), guard.leaving(now));
        let full = disk::is_full(&space, watermark, leaving);
        if guard.set_full(full) {
            metrics.disk_full.set(i64::from(full));
            let (available, total) = (space.available, space.total);
            match full {
                true => tracing::error!(%available, %total, "the disk is full: clients' appends are refused"),
                false => tracing::warn!(%available, %total, "the disk has room again"),
            }
        }
        let wanted = excess.saturating_sub(leaving);
        if wanted > ByteCount::ZERO && self.tier.is_some() && !self.relieving.swap(true, Ordering::AcqRel) {
            let (keeper, replicas) = (self.clone(), replicas.to_vec());
            self.group.spawn("disk-relief", async move {
                let relieving = keeper.clone();
                tasks::blocking(move || relieving.relieve(&replicas, wanted)).await;
                keeper.relieving.store(false, Ordering::Release);
            });
        }
    }

    /// Drops the oldest of what the bucket holds, until `wanted` is on its way out.
    fn relieve(&self, replicas: &[Arc<Replica>], wanted: ByteCount) {
        let Some(tier) = &self.tier else { return };
        let mut droppable = Vec::new();
        for (owner, replica) in replicas.iter().enumerate() {
            let Role::Leader(epoch) = replica.role() else { continue };
            let Some(proof) = tier.known(replica.partition(), epoch) else { continue };
            droppable.extend(replica.covered(&proof).into_iter().map(|segment| Droppable {
                owner,
                sealed_at: segment.sealed_at,
                bytes: segment.log_bytes,
                next: segment.range.next,
            }));
        }
        let now = self.world.clock.now();
        let mut freed = ByteCount::ZERO;
        for (owner, below) in disk::choose(droppable, wanted) {
            let log = replicas[owner].log();
            match log.trim_local(below) {
                Ok(bytes) => {
                    self.replicas.disk().note_leaving(bytes, now + log.config().file_delete_delay_ms);
                    freed += bytes;
                }
                Err(error) => {
                    self.rules.metrics.retention_failures.inc();
                    tracing::error!(partition = %log.partition(), %error, "cannot drop segments from a full disk");
                }
            }
        }
        self.rules.metrics.disk_relieved.inc_by(freed.get());
        if freed > ByteCount::ZERO {
            tracing::warn!(%wanted, %freed, "the disk fills: dropped segments that the bucket holds");
        }
    }

    fn retain(&self, replica: &Arc<Replica>, now: Timestamp) {
        let Role::Leader(epoch) = replica.role() else { return };
        let tiered = replica.config().tiered;
        let outcome = match &self.tier {
            Some(tier) if tiered => match tier.known(replica.partition(), epoch) {
                Some(proof) => trim_tiered(replica, &proof, now),
                None => Ok(()),
            },
            Some(_) | None => retain_locally(replica, now),
        };
        if let Err(error) = outcome
            // One that was deleted meanwhile has nothing to retain.
            && matches!(replica.role(), Role::Leader(_))
        {
            self.rules.metrics.retention_failures.inc();
            tracing::error!(partition = %replica.partition(), topic = %replica.topic(), %error, "retention failed");
        }
    }
}

/// Why retention could not do its work.
#[derive(Debug, thiserror::Error)]
enum RetainError {
    #[error("cannot seal a segment: {0}")]
    Seal(#[from] crate::log::AppendError),
    #[error(transparent)]
    Change(#[from] crate::log::ChangeError),
}

fn trim_tiered(replica: &Replica, proof: &TieredUpTo, now: Timestamp) -> Result<(), RetainError> {
    let retention = replica.config().retention;
    replica.trim_now(proof, Keep { time: retention.local_time, size: retention.local_bytes }, now)?;
    Ok(())
}

fn retain_locally(replica: &Replica, now: Timestamp) -> Result<(), RetainError> {
    let log = replica.log();
    let retention = replica.config().retention;
    let keep = Keep { time: retention.time, size: retention.bytes };
    // An idle topic's last segment would otherwise never go.
    let expired = |since| keep.time.is_some_and(|time| now.since(since) > time);
    if log.active_since().is_some_and(expired) {
        log.roll()?;
    }
    let removable =
        removable_before(&log.sealed_segments(), log.active_size(), keep, replica.high_watermark(), now);
    if let Some(start) = removable {
        log.advance_start(start)?;
    }
    Ok(())
}
