//! What is wrong with what a group's members were handed, over all of the group's life: pure.
//!
//! Every offset of every partition once. That each member was handed what it owned in order, and that each record is the one that
//! was written there, is the one checker's to say.

use aquifer_checker::{Event, Partition};
use std::collections::BTreeMap;
use std::fmt;

/// More than these say no more.
const SHOWN: usize = 10;

/// Records at consecutive offsets that one member was handed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handed {
    pub(super) member: String,
    pub(super) partition: u32,
    pub(super) first: i64,
    pub(super) next: i64,
}

/// Where records lay, of each partition: below `cold_below` they were in the bucket alone before the first was handed out, from
/// `hot_from` on they were on the local disk still after the last.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) cold_below: BTreeMap<u32, i64>,
    pub(super) hot_from: BTreeMap<u32, i64>,
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) faults: Vec<String>,
    pub(super) handed: i64,
    /// Of these, from the bucket for certain, and from the local disk for certain.
    pub(super) cold: i64,
    pub(super) hot: i64,
}

/// What a member wrote down of the records of one topic.
pub(super) fn handed<'a>(
    member: &'a str,
    topic: &'a str,
    events: impl IntoIterator<Item = Event> + 'a,
) -> impl Iterator<Item = Handed> + 'a {
    events.into_iter().filter_map(move |event| match event {
        Event::Read { partition: Partition { topic: of, index }, offset, records, .. } if of == topic => {
            let next = offset.0 + i64::from(records.count);
            Some(Handed { member: member.to_owned(), partition: index, first: offset.0, next })
        }
        _ => None,
    })
}

/// Judges a topic whose partitions end at `ends`, where a group had read up to `positions` before it went away.
pub(super) fn judge(
    mut handed: Vec<Handed>,
    ends: &BTreeMap<u32, i64>,
    positions: &BTreeMap<u32, i64>,
    places: &Places,
) -> Verdict {
    let mut verdict = Verdict::default();
    handed.sort_by_key(|run| (run.partition, run.first, run.next));
    let mut next: BTreeMap<u32, (i64, &str)> =
        ends.keys().map(|partition| (*partition, (0, "nobody"))).collect();
    for run in &handed {
        let Handed { member, partition, first, next: end } = run;
        let Some((upto, by)) = next.get_mut(partition) else {
            verdict.faults.push(format!("partition {partition}, which is not there: {run:?}"));
            continue;
        };
        match first - *upto {
            0 => {}
            missing if missing > 0 => verdict.faults.push(format!(
                "partition {partition}: {missing} records from offset {upto} on were handed to nobody, before {member} had {first}"
            )),
            _ => verdict.faults.push(format!(
                "partition {partition}: the records from offset {first} to {} were handed to {by} and to {member}",
                end.min(upto)
            )),
        }
        if end > upto {
            (*upto, *by) = (*end, member);
        }
        verdict.handed += end - first;
        let at = |of: &BTreeMap<u32, i64>, otherwise| of.get(partition).copied().unwrap_or(otherwise);
        // What was read before the group went away is no matter here.
        let from = (*first).max(at(positions, 0));
        verdict.cold += (at(&places.cold_below, 0).min(*end) - from).max(0);
        verdict.hot += (end - at(&places.hot_from, i64::MAX).max(from)).max(0);
    }
    for (partition, (upto, _)) in &next {
        let end = ends.get(partition).copied().unwrap_or_default();
        if *upto != end {
            verdict
                .faults
                .push(format!("partition {partition}: handed out up to offset {upto}, and it ends at {end}"));
        }
    }
    verdict
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { faults, handed, cold, hot } = self;
        write!(
            f,
            "{handed} records handed out; after the absence {cold} from the bucket, {hot} from local segments, for certain; {} faults",
            faults.len()
        )?;
        faults.iter().take(SHOWN).try_for_each(|fault| write!(f, "\n{fault}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aquifer_checker::{Number, Offset, Producer, Reader, Records, Source};

    fn run(member: &str, partition: u32, first: i64, next: i64) -> Handed {
        Handed { member: member.to_owned(), partition, first, next }
    }

    fn all() -> Vec<Handed> {
        vec![
            run("first", 0, 0, 10),
            run("a", 0, 10, 60),
            run("b", 1, 0, 40),
            run("c", 0, 60, 100),
            run("a", 1, 40, 50),
        ]
    }

    fn judged(handed: Vec<Handed>) -> Verdict {
        let ends = BTreeMap::from([(0, 100), (1, 50)]);
        let places = Places {
            cold_below: BTreeMap::from([(0, 70), (1, 30)]),
            hot_from: BTreeMap::from([(0, 90), (1, 45)]),
        };
        judge(handed, &ends, &BTreeMap::from([(0, 10)]), &places)
    }

    #[test]
    fn every_record_once_has_no_fault_and_is_counted_where_it_lay() {
        let expected = Verdict { faults: Vec::new(), handed: 150, cold: 60 + 30, hot: 10 + 5 };
        assert_eq!(judged(all()), expected);
    }

    #[test]
    fn a_planted_loss_and_a_planted_double_are_found() {
        let faults = |change: &dyn Fn(&mut Vec<Handed>)| {
            let mut handed = all();
            change(&mut handed);
            judged(handed).faults
        };
        for lost in 0..all().len() {
            assert_eq!(faults(&|handed| drop(handed.remove(lost))).len(), 1, "run {lost} is lost");
            assert_eq!(
                faults(&|handed| handed.push(Handed { member: "z".to_owned(), ..handed[lost].clone() }))
                    .len(),
                1,
                "run {lost} is handed out twice"
            );
        }
        assert_eq!(faults(&|handed| handed[1].next -= 1).len(), 1, "the last record before a handover");
        assert_eq!(faults(&|handed| handed[3].first -= 1).len(), 1, "the last record before it, again");
        assert_eq!(faults(&|handed| handed[3].next -= 1).len(), 1, "the last record of all");
        assert_eq!(faults(&|handed| handed[0].partition = 7).len(), 2, "a partition that is not there");
        assert_eq!(judged(Vec::new()).faults.len(), 2, "nothing at all");
    }

    #[test]
    fn what_members_wrote_down_of_other_topics_is_left_out() {
        let read = |topic: &str| Event::Read {
            reader: Reader("a turn 1".to_owned()),
            partition: Partition { topic: topic.to_owned(), index: 3 },
            offset: Offset(7),
            records: Records { producer: Producer(1), first: Number(0), count: 5 },
            source: Source::Broker,
        };
        let found: Vec<Handed> = handed("a", "t", [read("t"), read("u")]).collect();
        assert_eq!(found, [run("a", 3, 7, 12)]);
    }
}
