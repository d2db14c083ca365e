//! What is counted of replicas: what an operator would otherwise only find in the log.

use aquifer_runtime::metrics::{Counter, Gauge, Registry, Table};

/// Counters of all replicas of a broker. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReplicaMetrics {
    /// Partitions whose log cannot be opened.
    pub(super) unopened: Gauge,
    /// Steps of uploads (claim, upload, expire) that failed.
    pub(super) archive_failures: Counter,
    /// Partitions with something to upload whose uploads stand still.
    pub(super) stalled: Gauge,
    /// Times that a partition's uploads were found to stand still.
    pub(super) stalls: Counter,
    /// Calls between a partition and the bucket that took longer than they may, and were given up.
    pub(super) overdue: Counter,
    /// Claims that another process took.
    pub(super) fenced: Counter,
    /// Times that a partition was found to miss records between bucket and local log.
    pub(super) gaps: Counter,
    /// Sweeps of the bucket that failed.
    pub(super) sweep_failures: Counter,
    /// Logs that were dropped and started anew at the bucket's end.
    pub(super) restarted: Counter,
    /// Failures to seal, to trim or to expire local segments.
    pub(super) retention_failures: Counter,
    /// Times that all local files were looked at for damage.
    pub(super) scrubs_local: Counter,
    /// Times that all of the bucket was.
    pub(super) scrubs_bucket: Counter,
    /// Failures to look at something in search of damage.
    pub(super) scrub_failures: Counter,
    /// Failures to mend something.
    pub(super) mend_failures: Counter,
    /// Failures to remove a deleted partition's log.
    pub(super) delete_failures: Counter,
    /// Whether clients' appends are refused because the disk is full: 0 or 1.
    pub(super) disk_full: Gauge,
    /// Bytes dropped ahead of local retention because the disk was filling.
    pub(super) disk_relieved: Counter,
    /// Bytes free on the file system of the logs, at the last look.
    pub(super) disk_free: Gauge,
    /// Bytes of that file system.
    pub(super) disk_total: Gauge,
}

impl ReplicaMetrics {
    pub(crate) fn register(registry: &mut Registry) -> ReplicaMetrics {
        let metrics = ReplicaMetrics::default();
        Table::under(registry, "aquifer_replica")
            .row(
                "archive_failures",
                "Steps of uploads that failed and are tried again",
                &metrics.archive_failures,
            )
            .row(
                "archive_stalled",
                "Partitions with something to upload whose uploads stand still",
                &metrics.stalled,
            )
            .row(
                "archive_stalls",
                "Times that a partition's uploads were found to stand still",
                &metrics.stalls,
            )
            .row(
                "archive_overdue",
                "Claims, uploads, expirations and sweeps given up because they took too long",
                &metrics.overdue,
            )
            .row("archive_fenced", "Claims on manifests lost to another process", &metrics.fenced)
            .row(
                "archive_gaps",
                "Times that records were missing between bucket and local log",
                &metrics.gaps,
            )
            .row(
                "sweep_failures",
                "Sweeps of the bucket that failed and are tried again",
                &metrics.sweep_failures,
            )
            .row("logs_restarted", "Logs dropped because the bucket was ahead of them", &metrics.restarted)
            .row(
                "retention_failures",
                "Failures to seal, trim or expire local segments",
                &metrics.retention_failures,
            )
            .row(
                "scrubs_local",
                "Times that all local files were looked at for damage",
                &metrics.scrubs_local,
            )
            .row(
                "scrubs_bucket",
                "Times that all of this broker's part of the bucket was looked at for damage",
                &metrics.scrubs_bucket,
            )
            .row(
                "scrub_failures",
                "Files and parts of the bucket that could not be searched for damage, tried again",
                &metrics.scrub_failures,
            )
            .row("mend_failures", "Failures to mend what is damaged, tried again", &metrics.mend_failures)
            .row("delete_failures", "Failures to remove a deleted partition's log", &metrics.delete_failures)
            .row("partitions_unopened", "Partitions whose log cannot be opened", &metrics.unopened)
            .row(
                "disk_full",
                "1 while clients' appends are refused because the disk is full",
                &metrics.disk_full,
            )
            .row(
                "disk_relieved_bytes",
                "Bytes dropped ahead of local retention because the disk was filling",
                &metrics.disk_relieved,
            )
            .row("disk_free_bytes", "Bytes free on the file system of the logs", &metrics.disk_free)
            .row("disk_bytes", "Bytes of the file system of the logs, free and in use", &metrics.disk_total);
        metrics
    }
}
