//! Neighbouring partitions to each: of each topic the members that read it get a range, the first of them the longer ones. So
//! topics with as many partitions, read by the same members, fall together, which joins of streams need.

use std::collections::BTreeMap;

use aquifer_model::TopicId;

use super::super::super::partitions::Partitions;
use super::{Candidate, Sizes};

pub(super) fn assign(candidates: &[Candidate<'_>], sizes: &Sizes) -> Vec<Partitions> {
    // Static members first: their names stay, and with them their ranges.
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|at| {
        let candidate = &candidates[*at];
        (candidate.instance.is_none(), candidate.instance, candidate.member)
    });
    let mut readers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for at in order {
        for topic in candidates[at].topics.iter() {
            readers.entry(*topic).or_default().push(at);
        }
    }
    let mut assigned = vec![Partitions::default(); candidates.len()];
    for (topic, readers) in readers {
        let size = sizes.get(&topic).copied().unwrap_or(0);
        let (each, longer) = (size / readers.len(), size % readers.len());
        let mut indexes = super::indexes(size);
        for (place, at) in readers.into_iter().enumerate() {
            let count = each + usize::from(place < longer);
            assigned[at].extend(indexes.by_ref().take(count).map(|index| (topic, index)));
        }
    }
    assigned
}
