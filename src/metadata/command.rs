//! Everything that may change the cluster's metadata.
//!
//! A command states what is wanted and on what knowledge (epochs, counts); whether it happens is `apply`'s to judge. All that
//! is random or depends on a clock was decided by the proposer and is in the command, since each node applies it for itself.
//! The bytes are `codec::command`'s.

use std::collections::BTreeMap;
use std::fmt;

use aquifer_model::{BrokerId, LeaderEpoch, ProducerId, Timestamp, TopicId, TopicName, TopicPartition};

use super::ids::{
    BrokerEpoch, BrokerIncarnation, ClusterId, DirectoryId, Incarnation, PartitionEpoch, RaftNodeId,
};
use super::image::{Configs, Endpoint, QuotaEntity, Recovery};

/// The level of `aquifer.version` that every program knows.
const LEVEL_OF_ALL: i16 = 1;
/// The one from which on there are client quotas and settings of groups.
pub const SETTINGS_LEVEL: i16 = 2;

/// One change. What each leads to is told by `apply`.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// The first of every cluster.
    FormatCluster(FormatCluster),
    /// A broker's process has started.
    RegisterBroker(RegisterBroker),
    /// A broker serves from now on.
    UnfenceBroker(BrokerRef),
    /// A broker is gone, or going.
    FenceBroker(BrokerRef),
    /// A broker's replicas may lack what was acknowledged.
    ForfeitReplicas(ForfeitReplicas),
    /// A new topic.
    CreateTopic(CreateTopic),
    /// A topic goes.
    DeleteTopic(DeleteTopic),
    /// A deleted topic's remains in the bucket are dealt with.
    ForgetTopic(TopicId),
    /// A topic gets more partitions.
    CreatePartitions(CreatePartitions),
    /// A topic's own settings.
    SetTopicConfigs(SetTopicConfigs),
    /// Dynamic settings of one broker or all.
    SetBrokerConfigs(SetBrokerConfigs),
    /// Settings of one group.
    SetGroupConfigs(SetGroupConfigs),
    /// How much clients may use.
    SetClientQuotas(SetClientQuotas),
    /// A leader changes its in-sync set, or has recovered.
    ChangeIsr(ChangeIsr),
    /// The controller chooses a leader.
    ChangeLeader(ChangeLeader),
    /// A broker needs producer ids to give out.
    AllocateProducerIds(AllocateProducerIds),
    /// Finalized feature levels.
    SetFeatures(SetFeatures),
}

impl Command {
    /// Its kind, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Command::FormatCluster(_) => "FormatCluster",
            Command::RegisterBroker(_) => "RegisterBroker",
            Command::UnfenceBroker(_) => "UnfenceBroker",
            Command::FenceBroker(_) => "FenceBroker",
            Command::ForfeitReplicas(_) => "ForfeitReplicas",
            Command::CreateTopic(_) => "CreateTopic",
            Command::DeleteTopic(_) => "DeleteTopic",
            Command::ForgetTopic(_) => "ForgetTopic",
            Command::CreatePartitions(_) => "CreatePartitions",
            Command::SetTopicConfigs(_) => "SetTopicConfigs",
            Command::SetBrokerConfigs(_) => "SetBrokerConfigs",
            Command::SetGroupConfigs(_) => "SetGroupConfigs",
            Command::SetClientQuotas(_) => "SetClientQuotas",
            Command::ChangeIsr(_) => "ChangeIsr",
            Command::ChangeLeader(_) => "ChangeLeader",
            Command::AllocateProducerIds(_) => "AllocateProducerIds",
            Command::SetFeatures(_) => "SetFeatures",
        }
    }
}

impl Command {
    /// From which finalized level of `aquifer.version` on it may be proposed: before, there may be programs that cannot read it.
    pub fn level_min(&self) -> i16 {
        match self {
            Command::SetGroupConfigs(_) | Command::SetClientQuotas(_) => SETTINGS_LEVEL,
            Command::FormatCluster(_)
            | Command::RegisterBroker(_)
            | Command::UnfenceBroker(_)
            | Command::FenceBroker(_)
            | Command::ForfeitReplicas(_)
            | Command::CreateTopic(_)
            | Command::DeleteTopic(_)
            | Command::ForgetTopic(_)
            | Command::CreatePartitions(_)
            | Command::SetTopicConfigs(_)
            | Command::SetBrokerConfigs(_)
            | Command::ChangeIsr(_)
            | Command::ChangeLeader(_)
            | Command::AllocateProducerIds(_)
            | Command::SetFeatures(_) => LEVEL_OF_ALL,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// See [`Command::FormatCluster`].
#[derive(Debug, Clone, PartialEq)]
pub struct FormatCluster {
    /// The cluster's identity.
    pub cluster: ClusterId,
    /// Its first life, or the one that a restore begins.
    pub incarnation: Incarnation,
    /// Finalized features to begin with.
    pub features: BTreeMap<String, i16>,
}

/// See [`Command::RegisterBroker`].
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterBroker {
    /// Its configured id.
    pub broker: BrokerId,
    /// Which process this is. The same once more is the same registration, told again.
    pub incarnation: BrokerIncarnation,
    /// Its data directory's node in Raft.
    pub node: RaftNodeId,
    /// Where it is reached. At least one, no listener twice.
    pub endpoints: Vec<Endpoint>,
    /// Where it stands.
    pub rack: Option<String>,
    /// Its log directories.
    pub directories: Vec<DirectoryId>,
    /// Now, by its clock.
    pub time: Timestamp,
}

/// A broker in one of its registrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerRef {
    /// Which broker.
    pub broker: BrokerId,
    /// Which registration.
    pub epoch: BrokerEpoch,
}

/// See [`Command::ForfeitReplicas`].
#[derive(Debug, Clone, PartialEq)]
pub struct ForfeitReplicas {
    /// Whose replicas.
    pub broker: BrokerRef,
    /// Which. Those that do not exist (any more), or of which it has no in-sync replica, are passed over.
    pub partitions: Vec<TopicPartition>,
}

/// See [`Command::CreateTopic`].
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTopic {
    /// A fresh random id.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// The replicas of each partition, preferred leader first.
    pub partitions: Vec<Vec<BrokerId>>,
    /// What is set for this topic.
    pub configs: Configs,
}

/// See [`Command::DeleteTopic`].
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteTopic {
    /// Which.
    pub topic: TopicId,
    /// Whether the bucket may hold some of it.
    pub remains: Remains,
    /// Now, by the proposer's clock.
    pub time: Timestamp,
}

/// What may be left of a deleted topic outside the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Nothing: forget the topic.
    Nothing,
    /// Manifests and objects: remember the topic until [`Command::ForgetTopic`].
    InTier,
}

/// See [`Command::CreatePartitions`].
#[derive(Debug, Clone, PartialEq)]
pub struct CreatePartitions {
    /// Of which topic.
    pub topic: TopicId,
    /// How many it had when this was planned.
    pub existing: usize,
    /// The replicas of each new one, preferred leader first.
    pub added: Vec<Vec<BrokerId>>,
}

/// Settings to set, or, where `None`, to set back to what the level above says.
pub type ConfigChanges = BTreeMap<String, Option<String>>;

/// What a proposer knew of settings when it planned to change them: their values, or, where `None`, that they were not set.
pub type KnownConfigs = BTreeMap<String, Option<String>>;

/// See [`Command::SetTopicConfigs`].
#[derive(Debug, Clone, PartialEq)]
pub struct SetTopicConfigs {
    /// Of which topic.
    pub topic: TopicId,
    /// All of them or none.
    pub changes: ConfigChanges,
    /// What the changes build on. If any of it is different by now, none is made.
    pub known: KnownConfigs,
}

/// See [`Command::SetBrokerConfigs`].
#[derive(Debug, Clone, PartialEq)]
pub struct SetBrokerConfigs {
    /// Of which broker; `None` for the default of all.
    pub broker: Option<BrokerId>,
    /// All of them or none.
    pub changes: ConfigChanges,
    /// What the changes build on. If any of it is different by now, none is made.
    pub known: KnownConfigs,
}

/// See [`Command::SetGroupConfigs`].
#[derive(Debug, Clone, PartialEq)]
pub struct SetGroupConfigs {
    /// Of which group, which need not be there.
    pub group: String,
    /// All of them or none.
    pub changes: ConfigChanges,
    /// What the changes build on. If any of it is different by now, none is made.
    pub known: KnownConfigs,
}

/// Quotas of one entity to set, or, where `None`, to take back.
pub type QuotaChanges = BTreeMap<String, Option<f64>>;

/// See [`Command::SetClientQuotas`].
#[derive(Debug, Clone, PartialEq)]
pub struct SetClientQuotas {
    /// Of each entity. All of them or none.
    pub changes: BTreeMap<QuotaEntity, QuotaChanges>,
}

/// See [`Command::ChangeIsr`].
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeIsr {
    /// Of which partition.
    pub partition: TopicPartition,
    /// Who asks.
    pub leader: BrokerRef,
    /// The epoch in which it leads.
    pub leader_epoch: LeaderEpoch,
    /// The partition as it knew it.
    pub epoch: PartitionEpoch,
    /// The in-sync set that it wants, each member with the registration under which it caught up; `None` where that is not known
    /// (followers of old versions), which is not checked then.
    pub isr: Vec<(BrokerId, Option<BrokerEpoch>)>,
    /// Whether it has recovered.
    pub recovery: Recovery,
}

/// See [`Command::ChangeLeader`].
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeLeader {
    /// Of which partition.
    pub partition: TopicPartition,
    /// The partition as the controller knew it.
    pub epoch: PartitionEpoch,
    /// Who shall lead.
    pub leader: BrokerId,
    /// What may be lost by it.
    pub election: Election,
}

/// Who may be elected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// Members of the in-sync set: nothing that was acknowledged is lost.
    Clean,
    /// Any active replica: what it lacks is lost, unless the bucket holds it.
    Unclean,
}

/// See [`Command::AllocateProducerIds`].
#[derive(Debug, Clone, PartialEq)]
pub struct AllocateProducerIds {
    /// Who gives them out.
    pub broker: BrokerRef,
    /// How many; [`ProducerIdBlock::SIZE`].
    pub count: u32,
}

/// Producer ids `[first, first + count)`, given to one broker and never again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first of them.
    pub first: ProducerId,
    /// How many.
    pub count: u32,
}

impl ProducerIdBlock {
    /// How many a broker asks for at a time, as in Kafka.
    pub const SIZE: u32 = 1000;
}

/// See [`Command::SetFeatures`].
#[derive(Debug, Clone, PartialEq)]
pub struct SetFeatures {
    /// The level of each feature; 0 removes it.
    pub levels: BTreeMap<String, i16>,
}
