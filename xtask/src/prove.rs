//! Long proofs, in full: what a broker does when it is killed, when its power is cut, when its disk or its bucket goes away.
//!
//! An idempotent producer with `acks=all` writes numbered records all the while, and consumers read them; what they sent, were
//! told and read is judged by the one checker (`tests/checker`).

use crate::broker::{Broker, Started};
use crate::bucket::{self, Look};
use crate::flags::Flags;
use crate::history::History;
use crate::soak::{self, Load, Running, Soak};
use crate::{built, local, machine, replay, simulation};
use anyhow::{Result, bail, ensure};
use aquifer_checker::{Expiry, Report};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A group that was away for months.
pub(crate) mod away;
/// A replay beside the tail.
mod beside;
/// A compacted topic, struck while it is compacted.
pub(crate) mod compaction;
/// Damage to every kind of file and object.
pub(crate) mod corrupt;
/// A disk that fails, and one that is full.
pub(crate) mod diskfault;
/// Members of a group that come and go.
pub(crate) mod groups;
/// Clients that mean no good, beside one that does.
pub(crate) mod hostile;
/// kill -9 at random moments.
pub(crate) mod kill9;
/// The bucket away for a while.
mod outage;
/// The checker itself: faults built in on purpose, each of which must be found.
pub(crate) mod planted;
/// Power cuts of the data directory and the bucket.
pub(crate) mod powercut;
/// Clients that take all they can get, held to their quotas.
pub(crate) mod quotas;
/// A bucket that fails in every way that stores have.
pub(crate) mod storefaults;
/// What a restart with much local log costs.
mod restart;
/// Two who both take themselves for the holder of a claim.
pub(crate) mod zombies;

const PARTITIONS: usize = 4;
const TOPIC: &str = "soak";
const POLL: Duration = Duration::from_millis(20);
const TIERED_DEADLINE: Duration = Duration::from_secs(300);
/// How long to wait for a broker with a planted fault before it is looked at as it stands.
const PATIENT: Duration = Duration::from_secs(10);
const PATIENT_AUDIT_SECONDS: u64 = 30;
/// Closed, uploaded and dropped from the local disk within seconds; what is written goes through a journal that is soon full, and
/// recovery points move on within a segment.
const SMALL_SEGMENTS: [(&str, &str); 8] = [
    ("log.segment.bytes", "1048576"),
    ("tier.roll.ms", "1000"),
    ("log.local.retention.ms", "1500"),
    ("log.retention.check.interval.ms", "300"),
    ("log.journal.logs.min", "1"),
    ("log.journal.bytes", "2097152"),
    ("log.checkpoint.bytes", "131072"),
    ("log.recovery.bytes", "0"),
];

pub(crate) fn main(proof: &str, mut flags: Flags) -> Result<()> {
    // Known before anything is built for it.
    let prove: fn(&Path, Flags) -> Result<()> = match proof {
        "planted" => {
            machine::require("kcat")?;
            return planted::main(flags);
        }
        "sim" => return simulation::seeds(flags),
        "zombies" => return simulation::zombies(flags),
        "crashpoints" => return simulation::crashpoints(flags),
        "storefaults-sim" => return simulation::store_faults(flags),
        "away" => away::main,
        "beside" => beside::main,
        "compaction" => compaction::main,
        "corrupt" => corrupt::main,
        "groups" => groups::main,
        "hostile" => hostile::main,
        "kill9" => kill9::main,
        "powercut" => powercut::main,
        "quotas" => quotas::main,
        "diskfault" => diskfault::main,
        "restart" => restart::main,
        "outage" => outage::main,
        "storefaults" => storefaults::main,
        "zombies-real" => zombies::main,
        "replay" => replay::main,
        other => {
            bail!(
                "no such proof: '{other}' (kill9, powercut, corrupt, beside, compaction, groups, away, hostile, quotas, diskfault, planted, sim, zombies, crashpoints, restart, outage, storefaults, storefaults-sim, zombies-real, replay)"
            )
        }
    };
    // What reads all of it at the end is better missed at the start.
    machine::require("kcat")?;
    let profile: String = flags.take("broker", "release".to_owned())?;
    let binary: PathBuf = flags.take("binary", PathBuf::new())?;
    prove(&built::or_given(&profile, binary)?, flags)
}

/// How often to strike, and how hard the broker works meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blows {
    pub(crate) rounds: usize,
    /// Records a second.
    pub(crate) rate: u64,
    /// Between the first acknowledgement after a start and the next blow, at random.
    pub(crate) between_ms_max: u64,
    manner: Manner,
}

impl Blows {
    /// Of the usual strength.
    pub(crate) fn of(rounds: usize) -> Blows {
        Blows { rounds, rate: 3_000, between_ms_max: 600, manner: Manner::Strict }
    }

    fn patient(rounds: usize) -> Blows {
        Blows { manner: Manner::Patient, ..Blows::of(rounds) }
    }

    fn take(flags: &mut Flags) -> Result<Blows> {
        let Blows { rounds, rate, between_ms_max, manner } = Blows::of(100);
        Ok(Blows {
            rounds: flags.take("rounds", rounds)?,
            rate: flags.take("rate", rate)?,
            between_ms_max: flags.take("between-ms-max", between_ms_max)?,
            manner,
        })
    }
}

/// What is left of a broker after all blows: it is running.
#[derive(Debug)]
struct Struck {
    rig: Rig,
    broker: Broker,
    starts: Vec<Started>,
}

/// Strikes and starts again, time after time, and lets it work a little in between.
fn strike(
    mut rig: Rig,
    mut broker: Broker,
    blows: Blows,
    what: &str,
    mut blow: impl FnMut(&mut Broker) -> Result<Started>,
) -> Result<Struck> {
    let Blows { rounds, between_ms_max, .. } = blows;
    let mut starts = Vec::new();
    for round in 1..=rounds {
        if !rig.goes_on()? {
            break;
        }
        sleep(random(between_ms_max));
        rig.history.fault(what)?;
        let started = blow(&mut broker)?;
        told(round, rounds, started, rig.soak.acked()?);
        starts.push(started);
    }
    rig.goes_on()?;
    Ok(Struck { rig, broker, starts })
}

/// One topic that is written to and read while something happens to its broker, and the history of that.
#[derive(Debug)]
struct Rig {
    history: History,
    soak: Soak,
    readers: Vec<Running>,
    began: Instant,
    manner: Manner,
}

/// What to make of a broker that does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// The proof fails at once.
    Strict,
    /// It is looked at as it stands: its fault is planted, and for the checker to find.
    Patient,
}

impl Rig {
    /// Makes the topic, and starts a producer, a reader of what arrives, and one that reads all of it time and again.
    fn start(name: &str, broker: &Broker, blows: Blows) -> Result<Rig> {
        broker.create_topic(TOPIC, PARTITIONS)?;
        let mut history = match blows.manner {
            Manner::Strict => History::begin(name)?,
            Manner::Patient => History::begin(name)?.impatient(PATIENT_AUDIT_SECONDS),
        };
        history.topic(TOPIC, PARTITIONS, Expiry::Never)?;
        let load = Load { topic: TOPIC, producer: 1, rate: blows.rate, value_bytes: soak::VALUE_BYTES };
        let soak = Soak::start(&broker.bootstrap, load, &history.of("soak"))?;
        let watch = |name: &str, from| soak::watch(&broker.bootstrap, TOPIC, from, name, &history.of(name));
        let readers = vec![watch("tail", "latest")?, watch("replay", "earliest")?];
        Ok(Rig { history, soak, readers, began: Instant::now(), manner: blows.manner })
    }

    /// Waits for an acknowledgement. False: there will be none, since the broker told the producer that its session does not fit.
    /// That is a finding, and the history has it; there is just no use in going on.
    fn goes_on(&mut self) -> Result<bool> {
        match self.manner {
            Manner::Strict => self.soak.wait_for_more(1)?,
            Manner::Patient => {
                if let Err(error) = self.soak.wait_for_more_within(1, PATIENT) {
                    println!("   {error:#}");
                    return Ok(false);
                }
            }
        }
        Ok(!self.soak.is_broken()?)
    }

    /// Ends the clients, has all read by another client, and by the bucket's own tool, and gives what was written down.
    fn finish(self, broker: &Broker) -> Result<History> {
        let Rig { mut history, soak, readers, began, manner } = self;
        let ended = soak.end()?;
        let acked = if manner == Manner::Strict { ended.whole()? } else { ended.acked };
        for reader in readers {
            println!("   reader: {}", reader.end()?.trim());
        }
        println!("   {acked} records acknowledged in {:.0} s", began.elapsed().as_secs_f64());
        history.audit(&broker.bootstrap, TOPIC, PARTITIONS)?;
        history.bucket(broker, TOPIC, PARTITIONS)?;
        Ok(history)
    }
}

/// Ends all in good order: the history must be clean, the bucket as its manifests say, and most of the data in the bucket alone.
fn settle(binary: &Path, rig: Rig, mut broker: Broker) -> Result<Report> {
    let mut history = rig.finish(&broker)?;
    broker.wait_until_no_lag(TIERED_DEADLINE)?;
    let share = broker.wait_until_tiered(TOPIC, 0.3, TIERED_DEADLINE)?;
    println!("   {:.0}% of the bytes at least lie in the bucket alone", share * 100.0);
    if broker.object_store().starts_with("file://") {
        Look::new(bucket::GRACE).note(&broker, &mut history)?;
    }
    let (url, data) = (broker.object_store().to_owned(), broker.data().to_owned());
    broker.end()?;
    local::note(&data, TOPIC, &mut history)?;
    let report = history.must_be_clean()?;
    bucket::verify(binary, &url)?;
    Ok(report)
}

fn summary(proof: &str, starts: &[Started]) {
    let mut ready: Vec<u128> = starts.iter().map(|started| started.after.as_millis()).collect();
    ready.sort_unstable();
    let read_max = starts.iter().map(|started| started.read_bytes).max().unwrap_or_default();
    println!(
        "{proof}: {} times, ready after {} ms (median), {} ms (most); at most {} KB read until ready",
        starts.len(),
        ready.get(ready.len() / 2).copied().unwrap_or_default(),
        ready.last().copied().unwrap_or_default(),
        read_max / 1000
    );
}

/// A round, told now and then.
fn told(round: usize, rounds: usize, started: Started, acked: u64) {
    if round.is_multiple_of((rounds / 20).max(1)) {
        println!(
            "   round {round} of {rounds}: {acked} acknowledged, ready after {} ms",
            started.after.as_millis()
        );
    }
}

/// Up to `max`, differently each time.
fn random(max: u64) -> Duration {
    Duration::from_millis(RandomState::new().hash_one(0) % (max + 1))
}

fn at_most(what: &str, found: u64, max: u64) -> Result<()> {
    ensure!(found <= max, "{what}: {found}, more than {max}");
    Ok(())
}
