//! Processes that stay: started with a log, watched while waited for, ended by their id, also when a test fails.

use crate::run;
use anyhow::{Context, Result, bail, ensure};
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take to end once asked.
const END_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
const LOG_LINES_SHOWN: usize = 30;

#[derive(Debug)]
pub(crate) struct Server {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts it with both outputs at the end of `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> Result<Server> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("opening {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {}", run::shown(command)))?;
        Ok(Server { name: name.to_owned(), child, log: log.to_owned() })
    }

    /// Polls `condition` until it gives a value; fails when the server ends first, or at the deadline.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut condition: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(value) = condition()? {
                return Ok(value);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before {what}\n{}", self.name, self.log_end());
            }
            ensure!(
                Instant::now() < deadline,
                "{}: not {what} within {within:?}\n{}",
                self.name,
                self.log_end()
            );
            sleep(POLL);
        }
    }

    /// Ends it with SIGKILL, in the middle of whatever it does.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.is_running()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Fails if it has ended by itself.
    pub(crate) fn is_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status} by itself\n{}", self.name, self.log_end()),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end (SIGTERM) and waits; how it ended, also if that was before.
    pub(crate) fn end(&mut self) -> Result<ExitStatus> {
        self.end_within(END_DEADLINE)
    }

    /// The same, with as much patience as that.
    pub(crate) fn end_within(&mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        run::output(&mut run::command("kill", ["-TERM", &self.child.id().to_string()]))?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(POLL);
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!("{} did not end within {patience:?} of SIGTERM\n{}", self.name, self.log_end())
    }

    fn log_end(&self) -> String {
        let Ok(text) = std::fs::read_to_string(&self.log) else { return String::new() };
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LOG_LINES_SHOWN);
        format!("--- end of {}\n{}\n---", self.log.display(), lines[from..].join("\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// A loopback port that nobody listens on now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
