use std::time::Duration;

use aquifer_model::Timestamp;
use aquifer_protocol::Str;
use aquifer_runtime::clock::Clock;
use bytes::Bytes;

use super::*;
use crate::groups::effects::{Joined, Synced, Ticket};

/// A group, its clock, and all that it answered.
struct Table {
    group: ClassicGroup,
    now: Now,
    limits: Limits,
    tickets: u64,
    joins: BTreeMap<Ticket, Result<Joined, JoinRefused>>,
    syncs: BTreeMap<Ticket, Result<Synced, GroupError>>,
    records: Vec<Record>,
}

impl Table {
    fn new() -> Table {
        let now = Now { at: Clock::system().now(), wall: Timestamp(1_000) };
        let limits = Limits {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(1_800),
            initial_rebalance_delay: Duration::from_secs(3),
            members_max: 4,
            batch_bytes_max: 10_000,
        };
        Table {
            group: ClassicGroup::new(Str::from("g"), now),
            now,
            limits,
            tickets: 0,
            joins: BTreeMap::new(),
            syncs: BTreeMap::new(),
            records: Vec::new(),
        }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut ClassicGroup, Now, Limits, &mut Effects) -> T) -> T {
        let mut effects = Effects::default();
        let answer = act(&mut self.group, self.now, self.limits, &mut effects);
        self.records.extend(effects.records);
        for (ticket, joined) in effects.joins {
            assert!(self.joins.insert(ticket, joined).is_none(), "{ticket:?} was answered twice");
        }
        for (ticket, synced) in effects.syncs {
            assert!(self.syncs.insert(ticket, synced).is_none(), "{ticket:?} was answered twice");
        }
        answer
    }

    /// Lets time pass, with whatever is due on the way.
    fn wait(&mut self, seconds: u64) {
        let until = self.now.at + Duration::from_secs(seconds);
        while let Some(due) = self.group.next_deadline().filter(|due| *due <= until) {
            let passed = due.saturating_duration_since(self.now.at);
            self.now = Now { at: due.max(self.now.at), wall: self.now.wall.plus(passed) };
            self.act(|group, now, limits, effects| group.tick(now, limits, effects));
        }
        let passed = until.saturating_duration_since(self.now.at);
        self.now = Now { at: until, wall: self.now.wall.plus(passed) };
    }

    fn join(&mut self, join: Join) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.act(|group, now, limits, effects| group.join(join, ticket, now, limits, effects));
        ticket
    }

    fn sync(&mut self, member: &str, generation: i32, assignments: &[(&str, &str)]) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let sync = Sync {
            member_id: Str::from(member),
            instance: None,
            generation,
            protocol_type: None,
            protocol: None,
            assignments: Assignments::Given(
                assignments.iter().map(|(id, part)| (Str::from(*id), bytes(part))).collect(),
            ),
        };
        self.act(|group, now, limits, effects| group.sync(sync, ticket, now, limits, effects));
        ticket
    }

    fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        let member = Str::from(member);
        self.act(|group, now, _, _| group.heartbeat(&member, None, generation, now))
    }

    fn leave(&mut self, member: &str) -> Result<(), GroupError> {
        let leaving = [Leaving { member_id: Str::from(member), instance: None }];
        let mut answers = self.act(|group, now, limits, effects| group.leave(&leaving, now, limits, effects));
        answers.remove(0)
    }

    fn joined(&self, ticket: Ticket) -> &Joined {
        match &self.joins[&ticket] {
            Ok(joined) => joined,
            Err(refused) => panic!("{ticket:?} was refused: {refused:?}"),
        }
    }

    fn refused(&self, ticket: Ticket) -> GroupError {
        self.joins[&ticket].as_ref().expect_err("it was to be refused").error
    }

    /// A stable group of these members, whose first leads.
    fn stable(&mut self, members: &[&str]) -> i32 {
        let tickets: Vec<Ticket> = members.iter().map(|member| self.join(first(member))).collect();
        self.wait(6);
        let generation = self.joined(tickets[0]).generation;
        let leader = self.joined(tickets[0]).leader.clone();
        for member in members.iter().filter(|member| ***member != *leader) {
            self.sync(member, generation, &[]);
        }
        let all: Vec<(&str, &str)> = members.iter().map(|member| (*member, *member)).collect();
        self.sync(&leader, generation, &all);
        assert_eq!(self.group.state(), State::Stable);
        generation
    }

    fn stored(&self) -> &GroupValue {
        match self.records.last() {
            Some(Record::Group { value: Some(value), .. }) => value,
            other => panic!("no group was stored last but {other:?}"),
        }
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn profile(protocols: &[&str]) -> Profile {
    Profile {
        client_id: Str::from("client"),
        client_host: Str::from("/127.0.0.1"),
        rebalance_timeout: Duration::from_secs(60),
        session_timeout: Duration::from_secs(10),
        protocols: protocols.iter().map(|name| (Str::from(*name), bytes(name))).collect(),
    }
}

/// A first join of an old client, which is in at once, under this id.
fn first(fresh: &str) -> Join {
    Join {
        member_id: Str::EMPTY,
        fresh_id: Str::from(fresh),
        instance: None,
        protocol_type: Str::from("consumer"),
        profile: profile(&["range"]),
        needs_known_id: false,
        may_skip_assignment: false,
    }
}

fn again(member: &str) -> Join {
    Join { member_id: Str::from(member), fresh_id: Str::from("unused"), ..first("") }
}

fn stationary(instance: &str, fresh: &str) -> Join {
    Join { instance: Some(Str::from(instance)), may_skip_assignment: true, ..first(fresh) }
}

#[test]
fn members_join_the_leader_assigns_and_all_learn_it() {
    let mut table = Table::new();
    let a = table.join(first("a"));
    let b = table.join(first("b"));
    assert!(table.joins.is_empty(), "an empty group waits for more");
    table.wait(6);
    let (joined_a, joined_b) = (table.joined(a).clone(), table.joined(b).clone());
    assert_eq!((joined_a.generation, joined_b.generation), (1, 1));
    assert_eq!(joined_a.leader, "a");
    assert_eq!(joined_a.members.len(), 2, "the leader learns of all");
    assert!(joined_b.members.is_empty(), "nobody else does");
    assert_eq!(joined_b.protocol.as_deref(), Some("range"));

    let synced_b = table.sync("b", 1, &[]);
    assert!(!table.syncs.contains_key(&synced_b), "it waits for the leader");
    assert_eq!(table.heartbeat("b", 1), Ok(()));
    let synced_a = table.sync("a", 1, &[("a", "0,1"), ("b", "2")]);
    assert_eq!(table.syncs[&synced_a].as_ref().expect("synced").assignment, "0,1");
    assert_eq!(table.syncs[&synced_b].as_ref().expect("synced").assignment, "2");
    let stored = table.stored();
    assert_eq!((stored.generation, stored.members.len()), (1, 2));
    assert_eq!(stored.members[1].assignment, "2");
}

#[test]
fn a_first_round_is_put_off_while_members_come_but_not_for_ever() {
    let mut table = Table::new();
    let a = table.join(first("a"));
    table.wait(2);
    table.join(first("b"));
    table.wait(2);
    assert!(!table.joins.contains_key(&a), "b came, so it waits three seconds more");
    table.wait(2);
    assert_eq!(table.joined(a).generation, 1);
}

#[test]
fn a_first_join_of_a_new_client_gets_an_id_alone() {
    let mut table = Table::new();
    let ticket = table.join(Join { needs_known_id: true, ..first("a") });
    let refused = table.joins[&ticket].clone().expect_err("it was to be refused");
    assert_eq!((refused.error, refused.member_id.as_str()), (GroupError::MemberIdRequired, "a"));
    assert!(!table.group.is_empty(), "the id is kept for it");
    let ticket = table.join(again("a"));
    table.wait(3);
    assert_eq!(table.joined(ticket).member_id, "a");
    // An id that is not used is forgotten with its session.
    table.join(Join { needs_known_id: true, ..first("b") });
    table.wait(9);
    table.heartbeat("a", 1).expect("a is alive");
    table.wait(2);
    let ticket = table.join(again("b"));
    assert_eq!(table.refused(ticket), GroupError::UnknownMember);
}

#[test]
fn an_id_that_was_given_out_is_waited_for() {
    let mut table = Table::new();
    table.stable(&["a"]);
    table.join(Join { needs_known_id: true, ..first("b") });
    let a = table.join(Join { profile: profile(&["range", "more"]), ..again("a") });
    assert!(!table.joins.contains_key(&a));
    let b = table.join(again("b"));
    assert_eq!(table.joined(a).generation, 2);
    assert_eq!(table.joined(b).generation, 2);
}

#[test]
fn a_newcomer_makes_the_others_join_again() {
    let mut table = Table::new();
    let generation = table.stable(&["a"]);
    let b = table.join(first("b"));
    assert_eq!(table.heartbeat("a", generation), Err(GroupError::RebalanceInProgress));
    let a = table.join(again("a"));
    assert_eq!((table.joined(a).generation, table.joined(b).generation), (2, 2));
    assert_eq!(table.heartbeat("a", generation), Err(GroupError::IllegalGeneration));
}

#[test]
fn who_does_not_join_again_in_time_is_out() {
    let mut table = Table::new();
    table.stable(&["a", "b"]);
    let c = table.join(first("c"));
    for _ in 0..7 {
        let _ = table.heartbeat("b", 1);
        table.wait(9);
    }
    assert_eq!(table.joined(c).generation, 2);
    assert_eq!(table.joined(c).leader, "c");
    assert_eq!(table.heartbeat("b", 2), Err(GroupError::UnknownMember));
}

#[test]
fn a_silent_member_is_out_and_the_others_share() {
    let mut table = Table::new();
    table.stable(&["a", "b"]);
    table.wait(9);
    table.heartbeat("a", 1).expect("a is alive");
    table.wait(2);
    assert_eq!(table.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
    let a = table.join(again("a"));
    assert_eq!(table.joined(a).members.len(), 1);
}

#[test]
fn whoever_waits_for_us_is_not_silent() {
    let mut table = Table::new();
    table.stable(&["a", "b"]);
    let a = table.join(Join { profile: profile(&["range", "more"]), ..again("a") });
    for _ in 0..4 {
        table.wait(8);
        let _ = table.heartbeat("b", 1);
    }
    assert!(!table.joins.contains_key(&a), "it is waited for b, for a minute");
    let b = table.join(again("b"));
    assert_eq!((table.joined(a).generation, table.joined(b).generation), (2, 2));
}

#[test]
fn who_joined_and_does_not_sync_is_out() {
    let mut table = Table::new();
    let a = table.join(first("a"));
    let b = table.join(first("b"));
    table.wait(6);
    assert_eq!((table.joined(a).generation, table.joined(b).generation), (1, 1));
    table.sync("b", 1, &[]);
    for _ in 0..8 {
        let _ = table.heartbeat("a", 1);
        table.wait(8);
    }
    assert_eq!(table.heartbeat("a", 1), Err(GroupError::UnknownMember), "the leader owed the assignment");
    assert_eq!(table.heartbeat("b", 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn the_last_one_to_leave_empties_the_group() {
    let mut table = Table::new();
    table.stable(&["a"]);
    assert_eq!(table.leave("b"), Err(GroupError::UnknownMember));
    assert_eq!(table.leave("a"), Ok(()));
    assert_eq!(table.group.state(), State::Empty);
    assert!(table.stored().members.is_empty());
    assert_eq!(table.stored().generation, 2);
}

#[test]
fn lost_answers_are_given_again() {
    let mut table = Table::new();
    let a = table.join(first("a"));
    let b = table.join(first("b"));
    table.wait(6);
    assert_eq!((table.joined(a).generation, table.joined(b).generation), (1, 1));
    let once_more = table.join(again("b"));
    assert_eq!(table.joined(once_more).generation, 1, "nothing changed for it");
    let leader = table.join(again("a"));
    assert_eq!(table.joined(leader).members.len(), 2);
    table.sync("b", 1, &[]);
    table.sync("a", 1, &[("a", "x"), ("b", "y")]);
    let synced = table.sync("b", 1, &[]);
    assert_eq!(table.syncs[&synced].as_ref().expect("synced").assignment, "y");
}

#[test]
fn a_leader_that_joins_again_wants_to_assign_anew() {
    let mut table = Table::new();
    table.stable(&["a", "b"]);
    let a = table.join(again("a"));
    assert!(!table.joins.contains_key(&a));
    let b = table.join(again("b"));
    assert_eq!((table.joined(a).generation, table.joined(b).generation), (2, 2));
}

#[test]
fn a_retried_join_ends_the_one_before() {
    let mut table = Table::new();
    table.stable(&["a", "b"]);
    let given_up = table.join(Join { profile: profile(&["range", "more"]), ..again("a") });
    let a = table.join(Join { profile: profile(&["range", "more"]), ..again("a") });
    assert_eq!(table.refused(given_up), GroupError::RebalanceInProgress);
    table.join(again("b"));
    assert_eq!(table.joined(a).generation, 2);
}

#[test]
fn a_protocol_is_one_that_all_know_and_most_prefer() {
    let mut table = Table::new();
    let a = table.join(Join { profile: profile(&["x", "y", "z"]), ..first("a") });
    table.join(Join { profile: profile(&["y", "x"]), ..first("b") });
    table.join(Join { profile: profile(&["w", "y", "x"]), ..first("c") });
    let stranger = table.join(Join { profile: profile(&["w"]), ..first("d") });
    assert_eq!(table.refused(stranger), GroupError::InconsistentProtocol);
    let other = table.join(Join { protocol_type: Str::from("connect"), ..first("d") });
    assert_eq!(table.refused(other), GroupError::InconsistentProtocol);
    table.wait(9);
    assert_eq!(table.joined(a).protocol.as_deref(), Some("y"));
}

#[test]
fn bounds_are_kept() {
    let mut table = Table::new();
    let hasty = Profile { session_timeout: Duration::from_secs(5), ..profile(&["range"]) };
    let refused = table.join(Join { profile: hasty, ..first("a") });
    assert_eq!(table.refused(refused), GroupError::InvalidSessionTimeout);
    for member in ["a", "b", "c", "d"] {
        table.join(first(member));
    }
    let fifth = table.join(first("e"));
    assert_eq!(table.refused(fifth), GroupError::GroupFull);
    table.wait(9);
    let back = table.join(again("a"));
    assert!(!table.joins.get(&back).is_some_and(Result::is_err), "who is in is let in again");
}

#[test]
fn a_static_member_comes_back_to_its_place() {
    let mut table = Table::new();
    let a = table.join(stationary("one", "a-1"));
    let b = table.join(stationary("two", "b-1"));
    table.wait(6);
    assert_eq!((table.joined(a).leader.as_str(), table.joined(b).generation), ("a-1", 1));
    table.sync("b-1", 1, &[]);
    table.sync("a-1", 1, &[("a-1", "x"), ("b-1", "y")]);

    let back = table.join(stationary("two", "b-2"));
    let joined = table.joined(back).clone();
    assert_eq!((joined.generation, joined.member_id.as_str()), (1, "b-2"), "nobody is disturbed");
    assert!(table.stored().members.iter().any(|member| member.member_id == "b-2"));
    let synced = table.sync("b-2", 1, &[]);
    assert_eq!(table.syncs[&synced].as_ref().expect("synced").assignment, "y");
    assert_eq!(table.heartbeat("b-1", 1), Err(GroupError::UnknownMember));
    let (member, instance) = (Str::from("b-1"), Str::from("two"));
    let fenced = table.act(|group, now, _, _| group.heartbeat(&member, Some(&instance), 1, now));
    assert_eq!(fenced, Err(GroupError::FencedInstance));

    let leader = table.join(stationary("one", "a-2"));
    let joined = table.joined(leader).clone();
    assert!(joined.skip_assignment, "the assignment holds");
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("a-2", 2));
}

#[test]
fn an_old_client_that_led_is_not_told_that_it_leads() {
    let mut table = Table::new();
    let old = |fresh: &str| Join { may_skip_assignment: false, ..stationary("one", fresh) };
    let a = table.join(old("a-1"));
    table.wait(6);
    table.sync("a-1", table.joined(a).generation, &[("a-1", "x")]);
    let back = table.join(old("a-2"));
    assert_eq!(table.joined(back).leader, "a-1", "it would assign, and nobody would be asked");
}

#[test]
fn positions_are_taken_from_members_and_from_outside_while_nobody_is_in() {
    let mut table = Table::new();
    let check = |table: &mut Table, member: &str, generation| {
        let member = Str::from(member);
        table.act(|group, now, _, _| group.check_commit(&member, None, generation, now))
    };
    assert_eq!(check(&mut table, "", -1), Ok(()));
    let a = table.join(first("a"));
    table.wait(6);
    assert_eq!(table.joined(a).generation, 1);
    assert_eq!(check(&mut table, "a", 1), Err(GroupError::RebalanceInProgress));
    table.sync("a", 1, &[("a", "x")]);
    assert_eq!(check(&mut table, "a", 1), Ok(()));
    assert_eq!(check(&mut table, "a", 0), Err(GroupError::IllegalGeneration));
    assert_eq!(check(&mut table, "b", 1), Err(GroupError::UnknownMember));
    assert_eq!(check(&mut table, "", -1), Err(GroupError::UnknownMember));
}

#[test]
fn a_stored_group_goes_on() {
    let mut table = Table::new();
    table.stable(&["a", "b"]);
    let value = table.stored().clone();
    table.group = ClassicGroup::restored(Str::from("g"), value, table.now);
    assert_eq!(table.group.state(), State::Stable);
    assert_eq!(table.heartbeat("a", 1), Ok(()));
    let synced = table.sync("b", 1, &[]);
    assert_eq!(table.syncs[&synced].as_ref().expect("synced").assignment, "b");
    table.wait(20);
    assert_eq!(table.group.state(), State::Empty, "nobody was heard of");
}

#[test]
fn who_joined_and_does_not_sync_is_out_of_a_stable_group_too() {
    let mut table = Table::new();
    let a = table.join(first("a"));
    let b = table.join(first("b"));
    table.wait(6);
    assert_eq!((table.joined(a).generation, table.joined(b).generation), (1, 1));
    table.sync("a", 1, &[("a", "x"), ("b", "y")]);
    for _ in 0..6 {
        table.wait(8);
        assert_eq!((table.heartbeat("a", 1), table.heartbeat("b", 1)), (Ok(()), Ok(())));
    }
    table.wait(8);
    assert_eq!((table.heartbeat("a", 1), table.heartbeat("b", 1)), (Ok(()), Ok(())));
    table.wait(6);
    assert_eq!(table.heartbeat("b", 1), Err(GroupError::UnknownMember), "it heartbeats, and never asked");
    assert_eq!(table.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
}

#[test]
fn an_assignment_that_cannot_be_stored_is_nobodys() {
    let mut table = Table::new();
    let a = table.join(first("a"));
    let b = table.join(first("b"));
    table.wait(6);
    assert_eq!((table.joined(a).generation, table.joined(b).generation), (1, 1));
    let synced_b = table.sync("b", 1, &[]);
    let large = "x".repeat(table.limits.batch_bytes_max);
    let synced_a = table.sync("a", 1, &[("b", &large)]);
    assert_eq!(table.syncs[&synced_a], Err(GroupError::GroupTooLarge));
    assert_eq!(table.syncs[&synced_b], Err(GroupError::GroupTooLarge));
    assert!(table.records.is_empty());
    assert_eq!(table.heartbeat("b", 1), Err(GroupError::RebalanceInProgress), "they join again");
    let (a, b) = (table.join(again("a")), table.join(again("b")));
    assert_eq!((table.joined(a).generation, table.joined(b).generation), (2, 2));
}

#[test]
fn a_generation_that_was_not_stored_begins_anew() {
    let mut table = Table::new();
    table.stable(&["a"]);
    let assigned = |table: &Table| table.group.settled().all(|one| !one.assignment.is_empty());
    for (generation, was_handed_in) in [(1, false), (2, true)] {
        table.act(|group, now, limits, effects| group.not_kept(was_handed_in, now, limits, effects));
        assert_eq!(assigned(&table), !was_handed_in, "what is in force is read until they share anew");
        assert_eq!(table.heartbeat("a", generation), Err(GroupError::RebalanceInProgress));
        let a = table.join(again("a"));
        assert_eq!(table.joined(a).generation, generation + 1);
        table.sync("a", generation + 1, &[("a", "x")]);
    }
}

#[test]
fn a_static_member_that_tells_something_else_disturbs_nobody() {
    let mut table = Table::new();
    let telling = |fresh: &str, metadata: &str, protocol: &str| {
        let protocols = vec![(Str::from(protocol), bytes(metadata))];
        Join { profile: Profile { protocols, ..profile(&[]) }, ..stationary("one", fresh) }
    };
    let a = table.join(telling("a-1", "owns nothing", "range"));
    table.wait(6);
    table.sync("a-1", table.joined(a).generation, &[("a-1", "x")]);
    let back = table.join(telling("a-2", "owns x", "range"));
    assert_eq!(table.joined(back).generation, 1);
    let other = table.join(telling("a-3", "owns x", "sticky"));
    assert_eq!(table.refused(other), GroupError::InconsistentProtocol, "no protocol of the group's");
}

#[test]
fn a_new_member_that_asks_again_is_waited_for_no_less() {
    let mut table = Table::new();
    table.stable(&["a"]);
    table.join(Join { needs_known_id: true, ..first("b") });
    table.join(again("b"));
    let b = table.join(again("b"));
    for _ in 0..3 {
        table.wait(8);
        let _ = table.heartbeat("a", 1);
    }
    assert!(!table.joins.contains_key(&b), "it waits for a, longer than its session");
    table.join(again("a"));
    assert_eq!(table.joined(b).generation, 2);
}

#[test]
fn an_id_that_was_given_out_is_no_instances() {
    let mut table = Table::new();
    table.join(Join { needs_known_id: true, ..first("a") });
    let both = table.join(Join { instance: Some(Str::from("one")), ..again("a") });
    assert_eq!(table.refused(both), GroupError::UnknownMember);
}

#[test]
fn ids_that_were_given_out_take_no_place() {
    let mut table = Table::new();
    for id in ["a", "b", "c", "d", "e"] {
        let given = table.join(Join { needs_known_id: true, ..first(id) });
        assert_eq!(table.refused(given), GroupError::MemberIdRequired);
    }
    let joined: Vec<Ticket> = ["a", "b", "c", "d"].into_iter().map(|id| table.join(again(id))).collect();
    let late = table.join(again("e"));
    assert_eq!(table.refused(late), GroupError::GroupFull, "who joins first is in");
    table.wait(12);
    assert_eq!(table.joined(joined[3]).generation, 1);
}

#[test]
fn of_a_group_that_is_too_large_now_the_last_to_join_again_are_out() {
    let mut table = Table::new();
    table.stable(&["a", "b", "c"]);
    table.limits.members_max = 2;
    table.act(|group, now, limits, effects| group.resume(now, limits, effects));
    assert_eq!(table.heartbeat("a", 1), Err(GroupError::RebalanceInProgress));
    let (b, c) = (table.join(again("b")), table.join(again("c")));
    let a = table.join(again("a"));
    assert_eq!(table.refused(a), GroupError::GroupFull);
    assert_eq!((table.joined(b).generation, table.joined(c).generation), (2, 2));
}

#[test]
fn sessions_begin_when_the_group_is_served() {
    let mut table = Table::new();
    table.stable(&["a"]);
    let value = table.stored().clone();
    table.group = ClassicGroup::restored(Str::from("g"), value, table.now);
    let passed = Duration::from_secs(60);
    table.now = Now { at: table.now.at + passed, wall: table.now.wall.plus(passed) };
    table.act(|group, now, limits, effects| group.resume(now, limits, effects));
    table.wait(9);
    assert_eq!(table.heartbeat("a", 1), Ok(()), "reading the partition took a minute");
}

#[test]
fn a_member_is_judged_by_all_that_it_says() {
    let limits = MemberLimits { bytes_max: 100, protocols_max: 2 };
    assert_eq!(limits.admit(2, 100), Ok(()));
    assert_eq!(limits.admit(3, 10), Err(GroupError::MemberTooLarge));
    assert_eq!(limits.admit(1, 101), Err(GroupError::MemberTooLarge));
}

#[test]
fn what_members_have_in_common_is_known_as_they_come_and_go() {
    let mut table = Table::new();
    table.join(Join { profile: profile(&["x", "y", "x"]), ..first("a") });
    table.join(Join { profile: profile(&["x", "z"]), ..first("b") });
    let stranger = table.join(Join { profile: profile(&["y"]), ..first("c") });
    assert_eq!(table.refused(stranger), GroupError::InconsistentProtocol);
    assert_eq!(table.leave("b"), Ok(()));
    table.join(Join { profile: profile(&["y"]), ..again("a") });
    let c = table.join(Join { profile: profile(&["y", "z"]), ..first("c") });
    table.wait(12);
    assert_eq!(table.joined(c).protocol.as_deref(), Some("y"));
}
