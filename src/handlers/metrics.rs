//! What handlers count: what goes wrong, and what is done less well than asked for.

use aquifer_protocol::{ApiKey, ErrorCode};
use aquifer_runtime::metrics::{Counter, Family, Gauge, Registry, Table};

use super::fetch_session::FetchSessions;

type Labels = [(&'static str, String); 2];

/// Counters. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct HandlerMetrics {
    /// Partitions of Produce, Fetch and ListOffsets that were answered with an error.
    errors: Family<Labels, Counter>,
    /// Fetches that had to do with half of the room, each time that it was halved.
    pub(super) fetches_short: Counter,
    /// Fetches that were answered from the reserve.
    pub(super) fetches_from_reserve: Counter,
    /// Fetches that were answered empty for lack of room.
    pub(super) fetches_without_room: Counter,
    /// Reads that failed for a reason other than where they asked.
    pub(super) reads_failed: Counter,
    sessions: Gauge,
    session_partitions: Gauge,
}

impl HandlerMetrics {
    pub(crate) fn register(registry: &mut Registry) -> HandlerMetrics {
        let metrics = HandlerMetrics::default();
        Table::under(registry, "aquifer_handlers")
            .row("partition_errors", "Partitions answered with an error, by API and error", &metrics.errors)
            .row(
                "fetches_shortened",
                "Halvings of a Fetch answer's room, since memory for answers is spent",
                &metrics.fetches_short,
            )
            .row(
                "fetches_from_reserve",
                "Fetches answered by a batch or little more, since memory for answers is spent by clients that do not read",
                &metrics.fetches_from_reserve,
            )
            .row(
                "fetches_without_room",
                "Fetches answered empty, since memory for answers is spent",
                &metrics.fetches_without_room,
            )
            .row("reads_failed", "Reads of a Fetch that failed", &metrics.reads_failed)
            .row("sessions", "Incremental fetch sessions", &metrics.sessions)
            .row("session_partitions", "Partitions that these remember", &metrics.session_partitions);
        metrics
    }

    /// Tells how many sessions there are.
    pub(super) fn show_sessions(&self, sessions: &FetchSessions) {
        self.sessions.set(i64::try_from(sessions.len()).unwrap_or(i64::MAX));
        self.session_partitions.set(i64::try_from(sessions.partition_count()).unwrap_or(i64::MAX));
    }

    /// Counts an answer for one partition, if it is an error.
    pub(super) fn note(&self, api: ApiKey, error: ErrorCode) {
        if !error.is_none() {
            self.errors
                .get_or_create(&[("api", api.name().to_owned()), ("error", error.name().to_owned())])
                .inc();
        }
    }
}
