//! The cluster as a whole at one moment: an immutable value.
//!
//! Everything that all nodes must agree on is in here and in nothing else: two nodes that applied the same commands hold equal
//! images. A clone shares its parts with the original; a change copies the path to what changed. Only `apply` changes one, and
//! it changes a clone that nobody else sees yet.
//!
//! Invariants, kept by `apply` and checked whenever an image is read from a disk: a name names exactly one topic; a partition has
//! at least one replica, none twice, its in-sync set is a part of them and never empty, its leader is in the in-sync set and is
//! an active broker; a client quota is above zero; what has settings has one at least; epochs and counters only rise.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_model::format::Tags;
use aquifer_model::{BrokerId, TopicId, TopicPartition};

use super::ids::{ClusterId, Incarnation};
use super::ordered::Ordered;

/// Brokers: registrations, endpoints, fencing.
mod brokers;
/// Topics by name.
mod names;
/// Client quotas.
mod quotas;
/// Topics and partitions.
mod topics;

pub use brokers::{Broker, BrokerState, Endpoint, SecurityProtocol};
pub(super) use names::Folded;
pub use quotas::{ClientQuotas, QuotaEntity, QuotaName, QuotaValues};
pub(super) use topics::repeats;
pub use topics::{DeletedTopic, Partition, Recovery, Topic};

/// Settings as texts, by key. The config module has checked them; here they are carried.
pub type Configs = BTreeMap<String, String>;

/// Settings of groups, by their names. No group without any.
pub type GroupConfigs = BTreeMap<String, Configs>;

/// Who the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cluster {
    /// Its identity for life.
    pub id: ClusterId,
    /// Which of its lives.
    pub incarnation: Incarnation,
}

/// The cluster's metadata at one moment. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    pub(super) cluster: Option<Cluster>,
    pub(super) features: Arc<BTreeMap<String, i16>>,
    pub(super) topics: Ordered<TopicId, Arc<Topic>>,
    pub(super) names: Ordered<Folded, TopicId>,
    pub(super) partitions: usize,
    pub(super) deleted: Ordered<TopicId, Arc<DeletedTopic>>,
    pub(super) brokers: Arc<BTreeMap<BrokerId, Arc<Broker>>>,
    pub(super) broker_configs: Arc<BTreeMap<Option<BrokerId>, Configs>>,
    pub(super) group_configs: Arc<GroupConfigs>,
    pub(super) client_quotas: Arc<ClientQuotas>,
    pub(super) broker_epoch_next: i64,
    pub(super) producer_id_next: i64,
    /// Fields that a newer program wrote and this one does not know; written back as they are.
    pub(super) unknown: Tags,
}

static NO_CONFIGS: Configs = Configs::new();

impl Image {
    /// Who the cluster is; `None` until it is formatted.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// The finalized level of each feature.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// A topic.
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// The topic of that very name.
    pub fn topic_named(&self, name: &str) -> Option<&Arc<Topic>> {
        let (found, id) = self.names.find(|other| other.compare(name))?;
        if found.name().as_str() == name { self.topics.get(id) } else { None }
    }

    /// All topics, by id.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions all topics have together.
    pub fn partition_count(&self) -> usize {
        self.partitions
    }

    /// A partition.
    pub fn partition(&self, partition: TopicPartition) -> Option<&Arc<Partition>> {
        self.topic(partition.topic)?.partition(partition.partition)
    }

    /// Topics that are deleted and whose remains in the bucket have not been dealt with yet, by id.
    pub fn deleted_topics(&self) -> impl Iterator<Item = &Arc<DeletedTopic>> {
        self.deleted.values()
    }

    /// A broker that has registered, fenced or not.
    pub fn broker(&self, id: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&id)
    }

    /// All brokers that have registered, fenced or not, by id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// Whether a broker has registered and is not fenced.
    pub fn is_active(&self, id: BrokerId) -> bool {
        self.broker(id).is_some_and(|broker| broker.state == BrokerState::Active)
    }

    /// Dynamic settings of one broker, or, for `None`, the default of all of them.
    pub fn broker_configs(&self, broker: Option<BrokerId>) -> &Configs {
        self.broker_configs.get(&broker).unwrap_or(&NO_CONFIGS)
    }

    /// Settings of one group.
    pub fn group_configs(&self, group: &str) -> &Configs {
        self.group_configs.get(group).unwrap_or(&NO_CONFIGS)
    }

    /// The groups that have settings of their own, in order.
    pub fn configured_groups(&self) -> impl Iterator<Item = &str> {
        self.group_configs.keys().map(String::as_str)
    }

    /// Client quotas. As long as they do not change, it is the same `Arc`.
    pub fn client_quotas(&self) -> &Arc<ClientQuotas> {
        &self.client_quotas
    }

    /// The topic whose name is `name` but for `.` and `_`, if there is one; it may be the same name.
    pub(super) fn topic_colliding(&self, name: &str) -> Option<(&Folded, TopicId)> {
        self.names.find(|other| other.compare(name)).map(|(folded, id)| (folded, *id))
    }

    /// Adds a topic; `false`, with nothing done, if its id or its name (but for `.` and `_`) is taken.
    pub(super) fn insert_topic(&mut self, topic: Arc<Topic>) -> bool {
        if self.topics.get(&topic.id).is_some() || self.topic_colliding(&topic.name).is_some() {
            return false;
        }
        self.partitions += topic.partitions.len();
        self.names.insert(Folded::new(topic.name.clone()), topic.id);
        self.topics.insert(topic.id, topic);
        true
    }

    /// Removes a topic.
    pub(super) fn remove_topic(&mut self, id: TopicId) -> Option<Arc<Topic>> {
        let topic = self.topics.remove(&id)?;
        self.names.remove(&Folded::new(topic.name.clone()));
        self.partitions -= topic.partitions.len();
        Some(topic)
    }

    /// What is wrong with this image, if anything: the invariants at the head of this file.
    pub(super) fn flaw(&self) -> Option<String> {
        if self.topics.len() != self.names.len() {
            return Some(format!("{} topics have {} names", self.topics.len(), self.names.len()));
        }
        let count: usize = self.topics().map(|topic| topic.partitions.len()).sum();
        if count != self.partitions {
            return Some(format!("{count} partitions are counted as {}", self.partitions));
        }
        if let Some(broker) = self.brokers().find(|broker| broker.epoch.0 >= self.broker_epoch_next) {
            return Some(format!("the epoch of broker {} is ahead of the counter", broker.id));
        }
        if self.group_configs.values().any(Configs::is_empty) {
            return Some("a group has settings, and none of them".to_owned());
        }
        let usable = |value: &f64| value.is_finite() && *value > 0.0;
        if self.client_quotas.values().any(|values| values.is_empty() || !values.values().all(usable)) {
            return Some("a client quota is none, or not above zero".to_owned());
        }
        self.topics().find_map(|topic| self.topic_flaw(topic))
    }

    fn topic_flaw(&self, topic: &Topic) -> Option<String> {
        if self.topic_named(&topic.name).map(|named| named.id) != Some(topic.id) {
            return Some(format!("topic {} is not found by its name", topic.name));
        }
        if topic.partitions.is_empty() {
            return Some(format!("topic {} has no partition", topic.name));
        }
        topic.partitions.iter().enumerate().find_map(|(index, partition)| {
            let flaw = partition.flaw().or_else(|| {
                let leader = partition.leader?;
                (!self.is_active(leader)).then_some("the leader is no active broker")
            });
            flaw.map(|flaw| format!("partition {}-{index}: {flaw}", topic.name))
        })
    }
}
