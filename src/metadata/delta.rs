//! What changed between two images.
//!
//! There is no queue of changes: whoever follows the metadata keeps the last image that it has dealt with and compares the newest
//! with it. Nothing can be lost or pile up, and a follower that was away for a thousand changes sees their sum. The comparison
//! skips what both images share, so it costs about what changed.

use std::sync::Arc;

use aquifer_model::{BrokerId, PartitionIndex, TopicPartition};

use super::image::{Broker, Image, Partition, Topic};
use super::ordered::Ordered;

/// The difference of two images.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Delta {
    /// Topics that are new, by id.
    pub topics_created: Vec<Arc<Topic>>,
    /// Topics that are gone, as they last were, by id.
    pub topics_deleted: Vec<Arc<Topic>>,
    /// Topics that were there before and whose own settings changed, as they now are.
    pub topics_configured: Vec<Arc<Topic>>,
    /// Partitions that are new (those of new topics included) or changed, by topic and index. Those of deleted topics are not here.
    pub partitions: Vec<PartitionChange>,
    /// Brokers that are new, registered again, fenced, unfenced or gone.
    pub brokers: Vec<BrokerChange>,
    /// Whose dynamic settings changed; `None` for the default of all brokers.
    pub broker_configs: Vec<Option<BrokerId>>,
    /// Whether a feature's level changed.
    pub features_changed: bool,
}

/// One partition before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionChange {
    /// Its topic, as it now is.
    pub topic: Arc<Topic>,
    /// Its index.
    pub partition: PartitionIndex,
    /// As it was; `None` if it is new.
    pub before: Option<Arc<Partition>>,
    /// As it is.
    pub after: Arc<Partition>,
}

impl PartitionChange {
    /// Which partition this is.
    pub fn id(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.id, partition: self.partition }
    }
}

/// One broker before and after.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerChange {
    /// Which.
    pub broker: BrokerId,
    /// As it was.
    pub before: Option<Arc<Broker>>,
    /// As it is.
    pub after: Option<Arc<Broker>>,
}

impl Delta {
    /// What changed from `old` to `new`. From an empty image, everything is new.
    pub fn between(old: &Image, new: &Image) -> Delta {
        let mut delta = Delta::default();
        for (before, after) in Ordered::differences(&old.topics, &new.topics, Arc::ptr_eq) {
            delta.topic(before, after);
        }
        delta.brokers(old, new);
        if !Arc::ptr_eq(&old.broker_configs, &new.broker_configs) {
            let mut keys: Vec<_> =
                old.broker_configs.keys().chain(new.broker_configs.keys()).copied().collect();
            keys.sort_unstable();
            keys.dedup();
            keys.retain(|key| old.broker_configs(*key) != new.broker_configs(*key));
            delta.broker_configs = keys;
        }
        delta.features_changed = old.features != new.features;
        delta
    }

    /// Whether nothing that this type tells of changed.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    fn topic(&mut self, before: Option<&Arc<Topic>>, after: Option<&Arc<Topic>>) {
        let Some(after) = after else {
            self.topics_deleted.extend(before.cloned());
            return;
        };
        match before {
            None => self.topics_created.push(Arc::clone(after)),
            Some(before) if before.configs != after.configs => self.topics_configured.push(Arc::clone(after)),
            Some(_) => {}
        }
        for (partition, now) in after.indexed() {
            let was = before.and_then(|before| before.partition(partition));
            if !was.is_some_and(|was| Arc::ptr_eq(was, now) || was == now) {
                let (topic, before, after) = (Arc::clone(after), was.cloned(), Arc::clone(now));
                self.partitions.push(PartitionChange { topic, partition, before, after });
            }
        }
    }

    fn brokers(&mut self, old: &Image, new: &Image) {
        if Arc::ptr_eq(&old.brokers, &new.brokers) {
            return;
        }
        let mut ids: Vec<BrokerId> = old.brokers.keys().chain(new.brokers.keys()).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        for broker in ids {
            let (before, after) = (old.broker(broker), new.broker(broker));
            if before != after {
                self.brokers.push(BrokerChange { broker, before: before.cloned(), after: after.cloned() });
            }
        }
    }
}
