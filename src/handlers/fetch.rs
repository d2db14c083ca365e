//! Fetch: read batches, hot and cold in one answer.
//!
//! Here a request becomes partitions to read and what was read becomes an answer; sessions are in [`super::fetch_session`], the
//! reading is in [`super::fetch_gather`]. Partitions are served in the request's order, or in the session's where there is one.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, TopicId, TopicName};
use aquifer_protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchRequest, FetchResponse, FetchTopic,
    FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use aquifer_protocol::{ApiKey, Elsewhere, ErrorCode, Piece, Records, Str};
use tokio::time::Instant;

use super::answer_memory::Held;
use super::cluster::{endpoints, leader_of};
use super::context::Context;
use super::errors;
use super::fetch_gather::{Answer, Gathered, Gathering, Target};
use super::fetch_session::{PartitionRef, Resolved, SessionRequest, Told, TopicRef, Wanted};
use super::topics_by;
use crate::log::Stored;
use crate::metadata::Image;
use crate::quotas::charges::{Charges, FetchCharge};
use crate::replica::read::Isolation;

/// From here on an answer as a whole can be an error.
const VERSION_TOP_LEVEL_ERROR: i16 = 7;
/// From here on topics are named by id.
const VERSION_TOPIC_IDS: i16 = 13;
/// From here on an answer says who leads instead, and where histories part.
const VERSION_LEADER: i16 = 12;
/// From here on who asks is said in a field of its own (KIP-903).
const VERSION_REPLICA_STATE: i16 = 15;
/// From here on it says where that leader is (KIP-951).
const VERSION_ENDPOINTS: i16 = 16;
/// A request that names this as its replica is a consumer's.
const CONSUMER: i32 = -1;
/// Kafka's tools may read as "debugging consumer".
const DEBUGGING_CONSUMER: i32 = -2;

/// An answer, and the memory that is set aside for it until it has left.
pub(crate) struct Fetched {
    pub(crate) response: FetchResponse,
    pub(crate) memory: Option<Held>,
}

/// Reads what the request asks for.
pub(crate) async fn handle(
    context: Arc<Context>,
    request: FetchRequest,
    version: i16,
    charges: Option<Arc<Charges>>,
) -> Fetched {
    let now = context.world.clock.now();
    let replica_id =
        if version >= VERSION_REPLICA_STATE { request.replica_state.replica_id } else { request.replica_id };
    if replica_id != CONSUMER && replica_id != DEBUGGING_CONSUMER {
        // Only brokers replicate, and they will do so on a listener of their own.
        return refused(&request, ErrorCode::CLUSTER_AUTHORIZATION_FAILED, version);
    }
    let mut gathering = limits(&request, now, &context, charges.as_deref());
    let (session, nameless) = session_request(&request, version);
    let resolved = context.sessions.lock().resolve(session, now);
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(error) => return top_level(errors::of_session(error)),
    };
    if !nameless.is_empty() {
        // As with any other error, the answer waits for nothing.
        gathering.bytes_min = 0;
    }
    let image = context.metadata.image();
    let targets: Vec<Target> = resolved
        .wanted
        .iter()
        .map(|(partition, wanted)| target(&context, &image, partition, wanted))
        .collect();
    let Gathered { answers, memory } = gathering.run(&context, &targets).await;
    let mut rest = Duration::ZERO;
    if let Some(charges) = &charges {
        let size = answers.iter().map(|answer| answer.batches.size() as u64).sum();
        match charges.fetch(ByteCount(size), context.world.clock.now()) {
            FetchCharge::Send(after) => rest = after,
            FetchCharge::Withhold(before) => return withheld(&resolved, before),
        }
    }
    // The newest: an error may come from a change that the request has waited for.
    let image = context.metadata.image();
    let mut response = assemble(&context, &image, &resolved, &targets, answers, version);
    response.throttle_time_ms = millis(rest);
    response.responses.extend(nameless.into_iter().map(|topic| unknown(&context, topic)));
    Fetched { response, memory }
}

fn limits(request: &FetchRequest, now: Instant, context: &Context, charges: Option<&Charges>) -> Gathering {
    let config = context.config();
    let fetch = &config.broker().fetch;
    let positive = |number: i32| u64::try_from(number).unwrap_or(0);
    let max_wait = Duration::from_millis(positive(request.max_wait_ms)).min(fetch.wait_max);
    let quota_max = charges.and_then(Charges::fetch_bytes_max).unwrap_or(ByteCount(u64::MAX));
    let bytes_max = ByteCount(positive(request.max_bytes)).min(fetch.bytes_max).min(quota_max);
    Gathering {
        isolation: if request.isolation_level == 1 {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        },
        bytes_min: usize::try_from(positive(request.min_bytes).min(bytes_max.get())).unwrap_or(usize::MAX),
        bytes_max,
        deadline: now + max_wait,
        cold_deadline: now + max_wait.min(fetch.cold_wait_max),
    }
}

fn top_level(error_code: ErrorCode) -> Fetched {
    Fetched { response: FetchResponse { error_code, ..FetchResponse::default() }, memory: None }
}

/// Nothing of what was read, and when to ask again. A session goes on as if nothing had been there; none is opened.
fn withheld(resolved: &Resolved, rest: Duration) -> Fetched {
    let session_id = resolved.incremental.unwrap_or(0);
    let response = FetchResponse { session_id, throttle_time_ms: millis(rest), ..FetchResponse::default() };
    Fetched { response, memory: None }
}

fn millis(rest: Duration) -> i32 {
    i32::try_from(rest.as_millis()).unwrap_or(i32::MAX)
}

/// Before there were errors of a whole answer, every partition says it.
fn refused(request: &FetchRequest, error_code: ErrorCode, version: i16) -> Fetched {
    let mut refused = top_level(error_code);
    if version < VERSION_TOP_LEVEL_ERROR {
        let partition = |wanted: &FetchPartition| PartitionData {
            partition_index: wanted.partition,
            error_code,
            high_watermark: -1,
            records: Records::EMPTY,
            ..PartitionData::default()
        };
        let topic = |wanted: &FetchTopic| FetchableTopicResponse {
            topic: wanted.topic.clone(),
            partitions: wanted.partitions.iter().map(partition).collect(),
            ..FetchableTopicResponse::default()
        };
        refused.response.responses = request.topics.iter().map(topic).collect();
    }
    refused
}

/// A topic of a name that none can have is like any other that there is not.
fn unknown(context: &Context, topic: &FetchTopic) -> FetchableTopicResponse {
    let error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let partition = |wanted: &FetchPartition| {
        context.metrics.note(ApiKey::Fetch, error_code);
        PartitionData {
            partition_index: wanted.partition,
            error_code,
            high_watermark: -1,
            records: Records::EMPTY,
            ..PartitionData::default()
        }
    };
    FetchableTopicResponse {
        topic: topic.topic.clone(),
        partitions: topic.partitions.iter().map(partition).collect(),
        ..FetchableTopicResponse::default()
    }
}

/// What is asked of the session, and the topics with names that none can have: these are answered, and not remembered, since a
/// session must not hold as much as a request can say.
fn session_request(request: &FetchRequest, version: i16) -> (SessionRequest, Vec<&FetchTopic>) {
    let topic_ref = |name: &Str, id: uuid::Uuid| {
        if version >= VERSION_TOPIC_IDS {
            return Some(TopicRef::Id(TopicId::new(id)));
        }
        TopicName::new(name).map(TopicRef::Name).ok()
    };
    let (mut wanted, mut nameless) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let Some(topic_ref) = topic_ref(&topic.topic, topic.topic_id) else {
            nameless.push(topic);
            continue;
        };
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
        let Some(topic_ref) = topic_ref(&topic.topic, topic.topic_id) else { continue };
        forgotten.extend(
            topic.partitions.iter().map(|&partition| PartitionRef { topic: topic_ref.clone(), partition }),
        );
    }
    // Before version 7 there were no sessions; the fields then say (0, -1).
    let session = SessionRequest::new(request.session_id, request.session_epoch, wanted, forgotten);
    (session, nameless)
}

fn target(context: &Context, image: &Image, partition: &PartitionRef, wanted: &Wanted) -> Target {
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
    Target { wanted: wanted.clone(), replica }
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
        context.metrics.note(ApiKey::Fetch, answer.error);
        let (data, told) = partition_data(image, partition, target, answer, version);
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
    context.metrics.show_sessions(&sessions);
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

fn partition_data(
    image: &Image,
    partition: &PartitionRef,
    target: &Target,
    answer: Answer,
    version: i16,
) -> (PartitionData, Option<Told>) {
    let mut data = PartitionData {
        partition_index: partition.partition,
        error_code: answer.error,
        high_watermark: -1,
        records: Records::EMPTY,
        ..PartitionData::default()
    };
    let elsewhere =
        [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::FENCED_LEADER_EPOCH].contains(&answer.error);
    if elsewhere && version >= VERSION_LEADER {
        let topic = match &partition.topic {
            TopicRef::Name(name) => topics_by::by_name(image, name),
            TopicRef::Id(id) => topics_by::by_id(image, id.uuid()),
        };
        if let Some((leader, epoch)) = topic.ok().and_then(|topic| leader_of(topic, partition.partition)) {
            data.current_leader = LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: epoch.get() };
        }
    }
    // An error tells no offsets, as in Kafka: those of a replica that cannot answer mean nothing. But who asks outside of the log
    // is told where it lies.
    let replica = match &target.replica {
        Ok(replica) if [ErrorCode::NONE, ErrorCode::OFFSET_OUT_OF_RANGE].contains(&answer.error) => replica,
        Ok(_) | Err(_) => return (data, None),
    };
    let bounds = replica.bounds();
    data.high_watermark = bounds.high_watermark.get();
    data.last_stable_offset = bounds.last_stable.get();
    data.log_start_offset = bounds.log_start.get();
    // Null for readers who do not ask for it; for those who do, a list, even an empty one.
    data.aborted_transactions = aborted_list(&answer);
    if let Some(diverging) = answer.diverging {
        data.diverging_epoch =
            EpochEndOffset { epoch: diverging.epoch.get(), end_offset: diverging.start.get() };
    }
    data.records = Records::from(answer.batches.slices.into_iter().map(piece).collect::<Vec<Piece>>());
    let told = Told { high_watermark: data.high_watermark, log_start_offset: data.log_start_offset };
    (data, answer.error.is_none().then_some(told))
}

fn piece(stored: Stored) -> Piece {
    let count = stored.len();
    match stored {
        Stored::Here(bytes) => Piece::Here(bytes),
        Stored::Lent(lent) => Piece::Elsewhere(Elsewhere::new(lent, count)),
    }
}

/// Sorted, and each once: one that overlaps several segments comes with each of them.
fn aborted_list(answer: &Answer) -> Option<Vec<AbortedTransaction>> {
    let aborted = answer.batches.aborted.as_ref()?;
    let mut aborted: Vec<_> = aborted.iter().map(|txn| (txn.first.get(), txn.producer.0)).collect();
    aborted.sort_unstable();
    aborted.dedup();
    let told = aborted.into_iter();
    Some(told.map(|(first_offset, producer_id)| AbortedTransaction { producer_id, first_offset }).collect())
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
