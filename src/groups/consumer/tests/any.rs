//! Histories of chance: members of either protocol come, go, crash, miss answers; topics come, go and grow; what could not be stored is
//! undone, and the group is read again from what compaction left. At no moment do two members read the same partition, and once it is
//! quiet, everybody soon has what is theirs. (Where that changes the group's own protocol: `book/tests/any.rs`.)

use proptest::prelude::*;

use super::classic::{join, sync};
use super::*;
use crate::groups::classic::{Join, Sync};
use crate::groups::embedded::Named;
use crate::groups::embedded::tests::subscription;

const MEMBERS: usize = 5;
/// The first two are static.
const STATIC: usize = 2;
const TOPICS: [&str; 3] = ["t", "u", "v"];

#[derive(Debug, Clone)]
enum Op {
    /// A member joins, or subscribes to something else.
    Subscribe(usize, Speaks, usize),
    /// It heartbeats; if it is not the answer that is lost, it does as it was told.
    Beat(usize, Answer),
    Leave(usize),
    /// It goes for a while, and comes back as another.
    Away(usize),
    Crash(usize),
    Pass(u64),
    Grow(usize),
    Remake(usize),
    /// The group is read again.
    Reload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Speaks {
    #[default]
    Consumer,
    /// The classic protocol; it gives everything back before it joins again.
    Eager,
    /// The same; it gives back what it is told to.
    Cooperative,
}

fn speaks() -> impl Strategy<Value = Speaks> {
    prop_oneof![2 => Just(Speaks::Consumer), 1 => Just(Speaks::Eager), 1 => Just(Speaks::Cooperative)]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Heard,
    Lost,
    /// Nothing of the step could be stored.
    NotStored,
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![6 => Just(Answer::Heard), 1 => Just(Answer::Lost), 1 => Just(Answer::NotStored)]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..MEMBERS, speaks(), 1usize..8)
            .prop_map(|(member, speaks, topics)| Op::Subscribe(member, speaks, topics)),
        12 => (0..MEMBERS, answers()).prop_map(|(member, answer)| Op::Beat(member, answer)),
        1 => (0..MEMBERS).prop_map(Op::Leave),
        1 => (0..STATIC).prop_map(Op::Away),
        1 => (0..MEMBERS).prop_map(Op::Crash),
        2 => (1u64..15).prop_map(Op::Pass),
        1 => (0..TOPICS.len()).prop_map(Op::Grow),
        1 => (0..TOPICS.len()).prop_map(Op::Remake),
        1 => Just(Op::Reload),
    ]
}

/// A client, as it sees itself.
#[derive(Debug, Default)]
struct Client {
    /// How often it has begun as another.
    lives: usize,
    is_running: bool,
    speaks: Speaks,
    is_member: bool,
    epoch: i32,
    topics: Vec<Str>,
    /// Whether the coordinator has been told of its topics.
    has_told: bool,
    /// What it reads.
    owned: Partitions,
}

impl Client {
    /// It has lost its place, and with it all partitions.
    fn begin_anew(&mut self) {
        self.is_member = false;
        self.epoch = JOINING;
        self.owned = Partitions::default();
    }
}

struct History {
    table: Table,
    clients: Vec<Client>,
}

impl History {
    fn new() -> History {
        let mut table = Table::new(&[("t", 2), ("u", 3), ("v", 1)]);
        table.limits.members_max = 100;
        table.limits.batch_bytes_max = 100_000;
        History { table, clients: (0..MEMBERS).map(|_| Client::default()).collect() }
    }

    fn id(&self, at: usize) -> Str {
        Str::from(format!("m{at}-{}", self.clients[at].lives))
    }

    fn instance(at: usize) -> Option<Str> {
        (at < STATIC).then(|| Str::from(format!("i{at}")))
    }

    fn beat(&mut self, at: usize, answer: Answer) {
        let client = &self.clients[at];
        if !client.is_running {
            return;
        }
        if client.speaks != Speaks::Consumer {
            return self.classic_beat(at, answer);
        }
        let tells_all = !client.is_member || !client.has_told;
        let beat = Heartbeat {
            member: self.id(at),
            epoch: if client.is_member { client.epoch } else { JOINING },
            instance: Self::instance(at),
            rebalance_timeout_ms: tells_all.then_some(60_000),
            topics: tells_all.then(|| client.topics.clone()),
            owned: Some(client.owned.clone()),
            ..joining("", &[])
        };
        let heard = self.act(answer, |group, around, effects| group.heartbeat(&beat, around, effects));
        let client = &mut self.clients[at];
        match (heard, answer) {
            // Whoever misses an answer says everything again, and is told everything.
            (_, Answer::Lost | Answer::NotStored) => client.has_told = false,
            (Ok(heard), Answer::Heard) => {
                client.is_member = true;
                client.has_told = true;
                client.epoch = heard.epoch;
                if let Some(assigned) = heard.assigned {
                    client.owned = assigned;
                }
            }
            // Its old self is there yet, or it was put out: it tries again.
            (
                Err(GroupError::UnreleasedInstance | GroupError::UnknownMember | GroupError::FencedEpoch),
                _,
            ) => {
                client.begin_anew();
            }
            (Err(error), _) => panic!("{error}"),
        }
    }

    /// One that speaks the classic protocol joins if it was told to, and asks what to read; else it heartbeats.
    fn classic_beat(&mut self, at: usize, answer: Answer) {
        let (id, instance) = (self.id(at), Self::instance(at));
        let client = &self.clients[at];
        if client.is_member && client.has_told {
            let epoch = client.epoch;
            let heard = self.act(answer, |group, around, effects| {
                group.classic_heartbeat(&id, instance.as_ref(), epoch, around, effects)
            });
            return if let Err(error) = heard {
                self.told_off(at, error)
            };
        }
        if client.speaks == Speaks::Eager {
            self.clients[at].owned = Partitions::default();
        }
        let client = &self.clients[at];
        let owned = client.owned.topics();
        let named = |(topic, indexes): (TopicId, &BTreeSet<i32>)| {
            Some((self.table.topics.name_of(topic)?, indexes.iter().copied().collect::<Vec<i32>>()))
        };
        let mut asked = join("", &[], &Named::new());
        asked.profile.session_timeout = Duration::from_secs(45);
        asked.profile.protocols[0].1 = subscription(&client.topics, &owned.filter_map(named).collect());
        let takes_a_name = instance.is_some() && !client.is_member;
        let member_id = if takes_a_name { Str::EMPTY } else { id.clone() };
        let asked = Join { member_id, fresh_id: id.clone(), instance: instance.clone(), ..asked };
        let joined = self.act(answer, |group, around, effects| group.classic_join(&asked, around, effects));
        let joined = match (joined, answer) {
            (Ok(joined), Answer::Heard) => joined,
            // It joins again, if need be under its name alone.
            (_, Answer::Lost | Answer::NotStored) => return,
            (Err(error), Answer::Heard) => return self.told_off(at, error),
        };
        let asks = Sync { instance, ..sync(&id, joined.generation) };
        let told = self.table.classic_sync(&asks).expect("it has just joined");
        let assigned = super::super::classic::known(&told, &self.table.topics);
        let client = &mut self.clients[at];
        client.is_member = true;
        client.epoch = joined.generation;
        // Whoever has given something back says so.
        client.has_told = client.owned.without(&assigned).is_empty();
        client.owned = assigned;
    }

    fn told_off(&mut self, at: usize, error: GroupError) {
        let client = &mut self.clients[at];
        client.has_told = false;
        match error {
            GroupError::RebalanceInProgress => {}
            GroupError::IllegalGeneration => client.owned = Partitions::default(),
            GroupError::UnknownMember => client.begin_anew(),
            error => panic!("{error}"),
        }
    }

    /// A step, of which nothing is stored if that is the answer.
    fn act<T>(
        &mut self,
        answer: Answer,
        act: impl FnOnce(&mut ConsumerGroup, Around<'_>, &mut Effects) -> T,
    ) -> T {
        if answer != Answer::NotStored {
            return self.table.act(act);
        }
        let before = stored(&self.table.group);
        let mut effects = Effects::default();
        let Table { group, topics, limits, classic, now, .. } = &mut self.table;
        let around = Around { topics, limits: *limits, classic: *classic, now: *now };
        let outcome = act(group, around, &mut effects);
        for record in effects.before.into_iter().rev() {
            group.apply(said(record), around);
        }
        assert_eq!(stored(group), before);
        check_owners(group);
        outcome
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Subscribe(at, speaks, topics) => {
                let client = &mut self.clients[at];
                if !client.is_running {
                    client.lives += 1;
                    client.is_running = true;
                    client.speaks = speaks;
                    client.begin_anew();
                }
                let chosen = TOPICS.iter().enumerate().filter(|(bit, _)| topics & (1 << bit) != 0);
                client.topics = chosen.map(|(_, topic)| Str::from(*topic)).collect();
                client.has_told = false;
                self.beat(at, Answer::Heard);
            }
            Op::Beat(at, answer) => self.beat(at, answer),
            Op::Leave(at) => self.go(at, Departure::ForGood),
            Op::Away(at) => self.go(at, Departure::ForAWhile),
            Op::Crash(at) => {
                self.clients[at].is_running = false;
                self.clients[at].begin_anew();
            }
            Op::Pass(seconds) => self.pass(seconds),
            Op::Grow(topic) => self.table.cluster.grow(TOPICS[topic], 1),
            Op::Remake(topic) => {
                self.table.cluster.delete(TOPICS[topic]);
                self.table.cluster.create(TOPICS[topic], 2);
            }
            Op::Reload => self.table.reload(),
        }
        self.table.see();
        self.check();
    }

    fn go(&mut self, at: usize, departure: Departure) {
        let (id, instance) = (self.id(at), Self::instance(at));
        let client = &mut self.clients[at];
        let may = departure == Departure::ForGood || client.speaks == Speaks::Consumer;
        if may && client.is_running && client.is_member {
            client.is_running = false;
            client.begin_anew();
            // It may have been put out before.
            let _ = self.table.leave(&id, instance.as_deref(), departure);
        }
    }

    /// Time passes; whoever runs heartbeats in it, and one that is put out all the same stops to read, as clients do.
    fn pass(&mut self, seconds: u64) {
        for at in 0..MEMBERS {
            self.beat(at, Answer::Heard);
        }
        self.table.pass(seconds);
        for at in 0..MEMBERS {
            if !self.table.group.members.contains_key(&self.id(at)) {
                self.clients[at].begin_anew();
            }
        }
    }

    /// Nobody reads what another reads.
    fn check(&self) {
        let mut read = Partitions::default();
        for client in self.clients.iter().filter(|client| client.is_running) {
            assert!(client.owned.and(&read).is_empty(), "{:?}", self.clients);
            read.extend(client.owned.iter());
        }
    }

    /// It is quiet: those that crashed are given up, and all others get what is theirs.
    fn ends(&mut self) {
        for _ in 0..30 {
            self.pass(14);
            self.check();
        }
        let group = &self.table.group;
        let running: Vec<usize> = (0..MEMBERS).filter(|at| self.clients[*at].is_running).collect();
        assert_eq!(group.members.len(), running.len(), "{:?}", self.clients);
        assert_eq!(group.state_name(), if running.is_empty() { "Empty" } else { "Stable" }, "{group:?}");
        let mut wanted = Partitions::default();
        let mut read = Partitions::default();
        for at in running {
            let client = &self.clients[at];
            assert_eq!(client.owned, group.targets[&self.id(at)]);
            read.extend(client.owned.iter());
            for topic in &client.topics {
                let known = self.table.topics.named(topic).expect("it is there");
                wanted.extend((0..).take(known.partitions).map(|index| (known.id, index)));
            }
        }
        assert_eq!(read, wanted, "all that somebody subscribes to is read");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nobody_reads_what_another_reads_and_every_rebalance_ends(ops in prop::collection::vec(ops(), 0..60)) {
        let mut history = History::new();
        for op in ops {
            history.step(op);
        }
        history.ends();
    }
}
