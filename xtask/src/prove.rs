//! Long proofs, in full: what a broker does when it is killed.
//!
//! One idempotent producer with `acks=all` writes numbered records all the while: record `i` of a partition must be
//! acknowledged at offset `i`, so a record that was lost, doubled or moved shows at once, or when all is read back at the end.

use crate::broker::{Broker, Started};
use crate::clients::{self, Client, Passed};
use crate::flags::Flags;
use crate::run::{self, command};
use crate::{places, s3, scenario, suite};
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PARTITIONS: usize = 4;
const TOPIC: &str = "soak";
const VALUE_BYTES: u64 = 512;
const PROGRESS_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const READY_MS_MAX: u128 = 1000;
const READ_BYTES_MAX: u64 = 64 << 20;

pub(crate) fn main(proof: &str, mut flags: Flags) -> Result<()> {
    let profile: String = flags.take("broker", "release".to_owned())?;
    let binary: PathBuf = flags.take("binary", PathBuf::new())?;
    let binary = suite::built_or_given(&profile, binary)?;
    match proof {
        "kill9" => kill9(&binary, flags),
        "restart" => restart(&binary, flags),
        other => bail!("no such proof: '{other}' (kill9, restart)"),
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
    let settings = [
        ("log.segment.bytes", "4194304"),
        ("tier.roll.ms", "2000"),
        ("log.local.retention.ms", "3000"),
        ("log.retention.check.interval.ms", "500"),
    ];
    let mut broker = Broker::start(binary, "kill9", &url, &settings)?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let mut soak = Soak::start(&broker.bootstrap, rate)?;
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
    let mut soak = Soak::start(&broker.bootstrap, 0)?;
    soak.wait_for_more(mb * 1_000_000 / VALUE_BYTES)?;
    let started = broker.kill_and_restart()?;
    let acked = soak.acked()?;
    soak.wait_for_more(1)?;
    read_back(&broker, soak.end()?)?;
    broker.end()?;
    println!("restart: {} MB of values acknowledged before the kill", acked * VALUE_BYTES / 1_000_000);
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

/// The producer: `soak` of the Go client.
struct Soak {
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Soak {
    fn start(bootstrap: &str, rate: u64) -> Result<Soak> {
        let log = places::log("soak")?;
        let mut soak = Command::new(clients::go_program()?);
        soak.args(["soak", "--bootstrap", bootstrap, "--topic", TOPIC, "--timeout", "2h"]);
        soak.args(["--rate", &rate.to_string(), "--value-bytes", &VALUE_BYTES.to_string()]);
        soak.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = soak.spawn().context("starting the producer")?;
        Ok(Soak { stdin: child.stdin.take(), child, log })
    }

    /// What it last said is acknowledged.
    fn acked(&self) -> Result<u64> {
        let said =
            std::fs::read_to_string(&self.log).with_context(|| format!("reading {}", self.log.display()))?;
        // The last line may be half written.
        let whole = &said[..said.rfind('\n').map_or(0, |end| end + 1)];
        let last = whole.lines().filter_map(|line| line.strip_prefix("acked=")).next_back();
        Ok(last.map_or(0, |count| count.parse().unwrap_or(0)))
    }

    fn wait_for_more(&mut self, records: u64) -> Result<()> {
        let mut last = self.acked()?;
        let want = last + records;
        let mut moved = Instant::now();
        while last < want {
            if let Some(status) = self.child.try_wait()? {
                bail!("the producer ended with {status}: {}", self.last_words());
            }
            let acked = self.acked()?;
            if acked > last {
                (last, moved) = (acked, Instant::now());
            }
            ensure!(
                moved.elapsed() < PROGRESS_DEADLINE,
                "nothing acknowledged for {PROGRESS_DEADLINE:?}, after {last}"
            );
            sleep(POLL);
        }
        Ok(())
    }

    /// Lets it finish what it began, and gives what each partition must hold.
    fn end(mut self) -> Result<Vec<Passed>> {
        drop(self.stdin.take());
        let mut said = String::new();
        self.child.stdout.take().context("its output was asked for")?.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the producer ended with {status}: {}", self.last_words());
        clients::parse(&said)
    }

    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        said.lines().filter(|line| !line.starts_with("acked=")).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // It has nothing to lose; a failure here only leaves a process whose stdin is closed, and which ends by that.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
