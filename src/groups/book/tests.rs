use aquifer_model::Timestamp;
use aquifer_runtime::clock::Clock;
use bytes::Bytes;

use super::*;
use crate::groups::classic::Profile;

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
        record_bytes_max: 100_000,
    };
    Book::new(Rules { limits, offsets_retention: Duration::from_secs(1_000), metadata_bytes_max: 4 })
}

fn outsider() -> Committer {
    Committer { member_id: Str::EMPTY, instance: None, generation: -1, retention: None }
}

fn position(topic: &str, offset: i64) -> Commit {
    Commit { topic: Str::from(topic), partition: 0, offset, leader_epoch: None, metadata: Str::EMPTY }
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
    let join = Join {
        member_id: Str::EMPTY,
        fresh_id: Str::from("m"),
        instance: None,
        protocol_type: Str::from("consumer"),
        profile: Profile {
            client_id: Str::EMPTY,
            client_host: Str::EMPTY,
            rebalance_timeout: Duration::from_secs(60),
            session_timeout: Duration::from_secs(10),
            protocols: vec![(Str::from("range"), subscription.into())],
        },
        needs_known_id: false,
        may_skip_assignment: false,
    };
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
        assignments: vec![(Str::from("m"), Bytes::from_static(b"x"))],
    };
    book.sync(&group, sync, Ticket(2), now(at), &mut effects);
    effects.records
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
    let heard = book.heartbeat(&Str::EMPTY, &Str::from("m"), None, 1, now(0));
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
    assert_eq!(book.heartbeat(&group, &Str::from("m"), None, 1, now(0)), Err(GroupError::UnknownMember));
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
    book.expire(now(5), &mut effects);
    assert!(effects.records.is_empty(), "it is read");
    // Its member falls silent.
    book.tick(now(11), &mut effects);
    records.append(&mut effects.records);
    book.expire(now(1_010), &mut effects);
    assert!(effects.records.is_empty(), "it has been empty for less than a thousand seconds");
    book.expire(now(1_011), &mut effects);
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
    assert_eq!(book.heartbeat(&Str::from("g"), &Str::from("m"), None, 1, now(4)), Ok(()));
    assert_eq!(book.next_deadline(), Some(now(14).at));
    let mut effects = Effects::default();
    book.tick(now(14), &mut effects);
    assert_eq!(book.next_deadline(), None);
    assert_eq!(book.list()[0].state, "Empty");
}

#[test]
fn positions_in_a_deleted_topic_go() {
    let mut book = book();
    commit(&mut book, "g", "t", 1, 0);
    commit(&mut book, "h", "t", 1, 0);
    commit(&mut book, "h", "u", 1, 0);
    let mut effects = Effects::default();
    book.forget_topic("t", &mut effects);
    assert_eq!(effects.records.len(), 2);
    assert_eq!((book.len(), offset(&book, "h", "u")), (1, Some(1)));
}
