//! A group with members goes from one protocol to the other, and back.

use super::consumers::{heartbeat, joining, leave, listed, read};
use super::*;
use crate::config::Migration;
use crate::groups::consumer::Heartbeat;
use crate::groups::embedded::tests::subscription;
use crate::groups::embedded::{self, Named};
use crate::groups::partitions::Partitions;

const CLASSIC: &[(Kind, &str)] = &[(Kind::Classic, "Stable")];

/// With room for some members in a batch.
fn book_with_topic() -> Book {
    let mut book = super::consumers::book_with_topic();
    book.limit_batches(20_000);
    book
}

fn of_t(indexes: &[i32]) -> Named {
    if indexes.is_empty() { Named::new() } else { vec![(Str::from("t"), indexes.to_vec())] }
}

/// A classic member asks to join; it has these partitions of `t`.
fn come(book: &mut Book, join: Join, at: u64, ticket: u64, effects: &mut Effects) {
    book.join(&Str::from("g"), join, Ticket(ticket), now(at), effects);
    book.tick(now(at), effects);
}

fn asks(member: &str, fresh: &str, owned: &[i32]) -> Join {
    Join { member_id: Str::from(member), ..join(fresh, subscription(&[Str::from("t")], &of_t(owned))) }
}

fn sync(
    book: &mut Book,
    at: u64,
    member: &str,
    generation: i32,
    given: &[(&str, &[i32])],
    effects: &mut Effects,
) -> Result<Named, GroupError> {
    let given = given.iter();
    let given = given.map(|(id, indexes)| {
        (Str::from(*id), embedded::assignment(1, &of_t(indexes)).expect("a short name"))
    });
    let sync = Sync {
        member_id: Str::from(member),
        instance: None,
        generation,
        protocol_type: None,
        protocol: None,
        assignments: Assignments::Given(given.collect()),
    };
    book.sync(&Str::from("g"), sync, Ticket(999), now(at), effects);
    let answer =
        effects.syncs.iter().position(|(ticket, _)| *ticket == Ticket(999)).expect("answered at once");
    let synced = effects.syncs.remove(answer).1?;
    Ok(embedded::Assignment::read(&synced.assignment).expect("ours").partitions)
}

fn beat(book: &mut Book, member: &str, generation: i32, effects: &mut Effects) -> Result<(), GroupError> {
    book.heartbeat(&Str::from("g"), &Str::from(member), None, generation, now(1), effects)
}

/// `m`, which leads and has the first partition of `t`, and `n`, which has the second; and what was stored.
fn pair(book: &mut Book) -> Vec<Record> {
    let mut effects = Effects::default();
    come(book, asks("", "m", &[]), 0, 1, &mut effects);
    come(book, asks("", "n", &[]), 0, 2, &mut effects);
    come(book, asks("m", "", &[]), 0, 3, &mut effects);
    sync(book, 0, "m", 2, &[("m", &[0]), ("n", &[1])], &mut effects).expect("it leads");
    assert_eq!(sync(book, 0, "n", 2, &[], &mut effects), Ok(of_t(&[1])));
    assert_eq!(listed(book), CLASSIC);
    effects.records
}

fn has(book: &Book) -> Vec<(Str, i32, Vec<i32>)> {
    let view = book.describe_consumers("g").expect("its coordinator assigns");
    let of = |partitions: &Partitions| partitions.iter().map(|(_, index)| index).collect();
    view.members.iter().map(|member| (member.member.clone(), member.epoch, of(&member.assigned))).collect()
}

fn member(id: &str, epoch: i32, indexes: &[i32]) -> (Str, i32, Vec<i32>) {
    (Str::from(id), epoch, indexes.to_vec())
}

const REBALANCE: Result<(), GroupError> = Err(GroupError::RebalanceInProgress);

#[test]
fn members_keep_who_they_are_what_they_read_and_where_they_are() {
    let mut book = book_with_topic();
    let mut records = pair(&mut book);
    records.extend({
        let mut effects = Effects::default();
        let committer = Committer { member_id: Str::from("n"), generation: 2, ..outsider() };
        let kept = book.commit(&Str::from("g"), &committer, vec![position("t", 7)], now(0), &mut effects);
        assert_eq!(kept, Ok(vec![Ok(())]));
        effects.records
    });
    let mut effects = Effects::default();
    let heard = heartbeat(&mut book, &joining("x"), 1, &mut effects).expect("it may");
    assert_eq!((heard.epoch, heard.assigned), (3, Some(Partitions::default())), "all is the others'");
    assert_eq!(has(&book), [member("m", 2, &[0]), member("n", 2, &[1]), member("x", 3, &[])]);
    assert_eq!(offset(&book, "g", "t"), Some(7));
    let view = book.describe_consumers("g").expect("its coordinator assigns");
    let classic: Vec<bool> = view.members.iter().map(|member| member.profile.classic.is_some()).collect();
    assert_eq!(classic, [true, true, false]);
    // There is a newer target, though it is what they have: of three readers of two partitions, one gets none.
    assert_eq!(beat(&mut book, "m", 2, &mut effects), REBALANCE);
    assert_eq!(beat(&mut book, "n", 2, &mut effects), REBALANCE);
    records.append(&mut effects.records);
    let again = read(&records);
    assert_eq!(again.describe_consumers("g"), book.describe_consumers("g"));
    assert_eq!(offset(&again, "g", "t"), Some(7));

    // Both give everything back first, as eager ones do.
    for id in ["m", "n"] {
        come(&mut book, asks(id, "", &[]), 1, 4, &mut effects);
        let joined = effects.joins.pop().expect("at once").1.expect("it may");
        assert_eq!((joined.generation, joined.member_id.as_str(), joined.leader.as_str()), (3, id, ""));
        sync(&mut book, 1, id, 3, &[], &mut effects).expect("its part");
        beat(&mut book, id, 3, &mut effects).expect("it is where it shall be");
    }
    let staying = Heartbeat { epoch: 3, owned: Some(Partitions::default()), ..joining("x") };
    heartbeat(&mut book, &staying, 1, &mut effects).expect("it is in");
    assert_eq!(listed(&book), [(Kind::Consumer, "Stable")]);
    let before = has(&book);

    assert_eq!(leave(&mut book, "x", 2, &mut effects), Ok(()));
    records.append(&mut effects.records);
    assert_eq!(listed(&book), [(Kind::Classic, "PreparingRebalance")], "all share anew");
    let mut again = read(&records);
    assert_eq!(listed(&again), CLASSIC, "which has what they have");
    again.open(|_, _| true, now(2), &mut Effects::default());
    assert_eq!(listed(&again), listed(&book), "and they share anew, should the broker end meanwhile");
    assert_eq!(offset(&book, "g", "t"), Some(7));
    let view = read(&records).describe("g").expect("a classic group");
    let assigned = view.members.iter().map(|member| {
        let told = embedded::Assignment::read(&member.assignment).expect("ours").partitions;
        (member.member_id.clone(), 3, told.into_iter().flat_map(|(_, indexes)| indexes).collect())
    });
    assert_eq!(assigned.collect::<Vec<_>>(), before[..2], "what they were given by the coordinator");
    let committer = Committer { member_id: Str::from("n"), generation: 3, ..outsider() };
    let kept = book.commit(&Str::from("g"), &committer, vec![position("t", 8)], now(2), &mut effects);
    assert_eq!(kept, Ok(vec![Ok(())]), "at the epoch that is their generation now");
    assert_eq!(beat(&mut book, "m", 3, &mut effects), REBALANCE);
    effects.joins.clear();
    come(&mut book, asks("m", "", &[]), 2, 5, &mut effects);
    come(&mut book, asks("n", "", &[]), 2, 6, &mut effects);
    let joined: Vec<i32> =
        effects.joins.iter().map(|(_, joined)| joined.as_ref().expect("it may").generation).collect();
    assert_eq!(joined, [4, 4]);
}

/// Found by chance: one comes and goes before the other has given back what was to be its.
#[test]
fn what_a_member_has_not_given_back_is_its_own_back_and_forth() {
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    come(&mut book, asks("", "m", &[]), 0, 1, &mut effects);
    sync(&mut book, 0, "m", 1, &[("m", &[0, 1])], &mut effects).expect("it leads");
    for _ in 0..2 {
        heartbeat(&mut book, &joining("x"), 1, &mut effects).expect("it may");
        let all = has(&book);
        assert_eq!((&all[0].2, &all[1].2), (&vec![0, 1], &vec![]), "it reads them yet");
        leave(&mut book, "x", 1, &mut effects).expect("it is in");
        assert_eq!(listed(&book), [(Kind::Classic, "PreparingRebalance")]);
    }
}

/// Found by chance: a static member takes another's place while nobody has been assigned what one that left had read.
#[test]
fn a_group_that_goes_over_shares_anew_whoever_comes() {
    let by_name = |join: Join| Join { instance: Some(Str::from("i")), ..join };
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("x"), 0, &mut effects).expect("the first");
    come(&mut book, by_name(asks("", "m", &[])), 0, 1, &mut effects);
    leave(&mut book, "x", 0, &mut effects).expect("it is in");
    assert_eq!(listed(&book), [(Kind::Classic, "PreparingRebalance")]);
    let named = Heartbeat { instance: Some(Str::from("i")), ..joining("y") };
    let heard = heartbeat(&mut book, &named, 0, &mut effects).expect("its name is free for it");
    assert_eq!(heard.assigned.map(|all| all.len()), Some(2));
}

#[test]
fn a_member_that_falls_silent_is_as_good_as_gone() {
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    pair(&mut book);
    heartbeat(&mut book, &joining("x"), 0, &mut effects).expect("it may");
    for at in [9, 18, 27, 36, 44] {
        for id in ["m", "n"] {
            // Each comes as often as it is told to.
            come(&mut book, asks(id, "", &[]), at, 4, &mut effects);
            sync(&mut book, at, id, 3, &[], &mut effects).expect("its part");
        }
        assert_eq!(listed(&book)[0].0, Kind::Consumer);
    }
    book.tick(now(45), &mut effects);
    assert_eq!(listed(&book), [(Kind::Classic, "PreparingRebalance")]);
    let late = Heartbeat { epoch: 3, ..joining("x") };
    assert_eq!(heartbeat(&mut book, &late, 46, &mut effects), Err(GroupError::UnknownMember));
    heartbeat(&mut book, &joining("x"), 46, &mut effects).expect("it begins anew");
    assert_eq!(listed(&book)[0].0, Kind::Consumer);
}

#[test]
fn the_policy_is_kept() {
    for (migration, upgrades, downgrades) in [
        (Migration::Bidirectional, true, true),
        (Migration::Upgrade, true, false),
        (Migration::Downgrade, false, true),
        (Migration::Disabled, false, false),
    ] {
        let mut effects = Effects::default();
        let mut book = book_with_topic();
        book.rules.consumer.migration = migration;
        pair(&mut book);
        let heard = heartbeat(&mut book, &joining("x"), 0, &mut effects);
        assert_eq!(heard.is_ok(), upgrades, "{migration:?}: {heard:?}");
        assert_eq!(listed(&book)[0].0, if upgrades { Kind::Consumer } else { Kind::Classic });

        let mut book = book_with_topic();
        heartbeat(&mut book, &joining("x"), 0, &mut effects).expect("the first");
        book.rules.consumer.migration = migration;
        effects.joins.clear();
        come(&mut book, asks("m", "", &[]), 0, 4, &mut effects);
        let joined = effects.joins.pop().expect("at once").1;
        if migration == Migration::Disabled {
            assert_eq!(joined.expect_err("refused").error, GroupError::InconsistentProtocol);
            continue;
        }
        leave(&mut book, "x", 0, &mut effects).expect("it is in");
        assert_eq!(listed(&book)[0].0, if downgrades { Kind::Classic } else { Kind::Consumer });
        if !downgrades {
            let generation = joined.expect("it may").generation;
            assert_eq!(beat(&mut book, "m", generation, &mut effects), REBALANCE, "though nobody else asks");
            come(&mut book, asks("m", "", &[]), 0, 5, &mut effects);
            assert_eq!(sync(&mut book, 1, "m", generation + 1, &[], &mut effects), Ok(of_t(&[0, 1])));
        }
    }
}

#[test]
fn what_its_coordinator_would_not_understand_stays_classic() {
    let words = subscription(&[Str::from("t")], &Named::new());
    let told = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let sound = embedded::assignment(1, &of_t(&[0])).expect("short");
    let mut with_data = sound[..sound.len() - 4].to_vec();
    with_data.extend_from_slice(&[0, 0, 0, 1, 7]);
    for (kind, said, assigned, members_max, why) in [
        ("consumer", words.clone(), sound.clone(), 10, None),
        ("connect", words.clone(), sound.clone(), 10, Some("no consumers")),
        ("consumer", Bytes::from_static(b"x"), sound.clone(), 10, Some("what it reads")),
        ("consumer", words.clone(), told(b"x"), 10, Some("what it was assigned")),
        ("consumer", words.clone(), told(&with_data), 10, Some("an assignor of their own")),
        ("consumer", words, sound, 0, Some("too many")),
    ] {
        let mut book = book_with_topic();
        let mut effects = Effects::default();
        let asked = Join { protocol_type: Str::from(kind), ..join("m", said) };
        come(&mut book, asked, 0, 1, &mut effects);
        let sync = Sync {
            member_id: Str::from("m"),
            instance: None,
            generation: 1,
            protocol_type: None,
            protocol: None,
            assignments: Assignments::Given(vec![(Str::from("m"), assigned)]),
        };
        book.sync(&Str::from("g"), sync, Ticket(2), now(0), &mut effects);
        book.rules.consumer.members_max = members_max;
        let before = book.describe("g");
        let mut effects = Effects::default();
        let heard = heartbeat(&mut book, &joining("x"), 0, &mut effects);
        match why {
            None => assert!(heard.is_ok(), "{heard:?}"),
            Some(why) => {
                assert!(matches!(heard, Err(GroupError::NotUpgraded(_))), "{why}: {heard:?}");
                assert_eq!((book.describe("g"), effects.records.len()), (before, 0), "{why}");
            }
        }
    }
}

/// Whoever waits in it is told to come again, to a group that knows it.
#[test]
fn a_rebalance_on_its_way_goes_on_under_the_coordinator() {
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    pair(&mut book);
    come(&mut book, asks("", "o", &[]), 1, 7, &mut effects);
    come(&mut book, asks("n", "", &[1]), 1, 8, &mut effects);
    assert!(effects.joins.is_empty(), "both wait for m");
    heartbeat(&mut book, &joining("x"), 1, &mut effects).expect("it may");
    let told: Vec<(Ticket, GroupError)> =
        effects.joins.drain(..).map(|(ticket, told)| (ticket, told.expect_err("again").error)).collect();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|(_, error)| *error == GroupError::RebalanceInProgress));
    assert_eq!(
        has(&book),
        [member("m", 2, &[0]), member("n", 2, &[1]), member("o", 2, &[]), member("x", 3, &[])]
    );
    come(&mut book, asks("o", "", &[]), 1, 9, &mut effects);
    assert_eq!(effects.joins.pop().expect("at once").1.expect("it may").generation, 3);
}

/// A cooperative member that does not know yet what it was assigned reads on what it had.
#[test]
fn what_a_member_may_still_read_is_nobody_elses() {
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    come(&mut book, asks("", "m", &[]), 0, 1, &mut effects);
    sync(&mut book, 1, "m", 1, &[("m", &[0, 1])], &mut effects).expect("it leads");
    come(&mut book, asks("", "n", &[]), 0, 2, &mut effects);
    come(&mut book, asks("m", "", &[0, 1]), 0, 3, &mut effects);
    // It leads, and gives one up; but its answer never reaches it.
    sync(&mut book, 1, "m", 2, &[("m", &[0])], &mut effects).expect("it leads");
    let heard = heartbeat(&mut book, &joining("x"), 1, &mut effects).expect("it may");
    assert_eq!(heard.assigned, Some(Partitions::default()));
    assert_eq!(has(&book)[0], member("m", 2, &[0, 1]));
}

#[test]
fn static_names_go_over_and_the_last_one_takes_the_group_along() {
    let by_name = |join: Join| Join { instance: Some(Str::from("i")), ..join };
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    come(&mut book, by_name(asks("", "m", &[])), 0, 1, &mut effects);
    let sync = |member: &str, generation: i32, given: &[i32]| Sync {
        member_id: Str::from(member),
        instance: Some(Str::from("i")),
        generation,
        protocol_type: None,
        protocol: None,
        assignments: Assignments::Given(vec![(
            Str::from(member),
            embedded::assignment(1, &of_t(given)).expect("short"),
        )]),
    };
    let group = Str::from("g");
    book.sync(&group, sync("m", 1, &[0, 1]), Ticket(2), now(0), &mut effects);
    assert_eq!(listed(&book), CLASSIC);

    // It comes back under the new protocol: nobody is left of the old one, and it has what it had.
    let named = Heartbeat { instance: Some(Str::from("i")), ..joining("x") };
    let heard = heartbeat(&mut book, &named, 1, &mut effects).expect("its name is free for it");
    assert_eq!((heard.epoch, heard.assigned.map(|all| all.len())), (2, Some(2)));
    assert_eq!(listed(&book), [(Kind::Consumer, "Stable")]);
    let old = book.heartbeat(&group, &Str::from("m"), Some(&Str::from("i")), 1, now(1), &mut effects);
    assert_eq!(old, Err(GroupError::FencedInstance));

    // And back: the group is classic again, and nobody has to join anew.
    effects.joins.clear();
    come(&mut book, by_name(asks("", "n", &[])), 2, 3, &mut effects);
    let joined = effects.joins.pop().expect("at once").1.expect("its name is free for it");
    assert_eq!((joined.generation, joined.member_id.as_str()), (2, "n"));
    assert_eq!(listed(&book), CLASSIC);
    effects.syncs.clear();
    book.sync(&group, sync("n", 2, &[]), Ticket(4), now(2), &mut effects);
    let synced = effects.syncs.pop().expect("at once").1.expect("what was its own");
    assert_eq!(embedded::Assignment::read(&synced.assignment).expect("ours").partitions, of_t(&[0, 1]));
    assert_eq!(listed(&read(&effects.records)), CLASSIC);
}

#[test]
fn a_change_that_was_not_stored_did_not_happen() {
    let mut book = book_with_topic();
    pair(&mut book);
    let before = book.describe("g");
    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("x"), 1, &mut effects).expect("it may");
    book.undo(&effects, now(1), &mut Effects::default());
    assert_eq!(book.describe("g"), before, "a stable group stays one");
    assert_eq!(beat(&mut book, "m", 2, &mut Effects::default()), Ok(()), "and disturbs nobody");

    let mut effects = Effects::default();
    come(&mut book, asks("n", "", &[1]), 1, 7, &mut effects);
    come(&mut book, asks("", "o", &[]), 1, 8, &mut effects);
    assert_eq!(listed(&book), [(Kind::Classic, "PreparingRebalance")]);
    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("x"), 1, &mut effects).expect("it may");
    book.undo(&effects, now(1), &mut Effects::default());
    assert_eq!(listed(&book), [(Kind::Classic, "PreparingRebalance")], "whoever waited comes again");

    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("x"), 1, &mut effects).expect("it may");
    book.kept();
    let before = book.describe_consumers("g");
    let mut effects = Effects::default();
    leave(&mut book, "x", 1, &mut effects).expect("it is in");
    assert_eq!(listed(&book)[0].0, Kind::Classic);
    come(&mut book, asks("m", "", &[0]), 1, 9, &mut effects);
    let mut lost = Effects::default();
    book.undo(&effects, now(1), &mut lost);
    assert_eq!(lost.joins.len(), 1, "it waited for a group that is no more");
    assert_eq!(book.describe_consumers("g"), before);
}

/// What its members can do was never stored, and must be known all the same.
#[test]
fn a_group_in_its_first_round_is_what_it_was_if_its_change_is_not_stored() {
    let mut book = book_with_topic();
    let mut effects = Effects::default();
    book.join(&Str::from("g"), asks("", "m", &[]), Ticket(1), now(0), &mut effects);
    assert_eq!(listed(&book), [(Kind::Classic, "PreparingRebalance")]);
    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("x"), 0, &mut effects).expect("it may");
    assert_eq!(effects.joins.len(), 1, "whoever waited is told");
    book.undo(&effects, now(0), &mut Effects::default());
    assert_eq!(listed(&book), [(Kind::Classic, "PreparingRebalance")]);
    let mut effects = Effects::default();
    book.join(&Str::from("g"), asks("m", "", &[]), Ticket(2), now(1), &mut effects);
    book.join(&Str::from("g"), asks("", "n", &[]), Ticket(3), now(1), &mut effects);
    assert!(effects.joins.iter().all(|(_, joined)| joined.is_ok()), "they are let in: {:?}", effects.joins);
    heartbeat(&mut book, &joining("x"), 1, &mut Effects::default()).expect("and so is this one");
}

/// Half of it must never be stored alone.
#[test]
fn a_change_that_fits_into_no_batch_is_refused() {
    let mut book = book_with_topic();
    pair(&mut book);
    book.limit_batches(1_500);
    let refused = heartbeat(&mut book, &joining("x"), 1, &mut Effects::default());
    assert!(matches!(refused, Err(GroupError::NotUpgraded(_))), "{refused:?}");
    assert_eq!(listed(&book), CLASSIC);
    book.limit_batches(20_000);
    let mut effects = Effects::default();
    heartbeat(&mut book, &joining("x"), 1, &mut effects).expect("it may");
    book.limit_batches(700);
    leave(&mut book, "x", 1, &mut effects).expect("it is in");
    assert_eq!(listed(&book)[0].0, Kind::Consumer, "it stays what it is");
    assert_eq!(beat(&mut book, "m", 2, &mut effects), REBALANCE, "and goes on");

    // What led to it counts, too.
    let mut sizes = Vec::new();
    for room in (700..20_000).step_by(50) {
        let mut book = book_with_topic();
        pair(&mut book);
        heartbeat(&mut book, &joining("x"), 1, &mut Effects::default()).expect("it may");
        book.limit_batches(room);
        let mut effects = Effects::default();
        leave(&mut book, "x", 1, &mut effects).expect("it is in");
        let bytes = Record::batch_bytes_max_of(&effects.records);
        let turned = listed(&book)[0].0 == Kind::Classic;
        assert!(!turned || bytes <= room, "{bytes} in {room}");
        sizes.push(turned);
    }
    assert!(sizes.contains(&true) && sizes.contains(&false));
}

/// Its assignments are in force until all share anew: nobody else may be given what is read by them.
#[test]
fn what_is_read_stays_its_readers_when_a_static_members_return_is_not_stored() {
    let mut book = book_with_topic();
    let named = |member: &str, fresh: &str| Join {
        instance: Some(Str::from("i")),
        needs_known_id: false,
        ..asks(member, fresh, &[])
    };
    let mut effects = Effects::default();
    come(&mut book, named("", "s-1"), 0, 1, &mut effects);
    sync(&mut book, 0, "s-1", 1, &[("s-1", &[0, 1])], &mut effects).expect("it leads");
    let mut effects = Effects::default();
    book.join(&Str::from("g"), named("", "s-2"), Ticket(2), now(1), &mut effects);
    assert_eq!(effects.records.len(), 1, "who it is now");
    book.undo(&effects, now(1), &mut Effects::default());
    heartbeat(&mut book, &joining("x"), 1, &mut Effects::default()).expect("it may");
    assert_eq!(has(&book), [member("s-2", 1, &[0, 1]), member("x", 2, &[])]);
}

#[test]
fn members_may_agree_on_another_assignor_while_the_group_goes_over() {
    let mut book = book_with_topic();
    let knowing = |member: &str, fresh: &str, names: &[&str]| {
        let words = subscription(&[Str::from("t")], &Named::new());
        let protocols = names.iter().map(|name| (Str::from(*name), words.clone())).collect();
        let mut join = asks(member, fresh, &[]);
        join.profile.protocols = protocols;
        join
    };
    let mut effects = Effects::default();
    come(&mut book, knowing("", "m", &["range", "sticky"]), 0, 1, &mut effects);
    come(&mut book, knowing("", "n", &["range", "sticky"]), 0, 2, &mut effects);
    come(&mut book, knowing("m", "", &["range", "sticky"]), 0, 3, &mut effects);
    sync(&mut book, 0, "m", 2, &[("m", &[0]), ("n", &[1])], &mut effects).expect("it leads");
    // All can do both, and one of them now only the other.
    come(&mut book, knowing("n", "", &["sticky"]), 0, 4, &mut effects);
    come(&mut book, knowing("m", "", &["range", "sticky"]), 0, 5, &mut effects);
    heartbeat(&mut book, &joining("x"), 1, &mut effects).expect("a member does not know what is in force");
    let told = |book: &mut Book, protocol: &str, generation: i32| {
        let sync = Sync {
            member_id: Str::from("m"),
            instance: None,
            generation,
            protocol_type: Some(Str::from("consumer")),
            protocol: Some(Str::from(protocol)),
            assignments: Assignments::Given(Vec::new()),
        };
        let mut effects = Effects::default();
        book.sync(&Str::from("g"), sync, Ticket(1), now(1), &mut effects);
        effects.syncs.pop().expect("at once").1.map(drop)
    };
    assert_eq!(
        told(&mut book, "sticky", 3),
        REBALANCE,
        "what it was told before is no protocol of this group"
    );
    come(&mut book, knowing("m", "", &["range", "sticky"]), 1, 6, &mut effects);
    // With the last of the new protocol gone the group takes what both can do, and whoever was told another joins again.
    leave(&mut book, "x", 1, &mut effects).expect("it is in");
    assert_eq!(listed(&book), [(Kind::Classic, "PreparingRebalance")]);
    assert_eq!(told(&mut book, "range", 4), REBALANCE);
}
