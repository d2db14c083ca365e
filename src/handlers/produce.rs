//! Produce: append batches to partitions.
//!
//! All appends happen while the request is started, mostly without a wait; what is left is the wait for acknowledgement, during
//! which the connection may start the next request. That keeps the order of what one client sends and overlaps its waits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::batch::BatchHeader;
use aquifer_model::compression::Compression;
use aquifer_protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData,
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use aquifer_protocol::{ApiKey, ErrorCode, Str};
use bytes::Bytes;
use tokio::time::Instant;

use super::cluster::leader_of;
use super::context::Context;
use super::errors;
use super::topics_by;
use crate::groups::coordinator::is_internal;
use crate::log;
use crate::metadata::Image;
use crate::metadata::image::Topic;
use crate::replica::error::AppendError;
use crate::replica::{Acknowledged, Acks, Replica};

/// The first version that this broker serves; older ones are answered with `UNSUPPORTED_VERSION`.
const VERSION_MIN: i16 = 3;
/// From here on topics are named by id.
const VERSION_TOPIC_IDS: i16 = 13;
/// From here on an answer says who leads instead (KIP-951).
const VERSION_LEADER: i16 = 10;
/// Before this a client may not know zstd.
const VERSION_ZSTD: i16 = 7;

/// A request whose appends have happened.
pub(crate) struct Started {
    response: ProduceResponse,
    waits: Vec<Wait>,
    deadline: Instant,
    acks: Result<Acks, ErrorCode>,
}

struct Wait {
    replica: Arc<Replica>,
    records: Acknowledged,
    topic: usize,
    partition: usize,
}

/// Appends what the request brings.
pub(crate) async fn start(context: &Context, request: ProduceRequest, version: i16) -> Started {
    let acks = match request.acks {
        _ if version < VERSION_MIN => Err(ErrorCode::UNSUPPORTED_VERSION),
        0 => Ok(Acks::None),
        1 => Ok(Acks::Leader),
        -1 => Ok(Acks::All),
        _ => Err(ErrorCode::INVALID_REQUIRED_ACKS),
    };
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut started = Started {
        response: ProduceResponse::default(),
        waits: Vec::new(),
        deadline: context.world.clock.now() + timeout,
        acks,
    };
    let image = context.metadata.image();
    let append = Appending {
        context,
        image: &image,
        version,
        acks,
        transactional: request.transactional_id.is_some(),
    };
    for topic_data in last_of_each(request.topic_data) {
        let topic = if version >= VERSION_TOPIC_IDS {
            topics_by::by_id(&image, topic_data.topic_id)
        } else {
            topics_by::by_name(&image, &topic_data.name)
        };
        let mut answer = TopicProduceResponse {
            name: topic_data.name,
            topic_id: topic_data.topic_id,
            ..TopicProduceResponse::default()
        };
        for data in topic_data.partition_data {
            let (response, wait) = append.partition(topic, data).await;
            if let Some((replica, records)) = wait {
                let (topic, partition) = (started.response.responses.len(), answer.partition_responses.len());
                started.waits.push(Wait { replica, records, topic, partition });
            }
            answer.partition_responses.push(response);
        }
        started.response.responses.push(answer);
    }
    append.add_endpoints(&mut started.response);
    started
}

/// Of a partition that is named more than once, the last counts and is the only one that is answered, as in Kafka.
fn last_of_each(mut topics: Vec<TopicProduceData>) -> Vec<TopicProduceData> {
    if let [topic] = &topics[..]
        && topic.partition_data.len() <= 1
    {
        return topics;
    }
    let mut named = HashSet::new();
    for topic in topics.iter_mut().rev() {
        let TopicProduceData { name, topic_id, partition_data, .. } = topic;
        partition_data.reverse();
        partition_data.retain(|data| named.insert((name.clone(), *topic_id, data.index)));
        partition_data.reverse();
    }
    topics.retain(|topic| !topic.partition_data.is_empty());
    topics
}

impl Started {
    /// What is answered at once: with `acks=0` nothing, and an error ends the connection, which is all that such a producer can
    /// notice. `Err` gives that error's words.
    pub(crate) fn unacknowledged(&self) -> Option<Result<(), String>> {
        if self.acks != Ok(Acks::None) {
            return None;
        }
        let failed = self.response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let failed = failed.into_iter().find(|partition| !partition.error_code.is_none());
        Some(match failed {
            None => Ok(()),
            Some(partition) => Err(partition.error_code.to_string()),
        })
    }

    /// Says in the answer how long its client is throttled.
    pub(crate) fn throttle(&mut self, millis: i32) {
        self.response.throttle_time_ms = millis;
    }

    /// Whether there is nothing to wait for.
    pub(crate) fn is_done(&self) -> bool {
        self.waits.is_empty()
    }

    /// The answer, for a request that waits for nothing.
    pub(crate) fn into_response(self) -> ProduceResponse {
        self.response
    }

    /// Waits until everything is acknowledged or time is up: for one partition after the other, since the answer waits for the last of
    /// them whatever their order, and one sync moves many. One that was acknowledged and lost before its turn came is refused,
    /// which a producer may be told at any time.
    pub(crate) async fn finish(mut self, context: Arc<Context>) -> ProduceResponse {
        for wait in &self.waits {
            if let Err(error) = wait.replica.acknowledged(&wait.records, self.deadline).await {
                let partition = &mut self.response.responses[wait.topic].partition_responses[wait.partition];
                partition.error_code = errors::of_ack(error);
                context.metrics.note(ApiKey::Produce, partition.error_code);
                partition.error_message = errors::message(&error);
                partition.base_offset = -1;
                partition.log_append_time_ms = -1;
            }
        }
        self.response
    }
}

struct Appending<'a> {
    context: &'a Context,
    image: &'a Image,
    version: i16,
    acks: Result<Acks, ErrorCode>,
    transactional: bool,
}

type Waiting = Option<(Arc<Replica>, Acknowledged)>;

impl Appending<'_> {
    async fn partition(
        &self,
        topic: Result<&Arc<Topic>, ErrorCode>,
        data: PartitionProduceData,
    ) -> (PartitionProduceResponse, Waiting) {
        let index = data.index;
        let checked = self.acks.and_then(|acks| {
            let topic = topic?;
            if is_internal(&topic.name) {
                return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
            }
            let replica = topics_by::replica(self.context, topic, index)?;
            let records = data.records.into_bytes();
            self.check_batch(&records)?;
            Ok((acks, replica, records))
        });
        let (acks, replica, records) = match checked {
            Ok(checked) => checked,
            Err(code) => return (self.refused(topic, index, code, None), None),
        };
        match replica.append(records, acks).await {
            Ok(records) => {
                let response = PartitionProduceResponse {
                    index,
                    base_offset: records.appended.base.get(),
                    log_append_time_ms: records.appended.log_append_time.map_or(-1, |time| time.0),
                    log_start_offset: records.appended.log_start.get(),
                    ..PartitionProduceResponse::default()
                };
                let wait = (acks == Acks::All).then_some((replica, records));
                (response, wait)
            }
            Err(error) => {
                let mut response =
                    self.refused(topic, index, errors::of_append(&error), errors::message(&error));
                response.record_errors = record_errors(&error);
                response.log_start_offset = replica.log().offsets().start.get();
                (response, None)
            }
        }
    }

    /// What depends on the request rather than on the log.
    fn check_batch(&self, records: &Bytes) -> Result<(), ErrorCode> {
        if records.is_empty() {
            return Err(ErrorCode::INVALID_RECORD);
        }
        // A header that cannot be read is refused by the log, which says why.
        let Ok(header) = BatchHeader::parse(records) else { return Ok(()) };
        if self.transactional || header.is_transactional() {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        if self.version < VERSION_ZSTD && header.compression() == Compression::Zstd {
            return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
        }
        Ok(())
    }

    fn refused(
        &self,
        topic: Result<&Arc<Topic>, ErrorCode>,
        index: i32,
        error_code: ErrorCode,
        error_message: Option<Str>,
    ) -> PartitionProduceResponse {
        self.context.metrics.note(ApiKey::Produce, error_code);
        let mut response = PartitionProduceResponse {
            index,
            error_code,
            error_message,
            base_offset: -1,
            ..PartitionProduceResponse::default()
        };
        if error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER
            && self.version >= VERSION_LEADER
            && let Ok(topic) = topic
            && let Some((leader, epoch)) = leader_of(topic, index)
        {
            response.current_leader = LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: epoch.get() };
        }
        response
    }

    /// Where the leaders are that the answer names in place of this broker (KIP-951).
    fn add_endpoints(&self, response: &mut ProduceResponse) {
        let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let leaders = partitions.map(|partition| partition.current_leader.leader_id);
        let mut leaders: Vec<i32> = leaders.filter(|leader| *leader >= 0).collect();
        if leaders.is_empty() {
            return;
        }
        leaders.sort_unstable();
        leaders.dedup();
        for (id, endpoint, rack) in super::cluster::endpoints(self.image, &leaders) {
            response.node_endpoints.push(NodeEndpoint {
                node_id: id.0,
                host: Str::from(endpoint.host.as_str()),
                port: i32::from(endpoint.port),
                rack: rack.map(Str::from),
            });
        }
    }
}

/// The records that are to blame, for errors that name some.
fn record_errors(error: &AppendError) -> Vec<BatchIndexAndErrorMessage> {
    let AppendError::Log(error) = error else { return Vec::new() };
    let named: &[log::TimestampIssue] = match error {
        log::AppendError::Timestamp { errors } => errors,
        log::AppendError::Invalid(_)
        | log::AppendError::TooLarge { .. }
        | log::AppendError::SegmentTooLarge { .. }
        | log::AppendError::Batch(_)
        | log::AppendError::OutOfOrderSequence { .. }
        | log::AppendError::ProducerFenced { .. }
        | log::AppendError::StaleEpoch { .. }
        | log::AppendError::Full
        | log::AppendError::Failed
        | log::AppendError::Corrupt(_)
        | log::AppendError::Closed => &[],
    };
    named
        .iter()
        .map(|record| BatchIndexAndErrorMessage {
            batch_index: i32::try_from(record.index).unwrap_or(i32::MAX),
            batch_index_error_message: errors::message(&format_args!(
                "timestamp {} is out of bounds",
                record.timestamp
            )),
        })
        .collect()
}
