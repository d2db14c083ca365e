//! Members that speak the classic protocol, among those that do not.

use bytes::Bytes;

use super::*;
use crate::groups::classic::{self, Assignments, Join, Sync};
use crate::groups::effects::Joined;
use crate::groups::embedded::tests::subscription;
use crate::groups::embedded::{self, Named};

pub(super) fn join(member: &str, topics: &[&str], owned: &Named) -> Join {
    let topics: Vec<Str> = topics.iter().map(|topic| Str::from(*topic)).collect();
    Join {
        member_id: Str::from(member),
        fresh_id: Str::from("fresh"),
        instance: None,
        protocol_type: Str::from("consumer"),
        profile: classic::Profile {
            client_id: Str::from("old"),
            client_host: Str::from("/host"),
            rebalance_timeout: Duration::from_secs(30),
            session_timeout: Duration::from_secs(10),
            protocols: vec![(Str::from("range"), subscription(&topics, owned))],
        },
        needs_known_id: true,
        may_skip_assignment: true,
    }
}

pub(super) fn sync(member: &str, generation: i32) -> Sync {
    Sync {
        member_id: Str::from(member),
        instance: None,
        generation,
        protocol_type: Some(Str::from("consumer")),
        protocol: Some(Str::from("range")),
        assignments: Assignments::Given(Vec::new()),
    }
}

fn of_t(indexes: &[i32]) -> Named {
    if indexes.is_empty() { Named::new() } else { vec![(Str::from("t"), indexes.to_vec())] }
}

impl Table {
    fn classic_join(&mut self, join: &Join) -> Result<Joined, GroupError> {
        self.act(|group, around, effects| group.classic_join(join, around, effects))
    }

    /// A member joins that has these partitions of `t`, and gives the generation.
    fn come(&mut self, member: &str, owned: &[i32]) -> i32 {
        self.classic_join(&join(member, &["t"], &of_t(owned))).expect("it may").generation
    }

    pub(super) fn classic_sync(&mut self, sync: &Sync) -> Result<Named, GroupError> {
        let synced = self.act(|group, around, _| group.classic_sync(sync, around))?;
        assert_eq!((&synced.protocol_type, &synced.protocol), (&sync.protocol_type, &sync.protocol));
        Ok(embedded::Assignment::read(&synced.assignment).expect("its words").partitions)
    }

    fn classic_beat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        let member = Str::from(member);
        self.act(|group, around, effects| group.classic_heartbeat(&member, None, generation, around, effects))
    }
}

const REBALANCE: Result<(), GroupError> = Err(GroupError::RebalanceInProgress);

#[test]
fn it_is_told_by_heartbeats_to_join_again_until_it_has_what_is_its_own() {
    let mut table = Table::new(&[("t", 2)]);
    let all = table.join("a", &["t"]);
    let joined = table.classic_join(&join("c", &["t"], &of_t(&[]))).expect("it may");
    let told = (joined.generation, joined.protocol.as_deref(), joined.leader.as_str(), joined.members.len());
    assert_eq!(told, (2, Some("range"), "", 0), "nobody leads");
    assert_eq!(table.classic_sync(&sync("c", 2)), Ok(of_t(&[])), "all is a's yet");
    assert_eq!(table.classic_beat("c", 2), Ok(()), "there is nothing to come for");
    let kept = table.beat("a", 1, &all).assigned.expect("one is c's");
    table.beat("a", 1, &kept);
    assert_eq!(table.classic_beat("c", 2), REBALANCE, "what it waits for is free");
    assert_eq!(table.come("c", &[]), 2);
    let given = table.classic_sync(&sync("c", 2)).expect("its part");
    assert_eq!(known(&given, &table.topics), all.without(&kept));
    assert_eq!((table.classic_beat("c", 2), table.state()), (Ok(()), "Stable"));

    // With a third, somebody has to give something back: here it is the classic one, which reads nothing else.
    let index = given[0].1.clone();
    assert_eq!(table.leave("a", None, Departure::ForGood), Ok(()));
    assert_eq!(table.classic_beat("c", 2), REBALANCE, "a target is made also if nobody else is there to ask");
    assert_eq!(table.come("c", &index), 3);
    assert_eq!(table.classic_sync(&sync("c", 3)), Ok(of_t(&[0, 1])));
    table.join("b", &["t"]);
    assert_eq!(table.classic_sync(&sync("c", 3)).map(drop), REBALANCE, "it has to join first");
    assert_eq!(table.come("c", &[0, 1]), 3, "it stays where it is until it has given one back");
    let kept = table.classic_sync(&sync("c", 3)).expect("what it keeps");
    assert_eq!(kept[0].1.len(), 1);
    assert_eq!(table.classic_beat("c", 3), REBALANCE, "it has to say so");
    assert_eq!(table.come("c", &kept[0].1), 4);
    assert_eq!(table.classic_sync(&sync("c", 4)), Ok(kept));
    assert_eq!(table.beat("b", 4, &Partitions::default()).assigned.map(|given| given.len()), Some(1));
    assert_eq!((table.classic_beat("c", 4), table.state()), (Ok(()), "Stable"));
}

fn known(named: &Named, topics: &Topics) -> Partitions {
    super::super::classic::known(named, topics)
}

#[test]
fn its_deadlines_are_its_own() {
    let mut table = Table::new(&[("t", 2)]);
    table.limits.session_timeout = GroupTime::always(Duration::from_secs(1_000));
    let is_in = |table: &Table| table.group.members.contains_key("c");
    let all = table.join("a", &["t"]);
    for (patience, syncs) in [(10, true), (30, false)] {
        let generation = table.come("c", &[]);
        if syncs {
            table.classic_sync(&sync("c", generation)).expect("its part");
        } else {
            // It joins, and is heard of, but never asks what to read.
            table.pass(9);
            table.classic_beat("c", generation).expect("nothing is free");
            table.pass(9);
            table.classic_beat("c", generation).expect("nothing is free");
            table.pass(9);
            table.classic_beat("c", generation).expect("nothing is free");
            table.pass(2);
            assert!(is_in(&table));
            table.pass(1);
            assert!(!is_in(&table), "{patience} seconds are over");
            continue;
        }
        table.pass(patience - 1);
        assert!(is_in(&table));
        table.pass(1);
        assert!(!is_in(&table), "its session of {patience} seconds is over");
    }
    let generation = table.come("c", &[]);
    table.classic_sync(&sync("c", generation)).expect("its part");
    table.beat("a", 1, &all);
    let epoch = table.group.members["a"].current.epoch;
    let kept = table.group.members["a"].current.assigned.partitions();
    table.beat("a", epoch, &kept);
    for _ in 0..3 {
        assert_eq!(table.classic_beat("c", generation), REBALANCE);
        table.pass(9);
    }
    table.reload();
    assert_eq!(table.classic_beat("c", generation), REBALANCE, "which begins its time anew");
    for _ in 0..3 {
        table.pass(9);
        assert_eq!(table.classic_beat("c", generation), REBALANCE);
    }
    table.pass(3);
    assert!(!is_in(&table), "it did not join again");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut table = Table::new(&[("t", 2)]);
    table.join("a", &["t"]);
    let refused = |table: &mut Table, change: &dyn Fn(&mut Join)| {
        let mut asked = join("c", &["t"], &of_t(&[]));
        change(&mut asked);
        table.classic_join(&asked).map(|joined| joined.generation)
    };
    let inconsistent = Err(GroupError::InconsistentProtocol);
    assert_eq!(refused(&mut table, &|join| join.protocol_type = Str::from("connect")), inconsistent);
    assert_eq!(refused(&mut table, &|join| join.profile.protocols.clear()), inconsistent);
    assert_eq!(
        refused(&mut table, &|join| join.profile.protocols[0].1 = Bytes::from_static(b"x")),
        inconsistent
    );
    let short = refused(&mut table, &|join| join.profile.session_timeout = Duration::from_secs(1));
    assert_eq!(short, Err(GroupError::InvalidSessionTimeout));
    let nameless = refused(&mut table, &|join| join.member_id = Str::EMPTY);
    assert_eq!(nameless, Err(GroupError::MemberIdRequired));
    let fixed = refused(&mut table, &|join| join.instance = Some(Str::from("nobody")));
    assert_eq!(fixed, Err(GroupError::UnknownMember));
    table.limits.migration = Migration::Disabled;
    assert_eq!(refused(&mut table, &|_| ()), inconsistent);
    table.limits.migration = Migration::Downgrade;
    assert_eq!(table.come("c", &[]), 2);
    let other = refused(&mut table, &|join| {
        join.member_id = Str::from("d");
        join.profile.protocols[0].0 = Str::from("sticky");
    });
    assert_eq!(other, inconsistent, "c does not know that");
    let (unknown, generation) = (Err(GroupError::UnknownMember), Err(GroupError::IllegalGeneration));
    assert_eq!(table.classic_beat("c", 1), generation);
    assert_eq!(table.classic_beat("d", 2), unknown);
    assert_eq!(table.classic_beat("a", 1), unknown, "it does not speak this");
    assert_eq!(table.classic_sync(&sync("a", 1)).map(drop), unknown);
    assert_eq!(table.classic_sync(&sync("c", 1)).map(drop), generation);
    let named = |protocol: &str, kind: &str| Sync {
        protocol: Some(Str::from(protocol)),
        protocol_type: Some(Str::from(kind)),
        ..sync("c", 2)
    };
    for (protocol, kind) in [("sticky", "consumer"), ("range", "connect")] {
        assert_eq!(
            table.classic_sync(&named(protocol, kind)).map(drop),
            Err(GroupError::InconsistentProtocol)
        );
    }
    for member in ["d", "e"] {
        table.come(member, &[]);
    }
    assert_eq!(refused(&mut table, &|join| join.member_id = Str::from("f")), Err(GroupError::GroupFull));
}

#[test]
fn it_is_refused_in_its_own_words_where_its_generation_is_not_the_newest() {
    let mut table = Table::new(&[("t", 2)]);
    let generation = table.come("c", &[]);
    table.join("b", &["t"]);
    assert_eq!(table.come("c", &[0, 1]), generation);
    let kept = table.classic_sync(&sync("c", generation)).expect("what it keeps");
    let newer = table.come("c", &kept[0].1);
    let kept = known(&kept, &table.topics);
    let lost = table.of("t", &[0, 1]).without(&kept);
    let commit = |epoch: i32, knows_epochs: bool, places: &Partitions| {
        table.group.check_commit(&Str::from("c"), epoch, knows_epochs, places.iter())
    };
    let refused = Err(GroupError::IllegalGeneration);
    assert_eq!(commit(newer, false, &kept), Ok(()), "it knows no epochs, and need not");
    assert_eq!(commit(generation, true, &kept), Ok(()), "the answer may be on its way");
    assert_eq!(commit(generation, true, &lost), refused);
    assert_eq!(commit(newer + 1, true, &kept), refused);
    let member = Str::from("c");
    assert_eq!(table.group.check_fetch(Some(&member), newer), Ok(()));
    assert_eq!(table.group.check_fetch(Some(&member), generation), refused);
}

#[test]
fn a_static_name_goes_from_one_protocol_to_the_other() {
    let mut table = Table::new(&[("t", 2)]);
    let by_name = |member: &str| Join { instance: Some(Str::from("i")), ..join(member, &["t"], &of_t(&[])) };
    table.join("a", &["t"]);
    table.heartbeat(&fixed("i-1", "i")).expect("it may");
    table.leave("a", None, Departure::ForGood).expect("it is in");
    let all = table.heartbeat(&Heartbeat {
        instance: Some(Str::from("i")),
        ..staying("i-1", 2, &Partitions::default())
    });
    assert_eq!(all.expect("it is in").assigned.map(|all| all.len()), Some(2));
    let epoch = table.group.at.epoch;
    assert_eq!(table.classic_join(&by_name("other")).map(drop), Err(GroupError::FencedInstance));
    let joined = table.classic_join(&by_name("")).expect("its name is free for it");
    assert_eq!((joined.member_id.as_str(), table.group.at.epoch), ("fresh", epoch), "nobody notices");
    let named = Sync { instance: Some(Str::from("i")), ..sync("fresh", joined.generation) };
    assert_eq!(table.classic_sync(&named), Ok(of_t(&[0, 1])));
    let old = Heartbeat { instance: Some(Str::from("i")), ..staying("i-1", epoch, &Partitions::default()) };
    assert_eq!(table.heartbeat(&old), Err(GroupError::FencedInstance));

    let back = table.heartbeat(&fixed("i-2", "i")).expect("and back, though it has not left");
    assert_eq!((back.assigned.map(|all| all.len()), table.group.at.epoch), (Some(2), epoch));
    let instance = Str::from("i");
    let gone = Str::from("fresh");
    let fenced = table.act(|group, around, effects| {
        group.classic_heartbeat(&gone, Some(&instance), joined.generation, around, effects)
    });
    assert_eq!(fenced, Err(GroupError::FencedInstance));
    assert!(table.group.members["i-2"].profile.classic.is_none());
}

/// Its client takes no answer that names a topic which it reads no more, and would ask for ever.
#[test]
fn who_reads_less_while_it_has_something_to_give_back_is_told_of_that_alone() {
    let mut table = Table::new(&[("t", 2), ("u", 1)]);
    let owned = |indexes: &[i32], with_u: bool| {
        let mut owned = of_t(indexes);
        owned.extend(with_u.then(|| (Str::from("u"), vec![0])));
        owned
    };
    table.classic_join(&join("c", &["t", "u"], &Named::new())).expect("it may");
    assert_eq!(table.classic_sync(&sync("c", 1)), Ok(owned(&[0, 1], true)));
    table.join("a", &["t", "u"]);
    assert_eq!(table.classic_beat("c", 1), REBALANCE);
    table.classic_join(&join("c", &["t", "u"], &owned(&[0, 1], true))).expect("it is in");
    assert_eq!(table.group.members["c"].current.state, MemberState::Unrevoked);
    table.classic_join(&join("c", &["t"], &owned(&[0, 1], true))).expect("it is in");
    let told = table.classic_sync(&sync("c", 1)).expect("what it keeps");
    assert!(told.iter().all(|(topic, _)| topic == "t"), "{told:?}");
    let generation = table.classic_join(&join("c", &["t"], &told)).expect("it gave back the rest").generation;
    assert!(generation > 1, "and goes on");
}

/// It was put out while it stood still. What it reads is others' by now.
#[test]
fn who_comes_back_with_what_it_had_begins_anew() {
    let mut table = Table::new(&[("t", 2)]);
    table.come("c", &[]);
    table.leave("c", None, Departure::ForGood).expect("it is in");
    let late = table.classic_join(&join("c", &["t"], &of_t(&[0, 1])));
    assert_eq!(late.map(drop), Err(GroupError::UnknownMember));
    // A client that says the same again without its id is given another, with nothing.
    let anew = table.classic_join(&join("", &["t"], &of_t(&[0, 1]))).expect("it may");
    assert_eq!((anew.member_id.as_str(), anew.generation), ("fresh", 3));
    assert_eq!(
        table.classic_join(&join("", &["t"], &Named::new())).map(drop),
        Err(GroupError::MemberIdRequired)
    );
    table.leave("fresh", None, Departure::ForGood).expect("it is in");
    assert_eq!(table.classic_join(&join("c", &["t"], &Named::new())).map(|joined| joined.generation), Ok(5));
}

#[test]
fn who_is_alive_stays_in_though_nothing_can_be_stored() {
    let mut table = Table::new(&[("t", 2)]);
    let generation = table.come("c", &[]);
    table.classic_sync(&sync("c", generation)).expect("all");
    table.cluster.grow("t", 600);
    table.see();
    assert_eq!(table.classic_beat("c", generation), Ok(()), "the target does not fit into a record");
    table.pass(8);
    assert_eq!(table.classic_beat("c", generation), Ok(()));
    table.pass(8);
    assert!(table.group.members.contains_key("c"), "it was heard of");
}

/// What did not fit may fit without somebody who has left.
#[test]
fn a_target_is_tried_again_once_there_is_another_epoch() {
    let mut table = Table::new(&[("t", 2), ("u", 1)]);
    let generation = table.come("c", &[]);
    table.classic_sync(&sync("c", generation)).expect("all");
    table.classic_join(&join("d", &["u"], &Named::new())).expect("it may");
    table.cluster.grow("t", 600);
    table.see();
    let epoch = |table: &Table| table.group.members["d"].current.epoch;
    let at = epoch(&table);
    assert_eq!(table.classic_beat("d", at), Ok(()), "the target of c does not fit into a record");
    assert!(table.group.unfit.is_some());
    table.leave("c", None, Departure::ForGood).expect("it is in");
    assert_eq!(table.classic_beat("d", at), REBALANCE, "without c it does");
    assert_eq!(table.group.target_epoch, table.group.at.epoch);
}
