//! Groups of real clients: two members of each library share a topic, one leaves; the broker is killed, and a member of another
//! library goes on where they were. Every record is read once.

use crate::broker::Broker;
use crate::clients::{Client, Passed};
use crate::member::Member;
use crate::run::{command, run};
use crate::stages::Stages;
use crate::text::{self, Text};
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

const PARTITIONS: usize = 4;
const TEXT_MB: u64 = 1;
/// A member that comes second must not wait long for the first round of an empty group.
const SETTINGS: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "500"),
    ("group.consumer.min.heartbeat.interval.ms", "500"),
    ("group.consumer.heartbeat.interval.ms", "500"),
];

/// Runs all of it against a broker of its own.
pub(crate) fn run_on(stages: &mut Stages, binary: &Path, url: &str, clients: &[Client]) -> Result<()> {
    let text = text::gather("groups.txt", TEXT_MB, PARTITIONS)?;
    let mut broker = Broker::start(binary, "groups", url, SETTINGS)?;
    for (number, client) in clients.iter().enumerate() {
        let topic = topic(number);
        broker.create_topic(&topic, PARTITIONS)?;
        let start = Instant::now();
        match client {
            Client::Kcat => {
                write(&broker.bootstrap, &topic, &text, 2)?;
                let passed = client.read_as_group(&broker.bootstrap, &topic, &topic)?;
                ensure!(counts(&[passed]) == expected(&text, 2), "kcat did not read every record once");
            }
            _ => {
                let rig = || client.group_rig(&broker.bootstrap, &topic, &topic);
                share(&rig, &broker.bootstrap, &topic, &text)
                    .with_context(|| format!("two members of {}", client.name()))?;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        stages.pass(&format!("a group of {} read every record once, in {seconds:.1} s", client.name()));
    }
    let assigned: Vec<&Client> = clients.iter().filter(|client| assigns(client)).collect();
    for client in &assigned {
        let topic = assigned_topic(client);
        broker.create_topic(&topic, PARTITIONS)?;
        let start = Instant::now();
        share(&|| assigned_rig(client, &broker.bootstrap, &topic), &broker.bootstrap, &topic, &text)
            .with_context(|| format!("two members of {}, assigned by the coordinator", client.name()))?;
        let seconds = start.elapsed().as_secs_f64();
        stages.pass(&format!(
            "a group of {}, assigned by the coordinator, read every record once, in {seconds:.1} s",
            client.name()
        ));
    }
    broker.kill_and_restart()?;
    for client in assigned {
        // The last member has left, so that the group may be one of the other protocol from now on.
        resume(client, &broker.bootstrap, &assigned_topic(client), &text)
            .with_context(|| format!("{} in a group that the coordinator had assigned", client.name()))?;
        stages.pass(&format!("{} went on by the classic protocol", client.name()));
    }
    for (number, client) in clients.iter().enumerate() {
        let next = &clients[(number + 1) % clients.len()];
        resume(next, &broker.bootstrap, &topic(number), &text)
            .with_context(|| format!("{} in the group of {}", next.name(), client.name()))?;
        stages.pass(&format!("{} went on in the group of {}", next.name(), client.name()));
    }
    broker.end()
}

fn topic(number: usize) -> String {
    format!("groups-{number}")
}

/// Whether a client can be a member of a group whose coordinator assigns.
fn assigns(client: &Client) -> bool {
    matches!(client.consumer_group_rig("", "", ""), Ok(Some(_)))
}

fn assigned_topic(client: &Client) -> String {
    format!("assigned-{}", client.name().replace(' ', "-"))
}

fn assigned_rig(client: &Client, bootstrap: &str, topic: &str) -> Result<Command> {
    let rig = client.consumer_group_rig(bootstrap, topic, topic)?;
    rig.with_context(|| format!("{} knows no such groups", client.name()))
}

fn write(bootstrap: &str, topic: &str, text: &Text, times: u64) -> Result<()> {
    (0..times).try_for_each(|_| Client::Kcat.write(bootstrap, topic, "none", &text.path).map(drop))
}

/// One member reads what there is, a second takes half of the partitions, both read what comes, and the first is left alone.
fn share(rig: &dyn Fn() -> Result<Command>, bootstrap: &str, topic: &str, text: &Text) -> Result<()> {
    let all: Vec<usize> = (0..PARTITIONS).collect();
    write(bootstrap, topic, text, 1)?;
    let first = Member::join(rig()?)?;
    first.wait("all partitions and records", |at| at.assigned == all && at.read == text.records())?;
    let second = Member::join(rig()?)?;
    second.wait("half of the partitions", |at| at.assigned.len() == PARTITIONS / 2)?;
    let taken = second.at().assigned;
    first.wait("the other half", |at| {
        at.assigned.len() == PARTITIONS / 2 && at.assigned.iter().all(|partition| !taken.contains(partition))
    })?;
    write(bootstrap, topic, text, 1)?;
    let own = text.partitions.iter().enumerate().filter(|(number, _)| taken.contains(number));
    let of_second: u64 = own.map(|(_, expected)| expected.count).sum();
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

/// A member finds what came since, and nothing else.
fn resume(client: &Client, bootstrap: &str, topic: &str, text: &Text) -> Result<()> {
    write(bootstrap, topic, text, 1)?;
    let passed = match client {
        Client::Kcat => client.read_as_group(bootstrap, topic, topic)?,
        _ => {
            let member = Member::join(client.group_rig(bootstrap, topic, topic)?)?;
            member.wait("what came since", |at| at.read >= text.records())?;
            member.leave()?
        }
    };
    for found in &passed {
        let wanted = text.partitions.get(found.partition).context("a partition that is not there")?;
        let before = i64::try_from(2 * wanted.count)?;
        ensure!(
            (found.count, found.first, &found.sha256) == (wanted.count, before, &wanted.sha256),
            "found {found:?}, where {} records from {before} on are new",
            wanted.count
        );
    }
    ensure!(counts(&[passed]) == expected(text, 1), "a partition is missing");
    Ok(())
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
pub(crate) fn run_against(stages: &mut Stages, bootstrap: &str, clients: &[Client]) -> Result<()> {
    let text = text::gather("groups.txt", TEXT_MB, PARTITIONS)?;
    for client in clients.iter().filter(|client| !matches!(client, Client::Kcat)) {
        let topic = format!("groups-{}-{}", std::process::id(), client.name().replace(' ', "-"));
        run(&mut command("kcat", ["-L", "-q", "-b", bootstrap, "-t", &topic]))?;
        share(&|| client.group_rig(bootstrap, &topic, &topic), bootstrap, &topic, &text)?;
        resume(client, bootstrap, &topic, &text)?;
        stages.pass(&format!("a group of {} read every record once", client.name()));
    }
    Ok(())
}
