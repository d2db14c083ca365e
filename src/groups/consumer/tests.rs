//! Groups whose coordinator assigns, one step after the other. Histories of chance are in [`any`].

mod any;
mod classic;

use std::time::Duration;

use aquifer_model::Timestamp;
use aquifer_runtime::clock::Clock;

use super::*;
use crate::config::{Config, Sources};
use crate::groups::classic::Leaving;
use crate::groups::topics::tests::Cluster;

/// A group, what was stored of it, and the cluster around it.
struct Table {
    group: ConsumerGroup,
    cluster: Cluster,
    topics: Topics,
    limits: ConsumerLimits,
    classic: Limits,
    now: Now,
    log: Vec<Said>,
}

impl Table {
    fn new(topics: &[(&str, usize)]) -> Table {
        let mut cluster = Cluster::new();
        for (topic, partitions) in topics {
            cluster.create(topic, *partitions);
        }
        let mut table = Table {
            group: ConsumerGroup::new(Str::from("g")),
            cluster,
            topics: Topics::default(),
            limits: ConsumerLimits {
                session_timeout: GroupTime::always(Duration::from_secs(45)),
                members_max: 4,
                assignors: Assignors { default: Assignor::Uniform, other: Some(Assignor::Range) },
                migration: Migration::Bidirectional,
                batch_bytes_max: 2_000,
            },
            classic: Limits {
                session_timeout_min: Duration::from_secs(6),
                session_timeout_max: Duration::from_secs(1_800),
                initial_rebalance_delay: Duration::ZERO,
                members_max: 4,
                batch_bytes_max: 2_000,
            },
            now: Now { at: Clock::system().now(), wall: Timestamp(0) },
            log: Vec::new(),
        };
        table.see();
        table
    }

    fn see(&mut self) {
        self.topics.see(self.cluster.image());
    }

    fn around(&self) -> Around<'_> {
        Around { topics: &self.topics, limits: self.limits, classic: self.classic, now: self.now }
    }

    /// Does something, keeps what it wants stored, and sees that the group is what its records say.
    fn act<T>(&mut self, act: impl FnOnce(&mut ConsumerGroup, Around<'_>, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let around =
            Around { topics: &self.topics, limits: self.limits, classic: self.classic, now: self.now };
        let outcome = act(&mut self.group, around, &mut effects);
        assert_eq!(effects.records.len(), effects.before.len());
        if !effects.records.is_empty() {
            self.log.extend(effects.records.into_iter().map(said));
            self.check();
        }
        outcome
    }

    fn replayed(&self, log: impl Iterator<Item = Said>) -> ConsumerGroup {
        let mut group = ConsumerGroup::new(Str::from("g"));
        let around = self.around();
        for said in log {
            group.apply(said, around);
        }
        group
    }

    fn check(&self) {
        check_owners(&self.group);
        let stored = stored(&self.group);
        assert_eq!(stored, self::stored(&self.replayed(self.log.iter().cloned())));
        assert_eq!(stored, self::stored(&self.replayed(compacted(&self.log).into_iter())));
    }

    fn reload(&mut self) {
        self.group = self.replayed(compacted(&self.log).into_iter());
        self.act(|group, around, _| group.resume(around));
    }

    fn heartbeat(&mut self, beat: &Heartbeat) -> Result<Heard, GroupError> {
        self.act(|group, around, effects| group.heartbeat(beat, around, effects))
    }

    fn leave(
        &mut self,
        member: &str,
        instance: Option<&str>,
        departure: Departure,
    ) -> Result<(), GroupError> {
        let (member, instance) = (Str::from(member), instance.map(Str::from));
        self.act(|group, around, effects| group.leave(&member, instance.as_ref(), departure, around, effects))
    }

    /// Time passes, and what is due is done.
    fn pass(&mut self, seconds: u64) {
        let passed = Duration::from_secs(seconds);
        self.now = Now { at: self.now.at + passed, wall: self.now.wall.plus(passed) };
        self.act(ConsumerGroup::tick);
    }

    fn place(&self, topic: &str, index: i32) -> (TopicId, i32) {
        (self.cluster.id(topic), index)
    }

    fn of(&self, topic: &str, indexes: &[i32]) -> Partitions {
        indexes.iter().map(|index| self.place(topic, *index)).collect()
    }

    /// A member joins, and is told what it may read.
    fn join(&mut self, member: &str, topics: &[&str]) -> Partitions {
        let heard = self.heartbeat(&joining(member, topics)).expect("it may");
        heard.assigned.expect("who joins is told everything")
    }

    /// A member that has `owned` says so.
    fn beat(&mut self, member: &str, epoch: i32, owned: &Partitions) -> Heard {
        self.heartbeat(&staying(member, epoch, owned)).expect("it is in")
    }

    fn state(&self) -> &'static str {
        self.group.state_name()
    }
}

fn said(record: Record) -> Said {
    match record {
        Record::Consumer(ConsumerRecord { group, said }) => {
            assert_eq!(group, "g");
            said
        }
        other => panic!("no record of such a group: {other:?}"),
    }
}

fn joining(member: &str, topics: &[&str]) -> Heartbeat {
    Heartbeat {
        member: Str::from(member),
        epoch: JOINING,
        instance: None,
        rack: None,
        rebalance_timeout_ms: Some(60_000),
        topics: Some(topics.iter().map(|topic| Str::from(*topic)).collect()),
        pattern: None,
        assignor: None,
        owned: Some(Partitions::default()),
        client_id: Str::from("client"),
        client_host: Str::from("/host"),
    }
}

fn staying(member: &str, epoch: i32, owned: &Partitions) -> Heartbeat {
    Heartbeat {
        epoch,
        rebalance_timeout_ms: None,
        topics: None,
        owned: Some(owned.clone()),
        ..joining(member, &[])
    }
}

/// No partition is of two members at once, and who has which is known.
fn check_owners(group: &ConsumerGroup) {
    let mut owners = HashMap::new();
    for (id, member) in &group.members {
        for place in member.current.assigned.iter().chain(member.current.revoking.iter()) {
            let other = owners.insert(place, id.clone());
            assert_eq!(other, None, "{place:?} is {id}'s, too");
        }
    }
    assert_eq!(group.owners, owners);
    let mut readers = Readers::default();
    group.members.values().for_each(|member| readers.add(&member.profile));
    assert_eq!(group.readers, readers);
    let mut classics = Classics::default();
    group.members.values().for_each(|member| classics.add(&member.profile));
    assert_eq!(group.classics, classics);
    let first = group.members.values().map(Member::next_deadline).min();
    assert!(group.next_deadline() <= first, "an alarm may come too early, never too late");
    assert_eq!(group.next_deadline().is_none(), first.is_none());
}

type Stored = (
    GroupEpoch,
    i32,
    BTreeMap<Str, (Profile, Current)>,
    BTreeMap<Str, Partitions>,
    BTreeMap<Str, Matching>,
    BTreeMap<Str, Str>,
);

/// All of a group that is stored.
fn stored(group: &ConsumerGroup) -> Stored {
    let members = group.members.iter();
    let members = members.map(|(id, member)| (id.clone(), (member.profile.clone(), member.current.clone())));
    let instances = group.instances.clone();
    (
        group.at,
        group.target_epoch,
        members.collect(),
        group.targets.clone(),
        group.patterns.clone(),
        instances,
    )
}

/// What compaction leaves of a log: of each key the last, where it was, and nothing of what was taken back.
fn compacted(log: &[Said]) -> Vec<Said> {
    let key = |said: &Said| {
        Record::Consumer(ConsumerRecord { group: Str::from("g"), said: said.clone() }).key().expect("a key")
    };
    let mut last = HashMap::new();
    for (at, said) in log.iter().enumerate() {
        last.insert(key(said), at);
    }
    let left = log.iter().enumerate().filter(|(at, said)| last[&key(said)] == *at && !said.takes_back());
    left.map(|(_, said)| said.clone()).collect()
}

#[test]
fn a_member_enters_stays_and_leaves() {
    let mut table = Table::new(&[("t", 3)]);
    let assigned = table.join("a", &["t"]);
    assert_eq!(assigned, table.of("t", &[0, 1, 2]));
    assert_eq!(table.state(), "Stable");
    let heard = table.beat("a", 1, &assigned);
    assert_eq!(heard, Heard { epoch: 1, assigned: None, stale: None }, "nothing new");
    let stored = table.log.len();
    table.beat("a", 1, &assigned);
    assert_eq!(table.log.len(), stored, "and nothing stored");
    assert_eq!(table.leave("b", None, Departure::ForGood), Err(GroupError::UnknownMember));
    assert_eq!(table.leave("a", None, Departure::ForGood), Ok(()));
    assert_eq!((table.state(), table.group.at.epoch), ("Empty", 2));
    table.act(ConsumerGroup::end);
    assert!(table.group.is_blank(), "{:?}", table.group);
}

#[test]
fn a_partition_is_given_only_once_it_is_given_back() {
    let mut table = Table::new(&[("t", 2)]);
    let all = table.join("a", &["t"]);
    assert_eq!(table.join("b", &["t"]), Partitions::default(), "all is a's yet");
    assert_eq!(table.state(), "Reconciling");
    let told = table.beat("a", 1, &all);
    let kept = told.assigned.expect("it is to give something back");
    assert_eq!((told.epoch, kept.len()), (1, 1), "and stays where it is meanwhile");
    assert_eq!(table.beat("b", 2, &Partitions::default()).assigned, None);
    assert_eq!(table.beat("a", 1, &all).assigned, None, "it has not");
    let done = table.beat("a", 1, &kept);
    assert_eq!((done.epoch, done.assigned), (2, None));
    let given = table.beat("b", 2, &Partitions::default()).assigned.expect("it is free now");
    assert_eq!(given, all.without(&kept));
    assert_eq!(table.state(), "Stable");
}

#[test]
fn who_does_not_give_back_in_time_is_out() {
    let mut table = Table::new(&[("t", 2)]);
    let all = table.join("a", &["t"]);
    table.join("b", &["t"]);
    table.beat("a", 1, &all);
    for _ in 0..2 {
        table.pass(25);
        table.beat("a", 1, &all);
        table.beat("b", 2, &Partitions::default());
    }
    assert!(table.group.members.contains_key("a"), "its minute is not over");
    table.pass(15);
    assert!(!table.group.members.contains_key("a"));
    assert_eq!(table.heartbeat(&staying("a", 1, &all)), Err(GroupError::UnknownMember));
    assert_eq!(table.beat("b", 2, &Partitions::default()).assigned, Some(all));
}

/// To be told of more does not put off what is due.
#[test]
fn who_has_more_to_give_back_gets_no_more_time() {
    let mut table = Table::new(&[("t", 4)]);
    table.limits.members_max = 10;
    let all = table.join("a", &["t"]);
    table.join("b", &["t"]);
    table.beat("a", 1, &all);
    let until = table.group.members["a"].rebalance_until.expect("it is to give something back");
    table.pass(20);
    table.join("c", &["t"]);
    table.join("d", &["t"]);
    let told = table.beat("a", 1, &all).assigned.expect("still less is its own");
    assert_eq!((told.len(), table.group.members["a"].rebalance_until), (1, Some(until)));
    // What it has given back is another's at once, and the rest has its own time.
    table.pass(20);
    let waiting = table.group.members["a"].current.revoking.partitions();
    let (first, rest) = (waiting.iter().take(1).collect(), waiting.iter().skip(1).collect::<Partitions>());
    let kept = all.without(&first);
    table.beat("a", 1, &kept);
    assert_eq!(table.group.members["a"].current.revoking.partitions(), rest);
    assert!(table.group.members["a"].rebalance_until > Some(until), "it does what it is told");
    let given: Vec<Partitions> = ["b", "c", "d"]
        .into_iter()
        .filter_map(|id| {
            table.beat(id, table.group.members[id].current.epoch, &Partitions::default()).assigned
        })
        .collect();
    assert!(given.contains(&first), "{given:?}");
}

#[test]
fn who_is_silent_is_out() {
    let mut table = Table::new(&[("t", 2)]);
    let owned = table.join("a", &["t"]);
    table.pass(44);
    table.beat("a", 1, &owned);
    table.pass(44);
    table.beat("a", 1, &owned);
    table.pass(45);
    assert_eq!(table.state(), "Empty");
    assert_eq!(table.group.next_deadline(), None);
}

#[test]
fn epochs_are_checked() {
    let mut table = Table::new(&[("t", 4)]);
    let all = table.join("a", &["t"]);
    assert_eq!(table.heartbeat(&staying("a", 2, &all)), Err(GroupError::FencedEpoch), "from the future");
    table.join("b", &["t"]);
    let kept = table.beat("a", 1, &all).assigned.expect("two are b's");
    table.beat("a", 1, &kept);
    let again = table.beat("a", 1, &kept);
    assert_eq!(again.epoch, 2, "the answer did not reach it");
    let ahead = staying("a", 1, &all);
    assert_eq!(table.heartbeat(&ahead), Err(GroupError::FencedEpoch), "it has what it gave back");
    let silent = Heartbeat { owned: None, ..staying("a", 1, &kept) };
    assert_eq!(table.heartbeat(&silent), Err(GroupError::FencedEpoch), "nobody knows what it has");
    table.beat("a", 2, &kept);
    table.pass(1);
    let back = table.join("a", &["t"]);
    assert_eq!(back, kept, "it may begin anew at any time");
    for (member, epoch, expected) in [
        ("a", 2, Ok(())),
        ("a", 1, Err(GroupError::StaleEpoch)),
        ("x", 2, Err(GroupError::UnknownMember)),
        ("", -1, Err(GroupError::UnknownMember)),
    ] {
        let member = Str::from(member);
        assert_eq!(table.group.check_fetch(Some(&member), epoch), expected, "{member} at {epoch}");
    }
    assert_eq!(table.group.check_fetch(None, -1), Ok(()));
}

/// The answer with its new epoch may be on its way to a member while it stores positions in what it has had all the time.
#[test]
fn positions_are_taken_back_to_the_epoch_in_which_a_partition_was_given() {
    let mut table = Table::new(&[("t", 2)]);
    let all = table.join("a", &["t"]);
    table.join("b", &["t"]);
    let kept = table.beat("a", 1, &all).assigned.expect("one is b's");
    let lost = all.without(&kept);
    let check = |table: &Table, member: &str, epoch: i32, knows_epochs: bool, places: &Partitions| {
        table.group.check_commit(&Str::from(member), epoch, knows_epochs, places.iter())
    };
    let stale = Err(GroupError::StaleEpoch);
    assert_eq!(
        check(&table, "a", 1, true, &all),
        Ok(()),
        "it has yet to give one back, and stores where it is"
    );
    assert_eq!(table.beat("a", 1, &kept).epoch, 2);
    assert_eq!(check(&table, "a", 1, true, &kept), Ok(()));
    assert_eq!(check(&table, "a", 1, true, &all), stale, "one of these is not its own any more");
    assert_eq!(check(&table, "a", 2, true, &all), Ok(()), "at its epoch it may anything, as in Kafka");
    assert_eq!(check(&table, "a", 3, true, &kept), stale, "from the future");
    assert_eq!(check(&table, "a", 2, false, &kept), Err(GroupError::CommitTooOld));
    table.beat("b", 2, &Partitions::default());
    assert_eq!(check(&table, "b", 2, true, &lost), Ok(()));
    assert_eq!(check(&table, "b", 1, true, &lost), stale, "it was given later");
    table.reload();
    assert_eq!(check(&table, "a", 1, true, &kept), Ok(()), "that is stored");
    for (member, epoch) in [("x", 2), ("", -1)] {
        assert_eq!(check(&table, member, epoch, true, &kept), Err(GroupError::UnknownMember));
    }
}

#[test]
fn bounds_are_kept() {
    let mut table = Table::new(&[("t", 4)]);
    for member in ["a", "b", "c", "d"] {
        table.join(member, &["t"]);
    }
    let stored = table.log.len();
    assert_eq!(table.heartbeat(&joining("e", &["t"])), Err(GroupError::GroupFull));
    let long = "x".repeat(3_000);
    let large = Heartbeat { client_id: Str::from(long), ..joining("a", &["t"]) };
    assert_eq!(table.heartbeat(&large), Err(GroupError::GroupTooLarge));
    let strange = Heartbeat { assignor: Some(Str::from("sticky")), ..joining("a", &["t"]) };
    assert_eq!(table.heartbeat(&strange), Err(GroupError::UnsupportedAssignor));
    assert_eq!(table.log.len(), stored, "nothing of what is refused happened");
}

#[test]
fn topics_that_come_grow_and_go_begin_an_epoch() {
    let mut table = Table::new(&[("t", 1)]);
    let mut owned = table.join("a", &["t", "u"]);
    table.cluster.create("other", 1);
    table.see();
    assert_eq!(table.beat("a", 1, &owned).epoch, 1, "nobody reads it");
    table.cluster.grow("t", 1);
    table.cluster.create("u", 1);
    table.see();
    let heard = table.beat("a", 1, &owned);
    owned = heard.assigned.expect("there is more");
    assert_eq!((heard.epoch, owned.len()), (2, 3));
    table.cluster.delete("t");
    table.see();
    let heard = table.beat("a", 2, &owned);
    assert_eq!((heard.epoch, heard.assigned), (2, Some(table.of("u", &[0]))));
    assert_eq!(table.beat("a", 2, &table.of("u", &[0])).epoch, 3);
    table.cluster.create("t", 2);
    table.see();
    let heard = table.beat("a", 3, &table.of("u", &[0]));
    let all = heard.assigned.expect("it is back, as another topic");
    assert!(table.of("t", &[0, 1]).without(&all).is_empty());
}

#[test]
fn what_members_read_is_theirs_to_change() {
    let mut table = Table::new(&[("t", 2), ("u", 2)]);
    let owned = table.join("a", &["t"]);
    let other = Heartbeat { topics: Some(vec![Str::from("u")]), ..staying("a", 1, &owned) };
    let heard = table.heartbeat(&other).expect("it is in");
    assert_eq!((heard.epoch, heard.assigned), (1, Some(Partitions::default())), "first it gives back");
    let heard = table.beat("a", 1, &Partitions::default());
    assert_eq!((heard.epoch, heard.assigned), (2, Some(table.of("u", &[0, 1]))));
    let renamed = Heartbeat { client_id: Str::from("other"), ..staying("a", 2, &table.of("u", &[0, 1])) };
    assert_eq!(table.heartbeat(&renamed).map(|heard| heard.epoch), Ok(2), "that concerns nobody else");
}

#[test]
fn members_vote_for_an_assignor() {
    let mut table = Table::new(&[("t", 4)]);
    let vote = |member: &str, assignor: &str| Heartbeat {
        assignor: Some(Str::from(assignor)),
        ..joining(member, &["t"])
    };
    let check = |table: &Table, expected| assert_eq!(table.group.view(table.limits).assignor, expected);
    table.heartbeat(&vote("a", "range")).expect("it may");
    check(&table, "range");
    table.heartbeat(&vote("b", "uniform")).expect("it may");
    check(&table, "uniform");
    table.heartbeat(&vote("c", "range")).expect("it may");
    check(&table, "range");
    assert_eq!(table.group.targets["a"].len(), 2, "the first range is the longer one");
}

fn fixed(member: &str, instance: &str) -> Heartbeat {
    Heartbeat { instance: Some(Str::from(instance)), ..joining(member, &["t"]) }
}

#[test]
fn a_static_members_place_is_kept_while_it_is_away() {
    let mut table = Table::new(&[("t", 2)]);
    let a = table.heartbeat(&fixed("a-1", "a")).expect("it may").assigned.expect("all");
    assert_eq!(table.heartbeat(&fixed("a-2", "a")), Err(GroupError::UnreleasedInstance));
    assert_eq!(table.leave("a-2", Some("a"), Departure::ForGood), Err(GroupError::FencedInstance));
    assert_eq!(table.leave("b-1", Some("b"), Departure::ForAWhile), Err(GroupError::UnknownMember));
    assert_eq!(table.leave("a-1", Some("a"), Departure::ForAWhile), Ok(()));
    assert_eq!(table.heartbeat(&staying("a-1", 1, &a)), Err(GroupError::FencedEpoch));
    assert_eq!(table.join("b", &["t"]), Partitions::default(), "both are kept for it, though one is b's now");
    let back = table.heartbeat(&fixed("a-2", "a")).expect("its place is there");
    assert_eq!((back.epoch, back.assigned.map(|kept| kept.len())), (2, Some(1)), "it gave back what was b's");
    assert_eq!(table.beat("b", 2, &Partitions::default()).assigned.map(|given| given.len()), Some(1));
    let old = Heartbeat { instance: Some(Str::from("a")), ..staying("a-1", 1, &a) };
    assert_eq!(table.heartbeat(&old), Err(GroupError::FencedInstance));
    assert_eq!(table.leave("a-2", Some("a"), Departure::ForAWhile), Ok(()));
    let again = table.heartbeat(&fixed("a-2", "a")).expect("the same one may be back, too");
    assert_eq!(again.epoch, 2);
    assert_eq!(table.leave("a-2", Some("a"), Departure::ForAWhile), Ok(()));
    for _ in 0..3 {
        table.pass(15);
        let owned = table.group.members["b"].current.assigned.partitions();
        let epoch = table.group.members["b"].current.epoch;
        table.beat("b", epoch, &owned);
    }
    assert!(table.group.instances.is_empty(), "it was away for too long");
    assert_eq!(table.group.members["b"].current.assigned.partitions().len(), 2);
}

#[test]
fn operators_put_members_out() {
    let mut table = Table::new(&[("t", 2)]);
    table.heartbeat(&fixed("a-1", "a")).expect("it may");
    table.join("b", &["t"]);
    let leaving = |member: &str, instance: Option<&str>| Leaving {
        member_id: Str::from(member),
        instance: instance.map(Str::from),
    };
    let all = [
        leaving("", Some("a")),
        leaving("a-1", Some("a")),
        leaving("b", Some("a")),
        leaving("c", None),
        leaving("", Some("c")),
    ];
    let answers = table.act(|group, around, effects| group.remove(&all, around, effects));
    let (unknown, fenced) = (Err(GroupError::UnknownMember), Err(GroupError::FencedInstance));
    assert_eq!(answers, [Ok(()), Ok(()), fenced, unknown, unknown]);
    assert_eq!((table.group.at.epoch, table.group.members.len()), (3, 1));
    let nobody = table.act(|group, around, effects| group.remove(&all[3..], around, effects));
    assert_eq!((nobody.len(), table.group.at.epoch), (2, 3), "nothing happened");
}

fn matched(pattern: &str, topics: &[&str]) -> Resolved {
    Resolved { pattern: Str::from(pattern), topics: topics.iter().map(|topic| Str::from(*topic)).collect() }
}

#[test]
fn regular_expressions_are_matched_again_as_topics_come() {
    let mut table = Table::new(&[("t1", 1), ("u", 1)]);
    let by_pattern = Heartbeat { pattern: Some(matched("t.*", &["t1"])), ..joining("a", &["u"]) };
    let heard = table.heartbeat(&by_pattern).expect("it may");
    let owned = heard.assigned.expect("both");
    assert_eq!(owned.len(), 2);
    let stale = heard.stale.expect("its topics may be older than those known here");
    let version = stale.version;
    table
        .act(|group, around, effects| group.matched(version, vec![matched("t.*", &["t1"])], around, effects));
    assert_eq!(table.beat("a", 1, &owned), Heard { epoch: 1, assigned: None, stale: None });

    table.cluster.create("t2", 1);
    table.see();
    assert_eq!(table.beat("a", 1, &owned).stale, None, "not so soon");
    table.pass(10);
    let stale = table.beat("a", 1, &owned).stale.expect("now");
    assert_eq!(stale.patterns, [Str::from("t.*")]);
    assert_eq!(table.beat("a", 1, &owned).stale, None, "somebody does");
    table.pass(10);
    assert_eq!(table.beat("a", 1, &owned).stale, Some(stale.clone()), "who has not");
    let all = vec![matched("t.*", &["t1", "t2"]), matched("unknown", &["u"])];
    table.act(|group, around, effects| group.matched(stale.version, all, around, effects));
    let heard = table.beat("a", 1, &owned);
    assert_eq!((heard.epoch, heard.assigned.map(|all| all.len())), (2, Some(3)));

    let no_more = Heartbeat { pattern: Some(matched("", &[])), ..staying("a", 2, &owned) };
    let left = table.heartbeat(&no_more).expect("it is in").assigned.expect("less");
    assert!(table.group.patterns.is_empty(), "nobody reads it");
    assert_eq!(
        (left.len(), table.beat("a", 2, &left).epoch),
        (1, 3),
        "what only that had matched is given up"
    );
}

/// What a record cannot hold must not be tried again and again, nor keep the group from all else.
#[test]
fn a_regular_expression_that_matches_too_much_keeps_what_it_matched() {
    let mut table = Table::new(&[("t1", 1)]);
    let by_pattern = Heartbeat { pattern: Some(matched("t.*", &["t1"])), ..joining("a", &[]) };
    let owned = table.heartbeat(&by_pattern).expect("it may").assigned.expect("one");
    let topics: Vec<String> = (0..1_000).map(|number| format!("t{number}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let stored = table.log.len();
    table.act(|group, around, effects| {
        let version = around.topics.version();
        group.matched(version, vec![matched("t.*", &topics)], around, effects);
    });
    assert_eq!(table.log.len(), stored);
    table.pass(20);
    assert_eq!(table.beat("a", 1, &owned), Heard { epoch: 1, assigned: None, stale: None });
}

#[test]
fn a_group_that_is_read_goes_on() {
    let mut table = Table::new(&[("t", 2)]);
    let all = table.join("a", &["t"]);
    table.join("b", &["t"]);
    let kept = table.beat("a", 1, &all).assigned.expect("one is b's");
    table.now.at += Duration::from_secs(1_000);
    table.reload();
    table.pass(44);
    assert_eq!(table.state(), "Reconciling", "sessions begin anew");
    assert_eq!(table.beat("a", 1, &kept).epoch, 2);
    assert_eq!(table.beat("b", 2, &Partitions::default()).assigned, Some(all.without(&kept)));
}

#[test]
fn what_an_old_broker_knew_of_topics_is_taken_back() {
    let mut table = Table::new(&[("t", 1)]);
    table.log.push(Said::Topics(true));
    table.reload();
    table.join("a", &["t"]);
    assert!(table.log.contains(&Said::Topics(false)));
    assert!(!table.group.has_topics_record);
}

#[test]
fn a_group_may_have_a_session_of_its_own() {
    let key = "consumer.session.timeout.ms";
    let brokers = Config::load(Sources::default()).expect("the defaults").broker().groups.consumer.clone();
    let mut table = Table::new(&[("t", 1)]);
    table.limits.session_timeout = brokers.session_timeout;
    let owned = table.join("a", &["t"]);
    table.pass(44);
    table.cluster.configure("g", key, "50000");
    table.cluster.configure("other", key, "60000");
    table.see();
    table.beat("a", 1, &owned);
    table.pass(49);
    assert_eq!(table.group.member_count(), 1, "45 seconds are the brokers' default");
    table.reload();
    table.pass(49);
    assert_eq!(table.group.member_count(), 1, "sessions begin anew, and are as long");
    // What a broker with wider bounds has stored counts as the most that this one allows.
    table.cluster.configure("g", key, "3600000");
    table.see();
    table.beat("a", 1, &owned);
    table.pass(59);
    assert_eq!(table.group.member_count(), 1);
    table.pass(1);
    assert_eq!(table.group.member_count(), 0);
}
