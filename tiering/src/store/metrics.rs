//! What is counted of a store: requests, bytes and errors, each by kind of request.

use aquifer_runtime::metrics::{Counter, Family, Histogram, Registry, seconds_buckets};

use super::error::{Operation, StoreError};

/// A label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelSet)]
pub struct ByOperation {
    /// The kind of request.
    pub operation: Operation,
}

/// Counters of one store. Clones share them.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    /// Attempts, those that failed included.
    pub requests: Family<ByOperation, Counter>,
    /// Attempts that failed, "not there" and "already exists" excluded.
    pub errors: Family<ByOperation, Counter>,
    /// Bytes sent.
    pub sent: Counter,
    /// Bytes received.
    pub received: Counter,
    /// How long attempts took.
    pub seconds: Family<ByOperation, Histogram>,
}

impl Default for StoreMetrics {
    fn default() -> StoreMetrics {
        StoreMetrics {
            requests: Family::default(),
            errors: Family::default(),
            sent: Counter::default(),
            received: Counter::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(seconds_buckets())),
        }
    }
}

impl StoreMetrics {
    /// Shows the counters to the outside.
    pub fn register(&self, registry: &mut Registry) {
        let name = |what: &str| format!("aquifer_store_{what}");
        registry.register(
            name("requests"),
            "Requests to the object store, by operation",
            self.requests.clone(),
        );
        registry.register(name("request_errors"), "Requests that failed, by operation", self.errors.clone());
        registry.register(name("sent_bytes"), "Bytes sent to the object store", self.sent.clone());
        registry.register(
            name("received_bytes"),
            "Bytes received from the object store",
            self.received.clone(),
        );
        registry.register(name("request_seconds"), "Time a request took, by operation", self.seconds.clone());
    }

    /// How many requests were made, over all kinds.
    pub fn requests_total(&self) -> u64 {
        Operation::ALL.into_iter().map(|operation| self.requests_of(operation)).sum()
    }

    /// How many requests of one kind were made.
    pub fn requests_of(&self, operation: Operation) -> u64 {
        self.requests.get_or_create(&ByOperation { operation }).get()
    }

    pub(super) fn note(&self, operation: Operation, seconds: f64, error: Option<&StoreError>) {
        let label = ByOperation { operation };
        self.requests.get_or_create(&label).inc();
        self.seconds.get_or_create(&label).observe(seconds);
        let counts = |error: &&StoreError| {
            !matches!(error, StoreError::NotFound { .. } | StoreError::AlreadyExists { .. })
        };
        if error.filter(counts).is_some() {
            self.errors.get_or_create(&label).inc();
        }
    }
}
