//! Assignors: who shall read what. Pure functions of what members subscribe to, what there is, and what was the target before.
//!
//! None of them looks at racks; neither do Kafka's two.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_model::TopicId;
use aquifer_protocol::Str;

use super::super::partitions::Partitions;
use crate::config::Assignor;

/// Neighbouring partitions to each.
mod range;
/// As many partitions to each, and as few moved as can be.
mod uniform;

/// A member, as an assignor sees it.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) member: &'a Str,
    pub(super) instance: Option<&'a Str>,
    /// What it subscribes to of what there is, in order, each once.
    pub(super) topics: Arc<[TopicId]>,
    /// Its target before.
    pub(super) before: &'a Partitions,
}

/// How many partitions each topic has.
pub(super) type Sizes = BTreeMap<TopicId, usize>;

/// What each candidate shall read, in their order. Every partition of a topic that somebody subscribes to is somebody's.
pub(super) fn assign(assignor: Assignor, candidates: &[Candidate<'_>], sizes: &Sizes) -> Vec<Partitions> {
    match assignor {
        Assignor::Uniform => uniform::assign(candidates, sizes),
        Assignor::Range => range::assign(candidates, sizes),
    }
}

/// The indexes of so many partitions.
fn indexes(count: usize) -> impl Iterator<Item = i32> {
    // A topic's partitions are bounded far below what an index can hold.
    (0..i32::MAX).take(count)
}

#[cfg(test)]
mod tests;
