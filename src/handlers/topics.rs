//! CreateTopics, DeleteTopics, CreatePartitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{BrokerId, TopicId};
use aquifer_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use aquifer_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use aquifer_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use aquifer_protocol::{ErrorCode, Str};
use tokio::time::Instant;

use super::configs::source_code;
use super::context::Context;
use super::errors;
use crate::controller::topics::{Created, Execution, Growth, NewTopic, TopicError};
use crate::groups::coordinator::is_internal;
use crate::quotas::mutations::{Mutations, Strictness};

/// From here on topics may be named by id.
const VERSION_DELETE_BY_ID: i16 = 6;
/// From these on clients know to try again later, and are refused for their quota (KIP-599).
pub(crate) const VERSION_CREATE_STRICT: i16 = 6;
pub(crate) const VERSION_DELETE_STRICT: i16 = 5;
pub(crate) const VERSION_GROW_STRICT: i16 = 3;

/// After so many topics others get their turn: each has all settings of a topic looked at.
const YIELD_TOPICS: usize = 16;
/// Topics whose settings an answer tells; those of more have to be asked for.
const DESCRIBED_MAX: usize = 1_000;

/// Makes topics. Each is judged alone.
pub(crate) async fn create(
    context: Arc<Context>,
    request: CreateTopicsRequest,
    mut mutations: Mutations,
) -> CreateTopicsResponse {
    let deadline = deadline(&context, request.timeout_ms);
    let execution = if request.validate_only { Execution::ValidateOnly } else { Execution::For(deadline) };
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(&topic.name).or_default() += 1;
    }
    let mut response = CreateTopicsResponse::default();
    let mut described = 0;
    for (number, topic) in request.topics.iter().enumerate() {
        if number % YIELD_TOPICS == YIELD_TOPICS - 1 {
            tokio::task::yield_now().await;
        }
        let outcome = if counts[&*topic.name] > 1 {
            Err(TopicError::Request("the request names this topic more than once".to_owned()))
        } else {
            match new_topic(topic) {
                Ok(new) => context.topics.create(new, execution, &mut mutations).await,
                Err(error) => Err(error),
            }
        };
        described += usize::from(outcome.is_ok());
        let mut result = created(&context, topic, outcome, mutations.strictness());
        if described > DESCRIBED_MAX && result.configs.take().is_some() {
            result.topic_config_error_code = ErrorCode::POLICY_VIOLATION;
        }
        response.topics.push(result);
    }
    response.throttle_time_ms = mutations.rest_ms(context.world.clock.now());
    response
}

fn new_topic(topic: &CreatableTopic) -> Result<NewTopic, TopicError> {
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let value = config.value.as_deref().unwrap_or_default();
        if configs.insert(config.name.to_string(), value.to_owned()).is_some() {
            return Err(TopicError::Request(format!("the config {} is given more than once", &*config.name)));
        }
    }
    let mut assignments = BTreeMap::new();
    for assignment in &topic.assignments {
        let brokers = assignment.broker_ids.iter().map(|id| BrokerId(*id)).collect();
        if assignments.insert(assignment.partition_index, brokers).is_some() {
            return Err(TopicError::Assignment(format!(
                "partition {} is assigned twice",
                assignment.partition_index
            )));
        }
    }
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        configs,
    })
}

fn created(
    context: &Context,
    topic: &CreatableTopic,
    outcome: Result<Created, TopicError>,
    strictness: Strictness,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult { name: topic.name.clone(), ..CreatableTopicResult::default() };
    match outcome {
        Ok(created) => {
            let described = context.config().describe_topic(&created.configs);
            result.topic_id = created.id.uuid();
            result.error_message = None;
            result.num_partitions = created.partitions;
            result.replication_factor = created.replication_factor;
            result.configs = Some(
                described
                    .into_iter()
                    .map(|config| CreatableTopicConfigs {
                        name: Str::from(config.name),
                        value: config.value.map(Str::from),
                        read_only: config.read_only,
                        config_source: source_code(&config.source),
                        is_sensitive: false,
                    })
                    .collect(),
            );
        }
        Err(error) => {
            result.error_code = errors::of_mutation(&error, strictness);
            result.error_message = errors::message(&error);
            result.configs = None;
        }
    }
    result
}

/// Deletes topics, by name or by id.
pub(crate) async fn delete(
    context: Arc<Context>,
    request: DeleteTopicsRequest,
    version: i16,
    mut mutations: Mutations,
) -> DeleteTopicsResponse {
    let deadline = deadline(&context, request.timeout_ms);
    let wanted: Vec<DeleteTopicState> = if version >= VERSION_DELETE_BY_ID {
        request.topics
    } else {
        let named = request.topic_names.into_iter();
        named.map(|name| DeleteTopicState { name: Some(name), ..DeleteTopicState::default() }).collect()
    };
    let mut response = DeleteTopicsResponse::default();
    for topic in wanted {
        let outcome = match (&topic.name, topic.topic_id.is_nil()) {
            (Some(name), true) => context.topics.delete_named(name, deadline, &mut mutations).await,
            (None, false) => {
                context.topics.delete(TopicId::new(topic.topic_id), deadline, &mut mutations).await
            }
            _ => Err(TopicError::Request("a topic is named either by name or by id".to_owned())),
        };
        let mut result = DeletableTopicResult {
            name: topic.name,
            topic_id: topic.topic_id,
            ..DeletableTopicResult::default()
        };
        match outcome {
            Ok(deleted) => {
                result.name = Some(Str::from(deleted.name.as_str()));
                result.topic_id = deleted.id.uuid();
            }
            Err(error) => {
                result.error_code = errors::of_mutation(&error, mutations.strictness());
                result.error_message = errors::message(&error);
                if version < VERSION_DELETE_BY_ID {
                    result.name.get_or_insert(Str::EMPTY);
                }
            }
        }
        response.responses.push(result);
    }
    response.throttle_time_ms = mutations.rest_ms(context.world.clock.now());
    response
}

/// Adds partitions.
pub(crate) async fn grow(
    context: Arc<Context>,
    request: CreatePartitionsRequest,
    mut mutations: Mutations,
) -> CreatePartitionsResponse {
    let deadline = deadline(&context, request.timeout_ms);
    let execution = if request.validate_only { Execution::ValidateOnly } else { Execution::For(deadline) };
    let mut response = CreatePartitionsResponse::default();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *counts.entry(&topic.name).or_default() += 1;
    }
    for topic in &request.topics {
        let outcome = if counts[&*topic.name] > 1 {
            Err(TopicError::Request("the request names this topic more than once".to_owned()))
        } else if is_internal(&topic.name) {
            // By their names and that number it is found where groups are kept.
            let words = "this topic is the brokers' own, and keeps its number of partitions";
            Err(TopicError::Request(words.to_owned()))
        } else {
            context.topics.grow(growth(topic), execution, &mut mutations).await
        };
        let (error_code, error_message) = match &outcome {
            Ok(()) => (ErrorCode::NONE, None),
            Err(error) => (errors::of_mutation(error, mutations.strictness()), errors::message(error)),
        };
        response.results.push(CreatePartitionsTopicResult {
            name: topic.name.clone(),
            error_code,
            error_message,
        });
    }
    response.throttle_time_ms = mutations.rest_ms(context.world.clock.now());
    response
}

fn growth(topic: &CreatePartitionsTopic) -> Growth {
    let brokers = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect();
    Growth {
        name: topic.name.to_string(),
        partitions: topic.count,
        assignments: topic
            .assignments
            .as_ref()
            .map(|all| all.iter().map(|one| brokers(&one.broker_ids)).collect()),
    }
}

fn deadline(context: &Context, timeout_ms: i32) -> Instant {
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    context.world.clock.now() + timeout
}
