//! Why a group refuses, or cannot be asked. What a client makes of each is said in its code, and that is chosen in
//! `handlers/errors.rs`.

/// Why a group refuses a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GroupError {
    #[error("a group's name must not be empty")]
    InvalidGroupId,
    #[error(
        "the session timeout is outside of group.min.session.timeout.ms and group.max.session.timeout.ms"
    )]
    InvalidSessionTimeout,
    #[error("the group does not know this member: it has to join anew")]
    UnknownMember,
    #[error("another member has this group.instance.id now")]
    FencedInstance,
    #[error("the generation is not the group's: the member has to join anew")]
    IllegalGeneration,
    #[error("the group rebalances: the member has to join again")]
    RebalanceInProgress,
    #[error("the group's members have no protocol in common with this one")]
    InconsistentProtocol,
    #[error("a first join gets an id, and joins again with it")]
    MemberIdRequired,
    #[error("the group has as many members as it may (group.max.size)")]
    GroupFull,
    #[error("there is no such group")]
    NotFound,
    #[error("the group has members")]
    NonEmpty,
    #[error("the group is subscribed to this topic")]
    SubscribedToTopic,
    #[error("the group with what its members say and read does not fit into a record (max.message.bytes)")]
    GroupTooLarge,
    #[error("the position does not fit into a record (max.message.bytes)")]
    PositionTooLarge,
    #[error(
        "the member says more of itself than group.member.bytes.max and group.member.protocols.max allow"
    )]
    MemberTooLarge,
    #[error("members say more of themselves, all together, than there is room for (group.members.bytes.max)")]
    NoMemory,
    #[error("the partition has as many groups as it may (groups.per.partition.max)")]
    TooManyGroups,
    #[error("the group has classic members, and its coordinator cannot assign to them: {0}")]
    NotUpgraded(&'static str),
    #[error("{0}")]
    InvalidHeartbeat(&'static str),
    #[error("the member's epoch is not what the group knows: it has to give up all partitions and join anew")]
    FencedEpoch,
    #[error("the member's epoch is not its newest: it has to ask again once it knows that")]
    StaleEpoch,
    #[error("another member stands for this group.instance.id, and has not left")]
    UnreleasedInstance,
    #[error("the assignor is none of group.consumer.assignors")]
    UnsupportedAssignor,
    #[error("members of this group commit by OffsetCommit version 9 or later")]
    CommitTooOld,
    #[error("the metadata of an offset is longer than offset.metadata.max.bytes")]
    MetadataTooLarge,
}

/// Why a shard does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// Ask the broker that leads the group's partition.
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    /// Ask again soon.
    #[error("the group is being read from __consumer_offsets")]
    Loading,
    /// It did not happen: ask again.
    #[error("what was asked could not be written: {0}")]
    NotWritten(String),
    /// It may yet be: ask again.
    #[error("what was asked was written, and not acknowledged in time")]
    NotAcknowledged,
    /// It may have happened: ask again, once it was read what did.
    #[error("it is not known whether what was asked is stored: {0}")]
    Lost(String),
}
