//! `aquifer bench` against a contender, and what the broker paid for it.

use super::cases::Case;
use super::contender::Contender;
use crate::run::{output, shown};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

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
    /// From the start of the process until it took requests.
    pub(crate) ready_ms: f64,
}

/// Prepares a case's topic, warms up, measures, and reads all back.
pub(crate) fn run(contender: &Contender, case: &Case, warm: Duration, during: Duration) -> Result<Figures> {
    let topic = case.name;
    contender.create_topic(topic, case.partitions, &[])?;
    let mut written = 0;
    if case.filled_mb > 0 {
        written += fill(contender, topic, case.filled_mb)?;
    }
    let consumes = case.words.starts_with("consume");
    let warmed = ask(contender, case.words, topic, warm)?;
    let before = contender.cpu()?;
    let found = ask(contender, case.words, topic, during)?;
    let cpu = (contender.cpu()? - before).as_secs_f64();
    let (bytes, requests) = (number(&found, "bytes")?, number(&found, "requests")?);
    ensure!(bytes > 0.0 && requests > 0.0, "{}: nothing was done", case.name);
    if !consumes {
        written += count(&warmed, "records")? + count(&found, "records")?;
        let read = ask(contender, "replay --connections 4", topic, Duration::ZERO)?;
        let read = count(&read, "records")?;
        ensure!(read >= written, "{}: {written} records were acknowledged, {read} are there", case.name);
    }
    // What has no latency says so by null.
    let ms = |name: &str| found[name].as_f64().unwrap_or_default();
    Ok(Figures {
        mb_per_s: number(&found, "mb_per_s")?,
        records_per_s: number(&found, "records_per_s")?,
        requests_per_s: number(&found, "requests_per_s")?,
        cpu_s_per_gb: cpu / (bytes / 1e9),
        cpu_us_per_request: cpu / requests * 1e6,
        p50_ms: ms("p50_ms"),
        p99_ms: ms("p99_ms"),
        p999_ms: ms("p999_ms"),
        resident_mb: contender.resident_bytes()? as f64 / 1e6,
        ready_ms: contender.ready_after.as_secs_f64() * 1e3,
    })
}

/// Writes so much; gives the records.
fn fill(contender: &Contender, topic: &str, mb: u64) -> Result<u64> {
    let (mut records, mut bytes) = (0, 0.0);
    while bytes < mb as f64 * 1e6 {
        let words = "produce --record-size 1024 --batch-bytes 65536 --acks 1 --connections 4 --in-flight 4";
        let found = ask(contender, words, topic, Duration::from_secs(2))?;
        records += count(&found, "records")?;
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

fn count(found: &Value, name: &str) -> Result<u64> {
    found[name].as_u64().with_context(|| format!("no {name} in {found}"))
}
