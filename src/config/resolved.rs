//! A broker's configuration with where each value came from, and what follows from it for a topic.

use std::sync::Arc;

use super::broker::{self, BrokerConfig};
use super::consumer_groups;
use super::input::{self, Sources};
use super::problem::{Problem, Problems};
use super::reader::{Entry, Reader, Reading};
use super::source::{Layer, Overrides, Source, layer};
use super::topic::{self, TopicConfig};
use super::unknown;
use super::values::list_items;

/// A broker's configuration in force. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Config(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    broker: BrokerConfig,
    entries: Vec<Entry>,
    /// Weakest first.
    fixed: Vec<Layer>,
    /// Over the fixed ones: all brokers', then this broker's.
    dynamic: Dynamic,
}

/// What was set at run time.
#[derive(Debug, Clone, Default)]
pub(super) struct Dynamic {
    pub(super) cluster: Overrides,
    pub(super) broker: Overrides,
}

impl Config {
    /// Puts a broker's configuration together; fails with all that is wrong.
    pub fn load(sources: Sources) -> Result<Config, Problems> {
        let (fixed, mut problems) = input::layers(sources);
        let (config, found) = Config::read(fixed, Dynamic::default());
        problems.extend(found);
        Problems::or(problems, config)
    }

    /// This configuration with what was set at run time, for all brokers and for this one, in place of what was before. What
    /// is wrong with those is told and passed over: a broker must come up with what it has.
    pub fn with_dynamic(&self, cluster: &Overrides, broker: &Overrides) -> (Config, Vec<Problem>) {
        Config::read(self.0.fixed.clone(), Dynamic { cluster: cluster.clone(), broker: broker.clone() })
    }

    /// Whether it is made of this that was set at run time, for all brokers and for this one.
    pub fn is_made_of(&self, cluster: &Overrides, broker: &Overrides) -> bool {
        let Dynamic { cluster: all, broker: own } = &self.0.dynamic;
        all == cluster && own == broker
    }

    fn read(fixed: Vec<Layer>, dynamic: Dynamic) -> (Config, Vec<Problem>) {
        let layers = all_layers(&fixed, &dynamic);
        let mut reader = Reader::of_broker(&layers);
        let broker = broker::read(&mut reader);
        let Reading { entries, mut problems } = reader.finish();
        for layer in &layers {
            problems.extend(unknown::in_broker_layer(layer, &entries));
        }
        (Config(Arc::new(Inner { broker, entries, fixed, dynamic })), problems)
    }

    /// What holds for this broker.
    pub fn broker(&self) -> &BrokerConfig {
        &self.0.broker
    }

    /// What holds for a topic with `overrides`, which must all be allowed, alone and together.
    pub fn check_topic(&self, overrides: &Overrides) -> Result<TopicConfig, Problems> {
        let (config, problems) = self.topic(overrides);
        Problems::or(problems, config)
    }

    /// What holds for a stored topic. What is wrong with its overrides (another version or another broker accepted them) is
    /// told, and the broker's default takes its place.
    pub fn topic(&self, overrides: &Overrides) -> (TopicConfig, Vec<Problem>) {
        let (config, reading) = self.read_topic(overrides);
        (config, reading.problems)
    }

    /// What a topic that is to be made with `overrides` is given: a compacted one that does not ask for a place in the bucket gets
    /// none, and says so itself, so that it stays out when its policy or the brokers' defaults change.
    pub fn for_new_topic(&self, overrides: &Overrides) -> Overrides {
        let (_, reading) = self.read_topic(overrides);
        let policy = reading.entries.iter().find(|entry| entry.topic == Some("cleanup.policy"));
        let compacted = policy.is_some_and(|entry| list_items(&entry.in_force().value).contains(&"compact"));
        let mut given = overrides.clone();
        if compacted {
            stays_local(&mut given);
        }
        given
    }

    pub(super) fn read_topic(&self, overrides: &Overrides) -> (TopicConfig, Reading) {
        let layers = all_layers(&self.0.fixed, &self.0.dynamic);
        let topic = layer(overrides, &Source::Topic);
        let mut reader = Reader::of_topic(&layers, &topic);
        let config = topic::read(&mut reader, self.0.broker.tier.is_some());
        let mut reading = reader.finish();
        reading.problems.extend(unknown::in_topic_layer(&topic, &self.0.entries));
        (config, reading)
    }

    /// The keys that a group with `overrides` may have, among those of brokers that bound them.
    pub(super) fn read_group(&self, overrides: &Overrides) -> Reading {
        let layers = all_layers(&self.0.fixed, &self.0.dynamic);
        let group = layer(overrides, &Source::Group);
        let mut reader = Reader::of_group(&layers, &group);
        consumer_groups::read(&mut reader);
        let mut reading = reader.finish();
        reading.problems.extend(unknown::in_group_layer(&group, &self.0.entries));
        reading
    }

    /// All keys of a broker, and of topics, with what they come to without overrides.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.0.entries
    }

    pub(super) fn dynamic(&self) -> &Dynamic {
        &self.0.dynamic
    }
}

fn all_layers(fixed: &[Layer], dynamic: &Dynamic) -> Vec<Layer> {
    let mut layers = fixed.to_vec();
    layers.push(layer(&dynamic.cluster, &Source::DynamicCluster));
    layers.push(layer(&dynamic.broker, &Source::DynamicBroker));
    layers
}

/// A topic that is compacted is not tiered, also once its brokers have a bucket, unless it says so itself.
pub(super) fn stays_local(overrides: &mut Overrides) {
    overrides.entry("remote.storage.enable".to_owned()).or_insert_with(|| "false".to_owned());
}
