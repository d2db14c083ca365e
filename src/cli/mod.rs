//! What people type: the tree of commands, what they print, and the client that they use.
//!
//! A command fails with one line, `error: ...`, on standard error: exit code 2 for what was typed or configured wrongly, 1 for
//! what went wrong. Standard output holds results alone.

/// Tables, lines and JSON on standard output.
pub mod output;
/// How far a long command has come.
pub mod progress;
/// The process's own log lines.
pub mod logging;
/// A cluster as a client sees it.
pub mod cluster;
/// Which partition a key goes to.
pub mod partitioner;
/// Writes records to a topic.
pub mod producer;
/// Reads a topic's partitions.
pub mod consumer;
/// Where partitions begin and end, without waiting.
pub mod places;
/// Groups, asked of their coordinators.
pub mod coordinator;
/// A place in a partition, as people type it.
pub mod whence;
/// How batches are compressed, as people type it.
pub mod codec;
/// How a record is shown.
pub mod format;
/// What all commands that talk to a cluster take.
pub mod client;
/// A broker's configuration as commands take it.
pub mod settings;
/// `aquifer produce`.
pub mod produce;
/// `aquifer consume`.
pub mod consume;
/// `aquifer topic`.
pub mod topic;
/// `aquifer group`.
pub mod group;
/// `aquifer dev` and `aquifer broker`: a broker until it is told to stop.
pub mod serve;
/// `aquifer tier`: what is in the bucket.
pub mod tier;
/// `aquifer bench`: load for any Kafka broker, and what came of it.
pub mod bench;
/// `aquifer demo`: the whole story in under a minute.
pub mod demo;

use std::process::ExitCode;
use std::time::Duration;

use aquifer_runtime::tasks::TaskGroup;
use aquifer_runtime::world::World;
use clap::{Parser, Subcommand};

use crate::config::Problems;

/// How long a command's tasks have to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Exit code for what was typed or configured wrongly; clap's own.
const EXIT_USAGE: u8 = 2;

/// A Kafka-compatible broker whose history never ends
#[derive(Debug, Parser)]
#[command(name = "aquifer", version, about, propagate_version = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a whole node with an embedded bucket, for development
    Dev(settings::DevArgs),
    /// Run a broker
    Broker(settings::BrokerArgs),
    /// Produce, seal, upload, drop local, replay all of it from a bucket, verify
    Demo(demo::DemoArgs),
    /// Create, list, describe, alter and delete topics
    Topic(topic::TopicArgs),
    /// List, describe, move and delete consumer groups
    Group(group::GroupArgs),
    /// Write a record for each line of standard input
    Produce(produce::ProduceArgs),
    /// Read records to standard output
    Consume(consume::ConsumeArgs),
    /// Look at the bucket: status, ls, verify, cat
    Tier(tier::TierArgs),
    /// Measure a Kafka broker: produce, consume, replay
    Bench(bench::BenchArgs),
}

/// Runs what the process was asked to.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(cli));
            // A start that was given up may wait for a disk or a bucket yet.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(anyhow::Error::new(error).context("cannot start")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", output::told(&error));
            let is_usage = error.is::<Problems>() || error.is::<settings::Unreadable>();
            if is_usage { ExitCode::from(EXIT_USAGE) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let world = World::system();
    let cli = match cli.command {
        Command::Dev(args) => return serve::dev(args.load()?).await,
        Command::Broker(args) => return serve::run(args.load(&world.disk)?).await,
        command => Cli { command },
    };
    logging::start(&logging::for_commands());
    let tasks = TaskGroup::new();
    let outcome = match cli.command {
        Command::Dev(_) | Command::Broker(_) => unreachable!("brokers were run above"),
        Command::Demo(args) => demo::run(args).await,
        Command::Topic(args) => args.run(&world, &tasks).await,
        Command::Group(args) => args.run(&world, &tasks).await,
        Command::Produce(args) => args.run(&world, &tasks).await,
        Command::Consume(args) => args.run(&world, &tasks).await,
        Command::Tier(args) => args.run(&world).await,
        Command::Bench(args) => args.run(&world, &tasks).await,
    };
    let failure = tasks.failure();
    if let Err(error) = tasks.stop(STOP_PATIENCE).await {
        // A thread that waits for a terminal ends with the process.
        tracing::debug!(%error, "not all tasks ended");
    }
    match failure {
        Some(failure) => Err(failure.into()),
        None => outcome,
    }
}

#[cfg(test)]
mod tests;
