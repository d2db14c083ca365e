//! ElectLeaders: leaders elected because an operator asks for it.

use std::sync::Arc;
use std::time::Duration;

use aquifer_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};
use aquifer_protocol::{ErrorCode, Str};

use super::context::Context;
use super::errors;
use crate::controller::elections::{ElectionError, ElectionKind, elect};

/// Elects leaders, of the partitions named or, if none is, of all.
pub(crate) async fn handle(context: Arc<Context>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    // Kafka's two kinds; before they had numbers there was only the first.
    let kind = match request.election_type {
        0 => ElectionKind::Preferred,
        1 => ElectionKind::Unclean,
        _ => return refused(&request),
    };
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let deadline = context.world.clock.now() + timeout;
    let all = request.topic_partitions.is_none();
    let topics = request.topic_partitions.unwrap_or_else(|| all_partitions(&context));
    let mut response = ElectLeadersResponse::default();
    for topic in topics {
        let mut partition_result = Vec::new();
        for partition_id in topic.partitions {
            let elected = elect(&context.metadata, (&topic.topic, partition_id), kind, deadline).await;
            // Of all partitions most need nothing, and Kafka leaves those out.
            if !(all && matches!(elected, Err(ElectionError::NotNeeded(_)))) {
                partition_result.push(told(partition_id, elected));
            }
        }
        response
            .replica_election_results
            .push(ReplicaElectionResult { topic: topic.topic, partition_result });
    }
    response
}

/// Every partition there is.
fn all_partitions(context: &Context) -> Vec<TopicPartitions> {
    let image = context.metadata.image();
    let topics = image.topics().map(|topic| TopicPartitions {
        topic: Str::from(topic.name.as_str()),
        partitions: topic.indexed().map(|(index, _)| index.0).collect(),
    });
    topics.collect()
}

fn told(partition_id: i32, elected: Result<(), ElectionError>) -> PartitionResult {
    match elected {
        Ok(()) => PartitionResult { partition_id, error_code: ErrorCode::NONE, error_message: None },
        Err(error) => PartitionResult {
            partition_id,
            error_code: errors::of_election(&error),
            error_message: errors::message(&error),
        },
    }
}

/// An election of a kind that nobody knows.
fn refused(request: &ElectLeadersRequest) -> ElectLeadersResponse {
    let error_code = ErrorCode::INVALID_REQUEST;
    let words = format!("no election has the number {}", request.election_type);
    let results = request.topic_partitions.iter().flatten().map(|topic| ReplicaElectionResult {
        topic: topic.topic.clone(),
        partition_result: topic
            .partitions
            .iter()
            .map(|partition_id| PartitionResult {
                partition_id: *partition_id,
                error_code,
                error_message: errors::message(&words),
            })
            .collect(),
    });
    ElectLeadersResponse {
        error_code,
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    }
}
