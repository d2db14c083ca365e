//! Finds replicas; opens and closes them as the metadata says.
//!
//! It follows the metadata's image: whatever changed between the image it last took and the newest is carried out here, in
//! order, by one task. It finds replicas for others and never acts for them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aquifer_model::{BrokerId, PartitionIndex, TopicId, TopicName, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::tasks::{self, TaskGroup};
use aquifer_tiering::Tier;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::time::Instant;

use super::disk::DiskGuard;
use super::metrics::ReplicaMetrics;
use super::state::{Replica, Role};
use super::survival::Survival;
use crate::config::{Config, TopicConfig};
use crate::log::{LogConfig, LogDir, Wanted};
use crate::metadata::delta::PartitionChange;
use crate::metadata::image::{Partition, Topic};
use crate::metadata::{Delta, Image, Metadata};

/// Wait before logs that could not be opened are tried again; doubles while none can be, up to [`REOPEN_MAX`].
const REOPEN_MIN: Duration = Duration::from_secs(1);
const REOPEN_MAX: Duration = Duration::from_secs(30);
/// The wait is at least so many times as long as the attempt was.
const REOPEN_REST: u32 = 4;

/// The replicas of this broker.
#[derive(Debug)]
pub(crate) struct Replicas {
    world: World,
    broker: BrokerId,
    logs: Arc<LogDir>,
    tier: Option<Tier>,
    configs: watch::Receiver<Config>,
    open: RwLock<HashMap<TopicPartition, Arc<Replica>>>,
    /// Partitions of this broker whose log cannot be opened.
    unopened: RwLock<HashMap<TopicPartition, Unopened>>,
    metrics: ReplicaMetrics,
    disk: Arc<DiskGuard>,
    /// The logs that were on disk when this broker started.
    survivors: OnceLock<HashSet<TopicPartition>>,
    /// The image that was last carried out.
    applied: watch::Sender<Arc<Image>>,
}

/// A partition whose log cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unopened {
    pub(crate) partition: TopicPartition,
    pub(crate) topic: TopicName,
    pub(crate) reason: String,
}

impl Replicas {
    /// No replicas yet; [`Replicas::open`] opens what the metadata assigns to `broker`.
    pub(crate) fn new(
        world: World,
        broker: BrokerId,
        logs: Arc<LogDir>,
        tier: Option<Tier>,
        configs: watch::Receiver<Config>,
        metrics: ReplicaMetrics,
    ) -> Arc<Replicas> {
        let (applied, _) = watch::channel(Arc::new(Image::default()));
        Arc::new(Replicas {
            world,
            broker,
            logs,
            tier,
            configs,
            open: RwLock::default(),
            unopened: RwLock::default(),
            metrics,
            disk: Arc::new(DiskGuard::new()),
            survivors: OnceLock::new(),
            applied,
        })
    }

    /// What is counted of replicas.
    pub(super) fn metrics(&self) -> &ReplicaMetrics {
        &self.metrics
    }

    /// Whether a partition is this broker's, but its log cannot be opened.
    pub(crate) fn is_unopened(&self, partition: TopicPartition) -> bool {
        self.unopened.read().contains_key(&partition)
    }

    /// The partitions whose log cannot be opened, in no order.
    pub(crate) fn unopened(&self) -> Vec<Unopened> {
        self.unopened.read().values().cloned().collect()
    }

    /// The replica of a partition, if it is here.
    pub(crate) fn get(&self, partition: TopicPartition) -> Option<Arc<Replica>> {
        self.open.read().get(&partition).cloned()
    }

    /// All replicas, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Replica>> {
        self.open.read().values().cloned().collect()
    }

    /// The partitions whose replicas are open, in no order.
    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.open.read().keys().copied().collect()
    }

    /// The broker's configuration in force.
    pub(super) fn configs(&self) -> Config {
        self.configs.borrow().clone()
    }

    /// The same, to watch.
    pub(super) fn watch_configs(&self) -> watch::Receiver<Config> {
        self.configs.clone()
    }

    /// Where the logs lie.
    pub(super) fn logs(&self) -> &Arc<LogDir> {
        &self.logs
    }

    /// How full that is.
    pub(super) fn disk(&self) -> &DiskGuard {
        &self.disk
    }

    /// The image that was last carried out here, to watch.
    pub(crate) fn applied(&self) -> watch::Receiver<Arc<Image>> {
        self.applied.subscribe()
    }

    /// Waits until what the metadata now says of a topic has been carried out here; gives whether it was, in time.
    pub(crate) async fn carried_out(&self, image: &Arc<Image>, topic: TopicId, deadline: Instant) -> bool {
        // It rises with the number of partitions, and with each change of the settings.
        let wanted = image.topic(topic).map(|topic| topic.revision);
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|applied| match wanted {
            Some(revision) => applied.topic(topic).is_some_and(|topic| topic.revision >= revision),
            None => applied.topic(topic).is_none(),
        });
        tokio::time::timeout_at(deadline, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// Opens what the metadata assigns to this broker, and removes what it does not. Nothing is led before [`Replicas::follow`].
    pub(crate) async fn open(&self, metadata: &Metadata) {
        let image = metadata.image();
        self.remove_strays(&image).await;
        self.carry_out(image).await;
    }

    /// Carries out what the metadata says now, and on return has; then follows it until the group is stopped.
    pub(crate) async fn follow(self: &Arc<Replicas>, metadata: &Metadata, group: &TaskGroup) {
        let mut images = metadata.watch();
        let mut failure = self.logs.failure();
        let image = images.borrow_and_update().clone();
        self.carry_out(image).await;
        let failed = failure.borrow_and_update().as_ref().map(ToString::to_string);
        if let Some(reason) = failed {
            self.give_up(&reason);
        }
        let replicas = self.clone();
        let cancelled = group.cancelled().clone();
        let mut configs = self.configs.clone();
        self.carry_out_settings();
        group.spawn("replica-registry", async move {
            let mut patience = REOPEN_MIN;
            let mut reopen_at = replicas.world.clock.now() + patience;
            loop {
                tokio::select! {
                    () = cancelled.cancelled() => return,
                    () = tokio::time::sleep_until(reopen_at), if replicas.may_reopen() => {
                        let began = replicas.world.clock.now();
                        patience = match replicas.reopen().await {
                            true => REOPEN_MIN,
                            false => (patience * 2).min(REOPEN_MAX),
                        };
                        // All else waits meanwhile: an attempt that takes long, to fail at the end, must not be all that is done here.
                        let now = replicas.world.clock.now();
                        reopen_at = now + patience.max((now - began) * REOPEN_REST);
                    }
                    changed = images.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let image = images.borrow_and_update().clone();
                        replicas.carry_out(image).await;
                    }
                    Ok(()) = configs.changed() => {
                        replicas.carry_out_settings();
                        let image = replicas.applied.borrow().clone();
                        for topic in image.topics() {
                            replicas.set_configs(topic);
                        }
                    }
                    Ok(()) = failure.changed() => {
                        let reason = failure.borrow_and_update().as_ref().map(ToString::to_string);
                        if let Some(reason) = reason {
                            replicas.give_up(&reason);
                        }
                    }
                }
            }
        });
    }

    /// What may change of the broker's own settings, and concerns all logs.
    fn carry_out_settings(&self) {
        self.logs.set_producer_id_expiration(self.configs().broker().log.producer_id_expiration);
    }

    /// The log directory failed: nothing in it can be trusted or written any more.
    fn give_up(&self, reason: &str) {
        tracing::error!(reason, "the log directory failed: its partitions are offline");
        for replica in self.all() {
            replica.go_offline(format!("the log directory failed: {reason}"));
        }
    }

    /// Logs of topics that were deleted while this broker was away.
    async fn remove_strays(&self, image: &Image) {
        let wanted: HashSet<TopicPartition> =
            self.assigned(image).map(|(partition, _, _)| partition).collect();
        let logs = self.logs.clone();
        let found = match tasks::blocking(move || logs.found()).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "cannot list the log directory");
                Vec::new()
            }
        };
        let strays: Vec<_> = found.iter().filter(|found| !wanted.contains(&found.partition)).collect();
        if !strays.is_empty() && is_blank(image) {
            // Metadata that knows of no topic, alive or deleted, is new or lost, and no reason to remove anybody's data.
            tracing::error!(
                logs = strays.len(),
                "the metadata knows of no topic, but there are logs: they are left alone"
            );
        } else {
            for stray in strays {
                tracing::warn!(partition = %stray.partition, topic = %stray.topic, "removing the log of a deleted topic");
                self.delete(stray.partition).await;
            }
        }
        self.survivors.get_or_init(|| found.into_iter().map(|found| found.partition).collect());
    }

    fn assigned<'a>(
        &'a self,
        image: &'a Image,
    ) -> impl Iterator<Item = (TopicPartition, &'a Arc<Topic>, &'a Arc<Partition>)> {
        image.topics().flat_map(move |topic| {
            let mine = topic
                .partitions
                .iter()
                .zip(0..)
                .filter(|(partition, _)| partition.replicas.contains(&self.broker));
            mine.map(move |(partition, index)| {
                (TopicPartition { topic: topic.id, partition: PartitionIndex(index) }, topic, partition)
            })
        })
    }

    async fn carry_out(&self, image: Arc<Image>) {
        let before = self.applied.borrow().clone();
        let delta = Delta::between(&before, &image);
        for topic in &delta.topics_deleted {
            for index in 0..topic.partitions.len() {
                let partition = TopicPartition { topic: topic.id, partition: PartitionIndex(index as i32) };
                self.close(partition).await;
            }
        }
        self.open_new(&delta.partitions).await;
        for change in &delta.partitions {
            self.set_role(change);
        }
        for topic in &delta.topics_configured {
            self.set_configs(topic);
        }
        self.applied.send_replace(image);
    }

    /// Whether there are logs that another attempt may open.
    fn may_reopen(&self) -> bool {
        !self.unopened.read().is_empty() && self.logs.failure().borrow().is_none()
    }

    /// Tries again to open what could not be: what was in the way, a full disk perhaps, may be gone. Gives whether
    /// any of it is open now.
    async fn reopen(&self) -> bool {
        let image = self.applied.borrow().clone();
        let unopened = self.unopened();
        let again = unopened.iter().filter_map(|Unopened { partition, .. }| {
            let topic = image.topic(partition.topic)?;
            let now = topic.partition(partition.partition)?;
            // It is not new, and whether its log has ever been here only the bucket can say.
            let before = Some(now.clone());
            Some(PartitionChange {
                topic: topic.clone(),
                partition: partition.partition,
                before,
                after: now.clone(),
            })
        });
        let changes: Vec<PartitionChange> = again.collect();
        self.open_new(&changes).await;
        for change in &changes {
            self.set_role(change);
        }
        let left = self.unopened.read().len();
        if left < unopened.len() {
            tracing::warn!(opened = unopened.len() - left, left, "logs that could not be opened now are");
            // Whoever waits for these replicas looks again.
            self.applied.send_replace(image);
        }
        left < unopened.len()
    }

    /// Opens the logs of partitions that are new to this broker. One that cannot be opened is offline, and says why, until another
    /// attempt succeeds; the others are served.
    async fn open_new(&self, changes: &[PartitionChange]) {
        let mut wanted = Vec::new();
        let (mut configs, mut names) = (HashMap::new(), HashMap::new());
        for change in changes {
            let partition = change.id();
            if change.after.replicas.contains(&self.broker) && self.get(partition).is_none() {
                let config = self.topic_config(&change.topic);
                wanted.push(Wanted {
                    partition,
                    topic: change.topic.name.clone(),
                    config: LogConfig::from(&config),
                });
                configs.insert(partition, config);
                names.insert(partition, change.topic.name.clone());
            }
        }
        if wanted.is_empty() {
            return;
        }
        let logs = self.logs.clone();
        let clean = logs.was_clean();
        let opened = tasks::blocking(move || logs.open_many(wanted)).await;
        for (partition, log) in opened {
            match log {
                Ok(log) => {
                    // One that was on disk at the start and is blank now has lost what it held, or never held anything.
                    let on_disk = self.survived(partition) && !log.recovery().is_blank;
                    let survival = Survival { on_disk, clean };
                    let config = configs.remove(&partition).expect("every wanted log has a configuration");
                    self.unopened.write().remove(&partition);
                    self.open.write().insert(
                        partition,
                        Replica::new(log, survival, config, self.disk.clone(), self.world.clone()),
                    );
                }
                Err(error) => {
                    let topic = names.remove(&partition).expect("every wanted log has a topic");
                    let reason = format!("the log cannot be opened: {error}");
                    let unopened = Unopened { partition, topic: topic.clone(), reason };
                    // Told once, and again when there is another reason.
                    if self.unopened.write().insert(partition, unopened.clone()).as_ref() != Some(&unopened) {
                        tracing::error!(%partition, %topic, %error, "cannot open a log: its partition is offline");
                    }
                }
            }
        }
        self.count_unopened();
    }

    fn count_unopened(&self) {
        self.metrics.unopened.set(i64::try_from(self.unopened.read().len()).unwrap_or(i64::MAX));
    }

    fn survived(&self, partition: TopicPartition) -> bool {
        self.survivors.get().is_some_and(|survivors| survivors.contains(&partition))
    }

    fn set_role(&self, change: &PartitionChange) {
        let partition = TopicPartition { topic: change.topic.id, partition: change.partition };
        let Some(replica) = self.get(partition) else { return };
        let epoch = change.after.leader_epoch;
        if let Some(failure) = self.logs.failure().borrow().as_ref() {
            replica.go_offline(format!("the log directory failed: {failure}"));
        } else if change.after.leader != Some(self.broker) {
            replica.stop_leading();
        } else if let Some(damage) = replica.log().corruption() {
            tracing::error!(%partition, topic = %replica.topic(), %damage, "the local log is damaged: its partition is offline");
            replica.go_offline(format!("the local log is damaged: {damage}"));
        } else if [Role::Leader(epoch), Role::Recovering(epoch)].contains(&replica.role()) {
            replica.refresh(&change.after);
        } else if self.tier.is_some()
            && replica.must_ask_tier(change.before.is_none() && epoch_is_first(change))
        {
            replica.lead(&change.after, Role::Recovering(epoch));
        } else {
            replica.lead(&change.after, Role::Leader(epoch));
        }
    }

    fn set_configs(&self, topic: &Arc<Topic>) {
        for (index, partition) in topic.partitions.iter().enumerate() {
            let id = TopicPartition { topic: topic.id, partition: PartitionIndex(index as i32) };
            if let Some(replica) = self.get(id) {
                replica.set_config(self.topic_config(topic), partition);
            }
        }
    }

    fn topic_config(&self, topic: &Topic) -> TopicConfig {
        let (config, problems) = self.configs.borrow().topic(&topic.configs);
        for problem in problems {
            tracing::warn!(topic = %topic.name, %problem, "a topic's setting is not allowed here: the default holds");
        }
        config
    }

    async fn close(&self, partition: TopicPartition) {
        self.unopened.write().remove(&partition);
        self.count_unopened();
        let replica = self.open.write().remove(&partition);
        if let Some(replica) = replica {
            replica.go_offline("the topic was deleted".to_owned());
        }
        if let Some(tier) = &self.tier {
            tier.forget(partition);
        }
        self.delete(partition).await;
    }

    async fn delete(&self, partition: TopicPartition) {
        let logs = self.logs.clone();
        if let Err(error) = tasks::blocking(move || logs.delete(partition)).await {
            self.metrics.delete_failures.inc();
            tracing::error!(%partition, %error, "cannot delete a log; the next start tries again");
        }
    }
}

/// Whether these are no topics, and no traces of any.
fn is_blank(image: &Image) -> bool {
    image.topic_count() == 0 && image.deleted_topics().next().is_none()
}

/// Whether the partition was just made: its first leader has not changed yet.
fn epoch_is_first(change: &PartitionChange) -> bool {
    change.after.leader_epoch.get() == 0
}
