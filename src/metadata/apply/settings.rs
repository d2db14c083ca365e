//! Settings of topics and brokers. What they mean was checked before they were proposed; here only their size is.

use std::sync::Arc;

use super::{CONFIG_VALUE_BYTES_MAX, CONFIGS_MAX, TEXT_BYTES_MAX};
use crate::metadata::command::{ConfigChanges, KnownConfigs, SetBrokerConfigs, SetTopicConfigs};
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
