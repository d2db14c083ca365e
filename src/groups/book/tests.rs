use aquifer_model::Timestamp;
use aquifer_runtime::clock::Clock;
use bytes::Bytes;

use super::*;
use crate::config::{Assignor, Assignors, GroupTime, Migration};
use crate::groups::classic::{Assignments, Profile};

mod any;
mod consumers;
mod migrate;

fn now(seconds: u64) -> Now {
    thread_local!(static BEGAN: Instant = Clock::system().now());
    let passed = Duration::from_secs(seconds);
    Now { at: BEGAN.with(|began| *began) + passed, wall: Timestamp(0).plus(passed) }
}

fn book() -> Book {
    let limits = Limits {
        session_timeout_min: Duration::from_secs(6),
        session_timeout_max: Duration::from_secs(1_800),
        initial_rebalance_delay: Duration::ZERO,
        members_max: 100,
        batch_bytes_max: 1_000,
    };
    let consumer = ConsumerLimits {
        session_timeout: GroupTime::always(Duration::from_secs(45)),
        members_max: 100,
        assignors: Assignors { default: Assignor::Uniform, other: Some(Assignor::Range) },
        migration: Migration::Bidirectional,
        batch_bytes_max: 1_000,
    };
    Book::new(Rules {
        limits,
        consumer,
        offsets_retention: Duration::from_secs(1_000),
        metadata_bytes_max: 4,
        groups_max: 2_000,
        pending_max: 2,
    })
}

/// The topic that is called so now.
fn topic_id(topic: &str) -> TopicId {
    TopicId::new(uuid::Uuid::from_u128(topic.len() as u128))
}

fn outsider() -> Committer {
    Committer { member_id: Str::EMPTY, instance: None, generation: -1, knows_epochs: true, retention: None }
}

fn position(topic: &str, offset: i64) -> Commit {
    Commit {
        topic: Str::from(topic),
        topic_id: topic_id(topic),
        partition: 0,
        offset,
        leader_epoch: None,
        metadata: Str::EMPTY,
    }
}

fn commit(book: &mut Book, group: &str, topic: &str, offset: i64, at: u64) -> Vec<Record> {
    let mut effects = Effects::default();
    let group = Str::from(group);
    let kept = book.commit(&group, &outsider(), vec![position(topic, offset)], now(at), &mut effects);
    assert_eq!(kept, Ok(vec![Ok(())]));
    effects.records
}

/// One member, which reads these topics, in a stable generation.
fn settled(book: &mut Book, group: &str, topics: &[&str], at: u64) -> Vec<Record> {
    let mut subscription = vec![0, 0];
    subscription.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        subscription.extend((topic.len() as i16).to_be_bytes());
        subscription.extend(topic.as_bytes());
    }
    let join = join("m", subscription.into());
    let mut effects = Effects::default();
    let group = Str::from(group);
    book.join(&group, join, Ticket(1), now(at), &mut effects);
    book.tick(now(at), &mut effects);
    let generation = effects.joins[0].1.as_ref().expect("joined").generation;
    let sync = Sync {
        member_id: Str::from("m"),
        instance: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments: Assignments::Given(vec![(Str::from("m"), Bytes::from_static(b"x"))]),
    };
    book.sync(&group, sync, Ticket(2), now(at), &mut effects);
    effects.records
}

fn join(fresh: &str, subscription: Bytes) -> Join {
    Join {
        member_id: Str::EMPTY,
        fresh_id: Str::from(fresh),
        instance: None,
        protocol_type: Str::from("consumer"),
        profile: Profile {
            client_id: Str::EMPTY,
            client_host: Str::EMPTY,
            rebalance_timeout: Duration::from_secs(60),
            session_timeout: Duration::from_secs(10),
            protocols: vec![(Str::from("range"), subscription)],
        },
        needs_known_id: false,
        may_skip_assignment: false,
    }
}

fn replayed(records: impl IntoIterator<Item = Record>, at: u64) -> Book {
    let mut book = book();
    for record in records {
        book.replay(record, now(at));
    }
    book
}

fn offset(book: &Book, group: &str, topic: &str) -> Option<i64> {
    Some(book.positions(group)?.get(topic, 0)?.offset)
}

#[test]
fn positions_are_kept_and_come_back() {
    let mut book = book();
    let mut records = commit(&mut book, "g", "t", 5, 0);
    records.extend(commit(&mut book, "g", "t", 6, 1));
    assert_eq!(offset(&book, "g", "t"), Some(6));
    let again = replayed(records, 2);
    assert_eq!(offset(&again, "g", "t"), Some(6));
    assert_eq!(again.describe("g").map(|view| view.state), Some("Empty"));
}

#[test]
fn who_may_not_commit_leaves_no_trace() {
    let mut book = book();
    let mut effects = Effects::default();
    let group = Str::from("g");
    let member = Committer { member_id: Str::from("m"), generation: 3, ..outsider() };
    let refused = book.commit(&group, &member, vec![position("t", 1)], now(0), &mut effects);
    assert_eq!(refused, Err(GroupError::IllegalGeneration));
    let wordy = Commit { metadata: Str::from("12345"), ..position("t", 1) };
    let kept = book.commit(&group, &outsider(), vec![wordy, position("u", 2)], now(0), &mut effects);
    assert_eq!(kept, Ok(vec![Err(GroupError::MetadataTooLarge), Ok(())]));
    assert_eq!((offset(&book, "g", "t"), offset(&book, "g", "u")), (None, Some(2)));
    assert_eq!(effects.records.len(), 1);
}

#[test]
fn without_a_name_positions_can_be_stored_and_nothing_else() {
    let mut book = book();
    let mut effects = Effects::default();
    commit(&mut book, "", "t", 5, 0);
    assert_eq!(offset(&book, "", "t"), Some(5));
    let heard = book.heartbeat(&Str::EMPTY, &Str::from("m"), None, 1, now(0), &mut Effects::default());
    assert_eq!(heard, Err(GroupError::InvalidGroupId));
    let deleted = book.delete_positions(&Str::EMPTY, &[(Str::from("t"), 0)], &mut effects);
    assert_eq!(deleted, Err(GroupError::InvalidGroupId));
    assert_eq!(book.delete(&Str::EMPTY, now(0), &mut effects), Ok(()));
    assert_eq!(book.len(), 0);
}

#[test]
fn a_group_that_is_nothing_is_forgotten() {
    let mut book = book();
    let mut effects = Effects::default();
    let group = Str::from("g");
    assert_eq!(
        book.heartbeat(&group, &Str::from("m"), None, 1, now(0), &mut Effects::default()),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(book.delete(&group, now(0), &mut effects), Err(GroupError::NotFound));
    assert_eq!(book.len(), 0);
    commit(&mut book, "g", "t", 1, 0);
    assert_eq!(book.len(), 1);
    assert_eq!(book.delete(&group, now(0), &mut effects), Ok(()));
    assert_eq!((book.len(), effects.records.len()), (0, 1));
}

#[test]
fn a_group_with_members_is_not_deleted_nor_what_it_reads() {
    let mut book = book();
    commit(&mut book, "g", "read", 1, 0);
    commit(&mut book, "g", "left", 1, 0);
    settled(&mut book, "g", &["read"], 0);
    let mut effects = Effects::default();
    let group = Str::from("g");
    assert_eq!(book.delete(&group, now(0), &mut effects), Err(GroupError::NonEmpty));
    let partitions = [(Str::from("read"), 0), (Str::from("left"), 0)];
    let deleted = book.delete_positions(&group, &partitions, &mut effects);
    assert_eq!(deleted, Ok(vec![Err(GroupError::SubscribedToTopic), Ok(())]));
    assert_eq!((offset(&book, "g", "read"), offset(&book, "g", "left")), (Some(1), None));
}

#[test]
fn an_empty_group_ages_until_nothing_is_left() {
    let mut book = book();
    let mut records = commit(&mut book, "g", "t", 1, 0);
    records.extend(settled(&mut book, "g", &["t"], 0));
    let mut effects = Effects::default();
    book.expire(None, now(5), &mut effects);
    assert!(effects.records.is_empty(), "it is read");
    // Its member falls silent.
    book.tick(now(11), &mut effects);
    records.append(&mut effects.records);
    book.expire(None, now(1_010), &mut effects);
    assert!(effects.records.is_empty(), "it has been empty for less than a thousand seconds");
    book.expire(None, now(1_011), &mut effects);
    assert_eq!(effects.records.len(), 2, "the position, then the group");
    assert_eq!(book.len(), 0);
    records.append(&mut effects.records);
    assert_eq!(replayed(records, 1_012).len(), 0);
}

#[test]
fn sessions_end_though_nobody_asks() {
    let mut book = book();
    settled(&mut book, "g", &["t"], 0);
    assert_eq!(book.next_deadline(), Some(now(10).at));
    assert_eq!(
        book.heartbeat(&Str::from("g"), &Str::from("m"), None, 1, now(4), &mut Effects::default()),
        Ok(())
    );
    let mut effects = Effects::default();
    book.tick(now(10), &mut effects);
    assert_eq!(book.list()[0].state, "Stable", "it was heard of in between");
    assert_eq!(book.next_deadline(), Some(now(14).at));
    book.tick(now(14), &mut effects);
    assert_eq!(book.next_deadline(), None);
    assert_eq!(book.list()[0].state, "Empty");
}

#[test]
fn positions_in_a_deleted_topic_go() {
    let mut book = book();
    commit(&mut book, "g", "t", 1, 0);
    commit(&mut book, "h", "t", 1, 0);
    commit(&mut book, "h", "uu", 1, 0);
    let mut effects = Effects::default();
    book.forget_topic("t", TopicId::new(uuid::Uuid::from_u128(99)), &mut effects);
    assert!(effects.records.is_empty(), "an older one of that name is no more, and was not meant");
    book.forget_topic("t", topic_id("t"), &mut effects);
    assert_eq!(effects.records.len(), 2);
    assert_eq!((book.len(), offset(&book, "h", "uu")), (1, Some(1)));
}

#[test]
fn static_members_that_ask_for_no_time_do_not_keep_the_book_busy() {
    let mut book = book();
    let group = Str::from("g");
    let mut effects = Effects::default();
    let hasty = |fresh: &str, instance: Option<&str>| {
        let mut join = join(fresh, Bytes::new());
        join.instance = instance.map(Str::from);
        join.profile.rebalance_timeout = Duration::ZERO;
        join
    };
    book.join(&group, hasty("a", None), Ticket(1), now(0), &mut effects);
    book.join(&group, hasty("s", Some("one")), Ticket(2), now(0), &mut effects);
    book.tick(now(0), &mut effects);
    let generation = effects.joins[0].1.as_ref().expect("joined").generation;
    for (member, ticket) in [("s", 3), ("a", 4)] {
        let assignments = Assignments::Given(Vec::new());
        let (member_id, instance) = (Str::from(member), None);
        let (protocol_type, protocol) = (None, None);
        let sync = Sync { member_id, instance, generation, protocol_type, protocol, assignments };
        book.sync(&group, sync, Ticket(ticket), now(0), &mut effects);
    }
    let leaving = [Leaving { member_id: Str::from("a"), instance: None }];
    assert_eq!(book.leave(&group, &leaving, now(1), &mut effects), Ok(vec![Ok(())]));
    book.tick(now(1), &mut effects);
    assert!(book.next_deadline().is_some_and(|due| due > now(1).at));
    for second in 2..20 {
        book.tick(now(second), &mut effects);
    }
    assert_eq!(book.list()[0].state, "Empty", "its session ended the wait");
}

#[test]
fn what_could_not_be_stored_did_not_happen() {
    let mut book = book();
    commit(&mut book, "g", "t", 1, 0);
    let mut effects = Effects::default();
    let group = Str::from("g");
    for offset in [2, 3] {
        let commits = vec![position("t", offset), position("new", offset)];
        book.commit(&group, &outsider(), commits, now(1), &mut effects).expect("it may");
    }
    book.commit(&Str::from("h"), &outsider(), vec![position("t", 1)], now(1), &mut effects).expect("it may");
    book.undo(&effects, now(2), &mut Effects::default());
    assert_eq!((offset(&book, "g", "t"), offset(&book, "g", "new")), (Some(1), None));
    assert_eq!(book.len(), 1, "a group that only came by it is gone again");

    let mut effects = Effects::default();
    settled(&mut book, "k", &["t"], 2);
    book.tick(now(13), &mut effects);
    let mut effects = Effects::default();
    book.delete(&Str::from("k"), now(14), &mut effects).expect("nobody is in");
    assert!(book.describe("k").is_none());
    book.undo(&effects, now(15), &mut Effects::default());
    assert_eq!(book.describe("k").map(|view| view.state), Some("Empty"));
}

#[test]
fn a_position_that_fits_into_no_record_is_refused_alone() {
    let mut book = book();
    book.limit_batches(300);
    let mut effects = Effects::default();
    let commits = vec![position(&"t".repeat(200), 1), position("t", 1)];
    let kept = book.commit(&Str::from("g"), &outsider(), commits, now(0), &mut effects);
    assert_eq!(kept, Ok(vec![Err(GroupError::PositionTooLarge), Ok(())]));
    assert_eq!(effects.records.len(), 1);
}

#[test]
fn positions_in_topics_that_went_while_nobody_served_are_taken_back() {
    let mut records = commit(&mut book(), "g", "t", 1, 0);
    records.extend(commit(&mut book(), "g", "again", 1, 0));
    let mut book = replayed(records, 1);
    let mut effects = Effects::default();
    book.open(|_, id| id != Some(topic_id("again")), now(1), &mut effects);
    assert_eq!((offset(&book, "g", "t"), offset(&book, "g", "again")), (Some(1), None));
    assert_eq!(effects.records.len(), 1);
}

#[test]
fn what_is_read_stays_while_the_group_rebalances() {
    let mut book = book();
    commit(&mut book, "g", "read", 1, 0);
    commit(&mut book, "g", "left", 1, 0);
    settled(&mut book, "g", &["read"], 0);
    let mut effects = Effects::default();
    let group = Str::from("g");
    book.join(&group, join("n", Bytes::new()), Ticket(9), now(1), &mut effects);
    assert_eq!(book.list()[0].state, "PreparingRebalance");
    let partitions = [(Str::from("read"), 0), (Str::from("left"), 0)];
    let deleted = book.delete_positions(&group, &partitions, &mut effects);
    assert_eq!(deleted, Ok(vec![Err(GroupError::SubscribedToTopic), Ok(())]));
}

#[test]
fn a_group_too_many_is_refused_and_the_others_are_served() {
    let mut book = book();
    for index in 0..2_000 {
        commit(&mut book, &format!("g{index}"), "t", 1, 0);
    }
    let mut effects = Effects::default();
    let refused = book.commit(&Str::from("h"), &outsider(), vec![position("t", 1)], now(0), &mut effects);
    assert_eq!(refused, Err(GroupError::TooManyGroups));
    book.join(&Str::from("h"), join("m", Bytes::new()), Ticket(1), now(0), &mut effects);
    assert_eq!(effects.joins[0].1.as_ref().expect_err("refused").error, GroupError::TooManyGroups);
    commit(&mut book, "g7", "t", 2, 0);
    assert_eq!(book.len(), 2_000);
}

#[test]
fn of_ids_that_nobody_uses_the_oldest_are_forgotten() {
    let mut book = book();
    let mut effects = Effects::default();
    for (group, id) in [("g", "a"), ("h", "b"), ("k", "c")] {
        let asks = Join { needs_known_id: true, ..join(id, Bytes::new()) };
        book.join(&Str::from(group), asks, Ticket(1), now(0), &mut effects);
    }
    assert_eq!((book.len(), book.pending_forgotten()), (2, 1), "g has nothing left");
    let used = Join { member_id: Str::from("b"), ..join("unused", Bytes::new()) };
    book.join(&Str::from("h"), used, Ticket(2), now(0), &mut effects);
    let asks = Join { needs_known_id: true, ..join("d", Bytes::new()) };
    book.join(&Str::from("k"), asks, Ticket(3), now(0), &mut effects);
    assert_eq!(book.pending_forgotten(), 1, "one that was used makes room");
}

#[test]
fn positions_expire_in_steps() {
    let mut book = book();
    for index in 0..1_500 {
        commit(&mut book, &format!("g{index:04}"), "t", 1, 0);
    }
    let mut effects = Effects::default();
    let after = book.expire(None, now(5_000), &mut effects);
    assert_eq!((effects.records.len(), book.len()), (1_000, 500));
    let mut effects = Effects::default();
    assert_eq!(book.expire(after.as_ref(), now(5_000), &mut effects), None);
    assert_eq!((effects.records.len(), book.len()), (500, 0));
}
