//! How far a group has read, partition by partition.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aquifer_model::{Timestamp, TopicId};
use aquifer_protocol::Str;

use super::record::{OffsetKey, OffsetValue, Record};

/// The positions of a group.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Positions {
    topics: BTreeMap<Str, BTreeMap<i32, OffsetValue>>,
}

/// From when on a position counts as forgotten.
pub(crate) enum Aging {
    /// Nobody is in the group, since then.
    Since(Timestamp),
    /// Nobody ever was: each position by itself.
    EachSinceCommitted,
    /// Members read these topics, whose positions stay; others age by themselves.
    Except(BTreeSet<Str>),
    /// It cannot be said what the members read.
    Never,
}

impl Positions {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.topics.values().map(BTreeMap::len).sum()
    }

    /// Takes what a record says.
    pub(crate) fn note(&mut self, key: &OffsetKey, value: Option<OffsetValue>) {
        match value {
            Some(value) => {
                self.topics.entry(key.topic.clone()).or_default().insert(key.partition, value);
            }
            None => {
                let Some(partitions) = self.topics.get_mut(&key.topic) else { return };
                partitions.remove(&key.partition);
                if partitions.is_empty() {
                    self.topics.remove(&key.topic);
                }
            }
        }
    }

    /// One position.
    pub(crate) fn get(&self, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.topics.get(topic)?.get(&partition)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&Str, i32, &OffsetValue)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(index, value)| (topic, *index, value))
        })
    }

    /// The records that take back every position in a topic that `is_there` denies.
    pub(crate) fn orphans(
        &self,
        group: &Str,
        mut is_there: impl FnMut(&str, Option<TopicId>) -> bool,
    ) -> Vec<Record> {
        self.tombstones(group, |topic, _, value| !is_there(topic, value.topic_id))
    }

    /// The records that take back every position that `is_gone`.
    pub(crate) fn tombstones(
        &self,
        group: &Str,
        mut is_gone: impl FnMut(&Str, i32, &OffsetValue) -> bool,
    ) -> Vec<Record> {
        let gone = self.all().filter(|(topic, partition, value)| is_gone(topic, *partition, value));
        gone.map(|(topic, partition, _)| Record::Offset {
            key: OffsetKey { group: group.clone(), topic: topic.clone(), partition },
            value: None,
        })
        .collect()
    }

    /// The records that take back what is too old.
    pub(crate) fn expired(
        &self,
        group: &Str,
        aging: &Aging,
        now: Timestamp,
        retention: Duration,
    ) -> Vec<Record> {
        self.tombstones(group, |topic, _, value| {
            let since = match aging {
                Aging::Never => return false,
                Aging::Except(read) if read.contains(topic) => return false,
                Aging::Except(_) | Aging::EachSinceCommitted => value.committed,
                Aging::Since(empty) => (*empty).max(value.committed),
            };
            // Whatever its client asked for, a position in use stays.
            value.expires.map_or_else(|| now.since(since) >= retention, |expires| expires <= now)
        })
    }
}

#[cfg(test)]
mod tests;
