//! `aquifer bench`: load for any Kafka broker, and what came of it.
//!
//! The broker is to be the limit, not the load. So all that can be made once is made before a run: batches, requests, buffers. In a
//! run there is one task for each connection, nothing is done for each record, and nothing is allocated for each request. Which
//! versions to speak is asked of each broker; nothing here knows Aquifer from another. Retries there are none: any error ends a
//! run, and what it has measured until then is not told.
//!
//! Bytes are those of record batches as on the wire, headers included; MB are millions.

/// Numbers as people type them.
mod parse;
/// How long requests took.
mod latency;
/// When requests are due.
mod schedule;
/// A batch that is made once, and the header of each copy.
mod load;
/// Produce requests, encoded once.
mod produce_frame;
/// Fetch requests, encoded once.
mod fetch_frame;
/// Answers, read where they lie.
mod answers;
/// The topic, its leaders, and who goes where.
mod target;
/// A connection.
mod link;
/// Connections side by side.
mod crew;
/// One connection that produces.
mod writer;
/// One connection that fetches.
mod reader;
/// What a run says in the end.
mod report;
/// `aquifer bench produce`.
mod produce;
/// `aquifer bench consume`.
mod consume;
/// `aquifer bench replay`.
mod replay;

use aquifer_runtime::tasks::TaskGroup;
use aquifer_runtime::world::World;
use clap::{Args, Subcommand};

use crate::cli::client::ClientArgs;
use crate::cli::output::{Output, told};

/// Load for a Kafka broker, measured
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Write pre-encoded batches, flat out or at a fixed rate
    Produce(produce::ProduceArgs),
    /// Fetch as a consumer without a group does; end to end, too
    Consume(consume::ConsumeArgs),
    /// Read the whole history once, from the beginning to the end as of the start
    Replay(replay::ReplayArgs),
}

impl BenchArgs {
    /// Runs the command.
    pub async fn run(self, world: &World, tasks: &TaskGroup) -> anyhow::Result<()> {
        if let Err(error) = aquifer_runtime::files::raise_open_files_max() {
            tracing::warn!(%error, "the limit of open files stays as low as it is");
        }
        let cluster = self.client.cluster(world, tasks);
        let (bench, outcome) = match self.command {
            BenchCommand::Produce(command) => ("produce", Box::pin(command.run(&cluster)).await),
            BenchCommand::Consume(command) => ("consume", Box::pin(command.run(&cluster)).await),
            BenchCommand::Replay(command) => ("replay", Box::pin(command.run(&cluster)).await),
        };
        let mut out = Output::stdout();
        match &outcome {
            Ok(report) => report.print(&mut out, self.json)?,
            Err(error) if self.json => out.json(&report::failed(bench, &told(error)))?,
            Err(_) => {}
        }
        out.flush()?;
        outcome.map(drop)
    }
}

#[cfg(test)]
mod tests;
