//! Groups whose coordinator assigns, beside all others.

use super::*;
use crate::config::{Config, Sources};
use crate::groups::consumer::{Departure, Heard, Heartbeat, JOINING, Resolved};
use crate::groups::partitions::Partitions;
use crate::groups::topics::tests::Cluster;

/// A book that knows a topic `t` of two partitions.
pub(super) fn book_with_topic() -> Book {
    let mut cluster = Cluster::new();
    cluster.create("t", 2);
    let mut book = book();
    book.see(cluster.image());
    book
}

pub(super) fn joining(member: &str) -> Heartbeat {
    Heartbeat {
        member: Str::from(member),
        epoch: JOINING,
        instance: None,
        rack: None,
        rebalance_timeout_ms: Some(60_000),
        topics: Some(vec![Str::from("t")]),
        pattern: None,
        assignor: None,
        owned: Some(Partitions::default()),
        client_id: Str::EMPTY,
        client_host: Str::EMPTY,
    }
}

pub(super) fn heartbeat(
    book: &mut Book,
    beat: &Heartbeat,
    at: u64,
    effects: &mut Effects,
) -> Result<Heard, GroupError> {
    book.consumer_heartbeat(&Str::from("g"), beat, now(at), effects)
}

pub(super) fn leave(book: &mut Book, member: &str, at: u64, effects: &mut Effects) -> Result<(), GroupError> {
    book.consumer_leave(&Str::from("g"), &Str::from(member), None, Departure::ForGood, now(at), effects)
}

/// What a book is that has read these records.
pub(super) fn read(records: &[Record]) -> Book {
    let mut book = book_with_topic();
    for record in records {
        book.replay(record.clone(), now(0));
    }
    book
}

pub(super) fn listed(book: &Book) -> Vec<(Kind, &'static str)> {
    book.list().into_iter().map(|group| (group.kind, group.state)).collect()
}

#[test]
fn a_group_begins_is_read_again_and_ends() {
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    let staying = Heartbeat { epoch: 1, ..joining("a") };
    assert_eq!(heartbeat(&mut book, &staying, 0, &mut effects), Err(GroupError::UnknownMember));
    assert_eq!(leave(&mut book, "a", 0, &mut effects), Err(GroupError::NotFound));
    assert_eq!(book.len(), 0);
    heartbeat(&mut book, &joining("a"), 0, &mut effects).expect("it may");
    assert_eq!(listed(&book), [(Kind::Consumer, "Stable")]);
    assert_eq!(book.next_deadline(), Some(now(45).at));
    let again = read(&effects.records);
    assert_eq!(again.describe_consumers("g"), book.describe_consumers("g"));
    assert_eq!(book.describe("g"), None, "it is no classic one");

    let member = Committer { member_id: Str::from("a"), generation: 1, ..outsider() };
    let commit = |book: &mut Book, committer: &Committer| {
        book.commit(&Str::from("g"), committer, vec![position("t", 5)], now(1), &mut Effects::default())
    };
    assert_eq!(commit(&mut book, &outsider()), Err(GroupError::UnknownMember));
    assert_eq!(
        commit(&mut book, &Committer { generation: 0, ..member.clone() }),
        Err(GroupError::StaleEpoch)
    );
    let old = Committer { knows_epochs: false, ..member.clone() };
    assert_eq!(commit(&mut book, &old), Err(GroupError::CommitTooOld));
    assert_eq!(commit(&mut book, &member), Ok(vec![Ok(())]));
    let deleted = book.delete_positions(&Str::from("g"), &[(Str::from("t"), 0)], &mut effects);
    assert_eq!(deleted, Ok(vec![Err(GroupError::SubscribedToTopic)]));
    assert_eq!(book.delete(&Str::from("g"), now(1), &mut effects), Err(GroupError::NonEmpty));

    book.tick(now(45), &mut effects);
    assert_eq!(listed(&book), [(Kind::Consumer, "Empty")]);
    book.expire(None, now(900), &mut effects);
    assert_eq!(book.len(), 1, "its position is not that old");
    book.expire(None, now(2_000), &mut effects);
    assert_eq!(book.len(), 0);
    assert_eq!(read(&effects.records).len(), 0, "nor is there anything to be read");
}

#[test]
fn an_empty_group_becomes_one_of_the_other_kind() {
    let mut book = book_with_topic();
    let mut records = settled(&mut book, "g", &["t"], 0);
    let mut effects = Effects::default();
    let refused = heartbeat(&mut book, &joining("a"), 0, &mut effects);
    assert!(matches!(refused, Err(GroupError::NotUpgraded(_))), "what its leader assigned makes no sense");
    book.tick(now(20), &mut effects);
    assert_eq!(listed(&book), [(Kind::Classic, "Empty")]);
    heartbeat(&mut book, &joining("a"), 20, &mut effects).expect("nobody is in");
    records.append(&mut effects.records);
    assert_eq!(listed(&book), [(Kind::Consumer, "Stable")]);
    assert_eq!(listed(&read(&records)), [(Kind::Consumer, "Stable")]);

    let group = Str::from("g");
    book.join(&group, join("m", Bytes::new()), Ticket(1), now(21), &mut effects);
    let refused = effects.joins.pop().expect("answered").1.expect_err("it has a member");
    assert_eq!(refused.error, GroupError::InconsistentProtocol);
    let member = Str::from("a");
    let unknown = book.heartbeat(&group, &member, None, 1, now(21), &mut Effects::default());
    assert_eq!(unknown, Err(GroupError::UnknownMember), "of the classic protocol");
    assert_eq!(leave(&mut book, "a", 22, &mut effects), Ok(()));
    records.append(&mut effects.records);
    records.extend(settled(&mut book, "g", &["t"], 23));
    assert_eq!(listed(&book), [(Kind::Classic, "Stable")]);
    assert_eq!(listed(&read(&records)), [(Kind::Classic, "Stable")]);
}

#[test]
fn a_step_that_was_not_stored_did_not_happen() {
    let undo = |book: &mut Book, effects: Effects, lost: &mut Effects| {
        book.undo(&effects, now(30), lost);
    };
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("a"), 0, &mut effects).expect("it may");
    undo(&mut book, effects, &mut Effects::default());
    assert_eq!(book.len(), 0, "there is no group");

    settled(&mut book, "g", &["t"], 0);
    book.tick(now(20), &mut Effects::default());
    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("a"), 20, &mut effects).expect("nobody is in");
    undo(&mut book, effects, &mut Effects::default());
    assert_eq!(listed(&book), [(Kind::Classic, "Empty")], "it is what it was");

    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("a"), 20, &mut effects).expect("nobody is in");
    leave(&mut book, "a", 20, &mut effects).expect("it is in");
    let mut effects = Effects::default();
    let before = book.describe_consumers("g");
    book.join(&Str::from("g"), join("m", Bytes::new()), Ticket(7), now(21), &mut effects);
    assert!(effects.joins.is_empty(), "it waits");
    let mut lost = Effects::default();
    undo(&mut book, effects, &mut lost);
    assert_eq!(lost.joins.len(), 1, "whoever waits for a group that is no more is told");
    assert_eq!(book.describe_consumers("g"), before);
}

#[test]
fn an_expression_is_known_for_as_long_as_somebody_reads_by_it() {
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    assert!(!book.knows_pattern("g", "t.*"), "there is no such group");
    heartbeat(&mut book, &joining("a"), 0, &mut effects).expect("it may");
    assert!(!book.knows_pattern("g", "t.*"));
    let pattern = Resolved { pattern: Str::from("t.*"), topics: vec![Str::from("t")] };
    let by_pattern = Heartbeat { pattern: Some(pattern), ..joining("b") };
    heartbeat(&mut book, &by_pattern, 0, &mut effects).expect("it may");
    assert!(book.knows_pattern("g", "t.*") && !book.knows_pattern("g", "t"));
    assert!(!book.knows_pattern("other", "t.*"));
    leave(&mut book, "b", 0, &mut effects).expect("it is in");
    assert!(!book.knows_pattern("g", "t.*"), "nobody reads by it");
}

/// Of what there is no room for the number is told.
#[test]
fn so_many_groups_stand_with_so_many_positions() {
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    let committer = Committer {
        member_id: Str::EMPTY,
        instance: None,
        generation: -1,
        knows_epochs: false,
        retention: None,
    };
    for group in ["a", "b", "c"] {
        let commits = (0..2).map(|partition| Commit {
            topic: Str::from("t"),
            topic_id: TopicId::ZERO,
            partition,
            offset: 7,
            leader_epoch: None,
            metadata: Str::EMPTY,
        });
        let kept = book.commit(&Str::from(group), &committer, commits.collect(), now(0), &mut effects);
        assert_eq!(kept, Ok(vec![Ok(()), Ok(())]));
    }
    for ((groups_max, positions_max), expected) in [
        ((9, 9), (vec![("a", 2), ("b", 2), ("c", 2)], 0, 0)),
        ((3, 3), (vec![("a", 2), ("b", 1), ("c", 0)], 0, 3)),
        ((2, 9), (vec![("a", 2), ("b", 2)], 1, 2)),
        ((1, 1), (vec![("a", 1)], 2, 5)),
        ((0, 9), (vec![], 3, 6)),
    ] {
        let Standings { groups, groups_left_out, positions_left_out } =
            book.standings(groups_max, positions_max);
        let told: Vec<(&str, usize)> =
            groups.iter().map(|standing| (&*standing.group, standing.positions.len())).collect();
        assert_eq!((told, groups_left_out, positions_left_out), expected, "{groups_max}, {positions_max}");
    }
}

/// A heartbeat puts a deadline off, and nobody looks at it before it comes: a shorter session brings it forward.
#[test]
fn a_session_that_was_made_shorter_ends_in_time() {
    let key = "consumer.session.timeout.ms";
    let brokers = Config::load(Sources::default()).expect("the defaults").broker().groups.consumer.clone();
    let mut cluster = Cluster::new();
    cluster.create("t", 2);
    cluster.configure("g", key, "60000");
    let mut book = book();
    book.rules.consumer.session_timeout = brokers.session_timeout;
    book.see(cluster.image());
    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("a"), 0, &mut effects).expect("it may");
    assert_eq!(book.next_deadline(), Some(now(60).at));
    cluster.configure("g", key, "50000");
    book.see(cluster.image());
    let alive = Heartbeat { epoch: 1, rebalance_timeout_ms: None, topics: None, owned: None, ..joining("a") };
    heartbeat(&mut book, &alive, 1, &mut effects).expect("it is in");
    assert_eq!(book.next_deadline(), Some(now(51).at));
    book.tick(now(51), &mut effects);
    assert!(book.describe_consumers("g").expect("its epoch is stored").members.is_empty());
}
