//! A group that was away for months: it goes on where it had committed, reads history from the bucket, crosses into local segments
//! and reaches the tail, while members join and leave and producers go on.
//!
//! Nobody crashes here, and members commit before they give a partition away, so every record must be handed out exactly once
//! ([`judge`]). The months are those of the records, whose timestamps producers give; the broker's clock sees minutes.
//! So `offsets.retention.minutes` is as an operator sets it whose groups stay away for so long, and the group's positions are looked at
//! before and after; that they stay so long by the broker's clock, and no longer, is for the unit tests of `src/groups/book.rs`, which
//! is told the time.

use super::{POLL, TIERED_DEADLINE};
use crate::broker::Broker;
use crate::bucket;
use crate::clients::{self, Protocol};
use crate::flags::Flags;
use crate::history::History;
use crate::member::Member;
use crate::run::command;
use crate::s3::Kind;
use crate::soak::{Load, Soak};
use anyhow::{Context, Result, bail, ensure};
use aquifer_checker::{Event, Expiry, lines};
use judge::{Handed, Places, handed, judge};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

/// The verdict.
mod judge;

const DAY: Duration = Duration::from_secs(24 * 3600);
const DAYS_AWAY: u32 = 180;
/// What the group reads before it goes away was written within these days.
const DAYS_BEFORE: u32 = 3;
/// A year, and a day.
const OFFSETS_RETENTION_MINUTES: &str = "527040";
const VALUE_BYTES: u64 = 200;
const WRITE_DEADLINE: Duration = Duration::from_secs(600);
const READ_DEADLINE: Duration = Duration::from_secs(900);
/// How far behind producers whoever has reached the tail may be.
const TAIL: Duration = Duration::from_secs(2);
/// Two join and one leaves: what is given was taken from another first.
const TURNS_MIN: u64 = 6;
/// Of the history, before the group comes back.
const TIERED_SHARE: f64 = 0.8;
const COLD_BYTES: &str = "aquifer_tier_read_bytes_total";
const SETTINGS: [(&str, &str); 10] = [
    ("log.segment.bytes", "1048576"),
    ("tier.roll.ms", "1000"),
    ("log.local.retention.ms", "4000"),
    ("log.retention.check.interval.ms", "300"),
    ("log.retention.ms", "-1"),
    ("offsets.retention.minutes", OFFSETS_RETENTION_MINUTES),
    ("offsets.retention.check.interval.ms", "1000"),
    ("group.initial.rebalance.delay.ms", "500"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];

/// How it is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absence {
    pub(crate) partitions: usize,
    /// Records that are there before the group goes away; it reads half of them.
    pub(crate) before: u64,
    /// Records that are written while it is away.
    pub(crate) history: u64,
    /// Records a second that producers write once it is back.
    pub(crate) live_rate: u64,
    /// Records a second that a member reads.
    pub(crate) member_rate: u64,
}

impl Absence {
    fn full() -> Absence {
        Absence { partitions: 6, before: 50_000, history: 1_500_000, live_rate: 2_000, member_rate: 10_000 }
    }

    /// Seconds long.
    pub(crate) fn short() -> Absence {
        Absence { partitions: 4, before: 4_000, history: 24_000, live_rate: 600, member_rate: 3_000 }
    }
}

pub(crate) fn main(binary: &std::path::Path, mut flags: Flags) -> Result<()> {
    let usual = Absence::full();
    let absence = Absence {
        partitions: flags.take("partitions", usual.partitions)?,
        before: flags.take("before", usual.before)?,
        history: flags.take("history", usual.history)?,
        live_rate: flags.take("live-rate", usual.live_rate)?,
        member_rate: flags.take("member-rate", usual.member_rate)?,
    };
    let protocol: String = flags.take("protocol", String::new())?;
    flags.end()?;
    let protocols: Vec<Protocol> = match protocol.as_str() {
        "" => PROTOCOLS.to_vec(),
        "classic" => vec![Protocol::Classic],
        "consumer" => vec![Protocol::Consumer],
        other => bail!("--protocol {other}: classic or consumer"),
    };
    run(binary, absence, &protocols)
}

pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::Classic, Protocol::Consumer];

pub(crate) fn run(binary: &std::path::Path, absence: Absence, protocols: &[Protocol]) -> Result<()> {
    Kind::MinIo.install()?;
    let store = Kind::MinIo.start()?;
    let url = store.url("away");
    let mut broker = Broker::start(binary, "away", &url, &SETTINGS)?;
    for protocol in protocols {
        Group::begin(*protocol, absence, &broker)?.run(&mut broker)?;
    }
    broker.wait_until_no_lag(TIERED_DEADLINE)?;
    broker.end()?;
    bucket::verify(binary, &url)
}

/// A group, its topic, and what is known of both.
#[derive(Debug)]
struct Group {
    protocol: Protocol,
    absence: Absence,
    topic: String,
    bootstrap: String,
    history: History,
    /// When the first record was written, as it says.
    since: SystemTime,
    /// What members that have left wrote down.
    left: Vec<(String, PathBuf)>,
    /// Records that they were handed.
    left_read: u64,
}

/// A member, and where it writes down what it is handed.
#[derive(Debug)]
struct Reader {
    name: &'static str,
    member: Member,
}

impl Group {
    fn begin(protocol: Protocol, absence: Absence, broker: &Broker) -> Result<Group> {
        let topic = format!("away-{}", protocol.name());
        broker.create_topic_with(&topic, absence.partitions, &["retention.ms=-1"])?;
        let mut history = History::begin(&topic)?;
        history.topic(&topic, absence.partitions, Expiry::Never)?;
        let since = SystemTime::now() - DAY * (DAYS_AWAY + DAYS_BEFORE);
        let (bootstrap, left) = (broker.bootstrap.clone(), Vec::new());
        Ok(Group { protocol, absence, topic, bootstrap, history, since, left, left_read: 0 })
    }

    fn run(mut self, broker: &mut Broker) -> Result<()> {
        let Absence { before, history, live_rate, .. } = self.absence;
        let began = Instant::now();
        self.write(1, before, self.since, DAY * DAYS_BEFORE)?;
        let first = self.join("first")?;
        first.member.wait("half of what there is", |at| at.read >= before / 2)?;
        self.leave(first)?;
        let committed = broker.positions(self.group(), &self.topic)?;
        let went = Instant::now();
        ensure!(!committed.is_empty(), "the group has committed nothing");

        // Up to an hour ago: the live ones are of now.
        let away = DAY * DAYS_AWAY - Duration::from_secs(3600);
        self.write(2, history, self.since + DAY * DAYS_BEFORE, away)?;
        broker.wait_until_no_lag(TIERED_DEADLINE)?;
        let share = broker.wait_until_tiered(&self.topic, TIERED_SHARE, TIERED_DEADLINE)?;
        let kept = broker.positions(self.group(), &self.topic)?;
        ensure!(kept == committed, "the group had committed {committed:?}, and is at {kept:?} now");
        println!(
            "   {}: away for {DAYS_AWAY} days of the records, {:.0} s of the broker's clock, offsets.retention.minutes={OFFSETS_RETENTION_MINUTES}; \
             its positions are as it left them: {kept:?}; {:.0}% of the bytes at least lie in the bucket alone",
            self.topic,
            went.elapsed().as_secs_f64(),
            share * 100.0
        );

        let load = Load { topic: &self.topic, producer: 3, rate: live_rate, value_bytes: VALUE_BYTES };
        let mut live = Soak::start(&self.bootstrap, load, &self.history.of("soak-3"))?;
        live.wait_for_more(1)?;
        let cold_below = broker.local_starts(&self.topic)?;
        let cold_bytes = broker.metric(COLD_BYTES)?;
        let back = Instant::now();
        let (members, rebalances) = self.come_back(&mut live)?;
        let reached = back.elapsed();
        let live = live.end()?.whole()?;
        let all = before + history + live;
        self.until("all records", &members, |read| Ok(read >= all))?;
        let places = Places { cold_below, hot_from: broker.local_starts(&self.topic)? };
        let cold_bytes = broker.metric(COLD_BYTES)? - cold_bytes;
        for member in members {
            self.leave(member)?;
        }
        println!(
            "   {}: back at the tail after {:.0} s and {rebalances} turns of its members' partitions, {:.1} MB from the bucket",
            self.topic,
            reached.as_secs_f64(),
            cold_bytes as f64 / 1e6
        );
        println!("   {}: {:.0} s", self.topic, began.elapsed().as_secs_f64());
        self.judge(&committed, &places, cold_bytes)
    }

    /// The group's name is its topic's.
    fn group(&self) -> &str {
        &self.topic
    }

    /// Writes so many records whose times are spread over so long.
    fn write(&self, producer: u32, records: u64, since: SystemTime, over: Duration) -> Result<()> {
        let step = over / u32::try_from(records)?;
        let since_ms = since.duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
        let more = [
            ("records", records.to_string()),
            ("since-ms", since_ms.to_string()),
            ("step", format!("{}ns", step.as_nanos())),
        ];
        let load = Load { topic: &self.topic, producer, rate: 0, value_bytes: VALUE_BYTES };
        let history = self.history.of(&format!("soak-{producer}"));
        let written =
            Soak::start_with(&self.bootstrap, load, &more, &history)?.finish(WRITE_DEADLINE)?.whole()?;
        ensure!(written == records, "{written} of {records} records were written");
        Ok(())
    }

    fn join(&self, name: &'static str) -> Result<Reader> {
        let mut rig = command(clients::go_program()?, ["group", "--bootstrap", &self.bootstrap]);
        rig.args(["--topic", &self.topic, "--group", self.group(), "--protocol", self.protocol.name()]);
        rig.args(["--reader", name, "--rate", &self.absence.member_rate.to_string(), "--timeout", "1h"]);
        Ok(Reader { name, member: Member::join(rig.arg("--history").arg(self.history.of(name)))? })
    }

    fn leave(&mut self, reader: Reader) -> Result<()> {
        let Reader { name, member } = reader;
        let passed = member.leave().with_context(|| format!("{name} leaving"))?;
        self.left_read += passed.iter().map(|passed| passed.count).sum::<u64>();
        self.left.push((name.to_owned(), self.history.of(name)));
        Ok(())
    }

    /// One member comes back, two more join, and one of them leaves, all while they read; then they read up to the tail. Gives who is
    /// there still, and how often partitions were given or taken.
    fn come_back(&mut self, live: &mut Soak) -> Result<(Vec<Reader>, u64)> {
        let Absence { history, before, live_rate, .. } = self.absence;
        let resumed = self.left_read;
        let upto = |percent: u64| resumed + history * percent / 100;
        let mut members = vec![self.join("a")?];
        self.until("a tenth of its history", &members, |read| Ok(read >= upto(10)))?;
        let mut turns = 0;
        for (name, percent) in [("b", 30), ("c", 50)] {
            let joined = self.join(name)?;
            joined.member.wait("partitions and records of its own", |at| at.read > 0)?;
            members.push(joined);
            self.until("more of its history", &members, |read| Ok(read >= upto(percent)))?;
        }
        let leaves = members.remove(1);
        turns += leaves.member.at().turns;
        self.leave(leaves)?;
        let behind_max = live_rate * TAIL.as_secs();
        self.until("the tail", &members, |read| Ok(read + behind_max >= before + history + live.acked()?))?;
        live.check()?;
        turns += members.iter().map(|reader| reader.member.at().turns).sum::<u64>();
        ensure!(turns >= TURNS_MIN, "no more than {turns} turns of a rebalance were seen");
        Ok((members, turns))
    }

    /// Waits until the group has been handed so many records, over all of its life.
    fn until(&self, what: &str, members: &[Reader], is_there: impl Fn(u64) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + READ_DEADLINE;
        loop {
            let mut read = self.left_read;
            for reader in members {
                read += reader.member.is_there().with_context(|| format!("waiting for {what}"))?.read;
            }
            if is_there(read)? {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the group does not have {what}: {read} records within {READ_DEADLINE:?}"
            );
            sleep(POLL);
        }
    }

    /// The verdict, and that of the one checker.
    fn judge(mut self, positions: &BTreeMap<u32, i64>, places: &Places, cold_bytes: u64) -> Result<()> {
        let Absence { partitions, history, live_rate, .. } = self.absence;
        let mut all: Vec<Handed> = Vec::new();
        for (name, path) in &self.left {
            let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
            let events: Vec<Event> = lines::read(BufReader::new(file)).collect::<Result<_, _>>()?;
            all.extend(handed(name, &self.topic, events));
        }
        let end = |index: usize| -> Result<(u32, i64)> {
            let end = clients::kcat_offset(&self.bootstrap, &self.topic, index, "-1")?;
            Ok((u32::try_from(index)?, end))
        };
        let ends: BTreeMap<u32, i64> = (0..partitions).map(end).collect::<Result<_>>()?;
        let verdict = judge(all, &ends, positions, places);
        println!("   {}: {}", self.topic, verdict.to_string().replace('\n', "\n   "));
        self.history.audit(&self.bootstrap, &self.topic, partitions)?;
        self.history.must_be_clean()?;
        ensure!(verdict.faults.is_empty(), "{}: {verdict}", self.topic);
        let (cold, hot) = (u64::try_from(verdict.cold)?, u64::try_from(verdict.hot)?);
        ensure!(cold >= history / 2, "no more than {cold} records came from the bucket");
        ensure!(hot >= live_rate, "no more than {hot} records came from local segments");
        ensure!(
            cold_bytes >= cold * VALUE_BYTES,
            "{COLD_BYTES} says {cold_bytes} bytes, too few for {cold} records"
        );
        Ok(())
    }
}
