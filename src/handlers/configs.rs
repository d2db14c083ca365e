//! DescribeConfigs, ListConfigResources; whose configurations there are.

use std::collections::HashSet;
use std::sync::Arc;

use aquifer_model::{BrokerId, TopicName};
use aquifer_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use aquifer_protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use aquifer_protocol::{ErrorCode, Str};

use super::context::Context;
use super::errors;
use super::topics_by;
use crate::config::{Described, Source, ValueType};
use crate::metadata::image::{BrokerState, Topic};

/// Kafka's kinds of resources that have configurations here.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
/// Those that Kafka has besides: log levels of a broker, and subscriptions to clients' metrics.
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;

/// Why a resource's configuration is not to be had, or not to be changed.
pub(super) struct Refused {
    pub(super) code: ErrorCode,
    pub(super) words: String,
}

impl Refused {
    pub(super) fn new(code: ErrorCode, words: impl Into<String>) -> Refused {
        Refused { code, words: words.into() }
    }
}

/// Whose configuration.
pub(super) enum Resource {
    Topic(Arc<Topic>),
    /// `None` is what was set for all brokers.
    Broker(Option<BrokerId>),
    /// It need not be there.
    Group(String),
}

/// Tells configurations. A resource that is named more than once is told of once, or a small request could ask for any amount of
/// memory.
pub(crate) fn describe(context: &Context, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let mut named = HashSet::new();
    let once = request.resources.iter();
    let once = once.filter(|wanted| named.insert((wanted.resource_type, &wanted.resource_name)));
    let results = once.map(|wanted| {
        let mut result = DescribeConfigsResult {
            error_message: None,
            resource_type: wanted.resource_type,
            resource_name: wanted.resource_name.clone(),
            ..DescribeConfigsResult::default()
        };
        match described(context, wanted) {
            Ok(configs) => {
                // No key named is all of them, whether the list is missing or empty.
                let shown = |name: &str| {
                    let keys = wanted.configuration_keys.as_deref().unwrap_or_default();
                    keys.is_empty() || keys.iter().any(|key| &**key == name)
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
        Resource::Group(group) => Ok(config.describe_group(context.metadata.image().group_configs(&group))),
    }
}

/// Finds the resource, as Kafka numbers and names it.
pub(super) fn resource(context: &Context, kind: i8, name: &str) -> Result<Resource, Refused> {
    let refused = |words: String| Err(Refused::new(ErrorCode::INVALID_REQUEST, words));
    match kind {
        TOPIC => {
            if let Err(error) = TopicName::new(name) {
                return Err(Refused::new(ErrorCode::INVALID_TOPIC_EXCEPTION, error.to_string()));
            }
            let image = context.metadata.image();
            let topic = topics_by::by_name(&image, name);
            topic
                .cloned()
                .map(Resource::Topic)
                .map_err(|code| Refused::new(code, format!("no topic is called {name:?}")))
        }
        BROKER if name.is_empty() => Ok(Resource::Broker(None)),
        BROKER if name == context.broker.0.to_string() => Ok(Resource::Broker(Some(context.broker))),
        BROKER => refused(format!("this is broker {}, not {name:?}: ask that one", context.broker)),
        BROKER_LOGGER => refused("what a broker logs is set by logging.level, when it starts".to_owned()),
        CLIENT_METRICS => refused("clients are not asked for their metrics here".to_owned()),
        GROUP if name.is_empty() => {
            refused("a group has a name; what holds for all of them is set for brokers".to_owned())
        }
        GROUP => Ok(Resource::Group(name.to_owned())),
        kind => refused(format!("resources of type {kind} are unknown")),
    }
}

fn told(config: Described, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let mut synonyms = Vec::new();
    if request.include_synonyms {
        synonyms.extend(config.synonyms.iter().map(|setting| DescribeConfigsSynonym {
            name: Str::from(setting.name),
            value: Some(Str::from(setting.given.as_str())),
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
        Source::Group => 8,
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

/// Names the resources that may have a configuration of their own; all kinds, if none is named.
pub(crate) fn list(
    context: &Context,
    request: &ListConfigResourcesRequest,
    version: i16,
) -> ListConfigResourcesResponse {
    // Version 0 knew one kind, which there is none of here.
    let known: &[i8] =
        if version == 0 { &[CLIENT_METRICS] } else { &[TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP] };
    if request.resource_types.iter().any(|kind| !known.contains(kind)) {
        // Kafka's word for a kind that it has never heard of.
        return ListConfigResourcesResponse {
            error_code: ErrorCode::UNSUPPORTED_VERSION,
            ..ListConfigResourcesResponse::default()
        };
    }
    let wanted = |kind: i8| {
        known.contains(&kind) && (request.resource_types.is_empty() || request.resource_types.contains(&kind))
    };
    let image = context.metadata.image();
    let mut config_resources = Vec::new();
    if wanted(BROKER) {
        let active = image.brokers().filter(|broker| broker.state == BrokerState::Active);
        config_resources.extend(active.map(|broker| listed(&broker.id.to_string(), BROKER)));
    }
    if wanted(TOPIC) {
        config_resources.extend(image.topics().map(|topic| listed(&topic.name, TOPIC)));
    }
    if wanted(GROUP) {
        config_resources.extend(image.configured_groups().map(|group| listed(group, GROUP)));
    }
    ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() }
}

fn listed(name: &str, resource_type: i8) -> ConfigResource {
    ConfigResource { resource_name: Str::from(name), resource_type }
}
