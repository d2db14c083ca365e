//! The keys of consumer groups.

use std::time::Duration;

use aquifer_model::ByteCount;

use super::consumer_groups::{self, ConsumerGroups};
use super::key::{bytes, count, millis, minutes};
use super::reader::Reader;
use super::units::{HOUR, INT_MAX, MIB, MINUTE, SECOND};

/// Consumer groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min: Duration,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max: Duration,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`.
    pub members_max: u32,
    /// `group.member.bytes.max`.
    pub member_bytes_max: ByteCount,
    /// `group.members.bytes.max`.
    pub members_bytes_max: ByteCount,
    /// `group.member.protocols.max`.
    pub member_protocols_max: u32,
    /// `groups.per.partition.max`.
    pub groups_max: u32,
    /// `group.pending.ids.max`.
    pub pending_max: u32,
    /// `offsets.topic.num.partitions`.
    pub offsets_partitions: u32,
    /// `offsets.topic.replication.factor`.
    pub offsets_replication_factor: u32,
    /// `offsets.topic.segment.bytes`.
    pub offsets_segment_bytes: ByteCount,
    /// `offsets.retention.minutes`.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_expiry_interval: Duration,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: ByteCount,
    /// `group.lag.groups.max`.
    pub lag_groups_max: u32,
    /// `group.lag.partitions.max`.
    pub lag_partitions_max: u32,
    /// `offsets.commit.timeout.ms`.
    pub commit_timeout: Duration,
    /// Groups whose coordinator assigns.
    pub consumer: ConsumerGroups,
}

pub(super) fn read(r: &mut Reader<'_>) -> Groups {
    r.section("Consumer groups");
    let groups = Groups {
        session_timeout_min: r.read(
            millis("group.min.session.timeout.ms", 6 * SECOND)
                .range(1, INT_MAX)
                .doc("Shortest session that a member of a classic group may ask for, in milliseconds."),
        ),
        session_timeout_max: r.read(
            millis("group.max.session.timeout.ms", 30 * MINUTE)
                .range(1, INT_MAX)
                .doc("Longest session that a member of a classic group may ask for, in milliseconds."),
        ),
        initial_rebalance_delay: r.read(
            millis("group.initial.rebalance.delay.ms", 3 * SECOND)
                .range(0, INT_MAX)
                .doc("Milliseconds that an empty group waits for more members once the first has joined."),
        ),
        members_max: r.read(
            count("group.max.size", 10_000).at_least(1).doc("Members that a classic group may have."),
        ),
        member_bytes_max: r.read(
            bytes("group.member.bytes.max", MIB)
                .range(1, INT_MAX)
                .doc("Bytes that a member may say of itself when it joins: its protocols, what it tells its leader under each, and its names. The broker remembers them for as long as the member is in."),
        ),
        members_bytes_max: r.read(
            bytes("group.members.bytes.max", 256 * MIB)
                .at_least(MIB)
                .doc("Bytes that all members of groups of a broker may say of themselves together, but for those who say no more than 4 KiB. Who finds no room is asked to come again (COORDINATOR_LOAD_IN_PROGRESS); a member that joins again needs room beside what it said before. Read when the broker starts."),
        ),
        member_protocols_max: r.read(
            count("group.member.protocols.max", 100)
                .at_least(1)
                .doc("Protocols (assignors) that a member may offer when it joins; clients offer one or a few."),
        ),
        groups_max: r.read(
            count("groups.per.partition.max", 100_000)
                .at_least(1)
                .doc("Groups that one partition of `__consumer_offsets` may hold. Another is refused with POLICY_VIOLATION; those that are there are served."),
        ),
        pending_max: r.read(
            count("group.pending.ids.max", 10_000)
                .at_least(1)
                .doc("Member ids that were given out and have not been used, by partition of `__consumer_offsets`. Beyond, the oldest are forgotten, and whoever uses one begins anew."),
        ),
        offsets_partitions: r.read(
            count("offsets.topic.num.partitions", 50)
                .range(1, 10_000)
                .doc("Partitions of `__consumer_offsets` when it is made; groups are spread over them. Later changes are not honoured."),
        ),
        offsets_replication_factor: r.read(
            count("offsets.topic.replication.factor", 3)
                .range(1, 1_000)
                .doc("Replicas of `__consumer_offsets` when it is made; as many as there are brokers, if these are fewer."),
        ),
        offsets_segment_bytes: r.read(
            bytes("offsets.topic.segment.bytes", 100 * MIB)
                .range(MIB, INT_MAX)
                .doc("Bytes at which a segment of `__consumer_offsets` is sealed. Small segments are compacted sooner."),
        ),
        offsets_retention: r.read(
            minutes("offsets.retention.minutes", 7 * 24 * 60)
                .range(1, INT_MAX)
                .doc("Minutes that a group's positions are kept once its last member has left, and of topics that it reads no more."),
        ),
        offsets_expiry_interval: r.read(
            millis("offsets.retention.check.interval.ms", 10 * MINUTE)
                .range(1, 24 * HOUR)
                .doc("Milliseconds between two looks for positions that are too old."),
        ),
        offset_metadata_bytes_max: r.read(
            bytes("offset.metadata.max.bytes", 4096)
                .range(0, 32_767)
                .doc("Bytes of text that a client may store beside a position."),
        ),
        lag_groups_max: r.read(
            count("group.lag.groups.max", 10_000)
                .doc("Groups that `/metrics` and `/api/groups` tell of at once, each a time series of its members. Those beyond are counted, and so are their positions."),
        ),
        lag_partitions_max: r.read(
            count("group.lag.partitions.max", 20_000)
                .doc("Positions of groups that `/metrics` and `/api/groups` tell of at once, each a time series of lag. Those beyond are counted."),
        ),
        commit_timeout: r.read(
            millis("offsets.commit.timeout.ms", 5 * SECOND)
                .range(1, INT_MAX)
                .doc("Milliseconds that a change of a group may take to be acknowledged by the in-sync replicas."),
        ),
        consumer: consumer_groups::read(r),
    };
    if groups.session_timeout_min > groups.session_timeout_max {
        r.blame("group.min.session.timeout.ms", "must not exceed group.max.session.timeout.ms".to_owned());
    }
    groups
}
