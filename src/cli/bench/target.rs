//! What the load goes to: a topic, who leads its partitions, and how connections are shared out among these.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use aquifer_model::{Offset, TopicName};
use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use aquifer_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use aquifer_protocol::messages::fetch::FetchRequest;
use aquifer_protocol::messages::produce::ProduceRequest;
use bytes::Bytes;
use clap::Args;

use crate::cli::bench::produce_frame;
use crate::cli::client::{parse_pair, parse_topic};
use crate::cli::cluster::{Cluster, PATIENCE, Patience, Topic};
use crate::cli::consumer::{LATEST, offsets};
use crate::config::Endpoint;

/// Connections that are made if nothing else is asked for.
const CONNECTIONS: usize = 4;
/// The first version of Produce and Fetch that names topics by their ids.
const TOPIC_ID_SINCE: i16 = 13;
/// The first version of Produce that carries batches as they are today.
const BATCHES_SINCE: i16 = 3;
/// The newest version of Fetch that has anything for consumers.
const FETCH_VERSION_MAX: i16 = 17;
/// Partitions that are written to at once before the load begins: a broker may take long for each.
const TOUCHED_AT_ONCE: usize = 16;
/// Kafka's number for a topic among the things that have a configuration.
const RESOURCE_TOPIC: i8 = 2;

/// Which topic, and over how many connections.
#[derive(Debug, Clone, Args)]
pub(super) struct TargetArgs {
    /// Topic
    #[arg(long, value_parser = parse_topic, value_name = "NAME")]
    pub(super) topic: TopicName,
    /// Partitions to use, the first so many; without it, all
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), value_name = "NUMBER")]
    partitions: Option<u32>,
    /// Connections in all, each to a broker that leads partitions; without it 4, or as many as there are such brokers
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..), value_name = "NUMBER")]
    connections: Option<u16>,
}

/// How to make the topic.
#[derive(Debug, Clone, Args)]
pub(super) struct CreateArgs {
    /// Create the topic unless it is there, with --partitions partitions
    #[arg(long)]
    create: bool,
    /// Replicas of the topic to create; without it, the broker's default
    #[arg(long, requires = "create", value_name = "NUMBER")]
    replication_factor: Option<i16>,
    /// Configuration of the topic to create; may be given several times
    #[arg(long = "config", requires = "create", value_parser = parse_pair, value_name = "KEY=VALUE")]
    configs: Vec<(String, String)>,
}

/// A broker that leads some of the partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leader {
    pub(super) address: Endpoint,
    /// In order.
    pub(super) partitions: Vec<i32>,
    pub(super) produce_version: i16,
    pub(super) fetch_version: i16,
}

/// A topic, found.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) topic: Arc<Topic>,
    pub(super) leaders: Vec<Leader>,
    pub(super) connections: usize,
}

impl CreateArgs {
    /// Creates the topic, if that is asked for and it is not there.
    pub(super) async fn create(&self, cluster: &Cluster, target: &TargetArgs) -> anyhow::Result<()> {
        if !self.create {
            return Ok(());
        }
        let config = |(key, value): &(String, String)| CreatableTopicConfig {
            name: key.as_str().into(),
            value: Some(value.as_str().into()),
        };
        let wanted = CreatableTopic {
            name: target.topic.as_str().into(),
            num_partitions: target.partitions.map_or(Ok(1), i32::try_from)?,
            replication_factor: self.replication_factor.unwrap_or(-1),
            assignments: Vec::new(),
            configs: self.configs.iter().map(config).collect(),
        };
        let timeout_ms = i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX);
        let request = CreateTopicsRequest { topics: vec![wanted], timeout_ms, validate_only: false };
        let answer = cluster.any().await?.call(&request).await?;
        let created = answer.topics.first().context("the answer leaves the topic out")?;
        match created.error_code {
            ErrorCode::NONE | ErrorCode::TOPIC_ALREADY_EXISTS => Ok(()),
            error => {
                let said = created.error_message.as_deref().unwrap_or_default();
                bail!("cannot create {}: {error} {said}", target.topic)
            }
        }
    }
}

impl Target {
    /// Finds the topic, which is created before where that is asked for, and its leaders.
    pub(super) async fn find(
        cluster: &Cluster,
        args: &TargetArgs,
        create: Option<&CreateArgs>,
    ) -> anyhow::Result<Target> {
        if let Some(create) = create {
            create.create(cluster, args).await?;
        }
        let is_new = create.is_some_and(|create| create.create);
        let mut topic = cluster.topic(&args.topic, is_new).await?;
        if let Some(wanted) = args.partitions {
            let (wanted, found) = (usize::try_from(wanted)?, topic.partitions.len());
            ensure!(
                found >= wanted,
                "topic {} has {found} partitions, fewer than the {wanted} asked for",
                args.topic
            );
            topic.partitions.truncate(wanted);
        }
        let mut leaders: Vec<Leader> = Vec::new();
        for partition in &topic.partitions {
            let address = partition.leader.as_ref().context("a topic that was found has leaders")?;
            match leaders.iter_mut().find(|leader| leader.address == *address) {
                Some(leader) => leader.partitions.push(partition.index),
                None => leaders.push(Leader::of(cluster, address, &topic, partition.index).await?),
            }
        }
        let connections = args.connections.map_or(CONNECTIONS.max(leaders.len()), usize::from);
        ensure!(
            connections >= leaders.len(),
            "{connections} connections are too few: {} brokers lead partitions of {}",
            leaders.len(),
            args.topic
        );
        Ok(Target { topic: Arc::new(topic), leaders, connections })
    }

    /// All partitions, in order.
    pub(super) fn partitions(&self) -> Vec<i32> {
        self.topic.partitions.iter().map(|partition| partition.index).collect()
    }

    /// Who writes what: each connection writes to all that its broker leads, and each begins with another.
    pub(super) fn share_for_writing(&self) -> Vec<Leader> {
        let share = |connection: usize| {
            let (of, number) = (connection % self.leaders.len(), connection / self.leaders.len());
            let mut leader = self.leaders[of].clone();
            let count = leader.partitions.len();
            leader.partitions.rotate_left(number * count / self.connections_to(of) % count);
            leader
        };
        (0..self.connections).map(share).collect()
    }

    /// Who reads what: each partition is read over one connection. There are no more connections than partitions.
    pub(super) fn share_for_reading(&self) -> Vec<Leader> {
        let mut shares = Vec::new();
        for (of, leader) in self.leaders.iter().enumerate() {
            let count = self.connections_to(of).min(leader.partitions.len());
            shares.extend((0..count).map(|number| Leader {
                partitions: leader.partitions.iter().skip(number).step_by(count).copied().collect(),
                ..leader.clone()
            }));
        }
        shares
    }

    fn connections_to(&self, leader: usize) -> usize {
        (self.connections + self.leaders.len() - 1 - leader) / self.leaders.len()
    }

    /// Writes a batch to each partition that has none yet and waits until it is taken, so that what a broker does only once is not
    /// measured: a topic just made is led by nobody for a moment, and its files are yet to be opened. Gives how many there were.
    pub(super) async fn touch(
        &self,
        cluster: &Cluster,
        name: &TopicName,
        acks: i16,
        batch: &Bytes,
    ) -> anyhow::Result<u64> {
        let ends = offsets(cluster, name, &self.partitions(), LATEST).await?;
        let is_empty = |index: &&i32| ends.get(index).is_none_or(|end| *end <= Some(Offset::ZERO));
        let mut touched = 0;
        for leader in &self.leaders {
            let empty: Vec<i32> = leader.partitions.iter().filter(is_empty).copied().collect();
            for partitions in empty.chunks(TOUCHED_AT_ONCE) {
                touched += partitions.len() as u64;
                self.touch_some(cluster, leader, partitions.to_vec(), acks, batch).await?;
            }
        }
        Ok(touched)
    }

    async fn touch_some(
        &self,
        cluster: &Cluster,
        leader: &Leader,
        mut left: Vec<i32>,
        acks: i16,
        batch: &Bytes,
    ) -> anyhow::Result<()> {
        let mut patience = Patience::new(cluster.world(), PATIENCE);
        loop {
            let request = produce_frame::request(&self.topic, &left, acks, batch);
            let answer = cluster.at(&leader.address).await?.call(&request).await?;
            let mut refused = None;
            for told in answer.responses.into_iter().flat_map(|topic| topic.partition_responses) {
                match told.error_code {
                    ErrorCode::NONE => left.retain(|index| *index != told.index),
                    error => {
                        let said = told.error_message.unwrap_or_default();
                        let why =
                            format!("cannot write to {}-{}: {error} {said}", self.topic.name, told.index);
                        ensure!(error.is_retriable(), "{}", why.trim_end());
                        refused = Some(why);
                    }
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            let why = refused.unwrap_or_else(|| format!("{} leaves partitions out", leader.address));
            ensure!(patience.pause().await, "{}", why.trim_end());
        }
    }

    /// Whether compaction may have left gaps between the topic's offsets. A broker that does not tell has no such topics.
    pub(super) async fn may_have_gaps(&self, cluster: &Cluster) -> anyhow::Result<bool> {
        const KEY: &str = "cleanup.policy";
        let peer = cluster.any().await?;
        if peer.version::<DescribeConfigsRequest>().is_err() {
            return Ok(false);
        }
        let resource = DescribeConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: self.topic.name.clone(),
            configuration_keys: Some(vec![KEY.into()]),
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let answer = peer.call(&request).await?;
        let configs = answer.results.into_iter().flat_map(|told| told.configs);
        let policy = configs.filter(|config| config.name.as_str() == KEY).find_map(|config| config.value);
        Ok(policy.is_some_and(|policy| policy.contains("compact")))
    }
}

impl Leader {
    async fn of(
        cluster: &Cluster,
        address: &Endpoint,
        topic: &Topic,
        partition: i32,
    ) -> anyhow::Result<Leader> {
        let peer = cluster.at(address).await?;
        // Without an id a topic has but its name.
        let version_max = if topic.id.is_nil() { TOPIC_ID_SINCE - 1 } else { i16::MAX };
        let produce_version = peer.version::<ProduceRequest>()?.min(version_max);
        ensure!(produce_version >= BATCHES_SINCE, "{address} is older than the record batches of Kafka 0.11");
        Ok(Leader {
            address: address.clone(),
            partitions: vec![partition],
            produce_version,
            fetch_version: peer.version::<FetchRequest>()?.min(version_max).min(FETCH_VERSION_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::tests::topic;

    fn target(led: &[&[i32]], connections: usize) -> Target {
        let leader = |(port, partitions): (u16, &&[i32])| Leader {
            address: Endpoint { host: "h".to_owned(), port },
            partitions: partitions.to_vec(),
            produce_version: 9,
            fetch_version: 12,
        };
        let leaders = (1..).zip(led).map(leader).collect();
        Target { topic: Arc::new(topic("t", 8)), leaders, connections }
    }

    fn shown(shares: Vec<Leader>) -> Vec<(u16, Vec<i32>)> {
        shares.into_iter().map(|share| (share.address.port, share.partitions)).collect()
    }

    #[test]
    fn each_connection_writes_to_all_of_its_broker_and_each_partition_is_read_once() {
        let one = target(&[&[0, 1, 2, 3]], 2);
        assert_eq!(shown(one.share_for_writing()), [(1, vec![0, 1, 2, 3]), (1, vec![2, 3, 0, 1])]);
        assert_eq!(shown(one.share_for_reading()), [(1, vec![0, 2]), (1, vec![1, 3])]);
        let many = target(&[&[0]], 3);
        assert_eq!(shown(many.share_for_writing()), [(1, vec![0]), (1, vec![0]), (1, vec![0])]);
        assert_eq!(shown(many.share_for_reading()), [(1, vec![0])]);
        let two = target(&[&[0, 2, 4], &[1]], 3);
        assert_eq!(shown(two.share_for_writing()), [(1, vec![0, 2, 4]), (2, vec![1]), (1, vec![2, 4, 0])]);
        assert_eq!(shown(two.share_for_reading()), [(1, vec![0, 4]), (1, vec![2]), (2, vec![1])]);
    }
}
