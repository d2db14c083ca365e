//! Command-line flags of one subcommand: `--name value` pairs, each known and given once.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::str::FromStr;

/// What was given and not yet asked for. [`Flags::end`] refuses what nobody asked for.
#[derive(Debug)]
pub(crate) struct Flags(BTreeMap<String, String>);

impl Flags {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Flags> {
        let mut given = BTreeMap::new();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else { bail!("expected --name, found '{word}'") };
            let value = words.next().with_context(|| format!("--{name} needs a value"))?;
            ensure!(given.insert(name.to_owned(), value).is_none(), "--{name} is given twice");
        }
        Ok(Flags(given))
    }

    /// The value of `--name`, or `default`.
    pub(crate) fn take<T: FromStr>(&mut self, name: &str, default: T) -> Result<T>
    where
        T::Err: std::fmt::Display,
    {
        match self.0.remove(name) {
            None => Ok(default),
            Some(value) => value.parse().map_err(|error| anyhow::anyhow!("--{name} {value}: {error}")),
        }
    }

    /// The value of `--name`, which must be there.
    pub(crate) fn need(&mut self, name: &str) -> Result<String> {
        self.0.remove(name).with_context(|| format!("--{name} is missing"))
    }

    /// To be called once all flags are taken.
    pub(crate) fn end(self) -> Result<()> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => bail!("no such flag: --{name}"),
        }
    }
}
