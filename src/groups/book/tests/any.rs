//! Histories of chance of one group whose members speak either protocol: they come, go, crash, miss answers, change what they read and
//! what they speak, so that the group is upgraded and downgraded under them; topics grow; what could not be stored is undone, and the
//! book is read again. At no moment do two members read the same partition, and once it is quiet, all that somebody subscribes to is
//! read, by members that know each other.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::groups::consumer::{Departure, Heartbeat, JOINING};
use crate::groups::effects::{Joined, Synced};
use crate::groups::embedded::tests::subscription;
use crate::groups::embedded::{self, Named, Subscription};
use crate::groups::partitions::Partitions;
use crate::groups::topics::tests::Cluster;

const CLIENTS: usize = 5;
/// The first two are static. They always read the same of the topics: a classic group that is stable, and to which one comes back, takes
/// no notice of what it reads now.
const STATIC: usize = 2;
const STATIC_TOPICS: [usize; STATIC] = [7, 3];
const TOPICS: [&str; 3] = ["t", "u", "v"];

#[derive(Debug, Clone)]
enum Op {
    /// A client begins, or subscribes to something else.
    Subscribe(usize, Speaks, usize),
    Beat(usize, Kept),
    Leave(usize),
    /// A static one that speaks the new protocol goes for a while.
    Away(usize),
    Crash(usize),
    Pass(u64),
    Grow(usize),
    /// The book is read again.
    Reload,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Classic,
    Consumer,
}

/// Whether what a step wanted stored was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Stored,
    NotStored,
}

/// How classic clients rebalance: they give everything back first, or what they are told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Eager,
    Cooperative,
}

fn speaks() -> impl Strategy<Value = Speaks> {
    prop_oneof![Just(Speaks::Classic), Just(Speaks::Consumer)]
}

fn kept() -> impl Strategy<Value = Kept> {
    prop_oneof![7 => Just(Kept::Stored), 1 => Just(Kept::NotStored)]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0..CLIENTS, speaks(), 1usize..8).prop_map(|(at, speaks, topics)| Op::Subscribe(at, speaks, topics)),
        14 => (0..CLIENTS, kept()).prop_map(|(at, kept)| Op::Beat(at, kept)),
        2 => (0..CLIENTS).prop_map(Op::Leave),
        1 => (0..STATIC).prop_map(Op::Away),
        2 => (0..CLIENTS).prop_map(Op::Crash),
        2 => (1u64..15).prop_map(Op::Pass),
        1 => (0..TOPICS.len()).prop_map(Op::Grow),
        1 => Just(Op::Reload),
    ]
}

/// What a classic client does next or waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Out,
    Joining(Ticket),
    Syncing(Ticket),
    In,
}

/// A client, as it sees itself.
#[derive(Debug)]
struct Client {
    speaks: Speaks,
    lives: usize,
    is_running: bool,
    /// Empty if it has none yet.
    id: Str,
    /// Of the one protocol, or a generation of the other.
    epoch: i32,
    topics: Vec<Str>,
    /// Whether the coordinator, or a leader, has been told of its topics, and has seen their sizes.
    has_told: bool,
    /// It is a static one that has begun anew: it may lead by an assignment that it has not made, and has to look whether that holds.
    is_back: bool,
    owned: Partitions,
    phase: Phase,
}

impl Client {
    /// It has lost its place, and with it all partitions.
    fn begin_anew(&mut self) {
        self.epoch = JOINING;
        self.owned = Partitions::default();
        self.phase = Phase::Out;
        self.has_told = false;
        if self.speaks == Speaks::Classic {
            self.id = Str::EMPTY;
        }
    }
}

type Answers = (Vec<(Ticket, Result<Joined, JoinRefused>)>, Vec<(Ticket, Result<Synced, GroupError>)>);

struct History {
    book: Book,
    cluster: Cluster,
    style: Style,
    seconds: u64,
    tickets: u64,
    log: Vec<Record>,
    clients: Vec<Client>,
}

impl History {
    fn new(style: Style) -> History {
        let mut cluster = Cluster::new();
        for (topic, partitions) in [("t", 2), ("u", 3), ("v", 1)] {
            cluster.create(topic, partitions);
        }
        let client = |_| Client {
            speaks: Speaks::Classic,
            lives: 0,
            is_running: false,
            id: Str::EMPTY,
            epoch: JOINING,
            topics: Vec::new(),
            has_told: false,
            is_back: false,
            owned: Partitions::default(),
            phase: Phase::Out,
        };
        let clients = (0..CLIENTS).map(client).collect();
        let book = Self::empty(&cluster);
        History { book, cluster, style, seconds: 0, tickets: 0, log: Vec::new(), clients }
    }

    fn empty(cluster: &Cluster) -> Book {
        let mut book = book();
        book.rules.pending_max = 1_000;
        book.limit_batches(100_000);
        book.see(cluster.image());
        book
    }

    fn group() -> Str {
        Str::from("g")
    }

    fn instance(at: usize) -> Option<Str> {
        (at < STATIC).then(|| Str::from(format!("i{at}")))
    }

    fn kind(&self) -> Option<Kind> {
        self.book.list().first().map(|group| group.kind)
    }

    /// Who is in, whichever kind of group it is.
    fn members(&self) -> Vec<Str> {
        if let Some(view) = self.book.describe_consumers("g") {
            return view.members.into_iter().map(|member| member.member).collect();
        }
        let view = self.book.describe("g");
        view.into_iter().flat_map(|view| view.members).map(|member| member.member_id).collect()
    }

    /// Who finds that it is out has stopped to read before anybody is told to begin, as sessions are made for.
    fn see_who_is_out(&mut self) {
        let members = self.members();
        for client in self.clients.iter_mut().filter(|client| client.is_running && !client.id.is_empty()) {
            let has_joined = client.epoch > JOINING || client.phase != Phase::Out;
            if has_joined && !members.contains(&client.id) {
                client.begin_anew();
            }
        }
    }

    fn act<T>(&mut self, kept: Kept, act: impl FnOnce(&mut Book, Now, &mut Effects) -> T) -> Option<T> {
        let mut effects = Effects::default();
        let (kind, before) = (self.kind(), self.book.describe_consumers("g"));
        let now = now(self.seconds);
        let outcome = act(&mut self.book, now, &mut effects);
        if kept == Kept::NotStored && !effects.records.is_empty() {
            let mut lost = Effects::default();
            self.book.undo(&effects, now, &mut lost);
            assert_eq!((self.kind(), self.book.describe_consumers("g")), (kind, before));
            let joins = effects.joins.iter().chain(&lost.joins).map(|(ticket, _)| *ticket);
            let waits: Vec<Ticket> =
                joins.chain(effects.syncs.iter().chain(&lost.syncs).map(|(ticket, _)| *ticket)).collect();
            for client in &mut self.clients {
                // Told to ask again.
                if let Phase::Joining(ticket) | Phase::Syncing(ticket) = client.phase
                    && waits.contains(&ticket)
                {
                    client.phase = Phase::Out;
                }
            }
            self.see_who_is_out();
            return None;
        }
        self.book.kept();
        self.log.append(&mut effects.records);
        self.see_who_is_out();
        self.hear((effects.joins, effects.syncs));
        Some(outcome)
    }

    fn hear(&mut self, (joins, syncs): Answers) {
        for (ticket, synced) in syncs {
            let waits = |client: &Client| client.is_running && client.phase == Phase::Syncing(ticket);
            if let Some(at) = self.clients.iter().position(waits) {
                self.synced(at, synced);
            }
        }
        for (ticket, joined) in joins {
            let waits = |client: &Client| client.is_running && client.phase == Phase::Joining(ticket);
            if let Some(at) = self.clients.iter().position(waits) {
                self.joined(at, joined);
            }
        }
    }

    fn refused(&mut self, at: usize, error: GroupError) {
        let style = self.style;
        let client = &mut self.clients[at];
        client.phase = Phase::Out;
        match error {
            GroupError::RebalanceInProgress if style == Style::Cooperative => {}
            GroupError::RebalanceInProgress | GroupError::IllegalGeneration => {
                client.owned = Partitions::default();
            }
            GroupError::UnknownMember => client.begin_anew(),
            GroupError::FencedInstance => {
                client.begin_anew();
                client.is_running = false;
            }
            error => panic!("{error}"),
        }
    }

    fn joined(&mut self, at: usize, joined: Result<Joined, JoinRefused>) {
        let joined = match joined {
            Ok(joined) => joined,
            Err(refused) => return self.refused(at, refused.error),
        };
        let leads = joined.leader == joined.member_id && !joined.skip_assignment;
        let assignments = if leads { self.lead(&joined) } else { Vec::new() };
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let client = &mut self.clients[at];
        client.id = joined.member_id.clone();
        client.epoch = joined.generation;
        client.phase = Phase::Syncing(ticket);
        let sync = Sync {
            member_id: joined.member_id,
            instance: Self::instance(at),
            generation: joined.generation,
            protocol_type: joined.protocol_type,
            protocol: joined.protocol,
            assignments: Assignments::Given(assignments),
        };
        self.act(Kept::Stored, |book, now, effects| book.sync(&Self::group(), sync, ticket, now, effects));
    }

    /// What each member shall read, by the group's leader; nobody is given what another says that it has.
    fn lead(&self, joined: &Joined) -> Vec<(Str, Bytes)> {
        let said: Vec<(Str, Subscription)> = joined
            .members
            .iter()
            .map(|member| {
                (member.member_id.clone(), Subscription::read(&member.metadata).expect("its words"))
            })
            .collect();
        let mut shares: BTreeMap<&Str, Named> = said.iter().map(|(id, _)| (id, Named::new())).collect();
        for topic in TOPICS.map(Str::from) {
            let readers: Vec<&(Str, Subscription)> =
                said.iter().filter(|(_, said)| said.topics.contains(&topic)).collect();
            let has = |said: &Subscription, index: i32| {
                said.owned.iter().any(|(name, indexes)| *name == topic && indexes.contains(&index))
            };
            let partitions = self.book.topics.named(&topic).expect("it is there").partitions;
            for index in (0..).take(partitions) {
                let Some((reader, _)) = readers.get(index as usize % readers.len().max(1)) else { continue };
                if said.iter().any(|(id, said)| id != reader && has(said, index)) {
                    continue;
                }
                let share = shares.get_mut(reader).expect("it joined");
                match share.last_mut().filter(|(name, _)| *name == topic) {
                    Some((_, indexes)) => indexes.push(index),
                    None => share.push((topic.clone(), vec![index])),
                }
            }
        }
        let told = shares.into_iter();
        told.map(|(id, share)| (id.clone(), embedded::assignment(1, &share).expect("short"))).collect()
    }

    fn synced(&mut self, at: usize, synced: Result<Synced, GroupError>) {
        let synced = match synced {
            Ok(synced) => synced,
            Err(error) => return self.refused(at, error),
        };
        let assigned = match synced.assignment.is_empty() {
            true => Partitions::default(),
            false => {
                let told = embedded::Assignment::read(&synced.assignment).expect("what a leader made");
                told.partitions
                    .iter()
                    .flat_map(|(name, indexes)| indexes.iter().map(|index| (self.cluster.id(name), *index)))
                    .collect()
            }
        };
        let client = &mut self.clients[at];
        if std::mem::take(&mut client.is_back) {
            client.has_told = false;
        }
        let gives_back = !client.owned.without(&assigned).is_empty();
        client.owned = assigned;
        client.phase = if gives_back || !client.has_told { Phase::Out } else { Phase::In };
        if client.phase == Phase::Out && self.style == Style::Eager {
            client.owned = Partitions::default();
        }
    }

    fn beat(&mut self, at: usize, kept: Kept) {
        if !self.clients[at].is_running {
            return;
        }
        match self.clients[at].speaks {
            Speaks::Consumer => self.consumer_beat(at, kept),
            Speaks::Classic => self.classic_beat(at, kept),
        }
    }

    fn consumer_beat(&mut self, at: usize, kept: Kept) {
        let client = &self.clients[at];
        let tells_all = client.epoch == JOINING || !client.has_told;
        let beat = Heartbeat {
            member: client.id.clone(),
            epoch: client.epoch,
            instance: Self::instance(at),
            rack: None,
            rebalance_timeout_ms: tells_all.then_some(60_000),
            topics: tells_all.then(|| client.topics.clone()),
            pattern: None,
            assignor: None,
            owned: Some(client.owned.clone()),
            client_id: Str::EMPTY,
            client_host: Str::EMPTY,
        };
        let heard =
            self.act(kept, |book, now, effects| book.consumer_heartbeat(&Self::group(), &beat, now, effects));
        let client = &mut self.clients[at];
        match heard {
            None => client.has_told = false,
            Some(Ok(heard)) => {
                client.has_told = true;
                client.epoch = heard.epoch;
                if let Some(assigned) = heard.assigned {
                    client.owned = assigned;
                }
            }
            // Its old self is there yet, or it was put out: it tries again.
            Some(Err(
                GroupError::UnreleasedInstance | GroupError::UnknownMember | GroupError::FencedEpoch,
            )) => client.begin_anew(),
            Some(Err(error)) => panic!("{error}"),
        }
    }

    fn classic_beat(&mut self, at: usize, kept: Kept) {
        let (group, instance) = (Self::group(), Self::instance(at));
        match self.clients[at].phase {
            Phase::Joining(_) | Phase::Syncing(_) => {}
            Phase::In => {
                let (id, epoch) = (self.clients[at].id.clone(), self.clients[at].epoch);
                let heard = self.act(kept, |book, now, effects| {
                    book.heartbeat(&group, &id, instance.as_ref(), epoch, now, effects)
                });
                if let Some(Err(error)) = heard {
                    self.refused(at, error);
                }
            }
            Phase::Out => {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                let style = self.style;
                let client = &mut self.clients[at];
                if style == Style::Eager {
                    client.owned = Partitions::default();
                }
                client.phase = Phase::Joining(ticket);
                client.has_told = true;
                let client = &self.clients[at];
                let owned = client.owned.topics().map(|(topic, indexes)| {
                    let name = self.book.topics.name_of(topic).expect("it is there");
                    (name, indexes.iter().copied().collect::<Vec<i32>>())
                });
                let mut profile = join("", subscription(&client.topics, &owned.collect())).profile;
                profile.session_timeout = Duration::from_secs(45);
                let join = Join {
                    member_id: client.id.clone(),
                    fresh_id: Str::from(format!("c{at}-{}", self.tickets)),
                    instance,
                    profile,
                    ..join("", Bytes::new())
                };
                self.act(kept, |book, now, effects| book.join(&group, join, ticket, now, effects));
            }
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Subscribe(at, speaks, topics) => {
                let style = self.style;
                let client = &mut self.clients[at];
                if !client.is_running {
                    client.lives += 1;
                    client.is_running = true;
                    client.is_back = at < STATIC && speaks == Speaks::Classic;
                    client.speaks = speaks;
                    client.begin_anew();
                    client.id = match speaks {
                        Speaks::Consumer => Str::from(format!("m{at}-{}", client.lives)),
                        Speaks::Classic => Str::EMPTY,
                    };
                }
                let topics = STATIC_TOPICS.get(at).copied().unwrap_or(topics);
                let chosen = TOPICS.iter().enumerate().filter(|(bit, _)| topics & (1 << bit) != 0);
                client.topics = chosen.map(|(_, topic)| Str::from(*topic)).collect();
                client.has_told = false;
                if client.phase == Phase::In {
                    client.phase = Phase::Out;
                    if style == Style::Eager {
                        client.owned = Partitions::default();
                    }
                }
                self.beat(at, Kept::Stored);
            }
            Op::Beat(at, kept) => self.beat(at, kept),
            Op::Leave(at) => self.leave(at, Departure::ForGood),
            Op::Away(at) => self.leave(at, Departure::ForAWhile),
            Op::Crash(at) => {
                self.clients[at].is_running = false;
                self.clients[at].begin_anew();
            }
            Op::Pass(seconds) => self.pass(seconds),
            Op::Grow(topic) => {
                self.cluster.grow(TOPICS[topic], 1);
                self.book.see(self.cluster.image());
                // A leader sees it, and joins again; so may all.
                for client in &mut self.clients {
                    client.has_told = false;
                    if client.phase == Phase::In {
                        client.phase = Phase::Out;
                    }
                }
            }
            Op::Reload => self.reload(),
        }
        self.check();
    }

    fn leave(&mut self, at: usize, departure: Departure) {
        let client = &mut self.clients[at];
        let (group, id, instance) = (Self::group(), client.id.clone(), Self::instance(at));
        let is_in = client.is_running && client.epoch > JOINING;
        if !is_in || (departure == Departure::ForAWhile && client.speaks == Speaks::Classic) {
            return;
        }
        let speaks = client.speaks;
        client.is_running = false;
        client.begin_anew();
        // It may have been put out before.
        let _ = match speaks {
            Speaks::Consumer => self.act(Kept::Stored, |book, now, effects| {
                book.consumer_leave(&group, &id, instance.as_ref(), departure, now, effects)
            }),
            Speaks::Classic => self.act(Kept::Stored, |book, now, effects| {
                let leaving = [Leaving { member_id: id, instance }];
                book.leave(&group, &leaving, now, effects).map(drop)
            }),
        };
    }

    /// Time passes; whoever runs heartbeats in it.
    fn pass(&mut self, seconds: u64) {
        for at in 0..CLIENTS {
            self.beat(at, Kept::Stored);
        }
        self.seconds += seconds;
        self.act(Kept::Stored, |book, now, effects| book.tick(now, effects));
        self.check();
    }

    fn reload(&mut self) {
        let before = (self.kind(), self.book.describe_consumers("g"));
        self.book = Self::empty(&self.cluster);
        for record in self.log.clone() {
            self.book.replay(record, now(self.seconds));
        }
        if before.0 == Some(Kind::Consumer) {
            assert_eq!((self.kind(), self.book.describe_consumers("g")), before);
        }
        for client in &mut self.clients {
            if matches!(client.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                client.phase = Phase::Out;
            }
        }
        self.act(Kept::Stored, |book, now, effects| book.open(|_, _| true, now, effects));
    }

    /// Nobody reads what another reads.
    fn check(&self) {
        let mut readers: HashMap<(TopicId, i32), &Str> = HashMap::new();
        for client in self.clients.iter().filter(|client| client.is_running) {
            for place in client.owned.iter() {
                let other = readers.insert(place, &client.id);
                assert_eq!(
                    other, None,
                    "{place:?} is read twice: {:#?} {:#?}",
                    self.clients, self.book.groups
                );
            }
        }
    }

    /// It is quiet: those that crashed are given up, and all others get what is theirs.
    fn ends(&mut self) {
        for _ in 0..40 {
            self.pass(14);
        }
        let running: Vec<&Client> = self.clients.iter().filter(|client| client.is_running).collect();
        let group = self.book.list().pop();
        let state = group.as_ref().map_or("Empty", |group| group.state);
        assert_eq!(state, if running.is_empty() { "Empty" } else { "Stable" }, "{:#?}", self.book.groups);
        let mut members = self.members();
        let mut ids: Vec<Str> = running.iter().map(|client| client.id.clone()).collect();
        members.sort();
        ids.sort();
        assert_eq!(members, ids);
        if let Some(group) = group.filter(|_| !running.is_empty()) {
            let has_consumers = running.iter().any(|client| client.speaks == Speaks::Consumer);
            assert_eq!(group.kind, if has_consumers { Kind::Consumer } else { Kind::Classic });
        }
        let (mut wanted, mut read) = (Partitions::default(), Partitions::default());
        for client in running {
            read.extend(client.owned.iter());
            for topic in &client.topics {
                let known = self.book.topics.named(topic).expect("it is there");
                wanted.extend((0..).take(known.partitions).map(|index| (known.id, index)));
            }
        }
        assert_eq!(read, wanted, "all that somebody subscribes to is read: {:#?}", self.clients);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nobody_reads_what_another_reads_whatever_they_speak(
        style in prop_oneof![Just(Style::Eager), Just(Style::Cooperative)],
        ops in prop::collection::vec(ops(), 0..60),
    ) {
        let mut history = History::new(style);
        for op in ops {
            history.step(op);
        }
        history.ends();
    }
}
