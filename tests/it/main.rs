//! The broker as its clients and its operators meet it: a whole one, over real sockets, with its data in a folder of the test's
//! own. What a request means is checked with requests of chosen versions, built from the crate's own messages; what bad bytes
//! do, with a bare socket; what exit codes, signals and kills do, with the program itself.
//!
//! Each test has a broker of its own, so that they run side by side. Nothing here sleeps for a fixed time: what takes time is
//! waited for, up to [`client::PATIENCE`].

/// A connection that speaks in versions of the test's choice.
mod client;
/// Record batches, right and wrong.
mod batches;
/// A broker in this process.
mod node;
/// The program itself.
mod process;

/// ApiVersions, and every version that it promises.
mod api_versions;
/// Metadata and DescribeCluster.
mod metadata;
/// Produce.
mod produce;
/// Producers that number what they send.
mod idempotence;
/// Fetch.
mod fetch;
/// Fetch in sessions.
mod fetch_sessions;
/// ListOffsets, OffsetForLeaderEpoch, DeleteRecords.
mod offsets;
/// Where the local log and the bucket meet.
mod junction;
/// CreateTopics, CreatePartitions, DeleteTopics.
mod topics;
/// Consumer groups.
mod groups;
/// Consumer groups whose coordinator assigns.
mod consumer_groups;
/// Consumer groups that change their protocol while members are in.
mod migration;
/// DescribeConfigs, IncrementalAlterConfigs.
mod configs;
/// AlterConfigs, ListConfigResources, and settings of brokers that change while they run.
mod settings;
/// DescribeTopicPartitions.
mod topic_partitions;
/// Log directories, producers, the metadata's quorum, elections, features.
mod administration;
/// Every API in every version, and what is none.
mod prober;
/// Client quotas: set, told, kept to.
mod quotas;

/// The program as people type it.
mod faces;
/// `aquifer bench`.
mod bench;
/// What was typed or configured wrongly, and what stands in a broker's way.
mod bad_starts;
/// Clients that speak something else, or nothing sensible at all.
mod bad_clients;
/// Limits, each met.
mod limits;

/// History in a bucket, read back by ordinary requests.
mod tier;
/// Retention, local and in the bucket.
mod retention;
/// Topics that keep the newest value of each key.
mod compaction;
/// The admin port.
mod admin;
/// Uploads that do not go as they should.
mod uploads;
/// Bytes that change below a running broker.
mod damage;
/// What a broker still knows after it stopped, was killed, or lost its local logs.
mod restarts;
