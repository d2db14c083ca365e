//! Metrics: what every module registers its own with.
//!
//! A module keeps a struct of its counters and hands it to [`Registry::register`] once; on the hot path it only touches an
//! atomic. Names are `aquifer_<module>_<what>_<unit>`.

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Metric;
pub use prometheus_client::registry::Registry;

/// A module's metrics as a table: a row each, of what it is called, what it says, and the metric itself, which is shared with it.
#[derive(Debug)]
pub struct Table<'a>(&'a mut Registry);

impl<'a> Table<'a> {
    /// A table whose names all begin with `prefix`.
    pub fn under(registry: &'a mut Registry, prefix: &'static str) -> Table<'a> {
        Table(registry.sub_registry_with_prefix(prefix))
    }

    /// One more row. Counters get the suffix `_total` where they are shown.
    #[expect(clippy::return_self_not_must_use, reason = "a row is kept whether or not another follows")]
    pub fn row(self, name: &str, help: &str, metric: &(impl Metric + Clone)) -> Table<'a> {
        self.0.register(name, help, metric.clone());
        self
    }
}

/// Buckets for durations in seconds: 100 us to 100 s, four a decade.
pub fn seconds_buckets() -> impl Iterator<Item = f64> {
    (-16..=8).map(|quarter| 10f64.powf(f64::from(quarter) / 4.0))
}
