//! `aquifer bench replay`: the whole history, once, as fast as it comes.

use std::collections::BTreeMap;
use std::time::Duration;

use aquifer_model::Offset;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::bench::consume::{FetchArgs, connect};
use crate::cli::bench::crew;
use crate::cli::bench::reader::Read;
use crate::cli::bench::report::Report;
use crate::cli::bench::schedule::Window;
use crate::cli::bench::target::{Target, TargetArgs};
use crate::cli::cluster::Cluster;
use crate::cli::consumer::{EARLIEST, LATEST, offsets};
use crate::cli::output::Table;

/// Reads all that there is once, from the beginning to what is the end when it starts
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    fetch: FetchArgs,
}

/// What is told of a partition.
struct Told {
    partition: i32,
    records: u64,
    bytes: u64,
    /// From the first request to the first bytes of the first answer that brought some.
    first: Option<Duration>,
    /// From the first request to the last answer.
    took: Option<Duration>,
}

impl ReplayArgs {
    /// Runs the bench.
    pub(super) async fn run(&self, cluster: &Cluster) -> anyhow::Result<Report> {
        let target = Target::find(cluster, &self.target, None).await?;
        let options = self.fetch.options(target.may_have_gaps(cluster).await?);
        let partitions = target.partitions();
        let known = |found: BTreeMap<i32, Option<Offset>>| -> BTreeMap<i32, Offset> {
            found.into_iter().filter_map(|(index, offset)| Some((index, offset?))).collect()
        };
        let starts = known(offsets(cluster, &self.target.topic, &partitions, EARLIEST).await?);
        let ends = known(offsets(cluster, &self.target.topic, &partitions, LATEST).await?);
        let readers = connect(cluster, &target, &starts, &ends, &options).await?;
        let began = cluster.world().clock.now();
        let window = Window::from(began);
        let connections = readers.len();
        let jobs = readers.into_iter().map(|reader| reader.run(window, std::future::pending()));
        let read = crew::all(cluster.tasks(), "bench-reader", jobs.collect()).await?;
        let ended = read.iter().flat_map(|one| &one.positions).filter_map(|position| position.last).max();
        let seconds = ended.map_or(0.0, |ended| ended.duration_since(began).as_secs_f64());
        let mut report = Report::new("replay", &target, connections, seconds);
        tell(&mut report, &read);
        Ok(report)
    }
}

fn tell(report: &mut Report, read: &[Read]) {
    let mut told = Vec::new();
    for one in read {
        report.records += one.records;
        report.bytes += one.bytes;
        report.batches += one.batches;
        report.requests += one.fetches;
        report.latencies.add(&one.latencies);
        told.extend(one.positions.iter().map(|position| Told {
            partition: position.partition,
            records: position.records,
            bytes: position.bytes,
            first: position.first.map(|first| first.saturating_duration_since(one.began)),
            took: position.last.map(|last| last.saturating_duration_since(one.began)),
        }));
    }
    told.sort_by_key(|one| one.partition);
    report.latency_of = "a fetch that brought batches, from being sent to all of its answer";
    let first = told.iter().filter_map(|one| one.first).min();
    let last = told.iter().filter_map(|one| one.first).max();
    report.more.insert("first_byte_ms".to_owned(), json!(first.map(ms)));
    report.more.insert("first_byte_max_ms".to_owned(), json!(last.map(ms)));
    report.more.insert("by_partition".to_owned(), told.iter().map(Told::as_json).collect());
    if let (Some(first), Some(last)) = (first, last) {
        let (first, last) = (ms(first), ms(last));
        report
            .notes
            .push(format!("first byte after {first:.3} ms, of the slowest partition after {last:.3} ms"));
    }
    let mut rows = Table::new(&["PARTITION", "RECORDS", "MB", "SECONDS", "MB/S", "FIRST-BYTE-MS"]);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
    for one in &told {
        rows.row([
            one.partition.to_string(),
            one.records.to_string(),
            format!("{:.1}", one.bytes as f64 / 1e6),
            number(one.took.map(|took| took.as_secs_f64())),
            one.mb_per_s().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}")),
            number(one.first.map(ms)),
        ]);
    }
    report.rows = Some(rows);
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

impl Told {
    fn mb_per_s(&self) -> Option<f64> {
        let seconds = self.took?.as_secs_f64();
        (seconds > 0.0).then(|| self.bytes as f64 / 1e6 / seconds)
    }

    fn as_json(&self) -> Value {
        json!({
            "partition": self.partition,
            "records": self.records,
            "bytes": self.bytes,
            "seconds": self.took.map(|took| took.as_secs_f64()),
            "mb_per_s": self.mb_per_s(),
            "first_byte_ms": self.first.map(ms),
        })
    }
}
