//! Partitions of topics, as a set.

use std::collections::{BTreeMap, BTreeSet};

use aquifer_model::TopicId;

use super::grants::Grants;

/// The set. Topics of which it has no partition are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Partitions(BTreeMap<TopicId, BTreeSet<i32>>);

impl Partitions {
    /// Whether one is in it.
    pub(crate) fn contains(&self, topic: TopicId, index: i32) -> bool {
        self.0.get(&topic).is_some_and(|indexes| indexes.contains(&index))
    }

    /// Puts one in.
    pub(crate) fn insert(&mut self, topic: TopicId, index: i32) {
        self.0.entry(topic).or_default().insert(index);
    }

    /// Takes the last one of a topic out.
    pub(crate) fn pop(&mut self, topic: TopicId) -> Option<i32> {
        let indexes = self.0.get_mut(&topic)?;
        let last = indexes.pop_last();
        if indexes.is_empty() {
            self.0.remove(&topic);
        }
        last
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> + '_ {
        self.0.iter().flat_map(|(topic, indexes)| indexes.iter().map(move |index| (*topic, *index)))
    }

    /// The topics, each with its partitions.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (TopicId, &BTreeSet<i32>)> {
        self.0.iter().map(|(topic, indexes)| (*topic, indexes))
    }

    /// Those that are not in the other.
    pub(crate) fn without(&self, other: &Partitions) -> Partitions {
        self.iter().filter(|(topic, index)| !other.contains(*topic, *index)).collect()
    }

    /// Whether all were given to a member.
    pub(crate) fn is_within(&self, grants: &Grants) -> bool {
        self.iter().all(|(topic, index)| grants.epoch_of(topic, index).is_some())
    }
}

/// What only tests ask.
#[cfg(test)]
impl Partitions {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn and(&self, other: &Partitions) -> Partitions {
        self.iter().filter(|(topic, index)| other.contains(*topic, *index)).collect()
    }
}

impl Extend<(TopicId, i32)> for Partitions {
    fn extend<I: IntoIterator<Item = (TopicId, i32)>>(&mut self, more: I) {
        for (topic, index) in more {
            self.insert(topic, index);
        }
    }
}

impl FromIterator<(TopicId, i32)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (TopicId, i32)>>(all: I) -> Partitions {
        let mut partitions = Partitions::default();
        partitions.extend(all);
        partitions
    }
}
