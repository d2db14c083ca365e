//! DescribeConfigs and IncrementalAlterConfigs.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::BrokerId;
use aquifer_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use aquifer_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use aquifer_protocol::{ErrorCode, Str};

use super::context::Context;
use super::errors;
use super::topics_by;
use crate::config::{Alteration, BrokerScope, Described, Problems, Source, ValueType};
use crate::metadata::command::{ConfigChanges, KnownConfigs, SetBrokerConfigs, SetTopicConfigs};
use crate::metadata::image::{Configs, Topic};
use crate::metadata::{Command, ProposeError, Rejected};

/// Kafka's kinds of resources that have configurations here.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// How long an answer waits for a change to be in force on this broker.
const IN_FORCE_WAIT: Duration = Duration::from_secs(5);

/// How often an addition to a list, or a subtraction, starts over because others were faster. One of them gets on each time.
const TRIES_MAX: u32 = 50;

/// Why a resource's configuration is not to be had, or not to be changed.
struct Refused {
    code: ErrorCode,
    words: String,
}

impl Refused {
    fn new(code: ErrorCode, words: impl Into<String>) -> Refused {
        Refused { code, words: words.into() }
    }
}

/// Whose configuration.
enum Resource {
    Topic(Arc<Topic>),
    /// `None` is what was set for all brokers.
    Broker(Option<BrokerId>),
}

/// Tells configurations.
pub(crate) fn describe(context: &Context, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|wanted| {
        let mut result = DescribeConfigsResult {
            error_message: None,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name.clone(),
            ..DescribeConfigsResult::default()
        };
        match described(context, wanted) {
            Ok(configs) => {
                let shown = |name: &str| {
                    wanted
                        .configuration_keys
                        .as_ref()
                        .is_none_or(|keys| keys.iter().any(|key| &**key == name))
                };
                let configs = configs.into_iter().filter(|config| shown(config.name));
                result.configs = configs.map(|config| told(config, request)).collect();
            }
            Err(refused) => {
                result.error_code = refused.code;
                result.error_message = errors::message(&refused.words);
            }
        }
        result
    });
    DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() }
}

fn described(context: &Context, wanted: &DescribeConfigsResource) -> Result<Vec<Described>, Refused> {
    let config = context.config();
    match resource(context, wanted.resource_type, &wanted.resource_name)? {
        Resource::Topic(topic) => Ok(config.describe_topic(&topic.configs)),
        Resource::Broker(None) => Ok(config.describe_cluster()),
        Resource::Broker(Some(_)) => Ok(config.describe_broker()),
    }
}

fn resource(context: &Context, kind: i8, name: &str) -> Result<Resource, Refused> {
    match kind {
        TOPIC => {
            let image = context.metadata.image();
            let topic = topics_by::by_name(&image, name);
            topic
                .cloned()
                .map(Resource::Topic)
                .map_err(|code| Refused::new(code, format!("no topic is called {name:?}")))
        }
        BROKER if name.is_empty() => Ok(Resource::Broker(None)),
        BROKER if name == context.broker.0.to_string() => Ok(Resource::Broker(Some(context.broker))),
        BROKER => Err(Refused::new(
            ErrorCode::INVALID_REQUEST,
            format!("this is broker {}, not {name:?}: ask that one", context.broker),
        )),
        kind => Err(Refused::new(
            ErrorCode::INVALID_REQUEST,
            format!("resources of type {kind} have no configuration here"),
        )),
    }
}

fn told(config: Described, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let mut synonyms = Vec::new();
    if request.include_synonyms {
        synonyms.extend(config.synonyms.iter().map(|setting| DescribeConfigsSynonym {
            name: Str::from(setting.name),
            value: Some(Str::from(setting.value.as_str())),
            source: source_code(&setting.source),
        }));
    }
    DescribeConfigsResourceResult {
        name: Str::from(config.name),
        value: config.value.map(Str::from),
        read_only: config.read_only,
        config_source: source_code(&config.source),
        is_sensitive: false,
        synonyms,
        config_type: type_code(config.value_type),
        documentation: request.include_documentation.then(|| Str::from(config.documentation)),
    }
}

/// Kafka's number for where a value came from.
pub(super) fn source_code(source: &Source) -> i8 {
    match source {
        Source::Topic => 1,
        Source::DynamicBroker => 2,
        Source::DynamicCluster => 3,
        Source::File(_) | Source::Environment(_) | Source::Flag(_) | Source::Set | Source::Command(_) => 4,
        Source::Default => 5,
    }
}

fn type_code(value_type: ValueType) -> i8 {
    match value_type {
        ValueType::Boolean => 1,
        ValueType::String => 2,
        ValueType::Int => 3,
        ValueType::Long => 5,
        ValueType::Double => 6,
        ValueType::List => 7,
    }
}

/// Changes configurations. Each resource is judged alone, and wholly changed or not at all.
pub(crate) async fn alter(
    context: Arc<Context>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut response = IncrementalAlterConfigsResponse::default();
    let mut seen = HashSet::new();
    for wanted in &request.resources {
        let again = !seen.insert((wanted.resource_type, wanted.resource_name.clone()));
        let outcome = if again {
            Err(Refused::new(ErrorCode::INVALID_REQUEST, "the request names this resource more than once"))
        } else {
            alter_one(&context, wanted, request.validate_only).await
        };
        let (error_code, error_message) = match outcome {
            Ok(()) => (ErrorCode::NONE, None),
            Err(refused) => (refused.code, errors::message(&refused.words)),
        };
        response.responses.push(AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name.clone(),
        });
    }
    response
}

async fn alter_one(
    context: &Context,
    wanted: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refused> {
    let alterations: Vec<(String, Alteration)> =
        wanted.configs.iter().map(alteration).collect::<Result<_, _>>()?;
    let mut names = HashSet::new();
    if let Some((name, _)) = alterations.iter().find(|(name, _)| !names.insert(name)) {
        return Err(Refused::new(
            ErrorCode::INVALID_REQUEST,
            format!("the request alters {name} more than once"),
        ));
    }
    let mut tries = 0;
    let topic = loop {
        let command = command(context, wanted, &alterations)?;
        if validate_only {
            return Ok(());
        }
        let topic = match &command {
            Command::SetTopicConfigs(set) => Some(set.topic),
            _ => None,
        };
        tries += 1;
        match context.metadata.propose(command).await {
            Ok(_) => break topic,
            // Somebody was faster: what they made of it is in the image by now, and is what this builds on next.
            Err(ProposeError::Rejected(Rejected::StaleConfigs(_))) if tries < TRIES_MAX => {}
            Err(error) => return Err(Refused::new(errors::of_propose(&error), error.to_string())),
        }
    };
    if let Some(topic) = topic {
        // Whoever is told yes finds it in force. If this broker is slow to take it, it is settled all the same.
        let deadline = context.world.clock.now() + IN_FORCE_WAIT;
        context.replicas.carried_out(&context.metadata.image(), topic, deadline).await;
    }
    Ok(())
}

/// What to propose, from the newest image.
fn command(
    context: &Context,
    wanted: &AlterConfigsResource,
    alterations: &[(String, Alteration)],
) -> Result<Command, Refused> {
    let image = context.metadata.image();
    let config = context.config();
    let invalid = |problems: Problems| Refused::new(ErrorCode::INVALID_CONFIG, problems.to_string());
    match resource(context, wanted.resource_type, &wanted.resource_name)? {
        Resource::Topic(topic) => {
            let changed = config.alter_topic(&topic.configs, alterations).map_err(invalid)?;
            let changes = changes(&topic.configs, &changed);
            let known = known(&topic.configs, alterations);
            Ok(Command::SetTopicConfigs(SetTopicConfigs { topic: topic.id, changes, known }))
        }
        Resource::Broker(broker) => {
            let scope = if broker.is_none() { BrokerScope::Cluster } else { BrokerScope::Broker };
            // The configuration in force follows the image a little later.
            let (all, own) = (image.broker_configs(None), image.broker_configs(Some(context.broker)));
            let (config, _) = config.with_dynamic(all, own);
            let changed = config.alter_broker(scope, alterations).map_err(invalid)?;
            let before = image.broker_configs(broker);
            let (changes, known) = (changes(before, &changed), known(before, alterations));
            Ok(Command::SetBrokerConfigs(SetBrokerConfigs { broker, changes, known }))
        }
    }
}

fn alteration(config: &AlterableConfig) -> Result<(String, Alteration), Refused> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    let value = || {
        let missing =
            || Refused::new(ErrorCode::INVALID_REQUEST, format!("{}: a value is missing", &*config.name));
        config.value.as_deref().map(str::to_owned).ok_or_else(missing)
    };
    let alteration = match config.config_operation {
        SET => Alteration::Set(value()?),
        DELETE => Alteration::Delete,
        APPEND => Alteration::Append(value()?),
        SUBTRACT => Alteration::Subtract(value()?),
        other => return Err(Refused::new(ErrorCode::INVALID_REQUEST, format!("unknown operation {other}"))),
    };
    Ok((config.name.to_string(), alteration))
}

/// What additions and subtractions build on.
fn known(before: &Configs, alterations: &[(String, Alteration)]) -> KnownConfigs {
    let builds = alterations
        .iter()
        .filter(|(_, alteration)| matches!(alteration, Alteration::Append(_) | Alteration::Subtract(_)));
    builds.map(|(name, _)| (name.clone(), before.get(name).cloned())).collect()
}

/// What has to be set and removed to get from one map to the other.
fn changes(before: &Configs, after: &Configs) -> ConfigChanges {
    let mut changes = BTreeMap::new();
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        changes.insert(name.clone(), None);
    }
    for (name, value) in after.iter().filter(|(name, value)| before.get(*name) != Some(*value)) {
        changes.insert(name.clone(), Some(value.clone()));
    }
    changes
}
