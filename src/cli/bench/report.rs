//! What a run says in the end: one JSON object, or a table.

use serde_json::{Map, Value, json};

use crate::cli::bench::latency::Latencies;
use crate::cli::bench::target::Target;
use crate::cli::output::{Output, Table};

/// A megabyte, as networks and disks count it.
const MB: f64 = 1e6;

/// What was measured.
#[derive(Debug)]
pub(super) struct Report {
    /// Which bench.
    pub(super) bench: &'static str,
    pub(super) topic: String,
    pub(super) partitions: usize,
    pub(super) connections: usize,
    pub(super) seconds: f64,
    pub(super) records: u64,
    /// Of batches, as on the wire.
    pub(super) bytes: u64,
    pub(super) batches: u64,
    pub(super) requests: u64,
    /// What the latencies are of.
    pub(super) latency_of: &'static str,
    pub(super) latencies: Latencies,
    /// What only this bench tells, by name.
    pub(super) more: Map<String, Value>,
    /// Lines for people.
    pub(super) notes: Vec<String>,
    /// What is told of each partition.
    pub(super) rows: Option<Table>,
}

impl Report {
    /// A report of nothing yet.
    pub(super) fn new(bench: &'static str, target: &Target, connections: usize, seconds: f64) -> Report {
        Report {
            bench,
            topic: target.topic.name.to_string(),
            partitions: target.topic.partitions.len(),
            connections,
            seconds,
            records: 0,
            bytes: 0,
            batches: 0,
            requests: 0,
            latency_of: "",
            latencies: Latencies::new(),
            more: Map::new(),
            notes: Vec::new(),
            rows: None,
        }
    }

    /// Prints it.
    pub(super) fn print(&self, out: &mut Output, json: bool) -> std::io::Result<()> {
        if json {
            return out.json(&self.as_json());
        }
        let Report { bench, topic, partitions, connections, seconds, .. } = self;
        out.line(format!(
            "{bench}: topic {topic}, {partitions} partitions, {connections} connections, {seconds:.2} s"
        ))?;
        let mut table =
            Table::new(&["RECORDS/S", "MB/S", "REQUESTS/S", "P50-MS", "P99-MS", "P99.9-MS", "MAX-MS"]);
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        table.row([
            format!("{:.0}", self.per_second(self.records as f64)),
            format!("{:.1}", self.per_second(self.bytes as f64 / MB)),
            format!("{:.0}", self.per_second(self.requests as f64)),
            ms(self.latencies.quantile_ms(0.5)),
            ms(self.latencies.quantile_ms(0.99)),
            ms(self.latencies.quantile_ms(0.999)),
            ms(self.latencies.max_ms()),
        ]);
        out.table(&table)?;
        out.line(format!("latencies: {}", self.latency_of))?;
        for note in &self.notes {
            out.line(note)?;
        }
        if let Some(rows) = &self.rows {
            out.table(rows)?;
        }
        Ok(())
    }

    fn as_json(&self) -> Value {
        let mut shown = json!({
            "bench": self.bench,
            "topic": self.topic,
            "partitions": self.partitions,
            "connections": self.connections,
            "seconds": self.seconds,
            "records": self.records,
            "bytes": self.bytes,
            "batches": self.batches,
            "requests": self.requests,
            "records_per_s": self.per_second(self.records as f64),
            "mb_per_s": self.per_second(self.bytes as f64 / MB),
            "requests_per_s": self.per_second(self.requests as f64),
            "latency_of": self.latency_of,
            "latencies": self.latencies.count(),
            "p50_ms": self.latencies.quantile_ms(0.5),
            "p90_ms": self.latencies.quantile_ms(0.9),
            "p99_ms": self.latencies.quantile_ms(0.99),
            "p999_ms": self.latencies.quantile_ms(0.999),
            "max_ms": self.latencies.max_ms(),
            // Any error ends a run.
            "errors": 0,
        });
        if let Value::Object(fields) = &mut shown {
            fields.extend(self.more.clone());
        }
        shown
    }

    fn per_second(&self, amount: f64) -> f64 {
        if self.seconds > 0.0 { amount / self.seconds } else { 0.0 }
    }
}

/// What is told of a run that failed, in place of a report.
pub(super) fn failed(bench: &'static str, why: &str) -> Value {
    json!({ "bench": bench, "errors": 1, "error": why })
}
