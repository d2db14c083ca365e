//! kill -9 at random moments; segments are small, so that uploads, manifests and trims are hit as well.

use super::{Blows, Rig, SMALL_SEGMENTS, Struck, settle, strike, summary};
use crate::broker::Broker;
use crate::flags::Flags;
use crate::scenario;
use anyhow::Result;
use std::path::Path;

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let store: String = flags.take("store", "file".to_owned())?;
    let blows = Blows::take(&mut flags)?;
    flags.end()?;
    run(binary, &store, blows)
}

pub(crate) fn run(binary: &Path, store: &str, blows: Blows) -> Result<()> {
    let (_server, url) = scenario::store(store, "kill9")?;
    let Struck { rig, broker, starts } = struck(binary, &url, blows)?;
    settle(binary, rig, broker)?;
    summary("kill9", &starts);
    Ok(())
}

/// A broker that was killed so often, and is running.
pub(super) fn struck(binary: &Path, url: &str, blows: Blows) -> Result<Struck> {
    let broker = Broker::start(binary, "kill9", url, &SMALL_SEGMENTS)?;
    let rig = Rig::start("kill9", &broker, blows)?;
    strike(rig, broker, blows, "kill -9", Broker::kill_and_restart)
}
