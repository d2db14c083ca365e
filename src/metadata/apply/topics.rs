//! Topics come, grow and go.

use std::sync::Arc;

use aquifer_model::format::Tags;
use aquifer_model::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use uuid::Uuid;

use super::settings::check_configs;
use super::{PARTITIONS_MAX, REPLICAS_MAX, TOPIC_PARTITIONS_MAX, is_active};
use crate::metadata::command::{CreatePartitions, CreateTopic, DeleteTopic, Remains};
use crate::metadata::ids::PartitionEpoch;
use crate::metadata::image::{DeletedTopic, Image, Partition, Recovery, Topic, repeats};
use crate::metadata::verdict::{Outcome, Rejected};

pub(super) fn create(image: &mut Image, command: &CreateTopic) -> Result<Outcome, Rejected> {
    if let Some((known, id)) = image.topic_colliding(&command.name) {
        let same = known.name() == &command.name;
        return Err(if same {
            Rejected::TopicExists(id)
        } else {
            Rejected::NameCollides(known.name().clone())
        });
    }
    let id = command.id;
    // Kafka keeps 1 for its metadata log.
    let reserved = [TopicId::ZERO, TopicId::new(Uuid::from_u128(1))];
    if reserved.contains(&id) || image.topic(id).is_some() || image.deleted.get(&id).is_some() {
        return Err(Rejected::TopicIdTaken);
    }
    check_configs(&command.configs)?;
    let partitions = new_partitions(image, 0, &command.partitions)?;
    let configs = Arc::new(command.configs.clone());
    let name = command.name.clone();
    let topic = Topic { id, name, revision: 0, partitions, configs, unknown: Tags::default() };
    let inserted = image.insert_topic(Arc::new(topic));
    assert!(inserted, "a topic whose name and id were just found free is inserted");
    Ok(Outcome::Done)
}

pub(super) fn create_partitions(image: &mut Image, command: &CreatePartitions) -> Result<Outcome, Rejected> {
    let existing = image.topic(command.topic).ok_or(Rejected::UnknownTopic)?.partitions.len();
    if existing != command.existing {
        return Err(Rejected::PartitionCountChanged { existing });
    }
    let added = new_partitions(image, existing, &command.added)?;
    image.partitions += added.len();
    let topic = image.topics.get_mut(&command.topic).ok_or(Rejected::UnknownTopic)?;
    let topic = Arc::make_mut(topic);
    topic.partitions.extend(added);
    topic.revision += 1;
    Ok(Outcome::Done)
}

fn new_partitions(
    image: &Image,
    existing: usize,
    replicas: &[Vec<BrokerId>],
) -> Result<Vec<Arc<Partition>>, Rejected> {
    let count = existing.saturating_add(replicas.len());
    if replicas.is_empty() || count > TOPIC_PARTITIONS_MAX {
        return Err(Rejected::InvalidPartitionCount { count, max: TOPIC_PARTITIONS_MAX });
    }
    if image.partitions + replicas.len() > PARTITIONS_MAX {
        return Err(Rejected::TooManyPartitions { max: PARTITIONS_MAX });
    }
    let indexes = (existing..).map(|index| PartitionIndex(i32::try_from(index).unwrap_or(i32::MAX)));
    indexes
        .zip(replicas)
        .map(|(index, replicas)| new_partition(image, index, replicas).map(Arc::new))
        .collect()
}

fn new_partition(image: &Image, index: PartitionIndex, replicas: &[BrokerId]) -> Result<Partition, Rejected> {
    if replicas.is_empty() || replicas.len() > REPLICAS_MAX || repeats(replicas) {
        return Err(Rejected::InvalidReplicas { partition: index, max: REPLICAS_MAX });
    }
    if let Some(unknown) = replicas.iter().find(|broker| image.broker(**broker).is_none()) {
        return Err(Rejected::UnknownBroker(*unknown));
    }
    let isr: Vec<BrokerId> =
        replicas.iter().copied().filter(|broker| is_active(&image.brokers, *broker)).collect();
    let leader = *isr.first().ok_or(Rejected::NoActiveReplica(index))?;
    Ok(Partition {
        replicas: replicas.to_vec(),
        isr,
        leader: Some(leader),
        leader_epoch: LeaderEpoch::ZERO,
        epoch: PartitionEpoch::ZERO,
        recovery: Recovery::Recovered,
        unknown: Tags::default(),
    })
}

pub(super) fn delete(image: &mut Image, command: &DeleteTopic) -> Result<Outcome, Rejected> {
    let topic = image.remove_topic(command.topic).ok_or(Rejected::UnknownTopic)?;
    match command.remains {
        Remains::Nothing => {}
        Remains::InTier => {
            let claim = |epoch: LeaderEpoch| epoch.next().unwrap_or(epoch);
            let claims = topic.partitions.iter().map(|partition| claim(partition.leader_epoch)).collect();
            let (id, name, revision) = (topic.id, topic.name.clone(), topic.revision + 1);
            let time = command.time;
            let deleted = DeletedTopic { id, name, revision, claims, time, unknown: Tags::default() };
            image.deleted.insert(id, Arc::new(deleted));
        }
    }
    Ok(Outcome::Done)
}

pub(super) fn forget(image: &mut Image, topic: TopicId) -> Result<Outcome, Rejected> {
    image.deleted.remove(&topic).map(|_| Outcome::Done).ok_or(Rejected::UnknownTopic)
}
