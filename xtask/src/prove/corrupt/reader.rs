//! A client that reads on where it is refused, and holds what it gets against the truth.

use crate::run::command;
use anyhow::{Context, Result};
use std::process::Stdio;
use std::time::Duration;

/// An offset, and the value there.
pub(super) type Line = (i64, Vec<u8>);

/// What reading a partition came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Records that are not what was written there.
    pub(super) wrong: Vec<i64>,
    /// The first offsets of segments of which something was refused.
    pub(super) refused: Vec<i64>,
    /// How many were right.
    pub(super) right: usize,
}

/// Reads a partition from an offset to its end, or as far as it gets within a time.
pub(super) fn read_all(
    bootstrap: &str,
    topic: &str,
    partition: usize,
    from: i64,
    within: Duration,
) -> Result<Vec<Line>> {
    let seconds = within.as_secs_f64().to_string();
    // Without check.crcs: a client that looks for itself would hide what it is given.
    let mut kcat =
        command("timeout", [&seconds, "kcat", "-C", "-b", bootstrap, "-t", topic, "-u", "-e", "-q"]);
    kcat.args(["-p", &partition.to_string(), "-o", &from.to_string(), "-f", "%o\\t%s\\n"]);
    kcat.args(["-X", "check.crcs=false", "-X", "fetch.wait.max.ms=100", "-X", "fetch.error.backoff.ms=100"]);
    let done = kcat.stdin(Stdio::null()).stderr(Stdio::null()).output().context("starting kcat")?;
    let mut lines = Vec::new();
    for line in done.stdout.split_inclusive(|byte| *byte == b'\n') {
        // Its last line may be cut where its time was over.
        let Some(line) = line.strip_suffix(b"\n") else { break };
        let tab = line.iter().position(|byte| *byte == b'\t').context("a line without an offset")?;
        let offset = std::str::from_utf8(&line[..tab])?.parse().context("an offset")?;
        lines.push((offset, line[tab + 1..].to_vec()));
    }
    Ok(lines)
}

/// What to do where a reader gets no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Go on behind that segment.
    GoOn,
    /// Nothing more will come: the partition is offline.
    End,
}

/// Reads all of a partition; where it gets no further, goes on behind that segment.
pub(super) fn held_against(
    truth: &[Line],
    bases: &[i64],
    (bootstrap, topic, partition): (&str, &str, usize),
    (patience, refused): (Duration, Refused),
) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let end = truth.last().map_or(0, |(offset, _)| offset + 1);
    let mut at = 0;
    while at < end {
        for (offset, value) in read_all(bootstrap, topic, partition, at, patience)? {
            let found = truth.binary_search_by_key(&offset, |(offset, _)| *offset);
            // Records may be given that lie before what was asked for, but not twice, and none may be left out.
            if offset == at && found.is_ok_and(|place| truth[place].1 == value) {
                outcome.right += 1;
            } else {
                outcome.wrong.push(offset);
            }
            at = offset + 1;
        }
        if at < end {
            let segment = bases.iter().rev().find(|base| **base <= at).copied().unwrap_or_default();
            outcome.refused.push(segment);
            if refused == Refused::End {
                break;
            }
            at = bases.iter().find(|base| **base > at).copied().unwrap_or(end);
        }
    }
    Ok(outcome)
}
