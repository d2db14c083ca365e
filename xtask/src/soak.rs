//! Programs that run beside a broker until they are done, or told to end by closing their stdin. They are of the Go client.

use crate::clients;
use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Padding of each value, unless a proof asks for another.
pub(crate) const VALUE_BYTES: u64 = 512;
const PROGRESS_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const LOG_END_BYTES: u64 = 4096;

/// One of them. Its stderr goes to a log, its stdout is its result.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Running {
    fn start(name: &str, words: &[&str], history: &Path) -> Result<Running> {
        let log = history.with_extension("log");
        let mut program = Command::new(clients::go_program()?);
        program.args(words).args(["--timeout", "2h", "--history"]).arg(history);
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

    /// The last few lines of its stderr: over an hour it becomes long.
    fn log_end(&self) -> Result<String> {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(&self.log)?;
            let start = file.metadata()?.len().saturating_sub(LOG_END_BYTES);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().with_context(|| format!("reading {}", self.log.display()))
    }

    fn last_words(&self) -> Result<String> {
        Ok(self.log_end()?.lines().filter(|line| !line.starts_with("acked=")).collect::<Vec<_>>().join("\n"))
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

/// The idempotent producer of numbered records, with `acks=all`. What it sent and was told goes into a history.
#[derive(Debug)]
pub(crate) struct Soak(Running);

/// What it is to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    pub(crate) topic: &'a str,
    /// Which producer it is in the history.
    pub(crate) producer: u32,
    /// Records a second; 0: as many as go.
    pub(crate) rate: u64,
    /// Padding of each value.
    pub(crate) value_bytes: u64,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// How many records were acknowledged.
    pub(crate) acked: u64,
    /// Whether some were never answered.
    pub(crate) undrained: bool,
}

impl Ended {
    /// The records that were acknowledged, which must be all.
    pub(crate) fn whole(self) -> Result<u64> {
        ensure!(!self.undrained, "the producer's last records were not answered");
        Ok(self.acked)
    }
}

impl Soak {
    pub(crate) fn start(bootstrap: &str, load: Load<'_>, history: &Path) -> Result<Soak> {
        Soak::start_with(bootstrap, load, &[], history)
    }

    /// The same with more flags, `name value`.
    pub(crate) fn start_with(
        bootstrap: &str,
        load: Load<'_>,
        more: &[(&str, String)],
        history: &Path,
    ) -> Result<Soak> {
        let Load { topic, producer, rate, value_bytes } = load;
        let mut words: Vec<String> =
            ["soak", "--bootstrap", bootstrap, "--topic", topic].map(str::to_owned).into();
        let numbers = [("producer", u64::from(producer)), ("rate", rate), ("value-bytes", value_bytes)];
        words.extend(numbers.iter().flat_map(|(name, value)| [format!("--{name}"), value.to_string()]));
        words.extend(more.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(Soak(Running::start("soak", &words, history)?))
    }

    /// How many records it last said are acknowledged.
    pub(crate) fn acked(&self) -> Result<u64> {
        Ok(last_acked(&self.0.log_end()?))
    }

    /// Whether the broker told it that its session does not fit what the log holds: it sends nothing more.
    pub(crate) fn is_broken(&self) -> Result<bool> {
        Ok(self.0.log_end()?.lines().any(|line| line == "broken"))
    }

    /// Fails, with its reason, if it ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.0.child.try_wait()? {
            Some(status) => bail!("the producer ended with {status}: {}", self.0.last_words()?),
            None => Ok(()),
        }
    }

    /// Waits until so many more are acknowledged, or its session is broken; fails when none is for a minute.
    pub(crate) fn wait_for_more(&mut self, records: u64) -> Result<()> {
        self.wait_for_more_within(records, PROGRESS_DEADLINE)
    }

    /// The same, and fails when none is for so long.
    pub(crate) fn wait_for_more_within(&mut self, records: u64, within: Duration) -> Result<()> {
        let mut last = self.acked()?;
        let want = last + records;
        let mut moved = Instant::now();
        while last < want && !self.is_broken()? {
            self.check()?;
            let acked = self.acked()?;
            if acked > last {
                (last, moved) = (acked, Instant::now());
            }
            ensure!(moved.elapsed() < within, "nothing acknowledged for {within:?}, after {last}");
            sleep(POLL);
        }
        Ok(())
    }

    /// Waits until it has sent and been told all that it was started for (`--records`).
    pub(crate) fn finish(mut self, within: Duration) -> Result<Ended> {
        let deadline = Instant::now() + within;
        while self.0.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "the producer is not done within {within:?}");
            sleep(POLL);
        }
        self.end()
    }

    /// Ends it once all that it began is answered, or a minute has passed.
    pub(crate) fn end(self) -> Result<Ended> {
        let log = self.0.log.clone();
        self.0.end()?;
        let said = std::fs::read_to_string(&log).with_context(|| format!("reading {}", log.display()))?;
        let undrained = said.lines().any(|line| line.starts_with("undrained"));
        Ok(Ended { acked: last_acked(&said), undrained })
    }
}

fn last_acked(said: &str) -> u64 {
    // The last line may be half written.
    let whole = &said[..said.rfind('\n').map_or(0, |end| end + 1)];
    let last = whole.lines().filter_map(|line| line.strip_prefix("acked=")).next_back();
    last.map_or(0, |count| count.parse().unwrap_or(0))
}

/// A group whose members come, leave and crash; what they were told is written down.
pub(crate) fn crowd(bootstrap: &str, topic: &str, more: &[&str], history: &Path) -> Result<Running> {
    let mut words = vec!["crowd", "--bootstrap", bootstrap, "--topic", topic];
    words.extend(more);
    Running::start("crowd", &words, history)
}

/// A reader of numbered records that writes down what it reads and is told.
pub(crate) fn watch(bootstrap: &str, topic: &str, from: &str, name: &str, history: &Path) -> Result<Running> {
    let mut words = vec!["watch", "--bootstrap", bootstrap, "--topic", topic, "--from", from];
    words.extend(["--reader", name]);
    Running::start(name, &words, history)
}
