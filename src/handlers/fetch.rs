//! Fetch: read batches, hot and cold in one answer.
//!
//! Partitions are served in the request's order (in the session's, where there is one). What is hot is read at once. What is
//! cold is asked of the bucket, all partitions side by side, and waited for at most `remote.fetch.max.wait.ms`; what has not
//! come by then is answered empty and without error while its load goes on. When nothing is cold, the answer waits until there
//! are `min_bytes` or `max_wait_ms` has passed.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, LeaderEpoch, TopicId, TopicName};
use aquifer_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchRequest, FetchResponse, FetchableTopicResponse,
    LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use aquifer_protocol::{ErrorCode, Records, Str};
use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::cluster::{endpoints, leader_of};
use super::context::Context;
use super::errors;
use super::fetch_session::{PartitionRef, Resolved, SessionRequest, Told, TopicRef, Wanted};
use super::topics_by;
use crate::log::AtLeast;
use crate::metadata::Image;
use crate::metadata::image::Topic;
use crate::replica::Replica;
use crate::replica::error::ReadError;
use crate::replica::read::{Batches, ColdRead, Found, Isolation, ReadRequest};

/// From here on topics are named by id.
const VERSION_TOPIC_IDS: i16 = 13;
/// From here on an answer says who leads instead, and where histories part.
const VERSION_LEADER: i16 = 12;
/// From here on it says where that leader is (KIP-951).
const VERSION_ENDPOINTS: i16 = 16;
/// A request that names this as its replica is a consumer's.
const CONSUMER: i32 = -1;
/// Kafka's tools may read as "debugging consumer".
const DEBUGGING_CONSUMER: i32 = -2;

/// Reads what the request asks for.
pub(crate) async fn handle(context: Arc<Context>, request: FetchRequest, version: i16) -> FetchResponse {
    let now = context.world.clock.now();
    let replica_id = if version >= 15 { request.replica_state.replica_id } else { request.replica_id };
    if replica_id != CONSUMER && replica_id != DEBUGGING_CONSUMER {
        // Only brokers replicate, and they will do so on a listener of their own.
        return top_level(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    }
    let fetch = Fetch::new(&request, now, &context);
    let resolved = match session_request(&request, version) {
        Ok(session) => context.sessions.lock().resolve(session, now),
        Err(code) => return top_level(code),
    };
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(error) => return top_level(errors::of_session(error)),
    };
    let image = context.metadata.image();
    let targets =
        resolved.wanted.iter().map(|(partition, wanted)| Target::find(&context, &image, partition, wanted));
    let targets: Vec<Target> = targets.collect();
    let answers = fetch.run(&context, &targets).await;
    assemble(&context, &image, &resolved, &targets, answers, version)
}

fn top_level(error_code: ErrorCode) -> FetchResponse {
    FetchResponse { error_code, ..FetchResponse::default() }
}

fn session_request(request: &FetchRequest, version: i16) -> Result<SessionRequest, ErrorCode> {
    let topic_ref = |name: &Str, id: uuid::Uuid| {
        if version >= VERSION_TOPIC_IDS {
            return Ok(TopicRef::Id(TopicId::new(id)));
        }
        TopicName::new(name).map(TopicRef::Name).map_err(|_| ErrorCode::INVALID_TOPIC_EXCEPTION)
    };
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let topic_ref = topic_ref(&topic.topic, topic.topic_id)?;
        for partition in &topic.partitions {
            let what = Wanted {
                fetch_offset: partition.fetch_offset,
                current_leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
                log_start_offset: partition.log_start_offset,
                bytes_max: partition.partition_max_bytes,
            };
            wanted.push((PartitionRef { topic: topic_ref.clone(), partition: partition.partition }, what));
        }
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let topic_ref = topic_ref(&topic.topic, topic.topic_id)?;
        forgotten.extend(
            topic.partitions.iter().map(|&partition| PartitionRef { topic: topic_ref.clone(), partition }),
        );
    }
    // Before version 7 there were no sessions; the fields then say (0, -1).
    Ok(SessionRequest { session_id: request.session_id, epoch: request.session_epoch, wanted, forgotten })
}

/// A partition to read.
struct Target {
    topic: Option<Arc<Topic>>,
    partition: i32,
    wanted: Wanted,
    replica: Result<Arc<Replica>, ErrorCode>,
}

impl Target {
    fn find(context: &Context, image: &Image, partition: &PartitionRef, wanted: &Wanted) -> Target {
        let topic = match &partition.topic {
            TopicRef::Name(name) => topics_by::by_name(image, name),
            TopicRef::Id(id) => topics_by::by_id(image, id.uuid()),
        };
        let replica = topic.and_then(|topic| {
            let replica = topics_by::replica(context, topic, partition.partition)?;
            let checked = replica.check_leader(wanted.current_leader_epoch);
            checked.map_err(|error| errors::of_role(&error))?;
            Ok(replica)
        });
        Target { topic: topic.ok().cloned(), partition: partition.partition, wanted: wanted.clone(), replica }
    }
}

/// What is answered for one partition.
#[derive(Default)]
struct Answer {
    error: ErrorCode,
    batches: Batches,
    diverging: Option<EpochEndOffset>,
}

/// A partition's read, so far.
enum Reading {
    Done(Answer),
    Cold(Arc<Replica>, ColdRead),
}

/// The limits of one request.
struct Fetch {
    isolation: Isolation,
    bytes_min: usize,
    bytes_max: ByteCount,
    deadline: Instant,
    cold_deadline: Instant,
}

impl Fetch {
    fn new(request: &FetchRequest, now: Instant, context: &Context) -> Fetch {
        let config = context.config();
        let fetch = &config.broker().fetch;
        let positive = |number: i32| u64::try_from(number).unwrap_or(0);
        let max_wait = Duration::from_millis(positive(request.max_wait_ms));
        Fetch {
            isolation: if request.isolation_level == 1 {
                Isolation::ReadCommitted
            } else {
                Isolation::ReadUncommitted
            },
            bytes_min: usize::try_from(request.min_bytes).unwrap_or(0),
            bytes_max: ByteCount(positive(request.max_bytes)).min(fetch.bytes_max),
            deadline: now + max_wait,
            cold_deadline: now + max_wait.min(fetch.cold_wait_max),
        }
    }

    async fn run(&self, context: &Context, targets: &[Target]) -> Vec<Answer> {
        loop {
            // Subscribe before reading: what arrives in between wakes the wait below.
            let mut marks: Vec<_> =
                targets.iter().filter_map(|target| target.replica.as_ref().ok().map(|r| r.marks())).collect();
            let readings = self.read(targets).await;
            if readings.iter().any(|reading| matches!(reading, Reading::Cold(..))) {
                return self.wait_for_cold(context, readings).await;
            }
            let answers: Vec<Answer> = readings.into_iter().filter_map(Reading::done).collect();
            let size: usize = answers.iter().map(|answer| answer.batches.size()).sum();
            let urgent = answers.iter().any(|answer| !answer.error.is_none() || answer.diverging.is_some());
            if size >= self.bytes_min || urgent || targets.is_empty() {
                return answers;
            }
            let mut changes: FuturesUnordered<_> = marks.iter_mut().map(|marks| marks.changed()).collect();
            if tokio::time::timeout_at(self.deadline, changes.next()).await.is_err() {
                return answers;
            }
        }
    }

    /// Reads what is hot, in order, and finds what is cold. Every cold partition is charged what it may bring.
    async fn read(&self, targets: &[Target]) -> Vec<Reading> {
        let mut left = self.bytes_max;
        let mut any = false;
        let mut readings = Vec::with_capacity(targets.len());
        for target in targets {
            let reading = match &target.replica {
                Err(code) => Reading::Done(Answer { error: *code, ..Answer::default() }),
                Ok(replica) => self.read_one(replica, &target.wanted, left, any).await,
            };
            let charged = match &reading {
                Reading::Done(answer) => answer.batches.size() as u64,
                Reading::Cold(..) => target.wanted.bytes_max.max(0) as u64,
            };
            any |= charged > 0;
            left = left.saturating_sub(ByteCount(charged));
            readings.push(reading);
        }
        readings
    }

    async fn read_one(&self, replica: &Arc<Replica>, wanted: &Wanted, left: ByteCount, any: bool) -> Reading {
        if let Some(epoch) = LeaderEpoch::new(wanted.last_fetched_epoch)
            && let Some(end) = replica.divergence(epoch, wanted.fetch_offset)
        {
            let diverging = Some(EpochEndOffset { epoch: end.epoch.get(), end_offset: end.start.get() });
            return Reading::Done(Answer { diverging, ..Answer::default() });
        }
        let request = ReadRequest {
            offset: wanted.fetch_offset,
            bytes_max: ByteCount(u64::try_from(wanted.bytes_max).unwrap_or(0)).min(left),
            at_least: if any { AtLeast::Nothing } else { AtLeast::OneBatch },
            isolation: self.isolation,
        };
        match replica.read(request).await {
            Ok(Found::Hot(batches)) => Reading::Done(Answer { batches, ..Answer::default() }),
            // What has no room left in this answer is not asked for: it is first in a later one.
            Ok(Found::Cold(_)) if left == ByteCount::ZERO => Reading::Done(Answer::default()),
            Ok(Found::Cold(cold)) => Reading::Cold(replica.clone(), cold),
            Err(error) => Reading::Done(failed(replica, &error)),
        }
    }

    async fn wait_for_cold(&self, context: &Context, readings: Vec<Reading>) -> Vec<Answer> {
        let answers = readings.into_iter().map(|reading| async {
            match reading {
                Reading::Done(answer) => answer,
                Reading::Cold(replica, cold) => {
                    match replica.read_cold(context.tier.as_ref(), cold, self.cold_deadline).await {
                        Ok(batches) => Answer { batches, ..Answer::default() },
                        Err(error) => failed(&replica, &error),
                    }
                }
            }
        });
        join_all(answers).await
    }
}

impl Reading {
    fn done(self) -> Option<Answer> {
        match self {
            Reading::Done(answer) => Some(answer),
            Reading::Cold(..) => None,
        }
    }
}

fn failed(replica: &Replica, error: &ReadError) -> Answer {
    let code = errors::of_read(error);
    match error {
        ReadError::Pending | ReadError::OutOfRange { .. } | ReadError::Role(_) => {}
        ReadError::Log(_) | ReadError::Tier(_) | ReadError::Manifest(_) | ReadError::NoTier { .. } => {
            tracing::warn!(partition = %replica.partition(), topic = %replica.topic(), %error, "fetch failed");
        }
    }
    Answer { error: code, ..Answer::default() }
}

fn assemble(
    context: &Context,
    image: &Image,
    resolved: &Resolved,
    targets: &[Target],
    answers: Vec<Answer>,
    version: i16,
) -> FetchResponse {
    let mut response = FetchResponse::default();
    let mut told_all = Vec::with_capacity(targets.len());
    let mut leaders = Vec::new();
    let mut sessions = context.sessions.lock();
    for (((partition, _), target), answer) in resolved.wanted.iter().zip(targets).zip(answers) {
        let (data, told) = partition_data(target, answer, version);
        told_all.push(told);
        if let Some(session) = resolved.incremental {
            let significant =
                !data.error_code.is_none() || !data.records.is_empty() || data.diverging_epoch.epoch >= 0;
            if !sessions.tell(session, partition, told, significant) {
                continue;
            }
        }
        if data.current_leader.leader_id >= 0 && version >= VERSION_ENDPOINTS {
            leaders.push(data.current_leader.leader_id);
        }
        push(&mut response.responses, &partition.topic, data);
    }
    response.session_id = match resolved.incremental {
        Some(id) => id,
        None => {
            let new_id = (context.world.rng.number() >> 33) as i32;
            sessions.open(resolved, &told_all, new_id, context.world.clock.now())
        }
    };
    drop(sessions);
    leaders.sort_unstable();
    leaders.dedup();
    for (id, endpoint, rack) in endpoints(image, &leaders) {
        response.node_endpoints.push(NodeEndpoint {
            node_id: id.0,
            host: Str::from(endpoint.host.as_str()),
            port: i32::from(endpoint.port),
            rack: rack.map(Str::from),
        });
    }
    response
}

fn partition_data(target: &Target, answer: Answer, version: i16) -> (PartitionData, Option<Told>) {
    let mut data = PartitionData {
        partition_index: target.partition,
        error_code: answer.error,
        high_watermark: -1,
        records: Records::EMPTY,
        ..PartitionData::default()
    };
    let elsewhere =
        [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::FENCED_LEADER_EPOCH].contains(&answer.error);
    if elsewhere && version >= VERSION_LEADER {
        let leader = target.topic.as_ref().and_then(|topic| leader_of(topic, target.partition));
        if let Some((leader, epoch)) = leader {
            data.current_leader = LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: epoch.get() };
        }
    }
    let Ok(replica) = &target.replica else { return (data, None) };
    let bounds = replica.bounds();
    data.high_watermark = bounds.high_watermark.get();
    data.last_stable_offset = bounds.last_stable.get();
    data.log_start_offset = bounds.log_start.get();
    // Null for readers who do not ask for it; for those who do, a list, even an empty one.
    data.aborted_transactions = answer.aborted_list();
    if let Some(diverging) = answer.diverging {
        data.diverging_epoch = diverging;
    }
    data.records = Records::from(answer.batches.slices);
    let told = Told { high_watermark: data.high_watermark, log_start_offset: data.log_start_offset };
    (data, answer.error.is_none().then_some(told))
}

impl Answer {
    fn aborted_list(&self) -> Option<Vec<AbortedTransaction>> {
        let mut aborted: Vec<AbortedTransaction> = self
            .batches
            .aborted
            .as_ref()?
            .iter()
            .map(|txn| AbortedTransaction { producer_id: txn.producer.0, first_offset: txn.first.get() })
            .collect();
        aborted.sort_unstable_by_key(|txn| txn.first_offset);
        Some(aborted)
    }
}

/// Partitions of one topic that follow each other share its entry.
fn push(responses: &mut Vec<FetchableTopicResponse>, topic: &TopicRef, data: PartitionData) {
    let (name, id) = match topic {
        TopicRef::Name(name) => (Str::from(name.as_str()), uuid::Uuid::nil()),
        TopicRef::Id(id) => (Str::EMPTY, id.uuid()),
    };
    match responses.last_mut() {
        Some(last) if last.topic == name && last.topic_id == id => last.partitions.push(data),
        _ => responses.push(FetchableTopicResponse { topic: name, topic_id: id, partitions: vec![data] }),
    }
}
