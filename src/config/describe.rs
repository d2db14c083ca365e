//! What DescribeConfigs tells of a broker, a topic or a group.

use super::reader::{Entry, Setting};
use super::resolved::Config;
use super::source::{Overrides, Source};
use super::values::ValueType;

/// A key, and what it comes to. No key of ours is a secret: credentials are not configured here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The key, as the broker, the topic or the group calls it.
    pub name: &'static str,
    /// The value in force; `None` where nothing is set and nothing is what that means.
    pub value: Option<String>,
    /// Where the value in force came from.
    pub source: Source,
    /// Whether it cannot change while the broker runs.
    pub read_only: bool,
    /// By Kafka's names.
    pub value_type: ValueType,
    /// All values that the key was given, the one in force first, its default last.
    pub synonyms: Vec<Setting>,
    /// What it does.
    pub documentation: &'static str,
}

impl Config {
    /// All keys of a topic with `overrides`, by name.
    pub fn describe_topic(&self, overrides: &Overrides) -> Vec<Described> {
        let (_, reading) = self.read_topic(overrides);
        let told = reading.entries.iter().filter_map(|entry| Some(described(entry.topic?, entry, false)));
        sorted(told.collect())
    }

    /// All keys of a group with `overrides`, by name.
    pub fn describe_group(&self, overrides: &Overrides) -> Vec<Described> {
        let reading = self.read_group(overrides);
        let told = reading.entries.iter().filter_map(|entry| Some(described(entry.group?, entry, false)));
        sorted(told.collect())
    }

    /// All keys of this broker, by name.
    pub fn describe_broker(&self) -> Vec<Described> {
        let told =
            self.entries().iter().filter_map(|entry| Some(described(entry.broker?, entry, !entry.dynamic)));
        sorted(told.collect())
    }

    /// What was set for all brokers at run time, by name; as in Kafka, nothing else.
    pub fn describe_cluster(&self) -> Vec<Described> {
        let told = self.describe_broker().into_iter().filter_map(|mut described| {
            described.synonyms.retain(|setting| setting.source == Source::DynamicCluster);
            let setting = described.synonyms.first()?;
            (described.value, described.source) = (Some(setting.value.clone()), setting.source.clone());
            Some(described)
        });
        told.collect()
    }
}

fn described(name: &'static str, entry: &Entry, read_only: bool) -> Described {
    let in_force = entry.in_force();
    let is_nothing = entry.value_type == ValueType::String && in_force.value.is_empty();
    Described {
        name,
        value: (!is_nothing).then(|| in_force.value.clone()),
        source: in_force.source.clone(),
        read_only,
        value_type: entry.value_type,
        synonyms: entry.settings.clone(),
        documentation: entry.doc,
    }
}

fn sorted(mut described: Vec<Described>) -> Vec<Described> {
    described.sort_by_key(|described| described.name);
    described
}
