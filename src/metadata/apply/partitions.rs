//! Leaders and in-sync sets.

use std::cmp::Ordering;
use std::sync::Arc;

use aquifer_model::{BrokerId, TopicPartition};

use super::{is_active, registered};
use crate::metadata::command::{ChangeIsr, ChangeLeader, Election};
use crate::metadata::image::{BrokerState, Image, Partition, Recovery, repeats};
use crate::metadata::verdict::{Outcome, Rejected};

/// The order of checks is Kafka's: it decides which error a leader sees when several hold, and so what it does next.
pub(super) fn change_isr(image: &mut Image, command: &ChangeIsr) -> Result<Outcome, Rejected> {
    let partition = find(image, command.partition)?;
    let leader = registered(image, command.leader)?.id;
    if command.leader_epoch > partition.leader_epoch || command.epoch > partition.epoch {
        return Err(Rejected::NewerEpoch);
    }
    if command.leader_epoch < partition.leader_epoch {
        return Err(Rejected::StaleLeaderEpoch { current: partition.leader_epoch });
    }
    if partition.leader != Some(leader) {
        return Err(Rejected::NotLeader(partition.leader));
    }
    if command.epoch < partition.epoch {
        return Err(Rejected::StalePartitionEpoch { current: partition.epoch });
    }
    let isr: Vec<BrokerId> = command.isr.iter().map(|(broker, _)| *broker).collect();
    let subset = isr.iter().all(|member| partition.replicas.contains(member));
    // Nobody un-recovers by asking, and nobody joins one who has not recovered.
    let recovery_holds = match command.recovery {
        Recovery::Recovered => true,
        Recovery::Recovering => partition.recovery == Recovery::Recovering && isr.len() == 1,
    };
    if !subset || repeats(&isr) || !isr.contains(&leader) || !recovery_holds {
        return Err(Rejected::InvalidIsr);
    }
    let ineligible: Vec<BrokerId> = command
        .isr
        .iter()
        .filter(|(member, epoch)| {
            !image.broker(*member).is_some_and(|broker| {
                broker.state == BrokerState::Active && epoch.is_none_or(|epoch| epoch == broker.epoch)
            })
        })
        .map(|(member, _)| *member)
        .collect();
    if !ineligible.is_empty() {
        return Err(Rejected::IneligibleReplicas(ineligible));
    }
    if isr == partition.isr && command.recovery == partition.recovery {
        return Ok(Outcome::Partition(partition.epoch));
    }
    change(image, command.partition, |partition| {
        partition.isr = isr;
        partition.recovery = command.recovery;
    })
}

pub(super) fn change_leader(image: &mut Image, command: &ChangeLeader) -> Result<Outcome, Rejected> {
    let partition = find(image, command.partition)?;
    match command.epoch.cmp(&partition.epoch) {
        Ordering::Less => return Err(Rejected::StalePartitionEpoch { current: partition.epoch }),
        Ordering::Equal => {}
        Ordering::Greater => return Err(Rejected::NewerEpoch),
    }
    let leader = command.leader;
    if !partition.replicas.contains(&leader) {
        return Err(Rejected::NotReplica(leader));
    }
    if partition.leader == Some(leader) {
        return Err(Rejected::AlreadyLeader(leader));
    }
    if !is_active(&image.brokers, leader) {
        return Err(Rejected::NotActive(leader));
    }
    let in_sync = partition.isr.contains(&leader);
    if !in_sync && command.election == Election::Clean {
        return Err(Rejected::NotInIsr(leader));
    }
    if partition.leader_epoch.next().is_none() {
        return Err(Rejected::Exhausted("leader epochs"));
    }
    change(image, command.partition, |partition| {
        if !in_sync {
            partition.isr = vec![leader];
            partition.recovery = Recovery::Recovering;
        }
        elect(partition, Some(leader));
    })
}

fn find(image: &Image, at: TopicPartition) -> Result<&Arc<Partition>, Rejected> {
    let topic = image.topic(at.topic).ok_or(Rejected::UnknownTopic)?;
    topic.partition(at.partition).ok_or(Rejected::UnknownPartition)
}

fn change(
    image: &mut Image,
    at: TopicPartition,
    change: impl FnOnce(&mut Partition),
) -> Result<Outcome, Rejected> {
    let topic = Arc::make_mut(image.topics.get_mut(&at.topic).ok_or(Rejected::UnknownTopic)?);
    let index = usize::try_from(at.partition.0).map_err(|_| Rejected::UnknownPartition)?;
    let partition = Arc::make_mut(topic.partitions.get_mut(index).ok_or(Rejected::UnknownPartition)?);
    change(partition);
    partition.epoch = partition.epoch.next();
    Ok(Outcome::Partition(partition.epoch))
}

/// Changes all partitions for which `wanted` holds, raising the epoch of each.
pub(super) fn change_where(
    image: &mut Image,
    wanted: impl Fn(&Partition) -> bool,
    mut change: impl FnMut(&mut Partition),
) {
    image.topics.change_where(
        |topic| topic.partitions.iter().any(|partition| wanted(partition)),
        |topic| {
            let topic = Arc::make_mut(topic);
            for partition in topic.partitions.iter_mut().filter(|partition| wanted(partition)) {
                let partition = Arc::make_mut(partition);
                change(partition);
                partition.epoch = partition.epoch.next();
            }
        },
    );
}

/// The clean choice: the first of the replicas, as they are listed, that is in sync and active.
pub(super) fn lead_from(partition: &Partition, active: impl Fn(BrokerId) -> bool) -> Option<BrokerId> {
    partition.replicas.iter().copied().find(|broker| partition.isr.contains(broker) && active(*broker))
}

/// Sets who leads, under a new leader epoch. A partition whose leader epochs are used up has no leader ever after: two leaders
/// under one epoch would be worse.
pub(super) fn elect(partition: &mut Partition, leader: Option<BrokerId>) {
    match partition.leader_epoch.next() {
        Some(epoch) => {
            partition.leader_epoch = epoch;
            partition.leader = leader;
        }
        None => partition.leader = None,
    }
}
