//! What the logs of one data directory count. Names are `aquifer_log_<what>_<unit>`.

use aquifer_runtime::metrics::{Counter, Gauge, Histogram, Registry, seconds_buckets};

/// Touched on the hot path by one atomic each.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) appended_batches: Counter,
    pub(crate) appended_bytes: Counter,
    pub(crate) duplicate_batches: Counter,
    pub(crate) forgotten_producers: Counter,
    pub(crate) rolled_segments: Counter,
    pub(crate) syncs: Counter,
    pub(crate) sync_seconds: Histogram,
    pub(crate) journal_syncs: Counter,
    pub(crate) journal_bytes: Counter,
    pub(crate) journal_full: Counter,
    pub(crate) journal_replayed_bytes: Counter,
    pub(crate) checkpoints: Counter,
    pub(crate) checkpoint_failures: Counter,
    pub(crate) reread_bytes: Counter,
    pub(crate) lent_bytes: Counter,
    pub(crate) lent_reread_bytes: Counter,
    pub(crate) torn_tails: Counter,
    pub(crate) quarantined_bytes: Counter,
    pub(crate) corruptions: Counter,
    pub(crate) mended_segments: Counter,
    pub(crate) scrubbed_bytes: Counter,
    pub(crate) rebuilt_indexes: Counter,
    pub(crate) removal_failures: Counter,
    pub(crate) refused_full: Counter,
    pub(crate) damaged_files: Gauge,
    pub(crate) open_logs: Gauge,
    pub(crate) uncaptured_bytes: Gauge,
    pub(crate) open_files: Gauge,
    pub(crate) producers: Gauge,
    pub(crate) journal_missing: Gauge,
    pub(crate) failed: Gauge,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Metrics {
        let log = registry.sub_registry_with_prefix("aquifer_log");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            log.register(name, help, counter.clone());
            counter
        };
        let appended_batches = counter("appended_batches", "Record batches written by producers and leaders");
        let appended_bytes = counter("appended_bytes", "Bytes of record batches written");
        let duplicate_batches = counter(
            "duplicate_batches",
            "Batches that a producer sent again and that were not written twice",
        );
        let forgotten_producers =
            counter("forgotten_producers", "Idempotent producers forgotten for lack of room");
        let rolled_segments = counter("rolled_segments", "Segments closed");
        let syncs = counter("syncs", "Commits of a log's unsynced bytes to the device");
        let journal_syncs =
            counter("journal_syncs", "Commits of the journal, each of what some logs had written");
        let journal_bytes = counter("journal_bytes", "Bytes of logs that went through the journal");
        let journal_full = counter(
            "journal_full",
            "Times that the journal was full of what was not synced where it belongs, and logs were synced by themselves",
        );
        let journal_replayed_bytes =
            counter("journal_replayed_bytes", "Bytes of the journal put where they belong at a start");
        let checkpoints = counter("checkpoints", "Recovery points written");
        let checkpoint_failures =
            counter("checkpoint_failures", "Recovery points that could not be written for want of space");
        let reread_bytes =
            counter("reread_bytes", "Bytes read again at opening because they lay behind the recovery point");
        let lent_bytes = counter("lent_bytes", "Bytes lent from the page cache to answers of readers");
        let lent_reread_bytes = counter(
            "lent_reread_bytes",
            "Bytes of those that were not known to be sound any more when they were to be sent, and were read and verified anew",
        );
        let torn_tails = counter("torn_tails", "Unfinished tails cut off at opening, kept in quarantine");
        let quarantined_bytes = counter("quarantined_bytes", "Bytes moved into quarantine");
        let corruptions =
            counter("corruptions", "Files found damaged: at opening, on a read, or by the scrub");
        let mended_segments = counter("mended_segments", "Damaged segments replaced by the bucket's copy");
        let scrubbed_bytes = counter("scrubbed_bytes", "Bytes of segments that the scrub has verified");
        let rebuilt_indexes =
            counter("rebuilt_indexes", "Segment indexes made anew because theirs were lost or damaged");
        let removal_failures = counter(
            "removal_failures",
            "Files or folders that could not be removed; the next start tries again",
        );
        let refused_full = counter("refused_full", "Appends refused because the disk was full");
        let sync_seconds = Histogram::new(seconds_buckets());
        log.register("sync_seconds", "Time of a commit to the device", sync_seconds.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            log.register(name, help, gauge.clone());
            gauge
        };
        let damaged_files = gauge("damaged_files", "Files of logs that are damaged and not mended: alarm");
        let open_logs = gauge("open_logs", "Logs that are open");
        let uncaptured_bytes = gauge(
            "uncaptured_bytes",
            "Bytes behind recovery points, which a start after a crash would read again",
        );
        let open_files = gauge("open_files", "Segment files that are open, of log.files.open.max");
        let producers = gauge("producers", "Idempotent producers remembered, over all logs");
        let journal_missing =
            gauge("journal_missing", "1 if there should be a journal and there is no room for one");
        let failed = gauge("dir_failed", "1 if the log dir has failed and its partitions are given up");
        Metrics {
            appended_batches,
            appended_bytes,
            duplicate_batches,
            forgotten_producers,
            rolled_segments,
            syncs,
            sync_seconds,
            journal_syncs,
            journal_bytes,
            journal_full,
            journal_replayed_bytes,
            checkpoints,
            checkpoint_failures,
            reread_bytes,
            lent_bytes,
            lent_reread_bytes,
            torn_tails,
            quarantined_bytes,
            corruptions,
            mended_segments,
            scrubbed_bytes,
            rebuilt_indexes,
            removal_failures,
            refused_full,
            damaged_files,
            open_logs,
            uncaptured_bytes,
            open_files,
            producers,
            journal_missing,
            failed,
        }
    }
}
