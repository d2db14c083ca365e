//! `aquifer bench` against a contender, and what the broker paid for it.

use super::cases::Case;
use super::contender::{Contender, Lane};
use crate::run::{command, output, shown};
use crate::spread::Spread;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How fast a case goes on before it counts, where it writes.
const WARM_BYTES_PER_S: u64 = 100_000_000;
/// The most that one of the two has on the disk when a case begins to count: its history, or what it has written before.
pub(crate) const WRITTEN_BEFORE_MAX: u64 = 5_000_000_000;
/// The load that a broker is warmed up by: slices of writing, each read back.
const WARM_TOPIC: &str = "warm";
const WARM_PARTITIONS: usize = 16;
const WARM_PRODUCE: &str =
    "produce --record-size 1024 --batch-bytes 16384 --acks 1 --connections 4 --in-flight 4 --rate 300000";
const WARM_SLICE: Duration = Duration::from_secs(5);
/// The part of a latency that may be the load's own doing.
const LATE_SHARE_MAX: f64 = 0.5;
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
    /// How much of its core the broker used.
    pub(crate) cores: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p999_ms: f64,
    /// At a fixed rate: batches that never found room.
    pub(crate) unsent: f64,
    /// At a fixed rate: how late the load was by itself.
    pub(crate) late_p99_ms: f64,
    pub(crate) resident_mb: f64,
}

/// Both keep the records for themselves: what uploading costs is a matter of its own.
const LOCAL: &[&str] = &["remote.storage.enable=false"];
/// A history: segments of 128 MiB, gone from the local disk as soon as they are in the bucket.
const HISTORY: &[&str] =
    &["remote.storage.enable=true", "segment.bytes=134217728", "segment.ms=3000", "local.retention.ms=1000"];
/// How old an open segment of these gets.
const CLOSED_AFTER: Duration = Duration::from_millis(3_500);
/// What is uploaded while it is written: segments so small that each partition closes one every second or two.
const UPLOADED: &[&str] =
    &["remote.storage.enable=true", "segment.bytes=16777216", "local.retention.ms=1000"];
const UPLOADED_SEGMENT_BYTES: u64 = 16_777_216;
/// What may be left on the local disk of a history that is in the bucket: the segments that were opened last.
const LEFT_BYTES_MAX: u64 = 4 << 20;
const TIERED_DEADLINE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(100);

/// Has a broker write and read for so long, and forget it: a JVM compiles what it has done often.
pub(crate) fn warm_up(contender: &Contender, during: Duration) -> Result<()> {
    let began = Instant::now();
    for slice in 0.. {
        if began.elapsed() >= during {
            break;
        }
        let topic = format!("{WARM_TOPIC}-{slice}");
        contender.create_topic(&topic, WARM_PARTITIONS, LOCAL)?;
        ask(contender, WARM_PRODUCE, &topic, &[], WARM_SLICE)?;
        ask(contender, REPLAY, &topic, &[], Duration::ZERO)?;
        contender.delete_topic(&topic)?;
    }
    Ok(())
}

/// A case's topic at one of the two.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    contender: &'a Contender,
    case: &'a Case,
    /// Records that were acknowledged.
    written: u64,
}

impl<'a> Stage<'a> {
    /// Makes the topic, with its history if it has one, and goes on for a while: what a program does a first time has been done.
    pub(crate) fn set(contender: &'a Contender, case: &'a Case, warm: Duration) -> Result<Stage<'a>> {
        let topic = case.name;
        let settings = match case.lane {
            Lane::NoSync | Lane::SyncBeforeAck => LOCAL,
            Lane::Tiered if case.filled_mb > 0 => HISTORY,
            Lane::Tiered => UPLOADED,
        };
        contender.create_topic(topic, case.partitions, settings)?;
        let mut written = 0;
        if case.filled_mb > 0 {
            written += fill(contender, topic, case.filled_mb)?;
            if case.lane == Lane::Tiered {
                written += send_away(contender, topic)?;
            }
        }
        // Slower than it can be, where it writes: the disk is not to be full of it.
        let slow = ["--rate".to_owned(), (WARM_BYTES_PER_S / case.record_bytes()).to_string()];
        let is_free = case.words.starts_with("produce") && !case.words.contains("--rate");
        let slow: &[String] = if is_free { &slow } else { &[] };
        written += measure(contender, case, slow, warm)?.acknowledged.records;
        Ok(Stage { contender, case, written })
    }

    /// Measures for so long. `fill` has next to no memory be free before it begins.
    pub(crate) fn run(&mut self, during: Duration, fill: &mut dyn FnMut() -> Result<()>) -> Result<Figures> {
        let Stage { contender, case, .. } = *self;
        if case.filled_mb > 0 && !case.uncached {
            // The other one's turn may have taken pages of it.
            measure(contender, case, &[], Duration::ZERO)?;
        }
        fill()?;
        // What others have written before is not to be written back at this one's cost.
        output(&mut command("sync", [""; 0]))?;
        let (before, uploaded) = (contender.cpu()?, contender.bucket_bytes()?);
        let found = measure(contender, case, &[], during)?;
        if case.lane == Lane::Tiered && case.filled_mb == 0 {
            // What is uploaded and dropped behind the time that counts is of it, and not to go on in the other one's turn.
            let open = UPLOADED_SEGMENT_BYTES * case.partitions as u64;
            wait_until_left(contender, case.name, open)?;
            let uploaded = contender.bucket_bytes()? - uploaded;
            let written = found.acknowledged.bytes;
            ensure!(
                (uploaded + open) as f64 >= written,
                "{}: {written} bytes were written and {uploaded} uploaded",
                case.name
            );
        }
        let cpu = (contender.cpu()? - before).as_secs_f64();
        ensure!(found.bytes > 0.0 && found.requests > 0.0, "{}: nothing was done", case.name);
        self.written += found.acknowledged.records;
        Ok(found.figures(cpu, contender.resident_bytes()?))
    }

    /// Reads all back, counts, and takes it away.
    pub(crate) fn clear(self) -> Result<()> {
        all_is_there(self.contender, self.case.name, self.written)?;
        self.contender.delete_topic(self.case.name)
    }
}

impl Figures {
    /// Why the load did not do what the case says, if it did not: then latencies are lower bounds, or the load's own.
    pub(crate) fn doubt(&self) -> Option<String> {
        let Figures { unsent, late_p99_ms, p99_ms, .. } = self;
        if *unsent > 0.0 {
            return Some(format!("{unsent:.0} batches found no room in time: latencies are lower bounds"));
        }
        (*late_p99_ms > p99_ms * LATE_SHARE_MAX)
            .then(|| format!("the load itself was late by {late_p99_ms:.2} ms (p99), of {p99_ms:.2}"))
    }
}

/// What a case came to: of a replay, which is over once all is read, as many as the time is enough for.
#[derive(Debug, Default)]
struct Found {
    bytes: f64,
    records: f64,
    requests: f64,
    seconds: f64,
    acknowledged: Acknowledged,
    unsent: f64,
    /// Of each run.
    percentiles: Vec<Percentiles>,
}

/// All that was written, in the time that counts or not. End to end, requests are those of both sides.
#[derive(Debug, Clone, Copy, Default)]
struct Acknowledged {
    records: u64,
    bytes: f64,
    requests: f64,
}

/// In milliseconds; 0 where there is no latency.
#[derive(Debug, Clone, Copy)]
struct Percentiles {
    p50: f64,
    p99: f64,
    p999: f64,
    late_p99: f64,
}

fn measure(contender: &Contender, case: &Case, more: &[String], during: Duration) -> Result<Found> {
    let mut all = Found::default();
    let began = Instant::now();
    loop {
        if case.uncached {
            contender.forget_pages()?;
        }
        let one = ask(contender, case.words, case.name, more, during)?;
        all.add(&one).with_context(|| format!("{}: {one}", case.name))?;
        if !case.words.starts_with("replay") || began.elapsed() >= during {
            return Ok(all);
        }
    }
}

impl Found {
    fn figures(&self, cpu: f64, resident_bytes: u64) -> Figures {
        let middle = |of: fn(&Percentiles) -> f64| {
            Spread::of(self.percentiles.iter().map(of)).map_or(0.0, |spread| spread.median)
        };
        // Of a load that writes: all that cost, not only what counts for the rate. One that only reads has read no more than what counts.
        let ever = self.acknowledged;
        let (bytes, requests) =
            if ever.bytes > 0.0 { (ever.bytes, ever.requests) } else { (self.bytes, self.requests) };
        let (mb_per_s, cpu_s_per_gb) = (self.bytes / 1e6 / self.seconds, cpu / (bytes / 1e9));
        // Several readers have each read what was written once.
        let readers = (self.bytes / bytes).round().max(1.0);
        Figures {
            mb_per_s,
            records_per_s: self.records / self.seconds,
            requests_per_s: self.requests / self.seconds,
            cpu_s_per_gb,
            cpu_us_per_request: cpu / requests * 1e6,
            cores: cpu_s_per_gb * mb_per_s / 1e3 / readers,
            p50_ms: middle(|it| it.p50),
            p99_ms: middle(|it| it.p99),
            p999_ms: middle(|it| it.p999),
            unsent: self.unsent,
            late_p99_ms: middle(|it| it.late_p99),
            resident_mb: resident_bytes as f64 / 1e6,
        }
    }

    fn add(&mut self, one: &Value) -> Result<()> {
        let requests = number(one, "requests")?;
        self.bytes += number(one, "bytes")?;
        self.records += number(one, "records")?;
        self.requests += requests;
        self.seconds += number(one, "seconds")?;
        if !one["acknowledged"].is_null() {
            let of_both = if one["bench"] == "consume" { requests } else { 0.0 };
            self.acknowledged.records += count(one, "acknowledged")?;
            self.acknowledged.bytes += number(one, "acknowledged_bytes")?;
            self.acknowledged.requests += number(one, "acknowledged_requests")? + of_both;
        }
        // What has no latency says so by null.
        let ms = |name: &str| one[name].as_f64().unwrap_or_default();
        self.unsent += one["unsent"].as_f64().unwrap_or_default();
        self.percentiles.push(Percentiles {
            p50: ms("p50_ms"),
            p99: ms("p99_ms"),
            p999: ms("p999_ms"),
            late_p99: ms("late_p99_ms"),
        });
        Ok(())
    }
}

/// Reads everything back, and counts.
pub(crate) fn all_is_there(contender: &Contender, topic: &str, acknowledged: u64) -> Result<()> {
    let read = count(&ask(contender, REPLAY, topic, &[], Duration::ZERO)?, "records")?;
    ensure!(read == acknowledged, "{topic}: {acknowledged} records were acknowledged, {read} are there");
    Ok(())
}

/// Writes so much; gives the records.
pub(crate) fn fill(contender: &Contender, topic: &str, mb: u64) -> Result<u64> {
    let (mut records, mut bytes) = (0, 0.0);
    while bytes < mb as f64 * 1e6 {
        let words = "produce --record-size 1024 --batch-bytes 65536 --acks 1 --connections 4 --in-flight 4";
        let found = ask(contender, words, topic, &[], Duration::from_secs(2))?;
        records += count(&found, "acknowledged")?;
        bytes += number(&found, "bytes")?;
    }
    Ok(records)
}

/// Has what was written in the bucket alone; gives the records that this took.
fn send_away(contender: &Contender, topic: &str) -> Result<u64> {
    std::thread::sleep(CLOSED_AFTER);
    // An open segment is closed by the first record that finds it too old.
    let last = ask(contender, "produce --record-size 10 --batch-bytes 1 --rate 500", topic, &[], POLL * 20)?;
    wait_until_left(contender, topic, LEFT_BYTES_MAX)?;
    count(&last, "acknowledged")
}

/// Waits until no more than this of a topic is on the local disk.
fn wait_until_left(contender: &Contender, topic: &str, bytes_max: u64) -> Result<()> {
    let until = Instant::now() + TIERED_DEADLINE;
    loop {
        let left = contender.segment_bytes()?;
        if left <= bytes_max {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{left} bytes of {topic} are still on the local disk");
        std::thread::sleep(POLL);
    }
}

fn ask(contender: &Contender, words: &str, topic: &str, more: &[String], during: Duration) -> Result<Value> {
    let mut bench = contender.ask(["bench"]);
    bench.args(words.split(' ')).args(more).args(["--topic", topic, "--json"]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn runs_are_added_up() {
        let replayed = json!({"bench": "replay", "bytes": 100, "records": 10, "requests": 2, "seconds": 0.5, "p50_ms": 3.0, "p99_ms": null, "p999_ms": 4.0});
        let written = json!({"bench": "produce", "bytes": 200, "records": 20, "requests": 4, "seconds": 2.0, "acknowledged": 31, "acknowledged_bytes": 300, "acknowledged_requests": 6});
        let both = json!({"bench": "consume", "bytes": 1, "records": 1, "requests": 5, "seconds": 1.0, "acknowledged": 1, "acknowledged_bytes": 1, "acknowledged_requests": 7});
        let mut found = Found::default();
        for one in [&replayed, &written, &both] {
            found.add(one).expect("all is told");
        }
        assert_eq!((found.bytes, found.records, found.requests, found.seconds), (301.0, 31.0, 11.0, 3.5));
        let Acknowledged { records, bytes, requests } = found.acknowledged;
        assert_eq!((records, bytes, requests), (32, 301.0, 18.0));
        assert_eq!((found.percentiles[0].p50, found.percentiles[0].p99), (3.0, 0.0));
        assert!(found.add(&json!({"bytes": 1})).is_err());
    }
}
