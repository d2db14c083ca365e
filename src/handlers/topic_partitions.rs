//! DescribeTopicPartitions: topics page by page, so that no answer grows with the cluster.

use std::collections::BTreeSet;

use aquifer_model::TopicName;
use aquifer_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use aquifer_protocol::messages::metadata::MetadataResponsePartition;
use aquifer_protocol::{ErrorCode, Str};

use super::cluster::{TOPIC_OPERATIONS, described_partition};
use super::context::Context;
use super::topics_by;
use crate::groups::coordinator::is_internal;
use crate::metadata::Image;
use crate::metadata::image::Topic;

/// Describes topics in the order of their names, from the cursor on, up to as many partitions as an answer may have.
pub(crate) fn describe(
    context: &Context,
    request: &DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    if !is_sound(request) {
        return refused(request);
    }
    let image = context.metadata.image();
    let from =
        request.cursor.as_ref().map_or(("", 0), |cursor| (&*cursor.topic_name, cursor.partition_index));
    // None named is all.
    let names: BTreeSet<&str> = if request.topics.is_empty() {
        image.topics().map(|topic| topic.name.as_str()).collect()
    } else {
        request.topics.iter().map(|topic| &*topic.name).collect()
    };
    let limit = usize::try_from(context.config().broker().topics.described_max).unwrap_or(usize::MAX);
    let asked = usize::try_from(request.response_partition_limit).unwrap_or(1);
    page(&image, names.range(from.0..).copied(), from, asked.min(limit).max(1))
}

/// The cursor must be one that an answer could have given.
fn is_sound(request: &DescribeTopicPartitionsRequest) -> bool {
    request.cursor.as_ref().is_none_or(|cursor| {
        let is_named = || request.topics.iter().any(|topic| topic.name == cursor.topic_name);
        cursor.partition_index >= 0 && (request.topics.is_empty() || is_named())
    })
}

fn refused(request: &DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.iter().map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::INVALID_REQUEST,
        name: Some(topic.name.clone()),
        ..DescribeTopicPartitionsResponseTopic::default()
    });
    DescribeTopicPartitionsResponse { topics: topics.collect(), ..DescribeTopicPartitionsResponse::default() }
}

fn page<'a>(
    image: &Image,
    names: impl Iterator<Item = &'a str>,
    (first, index): (&str, i32),
    limit: usize,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for name in names {
        if left == 0 {
            response.next_cursor = Some(Cursor { topic_name: Str::from(name), partition_index: 0 });
            break;
        }
        let topic = match topics_by::by_name(image, name) {
            Ok(topic) => topic,
            Err(unknown) => {
                let error_code =
                    if TopicName::new(name).is_err() { ErrorCode::INVALID_TOPIC_EXCEPTION } else { unknown };
                response.topics.push(DescribeTopicPartitionsResponseTopic {
                    error_code,
                    name: Some(Str::from(name)),
                    is_internal: is_internal(name),
                    topic_authorized_operations: TOPIC_OPERATIONS,
                    ..DescribeTopicPartitionsResponseTopic::default()
                });
                continue;
            }
        };
        let start = if name == first { usize::try_from(index).unwrap_or(0) } else { 0 };
        let end = topic.partitions.len().min(start.saturating_add(left));
        response.topics.push(described(image, topic, start..end));
        left -= end.saturating_sub(start);
        if end < topic.partitions.len() {
            let partition_index = i32::try_from(end).unwrap_or(i32::MAX);
            response.next_cursor = Some(Cursor { topic_name: Str::from(name), partition_index });
            break;
        }
    }
    response
}

fn described(
    image: &Image,
    topic: &Topic,
    range: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = topic.indexed().take(range.end).skip(range.start);
    let partitions = partitions.map(|(index, partition)| {
        let MetadataResponsePartition {
            // This answer has an error for a topic alone: a partition without a leader says so by its leader.
            error_code: _,
            partition_index,
            leader_id,
            leader_epoch,
            replica_nodes,
            isr_nodes,
            offline_replicas,
        } = described_partition(image, partition, index.0);
        DescribeTopicPartitionsResponsePartition {
            error_code: ErrorCode::NONE,
            partition_index,
            leader_id,
            leader_epoch,
            replica_nodes,
            isr_nodes,
            // Nobody keeps them here. Null would say so, but it fails in the Java client.
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas,
        }
    });
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(Str::from(topic.name.as_str())),
        topic_id: topic.id.uuid(),
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}
