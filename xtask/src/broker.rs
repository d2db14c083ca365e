//! The broker under test: `aquifer dev` as a user starts it, watched through its admin port.

use crate::run::{command, output, run};
use crate::server::{Server, free_port};
use crate::{http, places, process, s3};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The names in `/api/status` that this file reads, here and nowhere else.
mod status {
    pub(super) const PARTITIONS: &str = "partitions";
    pub(super) const TOPIC: &str = "topic";
    pub(super) const PARTITION: &str = "partition";
    pub(super) const LOCAL_START: &str = "local_start";
    pub(super) const LOG_END: &str = "log_end";
    pub(super) const LOCAL_BYTES: &str = "local_bytes";
    pub(super) const TIERED_BYTES: &str = "tiered_bytes";
    pub(super) const DAMAGED: &str = "damaged";
    pub(super) const TOTALS: &str = "totals";
    pub(super) const UPLOAD_LAG_BYTES: &str = "upload_lag_bytes";
}

#[derive(Debug)]
pub(crate) struct Broker {
    server: Server,
    binary: PathBuf,
    arguments: Vec<OsString>,
    object_store: String,
    data: PathBuf,
    log: PathBuf,
    pub(crate) bootstrap: String,
    admin: String,
}

/// What a start cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    /// From the start of the process to `/ready`.
    pub(crate) after: Duration,
    /// What the process had read until then, from page cache or disk.
    pub(crate) read_bytes: u64,
}

impl Broker {
    /// Starts it with an empty data folder, and waits until it says that it is ready.
    pub(crate) fn start(
        binary: &Path,
        name: &str,
        object_store: &str,
        settings: &[(&str, &str)],
    ) -> Result<Broker> {
        let data = places::emptied(places::data()?.join(format!("broker-{name}")))?;
        Broker::start_in(binary, name, &data, object_store, settings)
    }

    /// The same with this data folder, and what lies in it.
    pub(crate) fn start_in(
        binary: &Path,
        name: &str,
        data: &Path,
        object_store: &str,
        settings: &[(&str, &str)],
    ) -> Result<Broker> {
        let bootstrap = format!("127.0.0.1:{}", free_port()?);
        let admin = format!("127.0.0.1:{}", free_port()?);
        let words =
            ["dev", "--listen", &bootstrap, "--admin", &admin, "--object-store", object_store, "--data-dir"];
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.push(data.into());
        for (key, value) in settings {
            arguments.extend(["--set".into(), format!("{key}={value}").into()]);
        }
        let log = places::log(&format!("broker-{name}"))?;
        let server = Server::start("aquifer dev", command(binary, &arguments).envs(s3::KEYS), &log)?;
        let (binary, object_store) = (binary.to_owned(), object_store.to_owned());
        let data = data.to_owned();
        let mut broker = Broker { server, binary, arguments, object_store, data, log, bootstrap, admin };
        broker.wait_until_ready()?;
        Ok(broker)
    }

    /// Has it run on this core alone.
    pub(crate) fn pin(&self, core: &str) -> Result<()> {
        process::pin(self.server.id(), core)
    }

    /// Aquifer's command line, asking this one.
    pub(crate) fn ask<const N: usize>(&self, words: [&str; N]) -> Command {
        let mut ask = command(&self.binary, words);
        ask.env("AQUIFER_BOOTSTRAP", &self.bootstrap);
        ask
    }

    /// Kills it in the middle of whatever it does, and starts it again on what that left.
    pub(crate) fn kill_and_restart(&mut self) -> Result<Started> {
        self.server.kill()?;
        self.start_again()
    }

    /// Kills it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Ends it in good order.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.server.end()?;
        Ok(())
    }

    /// One of its metrics, without labels.
    pub(crate) fn metric(&self, name: &str) -> Result<u64> {
        let answer = http::get(&self.admin, "/metrics")?;
        let value = answer.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = value.with_context(|| format!("no {name} in /metrics"))?;
        value.trim().parse().with_context(|| format!("{name} {value}"))
    }

    /// How many records all partitions of a topic hold, from offset 0, acknowledged or not.
    pub(crate) fn log_ends(&self, topic: &str) -> Result<u64> {
        let status = status(&self.admin)?;
        let partitions = status[status::PARTITIONS].as_array().context("no partitions in /api/status")?;
        let of_topic = partitions.iter().filter(|partition| partition[status::TOPIC] == topic);
        Ok(of_topic.filter_map(|partition| partition[status::LOG_END].as_u64()).sum())
    }

    /// Stops it where it stands.
    pub(crate) fn freeze(&self) -> Result<()> {
        process::freeze(self.server.id())
    }

    /// Lets it go on as if nothing had been.
    pub(crate) fn thaw(&self) -> Result<()> {
        process::thaw(self.server.id())
    }

    /// Where its bucket is.
    pub(crate) fn object_store(&self) -> &str {
        &self.object_store
    }

    /// Where its logs are.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// `aquifer tier`, to be refined.
    pub(crate) fn tier<const N: usize>(&self, words: [&str; N]) -> Command {
        let mut tier = command(&self.binary, ["tier"]);
        tier.args(words).envs(s3::KEYS);
        tier
    }

    /// Ends it in good order, and starts it again: what it held in memory is gone.
    pub(crate) fn end_and_restart(&mut self) -> Result<Started> {
        self.server.end()?;
        self.start_again()
    }

    /// Starts it on what the last one left.
    pub(crate) fn start_again(&mut self) -> Result<Started> {
        let start = Instant::now();
        let mut dev = command(&self.binary, &self.arguments);
        self.server = Server::start("aquifer dev", dev.envs(s3::KEYS), &self.log)?;
        self.wait_until_ready()?;
        let after = start.elapsed();
        Ok(Started { after, read_bytes: process::read_bytes(self.server.id())? })
    }

    /// User and system time of the process since it started.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        process::cpu(self.server.id())
    }

    /// Physical memory of the process.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        process::resident_bytes(self.server.id())
    }

    /// The most physical memory that the process has had since it started.
    pub(crate) fn resident_bytes_max(&self) -> Result<u64> {
        process::resident_bytes_max(self.server.id())
    }

    /// Open sockets: its listeners and its clients' connections.
    pub(crate) fn sockets(&self) -> Result<usize> {
        let path = format!("/proc/{}/fd", self.server.id());
        let open = std::fs::read_dir(&path).with_context(|| format!("listing {path}"))?;
        // One that is closed meanwhile leads nowhere.
        let leads_to = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        Ok(leads_to.filter(|target| target.to_string_lossy().starts_with("socket:")).count())
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let admin = &self.admin;
        self.server.wait_for("ready", READY_DEADLINE, || {
            Ok(http::get(admin, "/ready").is_ok_and(|answer| answer.status == 200).then_some(()))
        })
    }

    pub(crate) fn create_topic(&self, topic: &str, partitions: usize) -> Result<()> {
        self.create_topic_with(topic, partitions, &[])
    }

    /// The same with settings of its own, `key=value`.
    pub(crate) fn create_topic_with(&self, topic: &str, partitions: usize, settings: &[&str]) -> Result<()> {
        let partitions = partitions.to_string();
        let mut create = self.ask(["topic", "create", topic, "--partitions", &partitions]);
        run(create.args(settings.iter().flat_map(|setting| ["--config", setting])))
    }

    /// What it says is damaged and not mended, on its disk or in its bucket.
    pub(crate) fn damaged(&self) -> Result<Vec<String>> {
        let status = status(&self.admin)?;
        let partitions = status[status::PARTITIONS].as_array().context("no partitions in /api/status")?;
        let damaged =
            partitions.iter().filter_map(|partition| partition[status::DAMAGED].as_array()).flatten();
        Ok(damaged.filter_map(|what| Some(what.as_str()?.to_owned())).collect())
    }

    /// Bytes of a topic on the local disk.
    pub(crate) fn local_bytes(&self, topic: &str) -> Result<u64> {
        let status = status(&self.admin)?;
        let partitions = status[status::PARTITIONS].as_array().context("no partitions in /api/status")?;
        let of_topic = partitions.iter().filter(|partition| partition[status::TOPIC] == topic);
        Ok(of_topic.filter_map(|partition| partition[status::LOCAL_BYTES].as_u64()).sum())
    }

    /// Where the local log of each of a topic's partitions starts: what lies before is in the bucket alone.
    pub(crate) fn local_starts(&self, topic: &str) -> Result<BTreeMap<u32, i64>> {
        let status = status(&self.admin)?;
        let partitions = status[status::PARTITIONS].as_array().context("no partitions in /api/status")?;
        let of_topic = partitions.iter().filter(|partition| partition[status::TOPIC] == topic);
        let start = |of: &Value| -> Result<(u32, i64)> {
            let index = of[status::PARTITION].as_u64().context("a partition without its number")?;
            let start = of[status::LOCAL_START].as_i64().context("a partition without its local start")?;
            Ok((u32::try_from(index)?, start))
        };
        of_topic.map(start).collect()
    }

    /// What a group has committed of a topic, a position by partition, as `aquifer group describe` tells it.
    pub(crate) fn positions(&self, group: &str, topic: &str) -> Result<BTreeMap<u32, i64>> {
        let said = output(&mut self.ask(["group", "describe", group, "--json"]))?;
        let groups: Value = serde_json::from_str(&said).context("what `group describe` says")?;
        let partitions = groups[0]["partitions"].as_array().context("no partitions of the group")?;
        let of_topic = partitions.iter().filter(|position| position["topic"] == topic);
        let position =
            |of: &Value| Some((u32::try_from(of["partition"].as_u64()?).ok()?, of["offset"].as_i64()?));
        Ok(of_topic.filter_map(position).collect())
    }

    /// Where it writes what it has to say.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    pub(crate) fn delete_topic(&self, topic: &str) -> Result<()> {
        run(&mut self.ask(["topic", "delete", topic]))
    }

    /// Waits until at least this share of a topic's bytes is in the bucket and no longer on the local disk.
    pub(crate) fn wait_until_tiered(&mut self, topic: &str, share: f64, within: Duration) -> Result<f64> {
        let admin = self.admin.clone();
        let what = format!("holding {:.0}% of {topic} in the bucket alone", share * 100.0);
        self.server.wait_for(&what, within, || {
            let found = only_in_the_bucket(&status(&admin)?, topic)?;
            Ok((found >= share).then_some(found))
        })
    }

    /// Sealed bytes that are not in the bucket yet, as the broker counts them.
    pub(crate) fn upload_lag_bytes(&self) -> Result<u64> {
        let status = status(&self.admin)?;
        let lag = &status[status::TOTALS][status::UPLOAD_LAG_BYTES];
        lag.as_u64().with_context(|| format!("no lag in the totals of {status}"))
    }

    /// Waits until all that is sealed is in the bucket.
    pub(crate) fn wait_until_no_lag(&mut self, within: Duration) -> Result<()> {
        let admin = self.admin.clone();
        self.server.wait_for("without upload lag", within, || {
            let status = status(&admin)?;
            Ok((status[status::TOTALS][status::UPLOAD_LAG_BYTES] == 0).then_some(()))
        })
    }

    /// Asks it to end; an orderly end is exit code 0.
    pub(crate) fn end(mut self) -> Result<()> {
        let status = self.server.end()?;
        ensure!(status.success(), "aquifer dev ended with {status} after SIGTERM");
        Ok(())
    }
}

fn status(admin: &str) -> Result<Value> {
    let answer = http::get(admin, "/api/status")?;
    ensure!(answer.status == 200, "/api/status was answered {}: {}", answer.status, answer.body);
    serde_json::from_str(&answer.body).context("/api/status is not JSON")
}

/// The least share of a topic's bytes that can be in the bucket alone: as if all that is local were in the bucket too, and
/// counted on top of it.
fn only_in_the_bucket(status: &Value, topic: &str) -> Result<f64> {
    let partitions = status[status::PARTITIONS].as_array().context("no partitions in /api/status")?;
    let (mut local, mut tiered, mut known) = (0, 0, false);
    for partition in partitions.iter().filter(|partition| partition[status::TOPIC] == topic) {
        let number =
            |name: &str| partition[name].as_u64().with_context(|| format!("no {name} in {partition}"));
        local += number(status::LOCAL_BYTES)?;
        tiered += number(status::TIERED_BYTES)?;
        known = true;
    }
    ensure!(known, "/api/status knows no partition of {topic}");
    // Nothing was written yet: nothing is in the bucket.
    if local + tiered == 0 {
        return Ok(0.0);
    }
    Ok(tiered.saturating_sub(local) as f64 / (tiered + local) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_counts_all_partitions_of_the_topic_and_no_other() {
        let status = serde_json::json!({ "partitions": [
            { "topic": "a", "local_bytes": 10, "tiered_bytes": 90 },
            { "topic": "a", "local_bytes": 40, "tiered_bytes": 60 },
            { "topic": "b", "local_bytes": 1000, "tiered_bytes": 0 },
        ]});
        assert_eq!(only_in_the_bucket(&status, "a").expect("known"), 0.5);
        assert!(only_in_the_bucket(&status, "c").is_err());
    }
}
