//! Many seeds: a process for each, two at a time, and their sums.

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::outcome::Outcome;

/// The argument by which this program runs one seed for itself.
pub(crate) const CHILD: &str = "--child";
/// How many seeds a short run has.
pub(crate) const SHORT: u64 = 30;
/// Every so many seeds one is run twice.
const TWICE_EVERY: u64 = 10;
/// Of fewer runs than this nothing is told on the way.
const TOLD_EVERY_MIN: usize = 100;
/// How many violations of a run are told; its replay tells all.
const TOLD_MAX: usize = 8;

/// Runs seeds and tells of them; some run twice and must come to the same.
pub(crate) fn run_all(from: u64, count: u64, more: &[&str]) -> ExitCode {
    println!("seeds {from} to {} {}", from + count - 1, more.join(" "));
    let seeds: Vec<u64> = (from..from + count).collect();
    tell(&side_by_side(&seeds, |seed| run_one(*seed, more)))
}

/// Does something for each item, as many at a time as there are processors.
pub(crate) fn side_by_side<T: Sync>(items: &[T], work: impl Fn(&T) -> Outcome + Sync) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    let told_every = (items.len() / 20).max(TOLD_EVERY_MIN);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let outcome = work(item);
                    let mut outcomes = outcomes.lock();
                    outcomes.push(outcome);
                    if outcomes.len().is_multiple_of(told_every) {
                        println!("   {} of {}", outcomes.len(), items.len());
                    }
                }
            });
        }
    });
    outcomes.into_inner()
}

fn run_one(seed: u64, more: &[&str]) -> Outcome {
    let mut outcome = child(seed, more);
    if seed.is_multiple_of(TWICE_EVERY) {
        let again = child(seed, more);
        if again.hash != outcome.hash {
            let what = format!("not the same twice: {:016x} and {:016x}", outcome.hash, again.hash);
            outcome.violations.push(what);
        }
    }
    complain(&outcome, &[&["--seed", &seed.to_string()], more].concat().join(" "));
    outcome
}

/// Says what is wrong and how it is seen again.
pub(crate) fn complain(outcome: &Outcome, replay: &str) {
    if outcome.violations.is_empty() {
        return;
    }
    println!("{replay}: {} violations", outcome.violations.len());
    for violation in outcome.violations.iter().take(TOLD_MAX) {
        println!("   {violation}");
    }
    println!("   replay: cargo test --features sim --test sim -- {replay}");
}

/// Runs a seed in a process of its own.
pub(crate) fn child(seed: u64, more: &[&str]) -> Outcome {
    let failed = |what: String| Outcome { violations: vec![what], ..Outcome::none(seed) };
    let program = std::env::current_exe().expect("a running program has a path");
    let output = match Command::new(program).args([CHILD, &seed.to_string()]).args(more).output() {
        Ok(output) => output,
        Err(error) => return failed(format!("cannot run: {error}")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().last().map(serde_json::from_str::<Outcome>) {
        Some(Ok(outcome)) => outcome,
        _ => failed(format!("ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

/// The sums of many runs.
pub(crate) fn tell(outcomes: &[Outcome]) -> ExitCode {
    let sum = |number: fn(&Outcome) -> u64| outcomes.iter().map(number).sum::<u64>();
    let failing: Vec<u64> = outcomes
        .iter()
        .filter(|outcome| !outcome.violations.is_empty())
        .map(|outcome| outcome.seed)
        .collect();
    println!("{} runs, {:.1} simulated hours", outcomes.len(), sum(|o| o.simulated_ms) as f64 / 3.6e6);
    println!(
        "records: {} sent, {} acknowledged, {} read",
        sum(|o| o.sent),
        sum(|o| o.acked),
        sum(|o| o.read)
    );
    println!(
        "disk: {} operations, {} failures and power cuts, {} writes undone",
        sum(|o| o.disk_operations),
        sum(|o| o.disk_faults),
        sum(|o| o.undone)
    );
    println!("bucket: {} requests, {} of them faulty", sum(|o| o.bucket_requests), sum(|o| o.bucket_faults));
    println!(
        "node: {} blows, {} starts, {} starts that failed, {} writers fenced",
        sum(|o| o.blows),
        sum(|o| o.starts),
        sum(|o| o.failed_starts),
        sum(|o| o.fenced)
    );
    println!("violations: {}", sum(|o| o.violations.len() as u64));
    if failing.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failing seeds: {failing:?}");
    ExitCode::FAILURE
}
