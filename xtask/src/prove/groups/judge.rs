//! What is wrong with a group's history, as its members and an observer wrote it (`tests/clients/go/crowd.go`): pure.
//!
//! In one generation no partition has two owners; what was committed never goes back; no partition stays without an owner, and every
//! rebalance ends. While members come and go all the time a group may be moving for as long, with each partition read all the
//! while: what is bounded is how long one has no owner, and how long the group takes once nobody comes or goes any more.

use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What the observer says of a group in which each partition has its owner.
const SETTLED: &str = "settled";
/// What it says while the coordinator does not answer.
const UNKNOWN: &str = "unknown";
/// The broker is killed and started again, and then it has to answer.
const AWAY_US_MAX: u64 = 60_000_000;
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
    /// How long a partition was without an owner, in milliseconds, sorted. Who has crashed owns what it had until its session ends.
    pub(super) ownerless_ms: Vec<u64>,
    /// The longest that a partition's position did not move, in milliseconds.
    pub(super) still_ms_max: u64,
    /// Whether each partition had its owner at the end.
    pub(super) is_settled: bool,
}

/// Judges lines in the order of their time. A partition may be without an owner for `rebalance_ms_max`, and a rebalance take as long
/// after the last member has come or gone, the broker's absence not counted.
pub(super) fn judge(history: &[Told], partitions: u32, rebalance_ms_max: u64) -> Verdict {
    let mut verdict = Verdict::default();
    two_owners(history, &mut verdict);
    going_back(history, &mut verdict);
    rebalances(history, rebalance_ms_max, &mut verdict);
    ownerless(history, rebalance_ms_max, &mut verdict);
    standing_still(history, partitions, rebalance_ms_max, &mut verdict);
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
    let (mut clock, mut since, mut unknown_us) = (Clock::default(), None, 0);
    // When somebody last came or went.
    let mut disturbed = Moment::default();
    for look in history {
        let before_us = clock.seen_us;
        let now = clock.at(look);
        if ["joins", "left", "crashed"].contains(&look.event.as_str()) {
            disturbed = now;
        }
        if look.event != "group" {
            continue;
        }
        let is_settled = look.state == SETTLED;
        if look.state == UNKNOWN {
            unknown_us += look.at_us - before_us;
            if unknown_us > AWAY_US_MAX {
                let at = look.at_us / 1_000;
                verdict.fault(format!(
                    "the coordinator has not answered for {} ms at {at} ms",
                    unknown_us / 1_000
                ));
                unknown_us = 0;
            }
        } else {
            unknown_us = 0;
        }
        match (since, is_settled) {
            (None, false) => since = Some(now),
            (Some(begun), true) => {
                verdict.rebalances_ms.push(lasted_ms(begun, now));
                since = None;
                let still_ms = lasted_ms(begun.max(disturbed), now);
                if still_ms > rebalance_ms_max {
                    let until = look.at_us / 1_000;
                    verdict.fault(format!(
                        "a rebalance of those who were there took {still_ms} ms, until {until} ms"
                    ));
                }
            }
            (Some(_), false) => {}
            (None, true) => {}
        }
        verdict.is_settled = is_settled;
    }
    verdict.rebalances_ms.sort_unstable();
    if !verdict.is_settled {
        verdict.fault("the group has not settled at the end".to_owned());
    }
}

/// When something was, and how long the broker had been away by then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    at_us: u64,
    away_us: u64,
}

/// Knows, line by line, how long the broker has been away.
#[derive(Debug, Default)]
struct Clock {
    away_us: u64,
    /// When the observer last looked.
    seen_us: u64,
}

impl Clock {
    fn at(&mut self, told: &Told) -> Moment {
        if told.event == "group" {
            if told.state == UNKNOWN {
                self.away_us += told.at_us - self.seen_us;
            }
            self.seen_us = told.at_us;
        }
        Moment { at_us: told.at_us, away_us: self.away_us }
    }
}

/// From one moment to another, the broker's absence not counted.
fn lasted_ms(from: Moment, to: Moment) -> u64 {
    (to.at_us - from.at_us).saturating_sub(to.away_us - from.away_us) / 1_000
}

fn ownerless(history: &[Told], ms_max: u64, verdict: &mut Verdict) {
    let (mut clock, mut now) = (Clock::default(), Moment::default());
    let mut since: BTreeMap<u32, Moment> = BTreeMap::new();
    for look in history.iter().filter(|told| told.event == "group") {
        now = clock.at(look);
        if look.state == UNKNOWN {
            continue;
        }
        let unowned: BTreeSet<u32> = look.partitions.iter().copied().collect();
        since.retain(|partition, from| {
            let goes_on = unowned.contains(partition);
            if !goes_on {
                verdict.ownerless(*partition, *from, now, ms_max);
            }
            goes_on
        });
        for partition in unowned {
            since.entry(partition).or_insert(now);
        }
    }
    for (partition, from) in since {
        verdict.ownerless(partition, from, now, ms_max);
    }
    verdict.ownerless_ms.sort_unstable();
}

/// All partitions are written to all the while: one whose position does not move is read by nobody, whoever is said to own it. From
/// when nobody comes or goes any more until the end, each has to move.
fn standing_still(history: &[Told], partitions: u32, ms_max: u64, verdict: &mut Verdict) {
    let mut clock = Clock::default();
    let mut moved: BTreeMap<u32, (i64, Moment)> = BTreeMap::new();
    let mut at_the_end: Option<BTreeMap<u32, i64>> = None;
    for told in history {
        let now = clock.at(told);
        match told.event.as_str() {
            "positions" => {
                for partition in 0..partitions {
                    let offset = told.offsets.get(&partition).copied().unwrap_or(-1);
                    let (before, since) = moved.entry(partition).or_insert((offset, now));
                    let still_ms = lasted_ms(*since, now);
                    verdict.still_ms_max = verdict.still_ms_max.max(still_ms);
                    if still_ms > ms_max {
                        let until = told.at_us / 1_000;
                        verdict.fault(format!(
                            "the position of partition {partition} stood still for {still_ms} ms, until {until} ms"
                        ));
                    }
                    if offset != *before || still_ms > ms_max {
                        (*before, *since) = (offset, now);
                    }
                }
            }
            "churn ends" => {
                at_the_end =
                    Some(moved.iter().map(|(partition, (offset, _))| (*partition, *offset)).collect());
            }
            _ => {}
        }
    }
    let stuck = at_the_end.into_iter().flatten().filter(|(partition, offset)| moved[partition].0 == *offset);
    for (partition, offset) in stuck {
        verdict.fault(format!(
            "the position of partition {partition} stays at {offset} though nobody comes or goes"
        ));
    }
}

/// The time that this share of them did not exceed; they are sorted.
fn quantile(times_ms: &[u64], share: f64) -> u64 {
    let at = (times_ms.len() as f64 * share) as usize;
    times_ms.get(at.min(times_ms.len().saturating_sub(1))).copied().unwrap_or(0)
}

impl Verdict {
    fn ownerless(&mut self, partition: u32, from: Moment, to: Moment, ms_max: u64) {
        let took_ms = lasted_ms(from, to);
        self.ownerless_ms.push(took_ms);
        if took_ms > ms_max {
            let until = to.at_us / 1_000;
            self.fault(format!("partition {partition} had no owner for {took_ms} ms, until {until} ms"));
        }
    }

    fn fault(&mut self, what: String) {
        self.faults.push(what);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { faults, generations, commits, looks, rebalances_ms, ownerless_ms, .. } = self;
        let faulty = faults.len();
        write!(f, "{generations} generations, {commits} commits, {looks} looks, {faulty} faults")?;
        for (what, times_ms) in [("rebalances", rebalances_ms), ("partitions without an owner", ownerless_ms)]
        {
            let [half, most, all] = [0.5, 0.99, 1.0].map(|share| quantile(times_ms, share));
            write!(f, "; {} {what}: {half} ms (p50), {most} ms (p99), {all} ms (max)", times_ms.len())?;
        }
        write!(f, "; no position stood still for more than {} ms", self.still_ms_max)?;
        faults.iter().take(SHOWN).try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Verdict {
        let history: Vec<Told> =
            lines.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        judge(&history, 0, 1_000)
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
        // Who comes meanwhile begins it anew, as far as it is bounded.
        let joins = r#"{"at_us":700000,"event":"joins","member":"a","generation":-1}"#;
        let verdict = read(&format!("{}\n{joins}\n{}", look(0, "moving"), look(1_600, "settled")));
        assert_eq!((&verdict.rebalances_ms[..], verdict.faults.len()), (&[1_600][..], 0));
        let verdict = read(&format!("{}\n{joins}\n{}", look(0, "moving"), look(1_800, "settled")));
        assert_eq!(verdict.faults.len(), 1);
    }

    #[test]
    fn a_position_that_stands_still_and_a_coordinator_that_is_silent_are_found() {
        let positions = |at_ms: u64, offset: i64| {
            format!(
                r#"{{"at_us":{},"event":"positions","generation":-1,"asked_us":0,"offsets":{{"5":{offset}}}}}"#,
                at_ms * 1_000
            )
        };
        let faults = |lines: &[String]| {
            let lines = format!("{}\n{END}", lines.join("\n"));
            let history: Vec<Told> =
                lines.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
            judge(&history, 6, 1_000).faults
        };
        // Partitions 0 to 4 are never read.
        let of_five = |found: Vec<String>| found.iter().filter(|fault| fault.contains("partition 5")).count();
        let moves = [positions(0, 1), positions(900, 2), positions(1_800, 3)];
        let found = faults(&moves);
        assert_eq!((found.len(), of_five(found)), (5, 0));
        let stands = [positions(0, 1), positions(900, 1), positions(1_100, 1), positions(1_200, 2)];
        assert_eq!(of_five(faults(&stands)), 1);
        let ends = || r#"{"at_us":800000,"event":"churn ends","generation":-1}"#.to_owned();
        assert_eq!(of_five(faults(&[positions(700, 1), ends(), positions(900, 2)])), 0);
        assert_eq!(of_five(faults(&[positions(700, 1), ends(), positions(900, 1)])), 1);
        let silent = [(0, "settled"), (30_000, "unknown"), (70_000, "unknown"), (70_100, "settled")];
        let line = |(at_ms, state): (u64, &str)| {
            format!(r#"{{"at_us":{},"event":"group","generation":-1,"state":"{state}"}}"#, at_ms * 1_000)
        };
        assert_eq!(read(&silent.map(line).join("\n")).faults.len(), 1);
        let answers = [(0, "settled"), (59_000, "unknown"), (59_100, "settled")];
        assert_eq!(read(&answers.map(line).join("\n")).faults.len(), 0);
    }

    #[test]
    fn a_partition_without_an_owner_is_timed_and_must_find_one() {
        let look = |at_ms: u64, state: &str, unowned: &str| {
            let at_us = at_ms * 1_000;
            format!(
                r#"{{"at_us":{at_us},"event":"group","generation":-1,"state":"{state}","partitions":[{unowned}]}}"#
            )
        };
        let all = |looks: &[String]| read(&format!("{}\n{END}", looks.join("\n")));
        let joins = r#"{"at_us":8999000,"event":"joins","member":"a","generation":-1}"#.to_owned();
        let verdict = all(&[
            look(0, "moving", "1,2"),
            look(300, "moving", "2,3"),
            look(400, "unknown", ""),
            look(1_400, "unknown", ""),
            look(1_500, "moving", "4"),
            joins.clone(),
            look(8_999, "settled", ""),
        ]);
        // Partition 4 waits on while others move.
        assert_eq!((&verdict.ownerless_ms[..], verdict.faults.len()), (&[100, 300, 400, 7_499][..], 1));
        let waits = all(&[look(0, "moving", "7"), joins, look(8_999, "moving", "7")]);
        assert_eq!(waits.faults.len(), 1);
    }
}
