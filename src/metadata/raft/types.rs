//! openraft's type parameters, chosen.
//!
//! Nodes carry no address here: where a broker is reached is in the image.

use openraft::{EmptyNode, Membership, StoredMembership};

use crate::metadata::command::Command;
use crate::metadata::verdict::{Outcome, Rejected};

openraft::declare_raft_types!(
    /// Commands in, verdicts out.
    pub(crate) Types:
        D = Command,
        R = Verdict,
        NodeId = u64,
        Node = EmptyNode,
);

/// What becomes of a command. Entries that are no commands get [`Outcome::Done`].
pub(crate) type Verdict = Result<Outcome, Rejected>;
/// Which leader, and so which term.
pub(crate) type LeaderId = openraft::alias::LeaderIdOf<Types>;
/// A place in the log.
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
/// One record of the log.
pub(crate) type Entry = openraft::alias::EntryOf<Types>;
/// What a record holds.
pub(crate) type Payload = openraft::alias::PayloadOf<Types>;
/// Whom this node has voted for.
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
/// Who votes, and who only listens.
pub(crate) type Members = Membership<u64, EmptyNode>;
/// The same, and where in the log it was decided.
pub(crate) type StoredMembers = StoredMembership<LeaderId, u64, EmptyNode>;
