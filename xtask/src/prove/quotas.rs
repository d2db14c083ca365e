//! Clients that take all they can get, held to their quotas, beside one that has none: what the broker lets through in whole
//! spans of its windows, and what the others notice of it.
//!
//! The greedy ones, a producer and a consumer, pay no heed to what answers say of throttling, so that it is the broker's doing
//! alone. A rate is kept to over all windows (`quota.window.num` times `quota.window.size.seconds`), not within them: who has
//! rested may use what all but one allow at once, and is held back until they are over. So a whole number of such spans is
//! looked at, from the first request on.

use crate::broker::Broker;
use crate::flags::Flags;
use crate::plain_client::{PlainClient, batch};
use crate::scenario;
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How far from its quota a client may be.
const DEVIATION_PERCENT_MAX: f64 = 10.0;
/// Records' bytes in a request: small beside a second of the quota, as the least that is let through is one request.
const BATCH_BYTES: usize = 32 << 10;
/// The neighbour: so many bytes, so often.
const NEIGHBOUR_BYTES: usize = 4 << 10;
const NEIGHBOUR_EVERY: Duration = Duration::from_millis(10);
/// How long the neighbour works alone.
const ALONE: Duration = Duration::from_secs(5);
const WRITTEN: &str = "written";
const READ: &str = "read";
const BESIDE: &str = "beside";

/// How it is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    /// `quota.window.num`, of a second each.
    pub(crate) windows: u64,
    /// So many spans of all windows.
    pub(crate) spans: u64,
    /// Bytes a second, of the producer and of the consumer.
    pub(crate) rate: u64,
    /// How many times as long the neighbour's requests may take beside the others, at the median.
    pub(crate) slower_max: f64,
}

impl Measure {
    /// By default's windows.
    fn full() -> Measure {
        Measure { windows: 11, spans: 3, rate: 1_000_000, slower_max: 2.0 }
    }

    /// Nine seconds, on a machine that does other things, too.
    pub(crate) fn short() -> Measure {
        Measure { windows: 3, spans: 3, rate: 1_000_000, slower_max: 5.0 }
    }
}

/// What the neighbour saw.
#[derive(Debug)]
struct Seen {
    /// How long its requests took.
    took: Vec<Duration>,
    /// How long it was at it.
    during: Duration,
}

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let form: String = flags.take("form", "full".to_owned())?;
    let usual = match &*form {
        "full" => Measure::full(),
        "short" => Measure::short(),
        other => bail!("--form {other}: full or short"),
    };
    let measure = Measure {
        windows: flags.take("windows", usual.windows)?,
        spans: flags.take("spans", usual.spans)?,
        rate: flags.take("rate", usual.rate)?,
        slower_max: flags.take("slower-max", usual.slower_max)?,
    };
    flags.end()?;
    run(binary, measure)
}

/// Holds greedy clients to their quotas, and looks at what came through.
pub(crate) fn run(binary: &Path, measure: Measure) -> Result<()> {
    let (_, store) = scenario::store("file", "quotas")?;
    let windows = measure.windows.to_string();
    let broker = Broker::start(binary, "quotas", &store, &[("quota.window.num", &windows)])?;
    for topic in [WRITTEN, READ, BESIDE] {
        broker.create_topic(topic, 1)?;
    }
    let address: SocketAddr = broker.bootstrap.parse().context("the broker's address")?;
    let mut filler = PlainClient::connect(address, "filler")?;
    for _ in 0..64 {
        filler.produce(READ, 0, batch(BATCH_BYTES))?;
    }
    let mut admin = PlainClient::connect(address, "admin")?;
    admin.set_quota("greedy-producer", "producer_byte_rate", measure.rate as f64)?;
    admin.set_quota("greedy-consumer", "consumer_byte_rate", measure.rate as f64)?;

    let alone = neighbour(address, Instant::now() + ALONE)?;
    let span = Duration::from_secs(measure.windows);
    let began = Instant::now();
    let end = began + span * u32::try_from(measure.spans)?;
    let (written, read, beside) = thread::scope(|scope| {
        let producer = scope.spawn(|| produced(address, end));
        let consumer = scope.spawn(|| consumed(address, end));
        let beside = scope.spawn(|| neighbour(address, end));
        (producer.join(), consumer.join(), beside.join())
    });
    let panicked = |_| anyhow::anyhow!("a client panicked");
    let (written, read) = (written.map_err(panicked)??, read.map_err(panicked)??);
    let beside = beside.map_err(panicked)??;
    let throttled = |key: &str| broker.metric(&format!("aquifer_quotas_throttled_total{{quota=\"{key}\"}}"));
    let (writes, reads) = (throttled("producer_byte_rate")?, throttled("consumer_byte_rate")?);
    broker.end()?;

    let seconds = (end - began).as_secs_f64();
    println!(
        "   {seconds:.0} s, quotas of {} bytes/s in {} windows of a second",
        measure.rate, measure.windows
    );
    let mut kept = Ok(());
    for (who, bytes, throttled) in [("producer", written, writes), ("consumer", read, reads)] {
        let percent = 100.0 * bytes as f64 / seconds / measure.rate as f64;
        println!("   greedy {who}: {percent:.1}% of its quota, throttled {throttled} times");
        if (percent - 100.0).abs() > DEVIATION_PERCENT_MAX {
            kept = Err(anyhow::anyhow!("the {who} had {percent:.1}% of its quota"));
        }
        ensure!(throttled > 0, "the {who} was never throttled");
    }
    println!("   a neighbour without a quota: alone {}, beside them {}", alone.told(), beside.told());
    kept?;
    let slower = beside.median().as_secs_f64() / alone.median().as_secs_f64();
    ensure!(slower <= measure.slower_max, "the neighbour's requests took {slower:.1} times as long");
    let share = beside.per_second() / alone.per_second();
    ensure!(
        share >= 1.0 - DEVIATION_PERCENT_MAX / 100.0,
        "the neighbour had {:.0}% of its rate",
        share * 100.0
    );
    println!(
        "quotas: kept to within {DEVIATION_PERCENT_MAX}%, and the neighbour had {:.0}% of its rate",
        share * 100.0
    );
    Ok(())
}

/// Writes as much as goes; gives the bytes of the requests that were acknowledged by `end`.
fn produced(address: SocketAddr, end: Instant) -> Result<u64> {
    let mut client = PlainClient::connect(address, "greedy-producer")?;
    let records = batch(BATCH_BYTES);
    let mut bytes = 0;
    loop {
        let sent = client.produce(WRITTEN, 0, records.clone())?;
        if Instant::now() >= end {
            return Ok(bytes);
        }
        bytes += sent;
    }
}

/// Reads the same records again and again; gives the bytes that came by `end`.
fn consumed(address: SocketAddr, end: Instant) -> Result<u64> {
    let mut client = PlainClient::connect(address, "greedy-consumer")?;
    let batch_bytes = batch(BATCH_BYTES).len();
    let (mut bytes, mut offset) = (0, 0);
    loop {
        let (fetched, next) = client.fetch(READ, offset, 4 * batch_bytes)?;
        if Instant::now() >= end {
            return Ok(bytes);
        }
        bytes += fetched;
        offset = next;
    }
}

/// Writes a little, at a pace of its own, until `end`.
fn neighbour(address: SocketAddr, end: Instant) -> Result<Seen> {
    let mut client = PlainClient::connect(address, "neighbour")?;
    let records = batch(NEIGHBOUR_BYTES);
    let began = Instant::now();
    let mut took = Vec::new();
    while Instant::now() < end {
        let sent = Instant::now();
        client.produce(BESIDE, 0, records.clone())?;
        took.push(sent.elapsed());
        thread::sleep(NEIGHBOUR_EVERY.saturating_sub(sent.elapsed()));
    }
    ensure!(!took.is_empty(), "the neighbour had no answer at all");
    took.sort_unstable();
    Ok(Seen { took, during: began.elapsed() })
}

impl Seen {
    fn median(&self) -> Duration {
        self.took[self.took.len() / 2]
    }

    fn per_second(&self) -> f64 {
        self.took.len() as f64 / self.during.as_secs_f64()
    }

    fn told(&self) -> String {
        let last = self.took.len() - 1;
        format!(
            "{:.1} requests/s, median {:.1} ms, 99th percentile {:.1} ms",
            self.per_second(),
            self.median().as_secs_f64() * 1000.0,
            self.took[last.min(self.took.len() * 99 / 100)].as_secs_f64() * 1000.0
        )
    }
}
