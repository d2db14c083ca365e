//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{LeaderEpoch, Offset, Timestamp};
use aquifer_protocol::messages::delete_records::{
    DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopicResult,
};
use aquifer_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};
use aquifer_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopicResult,
};
use aquifer_protocol::{ApiKey, ErrorCode, Str};
use futures::future::join_all;
use tokio::time::Instant;

use super::context::Context;
use super::errors;
use super::topics_by;
use crate::replica::error::ReadError;
use crate::replica::offsets::Lookup;
use crate::replica::read::Isolation;

/// The first version whose answers name the epoch.
const VERSION_EPOCH: i16 = 4;
/// The first version whose clients know that an offset may not be available yet (KIP-207).
const VERSION_NOT_AVAILABLE: i16 = 5;
/// The first version in which a client can name how long it waits.
const VERSION_TIMEOUT: i16 = 10;

/// Looks offsets up, by name or by time.
pub(crate) async fn list(
    context: Arc<Context>,
    mut request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let isolation =
        if request.isolation_level == 1 { Isolation::ReadCommitted } else { Isolation::ReadUncommitted };
    let limit = context.config().broker().fetch.list_offsets_timeout;
    let timeout = match u64::try_from(request.timeout_ms) {
        Ok(asked) if version >= VERSION_TIMEOUT && asked > 0 => Duration::from_millis(asked).min(limit),
        _ => limit,
    };
    let wait_until = context.world.clock.now() + timeout;
    let repeated = take_repeated(&mut request.topics);
    let topics = request.topics.iter().map(|topic| {
        let context = &context;
        async move {
            let partitions = topic.partitions.iter();
            let lookups = partitions
                .map(|wanted| look_up(context, &topic.name, wanted, isolation, version, wait_until));
            ListOffsetsTopicResponse { name: topic.name.clone(), partitions: join_all(lookups).await }
        }
    });
    let mut topics = join_all(topics).await;
    for (name, partition_index) in repeated {
        let error_code = ErrorCode::INVALID_REQUEST;
        context.metrics.note(ApiKey::ListOffsets, error_code);
        let answer = ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() };
        match topics.last_mut() {
            Some(topic) if topic.name == name => topic.partitions.push(answer),
            _ => topics.push(ListOffsetsTopicResponse { name, partitions: vec![answer] }),
        }
    }
    ListOffsetsResponse { topics, ..ListOffsetsResponse::default() }
}

/// Takes out the partitions that are named more than once. Kafka refuses these, each once: nobody could tell whose the answer is.
fn take_repeated(topics: &mut Vec<ListOffsetsTopic>) -> BTreeSet<(Str, i32)> {
    let (mut named, mut repeated) = (HashSet::new(), BTreeSet::new());
    for topic in topics.iter() {
        for partition in &topic.partitions {
            let partition = (topic.name.clone(), partition.partition_index);
            if !named.insert(partition.clone()) {
                repeated.insert(partition);
            }
        }
    }
    if !repeated.is_empty() {
        for topic in topics.iter_mut() {
            let is_repeated = |partition: i32| repeated.contains(&(topic.name.clone(), partition));
            topic.partitions.retain(|partition| !is_repeated(partition.partition_index));
        }
        topics.retain(|topic| !topic.partitions.is_empty());
    }
    repeated
}

async fn look_up(
    context: &Context,
    topic: &str,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
    version: i16,
    wait_until: Instant,
) -> ListOffsetsPartitionResponse {
    let mut answer = ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        ..ListOffsetsPartitionResponse::default()
    };
    let image = context.metadata.image();
    let found = topics_by::by_name(&image, topic)
        .and_then(|topic| topics_by::replica(context, topic, wanted.partition_index))
        .and_then(|replica| {
            replica.check_leader(wanted.current_leader_epoch).map_err(|error| errors::of_role(&error))?;
            Ok(replica)
        })
        .and_then(|replica| Ok((replica, lookup_of(wanted.timestamp, isolation, version)?)));
    let (replica, lookup) = match found {
        Ok(found) => found,
        Err(code) => {
            answer.error_code = code;
            return answer;
        }
    };
    match replica.look_up(context.tier.as_ref(), lookup, wait_until).await {
        Ok(None) => {}
        Ok(Some(found)) => {
            answer.offset = found.offset.get();
            answer.timestamp = found.timestamp.map_or(-1, |timestamp| timestamp.0);
            if version >= VERSION_EPOCH {
                answer.leader_epoch = found.epoch.map_or(-1, LeaderEpoch::get);
            }
        }
        Err(ReadError::NotYet) if version < VERSION_NOT_AVAILABLE => {
            answer.error_code = ErrorCode::LEADER_NOT_AVAILABLE
        }
        // Unlike a Fetch, a lookup cannot be answered empty: that would say that there is no such record.
        Err(ReadError::Pending) => answer.error_code = ErrorCode::REQUEST_TIMED_OUT,
        Err(error) => answer.error_code = errors::of_read(&error),
    }
    context.metrics.note(ApiKey::ListOffsets, answer.error_code);
    answer
}

/// What a timestamp means; the negative ones came one by one.
fn lookup_of(timestamp: i64, isolation: Isolation, version: i16) -> Result<Lookup, ErrorCode> {
    let since = |version_min: i16, lookup| {
        if version >= version_min { Ok(lookup) } else { Err(ErrorCode::UNSUPPORTED_VERSION) }
    };
    match timestamp {
        -1 => Ok(Lookup::Latest(isolation)),
        -2 => Ok(Lookup::Earliest),
        -3 => since(7, Lookup::MaxTimestamp(isolation)),
        -4 => since(8, Lookup::EarliestLocal),
        -5 => since(9, Lookup::LatestTiered),
        -6 => since(11, Lookup::EarliestPendingUpload),
        time if time >= 0 => Ok(Lookup::At(Timestamp(time), isolation)),
        _ => Err(ErrorCode::INVALID_REQUEST),
    }
}

/// Says where leaders' epochs ended.
pub(crate) fn epoch_ends(
    context: &Context,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| OffsetForLeaderTopicResult {
        topic: topic.topic.clone(),
        partitions: topic.partitions.iter().map(|wanted| epoch_end(context, &topic.topic, wanted)).collect(),
    });
    OffsetForLeaderEpochResponse { topics: topics.collect(), ..OffsetForLeaderEpochResponse::default() }
}

fn epoch_end(context: &Context, topic: &str, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
    let mut answer = EpochEndOffset { partition: wanted.partition, ..EpochEndOffset::default() };
    let image = context.metadata.image();
    let end = topics_by::by_name(&image, topic)
        .and_then(|topic| topics_by::replica(context, topic, wanted.partition))
        .and_then(|replica| {
            replica.check_leader(wanted.current_leader_epoch).map_err(|error| errors::of_role(&error))?;
            Ok(LeaderEpoch::new(wanted.leader_epoch).and_then(|epoch| replica.log().epoch_end(epoch)))
        });
    match end {
        Err(code) => answer.error_code = code,
        Ok(None) => {}
        Ok(Some(end)) => {
            answer.leader_epoch = end.epoch.get();
            answer.end_offset = end.end.get();
        }
    }
    answer
}

/// Raises log starts.
pub(crate) async fn delete_records(
    context: Arc<Context>,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut result = DeleteRecordsTopicResult { name: topic.name, partitions: Vec::new() };
        for wanted in topic.partitions {
            let mut answer = DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark: -1,
                ..DeleteRecordsPartitionResult::default()
            };
            match delete_before(&context, &result.name, wanted.partition_index, wanted.offset).await {
                Ok(low_watermark) => answer.low_watermark = low_watermark.get(),
                Err(code) => answer.error_code = code,
            }
            result.partitions.push(answer);
        }
        response.topics.push(result);
    }
    response
}

async fn delete_before(
    context: &Context,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Offset, ErrorCode> {
    /// Stands for "all that is acknowledged".
    const HIGH_WATERMARK: i64 = -1;
    let image = context.metadata.image();
    let replica = topics_by::replica(context, topics_by::by_name(&image, topic)?, partition)?;
    let before = match offset {
        HIGH_WATERMARK => None,
        _ => Some(Offset::new(offset).ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)?),
    };
    replica.delete_records(before).await.map_err(|error| errors::of_delete_records(&error))
}
