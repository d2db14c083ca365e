//! What metadata counts.

use std::sync::Arc;

use aquifer_runtime::metrics::{Counter, Gauge, Histogram, Registry, seconds_buckets};

use super::image::Image;

/// The module's counters. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Metrics(Arc<Counters>);

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) commands_applied: Counter,
    pub(super) commands_rejected: Counter,
    pub(super) proposals_failed: Counter,
    pub(super) log_commit_seconds: Histogram,
    pub(super) snapshots: Counter,
    pub(super) snapshots_damaged: Counter,
    pub(super) leader: Gauge,
    log_entries: Gauge,
    log_bytes: Gauge,
    topics: Gauge,
    partitions: Gauge,
    brokers: Gauge,
}

impl std::ops::Deref for Metrics {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        &self.0
    }
}

impl Metrics {
    pub(super) fn new(registry: &mut Registry) -> Metrics {
        let counters = Counters {
            commands_applied: Counter::default(),
            commands_rejected: Counter::default(),
            proposals_failed: Counter::default(),
            log_commit_seconds: Histogram::new(seconds_buckets()),
            snapshots: Counter::default(),
            snapshots_damaged: Counter::default(),
            leader: Gauge::default(),
            log_entries: Gauge::default(),
            log_bytes: Gauge::default(),
            topics: Gauge::default(),
            partitions: Gauge::default(),
            brokers: Gauge::default(),
        };
        let all = &counters;
        let mut counter = |name: &str, help: &str, counter: &Counter| {
            registry.register(format!("aquifer_metadata_{name}"), help, counter.clone());
        };
        counter("commands_applied", "Commands judged, rejected ones included", &all.commands_applied);
        counter("commands_rejected", "Commands judged and refused", &all.commands_rejected);
        counter(
            "proposals_failed",
            "Proposals without a verdict: no leader, timed out, stopped",
            &all.proposals_failed,
        );
        counter("snapshots", "Snapshots of the image written", &all.snapshots);
        counter("snapshots_damaged", "Snapshots found damaged and set aside", &all.snapshots_damaged);
        let help = "Time of a commit of the metadata log, its sync included";
        registry.register("aquifer_metadata_log_commit_seconds", help, all.log_commit_seconds.clone());
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| {
            registry.register(format!("aquifer_metadata_{name}"), help, gauge.clone());
        };
        gauge("leader", "1 on the node that leads the metadata quorum", &all.leader);
        gauge("log_entries", "Entries in the metadata log", &all.log_entries);
        gauge("log_bytes", "Bytes of the entries in the metadata log", &all.log_bytes);
        gauge("topics", "Topics", &all.topics);
        gauge("partitions", "Partitions of all topics", &all.partitions);
        gauge("brokers", "Brokers that have registered", &all.brokers);
        Metrics(Arc::new(counters))
    }

    pub(super) fn log_size(&self, entries: usize, bytes: u64) {
        self.log_entries.set(i64::try_from(entries).unwrap_or(i64::MAX));
        self.log_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Entries in the log, as last told.
    #[cfg(test)]
    pub(super) fn log_entries(&self) -> i64 {
        self.log_entries.get()
    }

    pub(super) fn image_size(&self, image: &Image) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.topics.set(count(image.topic_count()));
        self.partitions.set(count(image.partition_count()));
        self.brokers.set(count(image.brokers().count()));
    }
}
