//! Long proofs, in full: what a broker does when it is killed, or when the bucket goes away.
//!
//! One idempotent producer with `acks=all` writes numbered records all the while: record `i` of a partition must be
//! acknowledged at offset `i`, so a record that was lost, doubled or moved shows at once, or when all is read back at the end.

use crate::broker::{Broker, Started};
use crate::clients::{self, Client, Passed};
use crate::flags::Flags;
use crate::run::{self, command};
use crate::s3::Kind;
use crate::soak::{Running, Soak};
use crate::{replay, s3, scenario, simulation, soak, suite};
use anyhow::{Result, anyhow, bail, ensure};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

const PARTITIONS: usize = 4;
const TOPIC: &str = "soak";
const POLL: Duration = Duration::from_millis(20);
const TIERED_DEADLINE: Duration = Duration::from_secs(300);
/// With the bucket away, an acknowledgement may take as long as on any other day, on a busy machine.
const STALL_MAX: Duration = Duration::from_secs(5);
/// Closed, uploaded and dropped from the local disk within seconds.
const SMALL_SEGMENTS: [(&str, &str); 4] = [
    ("log.segment.bytes", "4194304"),
    ("tier.roll.ms", "2000"),
    ("log.local.retention.ms", "3000"),
    ("log.retention.check.interval.ms", "500"),
];
const READY_MS_MAX: u128 = 1000;
const READ_BYTES_MAX: u64 = 64 << 20;

pub(crate) fn main(proof: &str, mut flags: Flags) -> Result<()> {
    match proof {
        "sim" => return simulation::seeds(flags),
        "zombies" => return simulation::zombies(flags),
        "crashpoints" => return simulation::crashpoints(flags),
        _ => {}
    }
    let profile: String = flags.take("broker", "release".to_owned())?;
    let binary: PathBuf = flags.take("binary", PathBuf::new())?;
    let binary = suite::built_or_given(&profile, binary)?;
    match proof {
        "kill9" => kill9(&binary, flags),
        "restart" => restart(&binary, flags),
        "outage" => outage(&binary, flags),
        "replay" => replay::main(&binary, flags),
        other => {
            bail!("no such proof: '{other}' (kill9, restart, outage, replay, sim, zombies, crashpoints)")
        }
    }
}

/// Kills the broker at random moments; segments are small, so that uploads, manifests and trims are hit as well.
fn kill9(binary: &Path, mut flags: Flags) -> Result<()> {
    let rounds: usize = flags.take("rounds", 50)?;
    let store: String = flags.take("store", "file".to_owned())?;
    let rate: u64 = flags.take("rate", 10_000)?;
    let between_ms_max: u64 = flags.take("between-ms-max", 2000)?;
    flags.end()?;
    let (_server, url) = scenario::store(&store, "kill9")?;
    let mut broker = Broker::start(binary, "kill9", &url, &SMALL_SEGMENTS)?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let mut soak = Soak::start(&broker.bootstrap, TOPIC, rate)?;
    let mut starts = Vec::new();
    for round in 1..=rounds {
        soak.wait_for_more(1)?;
        sleep(Duration::from_millis(random(between_ms_max)));
        let acked = soak.acked()?;
        let started = broker.kill_and_restart()?;
        println!(
            "   round {round}: killed with {acked} acknowledged; ready after {} ms, {} KB read",
            started.after.as_millis(),
            started.read_bytes / 1000
        );
        starts.push(started);
    }
    soak.wait_for_more(1)?;
    read_back(&broker, soak.end()?)?;
    broker.end()?;
    verify_bucket(binary, &url)?;
    summary("kill9", &starts);
    Ok(())
}

/// Kills a broker that holds much local log while it is written to, and looks at what the restart costs.
fn restart(binary: &Path, mut flags: Flags) -> Result<()> {
    let mb: u64 = flags.take("mb", 2048)?;
    flags.end()?;
    let (_server, url) = scenario::store("file", "restart")?;
    // Everything stays on the local disk, whatever the bucket holds.
    let settings = [("log.local.retention.ms", "-1"), ("log.local.retention.bytes", "-1")];
    let mut broker = Broker::start(binary, "restart", &url, &settings)?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let mut soak = Soak::start(&broker.bootstrap, TOPIC, 0)?;
    soak.wait_for_more(mb * 1_000_000 / soak::VALUE_BYTES)?;
    let started = broker.kill_and_restart()?;
    let acked = soak.acked()?;
    soak.wait_for_more(1)?;
    read_back(&broker, soak.end()?)?;
    broker.end()?;
    println!("restart: {} MB of values acknowledged before the kill", acked * soak::VALUE_BYTES / 1_000_000);
    summary("restart", &[started]);
    ensure!(
        started.after.as_millis() <= READY_MS_MAX,
        "ready after {:?}: more than {READY_MS_MAX} ms",
        started.after
    );
    ensure!(
        started.read_bytes <= READ_BYTES_MAX,
        "{} bytes read: more than {READ_BYTES_MAX}",
        started.read_bytes
    );
    Ok(())
}

/// Stops the bucket's server for a while: producing and tail reads go on, a cold reader waits, the lag shows and goes.
fn outage(binary: &Path, mut flags: Flags) -> Result<()> {
    let seconds: u64 = flags.take("seconds", 60)?;
    let rate: u64 = flags.take("rate", 5_000)?;
    flags.end()?;
    Kind::MinIo.install()?;
    let readers: Vec<Client> = clients::install()?.into_iter().filter(Client::reads).collect();
    let mut store = Kind::MinIo.start()?;
    let url = store.url("outage");
    let mut broker = Broker::start(binary, "outage", &url, &SMALL_SEGMENTS)?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let mut soak = Soak::start(&broker.bootstrap, TOPIC, rate)?;
    // A cold reader stops at the end as it is when it starts, so what it reads lies in the bucket for the most part.
    broker.wait_until_tiered(TOPIC, 0.5, TIERED_DEADLINE)?;
    let tail = Running::start("tail", &["tail", "--bootstrap", &broker.bootstrap, "--topic", TOPIC])?;

    store.stop()?;
    let cold = cold_readers(readers, &broker.bootstrap);
    let (mut lags, mut acked, mut stall) = (Vec::new(), soak.acked()?, Duration::ZERO);
    let (stopped, mut moved) = (Instant::now(), Instant::now());
    while stopped.elapsed() < Duration::from_secs(seconds) {
        sleep(POLL);
        let now = soak.acked()?;
        if now > acked {
            stall = stall.max(moved.elapsed());
            (acked, moved) = (now, Instant::now());
        }
        if stopped.elapsed().as_secs() as usize >= lags.len() {
            lags.push(broker.upload_lag_bytes()?);
        }
    }
    stall = stall.max(moved.elapsed());
    soak.check()?;
    for (name, reader) in &cold {
        ensure!(
            !reader.is_finished(),
            "{name} ended while the bucket was away: it failed, or had nothing to wait for"
        );
    }
    let (lag_first, lag_last) = (lags[0], lags[lags.len() - 1]);
    ensure!(lag_last > lag_first, "the upload lag did not grow while the bucket was away: {lags:?}");
    ensure!(stall < STALL_MAX, "nothing was acknowledged for {stall:?}");

    store.start()?;
    let back = Instant::now();
    for (name, reader) in cold {
        let read = reader.join().map_err(|_| anyhow!("the thread of {name} panicked"))??;
        for passed in &read {
            let dense = passed.first == 0 && passed.last + 1 == i64::try_from(passed.count)?;
            ensure!(dense, "{name} skipped something: {passed:?}");
        }
        let seconds = back.elapsed().as_secs_f64();
        println!("   {name}, which waited for the bucket, read all by {seconds:.1} s after it came back");
    }
    println!("   tail: {}", tail.end()?.trim());
    let wrote = soak.end()?;
    broker.wait_until_no_lag(TIERED_DEADLINE)?;
    println!("   no lag {:.1} s after the bucket came back", back.elapsed().as_secs_f64());
    read_back(&broker, wrote)?;
    broker.end()?;
    verify_bucket(binary, &url)?;
    println!(
        "outage: {seconds} s; longest time without an acknowledgement {} ms; upload lag grew from {lag_first} to {lag_last} bytes",
        stall.as_millis()
    );
    Ok(())
}

type Reading = JoinHandle<Result<Vec<Passed>>>;

/// Each reads the whole topic, all at once.
fn cold_readers(readers: Vec<Client>, bootstrap: &str) -> Vec<(String, Reading)> {
    let start = |client: Client| {
        let (name, bootstrap) = (client.name(), bootstrap.to_owned());
        (name, spawn(move || client.read(&bootstrap, TOPIC, PARTITIONS)))
    };
    readers.into_iter().map(start).collect()
}

/// Another client reads everything: it must be what the producer saw acknowledged, at the same offsets.
fn read_back(broker: &Broker, wrote: Vec<Passed>) -> Result<()> {
    let read = Client::Kcat.read(&broker.bootstrap, TOPIC, PARTITIONS)?;
    ensure!(read == wrote, "acknowledged {wrote:#?}\nbut read {read:#?}");
    let records: u64 = wrote.iter().map(|passed| passed.count).sum();
    println!("   {records} records acknowledged; each is there once, in order, at its offset");
    Ok(())
}

fn verify_bucket(binary: &Path, url: &str) -> Result<()> {
    run::run(command(binary, ["tier", "verify", "--object-store", url]).envs(s3::KEYS))
}

fn summary(proof: &str, starts: &[Started]) {
    let mut ready: Vec<u128> = starts.iter().map(|started| started.after.as_millis()).collect();
    ready.sort_unstable();
    let read_max = starts.iter().map(|started| started.read_bytes).max().unwrap_or_default();
    println!(
        "{proof}: {} kills, ready after {} ms (median), {} ms (most); at most {} KB read until ready",
        starts.len(),
        ready.get(ready.len() / 2).copied().unwrap_or_default(),
        ready.last().copied().unwrap_or_default(),
        read_max / 1000
    );
}

/// Up to `max`, differently each time.
fn random(max: u64) -> u64 {
    RandomState::new().hash_one(0) % (max + 1)
}
