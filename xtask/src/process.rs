//! What a process has used since it started, as Linux tells it.

use anyhow::{Context, Result, ensure};
use std::time::Duration;

/// What Linux counts process times in, on every machine that this runs on.
const MS_A_TICK: u64 = 10;

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
}
