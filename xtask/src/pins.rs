//! The exact version of everything outside, from `xtask/pins.toml`, and the mark by which an installed tool shows its pin.

use crate::places;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The pins that are read from here; those of the servers are read by the scripts in `localstack/`.
#[derive(Debug, Deserialize)]
pub(crate) struct Pins {
    pub(crate) cargo_fuzz: String,
    pub(crate) python_clients: Vec<String>,
    pub(crate) javascript_clients: Vec<String>,
    pub(crate) java_kafka_clients: Vec<String>,
    pub(crate) java_kafka_tools: String,
    pub(crate) java_slf4j_nop: String,
    pub(crate) maven_dependency_plugin: String,
}

impl Pins {
    pub(crate) fn read() -> Result<Pins> {
        let path = places::root().join("xtask/pins.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("parsing {}", path.display()))
    }
}

/// Runs `install` with an empty folder under the tools, unless one made from the same `pin` stands there.
/// The mark is written last: an install that was cut short is done anew.
pub(crate) fn installed(name: &str, pin: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = places::tools().join(name);
    let mark = folder.join(".pin");
    if std::fs::read_to_string(&mark).is_ok_and(|found| found == pin) {
        return Ok(folder);
    }
    println!("   installing {name} (once)");
    places::emptied(folder.clone())?;
    install(&folder).with_context(|| format!("installing {name} ({pin})"))?;
    std::fs::write(&mark, pin).with_context(|| format!("writing {}", mark.display()))?;
    Ok(folder)
}
