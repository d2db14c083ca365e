//! What a broker costs while nothing is asked of it, and how soon it is there: figures without a load.

use super::contender::{Contender, Lane, Programs, Who};
use super::load;
use crate::plain_client::{PlainClient, batch};
use anyhow::{Context, Result, ensure};
use aquifer_protocol::Str;
use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a broker is left alone before it is looked at, and for how long that is.
const SETTLED: Duration = Duration::from_secs(10);
const LOOKED_AT: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 10_000;
const PARTITIONS: usize = 5_000;
/// What is there when a broker is killed.
const KILLED_PARTITIONS: usize = 1_000;
const KILLED_MB: u64 = 10_000;
/// A version of Metadata that names topics.
const METADATA: i16 = 9;
const DEADLINE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(1);
const TOPIC: &str = "standing";
const LOCAL: &[&str] = &["remote.storage.enable=false"];

/// What is done to a broker, and what is read off it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    /// In a line, for people.
    pub(crate) what: &'static str,
    pub(crate) measures: &'static [Measure],
    /// As many numbers as there are measures.
    run: fn(Who, &Programs) -> Result<Vec<f64>>,
}

/// One of the numbers. Less is better.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
}

const fn measure(name: &'static str, unit: &'static str) -> Measure {
    Measure { name, unit }
}

/// All of them, in the order of the table.
pub(crate) const PROBES: &[Probe] = &[
    Probe {
        name: "idle",
        what: "a broker with nothing in it, left alone; then 10,000 connections to it that have asked once each",
        measures: &[
            measure("resident memory", "MB"),
            measure("CPU", "% of a core"),
            measure("growth of resident memory by a connection", "KB"),
            measure("CPU with 10,000 connections", "% of a core"),
        ],
        run: idle,
    },
    Probe {
        name: "partitions",
        what: "5,000 empty partitions: made, left alone, and the broker stopped in order and started again",
        measures: &[
            measure("making them", "s"),
            measure("growth of resident memory by a partition", "KB"),
            measure("CPU", "% of a core"),
            measure("start to first acknowledgement", "ms"),
        ],
        run: partitions,
    },
    Probe {
        name: "start",
        what: "16 partitions, the broker stopped in order and started again",
        measures: &[measure("start to first acknowledgement", "ms")],
        run: start,
    },
    Probe {
        name: "recovery",
        what: "10 GB in 1,000 partitions, the broker killed (-9) and started again",
        measures: &[measure("start to first acknowledgement", "ms")],
        run: recovery,
    },
];

impl Probe {
    /// One broker's numbers.
    pub(crate) fn run(&self, who: Who, programs: &Programs) -> Result<Vec<f64>> {
        let found = (self.run)(who, programs).with_context(|| format!("{} by {}", self.name, who.name()))?;
        ensure!(found.len() == self.measures.len(), "{}: {} numbers", self.name, found.len());
        Ok(found)
    }
}

fn idle(who: Who, programs: &Programs) -> Result<Vec<f64>> {
    let contender = Contender::start(who, Lane::NoSync, programs)?;
    sleep(SETTLED);
    let empty = contender.resident_bytes()? as f64;
    let cpu = cpu_percent(&contender)?;
    let address = contender.address()?;
    let held = (0..CONNECTIONS).map(|_| asked_once(address)).collect::<Result<Vec<_>>>()?;
    sleep(SETTLED);
    let with_them = contender.resident_bytes()? as f64;
    let cpu_with_them = cpu_percent(&contender)?;
    drop(held);
    contender.end()?;
    Ok(vec![empty / 1e6, cpu, (with_them - empty) / CONNECTIONS as f64 / 1e3, cpu_with_them])
}

fn asked_once(address: SocketAddr) -> Result<PlainClient> {
    let mut client = PlainClient::connect(address, "idle")?;
    client.ask(&ApiVersionsRequest::default(), 0)?;
    Ok(client)
}

fn partitions(who: Who, programs: &Programs) -> Result<Vec<f64>> {
    let mut contender = Contender::start(who, Lane::NoSync, programs)?;
    contender.create_topic("first", 1, LOCAL)?;
    sleep(SETTLED);
    let before = contender.resident_bytes()? as f64;
    let began = Instant::now();
    contender.create_topic(TOPIC, PARTITIONS, LOCAL)?;
    wait_for_leaders(&contender)?;
    let made = began.elapsed();
    sleep(SETTLED);
    let each = (contender.resident_bytes()? as f64 - before) / PARTITIONS as f64;
    let cpu = cpu_percent(&contender)?;
    contender.stop()?;
    contender.start_again()?;
    let acknowledged = first_ack(&mut contender)?;
    contender.end()?;
    Ok(vec![made.as_secs_f64(), each / 1e3, cpu, ms(acknowledged)])
}

fn start(who: Who, programs: &Programs) -> Result<Vec<f64>> {
    let mut contender = Contender::start(who, Lane::NoSync, programs)?;
    contender.create_topic(TOPIC, 16, LOCAL)?;
    load::fill(&contender, TOPIC, 1)?;
    contender.stop()?;
    contender.start_again()?;
    let acknowledged = first_ack(&mut contender)?;
    contender.end()?;
    Ok(vec![ms(acknowledged)])
}

fn recovery(who: Who, programs: &Programs) -> Result<Vec<f64>> {
    let mut contender = Contender::start(who, Lane::NoSync, programs)?;
    contender.create_topic(TOPIC, KILLED_PARTITIONS, LOCAL)?;
    let written = load::fill(&contender, TOPIC, KILLED_MB)?;
    contender.kill()?;
    contender.start_again()?;
    let acknowledged = first_ack(&mut contender)?;
    // One more is there: the first that was acknowledged.
    load::all_is_there(&contender, TOPIC, written + 1)?;
    contender.end()?;
    Ok(vec![ms(acknowledged)])
}

/// Asks until a record is acknowledged (`acks=all`); tells how long after the start of the process that was.
fn first_ack(contender: &mut Contender) -> Result<Duration> {
    let address = contender.address()?;
    let try_once = || PlainClient::connect(address, "first")?.produce(TOPIC, 0, batch(100));
    let until = Instant::now() + DEADLINE;
    loop {
        match try_once() {
            Ok(_) => return Ok(contender.age()),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => sleep(POLL),
        }
        contender.is_running()?;
    }
}

/// Asks until all partitions have one.
fn wait_for_leaders(contender: &Contender) -> Result<()> {
    let mut client = PlainClient::connect(contender.address()?, "leaders")?;
    let topic = MetadataRequestTopic { name: Some(Str::from_static(TOPIC)), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let until = Instant::now() + DEADLINE;
    loop {
        let (answer, _) = client.ask(&request, METADATA)?;
        let partitions = answer.topics.first().map(|topic| &topic.partitions[..]).unwrap_or_default();
        let led = partitions.iter().filter(|partition| partition.leader_id >= 0).count();
        if led == PARTITIONS {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{led} of {PARTITIONS} partitions have a leader");
        sleep(POLL * 20);
    }
}

/// What it takes of a core while nothing is asked of it.
fn cpu_percent(contender: &Contender) -> Result<f64> {
    let (before, began) = (contender.cpu()?, Instant::now());
    sleep(LOOKED_AT);
    Ok((contender.cpu()? - before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
