//! One file per family of requests: from a request to its answer. Kafka's error codes are born in [`errors`] alone.

/// Incremental fetch sessions: pure.
pub(crate) mod fetch_session;
/// What handlers count.
pub(crate) mod metrics;
/// Memory for records in answers, of all connections together.
pub(crate) mod answer_memory;
/// Handles to everything that a request may need.
pub(crate) mod context;
/// Every error's Kafka code.
mod errors;
/// From what a request calls a partition to its replica.
mod topics_by;
/// UpdateFeatures.
pub(crate) mod features;
/// ApiVersions.
pub(crate) mod versions;
/// Metadata, DescribeCluster.
pub(crate) mod cluster;
/// Produce.
pub(crate) mod produce;
/// What a Fetch brings together, hot and cold.
mod fetch_gather;
/// Fetch.
pub(crate) mod fetch;
/// ListOffsets, OffsetForLeaderEpoch, DeleteRecords.
pub(crate) mod offsets;
/// DescribeTopicPartitions.
pub(crate) mod topic_partitions;
/// DescribeConfigs, ListConfigResources.
pub(crate) mod configs;
/// IncrementalAlterConfigs, AlterConfigs.
pub(crate) mod alter_configs;
/// ElectLeaders.
pub(crate) mod elections;
/// DescribeLogDirs.
pub(crate) mod log_dirs;
/// DescribeProducers.
pub(crate) mod producers;
/// DescribeQuorum.
pub(crate) mod quorum;
/// DescribeClientQuotas, AlterClientQuotas.
pub(crate) mod quotas;
/// DescribeUserScramCredentials.
pub(crate) mod scram_credentials;
/// CreateTopics, DeleteTopics, CreatePartitions.
pub(crate) mod topics;
/// InitProducerId.
pub(crate) mod producer_ids;
/// FindCoordinator.
pub(crate) mod coordinators;
/// JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
pub(crate) mod group_members;
/// ConsumerGroupHeartbeat, ConsumerGroupDescribe.
pub(crate) mod consumer_groups;
/// OffsetCommit, OffsetFetch, OffsetDelete.
pub(crate) mod group_offsets;
/// ListGroups, DescribeGroups, DeleteGroups.
pub(crate) mod groups;
