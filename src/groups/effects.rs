//! What a state machine wants done. It does nothing itself: the shard appends the records, and then gives the answers.

use aquifer_model::Timestamp;
use aquifer_protocol::Str;
use bytes::Bytes;
use tokio::time::Instant;

use super::error::GroupError;
use super::record::Record;

/// One request that waits for its answer; a shard gives each another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// What time it is: one clock for waits, one for what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) at: Instant,
    pub(crate) wall: Timestamp,
}

/// What is to be done, in this order: records first, then answers, once the records are safe.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) records: Vec<Record>,
    /// The positions and the groups that these records change or take back, as they were, oldest first: what to replay, backwards,
    /// if nothing of the records can be stored. Of a classic group that goes on there is none: see `ClassicGroup::not_kept`.
    pub(crate) before: Vec<Record>,
    /// Where one change ends and the next begins, in `records`: what is stored of a change is stored whole, as far as it fits into
    /// one batch.
    pub(crate) parts: Vec<usize>,
    /// Classic groups whose leader handed in an assignment: nobody has been told of it, should nothing of the records be stored.
    pub(crate) handed_in: Vec<Str>,
    pub(crate) joins: Vec<(Ticket, Result<Joined, JoinRefused>)>,
    pub(crate) syncs: Vec<(Ticket, Result<Synced, GroupError>)>,
}

impl Effects {
    /// The records of the change that is under way.
    pub(crate) fn part(&self) -> &[Record] {
        &self.records[self.parts.last().copied().unwrap_or(0)..]
    }

    /// Ends a change.
    pub(crate) fn end_part(&mut self) {
        if self.parts.last().copied().unwrap_or(0) < self.records.len() {
            self.parts.push(self.records.len());
        }
    }
}

/// A member of a new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<Str>,
    pub(crate) protocol: Option<Str>,
    pub(crate) leader: Str,
    /// The assignment in force holds: its leader hands in none.
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: Str,
    /// All members, for the one that assigns.
    pub(crate) members: Vec<JoinedMember>,
}

/// What the leader learns of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) member_id: Str,
    pub(crate) instance: Option<Str>,
    pub(crate) metadata: Bytes,
}

/// Why a member is not in, and the id that it has or shall have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinRefused {
    pub(crate) error: GroupError,
    pub(crate) member_id: Str,
}

/// What a member is to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) protocol_type: Option<Str>,
    pub(crate) protocol: Option<Str>,
    pub(crate) assignment: Bytes,
}
