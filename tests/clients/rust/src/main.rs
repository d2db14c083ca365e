//! The `rdkafka` crate, and so librdkafka, against a broker, as tests/clients/README.md says.

/// A topic made, described, grown and deleted.
mod admin;
/// A member of a group.
mod group;
/// The command line.
mod options;
/// All of a topic, of partitions that are assigned by hand.
mod read;
/// What passed of each partition.
mod seen;
/// Lines produced.
mod write;

use options::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rdkafka: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let options = Options::parse(words)?;
    match command.as_str() {
        "read" => read::read(&options),
        "write" => write::write(&options),
        "group" => group::group(&options),
        "admin" => admin::admin(&options),
        other => anyhow::bail!("no such command: '{other}'"),
    }
}
