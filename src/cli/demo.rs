//! `aquifer demo`: the whole story in under a minute. Produces records over a socket, waits until they are sealed, uploaded and
//! dropped from the local disk, and replays all of them from the bucket, twice; every record is compared by checksum.
//!
//! The broker is the real one, in this process, with its data and a `file://` bucket in a temporary folder. Only its settings
//! are those of an impatient person: small segments, sealed at once, nothing kept locally.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use aquifer_model::batch::{BatchHeader, HEADER_BYTES};
use aquifer_model::batches::Batches;
use aquifer_model::record;
use aquifer_model::{ByteCount, TopicName};
use aquifer_runtime::World;
use aquifer_runtime::tasks::TaskGroup;
use bytes::Bytes;
use clap::Args;
use sha2::{Digest as _, Sha256};

use super::cluster::Cluster;
use super::consumer::{Consumer, ConsumerOptions, Start, Stop};
use super::output::{Output, Table};
use super::producer::{NewRecord, Producer, ProducerOptions};
use super::progress::Step;
use crate::broker::{Broker, Report};
use crate::config::{Config, Endpoint, Sources};
use crate::net::PeerOptions;

const TOPIC: &str = "history";
const PARTITIONS: i32 = 4;
/// Length of a record's value.
const VALUE_BYTES: usize = 1024;
/// How long sealing, uploading and dropping may take.
const UPLOAD_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at how far that is.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What `aquifer demo` takes.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Megabytes to produce
    #[arg(long, value_name = "MB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    size_mb: u32,
    /// Leave data and bucket behind, to look at
    #[arg(long)]
    keep: bool,
}

impl DemoArgs {
    fn size(&self) -> ByteCount {
        ByteCount::mib(u64::from(self.size_mb))
    }
}

/// What one partition holds: how many records, and a checksum over their values in order.
#[derive(Clone)]
struct Contents {
    records: u64,
    hash: Sha256,
}

/// One pass over the whole topic.
struct Pass {
    bytes: ByteCount,
    took: Duration,
}

/// Shows it all; an error means that something was not as promised.
pub async fn run(options: DemoArgs) -> anyhow::Result<()> {
    let world = World::system();
    let folder = Folder::make(&world)?;
    let client = TaskGroup::new();
    let step = Step::begin("start", None);
    let began = world.clock.now();
    let broker =
        Broker::start(config(&folder.path)?, world.clone()).await.context("cannot start the broker")?;
    step.end(format_args!("a broker with an embedded bucket, ready in {:.0?}", began.elapsed()));
    let outcome = story(&options, &world, &broker, &client).await;
    client.stop(Duration::from_secs(5)).await.context("the client did not stop")?;
    broker.stop().await.context("the broker did not stop in order")?;
    if options.keep {
        println!("kept: {}", folder.path.display());
    } else {
        folder.remove(&world)?;
    }
    outcome?;
    println!("replay verified");
    Ok(())
}

async fn story(options: &DemoArgs, world: &World, broker: &Broker, client: &TaskGroup) -> anyhow::Result<()> {
    let address = broker.addresses().first().context("the broker listens nowhere")?;
    let endpoint = Endpoint { host: address.ip().to_string(), port: address.port() };
    let cluster = Cluster::new(world, client, vec![endpoint], PeerOptions::default());
    let topic = TopicName::new(TOPIC)?;
    let (written, produced) = produce(options, world, &cluster, &topic).await?;
    let uploaded = upload(world, broker, options.size()).await?;
    let before = broker.report();
    let cold = replay(world, "replay cold", &cluster, &topic, &written, options.size()).await?;
    let after_cold = broker.report();
    let cached = replay(world, "replay again", &cluster, &topic, &written, options.size()).await?;
    let after_cached = broker.report();
    let records = written.iter().map(|contents| contents.records).sum();
    let summary =
        Summary { records, written, produced, uploaded, before, after_cold, after_cached, cold, cached };
    summary.print()?;
    Ok(())
}

async fn produce(
    options: &DemoArgs,
    world: &World,
    cluster: &Cluster,
    topic: &TopicName,
) -> anyhow::Result<(Vec<Contents>, Pass)> {
    let step = Step::begin("produce", Some(options.size()));
    let began = world.clock.now();
    let mut producer = Producer::open(cluster, topic, ProducerOptions::default()).await?;
    let mut contents = vec![Contents { records: 0, hash: Sha256::new() }; PARTITIONS as usize];
    let count = options.size().get().div_ceil(VALUE_BYTES as u64);
    for number in 0..count {
        let partition = (number % contents.len() as u64) as usize;
        let value = value_of(number);
        contents[partition].add(&value);
        let record =
            NewRecord { key: None, value: Some(&value), headers: &[], timestamp: world.clock.wall() };
        producer.send(Some(partition as i32), record).await?;
        if number % 1024 == 0 {
            step.set(ByteCount(number * VALUE_BYTES as u64));
        }
    }
    let written = producer.finish().await?;
    ensure!(written.records == count, "{} of {count} records were acknowledged", written.records);
    let took = began.elapsed();
    let pass = Pass { bytes: written.bytes, took };
    step.end(format_args!("{count} records acknowledged, synced to disk, {}", pass.rate()));
    Ok((contents, pass))
}

/// Some bytes that are neither all alike nor random, different for each record.
fn value_of(number: u64) -> [u8; VALUE_BYTES] {
    let mut value = [b' '; VALUE_BYTES];
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in value.chunks_exact_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes());
    }
    value
}

/// Waits until everything is in the bucket and nothing of it on the local disk.
async fn upload(world: &World, broker: &Broker, size: ByteCount) -> anyhow::Result<Duration> {
    let step = Step::begin("upload", Some(size));
    let began = world.clock.now();
    let deadline = began + UPLOAD_PATIENCE;
    loop {
        let report = broker.report();
        step.set(report.tiered);
        if report.tiered >= size && report.local == ByteCount::ZERO {
            step.end(format_args!(
                "{} in {} objects; nothing is left on the local disk",
                report.tiered, report.objects
            ));
            return Ok(began.elapsed());
        }
        ensure!(
            world.clock.now() < deadline,
            "after {UPLOAD_PATIENCE:?} {} are still only local",
            report.local
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn replay(
    world: &World,
    name: &'static str,
    cluster: &Cluster,
    topic: &TopicName,
    written: &[Contents],
    size: ByteCount,
) -> anyhow::Result<Pass> {
    let step = Step::begin(name, Some(size));
    let began = world.clock.now();
    let mut read = vec![Contents { records: 0, hash: Sha256::new() }; written.len()];
    let mut bytes = ByteCount::ZERO;
    let options = ConsumerOptions::default();
    let mut consumer = Consumer::open(cluster, topic, &[], Start::Beginning, Stop::AtEnd, options).await?;
    while let Some(fetched) = consumer.next().await? {
        bytes += ByteCount(fetched.batches.len() as u64);
        read[usize::try_from(fetched.partition)?].add_batches(&fetched.batches)?;
        step.set(bytes);
    }
    let pass = Pass { bytes, took: began.elapsed() };
    for (partition, (written, read)) in written.iter().zip(&read).enumerate() {
        ensure!(
            written.checksum() == read.checksum(),
            "partition {partition}: {} records were written, {} came back, or others",
            written.records,
            read.records
        );
    }
    step.end(format_args!("{} from the first offset to the last, {}", pass.bytes, pass.rate()));
    Ok(pass)
}

impl Contents {
    fn add(&mut self, value: &[u8]) {
        self.records += 1;
        self.hash.update(value);
    }

    fn add_batches(&mut self, batches: &Bytes) -> anyhow::Result<()> {
        for located in Batches::new(batches) {
            let whole = batches.slice(located.position..located.position + located.header.size());
            located.header.verify(&whole)?;
            self.add_batch(&located.header, &whole.slice(HEADER_BYTES..))?;
        }
        Ok(())
    }

    fn add_batch(&mut self, header: &BatchHeader, records: &Bytes) -> anyhow::Result<()> {
        for record in record::read(header, records)? {
            ensure!(
                record.offset.get() as u64 == self.records,
                "offset {} is not {}",
                record.offset,
                self.records
            );
            self.add(&record.value.context("a value is missing")?);
        }
        Ok(())
    }

    fn checksum(&self) -> (u64, [u8; 32]) {
        (self.records, self.hash.clone().finalize().into())
    }
}

impl Pass {
    fn rate(&self) -> String {
        let megabytes = self.bytes.get() as f64 / 1e6;
        format!("{:.0} MB/s", megabytes / self.took.as_secs_f64())
    }
}

struct Summary {
    records: u64,
    written: Vec<Contents>,
    produced: Pass,
    uploaded: Duration,
    before: Report,
    after_cold: Report,
    after_cached: Report,
    cold: Pass,
    cached: Pass,
}

impl Summary {
    fn print(&self) -> anyhow::Result<()> {
        let mut table = Table::new(&["", "value"]);
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        let requests = |from: &Report, to: &Report| (to.requests - from.requests).to_string();
        row("records", self.records.to_string());
        row("bytes produced", self.produced.bytes.to_string());
        row("bytes on the local disk", self.before.local.to_string());
        row("bytes in the bucket", self.before.tiered.to_string());
        row("objects", self.before.objects.to_string());
        row("requests to upload", self.before.requests.to_string());
        row("upload done after", format!("{:.1?}", self.uploaded));
        row("produce, acks=all, synced", self.produced.rate());
        row(
            "replay, cold",
            format!("{}, {} requests", self.cold.rate(), requests(&self.before, &self.after_cold)),
        );
        row(
            "replay, cached",
            format!("{}, {} requests", self.cached.rate(), requests(&self.after_cold, &self.after_cached)),
        );
        for (partition, contents) in self.written.iter().enumerate() {
            let (records, hash) = contents.checksum();
            let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            row(
                &format!("SHA-256 of partition {partition}"),
                format!("{hash}.. over {records} records, three times"),
            );
        }
        let mut output = Output::stdout();
        output.table(&table)?;
        output.flush()?;
        Ok(())
    }
}

fn config(folder: &Path) -> anyhow::Result<Config> {
    let bucket = folder.join("bucket");
    let sets = [
        "listeners=PLAINTEXT://127.0.0.1:0".to_owned(),
        "admin.listen=".to_owned(),
        format!("log.dirs={}", folder.join("data").display()),
        format!("tier.object.store=file://{}", bucket.display()),
        format!("num.partitions={PARTITIONS}"),
        "log.segment.bytes=16777216".to_owned(),
        "log.local.retention.ms=1".to_owned(),
        "tier.roll.ms=1000".to_owned(),
        "tier.check.interval.ms=50".to_owned(),
    ];
    Ok(Config::load(Sources { sets: sets.to_vec(), ..Sources::default() })?)
}

/// A folder for one run.
struct Folder {
    path: PathBuf,
}

impl Folder {
    fn make(world: &World) -> anyhow::Result<Folder> {
        let path = std::env::temp_dir().join(format!("aquifer-demo-{}", world.rng.uuid()));
        world
            .disk
            .create_dir_all(&path.join("bucket"))
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Folder { path })
    }

    fn remove(self, world: &World) -> anyhow::Result<()> {
        world
            .disk
            .remove_dir_all(&self.path)
            .with_context(|| format!("cannot remove {}", self.path.display()))
    }
}
