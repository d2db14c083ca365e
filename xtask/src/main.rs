//! `cargo xtask`: everything that is done to this repository.
//!
//! `test` is what CI runs and what the README says; `verify` is its quick part and never writes; `fix` does what a machine can.
//! The rest are rigs for proofs: the client scenario alone, a proxy as slow as S3, and the plain GETs to measure against.
//! Runs outside of the broker, so the seams that `clippy.toml` guards (files, sockets, clocks, threads) do not apply here.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

/// Command-line flags of one subcommand.
mod flags;
/// Where things lie: the repository, tools, logs, test data.
mod places;
/// The exact version of everything outside.
mod pins;
/// Commands that are run to their end.
mod run;
/// Processes that stay: started, watched, ended by id.
mod server;
/// One HTTP/1.1 exchange at a time.
mod http;
/// What a process has used.
mod process;
/// Programs that the system must have.
mod machine;
/// Named stages, timed; the table at the end.
mod stages;
/// MinIO and LocalStack.
mod s3;
/// Real text, a line a record, split as a keyed producer would.
mod text;
/// Real clients: installed, built, run.
mod clients;
/// The broker, built.
mod built;
/// The broker under test.
mod broker;
/// What readers print, as events.
mod reading;
/// What happened in a run, and the verdict on it.
mod history;
/// What a folder that serves as a bucket holds.
mod bucket;
/// What the log files of a stopped broker hold.
mod local;
/// File systems of their own, to cut the power of.
mod mounted;
/// Text in by real clients, into the bucket, and out again by others.
mod scenario;
/// Admin clients.
mod administration;
/// A member of a group in a process of its own.
mod member;
/// Groups of real clients, and others that go on where they were.
mod groups;
/// Kafka's own tools, as operators type them.
mod tools;
/// Programs that run beside a broker while something happens to it.
mod soak;
/// A loopback of this process's own.
mod network;
/// HTTP/1.1 as it passes by.
mod messages;
/// A proxy as slow as S3.
mod slow_proxy;
/// A proxy that fails as stores do.
mod fault_proxy;
/// A client of one connection that asks, and waits for the answer.
mod plain_client;
/// Plain concurrent ranged GETs: what a replay is measured against.
mod plain_gets;
/// A proxy that swallows a broker's answers.
mod swallow;
/// How fast history comes back.
mod replay;
/// One node in a simulated world.
mod simulation;
/// Long proofs, in full.
mod prove;
/// Decoders under bytes that nobody meant.
mod fuzz;
/// The middle of some numbers.
mod spread;
/// Aquifer beside Apache Kafka.
mod bench;
/// The whole of `test`, `verify` and `fix`.
mod suite;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  test         everything CI runs: installs what is missing, then every check and every test
  verify       the quick part: fmt, clippy, tidy, unit tests; writes nothing
  fix          what a machine can do about fmt and clippy
  clients      real clients against real stores: --size-mb 40 --stores file,localstack,minio --broker debug|release
               --protocols classic,consumer, or against a broker that runs and makes topics of 4 partitions by itself:
               --bootstrap HOST:PORT
  tools        Kafka's own command-line tools: --broker debug|release
  prove kill9    kill -9 under idempotent produce: --rounds 100 --store file|localstack|minio --broker debug|release
  prove powercut power cuts of data directory and bucket (as root): --rounds 100 --fs ext4|xfs --broker debug|release
  prove diskfault a disk whose syncs fail, and one that is full (as root): --broker debug|release
  prove corrupt damage at random places of every kind of file and object: --places 1000 --seed N --broker debug|release
  prove groups   members that come, leave and crash, the broker killed now and then: --seconds 600 --members 50 --partitions 200
                --protocol classic|consumer --kills true|false --seed 1 --broker debug|release
  prove compaction  a compacted topic, its broker killed and its power cut while it compacts (as root, unless --powercuts 0):
                --updates 5000000 --keys 100000 --partitions 4 --kills 12 --powercuts 6 --seed 1 --rate 50000
                --cleaner-rate 67108864 --broker debug|release
  prove beside   the tail while ten consumers replay from the bucket, and while a client makes the same GETs: --rounds 20 --seconds 8
                --replay-mb 40 --tail-rate 1000 --worse-max 1.1 --broker debug|release
  prove away     a group that comes back after months: --partitions 6 --before 50000 --history 1500000 --live-rate 2000
                --member-rate 10000 --protocol classic|consumer --broker debug|release
  prove hostile  clients that mean no good beside one that does: --seconds 600 --rate 5000 --only ATTACK --broker debug|release
  prove quotas   greedy clients held to their quotas beside one without: --form full|short --windows 11 --spans 3 --rate 1000000 --slower-max 2 --broker debug|release
  prove planted  each of the eleven faults that a build can have on purpose must be found (as root): --only NAME
  check        a run's history, again: --history FOLDER
  prove restart kill -9 with much local log: --mb 2048 --broker debug|release
  prove outage  MinIO away for a while under produce, tail and cold reads: --seconds 60 --broker debug|release
  prove storefaults  a bucket that fails in every way, over HTTP: --faults 2000 --share 250 --kill-seconds 90 --seed 1 --broker debug|release
  prove storefaults-sim  the tier alone against a simulated bucket that fails: --faults 100000 --seed 1
  prove zombies-real  losers of claims, as processes on one bucket: --rounds 50 --only copied|frozen|late --late-seconds 6
                --broker debug|release
  prove replay  one partition from a cold broker behind a proxy as slow as S3: --mb 2000 --proxy yes|no --value-bytes 1000 --broker debug|release
  prove sim     a node in simulated worlds, a seed each: --seeds 10000 --from 1, or one told in full: --seed 77
  prove zombies the same with a twin that was started on a copy of its data: --seeds 1000 --from 1, or --seed 77
  prove crashpoints  the same, stopped at each operation of its disk and its bucket: --every 1
  fuzz         decoders under nightly and a sanitizer: --target NAME|all --seconds 300
  bench        Aquifer beside Apache Kafka, in turn on one core: --cases all|matrix|NAME,.. --pairs 3 --seconds 3 --warm 60 --out docs
               --again-minutes 20 --kafka-network-threads 3 --kafka-io-threads 8 --page-cache full|as-is
  bench floor  what this machine can do at best: --seconds 5
  slow-proxy   --upstream HOST:PORT [--listen 127.0.0.1:9001] [--first-byte-ms 30] [--rate-mb 90]
  plain-gets   --endpoint http://HOST:PORT --bucket NAME [--prefix P] [--in-flight 16] [--range-bytes 8388608] [--total-mb N]
               [--make-readable yes]
";

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let proof = if command == "prove" { words.next().unwrap_or_default() } else { String::new() };
    let mut words = words.peekable();
    let is_floor = command == "bench" && words.next_if_eq("floor").is_some();
    let flags = flags::Flags::parse(words);
    match command.as_str() {
        "test" => suite::test(flags?),
        "verify" => suite::verify(flags?),
        "fix" => suite::fix(flags?),
        "clients" => suite::clients(flags?),
        "tools" => suite::tools(flags?),
        "prove" => prove::main(&proof, flags?),
        "fuzz" => fuzz::main(flags?),
        "bench" if is_floor => bench::floor(flags?),
        "bench" => bench::main(flags?),
        "check" => check(flags?),
        "slow-proxy" => slow_proxy::main(flags?),
        "plain-gets" => plain_gets::main(flags?),
        other => {
            eprint!("{USAGE}");
            anyhow::bail!("no such command: '{other}'")
        }
    }
}

/// Judges a history that a run has left.
fn check(mut flags: flags::Flags) -> anyhow::Result<()> {
    let folder = flags.need("history")?;
    flags.end()?;
    let report = history::judge(std::path::Path::new(&folder))?;
    println!("{report}");
    anyhow::ensure!(report.is_clean(), "it breaks the log's word");
    Ok(())
}
