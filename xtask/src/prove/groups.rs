//! Many members that come, leave and crash, over many partitions, while the broker is killed now and then.
//!
//! What members were told and what an observer saw is judged by [`judge`]; the records that they read were written by the usual
//! producer, whose history the one checker judges.

use super::{Blows, random};
use crate::broker::Broker;
use crate::flags::Flags;
use crate::history::History;
use crate::scenario;
use crate::soak::{self, Load, Soak};
use anyhow::{Context, Result, ensure};
use aquifer_checker::Expiry;
use judge::{Told, judge};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The verdict.
mod judge;

const TOPIC: &str = "crowd";
/// Until a kill, at random, at most; no longer than half of the churn.
const KILL_WAIT_MAX: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);
/// A session, its end unnoticed until then, and a round of a group that waits for one that will not come.
const REBALANCE_MS_MAX: u64 = 60_000;
/// Members of the classic protocol must not wait long for the first round, and the dead be missed soon, by either protocol.
const SETTINGS: &[(&str, &str)] = &[("group.initial.rebalance.delay.ms", "500")];
const CONSUMER_SETTINGS: &[(&str, &str)] = &[
    ("group.consumer.min.session.timeout.ms", "6000"),
    ("group.consumer.session.timeout.ms", "6000"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];

/// How it is done.
#[derive(Debug, Clone)]
pub(crate) struct Churn {
    pub(crate) seconds: u64,
    pub(crate) members: u64,
    pub(crate) partitions: usize,
    /// `classic` or `consumer`.
    pub(crate) protocol: String,
    /// Kills of the broker; without, it lives.
    pub(crate) kills: bool,
    pub(crate) seed: u64,
}

impl Churn {
    /// Few members for a short time.
    pub(crate) fn short(protocol: &str, seconds: u64) -> Churn {
        Churn { seconds, members: 8, partitions: 24, protocol: protocol.to_owned(), kills: true, seed: 1 }
    }
}

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let protocol: String = flags.take("protocol", String::new())?;
    let churn = Churn {
        seconds: flags.take("seconds", 600)?,
        members: flags.take("members", 50)?,
        partitions: flags.take("partitions", 200)?,
        kills: flags.take("kills", true)?,
        seed: flags.take("seed", 1)?,
        protocol: protocol.clone(),
    };
    flags.end()?;
    let protocols = if protocol.is_empty() { vec!["classic", "consumer"] } else { vec![protocol.as_str()] };
    protocols
        .iter()
        .try_for_each(|protocol| run(binary, &Churn { protocol: (*protocol).to_owned(), ..churn.clone() }))
}

/// Lets members come and go for so long.
pub(crate) fn run(binary: &Path, churn: &Churn) -> Result<()> {
    let Churn { seconds, members, partitions, protocol, kills, seed } = churn;
    println!(
        "   {members} members of the {protocol} protocol over {partitions} partitions, {seconds} s, seed {seed}"
    );
    let (_, store) = scenario::store("file", "crowd")?;
    let more = if protocol == "consumer" { CONSUMER_SETTINGS } else { &[] };
    let settings: Vec<(&str, &str)> = SETTINGS.iter().chain(more).copied().collect();
    let mut broker = Broker::start(binary, "crowd", &store, &settings)?;
    broker.create_topic(TOPIC, *partitions)?;
    let mut history = History::begin("crowd")?;
    history.topic(TOPIC, *partitions, Expiry::Never)?;
    let Blows { rate, .. } = Blows::of(1);
    let load = Load { topic: TOPIC, producer: 1, rate, value_bytes: soak::VALUE_BYTES };
    let mut producer = Soak::start(&broker.bootstrap, load, &history.of("soak"))?;
    producer.wait_for_more(1)?;
    let told = history.of("members").with_extension("crowd");
    let words = [
        "--group",
        "crowd",
        "--protocol",
        protocol,
        "--members",
        &members.to_string(),
        "--seed",
        &seed.to_string(),
    ];
    let crowd = soak::crowd(&broker.bootstrap, TOPIC, &words, &told)?;
    let began = Instant::now();
    let wait_max = KILL_WAIT_MAX.min(Duration::from_secs(*seconds) / 2).as_millis() as u64;
    let (mut killed, mut next) = (0, random(wait_max));
    while began.elapsed() < Duration::from_secs(*seconds) {
        sleep(POLL);
        producer.check()?;
        if *kills && began.elapsed() >= next {
            history.fault("kill -9")?;
            broker.kill()?;
            broker.start_again()?;
            producer.wait_for_more(1)?;
            killed += 1;
            next = began.elapsed() + random(wait_max);
        }
    }
    let churned = crowd.end()?;
    producer.end()?.whole()?;
    let text = std::fs::read_to_string(&told).with_context(|| format!("reading {}", told.display()))?;
    let lines: Vec<Told> = text
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("the line {line}")))
        .collect::<Result<_>>()?;
    let verdict = judge(&lines, u32::try_from(*partitions)?, REBALANCE_MS_MAX);
    println!("   {}, {killed} kills of the broker", churned.trim());
    println!("   {}", verdict.to_string().replace('\n', "\n   "));
    history.audit(&broker.bootstrap, TOPIC, *partitions)?;
    history.must_be_clean()?;
    broker.end()?;
    ensure!(verdict.faults.is_empty(), "seed {seed}: {verdict}");
    ensure!(verdict.generations > 0 && verdict.commits > 0, "nothing happened: {verdict}");
    Ok(())
}
