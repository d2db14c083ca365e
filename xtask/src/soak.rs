//! Programs that run beside a broker until they are done, or told to end by closing their stdin; most are of the Go client.

use crate::clients::{self, Passed};
use crate::places;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Padding of each value that [`Soak`] writes.
pub(crate) const VALUE_BYTES: u64 = 512;
const PROGRESS_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// One of them. Its stderr goes to a log, its stdout is its result.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start(name: &str, words: &[&str]) -> Result<Running> {
        let mut program = Command::new(clients::go_program()?);
        program.args(words).args(["--timeout", "2h"]);
        Running::start_other(name, program)
    }

    /// The same for another program.
    pub(crate) fn start_other(name: &str, mut program: Command) -> Result<Running> {
        let log = places::log(name)?;
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = program.spawn().with_context(|| format!("starting {name}"))?;
        Ok(Running { name: name.to_owned(), stdin: child.stdin.take(), child, log })
    }

    /// Closes its stdin, lets it finish what it began, and gives what it printed.
    pub(crate) fn end(mut self) -> Result<String> {
        drop(self.stdin.take());
        let mut said = String::new();
        self.child.stdout.take().context("its output was asked for")?.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended with {status}: {}", self.name, self.last_words()?);
        Ok(said)
    }

    fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("reading {}", self.log.display()))
    }

    fn last_words(&self) -> Result<String> {
        Ok(self.log()?.lines().filter(|line| !line.starts_with("acked=")).collect::<Vec<_>>().join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            // It has nothing to lose; a failure here leaves a process whose stdin is closed, and which ends by that.
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// The producer whose record `i` of a partition must be acknowledged at offset `i`.
#[derive(Debug)]
pub(crate) struct Soak(Running);

impl Soak {
    /// Starts it at so many records a second; 0: as many as go.
    pub(crate) fn start(bootstrap: &str, topic: &str, rate: u64) -> Result<Soak> {
        Soak::start_with(bootstrap, topic, rate, VALUE_BYTES)
    }

    /// The same with values of another size.
    pub(crate) fn start_with(bootstrap: &str, topic: &str, rate: u64, value_bytes: u64) -> Result<Soak> {
        let (rate, bytes) = (rate.to_string(), value_bytes.to_string());
        let words =
            ["soak", "--bootstrap", bootstrap, "--topic", topic, "--rate", &rate, "--value-bytes", &bytes];
        Ok(Soak(Running::start("soak", &words)?))
    }

    /// How many records it last said are acknowledged.
    pub(crate) fn acked(&self) -> Result<u64> {
        let said = self.0.log()?;
        // The last line may be half written.
        let whole = &said[..said.rfind('\n').map_or(0, |end| end + 1)];
        let last = whole.lines().filter_map(|line| line.strip_prefix("acked=")).next_back();
        Ok(last.map_or(0, |count| count.parse().unwrap_or(0)))
    }

    /// Fails, with its reason, if it ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.0.child.try_wait()? {
            Some(status) => bail!("the producer ended with {status}: {}", self.0.last_words()?),
            None => Ok(()),
        }
    }

    /// Waits until so many more are acknowledged; fails when none is for a minute.
    pub(crate) fn wait_for_more(&mut self, records: u64) -> Result<()> {
        let mut last = self.acked()?;
        let want = last + records;
        let mut moved = Instant::now();
        while last < want {
            self.check()?;
            let acked = self.acked()?;
            if acked > last {
                (last, moved) = (acked, Instant::now());
            }
            ensure!(
                moved.elapsed() < PROGRESS_DEADLINE,
                "nothing acknowledged for {PROGRESS_DEADLINE:?}, after {last}"
            );
            sleep(POLL);
        }
        Ok(())
    }

    /// What each partition must hold, once all that it began is acknowledged.
    pub(crate) fn end(self) -> Result<Vec<Passed>> {
        clients::parse(&self.0.end()?)
    }
}
