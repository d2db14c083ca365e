//! What a replay costs those at the tail: ten consumers that read history from the bucket, each at a limited rate, beside a control in
//! which a client outside of the broker makes the same GETs. Whatever the tail loses more in the one than in the other is the
//! broker's doing.
//!
//! The broker has one core, all else the other, where what would be other machines (the bucket, the consumers) gives way to what
//! measures. How long a request waits in the broker is seen from outside: by requests that need
//! nothing there, at a fixed rate.

use crate::broker::Broker;
use crate::flags::Flags;
use crate::plain_client::PlainClient;
use crate::run::output;
use crate::s3::{self, Kind};
use crate::spread::Spread;
use crate::{network, plain_gets, process, slow_proxy};
use anyhow::{Context, Result, anyhow, ensure};
use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

const BROKER_CORE: &str = "0";
const OTHER_CORE: &str = "1";
const HISTORY: &str = "history";
const LIVE: &str = "live";
const PREFIX: &str = "beside";
const CONSUMERS: u64 = 10;
const RECORD_BYTES: u64 = 1024;
const FETCH_BYTES: usize = 1 << 20;
/// As slow as S3 is to one connection.
const FIRST_BYTE: Duration = Duration::from_millis(30);
const RATE_MB: f64 = 90.0;
/// More than a broker has memory for, of what comes from the bucket: read before anything is measured, so that it has taken it all.
const WARM_BYTES: u64 = 700_000_000;
/// More than is read ahead of the one that reads it.
const WARM_AHEAD_BYTES: u64 = 256_000_000;
const TIERED_DEADLINE: Duration = Duration::from_secs(300);
const PING_EVERY: Duration = Duration::from_millis(5);
/// What runs beside the tail runs a little longer than it is measured.
const AROUND: Duration = Duration::from_secs(3);
/// Of a noisy machine few rounds tell nothing: on one the ratio of a round's two p99 went from 0.6 to 4.6, and was 1.26 in the median of
/// ten, 1.08 in that of the next twenty.
const ROUNDS: u64 = 20;
const SECONDS: u64 = 8;
/// A consumer that keeps less of its rate was held up, and the comparison would be of something else.
const KEPT_LEAST: f64 = 0.9;

/// How the tail fared.
#[derive(Debug, Clone, Copy)]
struct Tail {
    p50_ms: f64,
    p99_ms: f64,
    /// Of the requests that need nothing.
    ping_p99_ms: f64,
}

/// The replay: how much, how fast.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Of each consumer.
    bytes_per_s: u64,
    during: Duration,
}

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let rounds: u64 = flags.take("rounds", ROUNDS)?;
    let seconds: u64 = flags.take("seconds", SECONDS)?;
    let replay_mb: u64 = flags.take("replay-mb", 40)?;
    let tail_rate: u64 = flags.take("tail-rate", 1000)?;
    let worse_max: f64 = flags.take("worse-max", 1.1)?;
    flags.end()?;
    let all_are_some = [rounds, seconds, replay_mb, tail_rate].iter().all(|number| *number > 0);
    ensure!(all_are_some, "--rounds, --seconds, --replay-mb and --tail-rate are 1 or more");
    Kind::MinIo.install()?;
    network::enter_own()?;
    process::pin(std::process::id(), OTHER_CORE)?;
    let (minio, proxy, address) = process::giving_way(|| {
        let minio = Kind::MinIo.start()?;
        let (proxy, address) = slow_proxy::spawn(&minio.address(), FIRST_BYTE, RATE_MB)?;
        Ok((minio, proxy, address))
    })?;
    let settings = [
        // What the disk does is not asked here.
        ("log.durability", "replicated"),
        ("log.segment.bytes", "134217728"),
        ("tier.roll.ms", "1000"),
        ("log.local.retention.ms", "1000"),
        ("log.retention.check.interval.ms", "500"),
        // What the search for damage reads would be among the GETs that are made again.
        ("tier.scrub.bytes.per.second", "0"),
        ("log.scrub.bytes.per.second", "0"),
    ];
    let mut broker = Broker::start(binary, "beside", &s3::url(&address, PREFIX), &settings)?;
    broker.create_topic(HISTORY, 1)?;
    broker.create_topic_with(LIVE, 1, &["remote.storage.enable=false"])?;
    let pace = Pace {
        bytes_per_s: replay_mb * 1_000_000 / CONSUMERS,
        during: Duration::from_secs(seconds) + AROUND,
    };
    // Each round reads what none has read before it, and a gap behind it is left for what was read ahead.
    let stretch = pace.bytes_per_s * pace.during.as_secs() + (64 << 20);
    let warm = WARM_BYTES + WARM_AHEAD_BYTES;
    fill(&mut broker, warm + stretch * (rounds + 1))?;
    broker.end_and_restart()?;
    broker.pin(BROKER_CORE)?;
    plain_gets::make_bucket_readable(&minio.address(), s3::BUCKET)?;

    let tail = |broker: &Broker| tail(broker, tail_rate, seconds);
    // What a broker does a first time is done.
    read_through(&broker, WARM_BYTES)?;
    tail(&broker)?;
    let mut pairs = Vec::new();
    for round in 0..rounds {
        let from = i64::try_from((warm + round * stretch) / RECORD_BYTES)?;
        let (bytes_before, began) = (proxy.answer_bytes(), Instant::now());
        drop(proxy.take_gets());
        let beside_replay = beside(|| process::giving_way(|| replay(&broker, from, pace)), || tail(&broker))?;
        let (gets, bytes) = (proxy.take_gets(), proxy.answer_bytes() - bytes_before);
        let read = pace.bytes_per_s * pace.during.as_secs();
        ensure!(
            bytes as f64 > KEPT_LEAST * read as f64,
            "{bytes} bytes came from the bucket, {read} were read"
        );
        let make_again = || process::giving_way(|| plain_gets::make_again(&address, &gets, began));
        let beside_gets = beside(make_again, || tail(&broker))?;
        println!("   round {}: {} GETs, {} MB", round + 1, gets.len(), bytes / 1_000_000);
        told("beside the replay", beside_replay);
        told("beside the GETs", beside_gets);
        pairs.push((beside_replay, beside_gets));
    }
    broker.end()?;
    let worse = |of: fn(&Tail) -> f64| {
        Spread::of(pairs.iter().map(|(replay, gets)| of(replay) / of(gets)))
            .context("no round")
            .map(|it| it.median)
    };
    let (tail, ping) = (worse(|it| it.p99_ms)?, worse(|it| it.ping_p99_ms)?);
    println!(
        "beside: the tail's p99 is {tail:.2} of the control's, that of requests for nothing {ping:.2} (median of {rounds})"
    );
    ensure!(tail <= worse_max && ping <= worse_max, "more than {worse_max} of the control's");
    Ok(())
}

fn told(beside: &str, tail: Tail) {
    println!(
        "      {beside:<18} end to end p50 {:.2} p99 {:.2} ms, requests for nothing p99 {:.2} ms",
        tail.p50_ms, tail.p99_ms, tail.ping_p99_ms
    );
}

/// Writes so much history, and waits until it is in the bucket alone.
fn fill(broker: &mut Broker, bytes: u64) -> Result<()> {
    let mut written = 0;
    while written < bytes {
        let mut produce = broker.ask(["bench", "produce", "--topic", HISTORY, "--seconds", "2", "--json"]);
        let said: Value =
            serde_json::from_str(&output(&mut produce)?).context("what `bench produce` says")?;
        written += said["bytes"].as_f64().context("no bytes")? as u64;
    }
    broker.wait_until_no_lag(TIERED_DEADLINE)?;
    let share = broker.wait_until_tiered(HISTORY, 0.98, TIERED_DEADLINE)?;
    println!("   {} MB written, {:.0}% of it in the bucket alone", written / 1_000_000, share * 100.0);
    Ok(())
}

/// Measures while something else goes on; both must succeed.
fn beside(other: impl FnOnce() -> Result<()> + Send, measure: impl FnOnce() -> Result<Tail>) -> Result<Tail> {
    thread::scope(|scope| {
        let other = scope.spawn(other);
        let measured = measure();
        other.join().map_err(|_| anyhow!("what ran beside the tail panicked"))??;
        measured
    })
}

/// One producer and one consumer at the tail, at a fixed rate, and requests that need nothing.
fn tail(broker: &Broker, rate: u64, seconds: u64) -> Result<Tail> {
    let address: SocketAddr = broker.bootstrap.parse().context("the broker's address")?;
    let (rate, during) = (rate.to_string(), Duration::from_secs(seconds));
    let seconds = seconds.to_string();
    thread::scope(|scope| {
        let ping = scope.spawn(move || ping(address, during));
        let mut consume = broker.ask(["bench", "consume", "--topic", LIVE, "--end-to-end", "--rate", &rate]);
        consume.args(["--record-size", "1024", "--batch-bytes", "1100", "--acks", "1", "--warmup", "1"]);
        let said = output(consume.args(["--seconds", &seconds, "--json"]))?;
        let said: Value = serde_json::from_str(&said).context("what `bench consume` says")?;
        let ms = |name: &str| said[name].as_f64().with_context(|| format!("no {name} in {said}"));
        let (p50_ms, p99_ms) = (ms("p50_ms")?, ms("p99_ms")?);
        ensure!(said["unsent"] == 0, "the load did not keep its rate: {said}");
        let ping_p99_ms = ping.join().map_err(|_| anyhow!("the pinging thread panicked"))??;
        Ok(Tail { p50_ms, p99_ms, ping_p99_ms })
    })
}

/// The 99th percentile, in milliseconds, of the time from when a request was due to its answer.
fn ping(address: SocketAddr, during: Duration) -> Result<f64> {
    let mut client = PlainClient::connect(address, "ping")?;
    let (began, mut due) = (Instant::now(), Duration::ZERO);
    let mut took = Vec::new();
    while due < during {
        sleep(due.saturating_sub(began.elapsed()));
        client.ask(&ApiVersionsRequest::default(), 0)?;
        took.push(began.elapsed() - due);
        due += PING_EVERY;
    }
    took.sort_unstable();
    let p99 = took.get(took.len() * 99 / 100).context("no request was made")?;
    Ok(p99.as_secs_f64() * 1e3)
}

/// One consumer reads so much, as fast as it comes.
fn read_through(broker: &Broker, bytes: u64) -> Result<()> {
    let address: SocketAddr = broker.bootstrap.parse().context("the broker's address")?;
    let mut client = PlainClient::connect(address, "warm")?;
    let (mut offset, mut read, began) = (0, 0, Instant::now());
    while read < bytes {
        ensure!(began.elapsed() < TIERED_DEADLINE, "{read} of {bytes} bytes came in {TIERED_DEADLINE:?}");
        let (more, next) = client.fetch(HISTORY, offset, FETCH_BYTES)?;
        (offset, read) = (next, read + more);
    }
    Ok(())
}

/// All consumers read from an offset on, each at its pace.
fn replay(broker: &Broker, from: i64, pace: Pace) -> Result<()> {
    let address: SocketAddr = broker.bootstrap.parse().context("the broker's address")?;
    thread::scope(|scope| {
        let reading: Vec<_> =
            (0..CONSUMERS).map(|_| scope.spawn(move || consumer(address, from, pace))).collect();
        for consumer in reading {
            consumer.join().map_err(|_| anyhow!("a consumer's thread panicked"))??;
        }
        Ok(())
    })
}

fn consumer(address: SocketAddr, from: i64, pace: Pace) -> Result<()> {
    let mut client = PlainClient::connect(address, "replay")?;
    let (began, mut offset, mut bytes) = (Instant::now(), from, 0);
    while began.elapsed() < pace.during {
        let (read, next) = client.fetch(HISTORY, offset, FETCH_BYTES)?;
        ensure!(read == 0 || next > 0, "the history is shorter than it should be");
        (offset, bytes) = (next, bytes + read);
        sleep(
            Duration::from_secs_f64(bytes as f64 / pace.bytes_per_s as f64).saturating_sub(began.elapsed()),
        );
    }
    let kept = bytes as f64 / (pace.bytes_per_s as f64 * pace.during.as_secs_f64());
    ensure!(kept >= KEPT_LEAST, "a consumer had {:.0}% of its rate", kept * 100.0);
    Ok(())
}
