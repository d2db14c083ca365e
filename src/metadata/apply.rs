//! The only judge: what a command does to an image, or why it is refused.
//!
//! Pure: no clock, no randomness, no I/O; whoever applies the same commands to the same image gets the same image, on every node
//! and in every version that applies them. So nothing here may depend on this node's settings, and a rule or limit may change
//! only under a new feature level: commands that were judged once are judged again at every replay of the log.
//!
//! A refused command changes nothing: each function below checks all it has to check before it changes anything.
//!
//! It does not know what a setting means, where replicas should best lie, or who is alive: the proposer does, and says so in the
//! command.

use std::collections::BTreeMap;
use std::sync::Arc;

use aquifer_model::{BrokerId, ProducerId};

use super::command::{AllocateProducerIds, BrokerRef, Command, FormatCluster, ProducerIdBlock, SetFeatures};
use super::image::{Broker, BrokerState, Cluster, Image};
use super::verdict::{Outcome, Rejected};

/// Registration, fencing, and what they do to partitions.
mod brokers;
/// Leaders and in-sync sets.
mod partitions;
/// Client quotas.
mod quotas;
/// Settings.
mod settings;
/// Topics come, grow and go.
mod topics;

/// Partitions of one topic.
pub const TOPIC_PARTITIONS_MAX: usize = 10_000;
/// Partitions of all topics.
pub const PARTITIONS_MAX: usize = 1_000_000;
/// Replicas of one partition.
pub const REPLICAS_MAX: usize = 32;
/// Settings of one topic, broker or group.
pub const CONFIGS_MAX: usize = 256;
/// Length of a setting's value, in bytes.
pub const CONFIG_VALUE_BYTES_MAX: usize = 32 << 10;
/// Groups that have settings of their own.
pub const CONFIGURED_GROUPS_MAX: usize = 10_000;
/// Length of the name of a group that has settings of its own, in bytes.
pub const GROUP_NAME_BYTES_MAX: usize = 1024;
/// Entities that have client quotas.
pub const CLIENT_QUOTAS_MAX: usize = 10_000;
/// Client quotas of one entity.
pub const QUOTA_KEYS_MAX: usize = 16;
/// Length of a user, client id or address that has client quotas, in bytes.
pub const QUOTA_NAME_BYTES_MAX: usize = 1024;
/// Length of any other text (host, rack, listener, key), in bytes.
pub const TEXT_BYTES_MAX: usize = 255;
/// Endpoints of one broker.
pub const ENDPOINTS_MAX: usize = 16;
/// Log directories of one broker.
pub const DIRECTORIES_MAX: usize = 64;
/// Producer ids at a time.
pub const PRODUCER_IDS_MAX: u32 = 1_000_000;
/// Features.
pub const FEATURES_MAX: usize = 64;

/// Judges `command`; changes `image` if it stands.
pub fn apply(image: &mut Image, command: &Command) -> Result<Outcome, Rejected> {
    if let Command::FormatCluster(command) = command {
        return format_cluster(image, command);
    }
    if image.cluster.is_none() {
        return Err(Rejected::NotFormatted);
    }
    match command {
        Command::FormatCluster(_) => Err(Rejected::AlreadyFormatted),
        Command::RegisterBroker(command) => brokers::register(image, command),
        Command::UnfenceBroker(broker) => brokers::unfence(image, *broker),
        Command::FenceBroker(broker) => brokers::fence(image, *broker),
        Command::ForfeitReplicas(command) => brokers::forfeit_replicas(image, command),
        Command::CreateTopic(command) => topics::create(image, command),
        Command::DeleteTopic(command) => topics::delete(image, command),
        Command::ForgetTopic(topic) => topics::forget(image, *topic),
        Command::CreatePartitions(command) => topics::create_partitions(image, command),
        Command::SetTopicConfigs(command) => settings::set_topic_configs(image, command),
        Command::SetBrokerConfigs(command) => settings::set_broker_configs(image, command),
        Command::SetGroupConfigs(command) => settings::set_group_configs(image, command),
        Command::SetClientQuotas(command) => quotas::set_client_quotas(image, command),
        Command::ChangeIsr(command) => partitions::change_isr(image, command),
        Command::ChangeLeader(command) => partitions::change_leader(image, command),
        Command::AllocateProducerIds(command) => allocate_producer_ids(image, command),
        Command::SetFeatures(command) => set_features(image, command),
    }
}

fn format_cluster(image: &mut Image, command: &FormatCluster) -> Result<Outcome, Rejected> {
    if image.cluster.is_some() {
        return Err(Rejected::AlreadyFormatted);
    }
    let features = changed_features(&BTreeMap::new(), &command.features)?;
    image.cluster = Some(Cluster { id: command.cluster, incarnation: command.incarnation });
    image.features = Arc::new(features);
    Ok(Outcome::Done)
}

fn allocate_producer_ids(image: &mut Image, command: &AllocateProducerIds) -> Result<Outcome, Rejected> {
    registered(image, command.broker)?;
    if !(1..=PRODUCER_IDS_MAX).contains(&command.count) {
        return Err(Rejected::InvalidBlock { count: command.count, max: PRODUCER_IDS_MAX });
    }
    let first = image.producer_id_next;
    let next = first.checked_add(i64::from(command.count)).ok_or(Rejected::Exhausted("producer ids"))?;
    image.producer_id_next = next;
    Ok(Outcome::ProducerIds(ProducerIdBlock { first: ProducerId(first), count: command.count }))
}

fn set_features(image: &mut Image, command: &SetFeatures) -> Result<Outcome, Rejected> {
    let features = changed_features(&image.features, &command.levels)?;
    if features != *image.features {
        image.features = Arc::new(features);
    }
    Ok(Outcome::Done)
}

fn changed_features(
    features: &BTreeMap<String, i16>,
    levels: &BTreeMap<String, i16>,
) -> Result<BTreeMap<String, i16>, Rejected> {
    let mut features = features.clone();
    for (name, &level) in levels {
        if name.is_empty() || name.len() > TEXT_BYTES_MAX {
            return Err(Rejected::InvalidFeature("a name is empty or too long"));
        }
        match level {
            ..0 => return Err(Rejected::InvalidFeature("a level is negative")),
            0 => features.remove(name),
            1.. => features.insert(name.clone(), level),
        };
    }
    if features.len() > FEATURES_MAX {
        return Err(Rejected::InvalidFeature("there are too many"));
    }
    Ok(features)
}

/// The broker, if this is its newest registration.
fn registered(image: &Image, asked: BrokerRef) -> Result<&Arc<Broker>, Rejected> {
    let broker = image.broker(asked.broker).ok_or(Rejected::UnknownBroker(asked.broker))?;
    match asked.epoch.cmp(&broker.epoch) {
        std::cmp::Ordering::Less => Err(Rejected::StaleBrokerEpoch { current: broker.epoch }),
        std::cmp::Ordering::Equal => Ok(broker),
        std::cmp::Ordering::Greater => Err(Rejected::NewerEpoch),
    }
}

fn is_active(brokers: &BTreeMap<BrokerId, Arc<Broker>>, broker: BrokerId) -> bool {
    brokers.get(&broker).is_some_and(|broker| broker.state == BrokerState::Active)
}

#[cfg(test)]
mod tests;
