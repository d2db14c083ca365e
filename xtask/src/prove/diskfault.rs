//! Two real disks that go bad, under produce and reads.
//!
//! *Failing*: an ext4 in an image on a small tmpfs. Once the tmpfs is full, write-back fails and `fsync` says EIO, once; a second
//! one would say that all is well. The log directory must be given up at the first, and nothing be acknowledged from then on.
//! On good storage (the tmpfs gets room, all that was only in memory is dropped) the broker must come back with all
//! that it ever acknowledged.
//!
//! *Full*: an ext4 with a large file beside the data. Appends must be refused, retriably, with nothing lost and the process alive,
//! and go on by themselves once the file is gone. Then the broker is killed and a log loses the file that says whose it is, as a crash
//! may leave it; it must start on the full disk all the same, and whatever log it cannot open there it must open once there is room.

use super::{Blows, PARTITIONS, Rig, TOPIC};
use crate::broker::Broker;
use crate::bucket;
use crate::flags::Flags;
use crate::history::History;
use crate::mounted::{Kind, Memory, Mounted, check_machine};
use crate::places;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What the file system and a little data need: the rest of the image is promised and not there.
const MEMORY_MB: u64 = 128;
const MEMORY_AMPLE_MB: u64 = 1024;
const IMAGE_MB: u64 = 768;
const FULL_IMAGE_MB: u64 = 512;
/// Left beside the filler.
const ROOM_MB: u64 = 96;
/// Records a second: the disk is to fill up within some seconds.
const RATE: u64 = 20_000;
/// Less of them where a sync fails: what is appended while one fails would make the next one fail as well.
const FAILING_RATE: u64 = 1_000;
/// Left in the memory below the image once all is running.
const FAILING_ROOM_MB: u64 = 6;
const FAULT_DEADLINE: Duration = Duration::from_secs(120);
/// Nothing may be acknowledged for so long after a fault that stays.
const SILENCE: Duration = Duration::from_secs(3);
const DIR_FAILED: &str = "aquifer_log_dir_failed";
const UNOPENED: &str = "aquifer_replica_partitions_unopened";
/// The broker tries again each 30 s at the latest.
const REOPEN_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// Nothing leaves the local disk, so that it fills, and nothing but the disk itself says that it is full.
const SETTINGS: [(&str, &str); 6] = [
    ("log.journal.logs.min", "1"),
    ("log.segment.bytes", "4194304"),
    ("tier.roll.ms", "1000"),
    ("log.local.retention.ms", "-1"),
    ("log.local.retention.bytes", "-1"),
    ("log.disk.high.watermark", "1.0"),
];

pub(crate) fn main(binary: &Path, flags: Flags) -> Result<()> {
    flags.end()?;
    run(binary)
}

pub(crate) fn run(binary: &Path) -> Result<()> {
    check_machine(&[Kind::Ext4])?;
    for journal in [JOURNAL, NO_JOURNAL] {
        failing(binary, "failing", Blows::of(0), journal)?.must_be_clean()?;
    }
    full(binary)
}

/// What is acknowledged is in a journal, which is small beside the disk and has all its blocks: what fails is the sync of segments that
/// it answers for.
const JOURNAL: (&str, &str) = ("log.journal.bytes", "2097152");
/// What fails is the sync that an acknowledgement waits for.
pub(super) const NO_JOURNAL: (&str, &str) = ("log.journal.bytes", "0");

fn with(journal: (&'static str, &'static str)) -> Vec<(&'static str, &'static str)> {
    SETTINGS.into_iter().chain([journal]).collect()
}

/// The history of a disk whose first failed sync is followed by one that succeeds.
pub(super) fn failing(
    binary: &Path,
    name: &str,
    blows: Blows,
    journal: (&'static str, &'static str),
) -> Result<History> {
    let memory = Memory::mount(&format!("{name}-memory"), MEMORY_MB)?;
    let mut disk = Mounted::make(name, Kind::Ext4, memory.point(), IMAGE_MB)?;
    let url = folder(name)?;
    let mut broker = Broker::start_in(binary, name, &disk.point().join("data"), &url, &with(journal))?;
    let mut rig = Rig::start(name, &broker, Blows { rate: FAILING_RATE, ..blows })?;
    rig.soak.wait_for_more(1)?;
    memory.fill(FAILING_ROOM_MB)?;
    rig.history.fault("failed sync")?;
    let (acked, after) = silent(&rig)?;
    println!("   failing: nothing more was acknowledged after {acked} records, {:.1} s", after.as_secs_f64());
    let given_up = broker.metric(DIR_FAILED)?;
    println!("   failing: {DIR_FAILED} is {given_up}");
    broker.kill()?;
    memory.resize(MEMORY_AMPLE_MB)?;
    disk.remount()?;
    let started = broker.start_again()?;
    println!("   failing: ready again after {} ms on good storage", started.after.as_millis());
    rig.goes_on()?;
    let history = rig.finish(&broker)?;
    broker.end()?;
    disk.unmount()?;
    Ok(history)
}

fn full(binary: &Path) -> Result<()> {
    let mut disk = Mounted::make("full", Kind::Ext4, &places::data()?, FULL_IMAGE_MB)?;
    let url = folder("full")?;
    let mut broker = Broker::start_in(binary, "full", &disk.point().join("data"), &url, &with(JOURNAL))?;
    disk.fill(ROOM_MB)?;
    let mut rig = Rig::start("full", &broker, Blows { rate: RATE, ..Blows::of(0) })?;
    rig.soak.wait_for_more(1)?;
    rig.history.fault("disk full")?;
    let (acked, after) = silent(&rig)?;
    println!("   full: nothing more was acknowledged after {acked} records, {:.1} s", after.as_secs_f64());
    ensure!(broker.metric(DIR_FAILED)? == 0, "a full disk made the log directory fail");
    rig.history.audit(&broker.bootstrap, TOPIC, PARTITIONS)?;
    println!("   full: all of it could be read meanwhile");
    disk.unfill()?;
    let back = Instant::now();
    rig.soak.wait_for_more(1)?;
    println!("   full: acknowledged again {:.1} s after there was room", back.elapsed().as_secs_f64());
    started_on_a_full_disk(&mut broker, &disk, &mut rig)?;
    let history = rig.finish(&broker)?;
    broker.wait_until_no_lag(super::TIERED_DEADLINE)?;
    broker.end()?;
    history.must_be_clean()?;
    bucket::verify(binary, &url)?;
    disk.unmount()
}

fn started_on_a_full_disk(broker: &mut Broker, disk: &Mounted, rig: &mut Rig) -> Result<()> {
    broker.kill()?;
    let logs = broker.data().join("topics").join(TOPIC);
    let log = std::fs::read_dir(&logs)?.next().with_context(|| format!("no log in {}", logs.display()))??;
    std::fs::remove_file(log.path().join("partition"))?;
    disk.fill_up()?;
    rig.history.fault("started on a full disk")?;
    broker.start_again()?;
    // What it removes as it starts may be room enough.
    let unopened = broker.metric(UNOPENED)?;
    disk.unfill()?;
    let room = Instant::now();
    while broker.metric(UNOPENED)? > 0 {
        ensure!(room.elapsed() < REOPEN_DEADLINE, "a log is not opened though the disk has room again");
        sleep(POLL);
    }
    let after = room.elapsed().as_secs_f64();
    println!(
        "   full: started, {unopened} logs could not be opened, all were {after:.1} s after there was room"
    );
    rig.goes_on()?;
    Ok(())
}

/// A bucket that has nothing to do with the disk.
fn folder(name: &str) -> Result<String> {
    Ok(format!("file://{}", places::emptied(places::data()?.join(format!("bucket-{name}")))?.display()))
}

/// Waits until nothing is acknowledged any more; gives how many were, and after how long.
fn silent(rig: &Rig) -> Result<(u64, Duration)> {
    let (mut acked, mut moved, began) = (rig.soak.acked()?, Instant::now(), Instant::now());
    while moved.elapsed() < SILENCE {
        sleep(POLL);
        let now = rig.soak.acked()?;
        if now > acked {
            (acked, moved) = (now, Instant::now());
        }
        ensure!(began.elapsed() < FAULT_DEADLINE, "the disk took everything for {FAULT_DEADLINE:?}");
        if rig.soak.is_broken()? {
            break;
        }
    }
    Ok((acked, moved.duration_since(began)))
}
