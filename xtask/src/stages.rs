//! Named stages, timed, and how many checks they made. The table comes at the end, also of a run that failed.

use crate::run::shown;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Stages {
    rows: Vec<(String, Duration, &'static str)>,
    passed: u64,
    failed: u64,
}

impl Stages {
    pub(crate) fn stage<T>(&mut self, name: &str, body: impl FnOnce(&mut Stages) -> Result<T>) -> Result<T> {
        println!("\n== {name}");
        let start = Instant::now();
        let done = body(self);
        let took = start.elapsed();
        self.rows.push((name.to_owned(), took, if done.is_ok() { "ok" } else { "FAILED" }));
        println!("== {name}: {} in {:.1} s", if done.is_ok() { "ok" } else { "FAILED" }, took.as_secs_f64());
        if let Err(error) = &done {
            println!("   {error:#}");
        }
        done.with_context(|| format!("stage '{name}'"))
    }

    /// A stage that this machine cannot run: said aloud, and in the table.
    pub(crate) fn impossible(&mut self, name: &str, why: &anyhow::Error) {
        println!("\n== {name}: NOT RUN\n   {why:#}");
        self.rows.push((name.to_owned(), Duration::ZERO, "NOT RUN"));
    }

    /// One thing that could have failed, and did not.
    pub(crate) fn pass(&mut self, what: &str) {
        println!("   ok: {what}");
        self.passed += 1;
    }

    /// Runs `cargo test`, shows what it says as it says it, and adds up its results.
    pub(crate) fn cargo_test(&mut self, command: &mut Command) -> Result<()> {
        println!("   $ {}", shown(command));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting cargo")?;
        let stdout = child.stdout.take().expect("asked for above");
        let mut ran = 0;
        for line in BufReader::new(stdout).lines() {
            let line = line.context("reading what cargo says")?;
            println!("{line}");
            if let Some((passed, failed)) = test_result(&line) {
                self.passed += passed;
                self.failed += failed;
                ran += passed + failed;
            }
        }
        let status = child.wait()?;
        ensure!(status.success(), "{} ended with {status}", shown(command));
        ensure!(ran > 0, "{} ran no test at all", shown(command));
        Ok(())
    }

    /// The table, and the sum as the last line.
    pub(crate) fn finish(&mut self, done: Result<()>) -> Result<()> {
        println!("\n{:<44} {:>9}  result", "stage", "seconds");
        for (name, took, result) in &self.rows {
            println!("{name:<44} {:>9.1}  {result}", took.as_secs_f64());
        }
        let total: Duration = self.rows.iter().map(|(_, took, _)| *took).sum();
        println!(
            "{:<44} {:>9.1}  {}\n",
            "all",
            total.as_secs_f64(),
            if done.is_ok() { "ok" } else { "FAILED" }
        );
        // A stage that fails outside of a counted test is one failure of its own.
        let failed = if done.is_err() { self.failed.max(1) } else { self.failed };
        println!("{} passed, {failed} failed", self.passed);
        done
    }
}

/// Passed and failed of a line such as `test result: ok. 12 passed; 0 failed; 0 ignored; …`.
fn test_result(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut numbers =
        counts.split("; ").map(|part| part.split(' ').next().and_then(|number| number.parse().ok()));
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_cargo_test_are_added_up() {
        let line =
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(test_result(line), Some((12, 0)));
        assert_eq!(test_result("test result: FAILED. 3 passed; 2 failed; 0 ignored"), Some((3, 2)));
        assert_eq!(test_result("test result_is_read ... ok"), None);
    }

    #[test]
    fn a_failed_stage_is_in_the_table_and_ends_the_run() {
        let mut stages = Stages::default();
        let done =
            stages.stage("one", |_| Ok(())).and_then(|()| stages.stage("two", |_| anyhow::bail!("no")));
        let error = stages.finish(done).expect_err("failed");
        assert_eq!(format!("{error:#}"), "stage 'two': no");
        let results: Vec<_> = stages.rows.iter().map(|(name, _, result)| (name.as_str(), *result)).collect();
        assert_eq!(results, [("one", "ok"), ("two", "FAILED")]);
    }
}
