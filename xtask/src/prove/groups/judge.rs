//! What is wrong with a group's history, as its members and an observer wrote it (`tests/clients/go/crowd.go`): pure.
//!
//! In one generation no partition has two owners; what was committed never goes back; every rebalance ends.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;

/// What the observer says of a group in which each partition has its owner.
const SETTLED: &str = "settled";
/// What it says while the coordinator does not answer.
const UNKNOWN: &str = "unknown";
/// More than these of one kind say no more.
const SHOWN: usize = 10;

/// One line.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    at_us: u64,
    event: String,
    member: String,
    generation: i32,
    partitions: Vec<u32>,
    offsets: BTreeMap<u32, i64>,
    asked_us: u64,
    state: String,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) faults: Vec<String>,
    /// Generations in which a member told what it owns.
    pub(super) generations: usize,
    pub(super) commits: usize,
    pub(super) looks: usize,
    /// How long each rebalance took, in milliseconds, sorted: from the first look that saw partitions without an owner, or the
    /// coordinator wanting others, to the first that saw neither.
    pub(super) rebalances_ms: Vec<u64>,
    /// Whether each partition had its owner at the end.
    pub(super) is_settled: bool,
}

/// Judges lines in the order of their time. A rebalance may take `rebalance_ms_max`, the broker's absence not counted.
pub(super) fn judge(history: &[Told], rebalance_ms_max: u64) -> Verdict {
    let mut verdict = Verdict::default();
    two_owners(history, &mut verdict);
    going_back(history, &mut verdict);
    rebalances(history, rebalance_ms_max, &mut verdict);
    verdict
}

/// What a member owns in a generation is what it told of last in it.
fn two_owners(history: &[Told], verdict: &mut Verdict) {
    let mut owned: BTreeMap<i32, BTreeMap<&str, &[u32]>> = BTreeMap::new();
    for told in history.iter().filter(|told| told.event == "owns" && told.generation >= 0) {
        owned.entry(told.generation).or_default().insert(&told.member, &told.partitions);
    }
    verdict.generations = owned.len();
    for (generation, members) in owned {
        let mut owners: BTreeMap<u32, &str> = BTreeMap::new();
        for (member, partitions) in members {
            for partition in partitions {
                if let Some(other) = owners.insert(*partition, member) {
                    verdict.fault(format!(
                        "generation {generation}: partition {partition} belongs to {other} and to {member}"
                    ));
                }
            }
        }
    }
    for told in history.iter().filter(|told| told.state.starts_with("doubled")) {
        verdict.fault(format!("the coordinator at {} ms: {}", told.at_us / 1_000, told.state));
    }
}

/// A look sees at least what any look before it saw, and what was acknowledged before it was asked for.
fn going_back(history: &[Told], verdict: &mut Verdict) {
    let mut acked: Vec<(u64, u32, i64, &str)> = Vec::new();
    for told in history.iter().filter(|told| told.event == "commits") {
        verdict.commits += 1;
        acked.extend(
            told.offsets.iter().map(|(index, offset)| (told.at_us, *index, *offset, told.member.as_str())),
        );
    }
    let mut acked = acked.into_iter().peekable();
    let mut known: BTreeMap<u32, (i64, String)> = BTreeMap::new();
    for look in history.iter().filter(|told| told.event == "positions") {
        verdict.looks += 1;
        while let Some((_, index, offset, member)) = acked.next_if(|(at, ..)| *at < look.asked_us) {
            // The last one counts, even if it is lower: whoever read again from an older position may commit again.
            known.insert(index, (offset, format!("what {member} was told is committed")));
        }
        for (index, (before, whence)) in &known {
            let found = look.offsets.get(index).copied().unwrap_or(-1);
            if found < *before {
                let at = look.at_us / 1_000;
                verdict.fault(format!("partition {index} at {at} ms: {found}, behind {before}, {whence}"));
            }
        }
        for (index, offset) in &look.offsets {
            known.insert(*index, (*offset, "what was seen before".to_owned()));
        }
    }
}

fn rebalances(history: &[Told], rebalance_ms_max: u64, verdict: &mut Verdict) {
    let (mut since, mut away_us, mut last_us) = (None, 0, 0);
    for look in history.iter().filter(|told| told.event == "group") {
        let is_settled = look.state == SETTLED;
        if look.state == UNKNOWN {
            away_us += look.at_us - last_us;
        }
        last_us = look.at_us;
        match (since, is_settled) {
            (None, false) => (since, away_us) = (Some(look.at_us), 0),
            (Some(from), _) => {
                let took_ms = (look.at_us - from).saturating_sub(away_us) / 1_000;
                if is_settled {
                    verdict.rebalances_ms.push(took_ms);
                    since = None;
                    if took_ms > rebalance_ms_max {
                        verdict.fault(format!("a rebalance took {took_ms} ms, until {} ms", last_us / 1_000));
                    }
                }
            }
            (None, true) => {}
        }
        verdict.is_settled = is_settled;
    }
    verdict.rebalances_ms.sort_unstable();
    if !verdict.is_settled {
        verdict.fault("the group has not settled at the end".to_owned());
    }
}

impl Verdict {
    fn fault(&mut self, what: String) {
        self.faults.push(what);
    }

    /// The time that this share of the rebalances did not exceed, in milliseconds.
    pub(super) fn rebalance_ms(&self, share: f64) -> u64 {
        let at = (self.rebalances_ms.len() as f64 * share) as usize;
        self.rebalances_ms.get(at.min(self.rebalances_ms.len().saturating_sub(1))).copied().unwrap_or(0)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { faults, generations, commits, looks, rebalances_ms, .. } = self;
        write!(
            f,
            "{generations} generations, {commits} commits, {looks} looks, {} faults; {} rebalances: {} ms (p50), {} ms (p99), {} ms (max)",
            faults.len(),
            rebalances_ms.len(),
            self.rebalance_ms(0.5),
            self.rebalance_ms(0.99),
            self.rebalance_ms(1.0),
        )?;
        faults.iter().take(SHOWN).try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Verdict {
        let history: Vec<Told> =
            lines.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        judge(&history, 1_000)
    }

    const END: &str = r#"{"at_us":9000000,"event":"group","generation":-1,"state":"settled"}"#;

    fn faults(lines: &str) -> usize {
        read(&format!("{lines}\n{END}")).faults.len()
    }

    #[test]
    fn a_partition_with_two_owners_in_one_generation_is_found() {
        let a = r#"{"at_us":1,"event":"owns","member":"a","generation":3,"partitions":[0,1]}"#;
        let b = r#"{"at_us":2,"event":"owns","member":"b","generation":3,"partitions":[1]}"#;
        assert_eq!(faults(&format!("{a}\n{b}")), 1);
        assert_eq!(faults(&format!("{a}\n{}", b.replace(":3", ":4"))), 0);
        // Given back in the same generation.
        let gave = a.replace("[0,1]", "[0]").replace(":1,", ":3,");
        assert_eq!(faults(&format!("{a}\n{b}\n{gave}")), 0);
        let doubled = r#"{"at_us":8999000,"event":"group","generation":-1,"state":"doubled: partition 3 has 2 owners"}"#;
        assert_eq!(faults(doubled), 1);
    }

    #[test]
    fn a_position_that_goes_back_is_found() {
        let commit = r#"{"at_us":5,"event":"commits","member":"a","generation":1,"offsets":{"0":10}}"#;
        let look = |asked: u64, offset: i64| {
            let at = asked + 1;
            format!(
                r#"{{"at_us":{at},"event":"positions","generation":-1,"asked_us":{asked},"offsets":{{"0":{offset}}}}}"#
            )
        };
        assert_eq!(faults(&format!("{commit}\n{}", look(6, 10))), 0);
        assert_eq!(faults(&format!("{commit}\n{}", look(6, 9))), 1);
        assert_eq!(faults(&format!("{}\n{commit}", look(4, 3))), 0, "asked before it was acknowledged");
        assert_eq!(faults(&format!("{}\n{}", look(1, 12), look(2, 11))), 1);
        let nothing = r#"{"at_us":9,"event":"positions","generation":-1,"asked_us":8,"offsets":{}}"#;
        assert_eq!(faults(&format!("{}\n{nothing}", look(1, 12))), 1, "a position that is gone");
    }

    #[test]
    fn rebalances_are_timed_without_the_brokers_absence_and_must_end() {
        let look = |at_ms: u64, state: &str| {
            format!(r#"{{"at_us":{},"event":"group","generation":-1,"state":"{state}"}}"#, at_ms * 1_000)
        };
        let all = |looks: &[(u64, &str)]| {
            looks.iter().map(|(at, state)| look(*at, state)).collect::<Vec<_>>().join("\n")
        };
        let verdict = read(&all(&[
            (0, "moving"),
            (300, "settled"),
            (400, "settled"),
            (500, "moving"),
            (700, "settled"),
        ]));
        assert_eq!((&verdict.rebalances_ms[..], verdict.faults.len()), (&[200, 300][..], 0));
        let verdict = read(&all(&[(0, "moving"), (1_100, "settled")]));
        assert_eq!(verdict.faults.len(), 1, "longer than it may take");
        let verdict = read(&all(&[(0, "moving"), (100, "moving"), (1_500, "unknown"), (1_600, "settled")]));
        assert_eq!((&verdict.rebalances_ms[..], verdict.faults.len()), (&[200][..], 0));
        assert_eq!(read(&look(0, "moving")).faults.len(), 1, "it does not end");
    }
}
