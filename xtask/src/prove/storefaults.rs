//! A real S3 server behind a proxy that fails as stores do, under produce, reads, uploads, retention and kills; and the same in
//! process, against a simulated bucket. In the end nothing is lost, and nothing lies in the bucket that should not.
//!
//! Two topics: one whose history never ends, in many small segments; one that keeps little, in segments that go up in parts.

use super::{Blows, Rig, TIERED_DEADLINE, TOPIC};
use crate::broker::Broker;
use crate::bucket::{self, Look};
use crate::fault_proxy::FaultProxy;
use crate::flags::Flags;
use crate::s3::{self, Kind};
use crate::soak::{self, Load, Soak};
use crate::{local, plain_gets};
use anyhow::{Context, Result, ensure};
use aquifer_checker::Expiry;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

const PREFIX: &str = "storefaults";
/// Keeps little.
const SHORT: &str = "short";
const SHORT_PARTITIONS: usize = 2;
/// Uploaded in two parts.
const SHORT_CONFIGS: [&str; 4] =
    ["segment.bytes=6291456", "segment.ms=3600000", "retention.bytes=25165824", "local.retention.ms=3000"];
/// How late a write reaches the store at most, unless all is to be short.
const LATE_MAX: Duration = Duration::from_secs(45);
const LATE_MAX_SHORT: Duration = Duration::from_secs(5);
/// The broker is told that it may be so much later.
const LATE_MARGIN: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(3);
/// How long after the last fault the bucket may take to hold only what belongs there: the latest write, its grace, sweeps.
const CLEAN_DEADLINE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_secs(1);
/// Everything that is patient with a bucket is less so: a fault costs a second rather than a minute.
const SETTINGS: [(&str, &str); 19] = [
    ("log.segment.bytes", "1048576"),
    ("log.roll.ms", "1000"),
    ("log.local.retention.ms", "1500"),
    ("log.retention.check.interval.ms", "300"),
    ("tier.roll.ms", "10000"),
    ("tier.delete.grace.ms", "3000"),
    ("tier.manifest.age.max.ms", "1000"),
    ("tier.manifest.commit.deadline.ms", "10000"),
    ("tier.manifest.entries.max", "32"),
    ("tier.manifest.page.entries", "16"),
    ("tier.store.attempt.ms", "1000"),
    ("tier.store.deadline.ms", "5000"),
    ("tier.upload.multipart.threshold.bytes", "5242880"),
    ("tier.upload.part.bytes", "5242880"),
    ("tier.upload.retry.backoff.ms", "100"),
    ("tier.upload.retry.backoff.max.ms", "2000"),
    // Little is kept in memory, so that readers ask the bucket time and again.
    ("tier.cache.bytes", "16777216"),
    ("tier.read.ahead.total.bytes", "8388608"),
    ("tier.read.ahead.bytes.max", "4194304"),
];

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let usual = Strength::of(2_000);
    let strength = Strength {
        faults: flags.take("faults", usual.faults)?,
        share: flags.take("share", usual.share)?,
        kill_every: Duration::from_secs(flags.take("kill-seconds", usual.kill_every.as_secs())?),
        late_max: usual.late_max,
        seed: flags.take("seed", usual.seed)?,
    };
    flags.end()?;
    run(binary, strength)
}

/// How much goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strength {
    /// So many faults, and then no more.
    faults: u64,
    /// In thousandths of writes; of reads fewer.
    share: u32,
    /// Between two kills of the broker.
    kill_every: Duration,
    late_max: Duration,
    seed: u64,
}

impl Strength {
    pub(crate) fn of(faults: u64) -> Strength {
        Strength { faults, share: 250, kill_every: Duration::from_secs(90), late_max: LATE_MAX, seed: 1 }
    }

    /// With one kill, and nothing that comes very late.
    pub(crate) fn short(faults: u64) -> Strength {
        Strength { kill_every: Duration::from_secs(8), late_max: LATE_MAX_SHORT, ..Strength::of(faults) }
    }
}

pub(crate) fn run(binary: &Path, strength: Strength) -> Result<()> {
    Kind::MinIo.install()?;
    let minio = Kind::MinIo.start()?;
    plain_gets::make_bucket_readable(&minio.address(), s3::BUCKET)?;
    let (proxy, address) = FaultProxy::spawn(&minio.address(), strength.seed, strength.late_max)?;
    let late_ms = (strength.late_max + LATE_MARGIN).as_millis().to_string();
    let settings = [&SETTINGS[..], &[("tier.late.write.max.ms", &late_ms)]].concat();
    let mut broker = Broker::start(binary, "storefaults", &s3::url(&address, PREFIX), &settings)?;
    let mut rig = Rig::start("storefaults", &broker, Blows { rate: 1_500, ..Blows::of(0) })?;
    broker.create_topic_with(SHORT, SHORT_PARTITIONS, &SHORT_CONFIGS)?;
    rig.history.topic(SHORT, SHORT_PARTITIONS, Expiry::Allowed)?;
    let load = Load { topic: SHORT, producer: 2, rate: 500, value_bytes: 4096 };
    let mut short = Soak::start(&broker.bootstrap, load, &rig.history.of("soak-short"))?;
    let watch = |name, from| soak::watch(&broker.bootstrap, SHORT, from, name, &rig.history.of(name));
    let readers = [watch("short-tail", "latest")?, watch("short-replay", "earliest")?];
    rig.goes_on()?;

    rig.history.fault("store faults")?;
    let kills = suffer(&proxy, &mut broker, &mut rig, &mut short, strength)?;
    rig.history.fault("none")?;
    let counts = proxy.counts();
    println!("   {}", counts.to_string().replace('\n', "\n   "));
    rig.goes_on()?;
    wait_until("all late writes have come", strength.late_max + LATE_MARGIN, || Ok(proxy.late() == 0))?;
    let acked = short.end()?.whole()?;
    println!("   {acked} records acknowledged in {SHORT}");
    for reader in readers {
        println!("   reader of {SHORT}: {}", reader.end()?.trim());
    }
    rig.history.audit(&broker.bootstrap, SHORT, SHORT_PARTITIONS)?;
    let mut history = rig.finish(&broker)?;
    broker.wait_until_no_lag(TIERED_DEADLINE)?;
    let (fenced, gaps) = (
        broker.metric("aquifer_replica_archive_fenced_total")?,
        broker.metric("aquifer_replica_archive_gaps_total")?,
    );
    println!("   {kills} kills; since the last one: {fenced} times fenced, {gaps} gaps");

    let direct = minio.url(PREFIX);
    let quiet = Instant::now();
    wait_until("the bucket holds what its manifests name, and nothing else", CLEAN_DEADLINE, || {
        Ok(bucket::rest(binary, &direct)? == bucket::Rest::default())
    })?;
    println!("   nothing else lies in the bucket {:.0} s later", quiet.elapsed().as_secs_f64());
    Look::new(GRACE).note_in(&minio.address(), PREFIX, &broker, &mut history)?;
    let data = broker.data().to_owned();
    broker.end()?;
    for topic in [TOPIC, SHORT] {
        local::note(&data, topic, &mut history)?;
    }
    history.must_be_clean()?;
    bucket::verify(binary, &direct)?;
    println!("storefaults: {} faults, {kills} kills, seed {}", counts.faults(), strength.seed);
    Ok(())
}

/// Lets things go wrong until enough have. Gives how often the broker was killed.
fn suffer(
    proxy: &Arc<FaultProxy>,
    broker: &mut Broker,
    rig: &mut Rig,
    short: &mut Soak,
    strength: Strength,
) -> Result<u64> {
    proxy.set_share(strength.share);
    let (mut killed, mut kills, mut told) = (Instant::now(), 0, 0);
    loop {
        let faults = proxy.counts().faults();
        if faults >= strength.faults {
            break;
        }
        if faults >= told + strength.faults.div_ceil(10) {
            told = faults;
            println!(
                "   {faults} faults, {} acknowledged, lag {}",
                rig.soak.acked()?,
                broker.upload_lag_bytes()?
            );
        }
        if killed.elapsed() >= strength.kill_every {
            rig.history.fault("kill -9")?;
            broker.kill_and_restart()?;
            (killed, kills) = (Instant::now(), kills + 1);
        }
        ensure!(rig.goes_on()? && !short.is_broken()?, "a producer was told that its session does not fit");
        short.check()?;
        sleep(POLL);
    }
    proxy.set_share(0);
    Ok(kills)
}

fn wait_until(what: &str, within: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + within;
    while !holds().with_context(|| format!("waiting until {what}"))? {
        ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        sleep(POLL);
    }
    Ok(())
}
