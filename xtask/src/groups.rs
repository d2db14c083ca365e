//! Groups of real clients: two members of each library share a topic, one leaves; static members come back unnoticed; a group is
//! rolled from one protocol to the other, and back; the broker is killed, and a member of another library goes on where they were.
//! Every record is read once.

use crate::broker::Broker;
use crate::clients::{Client, Membership, Passed, Protocol};
use crate::member::Member;
use crate::run::{command, run};
use crate::stages::Stages;
use crate::text::{self, Text};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::time::Instant;

const PARTITIONS: usize = 4;
const TEXT_MB: u64 = 1;
/// What this broker serves, and so what is tried.
pub(crate) const PROTOCOLS: &[Protocol] = &[Protocol::Classic, Protocol::Consumer];
/// A member that comes second must not wait long for the first round of an empty group.
const SETTINGS: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "500"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];

/// A topic and its group, of one library.
#[derive(Debug)]
struct Try<'a> {
    client: &'a Client,
    protocol: Protocol,
    bootstrap: &'a str,
    topic: String,
    text: &'a Text,
}

/// Runs all of it against a broker of its own.
pub(crate) fn run_on(
    stages: &mut Stages,
    binary: &Path,
    url: &str,
    clients: &[Client],
    protocols: &[Protocol],
) -> Result<()> {
    let text = text::gather("groups.txt", TEXT_MB, PARTITIONS)?;
    let mut broker = Broker::start(binary, "groups", url, SETTINGS)?;
    for protocol in protocols {
        for (number, client) in speakers(clients, *protocol).into_iter().enumerate() {
            let one = Try::new(client, *protocol, &broker.bootstrap, topic(*protocol, number), &text);
            one.run(stages, &|topic| broker.create_topic(topic, PARTITIONS))?;
        }
    }
    if protocols == PROTOCOLS {
        for client in clients.iter().filter(|client| client.migrates()) {
            roll(stages, client, &broker, &text)?;
        }
    }
    broker.kill_and_restart()?;
    for protocol in protocols {
        let speakers = speakers(clients, *protocol);
        for (number, client) in speakers.iter().enumerate() {
            let next = speakers[(number + 1) % speakers.len()];
            let one = Try::new(next, *protocol, &broker.bootstrap, topic(*protocol, number), &text);
            one.resume().with_context(|| format!("{} in the group of {}", next.name(), client.name()))?;
            let name = protocol.name();
            stages.pass(&format!("{} went on in the {name} group of {}", next.name(), client.name()));
        }
    }
    broker.end()
}

/// One group is rolled to the other protocol and back, a member at a time.
fn roll(stages: &mut Stages, client: &Client, broker: &Broker, text: &Text) -> Result<()> {
    let topic = "groups-rolled".to_owned();
    broker.create_topic(&topic, PARTITIONS)?;
    let start = Instant::now();
    let name = client.name();
    let one = Try::new(client, Protocol::Classic, &broker.bootstrap, topic, text);
    one.roll().with_context(|| format!("a group of {name} between two protocols"))?;
    let seconds = start.elapsed().as_secs_f64();
    stages.pass(&format!("a group of {name} was rolled to the consumer protocol and back, every record read once, in {seconds:.1} s"));
    Ok(())
}

fn speakers(clients: &[Client], protocol: Protocol) -> Vec<&Client> {
    clients.iter().filter(|client| client.speaks(protocol)).collect()
}

fn topic(protocol: Protocol, number: usize) -> String {
    format!("groups-{}-{number}", protocol.name())
}

impl<'a> Try<'a> {
    fn new(
        client: &'a Client,
        protocol: Protocol,
        bootstrap: &'a str,
        topic: String,
        text: &'a Text,
    ) -> Try<'a> {
        Try { client, protocol, bootstrap, topic, text }
    }

    /// A topic for those that leave, and one for those that come back.
    fn run(&self, stages: &mut Stages, create_topic: &dyn Fn(&str) -> Result<()>) -> Result<()> {
        let (name, protocol) = (self.client.name(), self.protocol.name());
        create_topic(&self.topic)?;
        let start = Instant::now();
        if self.client.is_kcat() {
            self.write(2)?;
            let passed = self.client.read_as_group(self.bootstrap, &self.topic, &self.topic)?;
            ensure!(counts(&[passed]) == expected(self.text, 2), "kcat did not read every record once");
        } else {
            self.share().with_context(|| format!("two members of {name}"))?;
        }
        let seconds = start.elapsed().as_secs_f64();
        stages.pass(&format!("a {protocol} group of {name} read every record once, in {seconds:.1} s"));
        if !self.client.has_static_members(self.protocol) {
            return Ok(());
        }
        let fixed = Try { topic: format!("{}-static", self.topic), ..*self };
        create_topic(&fixed.topic)?;
        let start = Instant::now();
        fixed.come_back().with_context(|| format!("static members of {name}"))?;
        let seconds = start.elapsed().as_secs_f64();
        stages.pass(&format!("a static {protocol} member of {name} came back unnoticed, in {seconds:.1} s"));
        Ok(())
    }

    fn write(&self, times: u64) -> Result<()> {
        let kcat = Client::kcat();
        (0..times)
            .try_for_each(|_| kcat.write(self.bootstrap, &self.topic, "none", &self.text.path).map(drop))
    }

    fn join(&self, instance: Option<&str>) -> Result<Member> {
        let one = Membership { group: &self.topic, protocol: self.protocol, instance };
        Member::join(&mut self.client.member(self.bootstrap, &self.topic, one)?)
    }

    /// One member reads what there is, a second takes half of the partitions, both read what comes, and the first is left alone.
    fn share(&self) -> Result<()> {
        let all: Vec<usize> = (0..PARTITIONS).collect();
        let text = self.text;
        self.write(1)?;
        let first = self.join(None)?;
        first.wait("all partitions and records", |at| at.assigned == all && at.read == text.records())?;
        let second = self.join(None)?;
        second.wait("half of the partitions", |at| at.assigned.len() == PARTITIONS / 2)?;
        let taken = second.at().assigned;
        first.wait("the other half", |at| {
            at.assigned.len() == PARTITIONS / 2
                && at.assigned.iter().all(|partition| !taken.contains(partition))
        })?;
        self.write(1)?;
        let of_second = records(text, &taken);
        second.wait("its half of the records", |at| at.read == of_second)?;
        first.wait("its half of the records", |at| at.read == 2 * text.records() - of_second)?;
        let of_second = second.leave()?;
        first.wait("all partitions again", |at| at.assigned == all)?;
        let of_first = first.leave()?;
        ensure!(
            counts(&[of_first.clone(), of_second.clone()]) == expected(text, 2),
            "not every record was read once: {of_first:#?} and {of_second:#?}"
        );
        Ok(())
    }

    /// Two static members have half of the partitions each. One stops without leaving, and comes back under its name: it has what
    /// it had, reads what is new of that, and the other has seen no rebalance.
    fn come_back(&self) -> Result<()> {
        self.write(1)?;
        let stays = self.join(Some("stays"))?;
        let goes = self.join(Some("goes"))?;
        for member in [&stays, &goes] {
            member.wait("half of the partitions", |at| at.assigned.len() == PARTITIONS / 2)?;
        }
        stays.wait("all records between the two", |at| at.read + goes.at().read == self.text.records())?;
        let (before, had) = (stays.at(), goes.at().assigned);
        match self.protocol {
            Protocol::Classic => goes.kill()?,
            // A name is free there once its member has said that it goes for a while, or its session is over.
            Protocol::Consumer => drop(goes.leave()?),
        }
        let back = self.join(Some("goes"))?;
        back.wait("what it had", |at| at.assigned == had)?;
        self.write(1)?;
        let new = records(self.text, &had);
        back.wait("what is new of it", |at| at.read == new)?;
        stays.wait("what is new of its own", |at| at.read == before.read + self.text.records() - new)?;
        let after = stays.at();
        ensure!(
            (after.turns, &after.assigned) == (before.turns, &before.assigned),
            "the member that stayed saw a rebalance: {before:?}, then {after:?}"
        );
        let of_back = back.leave()?;
        stays.leave()?;
        new_after(&of_back, self.text, 1)
    }

    /// Two members are replaced one after the other by such that speak the other protocol, and these by such that speak the first
    /// again. Whoever comes reads on where the one that left was.
    fn roll(&self) -> Result<()> {
        let join = |protocol| Try { protocol, topic: self.topic.clone(), ..*self }.join(None);
        self.write(1)?;
        let mut written = 1;
        let mut members = [join(Protocol::Classic)?, join(Protocol::Classic)?];
        let mut passed: Vec<Vec<Passed>> = Vec::new();
        self.have_all(&members)?;
        self.read_all(&members, &passed, written)?;
        for protocol in [Protocol::Consumer, Protocol::Classic] {
            for at in 0..members.len() {
                let next = join(protocol)?;
                passed.push(std::mem::replace(&mut members[at], next).leave()?);
                self.have_all(&members).with_context(|| format!("member {written}"))?;
                self.write(1)?;
                written += 1;
                self.read_all(&members, &passed, written).with_context(|| format!("text {written}"))?;
            }
        }
        for member in members {
            passed.push(member.leave()?);
        }
        let read: Vec<Passed> = passed.into_iter().flatten().collect();
        ensure!(
            counts(std::slice::from_ref(&read)) == expected(self.text, written),
            "not every record was read once: {read:#?}"
        );
        Ok(())
    }

    /// Waits until two members have half of the partitions each.
    fn have_all(&self, [first, second]: &[Member; 2]) -> Result<()> {
        first.wait("half of the partitions, and the other the other", |at| {
            let mut all = [at.assigned.clone(), second.at().assigned].concat();
            all.sort_unstable();
            at.assigned.len() == PARTITIONS / 2 && all.into_iter().eq(0..PARTITIONS)
        })
    }

    /// Waits until two members, and those before them, have read all that was written.
    fn read_all(&self, [first, second]: &[Member; 2], passed: &[Vec<Passed>], written: u64) -> Result<()> {
        let before: u64 = passed.iter().flatten().map(|passed| passed.count).sum();
        let all = written * self.text.records();
        first.wait("all records, with the other", |at| before + at.read + second.at().read == all)
    }

    /// A member finds what came since two texts, and nothing else.
    fn resume(&self) -> Result<()> {
        self.write(1)?;
        let passed = if self.client.is_kcat() {
            self.client.read_as_group(self.bootstrap, &self.topic, &self.topic)?
        } else {
            let member = self.join(None)?;
            member.wait("what came since", |at| at.read >= self.text.records())?;
            member.leave()?
        };
        new_after(&passed, self.text, 2)?;
        ensure!(counts(&[passed]) == expected(self.text, 1), "a partition is missing");
        Ok(())
    }
}

/// The text once, behind so many that were there before.
fn new_after(passed: &[Passed], text: &Text, times: u64) -> Result<()> {
    for found in passed {
        let wanted = text.partitions.get(found.partition).context("a partition that is not there")?;
        let before = i64::try_from(times * wanted.count)?;
        ensure!(
            (found.count, found.first, &found.sha256) == (wanted.count, before, &wanted.sha256),
            "found {found:?}, where {} records from {before} on are new",
            wanted.count
        );
    }
    Ok(())
}

/// Records of one text in these partitions.
fn records(text: &Text, partitions: &[usize]) -> u64 {
    let of = text.partitions.iter().enumerate().filter(|(number, _)| partitions.contains(number));
    of.map(|(_, expected)| expected.count).sum()
}

/// Records read of each partition.
fn counts(members: &[Vec<Passed>]) -> Vec<u64> {
    let of = |number| {
        let passed = members.iter().flatten().filter(move |passed| passed.partition == number);
        passed.map(|passed| passed.count).sum()
    };
    (0..PARTITIONS).map(of).collect()
}

/// Records written to each partition.
fn expected(text: &Text, times: u64) -> Vec<u64> {
    text.partitions.iter().map(|expected| expected.count * times).collect()
}

/// The same against a broker that runs already, but for the kill: what shows that the rigs are right.
pub(crate) fn run_against(
    stages: &mut Stages,
    bootstrap: &str,
    clients: &[Client],
    protocols: &[Protocol],
) -> Result<()> {
    let text = text::gather("groups.txt", TEXT_MB, PARTITIONS)?;
    let create = |topic: &str| run(&mut command("kcat", ["-L", "-q", "-b", bootstrap, "-t", topic]));
    for protocol in protocols {
        for client in speakers(clients, *protocol) {
            let topic = format!("{}-{}-{}", topic(*protocol, 0), std::process::id(), client.name());
            let one = Try::new(client, *protocol, bootstrap, topic.replace(' ', "-"), &text);
            one.run(stages, &create)?;
            one.resume()?;
        }
    }
    Ok(())
}
