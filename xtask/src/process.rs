//! What a process has used since it started, as Linux tells it; how one is stopped where it stands, and which cores and whose time it takes.

use crate::run::{command, output, run};
use anyhow::{Context, Result, anyhow, ensure};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// What Linux counts process times in, on every machine that this runs on.
const MS_A_TICK: u64 = 10;
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);

/// User and system time of all its threads.
pub(crate) fn cpu(id: u32) -> Result<Duration> {
    let text = read(id, "stat")?;
    // The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th field behind it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: Vec<u64> = fields.split(' ').skip(12).take(2).map_while(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "no times in '{text}'");
    Ok(Duration::from_millis((ticks[0] + ticks[1]) * MS_A_TICK))
}

/// Physical memory.
pub(crate) fn resident_bytes(id: u32) -> Result<u64> {
    let kib = field(&read(id, "status")?, "VmRSS:")?;
    Ok(kib << 10)
}

/// The most of it since it started.
pub(crate) fn resident_bytes_max(id: u32) -> Result<u64> {
    let kib = field(&read(id, "status")?, "VmHWM:")?;
    Ok(kib << 10)
}

/// What it has read, from page cache or disk.
pub(crate) fn read_bytes(id: u32) -> Result<u64> {
    field(&read(id, "io")?, "rchar:")
}

/// Has it, and what it starts from now on, run on this core alone.
pub(crate) fn pin(id: u32, core: &str) -> Result<()> {
    output(&mut command("taskset", ["--all-tasks", "--cpu-list", "--pid", core, &id.to_string()])).map(drop)
}

/// Does something by a thread that, with all that it starts, runs only while nobody else wants the core: what would be another machine
/// must not take the time of what measures.
pub(crate) fn giving_way<T: Send>(what: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let body = || {
        let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
        output(&mut command("chrt", ["--idle", "--pid", "0", &thread]))?;
        what()
    };
    scope(|scope| scope.spawn(body).join()).map_err(|_| anyhow!("a thread that gives way panicked"))?
}

/// Stops it where it stands, and waits until no thread of it runs its own code: each has stopped, or will before it is back from the
/// kernel, where one may still wait for a disk.
pub(crate) fn freeze(id: u32) -> Result<()> {
    run(&mut command("kill", ["-STOP", &id.to_string()]))?;
    let began = Instant::now();
    while !is_frozen(&states(id)?) {
        ensure!(began.elapsed() < FREEZE_DEADLINE, "process {id} does not stop");
        sleep(POLL);
    }
    Ok(())
}

/// Lets it go on as if nothing had been.
pub(crate) fn thaw(id: u32) -> Result<()> {
    run(&mut command("kill", ["-CONT", &id.to_string()]))
}

/// The first that stops has all others marked: what is in an uninterruptible wait by then stops at its end.
fn is_frozen(states: &str) -> bool {
    states.contains('T') && states.chars().all(|state| "TD".contains(state))
}

/// What its threads do, a letter each.
fn states(id: u32) -> Result<String> {
    let threads = format!("/proc/{id}/task");
    let mut states = String::new();
    for thread in std::fs::read_dir(&threads).with_context(|| format!("listing {threads}"))? {
        // One that has ended meanwhile does nothing any more.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("stat")) else { continue };
        states.extend(text.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next()));
    }
    Ok(states)
}

/// The number behind a name.
fn field(text: &str, name: &str) -> Result<u64> {
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in it"))?;
    let number = line.trim().trim_end_matches("kB").trim();
    number.parse().with_context(|| format!("{name} {number}"))
}

fn read(id: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{id}/{name}");
    std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let id = std::process::id();
        assert!(resident_bytes(id).expect("it is there") > 100_000);
        assert!(read_bytes(id).expect("it is there") > 0);
        cpu(id).expect("it is there");
    }

    #[test]
    fn frozen_is_what_runs_nothing_of_its_own() {
        for (states, frozen) in
            [("T", true), ("TTDT", true), ("DD", false), ("TS", false), ("TR", false), ("", false)]
        {
            assert_eq!(is_frozen(states), frozen, "{states}");
        }
        assert!(!is_frozen(&states(std::process::id()).expect("it is there")));
    }
}
