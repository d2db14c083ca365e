//! Zombies, for real: processes that take themselves for the holder of a claim that another has taken. Each time the loser must be
//! fenced, what the winner acknowledged must be there, and the bucket be as its manifests say.
//!
//! Four situations: a data directory that was copied, and both copies started; a process that is frozen inside an upload, past a
//! restart of its twin; a write that reaches the bucket long after its writer was killed; a loser that collects garbage.

use super::{PARTITIONS, PATIENT_AUDIT_SECONDS, SMALL_SEGMENTS, TOPIC};
use crate::broker::Broker;
use crate::bucket::{self, GRACE, Look};
use crate::fault_proxy::{FaultProxy, Hold};
use crate::flags::Flags;
use crate::history::History;
use crate::s3::{self, Kind, Store};
use crate::soak::{Load, Soak, VALUE_BYTES};
use crate::{places, scenario};
use anyhow::{Result, bail, ensure};
use aquifer_checker::Expiry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// How long each process writes, where the bucket is a server's.
const PACE: Duration = Duration::from_secs(2);
/// The same with a planted fault: so long that a thawed process would write more versions than its twin has.
const PACE_PLANTED: Duration = Duration::from_secs(4);
const FENCED: &str = "aquifer_replica_archive_fenced_total";
/// How late a write may come, as the brokers are told, unless it is to be later.
const LATE: Duration = Duration::from_secs(6);
/// Patience with the bucket of seconds, so that a round is short.
const IMPATIENT: [(&str, &str); 6] = [
    ("tier.store.attempt.ms", "4000"),
    ("tier.store.deadline.ms", "8000"),
    ("tier.manifest.age.max.ms", "500"),
    ("tier.delete.grace.ms", "2000"),
    ("tier.upload.retry.backoff.ms", "100"),
    ("tier.upload.retry.backoff.max.ms", "1000"),
];

/// One of the situations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Situation {
    Copied,
    Frozen(Hold),
    Late(Hold),
}

const SITUATIONS: [(&str, Situation); 6] = [
    ("copied", Situation::Copied),
    ("frozen in a put", Situation::Frozen(Hold::Puts)),
    ("late create", Situation::Late(Hold::Creates)),
    ("frozen in its collection", Situation::Frozen(Hold::Deletes)),
    ("frozen in a create", Situation::Frozen(Hold::Creates)),
    ("late put", Situation::Late(Hold::Puts)),
];

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let rounds: usize = flags.take("rounds", 50)?;
    let only: String = flags.take("only", String::new())?;
    let late = Duration::from_secs(flags.take("late-seconds", LATE.as_secs())?);
    flags.end()?;
    run(binary, rounds, &only, late)
}

/// A frozen process and a late write; copied directories are among the planted faults.
pub(crate) fn short(binary: &Path) -> Result<()> {
    run(binary, 1, "frozen in a create", LATE)?;
    run(binary, 1, "late create", LATE)
}

/// So many rounds, of all situations in turn or of those whose name begins with `only`.
pub(crate) fn run(binary: &Path, rounds: usize, only: &str, late: Duration) -> Result<()> {
    let wanted: Vec<_> = SITUATIONS.into_iter().filter(|(name, _)| name.starts_with(only)).collect();
    ensure!(!wanted.is_empty(), "no such situation: '{only}'");
    Kind::MinIo.install()?;
    let minio = Kind::MinIo.start()?;
    let mut told = vec![Told::default(); wanted.len()];
    for round in 0..rounds {
        let (name, situation) = wanted[round % wanted.len()];
        println!("   round {} of {rounds}: {name}", round + 1);
        let found = meet(binary, &minio, round, situation, late)?;
        told[round % wanted.len()].add(found);
    }
    println!(
        "\n{:<26} {:>6} {:>8} {:>14} {:>13}",
        "situation", "rounds", "fenced", "late, refused", "late, taken"
    );
    for ((name, _), Told { rounds, fenced, refused, taken }) in wanted.iter().zip(&told) {
        println!("{name:<26} {rounds:>6} {fenced:>8} {refused:>14} {taken:>13}");
    }
    println!("zombies-real: {rounds} rounds, the loser fenced in each, histories and buckets clean");
    Ok(())
}

/// What rounds of a situation came to.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    rounds: u64,
    /// Claims that losers found lost.
    fenced: u64,
    /// Late writes that the store refused, since another version lay there.
    refused: u64,
    /// Late writes that the store took: objects that nothing names.
    taken: u64,
}

impl Told {
    fn add(&mut self, other: Told) {
        let Told { rounds, fenced, refused, taken } = other;
        *self = Told {
            rounds: self.rounds + rounds,
            fenced: self.fenced + fenced,
            refused: self.refused + refused,
            taken: self.taken + taken,
        };
    }
}

fn meet(binary: &Path, minio: &Store, round: usize, situation: Situation, late: Duration) -> Result<Told> {
    let prefix = format!("zombies-{round}");
    let (proxy, address) = FaultProxy::spawn(&minio.address(), round as u64, Duration::ZERO)?;
    let direct = minio.url(&prefix);
    let mut settings = owned(&[&SMALL_SEGMENTS[..], &IMPATIENT].concat());
    settings.push(("tier.late.write.max.ms", (late + LATE).as_millis().to_string()));
    let expiry = match situation {
        Situation::Frozen(Hold::Deletes) => {
            settings.push(("log.retention.bytes", "1048576".to_owned()));
            Expiry::Allowed
        }
        _ => Expiry::Never,
    };
    let (first, twin) = (s3::url(&address, &prefix), direct.clone());
    let site = Site { first, twin, proxy: Some(proxy), settings, expiry, pace: PACE };
    let Survivors { history, brokers, told } = match situation {
        Situation::Copied => rivals(binary, &site)?,
        Situation::Frozen(hold) => frozen_and_its_twin(binary, &site, hold)?,
        Situation::Late(hold) => late_writes(binary, &site, hold, late)?,
    };
    wait_until("the bucket holds what its manifests name, and nothing else", late + DEADLINE, || {
        Ok(bucket::rest(binary, &direct)? == bucket::Rest::default())
    })?;
    for broker in brokers {
        broker.end()?;
    }
    history.must_be_clean()?;
    bucket::verify(binary, &direct)?;
    match situation {
        Situation::Copied | Situation::Frozen(_) => ensure!(told.fenced > 0, "nobody was fenced"),
        Situation::Late(Hold::Creates) => {
            ensure!(told.refused > 0 && told.taken == 0, "late versions were not refused: {told:?}");
        }
        Situation::Late(_) => ensure!(told.taken > 0, "no late write arrived: {told:?}"),
    }
    Ok(told)
}

/// Where the two processes of a situation find the bucket, and how they are set up.
#[derive(Debug)]
pub(super) struct Site {
    first: String,
    twin: String,
    /// Between the first process and the bucket.
    proxy: Option<Arc<FaultProxy>>,
    settings: Vec<(&'static str, String)>,
    expiry: Expiry,
    pace: Duration,
}

impl Site {
    /// A folder, with nothing in between: for builds whose fault is to be seen.
    pub(super) fn folder(name: &str) -> Result<Site> {
        let (_none, url) = scenario::store("file", name)?;
        let settings = owned(&SMALL_SEGMENTS);
        let (first, twin) = (url.clone(), url);
        Ok(Site { first, twin, proxy: None, settings, expiry: Expiry::Never, pace: PACE_PLANTED })
    }

    fn start(&self, binary: &Path, name: &str, data: &Path, url: &str) -> Result<Broker> {
        let settings: Vec<(&str, &str)> =
            self.settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        Broker::start_in(binary, name, data, url, &settings)
    }

    /// A broker with a topic that one producer has written to, and where its data lies.
    fn founded(&self, binary: &Path, history: &mut History) -> Result<(Broker, PathBuf)> {
        let data = places::emptied(places::data()?.join("broker-first"))?;
        let broker = self.start(binary, "first", &data, &self.first)?;
        broker.create_topic(TOPIC, PARTITIONS)?;
        history.topic(TOPIC, PARTITIONS, self.expiry)?;
        let soak = producer(&broker, history, 1)?;
        sleep(self.pace);
        soak.end()?.whole()?;
        Ok((broker, data))
    }

    /// Has the broker begin something that the bucket does not answer.
    fn begun(&self, broker: &Broker, history: &History, hold: Hold) -> Result<()> {
        let Some(proxy) = &self.proxy else { return Ok(()) };
        proxy.hold(hold);
        let soak = producer(broker, history, 4)?;
        sleep(self.pace / 2);
        soak.end()?.whole()?;
        wait_until("something is held", DEADLINE, || Ok(proxy.held() > 0))
    }

    /// Lets the bucket do what was held. Gives how often it refused, and how often it took it.
    fn let_go(&self) -> Told {
        let said = self.proxy.as_ref().map(|proxy| proxy.let_go()).unwrap_or_default();
        let refused = said.iter().filter(|status| *status == "412").count() as u64;
        Told { refused, taken: said.len() as u64 - refused, ..Told::default() }
    }

    fn pass(&self) {
        if let Some(proxy) = &self.proxy {
            proxy.pass();
        }
    }
}

/// What is left of a situation: who runs still, and what was written down.
#[derive(Debug)]
pub(super) struct Survivors {
    pub(super) history: History,
    brokers: Vec<Broker>,
    told: Told,
}

fn owned(settings: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    settings.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

/// A producer for as long as a situation needs one.
fn producer(broker: &Broker, history: &History, producer: u32) -> Result<Soak> {
    let load = Load { topic: TOPIC, producer, rate: 3_000, value_bytes: VALUE_BYTES };
    Soak::start(&broker.bootstrap, load, &history.of(&format!("soak-{producer}")))
}

fn copied(data: &Path) -> Result<PathBuf> {
    let copy = places::data()?.join("broker-twin");
    places::removed(&copy)?;
    crate::run::run(crate::run::command("cp", ["-a"]).arg(data).arg(&copy))?;
    Ok(copy)
}

/// A process is stopped where it stands; its data directory is copied, and a twin goes on from the copy, with the same bucket.
/// Then the first wakes up and goes on as if nothing had been. What the twin acknowledged is what the bucket must hold.
pub(super) fn frozen_and_its_twin(binary: &Path, site: &Site, hold: Hold) -> Result<Survivors> {
    let mut history = History::begin("twins")?.impatient(PATIENT_AUDIT_SECONDS);
    // What the thawed one is sent and says is its own affair: nobody else was told.
    let other = History::begin("twins-first")?;
    let (first, data) = site.founded(binary, &mut history)?;
    site.begun(&first, &history, hold)?;

    history.fault("frozen, and a twin started")?;
    first.freeze()?;
    let mut twin = site.start(binary, "twin", &copied(&data)?, &site.twin)?;
    let soak = producer(&twin, &history, 2)?;
    sleep(site.pace);
    soak.end()?;
    twin.wait_until_no_lag(DEADLINE)?;
    if site.proxy.is_some() {
        twin.kill_and_restart()?;
    }

    history.fault("thawed")?;
    let mut told = Told { rounds: 1, ..site.let_go() };
    site.pass();
    first.thaw()?;
    let stray = producer(&first, &other, 3)?;
    sleep(site.pace * 3);
    stray.end()?;
    if site.proxy.is_some() {
        wait_until("the thawed process is fenced", DEADLINE, || Ok(first.metric(FENCED)? > 0))?;
    }
    told.fenced = first.metric(FENCED)?;
    drop(first);
    if site.expiry == Expiry::Never {
        history.bucket(&twin, TOPIC, PARTITIONS)?;
    }
    if site.proxy.is_none() {
        Look::new(GRACE).note(&twin, &mut history)?;
    }
    // From here on it knows of the manifest what lies in the bucket.
    twin.end_and_restart()?;
    history.audit(&twin.bootstrap, TOPIC, PARTITIONS)?;
    Ok(Survivors { history, brokers: vec![twin], told })
}

/// A data directory is copied while nobody runs, and both copies are started: two processes with equal claims. One of them may
/// write the manifest; the other must keep its own records itself. Each is written to; each must give back what it took.
pub(super) fn rivals(binary: &Path, site: &Site) -> Result<Survivors> {
    let mut history = History::begin("rivals")?.impatient(PATIENT_AUDIT_SECONDS);
    let mut other = History::begin("rivals-twin")?.impatient(PATIENT_AUDIT_SECONDS);
    let (mut first, data) = site.founded(binary, &mut history)?;
    first.kill()?;
    let copy = copied(&data)?;
    std::fs::copy(history.of("soak-1"), other.of("soak-1"))?;

    history.fault("copied, and both started")?;
    first.start_again()?;
    let twin = site.start(binary, "twin", &copy, &site.twin)?;
    let soaks = [producer(&first, &history, 2)?, producer(&twin, &other, 3)?];
    sleep(site.pace * 2);
    for soak in soaks {
        soak.end()?;
    }
    history.audit(&first.bootstrap, TOPIC, PARTITIONS)?;
    other.audit(&twin.bootstrap, TOPIC, PARTITIONS)?;
    let fenced = first.metric(FENCED)? + twin.metric(FENCED)?;
    // One is as good as the other: the first that is not clean is the verdict.
    let report = other.report()?;
    let history = if report.is_clean() { history } else { History::kept("rivals-twin")? };
    let told = Told { rounds: 1, fenced, ..Told::default() };
    Ok(Survivors { history, brokers: vec![first, twin], told })
}

/// A process is killed with writes on their way, which reach the bucket long after its successor has gone on.
fn late_writes(binary: &Path, site: &Site, hold: Hold, late: Duration) -> Result<Survivors> {
    let mut history = History::begin("late")?;
    let (mut broker, _) = site.founded(binary, &mut history)?;
    site.begun(&broker, &history, hold)?;
    history.fault("killed with writes on their way")?;
    broker.kill()?;
    let killed = Instant::now();
    site.pass();
    broker.start_again()?;
    let soak = producer(&broker, &history, 2)?;
    sleep(site.pace);
    soak.end()?.whole()?;
    sleep(late.saturating_sub(killed.elapsed()));
    history.fault("writes that came late")?;
    let told = Told { rounds: 1, ..site.let_go() };
    println!("   {told:?}, {:.0} s after the kill", killed.elapsed().as_secs_f64());
    let soak = producer(&broker, &history, 5)?;
    sleep(site.pace);
    soak.end()?.whole()?;
    broker.wait_until_no_lag(DEADLINE)?;
    let fenced = broker.metric(FENCED)?;
    ensure!(fenced == 0, "the successor was fenced {fenced} times by a write of the dead");
    history.bucket(&broker, TOPIC, PARTITIONS)?;
    broker.end_and_restart()?;
    history.audit(&broker.bootstrap, TOPIC, PARTITIONS)?;
    Ok(Survivors { history, brokers: vec![broker], told })
}

fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    while !holds()? {
        if Instant::now() >= deadline {
            bail!("not within {within:?}: {what}");
        }
        sleep(POLL);
    }
    Ok(())
}
