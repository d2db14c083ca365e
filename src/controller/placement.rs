//! Where replicas go: pure.
//!
//! Partitions start at a random broker and go round, each replica on the next broker that has none of the partition yet, so that
//! leaders and replicas spread evenly whatever the number of partitions. Racks come with the cluster.

use aquifer_model::BrokerId;

/// More replicas are asked for than there are brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("replication factor {wanted} is larger than the number of brokers, {brokers}")]
pub(crate) struct TooFewBrokers {
    pub(crate) wanted: usize,
    pub(crate) brokers: usize,
}

/// Replicas for `partitions` partitions, the preferred leader first in each. `brokers` are those in service; `start` is any
/// number.
pub(crate) fn place(
    brokers: &[BrokerId],
    partitions: usize,
    replicas: usize,
    start: u64,
) -> Result<Vec<Vec<BrokerId>>, TooFewBrokers> {
    if replicas > brokers.len() || brokers.is_empty() {
        return Err(TooFewBrokers { wanted: replicas, brokers: brokers.len() });
    }
    let start = (start % brokers.len() as u64) as usize;
    let at = |position: usize| brokers[position % brokers.len()];
    Ok((0..partitions)
        .map(|partition| (0..replicas).map(|replica| at(start + partition + replica)).collect())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_and_replicas_go_round() {
        let brokers = [1, 2, 3].map(BrokerId);
        let placed = place(&brokers, 4, 2, 7).unwrap();
        let ids: Vec<Vec<i32>> =
            placed.iter().map(|replicas| replicas.iter().map(|id| id.0).collect()).collect();
        assert_eq!(ids, [[2, 3], [3, 1], [1, 2], [2, 3]]);
        assert_eq!(place(&brokers, 1, 4, 0), Err(TooFewBrokers { wanted: 4, brokers: 3 }));
        assert_eq!(place(&[], 1, 0, 0), Err(TooFewBrokers { wanted: 0, brokers: 0 }));
    }
}
