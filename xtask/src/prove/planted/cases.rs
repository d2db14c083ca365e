//! What is done to a broker to bring a fault to light: one function a case, which gives the history of it. Each must be clean with
//! a broker that has no fault, and says nothing of which fault it is for.

use super::super::zombies::Site;
use super::super::{
    Blows, PARTITIONS, PATIENT_AUDIT_SECONDS, Rig, SMALL_SEGMENTS, TIERED_DEADLINE, TOPIC, diskfault, kill9,
    powercut, zombies,
};
use super::index_files;
use crate::broker::Broker;
use crate::bucket::{GRACE, Look};
use crate::fault_proxy::Hold;
use crate::history::History;
use crate::mounted::Kind;
use crate::s3::{self, Kind as Server};
use crate::soak::{Load, Soak, VALUE_BYTES};
use crate::swallow::Swallow;
use crate::{places, scenario, server, slow_proxy};
use anyhow::{Result, ensure};
use aquifer_checker::{Expiry, Partition};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Many of them find something unsynced; a fault that shows then is not to be missed by chance.
const CUTS: usize = 45;
/// Records a second meanwhile: so many that a disk which syncs in a millisecond has something to sync most of the time.
const CUTS_RATE: u64 = 15_000;
/// Several segments are closed in it.
const UNANSWERED: Duration = Duration::from_secs(3);
/// How long retention is watched at its work.
const RETENTION_WATCHED: Duration = Duration::from_secs(12);
/// Sealed segments and a checkpoint behind the swallowed answers.
const SWALLOWED: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(60);
/// Larger than what a first cold read brings, so that its chunk has the same length whatever the segment.
const LARGE_SEGMENTS: [(&str, &str); 4] = [
    ("log.segment.bytes", "4194304"),
    ("tier.roll.ms", "1000"),
    ("log.local.retention.ms", "1000"),
    ("log.retention.check.interval.ms", "300"),
];

pub(super) fn power_cuts(binary: &Path) -> Result<History> {
    let mut disk = powercut::disk(Kind::Ext4)?;
    let struck = powercut::struck(binary, &mut disk, Blows { rate: CUTS_RATE, ..Blows::patient(CUTS) })?;
    struck.rig.finish(&struck.broker)
}

pub(super) fn kills(binary: &Path) -> Result<History> {
    let (_none, url) = scenario::store("file", "kill9")?;
    let struck = kill9::struck(binary, &url, Blows::patient(5))?;
    struck.rig.finish(&struck.broker)
}

/// The bucket answers nothing for a while, in which segments are closed; then the broker is killed, with uploads under way.
pub(super) fn kills_before_an_answer(binary: &Path) -> Result<History> {
    Server::MinIo.install()?;
    let minio = Server::MinIo.start()?;
    let (proxy, address) = slow_proxy::spawn(&minio.address(), Duration::ZERO, f64::INFINITY)?;
    let mut broker = Broker::start(binary, "unanswered", &s3::url(&address, "planted"), &SMALL_SEGMENTS)?;
    let mut rig = Rig::start("unanswered", &broker, Blows::patient(0))?;
    for _ in 0..2 {
        rig.goes_on()?;
        sleep(UNANSWERED);
        rig.history.fault("bucket stopped")?;
        proxy.pause(true);
        sleep(UNANSWERED);
        rig.history.fault("kill -9")?;
        broker.kill()?;
        proxy.pause(false);
        broker.start_again()?;
    }
    rig.goes_on()?;
    rig.finish(&broker)
}

pub(super) fn failing_disk(binary: &Path) -> Result<History> {
    diskfault::failing(binary, "failing", Blows::patient(0), diskfault::NO_JOURNAL)
}

/// A producer for as long as a case needs one.
fn producer(broker: &Broker, history: &History, topic: &str, producer: u32) -> Result<Soak> {
    let load = Load { topic, producer, rate: 3_000, value_bytes: VALUE_BYTES };
    Soak::start(&broker.bootstrap, load, &history.of(&format!("soak-{producer}")))
}

pub(super) fn frozen_and_its_twin(binary: &Path) -> Result<History> {
    Ok(zombies::frozen_and_its_twin(binary, &Site::folder("twins")?, Hold::Puts)?.history)
}

pub(super) fn rivals(binary: &Path) -> Result<History> {
    Ok(zombies::rivals(binary, &Site::folder("rivals")?)?.history)
}

/// A topic that keeps little, and a bucket that is looked at all the while: what a manifest has named stays for its grace.
pub(super) fn retention(binary: &Path) -> Result<History> {
    let (_none, url) = scenario::store("file", "retention")?;
    let mut settings = SMALL_SEGMENTS.to_vec();
    settings.push(("log.retention.bytes", "2097152"));
    let mut broker = Broker::start(binary, "retention", &url, &settings)?;
    let mut history = History::begin("retention")?.impatient(PATIENT_AUDIT_SECONDS);
    broker.create_topic(TOPIC, PARTITIONS)?;
    history.topic(TOPIC, PARTITIONS, Expiry::Allowed)?;
    let soak = producer(&broker, &history, TOPIC, 1)?;
    broker.wait_until_tiered(TOPIC, 0.1, TIERED_DEADLINE)?;
    let (look, began) = (Look::new(GRACE), Instant::now());
    while began.elapsed() < RETENTION_WATCHED {
        look.note(&broker, &mut history)?;
        sleep(POLL);
    }
    soak.end()?;
    history.audit(&broker.bootstrap, TOPIC, PARTITIONS)?;
    Ok(history)
}

/// A topic is read from the bucket, deleted, and made again under its name: nothing of the first may show in the second.
pub(super) fn topic_made_again(binary: &Path) -> Result<History> {
    let (_none, url) = scenario::store("file", "again")?;
    let mut broker = Broker::start(binary, "again", &url, &LARGE_SEGMENTS)?;
    let former = History::begin("again-former")?.impatient(PATIENT_AUDIT_SECONDS);
    let mut history = History::begin("again")?.impatient(PATIENT_AUDIT_SECONDS);
    let fill = |broker: &mut Broker, history: &History, number: u32| -> Result<()> {
        broker.create_topic(TOPIC, 1)?;
        let mut soak = producer(broker, history, TOPIC, number)?;
        soak.wait_for_more(20_000)?;
        soak.end()?.whole()?;
        broker.wait_until_tiered(TOPIC, 0.9, TIERED_DEADLINE)?;
        Ok(())
    };
    let mut before = former;
    fill(&mut broker, &before, 1)?;
    before.audit(&broker.bootstrap, TOPIC, 1)?;
    ensure!(before.report()?.is_clean(), "the former topic was not read as it was written");
    history.fault("topic deleted and made again")?;
    broker.delete_topic(TOPIC)?;
    fill(&mut broker, &history, 2)?;
    history.topic(TOPIC, 1, Expiry::Never)?;
    history.audit(&broker.bootstrap, TOPIC, 1)?;
    Ok(history)
}

/// Batches are written and their answers swallowed; a checkpoint covers them; the broker is killed. Whoever sends them again must
/// be told that they are there already.
pub(super) fn swallowed_answers(binary: &Path) -> Result<History> {
    let (_none, url) = scenario::store("file", "swallowed")?;
    let listen = format!("127.0.0.1:{}", server::free_port()?);
    let advertised = format!("PLAINTEXT://{listen}");
    let mut settings = SMALL_SEGMENTS.to_vec();
    settings.push(("advertised.listeners", &advertised));
    let mut broker = Broker::start(binary, "swallowed", &url, &settings)?;
    let swallow = Swallow::spawn(&listen, broker.bootstrap.clone())?;
    broker.bootstrap = listen;
    let mut rig = Rig::start("swallowed", &broker, Blows::patient(0))?;
    for _ in 0..2 {
        rig.goes_on()?;
        rig.history.fault("answers swallowed")?;
        swallow.answers(true);
        let began = Instant::now();
        while broker.log_ends(TOPIC)? <= rig.soak.acked()? {
            ensure!(began.elapsed() < DEADLINE, "nothing was written while answers were swallowed");
            sleep(POLL);
        }
        sleep(SWALLOWED);
        rig.history.fault("kill -9")?;
        broker.kill_and_restart()?;
        swallow.answers(false);
    }
    rig.goes_on()?;
    rig.finish(&broker)
}

/// Index files of a stopped broker are changed so that they look sound, but for their checksum, and lead too far.
pub(super) fn changed_indexes(binary: &Path) -> Result<History> {
    let (_none, url) = scenario::store("file", "indexes")?;
    let settings = [
        ("log.segment.bytes", "1048576"),
        ("log.index.interval.bytes", "4096"),
        ("log.local.retention.ms", "-1"),
        ("log.local.retention.bytes", "-1"),
    ];
    let data = places::emptied(places::data()?.join("broker-indexes"))?;
    let mut broker = Broker::start_in(binary, "indexes", &data, &url, &settings)?;
    let mut history = History::begin("indexes")?.impatient(PATIENT_AUDIT_SECONDS);
    broker.create_topic(TOPIC, 1)?;
    history.topic(TOPIC, 1, Expiry::Never)?;
    let mut soak = producer(&broker, &history, TOPIC, 1)?;
    soak.wait_for_more(20_000)?;
    let acked = soak.end()?.whole()?;
    history.fault("index files changed")?;
    broker.stop()?;
    let changed = index_files::change(&data)?;
    ensure!(changed > 0, "no index file had entries to change");
    broker.start_again()?;
    let partition = Partition { topic: TOPIC.to_owned(), index: 0 };
    for step in 1..40 {
        history.read_at(&broker.bootstrap, &partition, acked * step / 40)?;
    }
    history.audit(&broker.bootstrap, TOPIC, 1)?;
    Ok(history)
}
