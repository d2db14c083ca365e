//! DescribeProducers: what a partition remembers of those that write to it, by which operators find transactions that hang.

use std::collections::HashSet;
use std::sync::Arc;

use aquifer_model::TopicName;
use aquifer_protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use aquifer_protocol::{ErrorCode, Str};

use super::context::Context;
use super::errors;
use super::topics_by;
use crate::log;
use crate::metadata::Image;
use crate::replica::{Replica, Role};

/// Tells of producers. Any replica answers for what it has, as in Kafka. A partition that is named more than once is told of once,
/// or a small request could ask for any amount of memory.
pub(crate) fn describe(context: &Context, request: &DescribeProducersRequest) -> DescribeProducersResponse {
    let image = context.metadata.image();
    let mut named = HashSet::new();
    let topics = request.topics.iter().map(|topic| TopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partition_indexes
            .iter()
            .filter(|index| named.insert((&topic.name, **index)))
            .map(|index| match replica(context, &image, &topic.name, *index) {
                Ok(replica) => PartitionResponse {
                    partition_index: *index,
                    active_producers: replica.log().producers().iter().map(told).collect(),
                    ..PartitionResponse::default()
                },
                Err((error_code, words)) => PartitionResponse {
                    partition_index: *index,
                    error_code,
                    error_message: errors::message(&words),
                    ..PartitionResponse::default()
                },
            })
            .collect(),
    });
    DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() }
}

fn replica(
    context: &Context,
    image: &Image,
    name: &Str,
    index: i32,
) -> Result<Arc<Replica>, (ErrorCode, String)> {
    if let Err(error) = TopicName::new(name) {
        return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()));
    }
    let found =
        topics_by::by_name(image, name)
            .and_then(|topic| topics_by::replica(context, topic, index))
            .map_err(|code| (code, format!("partition {index} of {:?} is not to be had here", &**name)))?;
    match found.role() {
        Role::Offline(reason) => Err((ErrorCode::KAFKA_STORAGE_ERROR, reason)),
        Role::Leader(_) | Role::Recovering(_) | Role::NotLeading => Ok(found),
    }
}

fn told(state: &log::ProducerState) -> ProducerState {
    ProducerState {
        producer_id: state.id.0,
        producer_epoch: i32::from(state.epoch.0),
        last_sequence: state.last_sequence.unwrap_or(-1),
        last_timestamp: state.last_timestamp.map_or(-1, |timestamp| timestamp.0),
        coordinator_epoch: state.coordinator_epoch,
        current_txn_start_offset: state.transaction_start.map_or(-1, |offset| offset.get()),
    }
}
