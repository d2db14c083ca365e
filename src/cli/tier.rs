//! `aquifer tier`: what is in the bucket. `ls`, `verify` and `cat` need only the bucket; `status` asks a running broker's admin port
//! how far its uploads are.

use anyhow::{Context as _, bail, ensure};
use aquifer_model::batch::{BatchHeader, HEADER_BYTES};
use aquifer_model::{ByteCount, Offset, PartitionIndex, TopicPartition, record};
use aquifer_runtime::World;
use aquifer_runtime::sockets::Stream;
use aquifer_tiering::cluster::read_marker;
use aquifer_tiering::inspect::{Listing, VerifyOptions, cat, list, topic_named, verify};
use aquifer_tiering::store::StoreMetrics;
use aquifer_tiering::{Store, StoreOptions};
use bytes::Bytes;
use clap::{Args, Subcommand};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::format::Format;
use super::output::{Output, Table};

/// The most that an answer of the admin port may be.
const STATUS_BYTES_MAX: u64 = 256 << 20;
/// The most that a batch may expand to.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// What `aquifer tier` takes.
#[derive(Debug, Args)]
pub struct TierArgs {
    #[command(subcommand)]
    command: TierCommand,
}

#[derive(Debug, Subcommand)]
enum TierCommand {
    /// How far a running broker's uploads are, and how far behind
    Status(StatusArgs),
    /// List topics, partitions and segments in a bucket
    Ls(LsArgs),
    /// Check that all that a bucket's manifests name is there and sound; exit code 1 if not
    Verify(VerifyArgs),
    /// Print records straight from a bucket
    Cat(CatArgs),
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// The broker's admin port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9640")]
    admin: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StoreArgs {
    /// The bucket: s3://, file:///
    #[arg(long, value_name = "URL")]
    object_store: String,
}

#[derive(Debug, Args)]
struct LsArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Only this topic, by name or id
    topic: Option<String>,
    /// Show each segment
    #[arg(long, short)]
    segments: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Read every byte and check every checksum
    #[arg(long)]
    deep: bool,
    /// Only this topic, by name
    topic: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CatArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Topic, by name
    topic: String,
    /// Partition
    #[arg(default_value_t = 0)]
    partition: i32,
    /// First offset; where it has expired, the first that is left
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    offset: i64,
    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,
    /// How a record is printed
    #[arg(long, value_name = "TEMPLATE", default_value = "{value}\\n")]
    format: String,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl TierArgs {
    /// Runs it.
    pub async fn run(self, world: &World) -> anyhow::Result<()> {
        match self.command {
            TierCommand::Status(args) => args.run().await,
            TierCommand::Ls(args) => args.run(world).await,
            TierCommand::Verify(args) => args.run(world).await,
            TierCommand::Cat(args) => args.run(world).await,
        }
    }
}

impl StoreArgs {
    async fn open(&self, world: &World) -> anyhow::Result<Store> {
        let metrics = StoreMetrics::default();
        let store = Store::open(&self.object_store, StoreOptions::default(), world.clone(), metrics).await?;
        store.check().await?;
        let url = &self.object_store;
        let marker = read_marker(&store).await?;
        ensure!(marker.is_some(), "no cluster has its records at {url}: is its prefix mistyped?");
        Ok(store)
    }
}

impl StatusArgs {
    async fn run(self) -> anyhow::Result<()> {
        let status = self.fetch().await?;
        let mut out = Output::stdout();
        if self.json {
            out.json(&status)?;
            return Ok(out.flush()?);
        }
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        let bytes = |value: &Value| ByteCount(value.as_u64().unwrap_or(0)).to_string();
        let mut table = Table::new(&[
            "topic",
            "partition",
            "role",
            "log start",
            "local start",
            "tiered end",
            "log end",
            "local",
            "tiered",
            "lag",
            "lag segments",
            "lag ms",
            "exposed ms",
            "error",
        ]);
        for partition in status["partitions"].as_array().context("the answer has no partitions")? {
            let cell = |name: &str| text(&partition[name]);
            table.row([
                cell("topic"),
                cell("partition"),
                cell("role"),
                cell("log_start"),
                cell("local_start"),
                cell("tiered_end"),
                cell("log_end"),
                bytes(&partition["local_bytes"]),
                bytes(&partition["tiered_bytes"]),
                bytes(&partition["upload_lag_bytes"]),
                cell("upload_lag_segments"),
                cell("upload_lag_ms"),
                cell("exposed_ms"),
                cell("upload_error"),
            ]);
        }
        out.table(&table)?;
        for partition in status["partitions"].as_array().into_iter().flatten() {
            for damaged in partition["damaged"].as_array().into_iter().flatten() {
                let (topic, number) = (text(&partition["topic"]), text(&partition["partition"]));
                out.line(format_args!("DAMAGED {topic}-{number}: {}", text(damaged)))?;
            }
        }
        let totals = &status["totals"];
        out.line(format_args!("bucket: {}", text(&status["tier"]["url"])))?;
        out.line(format_args!(
            "if all local disks were lost now, the last {} ms of records would be: they are not in the bucket yet",
            text(&totals["exposed_ms"])
        ))?;
        if let Some(local_only @ 1..) = totals["local_only"].as_u64() {
            out.line(format_args!("and all records of {local_only} partitions, which are not tiered"))?;
        }
        Ok(out.flush()?)
    }

    /// A plain HTTP/1.0 exchange: the admin port is ours, and on loopback.
    async fn fetch(&self) -> anyhow::Result<Value> {
        let exchange = async {
            let mut stream = Stream::connect(self.admin.as_str()).await?;
            let request = format!("GET /api/status HTTP/1.0\r\nHost: {}\r\n\r\n", self.admin);
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            (&mut stream).take(STATUS_BYTES_MAX).read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer =
            exchange.await.with_context(|| format!("cannot ask the admin port at {}", self.admin))?;
        let answer = String::from_utf8(answer).context("the answer is no text")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
        let first = head.lines().next().unwrap_or_default();
        ensure!(first.contains(" 200 "), "{} answered {first:?}", self.admin);
        Ok(serde_json::from_str(body)?)
    }
}

impl LsArgs {
    async fn run(self, world: &World) -> anyhow::Result<()> {
        let store = self.store.open(world).await?;
        let mut listing = list(&store).await?;
        if let Some(wanted) = &self.topic {
            listing.topics.retain(|topic| topic.id == *wanted || topic.name.as_ref() == Some(wanted));
            ensure!(!listing.topics.is_empty(), "no topic {wanted:?} in {}", store.url());
        }
        let mut out = Output::stdout();
        if self.json {
            out.json(&serde_json::to_value(&listing)?)?;
            return Ok(out.flush()?);
        }
        out.line(format_args!("{}  cluster {}", listing.store, listing.cluster.as_deref().unwrap_or("-")))?;
        if self.segments {
            segments(&listing, &mut out)?
        } else {
            partitions(&listing, &mut out)?
        }
        Ok(out.flush()?)
    }
}

fn partitions(listing: &Listing, out: &mut Output) -> anyhow::Result<()> {
    let mut table = Table::new(&[
        "topic",
        "partition",
        "segments",
        "bytes",
        "log start",
        "end",
        "epoch",
        "version",
        "state",
    ]);
    for topic in &listing.topics {
        for partition in &topic.partitions {
            table.row([
                topic.name.clone().unwrap_or_else(|| topic.id.clone()),
                partition.partition.to_string(),
                partition.segments.len().to_string(),
                ByteCount(partition.log_bytes).to_string(),
                partition.log_start.to_string(),
                partition.end.map_or_else(|| "-".to_owned(), |end| end.to_string()),
                partition.leader_epoch.to_string(),
                partition.version.to_string(),
                if partition.deleted || topic.deleted { "deleted" } else { "live" }.to_owned(),
            ]);
        }
    }
    Ok(out.table(&table)?)
}

fn segments(listing: &Listing, out: &mut Output) -> anyhow::Result<()> {
    let mut table =
        Table::new(&["topic", "partition", "base", "next", "bytes", "newest timestamp", "object"]);
    for topic in &listing.topics {
        for partition in &topic.partitions {
            for segment in &partition.segments {
                table.row([
                    topic.name.clone().unwrap_or_else(|| topic.id.clone()),
                    partition.partition.to_string(),
                    segment.base.to_string(),
                    segment.next.to_string(),
                    ByteCount(segment.log_bytes).to_string(),
                    segment.timestamp_max.to_string(),
                    segment.object.clone(),
                ]);
            }
        }
    }
    Ok(out.table(&table)?)
}

impl VerifyArgs {
    async fn run(self, world: &World) -> anyhow::Result<()> {
        let store = self.store.open(world).await?;
        let mut options = VerifyOptions { deep: self.deep, topic: None };
        if let Some(name) = &self.topic {
            let found = topic_named(&store, name).await?;
            let (topic, _) = found.with_context(|| format!("no topic {name:?} in {}", store.url()))?;
            options.topic = Some(topic);
        }
        let report = verify(&store, options).await?;
        let mut out = Output::stdout();
        if self.json {
            out.json(&serde_json::to_value(&report)?)?;
        } else {
            for problem in &report.problems {
                let object = problem.object.as_deref().unwrap_or("-");
                out.line(format_args!(
                    "{} {}: {} ({object})",
                    problem.topic, problem.partition, problem.what
                ))?;
            }
            for orphan in &report.orphans {
                out.line(format_args!("orphan: {} ({})", orphan.object, ByteCount(orphan.bytes)))?;
            }
            out.line(format_args!(
                "{} partitions, {} segments, {} of records, {} read, {} batches checked, {} waiting for their grace, {} orphans, {} problems",
                report.partitions,
                report.segments,
                ByteCount(report.log_bytes),
                ByteCount(report.read_bytes),
                report.batches,
                report.removed,
                report.orphans.len(),
                report.problems.len()
            ))?;
        }
        out.flush()?;
        if !report.is_clean() {
            bail!("the bucket is damaged: {} problems", report.problems.len());
        }
        Ok(())
    }
}

impl CatArgs {
    async fn run(self, world: &World) -> anyhow::Result<()> {
        let store = self.store.open(world).await?;
        let found = topic_named(&store, &self.topic).await?;
        let (topic, count) =
            found.with_context(|| format!("no topic {:?} in {}", self.topic, store.url()))?;
        ensure!(
            u32::try_from(self.partition).is_ok_and(|partition| partition < count),
            "topic {:?} has {count} partitions",
            self.topic
        );
        let format =
            if self.json { Format::Json } else { Format::parse(&self.format).map_err(anyhow::Error::msg)? };
        let from = Offset::new(self.offset).context("an offset is not negative")?;
        let partition = TopicPartition { topic, partition: PartitionIndex(self.partition) };
        let mut batches = cat(&store, partition, from);
        let mut out = Output::stdout();
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0
            && let Some(batch) = batches.next().await
        {
            for record in records(&batch?)?.into_iter().filter(|record| record.offset >= from) {
                if left == 0 {
                    break;
                }
                format.write(&mut out, &self.topic, self.partition, &record)?;
                left -= 1;
            }
        }
        Ok(out.flush()?)
    }
}

fn records(batch: &Bytes) -> anyhow::Result<Vec<record::Record>> {
    let header = BatchHeader::parse(batch)?;
    header.verify(batch)?;
    if header.is_control() {
        return Ok(Vec::new());
    }
    let packed = batch.slice(HEADER_BYTES..header.size());
    let records = match header.compression() {
        aquifer_model::compression::Compression::None => packed,
        codec => Bytes::from(codec.decompress(&packed, BATCH_BYTES_MAX)?),
    };
    Ok(record::read(&header, &records)?)
}
