//! Power cuts of everything that one node has: the data directory *and* the bucket's folder lie on a file system of their own,
//! which is shut down without a flush, unmounted, and mounted again, and the broker is stopped just before it. Whatever was
//! acknowledged must have been synced by then, in both places; trims run all the while, so that a manifest which only seemed
//! durable would cost records.

use super::{Blows, Rig, SMALL_SEGMENTS, Struck, settle, strike, summary};
use crate::broker::Broker;
use crate::flags::Flags;
use crate::mounted::{Kind, Mounted, Noise, check_machine};
use crate::places;
use anyhow::Result;
use std::path::Path;

/// Of the image, which is sparse.
const IMAGE_MB: u64 = 16_384;

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let kind: Kind = flags.take("fs", Kind::Ext4)?;
    let blows = Blows::take(&mut flags)?;
    flags.end()?;
    run(binary, kind, blows)
}

pub(crate) fn run(binary: &Path, kind: Kind, blows: Blows) -> Result<()> {
    let mut disk = disk(kind)?;
    let Struck { rig, broker, starts } = struck(binary, &mut disk, blows)?;
    settle(binary, rig, broker)?;
    summary(&format!("powercut on {}", kind.name()), &starts);
    disk.unmount()
}

pub(super) fn disk(kind: Kind) -> Result<Mounted> {
    check_machine(&[kind])?;
    Mounted::make("powercut", kind, &places::data()?, IMAGE_MB)
}

/// A broker whose power was cut so often, and that is running.
pub(super) fn struck(binary: &Path, disk: &mut Mounted, blows: Blows) -> Result<Struck> {
    let bucket = disk.point().join("bucket");
    std::fs::create_dir(&bucket)?;
    let url = format!("file://{}", bucket.display());
    let broker = Broker::start_in(binary, "powercut", &disk.point().join("data"), &url, &SMALL_SEGMENTS)?;
    let rig = Rig::start("powercut", &broker, blows)?;
    let mut noise = Some(Noise::on(disk));
    strike(rig, broker, blows, "power cut", |broker| {
        cut(broker, disk, &mut noise)?;
        broker.start_again()
    })
}

/// Ends a broker and its disk in the same moment, and gives back the disk with what is left on it.
///
/// The broker is stopped first: to a process that outlives the shutdown of an ext4, a sync that was under way may end well though
/// its pages were dropped. What a machine is told after its power has gone, it tells nobody.
pub(super) fn cut(broker: &mut Broker, disk: &mut Mounted, noise: &mut Option<Noise>) -> Result<()> {
    broker.freeze()?;
    disk.cut()?;
    broker.kill()?;
    drop(noise.take());
    disk.remount()?;
    *noise = Some(Noise::on(disk));
    Ok(())
}
