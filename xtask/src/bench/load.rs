//! `aquifer bench` against a contender, and what the broker paid for it.

use super::cases::Case;
use super::contender::Contender;
use crate::run::{output, shown};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{Duration, Instant};

const REPLAY: &str = "replay --connections 4";

/// One run's figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) mb_per_s: f64,
    pub(crate) records_per_s: f64,
    pub(crate) requests_per_s: f64,
    /// Of the broker's process, all threads: seconds a GB of batches.
    pub(crate) cpu_s_per_gb: f64,
    /// The same for each request.
    pub(crate) cpu_us_per_request: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    pub(crate) resident_mb: f64,
    /// From the start of the process until a topic was made.
    pub(crate) ready_ms: f64,
}

/// Both keep the records for themselves: what uploading costs is a matter of its own.
const SETTINGS: [&str; 1] = ["remote.storage.enable=false"];

/// Prepares a case's topic, warms up, measures, and reads all back.
pub(crate) fn run(contender: &Contender, case: &Case, warm: Duration, during: Duration) -> Result<Figures> {
    let topic = case.name;
    let ready_after = contender.create_topic(topic, case.partitions, &SETTINGS)?;
    let mut written = 0;
    if case.filled_mb > 0 {
        written += fill(contender, topic, case.filled_mb)?;
    }
    let warmed = measure(contender, case, warm)?;
    let before = contender.cpu()?;
    let found = measure(contender, case, during)?;
    let cpu = (contender.cpu()? - before).as_secs_f64();
    ensure!(found.bytes > 0.0 && found.requests > 0.0, "{}: nothing was done", case.name);
    written += warmed.written + found.written;
    let read = count(&ask(contender, REPLAY, topic, Duration::ZERO)?, "records")?;
    ensure!(read == written, "{}: {written} records were acknowledged, {read} are there", case.name);
    Ok(Figures {
        mb_per_s: found.bytes / 1e6 / found.seconds,
        records_per_s: found.records / found.seconds,
        requests_per_s: found.requests / found.seconds,
        cpu_s_per_gb: cpu / (found.bytes / 1e9),
        cpu_us_per_request: cpu / found.requests * 1e6,
        p50_ms: found.p50_ms,
        p99_ms: found.p99_ms,
        p999_ms: found.p999_ms,
        resident_mb: contender.resident_bytes()? as f64 / 1e6,
        ready_ms: ready_after.as_secs_f64() * 1e3,
    })
}

/// What a case came to: of a replay, which is over once all is read, as many as the time is enough for.
#[derive(Debug, Default)]
struct Found {
    bytes: f64,
    records: f64,
    requests: f64,
    seconds: f64,
    /// Records that were acknowledged, in the time that counts or not.
    written: u64,
    /// Of the slowest, if there was more than one.
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

fn measure(contender: &Contender, case: &Case, during: Duration) -> Result<Found> {
    let mut all = Found::default();
    let began = Instant::now();
    loop {
        let one = ask(contender, case.words, case.name, during)?;
        all.add(&one).with_context(|| format!("{}: {one}", case.name))?;
        if !case.words.starts_with("replay") || began.elapsed() >= during {
            return Ok(all);
        }
    }
}

impl Found {
    fn add(&mut self, one: &Value) -> Result<()> {
        // End to end, both sides ask.
        let of_producers = one["produce_requests"].as_f64().unwrap_or_default();
        self.bytes += number(one, "bytes")?;
        self.records += number(one, "records")?;
        self.requests += number(one, "requests")? + of_producers;
        self.seconds += number(one, "seconds")?;
        self.written += written(one);
        // What has no latency says so by null.
        let ms = |name: &str| one[name].as_f64().unwrap_or_default();
        self.p50_ms = self.p50_ms.max(ms("p50_ms"));
        self.p99_ms = self.p99_ms.max(ms("p99_ms"));
        self.p999_ms = self.p999_ms.max(ms("p999_ms"));
        Ok(())
    }
}

/// Writes so much; gives the records.
fn fill(contender: &Contender, topic: &str, mb: u64) -> Result<u64> {
    let (mut records, mut bytes) = (0, 0.0);
    while bytes < mb as f64 * 1e6 {
        let words = "produce --record-size 1024 --batch-bytes 65536 --acks 1 --connections 4 --in-flight 4";
        let found = ask(contender, words, topic, Duration::from_secs(2))?;
        records += written(&found);
        bytes += number(&found, "bytes")?;
    }
    Ok(records)
}

fn ask(contender: &Contender, words: &str, topic: &str, during: Duration) -> Result<Value> {
    let mut bench = contender.ask(["bench"]);
    bench.args(words.split(' ')).args(["--topic", topic, "--json"]);
    if !words.starts_with("replay") {
        bench.args(["--warmup", "0", "--seconds", &during.as_secs().to_string()]);
    }
    let said = output(&mut bench)?;
    serde_json::from_str(&said).with_context(|| format!("{} said {said}", shown(&bench)))
}

fn number(found: &Value, name: &str) -> Result<f64> {
    found[name].as_f64().with_context(|| format!("no {name} in {found}"))
}

/// All records that a run wrote and that were acknowledged; one that only reads has none.
fn written(found: &Value) -> u64 {
    found["acknowledged"].as_u64().unwrap_or_default()
}

fn count(found: &Value, name: &str) -> Result<u64> {
    found[name].as_u64().with_context(|| format!("no {name} in {found}"))
}
