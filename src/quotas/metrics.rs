//! What is counted of quotas.

use std::time::Duration;

use aquifer_runtime::metrics::{Counter, Family, Gauge, Histogram, Registry, Table, seconds_buckets};

use super::kind::Kind;

type Labels = [(&'static str, &'static str); 1];

/// Counters. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct QuotaMetrics {
    /// Times that one used more than it may.
    throttled: Family<Labels, Counter>,
    /// How long it then rests.
    rests: Family<Labels, Histogram>,
    /// Entities that have quotas.
    pub(super) entities: Gauge,
    /// Accounts that are open.
    pub(super) clients: Gauge,
    /// Accounts that were closed ahead of their time.
    pub(super) forgotten: Counter,
}

impl QuotaMetrics {
    pub(super) fn register(registry: &mut Registry) -> QuotaMetrics {
        let metrics = QuotaMetrics {
            throttled: Family::default(),
            rests: Family::new_with_constructor(|| Histogram::new(seconds_buckets())),
            entities: Gauge::default(),
            clients: Gauge::default(),
            forgotten: Counter::default(),
        };
        // Each row is there from the beginning, so that its rise can be seen.
        for kind in Kind::ALL {
            drop(metrics.throttled.get_or_create(&label(kind)));
        }
        Table::under(registry, "aquifer_quotas")
            .row(
                "throttled",
                "Requests answered with a throttle time, and connections put off, by kind of quota",
                &metrics.throttled,
            )
            .row("throttle_seconds", "These throttle times, by kind of quota", &metrics.rests)
            .row("entities", "Users, client ids and addresses that have quotas", &metrics.entities)
            .row("clients", "Clients whose use is counted, by kind of quota each", &metrics.clients)
            .row(
                "clients_forgotten",
                "Of these, forgotten ahead of their time for quota.clients.max",
                &metrics.forgotten,
            );
        metrics
    }

    /// Counts that one has to rest.
    pub(super) fn throttled(&self, kind: Kind, rest: Duration) {
        self.throttled.get_or_create(&label(kind)).inc();
        self.rests.get_or_create(&label(kind)).observe(rest.as_secs_f64());
    }
}

fn label(kind: Kind) -> Labels {
    [("quota", kind.key())]
}
