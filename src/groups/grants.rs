//! Partitions that a member was given, each with the epoch in which it was.

use std::collections::BTreeMap;

use aquifer_model::TopicId;

use super::partitions::Partitions;

/// They. Topics of which it was given no partition are not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Grants(BTreeMap<TopicId, BTreeMap<i32, i32>>);

impl Grants {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When a partition was given to the member, if it was.
    pub(crate) fn epoch_of(&self, topic: TopicId, index: i32) -> Option<i32> {
        self.0.get(&topic)?.get(&index).copied()
    }

    /// Gives one.
    pub(crate) fn insert(&mut self, topic: TopicId, index: i32, epoch: i32) {
        self.0.entry(topic).or_default().insert(index, epoch);
    }

    /// Adds others.
    pub(crate) fn add(&mut self, others: &Grants) {
        for (topic, indexes) in others.topics() {
            self.0.entry(topic).or_default().extend(indexes);
        }
    }

    /// All partitions, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TopicId, i32)> + '_ {
        self.0.iter().flat_map(|(topic, indexes)| indexes.keys().map(move |index| (*topic, *index)))
    }

    /// The topics, each with its partitions and their epochs.
    pub(crate) fn topics(&self) -> impl ExactSizeIterator<Item = (TopicId, &BTreeMap<i32, i32>)> {
        self.0.iter().map(|(topic, indexes)| (*topic, indexes))
    }

    /// Those that are in a set, and those that are not.
    pub(crate) fn split(&self, wanted: &Partitions) -> (Grants, Grants) {
        let (mut inside, mut outside) = (Grants::default(), Grants::default());
        for (topic, indexes) in self.topics() {
            for (index, epoch) in indexes {
                let side = if wanted.contains(topic, *index) { &mut inside } else { &mut outside };
                side.insert(topic, *index, *epoch);
            }
        }
        (inside, outside)
    }

    /// What was given, whenever that was.
    pub(crate) fn partitions(&self) -> Partitions {
        self.iter().collect()
    }
}
