//! What this process knows to be damaged in the bucket, until it is mended or gone.
//!
//! Noted by whoever comes across it, reader or scrub; told once, and counted. In memory alone: the next process finds it again.

use std::collections::BTreeMap;

use aquifer_model::TopicPartition;
use aquifer_runtime::metrics::{Counter, Gauge, Registry};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The most that is remembered; what is beyond is found again once there is room.
const REMEMBERED_MAX: usize = 10_000;

/// A damaged object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedObject {
    /// Whose.
    pub partition: TopicPartition,
    /// Its key.
    pub object: String,
    /// What is wrong.
    pub what: String,
}

/// Counters of the scrub. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ScrubMetrics {
    /// Objects that were found damaged.
    pub found: Counter,
    /// Those that are, as far as is known.
    pub damaged: Gauge,
    /// Those that were replaced.
    pub mended: Counter,
    /// Bytes that were verified.
    pub bytes: Counter,
}

impl ScrubMetrics {
    /// Shows the counters to the outside.
    pub fn register(&self, registry: &mut Registry) {
        let name = |what: &str| format!("aquifer_tier_{what}");
        registry.register(
            name("corruptions"),
            "Objects found damaged, by a read or by the scrub",
            self.found.clone(),
        );
        registry.register(
            name("damaged_objects"),
            "Objects that are damaged and not mended: alarm",
            self.damaged.clone(),
        );
        registry.register(name("mended_objects"), "Damaged objects that were replaced", self.mended.clone());
        registry.register(name("scrubbed_bytes"), "Bytes that the scrub has verified", self.bytes.clone());
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub(crate) struct Damages {
    known: Mutex<BTreeMap<String, DamagedObject>>,
    found: Notify,
    pub(crate) metrics: ScrubMetrics,
}

impl Damages {
    pub(crate) fn new(metrics: ScrubMetrics) -> Damages {
        Damages { metrics, ..Damages::default() }
    }

    /// Whether an object is known to be damaged.
    pub(crate) fn knows(&self, object: &str) -> bool {
        self.known.lock().contains_key(object)
    }

    /// Takes note of an object; says it where it is news.
    pub(crate) fn note(&self, partition: TopicPartition, object: &str, what: &str) {
        let mut known = self.known.lock();
        if known.contains_key(object) || known.len() >= REMEMBERED_MAX {
            return;
        }
        let damaged = DamagedObject { partition, object: object.to_owned(), what: what.to_owned() };
        known.insert(object.to_owned(), damaged);
        self.metrics.found.inc();
        self.metrics.damaged.inc();
        drop(known);
        tracing::error!(%partition, object, what, "an object in the bucket is damaged");
        self.found.notify_one();
    }

    /// Forgets an object that was replaced, or that nothing names any more.
    pub(crate) fn forget(&self, object: &str) {
        if self.known.lock().remove(object).is_some() {
            self.metrics.damaged.dec();
        }
    }

    /// Forgets all of a partition.
    pub(crate) fn forget_all(&self, partition: TopicPartition) {
        let mut known = self.known.lock();
        let before = known.len();
        known.retain(|_, damaged| damaged.partition != partition);
        let gone = before - known.len();
        self.metrics.damaged.dec_by(i64::try_from(gone).unwrap_or(i64::MAX));
    }

    pub(crate) fn all(&self) -> Vec<DamagedObject> {
        self.known.lock().values().cloned().collect()
    }

    /// Waits until something is news. For one waiter.
    pub(crate) async fn wait(&self) {
        self.found.notified().await;
    }
}
