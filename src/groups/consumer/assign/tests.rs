use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn topic(number: usize) -> TopicId {
    TopicId::new(Uuid::from_u128(number as u128))
}

/// Members, each with the topics that it reads, and what it had.
#[derive(Debug, Clone)]
struct Group {
    members: Vec<(Str, Vec<TopicId>, Partitions)>,
    sizes: Sizes,
}

impl Group {
    fn new(sizes: &[usize], reads: &[&[usize]]) -> Group {
        let sizes = sizes.iter().enumerate().map(|(number, size)| (topic(number), *size)).collect();
        let members = reads.iter().enumerate().map(|(at, reads)| {
            let reads = reads.iter().map(|number| topic(*number)).collect();
            (Str::from(format!("m{at:02}")), reads, Partitions::default())
        });
        Group { members: members.collect(), sizes }
    }

    fn assigned(&self, assignor: Assignor) -> Vec<Partitions> {
        let candidates = self.members.iter().map(|(member, topics, before)| Candidate {
            member,
            instance: None,
            topics: topics.as_slice().into(),
            before,
        });
        let candidates: Vec<Candidate<'_>> = candidates.collect();
        let assigned = assign(assignor, &candidates, &self.sizes);
        self.check(&assigned);
        assigned
    }

    /// Every partition that somebody reads is of one who reads it.
    fn check(&self, assigned: &[Partitions]) {
        let mut left: std::collections::BTreeSet<(TopicId, i32)> = std::collections::BTreeSet::new();
        for topic in self.members.iter().flat_map(|(_, topics, _)| topics) {
            left.extend(indexes(self.sizes[topic]).map(|index| (*topic, index)));
        }
        for ((_, topics, _), assigned) in self.members.iter().zip(assigned) {
            for place in assigned.iter() {
                assert!(topics.contains(&place.0), "{place:?} is not read by whoever has it");
                assert!(left.remove(&place), "{place:?} is given twice, or is not there");
            }
        }
        assert!(left.is_empty(), "{left:?} is nobody's");
    }

    fn keep(&mut self, assigned: Vec<Partitions>) {
        for (member, assigned) in self.members.iter_mut().zip(assigned) {
            member.2 = assigned;
        }
    }
}

fn loads(assigned: &[Partitions]) -> Vec<usize> {
    assigned.iter().map(Partitions::len).collect()
}

#[test]
fn ranges_are_of_neighbours_and_fall_together() {
    let group = Group::new(&[5, 5], &[&[0, 1], &[0, 1], &[0]]);
    let assigned = group.assigned(Assignor::Range);
    let of = |at: usize, number: usize| -> Vec<i32> {
        assigned[at].iter().filter(|(id, _)| *id == topic(number)).map(|(_, index)| index).collect()
    };
    assert_eq!((of(0, 0), of(1, 0), of(2, 0)), (vec![0, 1], vec![2, 3], vec![4]));
    assert_eq!((of(0, 1), of(1, 1)), (vec![0, 1, 2], vec![3, 4]));
}

#[test]
fn static_members_are_the_first_in_a_range() {
    let none = Partitions::default();
    let (a, b, instance) = (Str::from("a"), Str::from("b"), Str::from("i"));
    let candidate =
        |member, instance| Candidate { member, instance, topics: [topic(0)].into(), before: &none };
    let candidates = [candidate(&a, None), candidate(&b, Some(&instance))];
    let assigned = assign(Assignor::Range, &candidates, &[(topic(0), 3)].into());
    assert_eq!(loads(&assigned), [1, 2]);
}

#[test]
fn a_new_member_takes_no_more_than_its_part() {
    let mut group = Group::new(&[6, 6], &[&[0, 1], &[0, 1]]);
    group.keep(group.assigned(Assignor::Uniform));
    group.members.push((Str::from("new"), vec![topic(0), topic(1)], Partitions::default()));
    let assigned = group.assigned(Assignor::Uniform);
    assert_eq!(loads(&assigned), [4, 4, 4]);
    for ((_, _, before), after) in group.members.iter().zip(&assigned).take(2) {
        assert!(after.without(before).is_empty(), "who was there gives, and takes nothing");
    }
}

#[test]
fn who_reads_little_gets_what_few_read() {
    let group = Group::new(&[4, 4], &[&[0], &[0, 1]]);
    assert_eq!(loads(&group.assigned(Assignor::Uniform)), [4, 4]);
}

#[test]
fn nobody_reads_anything() {
    let group = Group::new(&[3], &[&[], &[]]);
    assert_eq!(loads(&group.assigned(Assignor::Uniform)), [0, 0]);
    assert_eq!(loads(&group.assigned(Assignor::Range)), [0, 0]);
    assert!(assign(Assignor::Uniform, &[], &Sizes::new()).is_empty());
}

/// The most that members can keep if nobody is to have two more than another.
fn kept_at_most(kept: &[usize], all: usize) -> usize {
    let (low, more) = (all / kept.len(), all % kept.len());
    let above = kept.iter().filter(|kept| **kept > low).count();
    kept.iter().map(|kept| *kept.min(&low)).sum::<usize>() + above.min(more)
}

proptest! {
    #[test]
    fn all_that_read_the_same_get_as_much_and_keep_what_they_can(
        sizes in prop::collection::vec(0usize..12, 1..4),
        before in 1usize..7,
        after in 1usize..7,
        first_gone in 0usize..3,
        grown in 0usize..5,
    ) {
        let all: Vec<usize> = (0..sizes.len()).collect();
        let mut group = Group::new(&sizes, &vec![&all[..]; before]);
        group.keep(group.assigned(Assignor::Uniform));
        group.members.drain(..first_gone.min(group.members.len() - 1));
        while group.members.len() < after {
            let new = Str::from(format!("n{}", group.members.len()));
            group.members.push((new, all.iter().map(|number| topic(*number)).collect(), Partitions::default()));
        }
        group.sizes.insert(topic(0), sizes[0] + grown);
        let assigned = group.assigned(Assignor::Uniform);
        let loads = loads(&assigned);
        let (least, most) = (loads.iter().min().expect("some"), loads.iter().max().expect("some"));
        prop_assert!(most - least <= 1, "{loads:?}");
        let kept: usize =
            group.members.iter().zip(&assigned).map(|((_, _, before), after)| before.and(after).len()).sum();
        let had: Vec<usize> = group.members.iter().map(|(_, _, before)| before.len()).collect();
        prop_assert_eq!(kept, kept_at_most(&had, group.sizes.values().sum()));
        group.keep(assigned.clone());
        prop_assert_eq!(group.assigned(Assignor::Uniform), assigned, "once more, nothing moves");
    }

    #[test]
    fn nobody_could_give_to_one_who_has_much_less(
        sizes in prop::collection::vec(0usize..8, 4),
        reads in prop::collection::vec(prop::collection::btree_set(0usize..4, 0..4), 1..7),
        had in prop::collection::vec((0usize..7, 0usize..4, 0i32..8), 0..20),
    ) {
        let reads: Vec<Vec<usize>> = reads.into_iter().map(|reads| reads.into_iter().collect()).collect();
        let mut group = Group::new(&sizes, &reads.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for (member, number, index) in had {
            if let Some(member) = group.members.get_mut(member) {
                // Whether or not it is there, read, or another's as well.
                member.2.insert(topic(number), index);
            }
        }
        let assigned = group.assigned(Assignor::Uniform);
        for giver in &assigned {
            for (topic, _) in giver.topics() {
                let takers = group.members.iter().zip(&assigned).filter(|((_, reads, _), _)| reads.contains(&topic));
                let least = takers.map(|(_, taker)| taker.len()).min().expect("the giver reads it");
                prop_assert!(giver.len() <= least + 1, "{:?}", loads(&assigned));
            }
        }
        group.assigned(Assignor::Range);
    }
}
