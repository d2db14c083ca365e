//! DescribeQuorum: the state of the metadata log, as Kafka tells of its own.

use aquifer_protocol::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionRequest, PartitionResponse,
    ReplicaState, TopicResponse,
};
use aquifer_protocol::{ErrorCode, Str};
use uuid::Uuid;

use super::context::Context;
use crate::metadata::image::Broker;
use crate::metadata::{Image, Peer, Quorum, RaftNodeId};

/// What Kafka calls the metadata log's topic.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// From here on answers name data directories, and where nodes are reached.
const VERSION_DIRECTORIES: i16 = 2;

/// Tells who votes on the metadata, who only follows, and how far each has come. The leader alone knows: others send there.
pub(crate) fn describe(
    context: &Context,
    request: &DescribeQuorumRequest,
    version: i16,
) -> DescribeQuorumResponse {
    let quorum = context.metadata.quorum();
    if !context.metadata.is_controller() {
        return DescribeQuorumResponse {
            error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
            error_message: Some(Str::from_static("this node does not lead the metadata")),
            ..DescribeQuorumResponse::default()
        };
    }
    let image = context.metadata.image();
    let topics = request.topics.iter().map(|topic| TopicResponse {
        topic_name: topic.topic_name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|asked| partition(context, &image, &quorum, (&topic.topic_name, asked), version))
            .collect(),
    });
    let nodes = if version >= VERSION_DIRECTORIES { nodes(&image, &quorum) } else { Vec::new() };
    DescribeQuorumResponse {
        error_message: None,
        topics: topics.collect(),
        nodes,
        ..DescribeQuorumResponse::default()
    }
}

fn partition(
    context: &Context,
    image: &Image,
    quorum: &Quorum,
    (topic, asked): (&str, &PartitionRequest),
    version: i16,
) -> PartitionResponse {
    let partition_index = asked.partition_index;
    if topic != METADATA_TOPIC || partition_index != 0 {
        return PartitionResponse {
            partition_index,
            error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            error_message: Some(Str::from_static("the one log with a quorum is __cluster_metadata-0")),
            ..PartitionResponse::default()
        };
    }
    let now = context.world.clock.wall().millis();
    let told = |peer: &Peer| {
        let broker = broker_at(image, peer.node);
        let directory = broker.and_then(|broker| broker.directories.first()).map(|directory| directory.0);
        // Of its followers Raft does not tell when they last asked.
        let heard = if Some(peer.node) == quorum.leader { now } else { -1 };
        ReplicaState {
            replica_id: broker_id(broker),
            replica_directory_id: directory.filter(|_| version >= VERSION_DIRECTORIES).unwrap_or(Uuid::nil()),
            log_end_offset: peer.end.map_or(-1, |end| end.get()),
            last_fetch_timestamp: heard,
            last_caught_up_timestamp: heard,
        }
    };
    PartitionResponse {
        partition_index,
        error_code: ErrorCode::NONE,
        error_message: None,
        leader_id: broker_id(quorum.leader.and_then(|leader| broker_at(image, leader))),
        leader_epoch: quorum.term.get(),
        high_watermark: quorum.committed_end.get(),
        current_voters: quorum.voters.iter().map(told).collect(),
        observers: quorum.learners.iter().map(told).collect(),
    }
}

fn broker_at(image: &Image, node: RaftNodeId) -> Option<&Broker> {
    image.brokers().map(|broker| &**broker).find(|broker| broker.node == node)
}

/// -1, which is Kafka's "unknown", for a node whose broker has never registered.
fn broker_id(broker: Option<&Broker>) -> i32 {
    broker.map_or(-1, |broker| broker.id.0)
}

/// Where the voters are reached: each is a broker, too.
fn nodes(image: &Image, quorum: &Quorum) -> Vec<Node> {
    let brokers = quorum.voters.iter().filter_map(|peer| broker_at(image, peer.node));
    let node = |broker: &Broker| Node {
        node_id: broker.id.0,
        listeners: broker
            .endpoints
            .iter()
            .map(|endpoint| Listener {
                name: Str::from(endpoint.listener.as_str()),
                host: Str::from(endpoint.host.as_str()),
                port: endpoint.port,
            })
            .collect(),
    };
    brokers.map(node).collect()
}
