//! A member of a group in a process of its own: what it says of itself, and how it is asked to leave.

use crate::clients::{self, Passed};
use crate::run::shown;
use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a rebalance or a read of these small topics may take.
const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// Where a member stands, by its own words.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    pub(crate) assigned: Vec<usize>,
    /// How often a rebalance gave it something or took something.
    pub(crate) turns: u64,
    /// Records read and committed.
    pub(crate) read: u64,
    /// What it said when it left.
    passed: String,
    has_ended: bool,
}

/// A running member; killed if it is dropped before it has left.
#[derive(Debug)]
pub(crate) struct Member {
    child: Child,
    name: String,
    standing: Arc<Mutex<Standing>>,
}

impl Member {
    /// Starts a client's `group` rig.
    pub(crate) fn join(rig: &mut Command) -> Result<Member> {
        let name = shown(rig);
        println!("   $ {name} &");
        let mut child = rig
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let said = BufReader::new(child.stdout.take().expect("asked for above"));
        let standing = Arc::new(Mutex::new(Standing::default()));
        let told = standing.clone();
        thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                note(&mut told.lock().unwrap_or_else(PoisonError::into_inner), &line);
            }
            told.lock().unwrap_or_else(PoisonError::into_inner).has_ended = true;
        });
        Ok(Member { child, name, standing })
    }

    /// Where it stands now.
    pub(crate) fn at(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, of one that must not have ended.
    pub(crate) fn is_there(&self) -> Result<Standing> {
        let at = self.at();
        ensure!(!at.has_ended, "{} has ended: {at:?}", self.name);
        Ok(at)
    }

    /// Waits until it stands as wanted.
    pub(crate) fn wait(&self, what: &str, is_there: impl Fn(&Standing) -> bool) -> Result<()> {
        let start = Instant::now();
        loop {
            let at = self.at();
            if is_there(&at) {
                return Ok(());
            }
            ensure!(!at.has_ended, "{} ended before it had {what}: {at:?}", self.name);
            ensure!(start.elapsed() < PATIENCE, "{} does not have {what} in time: {at:?}", self.name);
            thread::sleep(POLL);
        }
    }

    /// Ends it where it stands: it leaves no word to anybody.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("killing {}", self.name))?;
        self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        Ok(())
    }

    /// Asks it to leave; gives all that it read.
    pub(crate) fn leave(mut self) -> Result<Vec<Passed>> {
        drop(self.child.stdin.take());
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if start.elapsed() > PATIENCE {
                bail!("{} does not leave in time", self.name);
            }
            thread::sleep(POLL);
        };
        ensure!(status.success(), "{} ended with {status}", self.name);
        // What it said last may not have been taken note of yet.
        while !self.at().has_ended {
            thread::sleep(POLL);
        }
        clients::parse(&self.at().passed)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // It has ended already, unless something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn note(standing: &mut Standing, line: &str) {
    if let Some(assigned) = line.strip_prefix("assigned=") {
        standing.assigned = assigned.split(',').filter_map(|number| number.parse().ok()).collect();
        standing.turns += 1;
    } else if let Some(read) = line.strip_prefix("read=") {
        standing.read = read.parse().unwrap_or(standing.read);
    } else {
        standing.passed.push_str(line);
        standing.passed.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_says_is_taken_note_of() {
        let mut standing = Standing::default();
        for line in ["assigned=0,3", "read=12", "read=20", "partition=0 count=1 first=0 last=0 sha256=ab"] {
            note(&mut standing, line);
        }
        assert_eq!((&standing.assigned[..], standing.read, standing.turns), (&[0, 3][..], 20, 1));
        assert_eq!(clients::parse(&standing.passed).expect("a line").len(), 1);
        note(&mut standing, "assigned=");
        assert!(standing.assigned.is_empty());
        assert_eq!(standing.turns, 2);
    }
}
