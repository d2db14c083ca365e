//! The broker to try, built.

use crate::places;
use crate::run::{cargo, run};
use anyhow::{Result, ensure};
use std::path::PathBuf;

/// The broker to try: one that stands somewhere already, or this one, built.
pub(crate) fn or_given(profile: &str, given: PathBuf) -> Result<PathBuf> {
    if given.as_os_str().is_empty() { broker(profile) } else { Ok(given) }
}

/// Builds the broker in debug or release form.
pub(crate) fn broker(profile: &str) -> Result<PathBuf> {
    broker_with(profile, &[])
}

/// The same, with more words to cargo.
pub(crate) fn broker_with(profile: &str, words: &[&str]) -> Result<PathBuf> {
    ensure!(profile == "debug" || profile == "release", "--broker is debug or release, not '{profile}'");
    let mut build = cargo(["build", "--package", "aquifer"]);
    build.args(words);
    run(if profile == "release" { build.arg("--release") } else { &mut build })?;
    Ok(places::binary(profile))
}
