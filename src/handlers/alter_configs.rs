//! IncrementalAlterConfigs, AlterConfigs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::TopicId;
use aquifer_protocol::messages::alter_configs::{self, AlterConfigsRequest, AlterConfigsResponse};
use aquifer_protocol::messages::incremental_alter_configs::{
    self as incremental, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use aquifer_protocol::{ErrorCode, Str};

use super::configs::{Refused, Resource, resource};
use super::context::Context;
use super::errors;
use crate::config::{Alteration, BrokerScope, Problems};
use crate::metadata::apply::GROUP_NAME_BYTES_MAX;
use crate::metadata::command::{
    ConfigChanges, KnownConfigs, SetBrokerConfigs, SetGroupConfigs, SetTopicConfigs,
};
use crate::metadata::image::Configs;
use crate::metadata::{Command, ProposeError, Rejected};

/// How long an answer waits for a change to be in force on this broker.
const IN_FORCE_WAIT: Duration = Duration::from_secs(5);

/// How often an addition to a list, or a subtraction, starts over because others were faster. One of them gets on each time.
const TRIES_MAX: u32 = 50;

/// What a resource's configuration shall become.
enum Wanted {
    /// What it is, with these changes.
    Changed(Vec<(String, Alteration)>),
    /// These values, and nothing else.
    Replaced(Configs),
}

/// Changes configurations. Each resource is judged alone, and wholly changed or not at all.
pub(crate) async fn change(
    context: Arc<Context>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let named =
        |asked: &incremental::AlterConfigsResource| (asked.resource_type, asked.resource_name.clone());
    let counts = counted(request.resources.iter().map(named));
    let mut response = IncrementalAlterConfigsResponse::default();
    for asked in &request.resources {
        let resource = named(asked);
        let alterations = asked.configs.iter().map(alteration).collect::<Result<Vec<_>, _>>();
        let outcome = match alterations {
            _ if counts[&resource] > 1 => Err(more_than_once()),
            Ok(alterations) => {
                alter(&context, &resource, Wanted::Changed(alterations), request.validate_only).await
            }
            Err(refused) => Err(refused),
        };
        let (error_code, error_message) = told(outcome);
        let (resource_type, resource_name) = resource;
        response.responses.push(incremental::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        });
    }
    response
}

/// Replaces configurations: what a resource has and the request does not name goes back to its default.
pub(crate) async fn replace(context: Arc<Context>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let named =
        |asked: &alter_configs::AlterConfigsResource| (asked.resource_type, asked.resource_name.clone());
    let counts = counted(request.resources.iter().map(named));
    let mut response = AlterConfigsResponse::default();
    for asked in &request.resources {
        let resource = named(asked);
        let outcome = match replacement(&asked.configs) {
            _ if counts[&resource] > 1 => Err(more_than_once()),
            Ok(wanted) => alter(&context, &resource, wanted, request.validate_only).await,
            Err(refused) => Err(refused),
        };
        let (error_code, error_message) = told(outcome);
        let (resource_type, resource_name) = resource;
        response.responses.push(alter_configs::AlterConfigsResourceResponse {
            error_code,
            error_message,
            resource_type,
            resource_name,
        });
    }
    response
}

/// A resource's kind and name.
type Named = (i8, Str);

fn counted(named: impl Iterator<Item = Named>) -> HashMap<Named, usize> {
    let mut counts = HashMap::new();
    named.for_each(|resource| *counts.entry(resource).or_default() += 1);
    counts
}

/// As in Kafka none of them is changed: nobody could tell which was meant to be last.
fn more_than_once() -> Refused {
    Refused::new(ErrorCode::INVALID_REQUEST, "the request names this resource more than once")
}

fn told(outcome: Result<(), Refused>) -> (ErrorCode, Option<Str>) {
    match outcome {
        Ok(()) => (ErrorCode::NONE, None),
        Err(refused) => (refused.code, errors::message(&refused.words)),
    }
}

fn replacement(configs: &[alter_configs::AlterableConfig]) -> Result<Wanted, Refused> {
    let mut values = Configs::new();
    for config in configs {
        let value = config.value.as_deref().ok_or_else(|| without_value(&config.name))?;
        if values.insert(config.name.to_string(), value.to_owned()).is_some() {
            return Err(key_more_than_once(&config.name));
        }
    }
    Ok(Wanted::Replaced(values))
}

fn without_value(key: &str) -> Refused {
    Refused::new(ErrorCode::INVALID_REQUEST, format!("{key}: a value is missing"))
}

fn key_more_than_once(key: &str) -> Refused {
    Refused::new(ErrorCode::INVALID_REQUEST, format!("the request alters {key} more than once"))
}

impl Wanted {
    /// What has to be done to `current` for it.
    fn alterations(&self, current: &Configs) -> Vec<(String, Alteration)> {
        match self {
            Wanted::Changed(alterations) => alterations.clone(),
            Wanted::Replaced(values) => {
                let gone = current.keys().filter(|name| !values.contains_key(*name));
                let set = |(name, value): (&String, &String)| (name.clone(), Alteration::Set(value.clone()));
                gone.map(|name| (name.clone(), Alteration::Delete)).chain(values.iter().map(set)).collect()
            }
        }
    }
}

async fn alter(
    context: &Context,
    resource: &Named,
    wanted: Wanted,
    validate_only: bool,
) -> Result<(), Refused> {
    if let Wanted::Changed(alterations) = &wanted {
        let mut names = HashSet::new();
        if let Some((name, _)) = alterations.iter().find(|(name, _)| !names.insert(name)) {
            return Err(key_more_than_once(name));
        }
    }
    let not_proposed = |error: &ProposeError| Refused::new(errors::of_propose(error), error.to_string());
    let mut tries = 0;
    let follower = loop {
        let (command, follower) = command(context, resource, &wanted)?;
        if validate_only {
            return context.metadata.check(&command).map_err(|error| not_proposed(&error));
        }
        tries += 1;
        match context.metadata.propose(command).await {
            Ok(_) => break follower,
            // Somebody was faster: what they made of it is in the image by now, and is what this builds on next.
            Err(ProposeError::Rejected(Rejected::StaleConfigs(_))) if tries < TRIES_MAX => {}
            Err(error) => return Err(not_proposed(&error)),
        }
    };
    // Whoever is told yes finds it in force. If this broker is slow to take it, it is settled all the same.
    let deadline = context.world.clock.now() + IN_FORCE_WAIT;
    match follower {
        Follower::Replicas(topic) => {
            let _ = context.replicas.carried_out(&context.metadata.image(), topic, deadline).await;
        }
        Follower::Broker => settings_in_force(context, deadline).await,
        Follower::Nobody => {}
    }
    Ok(())
}

/// Who has to take note of a change before it is in force.
enum Follower {
    /// A topic's replicas.
    Replicas(TopicId),
    /// The broker's configuration.
    Broker,
    /// It is read from the newest image each time.
    Nobody,
}

/// Waits until the broker's configuration is made of what the newest image says.
async fn settings_in_force(context: &Context, deadline: tokio::time::Instant) {
    let image = context.metadata.image();
    let (all, own) = (image.broker_configs(None), image.broker_configs(Some(context.broker)));
    let mut configs = context.config.clone();
    let reached = configs.wait_for(|config| config.is_made_of(all, own));
    // Nobody tells of a change when the broker stops.
    let _ = tokio::time::timeout_at(deadline, reached).await;
}

/// What to propose, from the newest image, and who follows it.
fn command(context: &Context, (kind, name): &Named, wanted: &Wanted) -> Result<(Command, Follower), Refused> {
    let image = context.metadata.image();
    let config = context.config();
    let invalid = |problems: Problems| Refused::new(ErrorCode::INVALID_CONFIG, problems.to_string());
    match resource(context, *kind, name)? {
        Resource::Topic(topic) => {
            let alterations = wanted.alterations(&topic.configs);
            let changed = config.alter_topic(&topic.configs, &alterations).map_err(invalid)?;
            let changes = changes(&topic.configs, &changed);
            let known = known(&topic.configs, &alterations);
            let set = SetTopicConfigs { topic: topic.id, changes, known };
            Ok((Command::SetTopicConfigs(set), Follower::Replicas(topic.id)))
        }
        Resource::Broker(broker) => {
            let scope = if broker.is_none() { BrokerScope::Cluster } else { BrokerScope::Broker };
            // The configuration in force follows the image a little later.
            let (all, own) = (image.broker_configs(None), image.broker_configs(Some(context.broker)));
            let (config, _) = config.with_dynamic(all, own);
            let before = image.broker_configs(broker);
            let alterations = wanted.alterations(before);
            let changed = config.alter_broker(scope, &alterations).map_err(invalid)?;
            let (changes, known) = (changes(before, &changed), known(before, &alterations));
            let set = SetBrokerConfigs { broker, changes, known };
            Ok((Command::SetBrokerConfigs(set), Follower::Broker))
        }
        Resource::Group(group) => {
            if group.len() > GROUP_NAME_BYTES_MAX {
                let words = format!(
                    "a group with settings of its own has a name of {GROUP_NAME_BYTES_MAX} bytes at most"
                );
                return Err(Refused::new(ErrorCode::INVALID_REQUEST, words));
            }
            let before = image.group_configs(&group);
            let alterations = wanted.alterations(before);
            let changed = config.alter_group(before, &alterations).map_err(invalid)?;
            let (changes, known) = (changes(before, &changed), known(before, &alterations));
            let set = SetGroupConfigs { group, changes, known };
            Ok((Command::SetGroupConfigs(set), Follower::Nobody))
        }
    }
}

fn alteration(config: &incremental::AlterableConfig) -> Result<(String, Alteration), Refused> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    let value = || config.value.as_deref().map(str::to_owned).ok_or_else(|| without_value(&config.name));
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
