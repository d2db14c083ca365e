//! What commands do to an image, by noun; here is what the files share.

mod any;
mod brokers;
mod cluster;
mod partitions;
mod quotas;
mod settings;
mod topics;

use aquifer_model::{LeaderEpoch, PartitionIndex, Timestamp, TopicId, TopicName, TopicPartition};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::metadata::codec::samples::{self, arbitrary_command};
use crate::metadata::command::*;
use crate::metadata::delta::Delta;
use crate::metadata::ids::{BrokerEpoch, ClusterId, Incarnation, PartitionEpoch, RaftNodeId};
use crate::metadata::image::{Configs, Partition, Recovery, Topic};

/// A formatted cluster with active brokers 1, 2 and 3 (epochs 0, 1 and 2) and fenced broker 4 (epoch 3), and topic `a` (id 1001)
/// with partition 0 on 1, 2, 3 and partition 1 on 2 alone.
fn cluster() -> Image {
    let mut image = Image::default();
    ok(&mut image, format());
    for broker in 1..=4 {
        ok(&mut image, register(broker));
    }
    for broker in 1..=3 {
        ok(&mut image, Command::UnfenceBroker(at(broker)));
    }
    ok(&mut image, create(1001, "a", &[&[1, 2, 3], &[2]]));
    image
}

fn format() -> Command {
    let (cluster, incarnation) = (ClusterId::new(Uuid::from_u128(1)), Incarnation(2));
    Command::FormatCluster(FormatCluster { cluster, incarnation, features: BTreeMap::new() })
}

fn register(broker: i32) -> Command {
    Command::RegisterBroker(samples::registration(broker, RaftNodeId(broker.unsigned_abs().into())))
}

/// A broker of [`cluster`] in its first registration.
fn at(broker: i32) -> BrokerRef {
    BrokerRef { broker: BrokerId(broker), epoch: BrokerEpoch(i64::from(broker) - 1) }
}

fn topic(id: u128) -> TopicId {
    TopicId::new(Uuid::from_u128(id))
}

fn part(partition: i32) -> TopicPartition {
    TopicPartition { topic: topic(1001), partition: PartitionIndex(partition) }
}

fn create(id: u128, name: &str, replicas: &[&[i32]]) -> Command {
    Command::CreateTopic(CreateTopic {
        id: topic(id),
        name: TopicName::new(name).unwrap(),
        partitions: replicas
            .iter()
            .map(|replicas| replicas.iter().copied().map(BrokerId).collect())
            .collect(),
        configs: Configs::new(),
    })
}

fn isr(leader: i32, leader_epoch: i32, epoch: i32, members: &[i32]) -> ChangeIsr {
    ChangeIsr {
        partition: part(0),
        leader: at(leader),
        leader_epoch: LeaderEpoch::new(leader_epoch).unwrap(),
        epoch: PartitionEpoch(epoch),
        isr: members.iter().map(|&member| (BrokerId(member), Some(at(member).epoch))).collect(),
        recovery: Recovery::Recovered,
    }
}

fn lead(partition: i32, epoch: i32, leader: i32, election: Election) -> Command {
    let (epoch, leader) = (PartitionEpoch(epoch), BrokerId(leader));
    Command::ChangeLeader(ChangeLeader { partition: part(partition), epoch, leader, election })
}

#[track_caller]
fn ok(image: &mut Image, command: Command) -> Outcome {
    match apply(image, &command) {
        Ok(outcome) => outcome,
        Err(rejected) => panic!("{command:?} is rejected: {rejected}"),
    }
}

/// Applies `commands` to [`cluster`]; all but the last must stand, the last is judged as `expected`. A refusal must leave the image
/// as it was.
#[track_caller]
fn check(commands: Vec<Command>, expected: Result<Outcome, Rejected>) -> Image {
    let mut image = cluster();
    let (last, first) = commands.split_last().unwrap();
    for command in first {
        ok(&mut image, command.clone());
    }
    let before = image.clone();
    assert_eq!(apply(&mut image, last), expected, "{last:?}");
    if expected.is_err() {
        assert_eq!(image, before, "{last:?} was refused and changed something");
    }
    assert_eq!(image.flaw(), None);
    image
}

/// Leader, in-sync set, leader epoch, partition epoch, recovering.
fn facts(image: &Image, partition: i32) -> (Option<i32>, Vec<i32>, i32, i32, bool) {
    let Partition { isr, leader, leader_epoch, epoch, recovery, .. } =
        &**image.partition(part(partition)).unwrap();
    let isr = isr.iter().map(|member| member.0).collect();
    (leader.map(|leader| leader.0), isr, leader_epoch.get(), epoch.0, *recovery == Recovery::Recovering)
}

const DONE: Result<Outcome, Rejected> = Ok(Outcome::Done);
