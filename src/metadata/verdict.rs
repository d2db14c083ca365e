//! What became of a command.

use aquifer_model::{BrokerId, LeaderEpoch, PartitionIndex, TopicId, TopicName};

use super::command::ProducerIdBlock;
use super::ids::{BrokerEpoch, PartitionEpoch};

/// A command took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing more to say.
    Done,
    /// A broker is registered under this epoch.
    Broker(BrokerEpoch),
    /// A partition is now at this epoch.
    Partition(PartitionEpoch),
    /// These ids are the broker's that asked.
    ProducerIds(ProducerIdBlock),
}

/// A command was refused and changed nothing. The same command may succeed once its premise is brought up to date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// Only a cluster that is formatted takes commands.
    #[error("the cluster is not formatted")]
    NotFormatted,
    /// It has an identity already.
    #[error("the cluster is formatted already")]
    AlreadyFormatted,
    /// A topic of that very name exists.
    #[error("a topic of that name exists: {0}")]
    TopicExists(TopicId),
    /// A topic's name differs only in `.` and `_`.
    #[error("the name differs from that of topic {0} only in '.' and '_'")]
    NameCollides(TopicName),
    /// The id belongs to a topic, was one's, or is reserved: draw another.
    #[error("the topic id is taken")]
    TopicIdTaken,
    /// No topic has that id (any more).
    #[error("there is no such topic")]
    UnknownTopic,
    /// The topic has fewer partitions.
    #[error("there is no such partition")]
    UnknownPartition,
    /// None, or too many for one topic.
    #[error("{count} partitions: a topic has 1 to {max}")]
    InvalidPartitionCount {
        /// As many were asked for, in all.
        count: usize,
        /// As many are allowed.
        max: usize,
    },
    /// The plan was made for another number of partitions: plan again.
    #[error("the topic has {existing} partitions, not as many as when this was planned")]
    PartitionCountChanged {
        /// As many there are.
        existing: usize,
    },
    /// The cluster is full.
    #[error("the cluster may have no more than {max} partitions")]
    TooManyPartitions {
        /// As many are allowed in all.
        max: usize,
    },
    /// A partition's replicas are none, too many, or one twice.
    #[error("the replicas of partition {partition} are none, repeated, or more than {max}")]
    InvalidReplicas {
        /// Which partition.
        partition: PartitionIndex,
        /// As many are allowed.
        max: usize,
    },
    /// No such broker has registered.
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    /// Of a new partition's replicas none could lead.
    #[error("no replica of partition {0} is on an active broker")]
    NoActiveReplica(PartitionIndex),
    /// A broker of that id, with another data directory, is active.
    #[error("broker {0} is registered from another data directory and not fenced")]
    DuplicateBroker(BrokerId),
    /// The data directory is another broker's.
    #[error("this data directory is that of broker {0}")]
    NodeTaken(BrokerId),
    /// The broker has registered again since; the asker is its past.
    #[error("the broker's epoch is {current} by now")]
    StaleBrokerEpoch {
        /// The newest registration's.
        current: BrokerEpoch,
    },
    /// The asker is ahead of this image: it cannot be judged here.
    #[error("the epoch is ahead of this image")]
    NewerEpoch,
    /// Another leader came since.
    #[error("the leader epoch is {current} by now")]
    StaleLeaderEpoch {
        /// The newest.
        current: LeaderEpoch,
    },
    /// The asker does not lead.
    #[error("the leader is {0:?}")]
    NotLeader(Option<BrokerId>),
    /// The partition changed since.
    #[error("the partition's epoch is {current} by now")]
    StalePartitionEpoch {
        /// The newest.
        current: PartitionEpoch,
    },
    /// The in-sync set lacks the leader, names someone twice, names one who is no replica, or grows before recovery ended.
    #[error("the in-sync set is invalid")]
    InvalidIsr,
    /// These may not be in sync: fenced, unknown, or registered anew since they caught up.
    #[error("brokers {0:?} may not be in sync")]
    IneligibleReplicas(Vec<BrokerId>),
    /// It is no replica of the partition.
    #[error("broker {0} is no replica of the partition")]
    NotReplica(BrokerId),
    /// A clean election takes members of the in-sync set only.
    #[error("broker {0} is not in sync")]
    NotInIsr(BrokerId),
    /// Nothing to elect.
    #[error("broker {0} leads already")]
    AlreadyLeader(BrokerId),
    /// A fenced broker cannot lead.
    #[error("broker {0} is not active")]
    NotActive(BrokerId),
    /// No endpoint, too many, one listener twice, or a text that is empty or too long.
    #[error("the registration is invalid: {0}")]
    InvalidRegistration(&'static str),
    /// The setting changed since.
    #[error("the setting {0} has another value by now")]
    StaleConfigs(String),
    /// Too many settings, or texts too long.
    #[error("the settings are invalid: {0}")]
    InvalidConfigs(&'static str),
    /// Too many quotas, texts too long, or values that are none.
    #[error("the quotas are invalid: {0}")]
    InvalidQuotas(&'static str),
    /// Zero or too many producer ids at a time.
    #[error("{count} producer ids: a block has 1 to {max}")]
    InvalidBlock {
        /// As many were asked for.
        count: u32,
        /// As many are allowed.
        max: u32,
    },
    /// A feature's name or level cannot be.
    #[error("the feature levels are invalid: {0}")]
    InvalidFeature(&'static str),
    /// A counter is at its end: after some 10^18 ids, or 2 * 10^9 epochs of one partition.
    #[error("the {0} are used up")]
    Exhausted(&'static str),
}
