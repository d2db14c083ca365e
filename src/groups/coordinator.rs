//! The shards of this broker, and which group belongs to which.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{BrokerId, ByteCount, PartitionIndex, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::tasks::TaskGroup;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::book::Rules;
use super::classic::{Limits, MemberLimits};
use super::consumer::ConsumerLimits;
use super::error::Unavailable;
use super::memory::MemberMemory;
use super::metrics::GroupMetrics;
use super::shard::{Shard, Surroundings, shard};
use crate::config::{self, Config};
use crate::controller::topics::{NewTopic, TopicError, Topics};
use crate::metadata::image::BrokerState;
use crate::metadata::{Delta, Image, Metadata};
use crate::quotas::mutations::Mutations;
use crate::replica::Replicas;

/// The topic that groups are kept in.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Whether a topic is the brokers' own: clients may read it, and not write to it.
pub(crate) fn is_internal(topic: &str) -> bool {
    topic == OFFSETS_TOPIC
}

/// Finds and asks the groups of this broker.
#[derive(Debug)]
pub(crate) struct Groups {
    metadata: Metadata,
    replicas: Arc<Replicas>,
    configs: watch::Receiver<Config>,
    world: World,
    metrics: GroupMetrics,
    memory: MemberMemory,
    shards: RwLock<HashMap<TopicPartition, Running>>,
    /// Held while the topic is made: whoever comes meanwhile waits for the same one.
    making: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Running {
    shard: Shard,
    cancelled: CancellationToken,
}

/// Why it cannot be said who coordinates a group.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error("{OFFSETS_TOPIC} cannot be made: {0}")]
    Topic(#[from] TopicError),
    #[error("the group's partition of {OFFSETS_TOPIC} has no leader")]
    NoLeader,
}

impl Groups {
    pub(crate) fn new(
        metadata: Metadata,
        replicas: Arc<Replicas>,
        configs: watch::Receiver<Config>,
        world: World,
        metrics: GroupMetrics,
    ) -> Arc<Groups> {
        let memory = MemberMemory::new(configs.borrow().broker().groups.members_bytes_max);
        let (shards, making) = (RwLock::default(), tokio::sync::Mutex::new(()));
        Arc::new(Groups { metadata, replicas, configs, world, metrics, memory, shards, making })
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> &GroupMetrics {
        &self.metrics
    }

    /// Where what members say of themselves is kept.
    pub(crate) fn memory(&self) -> &MemberMemory {
        &self.memory
    }

    /// What members may say of themselves.
    pub(crate) fn member_limits(&self) -> MemberLimits {
        let config = self.configs.borrow().broker().groups.clone();
        MemberLimits {
            bytes_max: usize::try_from(config.member_bytes_max.0).unwrap_or(usize::MAX),
            protocols_max: config.member_protocols_max as usize,
        }
    }

    /// How often members of a group whose coordinator assigns shall be heard of.
    pub(crate) fn heartbeat_interval(&self, group: &str) -> Duration {
        let image = self.metadata.image();
        self.configs.borrow().broker().groups.consumer.heartbeat_of(image.group_configs(group))
    }

    /// What a batch of records may come to in a group's partition: more than that cannot be stored of it.
    pub(crate) fn batch_bytes_max(&self, group: &str) -> usize {
        let replica = self.partition_of(group).ok().and_then(|partition| self.replicas.get(partition));
        let bytes_max = replica.map_or(ByteCount::ZERO, |replica| replica.config().records.batch_bytes_max);
        usize::try_from(bytes_max.0).unwrap_or(usize::MAX)
    }

    /// Starts a shard for each partition of the topic that is on this broker, until `tasks` is stopped.
    pub(crate) fn follow(self: &Arc<Groups>, tasks: &TaskGroup) {
        let (groups, tasks_of_shards) = (self.clone(), tasks.clone());
        let cancelled = tasks.cancelled().clone();
        let mut carried_out = self.replicas.applied();
        tasks.spawn("groups", async move {
            let mut before = carried_out.borrow().clone();
            loop {
                let image = carried_out.borrow_and_update().clone();
                groups.start_shards(&image, &tasks_of_shards);
                groups.forget_deleted(&Delta::between(&before, &image)).await;
                before = image;
                tokio::select! {
                    () = cancelled.cancelled() => return,
                    changed = carried_out.changed() => if changed.is_err() { return },
                }
            }
        });
    }

    fn start_shards(&self, image: &Image, tasks: &TaskGroup) {
        let topic = image.topic_named(OFFSETS_TOPIC);
        let mut shards = self.shards.write();
        shards.retain(|partition, running| {
            let is_there = topic.is_some_and(|topic| topic.id == partition.topic);
            if !is_there {
                running.cancelled.cancel();
            }
            is_there
        });
        let Some(topic) = topic else { return };
        for index in (0..).take(topic.partitions.len()) {
            let partition = TopicPartition { topic: topic.id, partition: PartitionIndex(index) };
            if shards.contains_key(&partition) {
                continue;
            }
            let Some(replica) = self.replicas.get(partition) else { continue };
            let config = self.configs.borrow().broker().groups.clone();
            let cancelled = tasks.cancelled().child_token();
            let (shard, task) = shard(Surroundings {
                replica,
                metadata: self.metadata.clone(),
                metrics: self.metrics.clone(),
                world: self.world.clone(),
                rules: rules(&config),
                expiry_interval: config.offsets_expiry_interval,
                commit_timeout: config.commit_timeout,
                cancelled: cancelled.clone(),
            });
            tasks.spawn("group-shard", task);
            shards.insert(partition, Running { shard, cancelled });
        }
    }

    /// Positions in a topic that was deleted say nothing of one that is made again under its name.
    async fn forget_deleted(&self, delta: &Delta) {
        for topic in &delta.topics_deleted {
            for shard in self.shards() {
                let (name, id) = (topic.name.clone(), topic.id);
                let forgotten =
                    shard.ask(move |book, _, effects| book.forget_topic(&name, id, effects)).await;
                if let Err(error) = forgotten {
                    // A shard that does not serve looks for them when it begins to.
                    tracing::debug!(topic = %topic.name, %error, "positions in a deleted topic stay for now");
                }
            }
        }
    }

    /// The shard of a group, if it is on this broker.
    pub(crate) fn shard_of(&self, group: &str) -> Result<Shard, Unavailable> {
        let partition = self.partition_of(group)?;
        self.shards
            .read()
            .get(&partition)
            .map(|running| running.shard.clone())
            .ok_or(Unavailable::NotCoordinator)
    }

    fn partition_of(&self, group: &str) -> Result<TopicPartition, Unavailable> {
        let image = self.metadata.image();
        let topic = image.topic_named(OFFSETS_TOPIC).ok_or(Unavailable::NotCoordinator)?;
        let index = partition_of(group, topic.partitions.len());
        Ok(TopicPartition { topic: topic.id, partition: PartitionIndex(index) })
    }

    /// All shards of this broker.
    pub(crate) fn shards(&self) -> Vec<Shard> {
        self.shards.read().values().map(|running| running.shard.clone()).collect()
    }

    /// Who coordinates a group. Makes the topic if nobody ever asked.
    pub(crate) async fn coordinator_of(&self, topics: &Topics, group: &str) -> Result<BrokerId, FindError> {
        if self.metadata.image().topic_named(OFFSETS_TOPIC).is_none() {
            self.make_topic(topics).await?;
        }
        let image = self.metadata.image();
        let topic = image.topic_named(OFFSETS_TOPIC).ok_or(FindError::NoLeader)?;
        let partition = topic.partition(PartitionIndex(partition_of(group, topic.partitions.len())));
        partition.and_then(|partition| partition.leader).ok_or(FindError::NoLeader)
    }

    /// Makes the topic as groups need it, if it is not there.
    pub(crate) async fn make_topic(&self, topics: &Topics) -> Result<(), TopicError> {
        let _making = self.making.lock().await;
        let image = self.metadata.image();
        if image.topic_named(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        let config = self.configs.borrow().broker().groups.clone();
        let brokers = image.brokers().filter(|broker| broker.state == BrokerState::Active).count();
        // Kafka refuses to make the topic on fewer brokers than it shall have replicas, which every first user trips over.
        let replicas = (config.offsets_replication_factor as usize).min(brokers.max(1));
        let settings = [
            ("cleanup.policy", "compact".to_owned()),
            ("remote.storage.enable", "false".to_owned()),
            ("segment.bytes", config.offsets_segment_bytes.0.to_string()),
        ];
        let new = NewTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partitions: i32::try_from(config.offsets_partitions).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(replicas).unwrap_or(i16::MAX),
            assignments: BTreeMap::new(),
            configs: settings.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        };
        match topics.create(new, topics.patience(), &mut Mutations::unlimited()).await {
            // Another broker was faster.
            Ok(_) | Err(TopicError::Exists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn rules(config: &config::Groups) -> Rules {
    Rules {
        limits: Limits {
            session_timeout_min: config.session_timeout_min,
            session_timeout_max: config.session_timeout_max,
            initial_rebalance_delay: config.initial_rebalance_delay,
            members_max: config.members_max as usize,
            // Until the shard says otherwise.
            batch_bytes_max: usize::MAX,
        },
        consumer: ConsumerLimits {
            session_timeout: config.consumer.session_timeout,
            members_max: config.consumer.members_max as usize,
            assignors: config.consumer.assignors,
            migration: config.consumer.migration,
            batch_bytes_max: usize::MAX,
        },
        offsets_retention: config.offsets_retention,
        metadata_bytes_max: usize::try_from(config.offset_metadata_bytes_max.0).unwrap_or(usize::MAX),
        groups_max: config.groups_max as usize,
        pending_max: config.pending_max as usize,
    }
}

/// Which partition of so many a group belongs to: Kafka's choice, by which its tools find a group's records.
fn partition_of(group: &str, partitions: usize) -> i32 {
    // Java's hash of a string, over its UTF-16 units; of the one number that has no absolute value, Kafka makes 0.
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let hash = hash.checked_abs().unwrap_or(0);
    hash % i32::try_from(partitions.max(1)).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::partition_of;

    #[test]
    fn a_group_lies_where_kafka_puts_it() {
        // As Java computes them: "my-group".hashCode() is -1906497762, "polygenelubricants".hashCode() is -2^31.
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("my-group", 50), 12);
        assert_eq!(partition_of("polygenelubricants", 50), 0);
    }
}
