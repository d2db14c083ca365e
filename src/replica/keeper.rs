//! Which partitions' segments are to be rolled, uploaded or dropped, and when.
//!
//! One task looks over all partitions every now and then, which costs a few atomics each, and starts work where there is some;
//! the work itself is bounded in number, so that ten thousand partitions do not upload at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::TopicPartition;
use aquifer_runtime::World;
use aquifer_runtime::tasks::{self, TaskGroup};
use aquifer_tiering::Tier;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::registry::Replicas;
use super::state::{Replica, Role};
use crate::log::{Keep, removable_before};

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
}

/// Looks over all partitions.
#[derive(Debug)]
pub(crate) struct Keeper {
    replicas: Arc<Replicas>,
    tier: Option<Tier>,
    options: KeeperOptions,
    world: World,
    slots: Arc<Semaphore>,
    busy: Arc<Mutex<HashSet<TopicPartition>>>,
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
        let slots = Arc::new(Semaphore::new(options.uploads_max));
        Arc::new(Keeper { replicas, tier, options, world, slots, busy: Arc::default(), group })
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
            if retain {
                retention_due = now + self.world.rng.jittered(self.options.retention_interval);
            }
            for replica in self.replicas.all() {
                self.look_at(&replica, now, retain);
            }
        }
    }

    fn look_at(self: &Arc<Keeper>, replica: &Arc<Replica>, now: Instant, retain: bool) {
        match replica.role() {
            Role::Offline(_) => {}
            Role::Recovering(_) => self.start_archive(replica, now),
            Role::Leader(_) if self.tier.is_some() && replica.config().tiered => {
                self.roll_if_old(replica);
                if retain || replica.has_archive_work() {
                    self.start_archive(replica, now);
                }
            }
            Role::Leader(_) if retain => self.start_retention(replica),
            Role::Leader(_) => {}
        }
    }

    /// What is not sealed is not in the bucket: the age of the open segment is how much a lost disk would cost.
    fn roll_if_old(&self, replica: &Arc<Replica>) {
        let age = replica.log().active_since().map(|since| self.world.clock.wall().since(since));
        if age.is_some_and(|age| age >= self.options.roll_after)
            && let Err(error) = replica.log().roll()
        {
            tracing::warn!(partition = %replica.partition(), topic = %replica.topic(), %error, "cannot seal a segment");
        }
    }

    fn start_archive(self: &Arc<Keeper>, replica: &Arc<Replica>, now: Instant) {
        let Some(tier) = self.tier.clone() else { return };
        if replica.archive_status().retry_at.is_some_and(|at| now < at)
            || !self.busy.lock().insert(replica.partition())
        {
            return;
        }
        let (keeper, replica) = (self.clone(), replica.clone());
        self.group.spawn("archive", async move {
            let partition = replica.partition();
            let cancelled = keeper.group.cancelled().clone();
            let work = async {
                let Ok(_slot) = keeper.slots.acquire().await else { return };
                replica.work_on_archive(&tier, |failures| keeper.backoff(failures)).await;
            };
            // A stop in the middle of an upload leaves an object that nothing names; the next claim collects it.
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = work => {}
            }
            keeper.busy.lock().remove(&partition);
        });
    }

    fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.options.retry_min.saturating_mul(1 << failures.saturating_sub(1).min(16));
        self.world.rng.jittered(doubled.min(self.options.retry_max))
    }

    /// Retention of a topic that is only local: the log's start rises.
    fn start_retention(self: &Arc<Keeper>, replica: &Arc<Replica>) {
        if !self.busy.lock().insert(replica.partition()) {
            return;
        }
        let (keeper, replica) = (self.clone(), replica.clone());
        self.group.spawn("retention", async move {
            let partition = replica.partition();
            let now = keeper.world.clock.wall();
            tasks::blocking(move || retain_locally(&replica, now)).await;
            keeper.busy.lock().remove(&partition);
        });
    }
}

fn retain_locally(replica: &Replica, now: aquifer_model::Timestamp) {
    let log = replica.log();
    let retention = replica.config().retention;
    let keep = Keep { time: retention.time, size: retention.bytes };
    // An idle topic's last segment would otherwise never go.
    let expired = |since| keep.time.is_some_and(|time| now.since(since) > time);
    if log.active_since().is_some_and(expired)
        && let Err(error) = log.roll()
    {
        tracing::warn!(partition = %replica.partition(), %error, "cannot seal a segment for retention");
    }
    let removable =
        removable_before(&log.sealed_segments(), log.active_size(), keep, replica.high_watermark(), now);
    if let Some(start) = removable
        && let Err(error) = log.advance_start(start)
    {
        tracing::error!(partition = %replica.partition(), topic = %replica.topic(), %error, "retention failed");
    }
}
