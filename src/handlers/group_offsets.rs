//! OffsetCommit, OffsetFetch, OffsetDelete: how far a group has read.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{LeaderEpoch, PartitionIndex, TopicId};
use aquifer_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use aquifer_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use aquifer_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use aquifer_protocol::{ErrorCode, Str};
use uuid::Uuid;

use super::context::Context;
use super::{errors, topics_by};
use crate::groups::book::{Commit, Committer};
use crate::groups::error::GroupError;
use crate::groups::positions::Positions;
use crate::metadata::Image;
use crate::metadata::image::Topic;

/// From here on topics are named by id.
const VERSION_TOPIC_IDS: i16 = 10;
/// From here on many groups are asked for at once.
const VERSION_MANY_GROUPS: i16 = 8;
/// From here on members whose coordinator assigns say their epoch.
const VERSION_MEMBER_EPOCHS: i16 = 9;
/// From here on a group that is not there has an error of its own.
const VERSION_GROUP_NOT_FOUND: i16 = 9;

/// Stores positions.
pub(crate) async fn commit(
    context: Arc<Context>,
    request: OffsetCommitRequest,
    version: i16,
) -> OffsetCommitResponse {
    let image = context.metadata.image();
    let mut commits = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for wanted in &request.topics {
        let topic = if version >= VERSION_TOPIC_IDS {
            topics_by::by_id(&image, wanted.topic_id)
        } else {
            topics_by::by_name(&image, &wanted.name)
        };
        let judged = wanted.partitions.iter().map(|partition| {
            let error_code = match topic {
                Err(error) => error,
                Ok(topic) if !has_partition(topic, partition.partition_index) => {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                }
                Ok(topic) => {
                    commits.push(commit_of(topic, partition));
                    ErrorCode::NONE
                }
            };
            OffsetCommitResponsePartition { partition_index: partition.partition_index, error_code }
        });
        topics.push(OffsetCommitResponseTopic {
            partitions: judged.collect(),
            name: wanted.name.clone(),
            topic_id: wanted.topic_id,
        });
    }
    if !commits.is_empty() {
        let kept = keep(&context, &request, commits, version).await;
        let sound = topics
            .iter_mut()
            .flat_map(|topic| &mut topic.partitions)
            .filter(|partition| partition.error_code == ErrorCode::NONE);
        for (index, partition) in sound.enumerate() {
            partition.error_code = kept.of(index);
        }
    }
    OffsetCommitResponse { topics, ..OffsetCommitResponse::default() }
}

fn has_partition(topic: &Topic, partition: i32) -> bool {
    topic.partition(PartitionIndex(partition)).is_some()
}

fn commit_of(topic: &Topic, partition: &OffsetCommitRequestPartition) -> Commit {
    Commit {
        topic: Str::from(topic.name.as_str()),
        topic_id: topic.id,
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: LeaderEpoch::new(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.as_ref().map_or(Str::EMPTY, Str::detached),
    }
}

/// What became of some positions: one thing for all, or each its own.
enum Kept {
    All(ErrorCode),
    Each(Vec<ErrorCode>),
}

impl Kept {
    fn of(&self, index: usize) -> ErrorCode {
        match self {
            Kept::All(code) => *code,
            Kept::Each(codes) => codes.get(index).copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
        }
    }
}

async fn keep(context: &Context, request: &OffsetCommitRequest, commits: Vec<Commit>, version: i16) -> Kept {
    let group = request.group_id.detached();
    let committer = Committer {
        member_id: request.member_id.detached(),
        instance: request.group_instance_id.as_ref().map(Str::detached),
        generation: request.generation_id_or_member_epoch,
        knows_epochs: version >= VERSION_MEMBER_EPOCHS,
        retention: u64::try_from(request.retention_time_ms).ok().map(Duration::from_millis),
    };
    let shard = match context.groups.shard_of(&group) {
        Ok(shard) => shard,
        Err(error) => return Kept::All(errors::of_unavailable(&error)),
    };
    let kept = shard.ask(move |book, now, effects| {
        let is_known = book.positions(&group).is_some();
        (is_known, book.commit(&group, &committer, commits, now, effects))
    });
    match kept.await {
        Err(error) => Kept::All(errors::of_unavailable(&error)),
        Ok((false, Err(GroupError::IllegalGeneration))) if version >= VERSION_GROUP_NOT_FOUND => {
            Kept::All(ErrorCode::GROUP_ID_NOT_FOUND)
        }
        Ok((_, Err(error))) => {
            if error == GroupError::TooManyGroups {
                context.groups.metrics().groups_refused.inc();
            }
            Kept::All(errors::of_group(error))
        }
        Ok((_, Ok(each))) => {
            if each.contains(&Err(GroupError::PositionTooLarge)) {
                context.groups.metrics().records_refused.inc();
            }
            Kept::Each(each.into_iter().map(errors::of_outcome).collect())
        }
    }
}

/// Tells positions.
pub(crate) async fn fetch(
    context: Arc<Context>,
    request: OffsetFetchRequest,
    version: i16,
) -> OffsetFetchResponse {
    if version >= VERSION_MANY_GROUPS {
        let mut groups = Vec::new();
        // One answer for each is all that a client can tell apart, however often it asks.
        let mut named = HashSet::new();
        for wanted in request.groups.into_iter().filter(|wanted| named.insert(wanted.group_id.clone())) {
            groups.push(fetch_group(&context, wanted, version).await);
        }
        return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
    }
    let topics = request.topics.map(|topics| {
        let asked = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            topic_id: Uuid::nil(),
            partition_indexes: topic.partition_indexes,
        });
        asked.collect()
    });
    let wanted = OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() };
    let found = fetch_group(&context, wanted, VERSION_MANY_GROUPS).await;
    OffsetFetchResponse {
        error_code: found.error_code,
        topics: found.topics.into_iter().map(|topic| one_group_topic(topic, found.error_code)).collect(),
        ..OffsetFetchResponse::default()
    }
}

/// Version 1 has errors with partitions alone.
fn one_group_topic(topic: OffsetFetchResponseTopics, error_code: ErrorCode) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: if error_code == ErrorCode::NONE { partition.error_code } else { error_code },
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
}

async fn fetch_group(
    context: &Context,
    wanted: OffsetFetchRequestGroup,
    version: i16,
) -> OffsetFetchResponseGroup {
    let image = context.metadata.image();
    let group_id = wanted.group_id;
    let member = wanted.member_id.as_ref().map(Str::detached);
    let epoch = wanted.member_epoch;
    let found = match context.groups.shard_of(&group_id) {
        Ok(shard) => {
            let (image, group, topics) = (image.clone(), group_id.clone(), wanted.topics.clone());
            // Looked up where they are: to copy all positions of a group for each question would cost the others their turn.
            shard
                .ask(move |book, _, _| {
                    let none = Positions::default();
                    let positions = book.positions(&group).unwrap_or(&none);
                    book.check_fetch(&group, member.as_ref(), epoch)?;
                    Ok(told(&image, positions, topics, version))
                })
                .await
        }
        Err(error) => Err(error),
    };
    let (topics, error_code) = match found {
        Ok(Ok(topics)) => (topics, ErrorCode::NONE),
        Ok(Err(error)) => (Vec::new(), errors::of_group(error)),
        Err(error) => {
            (told(&image, &Positions::default(), wanted.topics, version), errors::of_unread(&error))
        }
    };
    OffsetFetchResponseGroup { group_id, topics, error_code }
}

fn told(
    image: &Image,
    positions: &Positions,
    topics: Option<Vec<OffsetFetchRequestTopics>>,
    version: i16,
) -> Vec<OffsetFetchResponseTopics> {
    match topics {
        Some(topics) => topics.into_iter().map(|topic| asked(image, positions, topic, version)).collect(),
        None => all(image, positions, version),
    }
}

fn asked(
    image: &Image,
    positions: &Positions,
    wanted: OffsetFetchRequestTopics,
    version: i16,
) -> OffsetFetchResponseTopics {
    // What was stored under a name is told under it, whether or not there still is such a topic.
    let name = if version >= VERSION_TOPIC_IDS {
        topics_by::by_id(image, wanted.topic_id).map(|topic| Str::from(topic.name.as_str()))
    } else {
        Ok(wanted.name.clone())
    };
    let partitions = wanted.partition_indexes.into_iter().map(|index| match &name {
        Ok(name) => position(image, positions, name, index),
        Err(error) => OffsetFetchResponsePartitions { error_code: *error, ..none(index) },
    });
    OffsetFetchResponseTopics {
        partitions: partitions.collect(),
        name: name.unwrap_or(wanted.name),
        topic_id: wanted.topic_id,
    }
}

fn all(image: &Image, positions: &Positions, version: i16) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (name, index, value) in positions.all() {
        let topic_id = image.topic_named(name).map_or(Uuid::nil(), |topic| topic.id.uuid());
        if version >= VERSION_TOPIC_IDS && topic_id.is_nil() {
            // It cannot be named.
            continue;
        }
        if value.topic_id.is_some_and(|id| !topic_id.is_nil() && id.uuid() != topic_id) {
            continue;
        }
        if topics.last().is_none_or(|last| last.name != *name) {
            topics.push(OffsetFetchResponseTopics { name: name.clone(), topic_id, partitions: Vec::new() });
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(position(image, positions, name, index));
        }
    }
    topics
}

fn position(image: &Image, positions: &Positions, topic: &str, index: i32) -> OffsetFetchResponsePartitions {
    // One in a topic that had the name before says nothing of the one that has it now.
    let is_of = |id: TopicId| image.topic_named(topic).is_none_or(|topic| topic.id == id);
    match positions.get(topic, index).filter(|value| value.topic_id.is_none_or(is_of)) {
        None => none(index),
        Some(value) => OffsetFetchResponsePartitions {
            committed_offset: value.offset,
            committed_leader_epoch: value.leader_epoch.map_or(-1, LeaderEpoch::get),
            metadata: Some(value.metadata.clone()),
            ..none(index)
        },
    }
}

fn none(index: i32) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::EMPTY),
        error_code: ErrorCode::NONE,
    }
}

/// Takes positions back.
pub(crate) async fn delete(context: Arc<Context>, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = request.group_id.detached();
    let image = context.metadata.image();
    let is_known =
        |name: &str, index: i32| image.topic_named(name).is_some_and(|topic| has_partition(topic, index));
    let named = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.name.clone(), partition.partition_index))
    });
    let known = named.filter(|(name, index)| is_known(name, *index));
    let partitions: Vec<(Str, i32)> = known.map(|(name, index)| (name.detached(), index)).collect();
    let answer = match context.groups.shard_of(&group) {
        Ok(shard) => {
            shard.ask(move |book, _, effects| book.delete_positions(&group, &partitions, effects)).await
        }
        Err(error) => Err(error),
    };
    let mut codes = match answer {
        Ok(Ok(each)) => each.into_iter().map(errors::of_outcome),
        Ok(Err(error)) => {
            let error_code = errors::of_group(error);
            return OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() };
        }
        Err(error) => {
            let error_code = errors::of_unavailable(&error);
            return OffsetDeleteResponse { error_code, ..OffsetDeleteResponse::default() };
        }
    };
    let topics = request.topics.into_iter().map(|topic| OffsetDeleteResponseTopic {
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: if is_known(&topic.name, partition.partition_index) {
                    codes.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR)
                } else {
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                },
            })
            .collect(),
        name: topic.name,
    });
    OffsetDeleteResponse { topics: topics.collect(), ..OffsetDeleteResponse::default() }
}
