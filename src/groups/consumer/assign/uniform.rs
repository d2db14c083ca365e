//! As many partitions to each as can be, and as few moved as can be.
//!
//! What members had and still read, they keep; what is nobody's goes to whoever reads its topic and has the least; then those with
//! the most give to those with the least, for as long as that brings them nearer to each other. If all read the same topics, nobody
//! ends with two more than another, and no more moves than that takes. If they do not, the last step goes over them until nothing
//! is left to give, or some rounds have passed: each brings less than the one before.

use std::collections::{BTreeMap, BTreeSet};

use aquifer_model::TopicId;

use super::super::super::partitions::Partitions;
use super::{Candidate, Sizes};

/// Times that all members are asked to give.
const ROUNDS_MAX: usize = 16;

pub(super) fn assign(candidates: &[Candidate<'_>], sizes: &Sizes) -> Vec<Partitions> {
    let mut scale = Scale::new(candidates);
    let nobodys = scale.keep(candidates, sizes);
    scale.hand_out(nobodys);
    for _ in 0..ROUNDS_MAX {
        if !scale.even_out() {
            break;
        }
    }
    scale.held
}

/// Who has how much.
struct Scale {
    held: Vec<Partitions>,
    /// How much each holds.
    loads: Vec<usize>,
    /// Members that read the same are in the same class.
    class_of: Vec<usize>,
    /// The members of each class, the least loaded first.
    classes: Vec<BTreeSet<(usize, usize)>>,
    /// The classes that read each topic.
    readers: BTreeMap<TopicId, Vec<usize>>,
}

impl Scale {
    fn new(candidates: &[Candidate<'_>]) -> Scale {
        let mut names: BTreeMap<&[TopicId], usize> = BTreeMap::new();
        let mut scale = Scale {
            held: vec![Partitions::default(); candidates.len()],
            loads: vec![0; candidates.len()],
            class_of: Vec::with_capacity(candidates.len()),
            classes: Vec::new(),
            readers: BTreeMap::new(),
        };
        for (at, candidate) in candidates.iter().enumerate() {
            let class = *names.entry(&candidate.topics).or_insert_with(|| {
                let class = scale.classes.len();
                scale.classes.push(BTreeSet::new());
                for topic in candidate.topics.iter() {
                    scale.readers.entry(*topic).or_default().push(class);
                }
                class
            });
            scale.class_of.push(class);
            scale.classes[class].insert((0, at));
        }
        scale
    }

    /// Leaves to members what they had and still read; gives what is nobody's.
    fn keep(&mut self, candidates: &[Candidate<'_>], sizes: &Sizes) -> Partitions {
        let all = self.readers.keys().flat_map(|topic| {
            let size = sizes.get(topic).copied().unwrap_or(0);
            super::indexes(size).map(|index| (*topic, index))
        });
        let all: Partitions = all.collect();
        let mut kept = Partitions::default();
        for (at, candidate) in candidates.iter().enumerate() {
            let reads = |topic| candidate.topics.binary_search(&topic).is_ok();
            for (topic, index) in candidate.before.iter() {
                if reads(topic) && all.contains(topic, index) && !kept.contains(topic, index) {
                    kept.insert(topic, index);
                    self.give(at, topic, index);
                }
            }
        }
        all.without(&kept)
    }

    /// Gives each of these to whoever reads it and has the least. What few read goes first: the others can make up for it.
    fn hand_out(&mut self, nobodys: Partitions) {
        let readers_of = |topic: &TopicId| -> usize {
            self.readers
                .get(topic)
                .map_or(0, |classes| classes.iter().map(|at| self.classes[*at].len()).sum())
        };
        let mut topics: Vec<(usize, TopicId, Vec<i32>)> = nobodys
            .topics()
            .map(|(topic, indexes)| (readers_of(&topic), topic, indexes.iter().copied().collect()))
            .collect();
        topics.sort_unstable();
        for (_, topic, indexes) in topics {
            for index in indexes {
                if let Some((_, at)) = self.least(topic) {
                    self.give(at, topic, index);
                }
            }
        }
    }

    /// Has those with the most give to those with the least; whether anything moved.
    fn even_out(&mut self) -> bool {
        let mut most: BTreeSet<(usize, usize)> = self.loads.iter().copied().zip(0..).collect();
        let mut has_moved = false;
        while let Some((load, giver)) = most.pop_last() {
            // Nobody has less than this one could leave anybody.
            if load < self.least_of_all() + 2 {
                break;
            }
            let takers = self.held[giver].topics().filter_map(|(topic, _)| {
                let (load, taker) = self.least(topic)?;
                Some((load, taker, topic))
            });
            let Some((taken, taker, topic)) = takers.min().filter(|(taken, _, _)| taken + 2 <= load) else {
                // It gives nothing, and is not asked again in this round.
                continue;
            };
            let Some(index) = self.take(giver, topic) else { continue };
            self.give(taker, topic, index);
            has_moved = true;
            most.insert((load - 1, giver));
            if most.remove(&(taken, taker)) {
                most.insert((taken + 1, taker));
            }
        }
        has_moved
    }

    /// Who reads a topic and has the least, and how much that is.
    fn least(&self, topic: TopicId) -> Option<(usize, usize)> {
        let classes = self.readers.get(&topic)?.iter();
        classes.filter_map(|class| self.classes[*class].first().copied()).min()
    }

    fn least_of_all(&self) -> usize {
        self.classes.iter().filter_map(|class| class.first()).map(|(load, _)| *load).min().unwrap_or(0)
    }

    fn give(&mut self, at: usize, topic: TopicId, index: i32) {
        self.held[at].insert(topic, index);
        self.weigh(at, self.loads[at] + 1);
    }

    fn take(&mut self, at: usize, topic: TopicId) -> Option<i32> {
        let index = self.held[at].pop(topic)?;
        self.weigh(at, self.loads[at] - 1);
        Some(index)
    }

    fn weigh(&mut self, at: usize, load: usize) {
        let class = &mut self.classes[self.class_of[at]];
        class.remove(&(self.loads[at], at));
        class.insert((load, at));
        self.loads[at] = load;
    }
}
