//! `--name value` pairs, each with a default or asked for where it is needed.

use anyhow::{Context, Result, bail, ensure};
use rdkafka::ClientConfig;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const KNOWN: &[&str] = &[
    "bootstrap",
    "topic",
    "partition",
    "from",
    "until",
    "compression",
    "group",
    "instance",
    "protocol",
    "timeout",
];

pub struct Options {
    given: BTreeMap<String, String>,
    started: Instant,
}

impl Options {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Options> {
        let mut given = BTreeMap::new();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--").filter(|name| KNOWN.contains(name)) else {
                bail!("bad option: {word}")
            };
            let value = words.next().with_context(|| format!("--{name} needs a value"))?;
            given.insert(name.to_owned(), value);
        }
        Ok(Options { given, started: Instant::now() })
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    pub fn need(&self, name: &str) -> Result<&str> {
        self.get(name).with_context(|| format!("--{name} is needed"))
    }

    pub fn timeout(&self) -> Result<Duration> {
        let text = self.get("timeout").unwrap_or("300s");
        let seconds = text.strip_suffix('s').unwrap_or(text).parse().context("--timeout")?;
        Ok(Duration::from_secs(seconds))
    }

    /// An error once the deadline for all of it is over.
    pub fn check_deadline(&self, what: &str) -> Result<()> {
        let timeout = self.timeout()?;
        ensure!(self.started.elapsed() < timeout, "{what} after {timeout:?}");
        Ok(())
    }

    /// What every client of this rig is made with.
    pub fn client(&self) -> Result<ClientConfig> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.need("bootstrap")?);
        Ok(config)
    }
}
