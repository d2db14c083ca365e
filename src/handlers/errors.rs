//! The Kafka error code of every error of ours. Nothing below this file speaks in codes.
//!
//! Every match is exhaustive on purpose: a new way to fail does not compile until someone has said what a client shall make of
//! it. The rule behind the choices: an error that time heals gets a code that clients retry, and no error about data that
//! exists ever gets `OFFSET_OUT_OF_RANGE`, on which consumers jump to the end.

use aquifer_protocol::{ErrorCode, Str};
use aquifer_tiering as tiering;

use super::fetch_session::SessionError;
use crate::controller::elections::ElectionError;
use crate::controller::topics::TopicError;
use crate::groups::coordinator::FindError;
use crate::groups::error::{GroupError, Unavailable};
use crate::groups::topics::PatternError;
use crate::log;
use crate::metadata::features::FeatureError;
use crate::metadata::{ProposeError, Rejected};
use crate::quotas::mutations::Strictness;
use crate::replica::error::{AckError, AppendError, DeleteRecordsError, ReadError, RoleError};

/// What a role's refusal is called.
pub(super) fn of_role(error: &RoleError) -> ErrorCode {
    match error {
        RoleError::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        RoleError::FencedEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
        RoleError::UnknownEpoch { .. } => ErrorCode::UNKNOWN_LEADER_EPOCH,
        RoleError::Offline(_) => ErrorCode::KAFKA_STORAGE_ERROR,
        RoleError::Recovering => ErrorCode::NOT_LEADER_OR_FOLLOWER,
    }
}

/// What a refused append is called.
pub(super) fn of_append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::Role(error) => of_role(error),
        AppendError::NotEnoughReplicas { .. } => ErrorCode::NOT_ENOUGH_REPLICAS,
        AppendError::DiskFull => ErrorCode::KAFKA_STORAGE_ERROR,
        AppendError::Log(error) => of_log_append(error),
    }
}

fn of_log_append(error: &log::AppendError) -> ErrorCode {
    match error {
        log::AppendError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        log::AppendError::SegmentTooLarge { .. } => ErrorCode::RECORD_LIST_TOO_LARGE,
        // The old formats. Not retried, unlike bytes that were damaged on their way, among which is what never was a format.
        log::AppendError::Batch(aquifer_model::BatchError::Magic(0 | 1)) => ErrorCode::INVALID_RECORD,
        log::AppendError::Batch(_) => ErrorCode::CORRUPT_MESSAGE,
        log::AppendError::Invalid(_) => ErrorCode::INVALID_RECORD,
        log::AppendError::Timestamp { .. } => ErrorCode::INVALID_TIMESTAMP,
        log::AppendError::OutOfOrderSequence { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        log::AppendError::ProducerFenced { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        log::AppendError::StaleEpoch { .. } | log::AppendError::Closed => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        // All three are retried by clients: space may return, and a failed disk's partitions may move.
        log::AppendError::Full | log::AppendError::Failed | log::AppendError::Corrupt(_) => {
            ErrorCode::KAFKA_STORAGE_ERROR
        }
    }
}

/// What a missing acknowledgement is called.
pub(super) fn of_ack(error: AckError) -> ErrorCode {
    match error {
        AckError::Timeout => ErrorCode::REQUEST_TIMED_OUT,
        AckError::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        AckError::NotEnoughReplicas => ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    }
}

/// What a failed read is called. A read that is only late has no code: the answer is empty and without error.
pub(super) fn of_read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::Role(error) => of_role(error),
        ReadError::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        ReadError::Log(error) => of_log_read(error),
        ReadError::Tier(error) => of_tier_read(error),
        ReadError::Manifest(_) | ReadError::NoTier { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
        ReadError::Pending => ErrorCode::NONE,
        ReadError::NotYet => ErrorCode::OFFSET_NOT_AVAILABLE,
    }
}

fn of_log_read(error: &log::ReadError) -> ErrorCode {
    match error {
        log::ReadError::BelowLocalStart { .. } | log::ReadError::Closed => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        log::ReadError::BeyondEnd { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        log::ReadError::Corrupt(_) | log::ReadError::Io { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

fn of_tier_read(error: &tiering::read::ReadError) -> ErrorCode {
    use tiering::read::ReadError;
    match error {
        // The log says that the record exists; that the manifest does not know it yet, or any more, is for us to mend.
        ReadError::OutOfRange { .. }
        | ReadError::NotTiered
        | ReadError::Unavailable { .. }
        | ReadError::Lost { .. }
        | ReadError::Corrupt { .. } => ErrorCode::KAFKA_STORAGE_ERROR,
        ReadError::Stopping => ErrorCode::NOT_LEADER_OR_FOLLOWER,
    }
}

/// What refused deletion of records is called.
pub(super) fn of_delete_records(error: &DeleteRecordsError) -> ErrorCode {
    match error {
        DeleteRecordsError::Role(error) => of_role(error),
        DeleteRecordsError::AboveHighWatermark { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        DeleteRecordsError::Compacted => ErrorCode::POLICY_VIOLATION,
        DeleteRecordsError::Log(error) => of_log_change(error),
    }
}

fn of_log_change(error: &log::ChangeError) -> ErrorCode {
    match error {
        log::ChangeError::Ahead { .. } | log::ChangeError::BelowLocalStart { .. } => {
            ErrorCode::OFFSET_OUT_OF_RANGE
        }
        log::ChangeError::Closed => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        log::ChangeError::Full
        | log::ChangeError::Failed
        | log::ChangeError::Corrupt(_)
        | log::ChangeError::Snapshot(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// What a fetch session's trouble is called.
pub(super) fn of_session(error: SessionError) -> ErrorCode {
    match error {
        SessionError::Unknown => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        SessionError::Epoch => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        SessionError::Mixed => ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
    }
}

/// What a refused change of topics is called.
pub(super) fn of_topic(error: &TopicError) -> ErrorCode {
    match error {
        TopicError::Name(_) | TopicError::Collides { .. } => ErrorCode::INVALID_TOPIC_EXCEPTION,
        TopicError::Exists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        TopicError::Unknown => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        TopicError::UnknownId => ErrorCode::UNKNOWN_TOPIC_ID,
        TopicError::Partitions(_) => ErrorCode::INVALID_PARTITIONS,
        TopicError::ReplicationFactor(_) => ErrorCode::INVALID_REPLICATION_FACTOR,
        TopicError::Assignment(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        TopicError::Request(_) => ErrorCode::INVALID_REQUEST,
        TopicError::Config(_) => ErrorCode::INVALID_CONFIG,
        // Kafka's word for a limit of the operator's; INVALID_PARTITIONS would blame the number asked for.
        TopicError::TooManyPartitions { .. } => ErrorCode::POLICY_VIOLATION,
        TopicError::TooFast { .. } => ErrorCode::THROTTLING_QUOTA_EXCEEDED,
        TopicError::DeletionDisabled => ErrorCode::TOPIC_DELETION_DISABLED,
        TopicError::NotCarriedOut => ErrorCode::REQUEST_TIMED_OUT,
        TopicError::Propose(error) => of_propose(error),
    }
}

/// What it is called when no leader is elected.
pub(super) fn of_election(error: &ElectionError) -> ErrorCode {
    match error {
        ElectionError::UnknownTopic(_) | ElectionError::UnknownPartition { .. } => {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        }
        ElectionError::NotNeeded(_) => ErrorCode::ELECTION_NOT_NEEDED,
        ElectionError::PreferredNotAvailable(_) => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
        ElectionError::NoneAvailable => ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
        ElectionError::Timeout => ErrorCode::REQUEST_TIMED_OUT,
        ElectionError::Propose(error) => of_propose(error),
    }
}

/// What a refused change of features' levels is called.
pub(super) fn of_features(error: &FeatureError) -> ErrorCode {
    match error {
        FeatureError::Unknown(_)
        | FeatureError::Level { .. }
        | FeatureError::Lower { .. }
        | FeatureError::Final { .. }
        | FeatureError::Higher { .. } => ErrorCode::INVALID_UPDATE_VERSION,
    }
}

/// The same, to a client that may be of before KIP-599 and have no word for "later".
pub(super) fn of_mutation(error: &TopicError, strictness: Strictness) -> ErrorCode {
    match (error, strictness) {
        (TopicError::TooFast { .. }, Strictness::Permissive) => ErrorCode::POLICY_VIOLATION,
        (error, _) => of_topic(error),
    }
}

/// What a group's refusal is called.
pub(super) fn of_group(error: GroupError) -> ErrorCode {
    match error {
        GroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        GroupError::InvalidSessionTimeout => ErrorCode::INVALID_SESSION_TIMEOUT,
        GroupError::UnknownMember => ErrorCode::UNKNOWN_MEMBER_ID,
        GroupError::FencedInstance => ErrorCode::FENCED_INSTANCE_ID,
        GroupError::IllegalGeneration => ErrorCode::ILLEGAL_GENERATION,
        GroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        GroupError::InconsistentProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        GroupError::MemberIdRequired => ErrorCode::MEMBER_ID_REQUIRED,
        GroupError::GroupFull => ErrorCode::GROUP_MAX_SIZE_REACHED,
        GroupError::NotFound => ErrorCode::GROUP_ID_NOT_FOUND,
        GroupError::NonEmpty => ErrorCode::NON_EMPTY_GROUP,
        GroupError::SubscribedToTopic => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
        // As in Kafka, whose members go on by joining again.
        GroupError::GroupTooLarge => ErrorCode::UNKNOWN_SERVER_ERROR,
        GroupError::PositionTooLarge => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
        // Limits of the operator's that Kafka does not have.
        GroupError::MemberTooLarge | GroupError::TooManyGroups => ErrorCode::POLICY_VIOLATION,
        // What all clients come back from after a while.
        GroupError::NoMemory => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        // As in Kafka: there is no group of that protocol.
        GroupError::NotUpgraded(_) => ErrorCode::GROUP_ID_NOT_FOUND,
        GroupError::InvalidHeartbeat(_) => ErrorCode::INVALID_REQUEST,
        GroupError::FencedEpoch => ErrorCode::FENCED_MEMBER_EPOCH,
        GroupError::StaleEpoch => ErrorCode::STALE_MEMBER_EPOCH,
        GroupError::UnreleasedInstance => ErrorCode::UNRELEASED_INSTANCE_ID,
        GroupError::UnsupportedAssignor => ErrorCode::UNSUPPORTED_ASSIGNOR,
        GroupError::CommitTooOld => ErrorCode::UNSUPPORTED_VERSION,
        GroupError::MetadataTooLarge => ErrorCode::OFFSET_METADATA_TOO_LARGE,
    }
}

/// What it is called when a regular expression is none.
pub(super) fn of_pattern(error: &PatternError) -> ErrorCode {
    match error {
        PatternError::TooLong(_) | PatternError::Syntax(_) => ErrorCode::INVALID_REGULAR_EXPRESSION,
    }
}

/// What it is called when groups cannot be asked. Clients retry each.
pub(super) fn of_unavailable(error: &Unavailable) -> ErrorCode {
    match error {
        Unavailable::NotCoordinator | Unavailable::Lost(_) => ErrorCode::NOT_COORDINATOR,
        Unavailable::Loading => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        Unavailable::NotWritten(_) | Unavailable::NotAcknowledged => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}

/// The same of a read of positions: consumers before 3.9 fail on COORDINATOR_NOT_AVAILABLE there, so Kafka never says it.
pub(super) fn of_unread(error: &Unavailable) -> ErrorCode {
    match error {
        Unavailable::Loading => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        Unavailable::NotCoordinator
        | Unavailable::Lost(_)
        | Unavailable::NotWritten(_)
        | Unavailable::NotAcknowledged => ErrorCode::NOT_COORDINATOR,
    }
}

/// What a group's answer is called that is yes or no.
pub(super) fn of_outcome(outcome: Result<(), GroupError>) -> ErrorCode {
    outcome.map_or_else(of_group, |()| ErrorCode::NONE)
}

/// The same, of a group that may not have been asked.
pub(super) fn of_answer(answer: Result<Result<(), GroupError>, Unavailable>) -> ErrorCode {
    answer.map_or_else(|error| of_unavailable(&error), of_outcome)
}

/// What it is called when a coordinator cannot be told.
pub(super) fn of_find(error: &FindError) -> ErrorCode {
    match error {
        FindError::Topic(_) | FindError::NoLeader => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}

/// What it is called when there is no id for a producer: what every client asks again about. A Java producer takes
/// `REQUEST_TIMED_OUT` for the end.
pub(super) fn of_no_producer_id(error: &ProposeError) -> ErrorCode {
    match error {
        ProposeError::NotLeader { .. }
        | ProposeError::Unknown(_)
        | ProposeError::Timeout { .. }
        | ProposeError::Stopped(_) => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ProposeError::Rejected(_) | ProposeError::TooLarge { .. } | ProposeError::Level { .. } => {
            of_propose(error)
        }
    }
}

/// What a refused or lost proposal is called.
pub(super) fn of_propose(error: &ProposeError) -> ErrorCode {
    match error {
        ProposeError::Rejected(rejected) => of_rejected(rejected),
        ProposeError::TooLarge { .. } => ErrorCode::INVALID_REQUEST,
        ProposeError::Level { .. } => ErrorCode::UNSUPPORTED_VERSION,
        ProposeError::NotLeader { .. } => ErrorCode::NOT_CONTROLLER,
        ProposeError::Unknown(_) | ProposeError::Timeout { .. } | ProposeError::Stopped(_) => {
            ErrorCode::REQUEST_TIMED_OUT
        }
    }
}

fn of_rejected(rejected: &Rejected) -> ErrorCode {
    match rejected {
        Rejected::NotFormatted | Rejected::AlreadyFormatted => ErrorCode::UNKNOWN_SERVER_ERROR,
        Rejected::TopicExists(_) | Rejected::TopicIdTaken => ErrorCode::TOPIC_ALREADY_EXISTS,
        Rejected::NameCollides(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        Rejected::UnknownTopic | Rejected::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Rejected::InvalidPartitionCount { .. }
        | Rejected::PartitionCountChanged { .. }
        | Rejected::TooManyPartitions { .. } => ErrorCode::INVALID_PARTITIONS,
        Rejected::InvalidReplicas { .. }
        | Rejected::UnknownBroker(_)
        | Rejected::NoActiveReplica(_)
        | Rejected::NotReplica(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        Rejected::DuplicateBroker(_) | Rejected::NodeTaken(_) => ErrorCode::DUPLICATE_BROKER_REGISTRATION,
        Rejected::StaleBrokerEpoch { .. } => ErrorCode::STALE_BROKER_EPOCH,
        Rejected::NewerEpoch => ErrorCode::NOT_CONTROLLER,
        Rejected::StaleLeaderEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
        Rejected::NotLeader(_) | Rejected::InvalidIsr => ErrorCode::INVALID_REQUEST,
        Rejected::StalePartitionEpoch { .. } => ErrorCode::INVALID_UPDATE_VERSION,
        Rejected::IneligibleReplicas(_) => ErrorCode::INELIGIBLE_REPLICA,
        Rejected::NotInIsr(_) | Rejected::NotActive(_) => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
        Rejected::AlreadyLeader(_) => ErrorCode::ELECTION_NOT_NEEDED,
        Rejected::InvalidRegistration(_) => ErrorCode::INVALID_REGISTRATION,
        Rejected::InvalidConfigs(_) => ErrorCode::INVALID_CONFIG,
        // After several tries; clients go on trying.
        Rejected::StaleConfigs(_) => ErrorCode::REQUEST_TIMED_OUT,
        Rejected::InvalidBlock { .. } | Rejected::InvalidQuotas(_) => ErrorCode::INVALID_REQUEST,
        Rejected::InvalidFeature(_) => ErrorCode::FEATURE_UPDATE_FAILED,
        Rejected::Exhausted(_) => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// An error's words, for the fields that carry them.
pub(super) fn message(error: &dyn std::fmt::Display) -> Option<Str> {
    Some(Str::from(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_of_positions_is_never_told_what_old_consumers_fail_on() {
        let not_written = Unavailable::NotWritten("full".to_owned());
        let all = [Unavailable::NotCoordinator, Unavailable::NotAcknowledged, not_written];
        for unavailable in all.into_iter().chain([Unavailable::Lost("why".to_owned())]) {
            assert_eq!(of_unread(&unavailable), ErrorCode::NOT_COORDINATOR);
        }
        assert_eq!(of_unread(&Unavailable::Loading), ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    }
}
