//! The detector, measured: each of the eleven faults that a build can have on purpose (`runtime/src/planted.rs`) is run under what must
//! bring it to light, and the checker must find it; the same run with the build as it is must be clean.

use crate::flags::Flags;
use crate::history::History;
use crate::mounted::Kind;
use crate::{built, places};
use anyhow::{Context, Result, bail, ensure};
use aquifer_checker::Report;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What is done to a broker to bring a fault to light.
mod cases;
/// Index files that look sound and lead astray.
mod index_files;

/// A fault, what is done to the broker to show it, and how to get the history of that.
struct Case {
    fault: &'static str,
    under: &'static str,
    run: fn(&Path) -> Result<History>,
}

const CASES: &[Case] = &[
    Case { fault: "ack-before-sync", under: "power cuts", run: cases::power_cuts },
    Case {
        fault: "trim-before-manifest",
        under: "kill -9, the bucket stopped",
        run: cases::kills_before_an_answer,
    },
    Case { fault: "tail-cut-below-synced", under: "kill -9", run: cases::kills },
    Case {
        fault: "manifest-create-retried",
        under: "a frozen process and its twin",
        run: cases::frozen_and_its_twin,
    },
    Case { fault: "claim-unchecked", under: "a data directory copied", run: cases::rivals },
    Case { fault: "object-deleted-first", under: "retention", run: cases::retention },
    Case { fault: "cache-of-deleted-topic", under: "a topic made again", run: cases::topic_made_again },
    Case {
        fault: "producer-snapshot-dropped",
        under: "swallowed answers, kill -9",
        run: cases::swallowed_answers,
    },
    Case { fault: "fsync-retried", under: "a disk whose fsync fails once", run: cases::failing_disk },
    Case { fault: "index-trusted", under: "changed index files", run: cases::changed_indexes },
    Case { fault: "journal-not-replayed", under: "power cuts", run: cases::power_cuts },
];

pub(crate) fn main(mut flags: Flags) -> Result<()> {
    let only: String = flags.take("only", String::new())?;
    flags.end()?;
    let wanted: Vec<&str> = only.split(',').filter(|name| !name.is_empty()).collect();
    run(&wanted)
}

/// All of them, or those named.
pub(crate) fn run(wanted: &[&str]) -> Result<()> {
    if let Some(unknown) = wanted.iter().find(|name| CASES.iter().all(|case| case.fault != **name)) {
        bail!("no such fault: '{unknown}'");
    }
    crate::mounted::check_machine(&[Kind::Ext4])?;
    let planted = kept(&built::broker_with("debug", &["--features", "planted"])?, "planted")?;
    let plain = kept(&built::broker_with("debug", &[])?, "plain")?;
    let mut rows = Vec::new();
    let mut missed = Vec::new();
    for case in CASES.iter().filter(|case| wanted.is_empty() || wanted.contains(&case.fault)) {
        let (found, took) = judged(case, &with_fault(&planted, case.fault)?)?;
        let (clean, plain_took) = judged(case, &plain)?;
        let by = found.kinds().map(|kind| format!("{kind:?} {}", found.count(kind))).collect::<Vec<_>>();
        if found.is_clean() {
            missed.push(format!("{} was not found", case.fault));
        }
        if !clean.is_clean() {
            missed.push(format!("{}: the build without it is not clean:\n{clean}", case.under));
        }
        rows.push((case, by.join(", "), took, clean.is_clean(), plain_took));
    }
    println!("\n{:<27} {:<31} {:>8} {:>8} {:<6} found as", "fault", "under", "found s", "plain s", "plain");
    for (case, by, took, clean, plain_took) in &rows {
        let (took, plain_took) = (took.as_secs_f64(), plain_took.as_secs_f64());
        let plain = if *clean { "clean" } else { "FAILED" };
        let by = if by.is_empty() { "NOT FOUND" } else { by };
        println!("{:<27} {:<31} {took:>8.1} {plain_took:>8.1} {plain:<6} {by}", case.fault, case.under);
    }
    ensure!(missed.is_empty(), "{}", missed.join("\n"));
    println!(
        "planted: {} of {} faults found; the build without them passes each of the runs",
        rows.len(),
        rows.len()
    );
    Ok(())
}

fn judged(case: &Case, binary: &Path) -> Result<(Report, Duration)> {
    let name = binary.file_name().unwrap_or_default().to_string_lossy().into_owned();
    println!("\n== {} with {name}", case.under);
    let began = Instant::now();
    let history = (case.run)(binary).with_context(|| format!("{} with {name}", case.under))?;
    let report = history.report()?;
    println!("   {}", report.to_string().replace('\n', "\n   "));
    Ok((report, began.elapsed()))
}

/// A copy of a built program, which the next build cannot replace.
fn kept(binary: &Path, name: &str) -> Result<PathBuf> {
    let copy = places::data()?.join(format!("aquifer-{name}"));
    // In another file's place: one that still runs from a run that was killed cannot be written to.
    places::removed_file(&copy)?;
    std::fs::copy(binary, &copy).with_context(|| format!("copying {}", binary.display()))?;
    Ok(copy)
}

/// A program that is the planted build with one fault.
fn with_fault(planted: &Path, fault: &str) -> Result<PathBuf> {
    let script = places::data()?.join(format!("aquifer-{fault}"));
    std::fs::write(
        &script,
        format!("#!/bin/sh\nPLANTED_FAULT={fault} exec '{}' \"$@\"\n", planted.display()),
    )?;
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755))?;
    Ok(script)
}
