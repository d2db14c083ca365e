//! Changes at run time: what IncrementalAlterConfigs asks for, checked, as new strings to store.
//!
//! Nothing is stored here. A change is checked with all that it meets, since two values that are each allowed may not go
//! together; the strings that come back are canonical.

use std::collections::BTreeSet;

use super::problem::{Problem, Problems};
use super::reader::Entry;
use super::refused;
use super::resolved::{Config, stays_local};
use super::source::{Overrides, Source};
use super::unknown;
use super::values::{ValueType, list_items};

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alteration {
    /// Sets it.
    Set(String),
    /// Gives it back its default; one that was not set is fine.
    Delete,
    /// Adds these items to a list.
    Append(String),
    /// Takes these items from a list.
    Subtract(String),
}

/// Whose dynamic configuration is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerScope {
    /// That of all brokers.
    Cluster,
    /// That of this one.
    Broker,
}

impl Config {
    /// What a topic's overrides become; fails with all that is wrong.
    pub fn alter_topic(
        &self,
        current: &Overrides,
        alterations: &[(String, Alteration)],
    ) -> Result<Overrides, Problems> {
        let (before, reading) = self.read_topic(current);
        let keys = Keys { entries: &reading.entries, name: |entry| entry.topic, source: Source::Topic };
        let mut altered =
            keys.alter(current, alterations, |key| unknown::unknown_to_topic(key, self.entries()))?;
        let (mut after, mut reading) = self.read_topic(&altered);
        if after.compaction.is_some() {
            stays_local(&mut altered);
            (after, reading) = self.read_topic(&altered);
        }
        let mut problems = reading.problems;
        // Beside a problem of its own the key counts as not given, which is not what was asked for.
        if problems.is_empty() && before.tiered && !after.tiered {
            problems.push(Problem {
                key: "remote.storage.enable".to_owned(),
                value: Some("false".to_owned()),
                source: Source::Topic,
                why: "a tiered topic stays tiered: part of its records are only in the bucket".to_owned(),
            });
        }
        let keys = Keys { entries: &reading.entries, ..keys };
        Problems::or(problems, keys.canonical())
    }

    /// What a group's overrides become; fails with all that is wrong.
    pub fn alter_group(
        &self,
        current: &Overrides,
        alterations: &[(String, Alteration)],
    ) -> Result<Overrides, Problems> {
        let reading = self.read_group(current);
        let keys = Keys { entries: &reading.entries, name: |entry| entry.group, source: Source::Group };
        let altered =
            keys.alter(current, alterations, |key| unknown::unknown_to_group(key, self.entries()))?;
        let reading = self.read_group(&altered);
        let keys = Keys { entries: &reading.entries, ..keys };
        Problems::or(reading.problems, keys.canonical())
    }

    /// What the dynamic configuration of all brokers, or of this one, becomes; fails with all that is wrong.
    pub fn alter_broker(
        &self,
        scope: BrokerScope,
        alterations: &[(String, Alteration)],
    ) -> Result<Overrides, Problems> {
        let mut dynamic = self.dynamic().clone();
        let (current, source) = match scope {
            BrokerScope::Cluster => (&mut dynamic.cluster, Source::DynamicCluster),
            BrokerScope::Broker => (&mut dynamic.broker, Source::DynamicBroker),
        };
        let name = |entry: &Entry| entry.broker.filter(|_| entry.dynamic);
        let keys = Keys { entries: self.entries(), name, source };
        let unknown = |key: &str| {
            let is_fixed = self.entries().iter().any(|entry| entry.broker_names().any(|name| name == key));
            match is_fixed {
                true => {
                    "is read when the broker starts: set it in its configuration and start it anew".to_owned()
                }
                false => match refused::judge(key, "") {
                    Some(Err(why)) => why,
                    Some(Ok(())) | None => unknown::unknown_to_broker(key, self.entries(), &Source::Set),
                },
            }
        };
        *current = keys.alter(current, alterations, unknown)?;
        let (after, problems) = self.with_dynamic(&dynamic.cluster, &dynamic.broker);
        let keys = Keys { entries: after.entries(), ..keys };
        Problems::or(problems, keys.canonical())
    }
}

/// The keys that may change, under the names that they are changed by.
struct Keys<'a> {
    entries: &'a [Entry],
    name: fn(&Entry) -> Option<&'static str>,
    source: Source,
}

impl Keys<'_> {
    fn alter(
        &self,
        current: &Overrides,
        alterations: &[(String, Alteration)],
        unknown: impl Fn(&str) -> String,
    ) -> Result<Overrides, Problems> {
        let mut altered = current.clone();
        let mut problems = Vec::new();
        let mut seen = BTreeSet::new();
        for (key, alteration) in alterations {
            let entry = self.entries.iter().find(|entry| (self.name)(entry) == Some(key));
            let done = match entry {
                _ if !seen.insert(key) => Err("is altered twice".to_owned()),
                // What an older or newer version stored can always be removed.
                None if *alteration == Alteration::Delete && current.contains_key(key) => Ok(None),
                None => Err(unknown(key)),
                Some(entry) => altered_value(entry, current.get(key), alteration),
            };
            match done {
                Ok(Some(value)) => drop(altered.insert(key.clone(), value)),
                Ok(None) => drop(altered.remove(key)),
                Err(why) => problems.push(Problem {
                    key: key.clone(),
                    value: alteration.value().cloned(),
                    source: self.source.clone(),
                    why,
                }),
            }
        }
        Problems::or(problems, altered)
    }

    /// What these keys were given under their own source, in canonical texts.
    fn canonical(&self) -> Overrides {
        let own = self.entries.iter().filter_map(|entry| {
            let setting = entry.settings.iter().find(|setting| setting.source == self.source)?;
            Some(((self.name)(entry)?.to_owned(), setting.value.clone()))
        });
        own.collect()
    }
}

impl Alteration {
    fn value(&self) -> Option<&String> {
        match self {
            Alteration::Set(value) | Alteration::Append(value) | Alteration::Subtract(value) => Some(value),
            Alteration::Delete => None,
        }
    }
}

/// The new value; `None` for the default.
fn altered_value(
    entry: &Entry,
    current: Option<&String>,
    alteration: &Alteration,
) -> Result<Option<String>, String> {
    let is_list = entry.value_type == ValueType::List;
    let current = current.map_or_else(|| entry.in_force().value.clone(), String::clone);
    match alteration {
        Alteration::Set(value) => Ok(Some(value.clone())),
        Alteration::Delete => Ok(None),
        Alteration::Append(_) | Alteration::Subtract(_) if !is_list => {
            Err("is no list: items cannot be added to it or taken from it".to_owned())
        }
        Alteration::Append(added) => {
            let mut items = list_items(&current);
            for item in list_items(added) {
                if !items.contains(&item) {
                    items.push(item);
                }
            }
            Ok(Some(items.join(",")))
        }
        Alteration::Subtract(taken) => {
            let taken = list_items(taken);
            let kept: Vec<&str> =
                list_items(&current).into_iter().filter(|item| !taken.contains(item)).collect();
            Ok(Some(kept.join(",")))
        }
    }
}
