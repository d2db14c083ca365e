//! From what a request calls a partition to its replica.

use std::sync::Arc;

use aquifer_model::{PartitionIndex, TopicId, TopicPartition};
use aquifer_protocol::ErrorCode;
use uuid::Uuid;

use super::context::Context;
use crate::metadata::Image;
use crate::metadata::image::Topic;
use crate::replica::Replica;

/// A topic by name; requests up to a version call it so.
pub(super) fn by_name<'a>(image: &'a Image, name: &str) -> Result<&'a Arc<Topic>, ErrorCode> {
    image.topic_named(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

/// A topic by id; newer requests call it so. One deleted and made again under its old name has another id.
pub(super) fn by_id(image: &Image, id: Uuid) -> Result<&Arc<Topic>, ErrorCode> {
    image.topic(TopicId::new(id)).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
}

/// The replica of a partition on this broker.
pub(super) fn replica(context: &Context, topic: &Topic, partition: i32) -> Result<Arc<Replica>, ErrorCode> {
    let partition = PartitionIndex(partition);
    if topic.partition(partition).is_none() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let id = TopicPartition { topic: topic.id, partition };
    match context.replicas.get(id) {
        Some(replica) => Ok(replica),
        None if context.replicas.is_unopened(id) => Err(ErrorCode::KAFKA_STORAGE_ERROR),
        // In the metadata, but not (or not yet) open here: the client asks again.
        None => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
    }
}
