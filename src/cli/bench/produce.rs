//! `aquifer bench produce`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, TopicName};
use aquifer_runtime::alarm::Alarms;
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::cli::bench::crew;
use crate::cli::bench::latency::Latencies;
use crate::cli::bench::load::{Load, LoadOptions};
use crate::cli::bench::parse::{rate, seconds};
use crate::cli::bench::report::Report;
use crate::cli::bench::schedule::{Schedule, Window};
use crate::cli::bench::target::{CreateArgs, Target, TargetArgs};
use crate::cli::bench::writer::{Writer, WriterOptions, Written};
use crate::cli::cluster::{Cluster, PATIENCE};
use crate::cli::codec::Codec;
use crate::cli::producer::init_producer_id;

/// Bytes of a record's value, and of a batch, if nothing else is asked for.
const RECORD_BYTES: u32 = 1024;
const BATCH_BYTES: u32 = 64 << 10;
/// The most of either: a batch with its records is below 2 GiB.
const BYTES_MAX: i64 = 1 << 30;

/// Writes pre-encoded batches
#[derive(Debug, Args)]
pub(super) struct ProduceArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    create: CreateArgs,
    #[command(flatten)]
    load: LoadArgs,
    /// Records a second, over all connections; without it, as many as go
    #[arg(long, value_parser = rate, value_name = "RECORDS")]
    rate: Option<f64>,
    /// Requests on their way at once, on each connection
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..), value_name = "NUMBER")]
    in_flight: u16,
    /// Batches in a request, each for another partition
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), value_name = "NUMBER")]
    batches: u16,
    /// Number the batches, as idempotent producers do: a producer id for each connection, and a checksum for each batch
    #[arg(long)]
    idempotent: bool,
    /// How the batches are compressed: once, before the run; their values are then half repetition
    #[arg(long, short = 'z', value_enum, default_value = "none")]
    compression: Codec,
    /// How long to measure
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    seconds: Duration,
    /// How long to run before, unmeasured
    #[arg(long, default_value = "1", value_parser = seconds, value_name = "SECONDS")]
    warmup: Duration,
}

/// What is written.
#[derive(Debug, Clone, Args)]
pub(super) struct LoadArgs {
    /// Bytes of a record's value, random ones; without it 1024
    #[arg(long, value_parser = clap::value_parser!(u32).range(..=BYTES_MAX), value_name = "BYTES")]
    record_size: Option<u32>,
    /// Bytes of a batch, header included; a larger record has one to itself; without it 65536
    #[arg(long, value_parser = clap::value_parser!(u32).range(..=BYTES_MAX), value_name = "BYTES")]
    batch_bytes: Option<u32>,
    /// Give each record a key, of eight random bytes
    #[arg(long)]
    keyed: bool,
    /// Who must have a batch before it is answered, without it all; 0 is not offered, since nothing would be
    #[arg(long, value_enum, allow_hyphen_values = true)]
    acks: Option<Acks>,
}

/// Who must have a batch.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Acks {
    /// All in-sync replicas
    #[value(alias = "-1")]
    All,
    /// The leader
    #[value(name = "1")]
    Leader,
}

impl LoadArgs {
    /// Whether any of it was asked for.
    pub(super) fn is_given(&self) -> bool {
        let LoadArgs { record_size, batch_bytes, keyed, acks } = self;
        record_size.is_some() || batch_bytes.is_some() || *keyed || acks.is_some()
    }

    /// As on the wire.
    pub(super) fn acks(&self) -> i16 {
        match self.acks {
            None | Some(Acks::All) => -1,
            Some(Acks::Leader) => 1,
        }
    }

    /// Bytes of a record's value.
    pub(super) fn record_bytes(&self) -> u32 {
        self.record_size.unwrap_or(RECORD_BYTES)
    }

    /// Makes the batch that is written, and writes the smallest such batch once to each partition that is empty; gives how many
    /// were.
    pub(super) async fn prepare(
        &self,
        cluster: &Cluster,
        name: &TopicName,
        target: &Target,
        compression: Compression,
    ) -> anyhow::Result<(Arc<Load>, u64)> {
        let options = LoadOptions {
            record_bytes: ByteCount(u64::from(self.record_bytes())),
            batch_bytes: ByteCount(u64::from(self.batch_bytes.unwrap_or(BATCH_BYTES))),
            has_keys: self.keyed,
            compression,
        };
        let single = LoadOptions { batch_bytes: ByteCount::ZERO, ..options };
        let single = Load::new(cluster.world(), &single)?.batch();
        let touched = target.touch(cluster, name, self.acks(), &single).await?;
        Ok((Arc::new(Load::new(cluster.world(), &options)?), touched))
    }
}

impl ProduceArgs {
    /// Runs the bench.
    pub(super) async fn run(&self, cluster: &Cluster) -> anyhow::Result<Report> {
        let target = Target::find(cluster, &self.target, Some(&self.create)).await?;
        let (load, touched) =
            self.load.prepare(cluster, &self.target.topic, &target, self.compression.into()).await?;
        let options = WriterOptions {
            acks: self.load.acks(),
            in_flight_max: usize::from(self.in_flight),
            batches_max: usize::from(self.batches),
            producer: None,
            marked_from: None,
        };
        let clock = cluster.world().clock;
        let alarms = Alarms::start(clock, cluster.tasks()).context("cannot have a timer")?;
        let mut writers = Vec::new();
        for leader in target.share_for_writing() {
            let producer = if self.idempotent { Some(init_producer_id(cluster).await?) } else { None };
            let options = WriterOptions { producer, ..options };
            writers.push(
                Writer::connect((clock, alarms.clone()), &leader, &target.topic, &load, options).await?,
            );
        }
        let mut report = Report::new("produce", &target, writers.len(), self.seconds.as_secs_f64());
        let window = Window::after(clock.now(), self.warmup, self.seconds);
        let written = write_all(cluster, writers, self.rate, window).await?;
        tell_acknowledged(&mut report, &load, touched, &written);
        self.tell(&mut report, &load, &written);
        Ok(report)
    }

    fn tell(&self, report: &mut Report, load: &Load, written: &[Written]) {
        let (mut late, mut unsent) = (Latencies::new(), Latencies::new());
        for one in written {
            report.records += one.records;
            report.bytes += one.bytes;
            report.batches += one.batches;
            report.requests += one.requests;
            report.latencies.add(&one.latencies);
            late.add(&one.late);
            unsent.add(&one.unsent);
        }
        // They have waited at least for so long: left out, they would make a broker that stands still look quick.
        report.latencies.add(&unsent);
        let unsent = unsent.count();
        let records = load.record_count();
        report.more.extend([
            ("record_size".to_owned(), json!(self.load.record_bytes())),
            ("batch_records".to_owned(), json!(records)),
            ("batch_bytes".to_owned(), json!(load.size().get())),
            ("acks".to_owned(), json!(self.load.acks())),
            ("in_flight".to_owned(), json!(self.in_flight)),
            ("rate".to_owned(), json!(self.rate)),
        ]);
        let (size, acks) = (load.size(), self.load.acks());
        report.notes.push(format!("batches of {records} records, {size}, acks={acks}"));
        report.latency_of = match self.rate {
            None => "a request, from being sent to its answer",
            Some(_) => "a request, from when it was due to its answer",
        };
        if self.rate.is_some() {
            report.more.insert("late_p99_ms".to_owned(), json!(late.quantile_ms(0.99)));
            report.more.insert("unsent".to_owned(), json!(unsent));
            let p99 = late.quantile_ms(0.99).unwrap_or_default();
            report.notes.push(format!("99 of 100 requests were sent at most {p99:.3} ms late"));
        }
        if unsent > 0 {
            report.notes.push(not_reached(unsent, "requests"));
        }
    }
}

/// Tells of all that a run wrote, in the time that counts or not: the records with those that were written to empty partitions
/// before, of which there is one for each; bytes and requests without.
pub(super) fn tell_acknowledged(report: &mut Report, load: &Load, touched: u64, written: &[Written]) {
    let batches: u64 = written.iter().map(|one| one.batches_ever).sum();
    let requests: u64 = written.iter().map(|one| one.requests_ever).sum();
    report.more.extend([
        ("acknowledged".to_owned(), json!(touched + batches * u64::from(load.record_count()))),
        ("acknowledged_bytes".to_owned(), json!(batches * load.size().get())),
        ("acknowledged_requests".to_owned(), json!(requests)),
    ]);
}

/// What is said of requests, or of batches, that found no room.
pub(super) fn not_reached(unsent: u64, what: &str) -> String {
    format!(
        "the rate was not reached: {unsent} {what} were due and not sent; the latencies are the least that they may have been"
    )
}

/// Lets all of them write, flat out or so many records a second together.
pub(super) async fn write_all(
    cluster: &Cluster,
    writers: Vec<Writer>,
    rate: Option<f64>,
    window: Window,
) -> anyhow::Result<Vec<Written>> {
    let count = writers.len();
    let patience = window.end.saturating_duration_since(window.begin) + PATIENCE;
    let jobs = writers.into_iter().enumerate().map(|(number, writer)| {
        let schedule = match rate {
            None => Schedule::flat_out(window.end),
            Some(rate) => {
                let per_second = rate / count as f64 / writer.records_per_request();
                // They take turns.
                let turn = Duration::from_secs_f64(number as f64 / count as f64 / per_second);
                Schedule::steady(window.begin + turn, per_second, window.end)
            }
        };
        async move {
            let writing = tokio::time::timeout(patience, writer.run(schedule, window)).await;
            writing
                .with_context(|| format!("a request was not answered within {PATIENCE:?} after the end"))?
        }
    });
    crew::all(cluster.tasks(), "bench-writer", jobs.collect()).await
}
