//! What Raft says of itself, for operators: who votes, who only follows, and how far each has come.

use aquifer_model::{LeaderEpoch, Offset};
use openraft::RaftMetrics;

use super::ids::RaftNodeId;
use super::raft::types::Types;

/// The metadata log's nodes at one moment, as this node knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// Who leads, as far as this node knows.
    pub leader: Option<RaftNodeId>,
    /// Raft's term, which is what Kafka calls the leader's epoch.
    pub term: LeaderEpoch,
    /// One past the last entry that is committed.
    pub committed_end: Offset,
    /// Those whose majority commits, by id.
    pub voters: Vec<Peer>,
    /// Those that only follow, by id.
    pub learners: Vec<Peer>,
}

/// A node of the metadata log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Which.
    pub node: RaftNodeId,
    /// One past the last entry that it has; `None` where this node does not know: the leader alone knows of the others.
    pub end: Option<Offset>,
}

impl Quorum {
    pub(super) fn of(raft: &RaftMetrics<Types>) -> Quorum {
        let end_of = |node: u64| {
            let last = match &raft.replication {
                _ if node == raft.id => Some(raft.last_log_index),
                Some(others) => others.get(&node).map(|matched| matched.as_ref().map(|log| log.index)),
                None => None,
            };
            last.map(|index| index.map_or(Offset::ZERO, end_behind))
        };
        let peer = |node: u64| Peer { node: RaftNodeId(node), end: end_of(node) };
        let voters: Vec<u64> = raft.membership_config.voter_ids().collect();
        let learners = raft.membership_config.nodes().map(|(node, _)| *node);
        let learners = learners.filter(|node| !voters.contains(node)).map(peer).collect();
        let committed = raft.cluster_committed.as_ref().max(raft.last_applied.as_ref());
        Quorum {
            leader: raft.current_leader.map(RaftNodeId),
            term: epoch_of(raft.current_term),
            committed_end: committed.map_or(Offset::ZERO, |log| end_behind(log.index)),
            voters: voters.into_iter().map(peer).collect(),
            learners,
        }
    }
}

/// One past an entry.
fn end_behind(index: u64) -> Offset {
    let end = i64::try_from(index).unwrap_or(i64::MAX).saturating_add(1);
    Offset::new(end).expect("it is positive")
}

/// A term in the 31 bits that Kafka's messages have for it.
fn epoch_of(term: u64) -> LeaderEpoch {
    let term = i32::try_from(term).unwrap_or(i32::MAX);
    LeaderEpoch::new(term).expect("it is not negative")
}
