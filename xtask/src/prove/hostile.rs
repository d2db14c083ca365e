//! A hostile client, or many, beside a good one: what it does to the good one's rate, and to the broker's memory.
//!
//! The good client is the usual one: a producer with `acks=all`, a reader of what arrives, one that reads all time and again;
//! what they saw is judged in the end. Before and after the attack it works alone; between, each attack goes on in a thread of
//! its own, from an address of its own, at the lowest priority: this is about the broker's limits, not about who gets the
//! processor. The broker has the limits that it has by default, but for those below, which would else not be met in so short a time.

use super::{Blows, Rig};
use crate::broker::Broker;
use crate::flags::Flags;
use crate::scenario;
use anyhow::{Context, Result, ensure};
use ground::{Attacker, Ground};
use std::path::Path;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};
use vitals::Vitals;

/// Attacks that need no request.
mod connections;
/// Where attackers meet the broker.
mod ground;
/// Attacks by requests.
mod requests;
/// A broker's resident memory and sockets over time.
mod vitals;

type Run = fn(&Attacker<'_>);

/// All attacks, by the name that `--only` takes.
const ATTACKS: &[(&str, Run)] = &[
    ("drip", connections::drip),
    ("announce", connections::announce),
    ("hoard", connections::hoard),
    ("churn", connections::churn),
    ("crowd", connections::crowd),
    ("garbage", connections::garbage),
    ("arrays", requests::arrays),
    ("bombs", requests::bombs),
    ("topics", requests::topics),
    ("sessions", requests::sessions),
    ("producers", requests::producers),
    ("deaf", requests::deaf),
    ("sips", requests::sips),
    ("polls", requests::polls),
];

/// What an attack of minutes is to meet before memory has to have settled, and by default would be an hour or more on its way to: a
/// number of partitions; uploads of open segments; all that is kept of a deleted topic until its objects are gone; the log of the
/// metadata, which is cut at its second snapshot; the indexes of local segments. All else is as it is by default.
const SETTINGS: &[(&str, &str)] = &[
    ("max.partitions", "2000"),
    ("tier.roll.ms", "29000"),
    ("tier.delete.grace.ms", "15000"),
    ("tier.late.write.max.ms", "0"),
    ("raft.snapshot.entries.max", "1000"),
    ("log.index.cache.bytes", "4194304"),
];

/// What is to be left of the good client's rate under attack.
const RATE_SHARE_MIN: f64 = 0.8;
/// When memory has to have settled: all that is bounded has met its bound by then.
const SETTLED: Duration = Duration::from_secs(120);
/// From the first half of the time from then on to the second its median may grow by so much. A broker whose budgets are spent goes up
/// and down by more from one minute to the next: requests that come slowly take their budget to the last byte, are given up all at once,
/// and begin again.
const GROWTH_PERCENT_MAX: u64 = 5;
const LOOK: Duration = Duration::from_millis(250);
/// How long the broker may take to be rid of its attackers' connections once they are gone.
const RID_DEADLINE: Duration = Duration::from_secs(90);
/// Sockets that may be more afterwards than before: the good client's own come and go.
const SOCKETS_MORE_MAX: usize = 50;

/// How it is done.
#[derive(Debug, Clone)]
pub(crate) struct Siege {
    /// How long the attack lasts.
    pub(crate) seconds: u64,
    /// Records a second of the good client; 0: as many as go.
    pub(crate) rate: u64,
    /// One attack alone.
    pub(crate) only: String,
    /// Of the good client's rate alone, at least so much must be left.
    rate_share_min: f64,
    /// By how much the memory may grow; `None` where the attack is too short to tell.
    growth_percent_max: Option<u64>,
}

impl Siege {
    /// Too short to tell anything of memory over time, and on a machine that does other things, too.
    pub(crate) fn short(seconds: u64) -> Siege {
        Siege { seconds, rate: 1_000, only: String::new(), rate_share_min: 0.5, growth_percent_max: None }
    }
}

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let seconds = flags.take("seconds", 600)?;
    let long = Duration::from_secs(seconds) >= 2 * SETTLED;
    let siege = Siege {
        seconds,
        rate: flags.take("rate", 5_000)?,
        only: flags.take("only", String::new())?,
        rate_share_min: RATE_SHARE_MIN,
        growth_percent_max: long.then_some(flags.take("growth-percent-max", GROWTH_PERCENT_MAX)?),
    };
    flags.end()?;
    run(binary, &siege)
}

/// Attacks a broker, and looks at what that does.
pub(crate) fn run(binary: &Path, siege: &Siege) -> Result<()> {
    let attacks: Vec<_> =
        ATTACKS.iter().filter(|(name, _)| siege.only.is_empty() || siege.only == *name).collect();
    ensure!(!attacks.is_empty(), "no attack is called '{}'", siege.only);
    let (_, store) = scenario::store("file", "hostile")?;
    let broker = Broker::start(binary, "hostile", &store, SETTINGS)?;
    let mut rig = Rig::start("hostile", &broker, Blows { rate: siege.rate, ..Blows::of(1) })?;
    rig.goes_on()?;
    let alone = Duration::from_secs((siege.seconds / 10).clamp(5, 60));
    let before = rate(&rig, &broker, alone, &mut Vitals::begin())?;
    let sockets = broker.sockets()?;
    let ground = Ground::new(&broker.bootstrap)?;
    rig.history.fault("a hostile client")?;
    let mut vitals = Vitals::begin();
    let under = thread::scope(|scope| -> Result<f64> {
        let attackers: Vec<_> = (1..)
            .zip(&attacks)
            .map(|(number, (name, run))| {
                let attacker = ground.attacker(number);
                let attack = move || -> Result<String> {
                    attacker.give_way()?;
                    run(&attacker);
                    let (blows, rebuffs) = attacker.tally();
                    Ok(format!("{name}: {blows} blows, {rebuffs} rebuffed"))
                };
                scope.spawn(attack)
            })
            .collect();
        let under = rate(&rig, &broker, Duration::from_secs(siege.seconds), &mut vitals);
        ground.end();
        for attacker in attackers {
            let told = attacker.join().map_err(|_| anyhow::anyhow!("an attacker panicked"))??;
            println!("   {told}");
        }
        under
    })?;
    let gone = Instant::now();
    while broker.sockets()? > sockets + SOCKETS_MORE_MAX {
        ensure!(
            gone.elapsed() < RID_DEADLINE,
            "{} sockets are open {RID_DEADLINE:?} after the attack, {sockets} were before it",
            broker.sockets()?
        );
        sleep(LOOK);
    }
    let rid = gone.elapsed();
    let mut calm = Vitals::begin();
    let after = rate(&rig, &broker, alone, &mut calm)?;
    println!("   a good client: {before:.0} records/s alone, {under:.0} under attack, {after:.0} after it");
    judge(siege, &vitals, before, under)?;
    let history = rig.finish(&broker)?;
    history.must_be_clean()?;
    broker.end()?;
    println!(
        "hostile: {} s of {} attacks; {:.0}% of the good client's rate is left; resident memory at most {} MB, {} MB after it; sockets back after {:.1} s",
        siege.seconds,
        attacks.len(),
        100.0 * under / before,
        vitals.peak_mb(),
        calm.last_mb(),
        rid.as_secs_f64(),
    );
    Ok(())
}

fn judge(siege: &Siege, vitals: &Vitals, before: f64, under: f64) -> Result<()> {
    if let Some(percent) = siege.growth_percent_max {
        let halves = vitals.halves(SETTLED)?;
        let [first, second] = halves.map(|half| half.median_mb);
        for (name, half) in ["first", "second"].into_iter().zip(halves) {
            println!(
                "   resident memory in the {name} half, behind the first {} s: {} MB, nine tenths of the time above {}",
                SETTLED.as_secs(),
                half.median_mb,
                half.tenth_mb
            );
        }
        ensure!(
            second <= first + first * percent / 100,
            "memory grew from {first} to {second} MB, by more than {percent}%"
        );
    }
    let share = under / before;
    ensure!(share >= siege.rate_share_min, "{:.0}% of the good client's rate is left", share * 100.0);
    Ok(())
}

/// How many records a second are acknowledged to the good client for so long.
fn rate(rig: &Rig, broker: &Broker, during: Duration, vitals: &mut Vitals) -> Result<f64> {
    let (began, first) = (Instant::now(), rig.soak.acked()?);
    let mut told = began;
    while began.elapsed() < during {
        let look = vitals.look(broker).context("is the broker alive?")?;
        if told.elapsed() > during / 20 {
            told = Instant::now();
            println!(
                "   {:>4} s: {} MB, {} sockets, {} acknowledged",
                began.elapsed().as_secs(),
                look.resident_mb(),
                look.sockets,
                rig.soak.acked()?
            );
        }
        sleep(LOOK);
    }
    Ok((rig.soak.acked()? - first) as f64 / began.elapsed().as_secs_f64())
}
