//! A broker's configuration as commands take it: `--config`, `--set`, flags that stand for keys, `--print-config`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use aquifer_runtime::files::Disk;
use clap::Args;

use crate::cli::output::Output;
use crate::config::{CommandDefault, Config, FileText, Flag, Sources};

/// What `aquifer broker` takes.
#[derive(Debug, Args)]
pub struct BrokerArgs {
    /// Configuration file, TOML
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What `aquifer dev` takes.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Address for clients
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Address for /live, /ready, /metrics and /api
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Directory for the local log, metadata and the embedded bucket
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Bucket to use instead of the embedded one: s3://, file:/// or memory:///
    #[arg(long, value_name = "URL")]
    object_store: Option<String>,
    #[command(flatten)]
    common: CommonArgs,
}

/// What all commands that run a broker take.
#[derive(Debug, Args)]
struct CommonArgs {
    /// Set a configuration key; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print each key's value and where it came from, then stop
    #[arg(long)]
    print_config: bool,
    /// With --print-config: print JSON
    #[arg(long, requires = "print_config")]
    json: bool,
}

/// The name by which messages know `aquifer dev`.
const DEV: &str = "aquifer dev";
const DEV_LISTEN: &str = "127.0.0.1:9092";
const DEV_DATA_DIR: &str = "aquifer-data";
/// The embedded bucket's folder in the data directory.
const DEV_BUCKET: &str = "bucket";

impl BrokerArgs {
    /// The configuration; `None` if it was only to be printed, which has happened.
    pub fn load(self, disk: &Disk) -> anyhow::Result<Option<Config>> {
        let file = self.config.as_deref().map(|path| read(disk, path)).transpose()?;
        self.common.load(Sources { file, ..Sources::default() })
    }
}

impl DevArgs {
    /// The configuration; `None` if it was only to be printed, which has happened.
    pub fn load(self) -> anyhow::Result<Option<Config>> {
        let data_dir = self.data_dir.clone().unwrap_or_else(|| PathBuf::from(DEV_DATA_DIR));
        let data_dir = std::path::absolute(&data_dir)
            .with_context(|| format!("data directory {}", data_dir.display()))?;
        let flags = [
            ("--listen", "listeners", self.listen.map(plaintext)),
            ("--admin", "admin.listen", self.admin),
            ("--data-dir", "log.dirs", self.data_dir.map(|_| data_dir.display().to_string())),
            ("--object-store", "tier.object.store", self.object_store),
        ];
        let flags =
            flags.into_iter().filter_map(|(flag, key, value)| Some(Flag { flag, key, value: value? }));
        let bucket = data_dir.join(DEV_BUCKET);
        let bucket =
            url::Url::from_directory_path(&bucket).ok().context("the data directory has no absolute path")?;
        let defaults = [
            ("listeners", plaintext(DEV_LISTEN.to_owned())),
            ("log.dirs", data_dir.display().to_string()),
            ("tier.object.store", bucket.to_string()),
        ];
        let defaults = defaults.map(|(key, value)| CommandDefault { command: DEV, key, value });
        self.common.load(Sources { command: defaults.into(), flags: flags.collect(), ..Sources::default() })
    }
}

impl CommonArgs {
    fn load(self, sources: Sources) -> anyhow::Result<Option<Config>> {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value)));
        let sources = Sources { environment: environment.collect(), sets: self.set, ..sources };
        let config = Config::load(sources)?;
        if !self.print_config {
            return Ok(Some(config));
        }
        let mut out = Output::stdout();
        if self.json {
            out.json(&config.print_json())?;
        } else {
            out.bytes(config.print().as_bytes())?;
        }
        out.flush()?;
        Ok(None)
    }
}

fn plaintext(address: String) -> String {
    format!("PLAINTEXT://{address}")
}

/// A configuration file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read configuration file {path}: {why}")]
pub struct Unreadable {
    path: String,
    why: String,
}

fn read(disk: &Disk, path: &Path) -> Result<FileText, Unreadable> {
    let shown = path.display().to_string();
    let unreadable = |why| Unreadable { path: shown.clone(), why };
    let bytes = disk.read(path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
    Ok(FileText { path: shown, text })
}
