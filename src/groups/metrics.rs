//! What is counted of groups.

use aquifer_runtime::metrics::{Counter, Gauge, Registry, Table};

/// Counters. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct GroupMetrics {
    /// Groups in the shards that serve.
    pub(super) groups: Gauge,
    /// Joins and commits that would have made a group too many.
    pub(crate) groups_refused: Counter,
    /// Members that say too much of themselves.
    pub(crate) members_refused: Counter,
    /// Assignments and positions that fit into no record.
    pub(crate) records_refused: Counter,
    /// Regular expressions matched with all topics' names.
    pub(crate) patterns_matched: Counter,
    /// Ids that were given out, and forgotten to make room for others.
    pub(super) pending_forgotten: Counter,
    /// Times that something could not be stored, and nothing was.
    pub(super) steps_not_written: Counter,
    /// Times that a shard was dropped, since it is not known what was stored.
    pub(super) shards_reread: Counter,
    /// Stored records that cannot be read.
    pub(super) records_skipped: Counter,
}

impl GroupMetrics {
    pub(crate) fn register(registry: &mut Registry) -> GroupMetrics {
        let metrics = GroupMetrics::default();
        Table::under(registry, "aquifer_groups")
            .row("served", "Groups that this broker coordinates", &metrics.groups)
            .row("refused", "Requests refused for groups.per.partition.max", &metrics.groups_refused)
            .row(
                "members_refused",
                "Joins refused for group.member.bytes.max, group.member.protocols.max, or group.members.bytes.max",
                &metrics.members_refused,
            )
            .row(
                "records_refused",
                "Assignments and positions that fit into no record of __consumer_offsets",
                &metrics.records_refused,
            )
            .row(
                "patterns_matched",
                "Times that a regular expression was matched with the names of all topics",
                &metrics.patterns_matched,
            )
            .row(
                "pending_ids_forgotten",
                "Member ids given out and forgotten unused for group.pending.ids.max",
                &metrics.pending_forgotten,
            )
            .row(
                "writes_refused",
                "Times that __consumer_offsets took nothing, and those who asked were told to ask again",
                &metrics.steps_not_written,
            )
            .row(
                "shards_reread",
                "Times that a partition's groups were dropped and read again, since a write may have failed halfway",
                &metrics.shards_reread,
            )
            .row(
                "records_skipped",
                "Records of __consumer_offsets that cannot be read and were passed over",
                &metrics.records_skipped,
            );
        metrics
    }
}
