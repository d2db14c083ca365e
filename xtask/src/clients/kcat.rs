//! kcat, run directly: it needs no rig. It prints records with their offsets; hashing and the look at the offsets are ours.

use super::{Passed, TIMEOUT_SECONDS};
use crate::run::{command, output};
use crate::text::hex;
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Produces the lines of its stdin, idempotently, a key to the partition that its CRC-32 says.
pub(super) fn writer(bootstrap: &str, topic: &str, codec: &str) -> Command {
    let mut kcat = command("timeout", [TIMEOUT_SECONDS, "kcat", "-P", "-b", bootstrap, "-t", topic]);
    kcat.args(["-K", "\\t", "-z", codec, "-X", "enable.idempotence=true"]);
    kcat.args(["-X", "partitioner=consistent_random"]);
    kcat
}

/// Reads what a group has not read yet, as its one member, and commits that.
pub(super) fn read_as_group(bootstrap: &str, topic: &str, group: &str) -> Result<Vec<Passed>> {
    let mut kcat = command("timeout", [TIMEOUT_SECONDS, "kcat", "-b", bootstrap]);
    kcat.args(["-X", "auto.offset.reset=earliest", "-e", "-q", "-f", "%p\\t%o\\t%k\\t%s\\n"]);
    kcat.args(["-G", group, topic]);
    records(&output(&mut kcat)?)
}

/// One partition after the other, each up to its end as it was at first: while someone produces, kcat alone would find no end.
pub(super) fn read(bootstrap: &str, topic: &str, partitions: usize) -> Result<Vec<Passed>> {
    let bound = |partition, which| offset(bootstrap, topic, partition, which);
    let bounds: Vec<(i64, i64)> = (0..partitions)
        .map(|partition| Ok((bound(partition, "-2")?, bound(partition, "-1")?)))
        .collect::<Result<_>>()?;
    let read = |(partition, (start, end))| read_partition(bootstrap, topic, partition, end - start);
    bounds.into_iter().enumerate().map(read).collect()
}

/// What ListOffsets says to a special timestamp: -2 is the start, -1 the end.
pub(crate) fn offset(bootstrap: &str, topic: &str, partition: usize, which: &str) -> Result<i64> {
    let asked = format!("{topic}:{partition}:{which}");
    let said = output(&mut command("kcat", ["-Q", "-b", bootstrap, "-t", &asked]))?;
    let offset = said.trim().rsplit(' ').next().unwrap_or_default();
    offset.parse().with_context(|| format!("kcat's answer '{said}'"))
}

/// kcat prints each record with its offset; hashing and the look at the offsets are ours. It stops after so many records, or at
/// the end of the partition if offsets have gaps.
fn read_partition(bootstrap: &str, topic: &str, partition: usize, records: i64) -> Result<Passed> {
    let mut passed = Passed { partition, count: 0, first: -1, last: -1, sha256: hex(&Sha256::digest(b"")) };
    if records == 0 {
        return Ok(passed);
    }
    let mut lines = Sha256::new();
    let number = partition.to_string();
    let mut kcat =
        command("timeout", [TIMEOUT_SECONDS, "kcat", "-C", "-b", bootstrap, "-t", topic, "-p", &number]);
    kcat.args(["-o", "beginning", "-e", "-c", &records.to_string(), "-q", "-X", "check.crcs=true"]);
    kcat.args(["-f", "%o\\t%k\\t%s\\n"]);
    let mut child = kcat.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting kcat")?;
    let mut said = BufReader::with_capacity(1 << 20, child.stdout.take().expect("asked for above"));
    let mut line = Vec::new();
    while said.read_until(b'\n', &mut line)? > 0 {
        let tab = line.iter().position(|byte| *byte == b'\t').context("a line of kcat has no offset")?;
        let offset: i64 = std::str::from_utf8(&line[..tab])?.parse().context("kcat's offset")?;
        ensure!(offset > passed.last, "partition {partition}: offset {offset} came after {}", passed.last);
        passed.first = if passed.count == 0 { offset } else { passed.first };
        passed.last = offset;
        passed.count += 1;
        lines.update(&line[tab + 1..]);
        line.clear();
    }
    let status = child.wait()?;
    ensure!(status.success(), "kcat ended with {status} on partition {partition}");
    passed.sha256 = hex(&lines.finalize());
    Ok(passed)
}

/// Reads a partition from its start to its end, whose offsets may have gaps: gives offset, key and value of each record, and of a
/// tombstone no value.
pub(crate) fn compacted(
    bootstrap: &str,
    topic: &str,
    partition: u32,
    mut each: impl FnMut(i64, &[u8], Option<&[u8]>),
) -> Result<()> {
    let number = partition.to_string();
    let mut kcat =
        command("timeout", [TIMEOUT_SECONDS, "kcat", "-C", "-b", bootstrap, "-t", topic, "-p", &number]);
    kcat.args(["-o", "beginning", "-e", "-q", "-X", "check.crcs=true", "-f", "%o\\t%S\\t%k\\t%s\\n"]);
    let mut child = kcat.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting kcat")?;
    let mut said = BufReader::with_capacity(1 << 20, child.stdout.take().expect("asked for above"));
    let mut line = Vec::new();
    while said.read_until(b'\n', &mut line)? > 0 {
        let mut words = line.strip_suffix(b"\n").unwrap_or(&line).splitn(4, |byte| *byte == b'\t');
        let mut word = || words.next().with_context(|| format!("a line of kcat: {line:?}"));
        let offset = std::str::from_utf8(word()?)?.parse().context("kcat's offset")?;
        let is_tombstone = word()? == b"-1";
        let (key, value) = (word()?, word()?);
        each(offset, key, (!is_tombstone).then_some(value));
        line.clear();
    }
    let status = child.wait()?;
    ensure!(status.success(), "kcat ended with {status} on partition {partition}");
    Ok(())
}

/// Lines of partition, offset, key and value, of all partitions mixed.
fn records(said: &str) -> Result<Vec<Passed>> {
    let mut found: BTreeMap<usize, (Passed, Sha256)> = BTreeMap::new();
    for line in said.split_terminator('\n') {
        let mut words = line.splitn(3, '\t');
        let partition: usize = words.next().unwrap_or_default().parse().context("kcat's partition")?;
        let offset: i64 =
            words.next().context("a line of kcat has no offset")?.parse().context("kcat's offset")?;
        let (passed, lines) = found.entry(partition).or_insert_with(|| {
            let nothing = Passed { partition, count: 0, first: offset, last: -1, sha256: String::new() };
            (nothing, Sha256::new())
        });
        ensure!(offset > passed.last, "partition {partition}: offset {offset} came after {}", passed.last);
        passed.last = offset;
        passed.count += 1;
        lines.update(words.next().unwrap_or_default());
        lines.update("\n");
    }
    let done = |(passed, lines): (Passed, Sha256)| Passed { sha256: hex(&lines.finalize()), ..passed };
    Ok(found.into_values().map(done).collect())
}
