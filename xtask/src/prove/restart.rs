//! Kills a broker that holds much local log while it is written to, and looks at what the restart costs.

use super::{PARTITIONS, TOPIC, at_most, summary};
use crate::broker::Broker;
use crate::flags::Flags;
use crate::history::History;
use crate::scenario;
use crate::soak::{Load, Soak, VALUE_BYTES};
use anyhow::Result;
use aquifer_checker::Expiry;
use std::path::Path;

const READY_MS_MAX: u64 = 1000;
const READ_BYTES_MAX: u64 = 64 << 20;

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let mb: u64 = flags.take("mb", 2048)?;
    flags.end()?;
    let (_server, url) = scenario::store("file", "restart")?;
    // Everything stays on the local disk, whatever the bucket holds.
    let settings = [("log.local.retention.ms", "-1"), ("log.local.retention.bytes", "-1")];
    let mut broker = Broker::start(binary, "restart", &url, &settings)?;
    broker.create_topic(TOPIC, PARTITIONS)?;
    let mut history = History::begin("restart")?;
    history.topic(TOPIC, PARTITIONS, Expiry::Never)?;
    let load = Load { topic: TOPIC, producer: 1, rate: 0, value_bytes: VALUE_BYTES };
    let mut soak = Soak::start(&broker.bootstrap, load, &history.of("soak"))?;
    soak.wait_for_more(mb * 1_000_000 / VALUE_BYTES)?;
    history.fault("kill -9")?;
    let started = broker.kill_and_restart()?;
    let acked = soak.acked()?;
    soak.wait_for_more(1)?;
    soak.end()?.whole()?;
    history.audit(&broker.bootstrap, TOPIC, PARTITIONS)?;
    history.must_be_clean()?;
    broker.end()?;
    println!("restart: {} MB of values acknowledged before the kill", acked * VALUE_BYTES / 1_000_000);
    summary("restart", &[started]);
    at_most("milliseconds until ready", u64::try_from(started.after.as_millis())?, READY_MS_MAX)?;
    at_most("bytes read until ready", started.read_bytes, READ_BYTES_MAX)
}
