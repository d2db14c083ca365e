//! `cargo xtask fuzz`: the targets of `fuzz/`, each for a while, under the address sanitizer and with bounds on memory.
//!
//! What is found stays in `target/fuzz-artifacts/NAME`, what was learned in `target/fuzz-corpus/NAME`: a later run goes on
//! from there.

use crate::flags::Flags;
use crate::run::{command, run, shown};
use crate::{pins, places};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

const SECONDS: u64 = 300;
/// Resident memory of a target, and the largest single allocation: no input is worth more.
const RSS_MB: u64 = 256;
const MALLOC_MB: u64 = 64;
/// An input longer than this says nothing that a shorter one does not.
const INPUT_BYTES_MAX: u64 = 16 << 10;
/// The sanitizer keeps freed memory for a while to find its late users; by default that alone would pass the bound.
const SANITIZER: &str = "quarantine_size_mb=8:malloc_context_size=0:allocator_may_return_null=0";

/// The default of one unit a crate lets one core compile what others wait for.
const CODEGEN_UNITS: &str = "--codegen-units=16";

/// What cargo-fuzz needs to know of one run.
struct Rig {
    tools: PathBuf,
    target: String,
}

pub(crate) fn main(mut flags: Flags) -> Result<()> {
    let wanted = flags.need("target")?;
    let seconds: u64 = flags.take("seconds", SECONDS)?;
    flags.end()?;
    let targets = targets()?;
    let chosen: Vec<String> =
        targets.iter().filter(|name| wanted == "all" || wanted == **name).cloned().collect();
    ensure!(!chosen.is_empty(), "no target is called '{wanted}'; there are all, {}", targets.join(", "));
    let tools = install()?;
    let mut failed = Vec::new();
    for target in chosen {
        let rig = Rig { tools: tools.clone(), target };
        if let Err(error) = rig.fuzz(seconds) {
            println!("   {}: {error:#}", rig.target);
            failed.push(rig.target);
        }
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

/// The names of the files in `fuzz/fuzz_targets`, sorted.
fn targets() -> Result<Vec<String>> {
    let folder = places::root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort_unstable();
    Ok(names)
}

/// cargo-fuzz at its pin; gives the folder of the program.
fn install() -> Result<PathBuf> {
    let pin = pins::Pins::read()?.cargo_fuzz;
    let folder = pins::installed("cargo-fuzz", &pin, |folder| {
        let root = folder.to_str().context("the tools' path is no UTF-8")?;
        run(&mut command(
            "cargo",
            ["install", "--quiet", "--locked", "--version", &pin, "--root", root, "cargo-fuzz"],
        ))
    })?;
    Ok(folder.join("bin"))
}

impl Rig {
    fn cargo_fuzz(&self, verb: &str) -> Command {
        let build = places::root().join("target/fuzz");
        let mut fuzz = command(
            self.tools.join("cargo-fuzz"),
            ["fuzz", verb, &self.target, CODEGEN_UNITS, "--target-dir"],
        );
        // The one place that needs nightly: sanitizers and coverage counters are not in stable.
        fuzz.arg(build).current_dir(places::root()).env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO");
        fuzz
    }

    fn fuzz(&self, seconds: u64) -> Result<()> {
        run(&mut self.cargo_fuzz("build"))?;
        let folder = |kind: &str| -> Result<PathBuf> {
            let path = places::root().join("target").join(kind).join(&self.target);
            std::fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
            Ok(path)
        };
        let (corpus, seeds, artifacts) =
            (folder("fuzz-corpus")?, folder("fuzz-seeds")?, folder("fuzz-artifacts")?);
        let mut fuzz = self.cargo_fuzz("run");
        fuzz.args([&corpus, &seeds]).arg("--").args([
            format!("-artifact_prefix={}/", artifacts.display()),
            format!("-max_total_time={seconds}"),
            format!("-rss_limit_mb={RSS_MB}"),
            format!("-malloc_limit_mb={MALLOC_MB}"),
            format!("-max_len={INPUT_BYTES_MAX}"),
            "-timeout=5".to_owned(),
            "-print_final_stats=1".to_owned(),
        ]);
        fuzz.env("AQUIFER_FUZZ_SEEDS", &seeds).env("ASAN_OPTIONS", SANITIZER);
        let log = places::log(&format!("fuzz-{}", self.target))?;
        let file = std::fs::File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        println!("   $ {}", shown(&fuzz));
        let ended = fuzz.stdin(std::process::Stdio::null()).stderr(file).status()?;
        let said = std::fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
        let said = String::from_utf8_lossy(&said);
        if !ended.success() {
            self.say_how_to_replay(&said, &log);
            bail!("ended with {ended}; all it said is in {}", log.display());
        }
        let executions = executions(&said).with_context(|| format!("no count in {}", log.display()))?;
        ensure!(executions > 0, "nothing was executed");
        println!("   {}: {executions} executions in {seconds} s, nothing found", self.target);
        Ok(())
    }

    fn say_how_to_replay(&self, said: &str, log: &Path) {
        let Some(input) = said.lines().rev().find_map(|line| line.split_once("Test unit written to ")) else {
            println!("   no input was written; see {}", log.display());
            return;
        };
        let mut replay = self.cargo_fuzz("run");
        replay.arg(input.1.trim());
        println!("   to replay it: RUSTUP_TOOLCHAIN=nightly {}", shown(&replay));
    }
}

/// How often the target was run, as libFuzzer tells at the end.
fn executions(said: &str) -> Option<u64> {
    let line = said.lines().rev().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    line.trim().parse().ok()
}
