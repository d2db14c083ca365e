//! How fast history comes back: one partition, tiered whole, replayed by one consumer from a cold broker, against what plain
//! concurrent GETs of the same objects get through the same proxy in the same run; and what ten consumers cost the bucket.
//!
//! Who is measured against plain GETs, which look at nothing, is a consumer that looks at nothing but the headers of batches: `aquifer
//! bench replay`. kcat, the leanest client that gives records to somebody, needs about as much of these two cores as all the rest.

use crate::broker::Broker;
use crate::clients;
use crate::flags::Flags;
use crate::history::History;
use crate::machine;
use crate::network;
use crate::plain_gets;
use crate::run::{command, output};
use crate::s3::{self, Kind};
use crate::slow_proxy;
use crate::soak::{Load, Soak};
use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the history is, and its records.
pub(crate) const MB: u64 = 2000;
pub(crate) const VALUE_BYTES: u64 = 1000;
const TOPIC: &str = "replay";
/// What the cache is full of before a cold replay, and how much it takes to fill it.
const OTHER_TOPIC: &str = "other";
const OTHER_MB: u64 = 600;
const PREFIX: &str = "replay";
const TIERED_DEADLINE: Duration = Duration::from_secs(600);
const CONSUMERS: usize = 10;
/// What a consumer asks for at once.
const FETCH_BYTES: &str = "8388608";
/// As slow as S3 is to one connection.
const FIRST_BYTE: Duration = Duration::from_millis(30);
const RATE_MB: f64 = 90.0;
/// The share of plain GETs that one consumer of one partition must reach.
const SHARE_LEAST: f64 = 0.85;

/// One way through all of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Pass {
    /// Of the log, to all consumers.
    pub(crate) mb_per_s: f64,
    pub(crate) cpu_s_per_gb: f64,
    /// Requests to the store, where something counts them.
    pub(crate) gets: Option<u64>,
}

/// What came of one history's replays.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Replayed {
    /// MB/s of plain GETs of 8 MiB, 16 in flight: before, and after.
    pub(crate) plain: [f64; 2],
    /// Of the log.
    pub(crate) bytes: u64,
    pub(crate) cold: Pass,
    /// The same once more, with what the cache has kept.
    pub(crate) again: Pass,
    /// Cold, by one kcat.
    pub(crate) kcat: Pass,
    /// Cold, by ten of them.
    pub(crate) kcats: Pass,
}

impl Replayed {
    /// What one consumer gets of what plain GETs get.
    pub(crate) fn share(&self) -> f64 {
        self.cold.mb_per_s / self.plain_mb_per_s()
    }

    pub(crate) fn plain_mb_per_s(&self) -> f64 {
        (self.plain[0] + self.plain[1]) / 2.0
    }
}

/// Where the history is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// In MinIO, behind a proxy that is as slow as S3.
    Slow,
    /// In MinIO. Nothing counts the requests, and nothing costs time.
    Bare,
}

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let mb: u64 = flags.take("mb", MB)?;
    let value_bytes: u64 = flags.take("value-bytes", VALUE_BYTES)?;
    let proxied: String = flags.take("proxy", "yes".to_owned())?;
    flags.end()?;
    install()?;
    network::enter_own()?;
    let store = if proxied == "yes" { Store::Slow } else { Store::Bare };
    let replayed = measure(binary, store, mb, value_bytes)?;
    let (share, Replayed { plain, bytes, cold, again, kcat, kcats }) = (replayed.share(), &replayed);
    println!("plain GETs, 16 in flight, 8 MiB each: {:.0} MB/s before, {:.0} after", plain[0], plain[1]);
    let line = |name: &str, pass: &Pass| {
        let gets = pass.gets.map_or_else(String::new, |gets| format!(", {gets} GETs"));
        println!("{name}: {:.0} MB/s, {:.2} s of CPU a GB{gets}", pass.mb_per_s, pass.cpu_s_per_gb);
    };
    line("replay, cold, 1 consumer", cold);
    line("replay again, 1 consumer", again);
    line("replay, cold, 1 kcat", kcat);
    line("replay, cold, 10 kcats (MB/s of all)", kcats);
    println!("replay: {share:.2} of what plain GETs get");
    ensure!(store == Store::Bare || share >= SHARE_LEAST, "less than {SHARE_LEAST} of what plain GETs get");
    if let (Some(one), Some(all)) = (kcat.gets, kcats.gets) {
        println!("GETs a GB: {:.0}", one as f64 / (*bytes as f64 / 1e9));
        ensure!(all as f64 <= one as f64 * 1.1, "{CONSUMERS} consumers made {all} GETs, one made {one}");
    }
    Ok(())
}

/// All that needs the world outside.
pub(crate) fn install() -> Result<()> {
    machine::require("kcat")?;
    Kind::MinIo.install()?;
    clients::go_program().map(drop)
}

/// Writes a history of so many MB, and replays it. Wants a network of its own, and `install` before.
pub(crate) fn measure(binary: &Path, store: Store, mb: u64, value_bytes: u64) -> Result<Replayed> {
    let minio = Kind::MinIo.start()?;
    let (first_byte, rate_mb) = match store {
        Store::Slow => (FIRST_BYTE, RATE_MB),
        Store::Bare => (Duration::ZERO, f64::INFINITY),
    };
    let (proxy, counted) = slow_proxy::spawn(&minio.address(), first_byte, rate_mb)?;
    let address = match store {
        Store::Slow => counted,
        Store::Bare => minio.address(),
    };

    let settings = [
        ("log.segment.bytes", "134217728"),
        ("tier.roll.ms", "1000"),
        ("log.local.retention.ms", "1000"),
        ("log.retention.check.interval.ms", "500"),
    ];
    let mut broker = Broker::start(binary, "replay", &s3::url(&address, PREFIX), &settings)?;
    let other = fill(&mut broker, OTHER_TOPIC, OTHER_MB, value_bytes)?;
    let written = fill(&mut broker, TOPIC, mb, value_bytes)?;
    plain_gets::make_bucket_readable(&minio.address(), s3::BUCKET)?;
    let plain = || plain_gets::read_prefix(&address, s3::BUCKET, PREFIX).map(|done| done.mb_per_second());
    let gets = || (store == Store::Slow).then(|| proxy.requests("GET"));

    // Cold: of this history nothing is cached. The cache is full of another, as it is in a broker that has run for a while.
    let forget = |broker: &mut Broker| -> Result<()> {
        broker.end_and_restart()?;
        by_bench(broker, &other, &gets).map(drop)
    };
    forget(&mut broker)?;
    let before = plain()?;
    let (cold, bytes) = by_bench(&broker, &written, &gets)?;
    let after = plain()?;
    let (again, _) = by_bench(&broker, &written, &gets)?;
    forget(&mut broker)?;
    let kcat = by_kcat(&broker, &written, (bytes, 1), &gets)?;
    forget(&mut broker)?;
    let kcats = by_kcat(&broker, &written, (bytes, CONSUMERS), &gets)?;
    broker.end()?;
    Ok(Replayed { plain: [before, after], bytes, cold, again, kcat, kcats })
}

/// What the one partition holds.
#[derive(Debug)]
struct Written {
    topic: &'static str,
    records: u64,
}

/// Produces so many MB to a topic of one partition and waits until nearly all of it is in the bucket alone.
fn fill(broker: &mut Broker, topic: &'static str, mb: u64, value_bytes: u64) -> Result<Written> {
    broker.create_topic(topic, 1)?;
    let history = History::begin(&format!("replay-{topic}"))?;
    let load = Load { topic, producer: 1, rate: 0, value_bytes };
    let mut soak = Soak::start(&broker.bootstrap, load, &history.of("soak"))?;
    soak.wait_for_more(mb * 1_000_000 / value_bytes)?;
    let records = soak.end()?.whole()?;
    broker.wait_until_no_lag(TIERED_DEADLINE)?;
    let share = broker.wait_until_tiered(topic, 0.98, TIERED_DEADLINE)?;
    let (mb, percent) = (records * value_bytes / 1_000_000, share * 100.0);
    println!("   {mb} MB written to {topic}, {percent:.0}% of it in the bucket alone");
    Ok(Written { topic, records })
}

/// One consumer reads all of it, over one connection; gives how many bytes of the log that were, too.
fn by_bench(broker: &Broker, written: &Written, gets: &dyn Fn() -> Option<u64>) -> Result<(Pass, u64)> {
    let (gets_before, cpu_before) = (gets(), broker.cpu()?);
    let words = ["bench", "replay", "--connections", "1", "--fetch-bytes", FETCH_BYTES];
    let said = output(broker.ask(words).args(["--topic", written.topic, "--json"]))?;
    let found: Value = serde_json::from_str(&said).with_context(|| format!("aquifer bench said {said}"))?;
    let told = |name: &str| found[name].as_f64().with_context(|| format!("no {name} in {found}"));
    let (records, bytes) = (told("records")? as u64, told("bytes")?);
    ensure!(records == written.records, "{records} of {} records were read", written.records);
    let pass = Pass {
        mb_per_s: bytes / 1e6 / told("seconds")?,
        cpu_s_per_gb: (broker.cpu()? - cpu_before).as_secs_f64() / (bytes / 1e9),
        gets: gets().zip(gets_before).map(|(after, before)| after - before),
    };
    Ok((pass, bytes as u64))
}

/// So many kcats at once read all of it, so many bytes each.
fn by_kcat(
    broker: &Broker,
    written: &Written,
    (bytes, consumers): (u64, usize),
    gets: &dyn Fn() -> Option<u64>,
) -> Result<Pass> {
    let records = written.records.to_string();
    let (gets_before, cpu_before, start) = (gets(), broker.cpu()?, Instant::now());
    let read = || -> Result<u64> {
        let mut kcat = command("kcat", ["-C", "-b", &broker.bootstrap, "-t", written.topic, "-p", "0"]);
        // It ends with the last record: waiting for the end of the partition would be half a second of long poll. One byte a
        // record on its output: enough to count them.
        kcat.args(["-o", "beginning", "-c", &records, "-q", "-f", "."]);
        Ok(output(kcat.args(["-X", &format!("fetch.message.max.bytes={FETCH_BYTES}")]))?.len() as u64)
    };
    // All at once, and each one's output read as it comes.
    std::thread::scope(|scope| {
        let reading: Vec<_> = (0..consumers).map(|_| scope.spawn(read)).collect();
        for consumer in reading {
            let records = consumer.join().map_err(|_| anyhow!("a consumer's thread panicked"))??;
            ensure!(records == written.records, "a consumer read {records} records, not {}", written.records);
        }
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let total = (bytes * consumers as u64) as f64;
    Ok(Pass {
        mb_per_s: total / 1e6 / seconds,
        cpu_s_per_gb: (broker.cpu()? - cpu_before).as_secs_f64() / (total / 1e9),
        gets: gets().zip(gets_before).map(|(after, before)| after - before),
    })
}
