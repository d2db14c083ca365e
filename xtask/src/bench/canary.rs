//! Whether the machine is quiet: what a fixed piece of work takes, on each core, beside the best that this run has seen.
//!
//! Figures of a core that somebody else uses mean nothing: the kernel hands it out in slices of 4 ms.

use anyhow::{Context, Result};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// A core is contended if its work takes so much longer than the best seen.
const SLOWER_MAX: f64 = 1.10;
const STEPS: u64 = 60_000_000;
const ROUND_TRIPS: usize = 2_000;

/// The two cores that everything here runs on.
pub(crate) const CORES: [usize; 2] = [0, 1];

/// What the same work took.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Look {
    steps: Duration,
    round_trips: Duration,
}

/// The looks so far.
#[derive(Debug, Default)]
pub(crate) struct Canary {
    best: Option<Look>,
}

/// How the machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Quiet,
    /// By what it was told.
    Contended(String),
}

impl Verdict {
    /// Why, if it was not quiet.
    pub(crate) fn contended(self) -> Option<String> {
        match self {
            Verdict::Quiet => None,
            Verdict::Contended(why) => Some(why),
        }
    }
}

impl Canary {
    /// Looks at both cores now.
    pub(crate) fn look(&mut self) -> Result<Verdict> {
        let mut looks = Vec::with_capacity(CORES.len());
        for core in CORES {
            let look = thread::scope(|scope| scope.spawn(move || look(core)).join());
            looks.push(look.map_err(|_| anyhow::anyhow!("a canary's thread panicked"))??);
        }
        Ok(self.judge(&looks))
    }

    fn judge(&mut self, looks: &[Look]) -> Verdict {
        for look in looks {
            let best = self.best.get_or_insert(*look);
            best.steps = best.steps.min(look.steps);
            best.round_trips = best.round_trips.min(look.round_trips);
        }
        let Some(best) = self.best else { return Verdict::Quiet };
        for (core, look) in looks.iter().enumerate() {
            for (what, took, best) in
                [("steps", look.steps, best.steps), ("round trips", look.round_trips, best.round_trips)]
            {
                let ratio = took.as_secs_f64() / best.as_secs_f64();
                if ratio > SLOWER_MAX {
                    return Verdict::Contended(format!("core {core}: {what} take {ratio:.2} of the best"));
                }
            }
        }
        Verdict::Quiet
    }
}

/// Binds this thread, and what it starts, to a core.
pub(crate) fn bind(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("binding to core {core}"))
}

fn look(core: usize) -> Result<Look> {
    bind(core)?;
    let start = Instant::now();
    let mut sum = 1_u64;
    for step in 0..STEPS {
        sum = black_box(sum.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step));
    }
    black_box(sum);
    Ok(Look { steps: start.elapsed(), round_trips: round_trips()? })
}

/// Both ends are on one core: what is told is the switches, and nothing else wakes up.
fn round_trips() -> Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = thread::spawn(move || -> Result<()> {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut byte = [0];
        while socket.read(&mut byte)? == 1 {
            socket.write_all(&byte)?;
        }
        Ok(())
    });
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut byte = [7];
    let start = Instant::now();
    for _ in 0..ROUND_TRIPS {
        socket.write_all(&byte)?;
        socket.read_exact(&mut byte)?;
    }
    let took = start.elapsed();
    drop(socket);
    echo.join().map_err(|_| anyhow::anyhow!("the echo's thread panicked"))??;
    Ok(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(steps: u64, round_trips: u64) -> Look {
        Look { steps: Duration::from_millis(steps), round_trips: Duration::from_millis(round_trips) }
    }

    #[test]
    fn a_core_that_is_slower_than_the_best_is_contended() {
        let mut canary = Canary::default();
        assert_eq!(canary.judge(&[look(100, 20), look(105, 21)]), Verdict::Quiet);
        assert_eq!(canary.judge(&[look(109, 20), look(100, 22)]), Verdict::Quiet);
        let Verdict::Contended(why) = canary.judge(&[look(100, 20), look(120, 20)]) else { panic!("it is") };
        assert_eq!(why, "core 1: steps take 1.20 of the best");
        assert!(matches!(canary.judge(&[look(90, 20), look(100, 20)]), Verdict::Contended(_)), "a new best");
        assert!(matches!(canary.judge(&[look(90, 30), look(90, 20)]), Verdict::Contended(_)));
    }
}
