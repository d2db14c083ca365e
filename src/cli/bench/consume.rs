//! `aquifer bench consume`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, Offset};
use aquifer_runtime::alarm::Alarms;
use clap::Args;
use serde_json::json;

use crate::cli::bench::crew;
use crate::cli::bench::fetch_frame::FetchOptions;
use crate::cli::bench::latency::Latencies;
use crate::cli::bench::parse::{rate, seconds};
use crate::cli::bench::produce::{LoadArgs, not_reached, tell_acknowledged, write_all};
use crate::cli::bench::reader::{Arrivals, Marked, Position, Read, Reader, ReaderOptions};
use crate::cli::bench::report::Report;
use crate::cli::bench::schedule::Window;
use crate::cli::bench::target::{CreateArgs, Target, TargetArgs};
use crate::cli::bench::writer::{Writer, WriterOptions};
use crate::cli::cluster::{Cluster, PATIENCE};
use crate::cli::consumer::{Start, starts};
use crate::cli::whence::Whence;

/// Requests in flight of what an end-to-end run produces: a slow answer must not hold up the next batch.
const IN_FLIGHT: usize = 100;

/// Fetches as a consumer without a group does
#[derive(Debug, Args)]
pub(super) struct ConsumeArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    create: CreateArgs,
    #[command(flatten)]
    fetch: FetchArgs,
    /// Where to start: beginning, end, an offset, -N for N records before the end, @MILLISECONDS since 1970, or @-15m for a time
    /// ago (s, m, h, d)
    #[arg(long, default_value = "beginning", value_parser = Whence::parse, allow_hyphen_values = true, value_name = "WHERE", conflicts_with = "end_to_end")]
    from: Whence,
    /// Consumers, each of which reads all partitions over connections of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..), value_name = "NUMBER")]
    consumers: u16,
    /// Produce, too, at a fixed rate over one more connection to each leader, and measure from when a batch was due until it
    /// was fetched
    #[arg(long, requires = "rate")]
    end_to_end: bool,
    /// Records a second that are produced
    #[arg(long, requires = "end_to_end", value_parser = rate, value_name = "RECORDS")]
    rate: Option<f64>,
    #[command(flatten)]
    load: LoadArgs,
    /// How long to measure
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    seconds: Duration,
    /// How long to run before, unmeasured
    #[arg(long, default_value = "1", value_parser = seconds, value_name = "SECONDS")]
    warmup: Duration,
}

/// How it is fetched.
#[derive(Debug, Clone, Args)]
pub(super) struct FetchArgs {
    /// Bytes of one partition in an answer; a larger batch comes alone
    #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(1..), value_name = "BYTES")]
    fetch_bytes: u32,
    /// Bytes of an answer
    #[arg(long, default_value_t = 50 << 20, value_parser = clap::value_parser!(u32).range(1..), value_name = "BYTES")]
    fetch_bytes_total: u32,
    /// Bytes that a broker waits for
    #[arg(long, default_value_t = 1, value_name = "BYTES")]
    fetch_min_bytes: u32,
    /// How long it waits for them
    #[arg(long, default_value_t = 500, value_name = "MILLISECONDS")]
    max_wait_ms: u32,
    /// Compute each batch's checksum, as consumers do
    #[arg(long)]
    check_crc: bool,
}

impl FetchArgs {
    /// How a connection fetches.
    pub(super) fn options(&self, allows_gaps: bool) -> ReaderOptions {
        let to_i32 = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        ReaderOptions {
            fetch: FetchOptions {
                wait_max_ms: to_i32(self.max_wait_ms),
                bytes_min: to_i32(self.fetch_min_bytes),
                partition_bytes_max: ByteCount(u64::from(self.fetch_bytes)),
                answer_bytes_max: ByteCount(u64::from(self.fetch_bytes_total)),
            },
            checks_crc: self.check_crc,
            allows_gaps,
            marked: None,
        }
    }
}

impl ConsumeArgs {
    /// Runs the bench.
    pub(super) async fn run(&self, cluster: &Cluster) -> anyhow::Result<Report> {
        ensure!(
            self.end_to_end || !self.load.is_given(),
            "--record-size, --batch-bytes, --keyed and --acks are of what --end-to-end produces"
        );
        let target = Target::find(cluster, &self.target, Some(&self.create)).await?;
        match self.rate.filter(|_| self.end_to_end) {
            Some(rate) => self.end_to_end(cluster, &target, rate).await,
            None => self.consume(cluster, &target).await,
        }
    }

    async fn consume(&self, cluster: &Cluster, target: &Target) -> anyhow::Result<Report> {
        let start = self.from.at(cluster.world().clock.wall());
        let options = self.fetch.options(target.may_have_gaps(cluster).await?);
        let readers = self.readers(cluster, target, start, &options).await?;
        let window = Window::after(cluster.world().clock.now(), self.warmup, self.seconds);
        let mut report = Report::new("consume", target, readers.len(), self.seconds.as_secs_f64());
        let jobs = readers.into_iter().map(|reader| {
            let end = tokio::time::sleep_until(window.end);
            reader.run(window, end)
        });
        let read = crew::all(cluster.tasks(), "bench-reader", jobs.collect()).await?;
        self.tell(&mut report, &read);
        ensure!(
            report.records > 0,
            "nothing came in the time that counts: what there is may have come in --warmup"
        );
        let empty: u64 = read.iter().map(|one| one.empty).sum();
        report.more.insert("empty".to_owned(), json!(empty));
        if empty > 0 {
            report.notes.push(format!("the end was reached: {empty} fetches brought nothing"));
        }
        report.latency_of = "a fetch that brought batches, from being sent to all of its answer";
        read.iter().for_each(|one| report.latencies.add(&one.latencies));
        Ok(report)
    }

    async fn end_to_end(&self, cluster: &Cluster, target: &Target, rate: f64) -> anyhow::Result<Report> {
        let clock = cluster.world().clock;
        let (load, touched) =
            self.load.prepare(cluster, &self.target.topic, target, Compression::None).await?;
        let origin = clock.now();
        let writing = WriterOptions {
            acks: self.load.acks(),
            in_flight_max: IN_FLIGHT,
            batches_max: 1,
            producer: None,
            marked_from: Some(origin),
        };
        let alarms = Alarms::start(clock, cluster.tasks()).context("cannot have a timer")?;
        let mut writers = Vec::new();
        for leader in &target.leaders {
            writers
                .push(Writer::connect((clock, alarms.clone()), leader, &target.topic, &load, writing).await?);
        }
        let arrivals = Arc::new(Arrivals::default());
        let marked = Marked { mark: load.mark()?, from: origin, arrivals: arrivals.clone() };
        let options = ReaderOptions {
            marked: Some(marked),
            ..self.fetch.options(target.may_have_gaps(cluster).await?)
        };
        let readers = self.readers(cluster, target, Start::End, &options).await?;
        let window = Window::after(clock.now(), self.warmup, self.seconds);
        let mut report = Report::new("consume", target, readers.len(), self.seconds.as_secs_f64());
        // They read until all that was produced has come.
        let enough = cluster.tasks().cancelled().child_token();
        let _ends_with_this = enough.clone().drop_guard();
        let jobs = readers.into_iter().map(|reader| reader.run(window, enough.clone().cancelled_owned()));
        let reading = crew::all(cluster.tasks(), "bench-reader", jobs.collect());
        let producing = async {
            let written = write_all(cluster, writers, Some(rate), window).await?;
            let batches: u64 = written.iter().map(|one| one.batches_ever).sum();
            let wanted = batches * u64::from(self.consumers);
            let all_came = tokio::time::timeout(PATIENCE, arrivals.reach(wanted)).await;
            let told = || format!("of {wanted} batches only {} came within {PATIENCE:?}", arrivals.seen());
            all_came.with_context(told)?;
            enough.cancel();
            anyhow::Ok(written)
        };
        let (read, written) = tokio::try_join!(reading, producing)?;
        self.tell(&mut report, &read);
        tell_acknowledged(&mut report, &load, touched, &written);
        let seen = arrivals.seen();
        let wanted: u64 = written.iter().map(|one| one.batches_ever).sum::<u64>() * u64::from(self.consumers);
        ensure!(seen == wanted, "{seen} batches came, where {wanted} were produced");
        let (mut produced, mut late) = (Latencies::new(), Latencies::new());
        for one in &written {
            produced.add(&one.latencies);
            late.add(&one.late);
            // As in a run that only produces: they have waited at least for so long.
            report.latencies.add(&one.unsent);
        }
        let unsent = report.latencies.count();
        report.latency_of = "a batch, from when it was due to when it was fetched";
        read.iter().for_each(|one| report.latencies.add(&one.end_to_end));
        report.more.extend([
            ("rate".to_owned(), json!(rate)),
            ("record_size".to_owned(), json!(self.load.record_bytes())),
            ("batch_records".to_owned(), json!(load.record_count())),
            ("batch_bytes".to_owned(), json!(load.size().get())),
            ("produce_p50_ms".to_owned(), json!(produced.quantile_ms(0.5))),
            ("produce_p99_ms".to_owned(), json!(produced.quantile_ms(0.99))),
            ("late_p99_ms".to_owned(), json!(late.quantile_ms(0.99))),
            ("unsent".to_owned(), json!(unsent)),
        ]);
        let ms = |latencies: &Latencies, quantile| latencies.quantile_ms(quantile).unwrap_or_default();
        let (p50, p99) = (ms(&produced, 0.5), ms(&produced, 0.99));
        report.notes.push(format!("acknowledged to the producer: p50 {p50:.3} ms, p99 {p99:.3} ms"));
        report.notes.push(format!("99 of 100 batches were sent at most {:.3} ms late", ms(&late, 0.99)));
        if unsent > 0 {
            report.notes.push(not_reached(unsent, "batches"));
        }
        Ok(report)
    }

    async fn readers(
        &self,
        cluster: &Cluster,
        target: &Target,
        start: Start,
        options: &ReaderOptions,
    ) -> anyhow::Result<Vec<Reader>> {
        let starts = starts(cluster, &self.target.topic, &target.partitions(), start).await?;
        let mut readers = Vec::new();
        for _ in 0..self.consumers {
            readers.extend(connect(cluster, target, &starts, &BTreeMap::new(), options).await?);
        }
        Ok(readers)
    }

    fn tell(&self, report: &mut Report, read: &[Read]) {
        for one in read {
            report.records += one.records;
            report.bytes += one.bytes;
            report.batches += one.batches;
            report.requests += one.fetches;
        }
        report.more.extend([
            ("consumers".to_owned(), json!(self.consumers)),
            ("fetch_bytes".to_owned(), json!(self.fetch.fetch_bytes)),
            ("check_crc".to_owned(), json!(self.fetch.check_crc)),
        ]);
    }
}

/// Connects so that each partition is read once, from its start on, up to its end where it has one.
pub(super) async fn connect(
    cluster: &Cluster,
    target: &Target,
    starts: &BTreeMap<i32, Offset>,
    ends: &BTreeMap<i32, Offset>,
    options: &ReaderOptions,
) -> anyhow::Result<Vec<Reader>> {
    let mut readers = Vec::new();
    for leader in target.share_for_reading() {
        let position =
            |index: &i32| Some(Position::new(*index, *starts.get(index)?, ends.get(index).copied()));
        let positions = leader.partitions.iter().filter_map(position).collect();
        let clock = cluster.world().clock;
        readers.push(Reader::connect(clock, &leader, &target.topic, positions, options.clone()).await?);
    }
    Ok(readers)
}
