//! Why a group refuses. What a client makes of each is said in its code, and that is chosen in `handlers/errors.rs`.

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
    #[error(
        "the group's members and assignments come to more than a record may (max.message.bytes of __consumer_offsets)"
    )]
    TooLarge,
    #[error("the metadata of an offset is longer than offset.metadata.max.bytes")]
    MetadataTooLarge,
}
