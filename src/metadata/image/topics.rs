//! Topics and partitions.

use std::sync::Arc;

use aquifer_model::format::Tags;
use aquifer_model::{BrokerId, LeaderEpoch, PartitionIndex, Timestamp, TopicId, TopicName};

use super::Configs;
use crate::metadata::ids::PartitionEpoch;

/// A topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// Its identity for life.
    pub id: TopicId,
    /// Its name, which another topic may have had before.
    pub name: TopicName,
    /// Rises with each change of its partitions' number or of its settings.
    pub revision: u64,
    /// Its partitions; a partition's index is its place here. At least one.
    pub partitions: Vec<Arc<Partition>>,
    /// What is set for this topic; all else follows the broker.
    pub configs: Arc<Configs>,
    /// Fields that a newer program wrote; written back as they are.
    pub(in crate::metadata) unknown: Tags,
}

impl Topic {
    /// One of its partitions.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index.0).ok()?)
    }

    /// Its partitions, each with its index.
    pub fn indexed(&self) -> impl Iterator<Item = (PartitionIndex, &Arc<Partition>)> {
        // A topic's partitions are bounded far below what an index can hold.
        (0..).map(PartitionIndex).zip(&self.partitions)
    }
}

/// What the cluster has agreed on about one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Partition {
    /// Who holds a copy; the first is the preferred leader. At least one, none twice.
    pub replicas: Vec<BrokerId>,
    /// Who has all that was acknowledged. A part of the replicas, never empty: when the last member is lost, it stays, leaderless.
    pub isr: Vec<BrokerId>,
    /// Who leads, if anyone does. In the in-sync set, and active.
    pub leader: Option<BrokerId>,
    /// Rises with each change of leader, each start of the broker that leads, and each election of nobody.
    pub leader_epoch: LeaderEpoch,
    /// Rises with each change of this partition.
    pub epoch: PartitionEpoch,
    /// Whether the leader may lack what was acknowledged.
    pub recovery: Recovery,
    /// Fields that a newer program wrote; written back as they are. Eligible leader replicas (KIP-966) will be the first.
    pub(in crate::metadata) unknown: Tags,
}

/// Whether a partition's leader may lack what was acknowledged before it led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// No.
    Recovered,
    /// Yes: it was elected, or kept, although data may be lost. The in-sync set cannot grow until the leader reports that it has
    /// dealt with that (KIP-704; here: has compared its log with the bucket).
    Recovering,
}

impl Partition {
    /// What is wrong with it, as far as it can be seen alone.
    pub(in crate::metadata) fn flaw(&self) -> Option<&'static str> {
        if self.replicas.is_empty() {
            return Some("no replica");
        }
        if repeats(&self.replicas) || repeats(&self.isr) {
            return Some("a broker is named twice");
        }
        if self.isr.is_empty() {
            return Some("the in-sync set is empty");
        }
        if self.isr.iter().any(|broker| !self.replicas.contains(broker)) {
            return Some("an in-sync replica is no replica");
        }
        if self.leader.is_some_and(|leader| !self.isr.contains(&leader)) {
            return Some("the leader is not in sync");
        }
        if self.recovery == Recovery::Recovering && self.isr.len() > 1 {
            return Some("the in-sync set grew before recovery ended");
        }
        None
    }
}

/// Whether a broker is in the list more than once.
pub(in crate::metadata) fn repeats(brokers: &[BrokerId]) -> bool {
    brokers.iter().enumerate().any(|(at, broker)| brokers[..at].contains(broker))
}

/// A topic that is deleted, while its remains in the bucket are not yet dealt with: a crash between the two must not leave data
/// that nobody knows to delete, or that a restore would bring back.
#[derive(Debug, Clone, PartialEq)]
pub struct DeletedTopic {
    /// Its identity.
    pub id: TopicId,
    /// The name that it had; another topic may have it by now.
    pub name: TopicName,
    /// One above its last while it lived.
    pub revision: u64,
    /// For each partition, by index, an epoch above every leader's: the claim under which its last manifest version is written.
    pub claims: Vec<LeaderEpoch>,
    /// When it was deleted.
    pub time: Timestamp,
    /// Fields that a newer program wrote; written back as they are.
    pub(in crate::metadata) unknown: Tags,
}
