//! One node in a simulated world: network, disk, bucket, clocks and randomness all come from a seed.
//!
//! Each seed runs in a process of its own, so that nothing of one run is left for the next, and one line replays it:
//!
//! ```text
//! cargo test --features sim --test sim                             some seeds, and one of them twice
//! cargo test --features sim --test sim -- --seeds 1000 --from 1    as many as that
//! cargo test --features sim --test sim -- --seed 77                one, told in full
//! cargo test --features sim --test sim -- --zombies --seeds 1000   the node and a twin that was started on a copy of its data
//! cargo test --features sim --test sim -- --crashpoints 1          a crash at each operation of a short workload
//! ```
#![allow(clippy::print_stdout)] // What this program is for.

mod client;
mod crashpoints;
mod dice;
mod history;
mod machine;
mod nemesis;
mod node;
mod outcome;
mod producer;
mod reader;
mod run;
mod seeds;
mod seen;
mod workload;
mod zombies;

use std::process::ExitCode;

use run::Scenario;

/// Has runs be those of a node and its twin.
const ZOMBIES: &str = "--zombies";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        Some(args.get(at + 1)?.parse::<u64>().unwrap_or_else(|_| panic!("{name} takes a number")))
    };
    let trap = args.iter().position(|arg| arg == "--trap").map(|at| {
        let text = args.get(at + 1).map_or("", String::as_str);
        text.parse().unwrap_or_else(|error: String| panic!("--trap: {error}"))
    });
    let is_haunted = args.iter().any(|arg| arg == ZOMBIES);
    if let Some(seed) = value(seeds::CHILD) {
        let outcome = run::run(Scenario { seed, trap, is_haunted }, false);
        println!("{}", serde_json::to_string(&outcome).expect("plain numbers and words"));
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = value("--seed") {
        let outcome = run::run(Scenario { seed, trap, is_haunted }, true);
        println!("{outcome:#?}");
        return if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if let Some(every) = value("--crashpoints") {
        return crashpoints::run_all(every.max(1));
    }
    let more: &[&str] = if is_haunted { &[ZOMBIES] } else { &[] };
    seeds::run_all(value("--from").unwrap_or(1), value("--seeds").unwrap_or(seeds::SHORT), more)
}
