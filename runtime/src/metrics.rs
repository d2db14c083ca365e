//! Metrics: what every module registers its own with.
//!
//! A module keeps a struct of its counters and hands it to [`Registry::register`] once; on the hot path it only touches an
//! atomic. Names are `aquifer_<module>_<what>_<unit>`.

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;

/// Buckets for durations in seconds: 100 us to 100 s, four a decade.
pub fn seconds_buckets() -> impl Iterator<Item = f64> {
    (-16..=8).map(|quarter| 10f64.powf(f64::from(quarter) / 4.0))
}
