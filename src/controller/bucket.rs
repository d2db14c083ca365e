//! The bucket's record of topics, and the end of deleted ones.
//!
//! What a topic is called and how it is configured lies in the bucket from its first day, so that the bucket alone can be read,
//! and restored from. When a topic is deleted, each of its partitions gets a final manifest version, its objects go after their
//! grace, and a marker stays. All of this follows the metadata and may lag behind it: nobody waits for it, and what a crash or
//! an absent bucket interrupts is done again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{PartitionIndex, TopicId, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::metrics::{Counter, Registry, Table};
use aquifer_runtime::tasks::TaskGroup;
use aquifer_tiering::Tier;
use aquifer_tiering::topic::{TopicRecord, TopicState};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::metadata::image::{DeletedTopic, Topic};
use crate::metadata::{Command, Image, Metadata};

/// How long to wait before what failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// How long to wait before the objects of a deleted topic are looked at again; doubles each time, since each look costs some
/// requests a partition and what keeps them is a grace.
const GRAVE_PAUSE_MIN: Duration = Duration::from_secs(2);
/// The longest such wait.
const GRAVE_PAUSE_MAX: Duration = Duration::from_secs(10 * 60);

/// Keeps the bucket's records true.
#[derive(Debug)]
pub(crate) struct BucketRecords {
    metadata: Metadata,
    tier: Tier,
    config: watch::Receiver<Config>,
    world: World,
    recorded: HashMap<TopicId, Arc<Topic>>,
    graves: HashMap<TopicId, Grave>,
    failures: Counter,
}

/// When to look at a deleted topic again.
#[derive(Debug, Clone, Copy)]
struct Grave {
    due: Instant,
    pause: Duration,
}

impl BucketRecords {
    pub(crate) fn new(
        metadata: Metadata,
        tier: Tier,
        config: watch::Receiver<Config>,
        world: World,
        registry: &mut Registry,
    ) -> BucketRecords {
        let failures = Counter::default();
        Table::under(registry, "aquifer_controller").row(
            "bucket_record_failures",
            "Steps of writing a topic's record or end to the bucket that failed and are tried again",
            &failures,
        );
        let (recorded, graves) = (HashMap::new(), HashMap::new());
        BucketRecords { metadata, tier, config, world, recorded, graves, failures }
    }

    /// Follows the metadata until the group is stopped.
    pub(crate) async fn run(mut self, group: TaskGroup) {
        let mut images = self.metadata.watch();
        loop {
            let image = images.borrow_and_update().clone();
            let again = tokio::select! {
                () = group.cancelled().cancelled() => return,
                again = self.follow(&image) => again,
            };
            tokio::select! {
                () = group.cancelled().cancelled() => return,
                changed = images.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(again.unwrap_or_default()), if again.is_some() => {}
            }
        }
    }

    /// Does what there is to do; gives when to look again although nothing changes.
    async fn follow(&mut self, image: &Image) -> Option<Duration> {
        if !self.metadata.is_controller() {
            // One that becomes it is not told.
            return Some(AGAIN_AFTER);
        }
        self.recorded.retain(|id, _| image.topic(*id).is_some());
        self.graves.retain(|id, _| image.deleted_topics().any(|topic| topic.id == *id));
        for topic in image.topics() {
            let known = self.recorded.get(&topic.id).is_some_and(|known| Arc::ptr_eq(known, topic));
            // A bucket that is away is away for all: one line is enough.
            if !known && !self.record(topic).await {
                return Some(AGAIN_AFTER);
            }
        }
        let mut again: Option<Duration> = None;
        for topic in image.deleted_topics() {
            let now = self.world.clock.now();
            let grave = self.graves.get(&topic.id).copied();
            let due = grave.map_or(now, |grave| grave.due);
            let mut wait = due.saturating_duration_since(now);
            if wait.is_zero() && !self.bury(topic).await {
                wait = grave.map_or(GRAVE_PAUSE_MIN, |grave| (grave.pause * 2).min(GRAVE_PAUSE_MAX));
                self.graves.insert(topic.id, Grave { due: self.world.clock.now() + wait, pause: wait });
            } else if wait.is_zero() {
                continue;
            }
            again = Some(again.map_or(wait, |again| again.min(wait)));
        }
        again
    }

    async fn record(&mut self, topic: &Arc<Topic>) -> bool {
        let (settings, _) = self.config.borrow().topic(&topic.configs);
        if settings.tiered {
            let record = TopicRecord {
                id: topic.id,
                name: topic.name.clone(),
                partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
                configs: topic.configs.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
                state: TopicState::Live,
                revision: topic.revision,
            };
            if let Err(error) = self.tier.record_topic(&record).await {
                self.failures.inc();
                tracing::warn!(topic = %topic.name, %error, "cannot record a topic in the bucket, will try again");
                return false;
            }
        }
        self.recorded.insert(topic.id, topic.clone());
        true
    }

    /// Brings a deleted topic nearer to its end; gives whether it is there.
    async fn bury(&self, topic: &DeletedTopic) -> bool {
        let partitions = u32::try_from(topic.claims.len()).unwrap_or(u32::MAX);
        let record = TopicRecord {
            id: topic.id,
            name: topic.name.clone(),
            partitions,
            configs: Vec::new(),
            state: TopicState::Deleted,
            revision: topic.revision,
        };
        if let Err(error) = self.tier.record_topic(&record).await {
            self.failures.inc();
            tracing::warn!(topic = %topic.name, %error, "cannot record a topic's end in the bucket, will try again");
            return false;
        }
        if let Err(error) = self.tier.delete_topic(topic.id, partitions).await {
            self.failures.inc();
            tracing::warn!(topic = %topic.name, %error, "cannot mark a topic as deleted in the bucket, will try again");
            return false;
        }
        match self.tier.collect_deleted(topic.id, partitions).await {
            Err(error) => {
                self.failures.inc();
                tracing::warn!(topic = %topic.name, %error, "cannot remove a deleted topic's objects, will try again");
                false
            }
            Ok(collected) if collected.left > 0 => false,
            Ok(_) => match self.metadata.propose(Command::ForgetTopic(topic.id)).await {
                Ok(_) => {
                    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
                        self.tier
                            .forget(TopicPartition { topic: topic.id, partition: PartitionIndex(partition) });
                    }
                    true
                }
                Err(error) => {
                    self.failures.inc();
                    tracing::warn!(topic = %topic.name, %error, "cannot forget a deleted topic, will try again");
                    false
                }
            },
        }
    }
}
