//! Settings of topics, brokers and groups. What they mean was checked before they were proposed; here only their size is.

use std::sync::Arc;

use super::{
    CONFIG_VALUE_BYTES_MAX, CONFIGS_MAX, CONFIGURED_GROUPS_MAX, GROUP_NAME_BYTES_MAX, TEXT_BYTES_MAX,
};
use crate::metadata::command::{
    ConfigChanges, KnownConfigs, SetBrokerConfigs, SetGroupConfigs, SetTopicConfigs,
};
use crate::metadata::image::{Configs, Image};
use crate::metadata::verdict::{Outcome, Rejected};

pub(super) fn set_topic_configs(image: &mut Image, command: &SetTopicConfigs) -> Result<Outcome, Rejected> {
    let topic = image.topic(command.topic).ok_or(Rejected::UnknownTopic)?;
    let configs = changed(&topic.configs, &command.changes, &command.known)?;
    if configs != *topic.configs {
        let topic = image.topics.get_mut(&command.topic).ok_or(Rejected::UnknownTopic)?;
        let topic = Arc::make_mut(topic);
        topic.configs = Arc::new(configs);
        topic.revision += 1;
    }
    Ok(Outcome::Done)
}

pub(super) fn set_broker_configs(image: &mut Image, command: &SetBrokerConfigs) -> Result<Outcome, Rejected> {
    if let Some(broker) = command.broker {
        image.broker(broker).ok_or(Rejected::UnknownBroker(broker))?;
    }
    let configs = changed(image.broker_configs(command.broker), &command.changes, &command.known)?;
    if configs != *image.broker_configs(command.broker) {
        let all = Arc::make_mut(&mut image.broker_configs);
        if configs.is_empty() {
            all.remove(&command.broker);
        } else {
            all.insert(command.broker, configs);
        }
    }
    Ok(Outcome::Done)
}

/// A group need not be there: what is set for it waits for it, and outlives it.
pub(super) fn set_group_configs(image: &mut Image, command: &SetGroupConfigs) -> Result<Outcome, Rejected> {
    let SetGroupConfigs { group, changes, known } = command;
    if group.is_empty() || group.len() > GROUP_NAME_BYTES_MAX {
        return Err(Rejected::InvalidConfigs("the name of the group is empty or too long"));
    }
    let before = image.group_configs(group);
    let configs = changed(before, changes, known)?;
    if configs == *before {
        return Ok(Outcome::Done);
    }
    let is_one_more = before.is_empty() && !configs.is_empty();
    if is_one_more && image.group_configs.len() >= CONFIGURED_GROUPS_MAX {
        return Err(Rejected::InvalidConfigs("too many groups have settings of their own"));
    }
    let all = Arc::make_mut(&mut image.group_configs);
    if configs.is_empty() {
        all.remove(group);
    } else {
        all.insert(group.clone(), configs);
    }
    Ok(Outcome::Done)
}

fn changed(configs: &Configs, changes: &ConfigChanges, known: &KnownConfigs) -> Result<Configs, Rejected> {
    if let Some((key, _)) = known.iter().find(|(key, value)| configs.get(*key) != value.as_ref()) {
        return Err(Rejected::StaleConfigs(key.clone()));
    }
    let mut configs = configs.clone();
    for (key, value) in changes {
        match value {
            Some(value) => configs.insert(key.clone(), value.clone()),
            None => configs.remove(key),
        };
    }
    check_configs(&configs)?;
    Ok(configs)
}

pub(super) fn check_configs(configs: &Configs) -> Result<(), Rejected> {
    if configs.len() > CONFIGS_MAX {
        return Err(Rejected::InvalidConfigs("there are too many"));
    }
    if configs.keys().any(|key| key.is_empty() || key.len() > TEXT_BYTES_MAX) {
        return Err(Rejected::InvalidConfigs("a key is empty or too long"));
    }
    if configs.values().any(|value| value.len() > CONFIG_VALUE_BYTES_MAX) {
        return Err(Rejected::InvalidConfigs("a value is too long"));
    }
    Ok(())
}
