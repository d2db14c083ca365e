//! Metadata and DescribeCluster: who is there, and who leads what.

use std::sync::Arc;

use aquifer_model::{BrokerId, LeaderEpoch, TopicName};
use aquifer_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use aquifer_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
    MetadataResponsePartition, MetadataResponseTopic,
};
use aquifer_protocol::{ErrorCode, Str};

use super::context::Context;
use super::errors;
use super::topics_by;
use crate::controller::topics::{NewTopic, TopicError};
use crate::groups::coordinator::is_internal;
use crate::metadata::Image;
use crate::metadata::image::{Broker, BrokerState, Endpoint, Partition, Topic};
use crate::quotas::mutations::Mutations;

/// Kafka's word for "the caller did not ask what it may do".
const OPERATIONS_NOT_ASKED: i32 = i32::MIN;
/// What everybody may do with a topic, since there are no access rules yet, as the bits of Kafka's operations: READ, WRITE, CREATE,
/// DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS, ALTER_CONFIGS.
pub(super) const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The same with the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE.
const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// DescribeCluster's kinds of endpoint.
const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;

/// From here on topics may be asked for by id, which the two versions before have a field for, and must not use.
const VERSION_TOPIC_IDS: i16 = 12;

/// Lists brokers and topics; makes topics that are asked for by name and do not exist, where that is configured.
pub(crate) async fn metadata(
    context: Arc<Context>,
    request: MetadataRequest,
    version: i16,
    mut mutations: Mutations,
) -> MetadataResponse {
    let mut image = context.metadata.image();
    if version < VERSION_TOPIC_IDS
        && let Some(asked) = &request.topics
        && asked.iter().any(|wanted| wanted.name.is_none() || !wanted.topic_id.is_nil())
    {
        return without_topic_ids(asked);
    }
    // No list means all; in version 0 an empty one did.
    let asked = request.topics.filter(|topics| version > 0 || !topics.is_empty());
    let mut topics = Vec::new();
    match asked {
        None => topics.extend(image.topics().map(|topic| described(&image, topic))),
        Some(asked) => {
            let allowed = version < 4 || request.allow_auto_topic_creation;
            for mut wanted in asked {
                if version >= VERSION_TOPIC_IDS && !wanted.topic_id.is_nil() {
                    // The Java client leaves the name empty then, rather than null.
                    wanted.name = None;
                }
                if allowed && create_missing(&context, &image, &wanted, &mut mutations).await {
                    image = context.metadata.image();
                }
                topics.push(find(&image, &wanted));
            }
        }
    }
    if request.include_topic_authorized_operations {
        topics.iter_mut().for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    let asked_operations = request.include_cluster_authorized_operations;
    MetadataResponse {
        brokers: brokers(&image),
        cluster_id: image.cluster().map(|cluster| Str::from(cluster.id.to_string())),
        controller_id: context.broker.0,
        topics,
        cluster_authorized_operations: cluster_operations(asked_operations),
        throttle_time_ms: mutations.rest_ms(context.world.clock.now()),
        ..MetadataResponse::default()
    }
}

/// As Kafka refuses it: no topic of such a request is looked at.
fn without_topic_ids(asked: &[MetadataRequestTopic]) -> MetadataResponse {
    let refused = |wanted: &MetadataRequestTopic| MetadataResponseTopic {
        error_code: ErrorCode::INVALID_REQUEST,
        name: Some(wanted.name.clone().unwrap_or(Str::EMPTY)),
        topic_id: wanted.topic_id,
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..MetadataResponseTopic::default()
    };
    MetadataResponse { topics: asked.iter().map(refused).collect(), ..MetadataResponse::default() }
}

/// Kafka answers "unknown" while it creates, and the client asks again; here creation is a few milliseconds, so the first answer
/// is the right one.
async fn create_missing(
    context: &Context,
    image: &Image,
    wanted: &MetadataRequestTopic,
    mutations: &mut Mutations,
) -> bool {
    let config = context.config();
    let Some(name) = wanted.name.as_deref() else { return false };
    if !config.broker().topics.auto_create
        || image.topic_named(name).is_some()
        || TopicName::new(name).is_err()
    {
        return false;
    }
    let created = if is_internal(name) {
        context.groups.make_topic(&context.topics).await
    } else {
        let (new, patience) = (NewTopic::by_default(name), context.topics.patience());
        context.topics.create(new, patience, mutations).await.map(drop)
    };
    match created {
        Ok(()) => {
            tracing::info!(topic = name, "topic created on first use");
            true
        }
        // Counted where it is refused; a line each would let strangers fill the disk that this log lies on.
        Err(TopicError::TooFast { .. } | TopicError::TooManyPartitions { .. }) => false,
        Err(error) => {
            tracing::warn!(topic = name, %error, "topic cannot be created on first use");
            // Another request may have been faster.
            true
        }
    }
}

fn find(image: &Image, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
    let by_name = wanted.name.as_deref().map(|name| (name, TopicName::new(name)));
    let found = match &by_name {
        Some((_, Err(_))) => Err(ErrorCode::INVALID_TOPIC_EXCEPTION),
        Some((name, Ok(_))) => topics_by::by_name(image, name),
        None => topics_by::by_id(image, wanted.topic_id),
    };
    match found {
        Ok(topic) => described(image, topic),
        Err(error_code) => MetadataResponseTopic {
            error_code,
            name: wanted.name.clone(),
            topic_id: wanted.topic_id,
            topic_authorized_operations: OPERATIONS_NOT_ASKED,
            ..MetadataResponseTopic::default()
        },
    }
}

fn described(image: &Image, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic
        .partitions
        .iter()
        .zip(0..)
        .map(|(partition, index)| described_partition(image, partition, index));
    MetadataResponseTopic {
        name: Some(Str::from(topic.name.as_str())),
        topic_id: topic.id.uuid(),
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: OPERATIONS_NOT_ASKED,
        ..MetadataResponseTopic::default()
    }
}

/// A partition as Metadata tells of it.
pub(super) fn described_partition(
    image: &Image,
    partition: &Partition,
    index: i32,
) -> MetadataResponsePartition {
    let alive = |id: &BrokerId| image.broker(*id).is_some_and(|broker| broker.state == BrokerState::Active);
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<_>>();
    let offline = partition.replicas.iter().filter(|id| !alive(id)).map(|id| id.0);
    let error_code =
        if partition.leader.is_none() { ErrorCode::LEADER_NOT_AVAILABLE } else { ErrorCode::NONE };
    MetadataResponsePartition {
        error_code,
        partition_index: index,
        leader_id: partition.leader.map_or(-1, |leader| leader.0),
        leader_epoch: partition.leader_epoch.get(),
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        offline_replicas: offline.collect(),
    }
}

fn brokers(image: &Image) -> Vec<MetadataResponseBroker> {
    let active = image.brokers().filter(|broker| broker.state == BrokerState::Active);
    let with_endpoint = active.filter_map(|broker| Some((broker, client_endpoint(broker)?)));
    with_endpoint
        .map(|(broker, endpoint)| MetadataResponseBroker {
            node_id: broker.id.0,
            host: Str::from(endpoint.host.as_str()),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(Str::from),
        })
        .collect()
}

/// Lists the cluster's brokers.
pub(crate) fn describe(context: &Context, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    if request.endpoint_type != ENDPOINT_BROKERS {
        return DescribeClusterResponse {
            error_code: match request.endpoint_type {
                ENDPOINT_CONTROLLERS => ErrorCode::MISMATCHED_ENDPOINT_TYPE,
                _ => ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            },
            error_message: errors::message(&"this listener serves brokers, not controllers"),
            endpoint_type: request.endpoint_type,
            ..DescribeClusterResponse::default()
        };
    }
    let image = context.metadata.image();
    let shown = image
        .brokers()
        .filter(|broker| request.include_fenced_brokers || broker.state == BrokerState::Active);
    let brokers = shown.filter_map(|broker| {
        let endpoint = client_endpoint(broker)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id.0,
            host: Str::from(endpoint.host.as_str()),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(Str::from),
            is_fenced: broker.state == BrokerState::Fenced,
        })
    });
    DescribeClusterResponse {
        endpoint_type: request.endpoint_type,
        cluster_id: image.cluster().map_or(Str::EMPTY, |cluster| Str::from(cluster.id.to_string())),
        controller_id: context.broker.0,
        brokers: brokers.collect(),
        cluster_authorized_operations: cluster_operations(request.include_cluster_authorized_operations),
        ..DescribeClusterResponse::default()
    }
}

fn cluster_operations(asked: bool) -> i32 {
    if asked { CLUSTER_OPERATIONS } else { OPERATIONS_NOT_ASKED }
}

/// Where clients reach a broker. There is one listener until the cluster brings another for brokers among themselves.
fn client_endpoint(broker: &Broker) -> Option<&Endpoint> {
    broker.endpoints.first()
}

/// Who leads a partition, for answers that send the client there.
pub(super) fn leader_of(topic: &Topic, partition: i32) -> Option<(BrokerId, LeaderEpoch)> {
    let partition = topic.partition(aquifer_model::PartitionIndex(partition))?;
    Some((partition.leader?, partition.leader_epoch))
}

/// Where these brokers are.
pub(super) fn endpoints<'a>(
    image: &'a Image,
    brokers: &'a [i32],
) -> impl Iterator<Item = (BrokerId, &'a Endpoint, Option<&'a str>)> {
    brokers.iter().filter_map(|id| {
        let broker = image.broker(BrokerId(*id))?;
        Some((broker.id, client_endpoint(broker)?, broker.rack.as_deref()))
    })
}
