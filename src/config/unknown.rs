//! Keys that nothing has read: misspelled, misplaced, or not supported.

use super::problem::Problem;
use super::reader::Entry;
use super::refused;
use super::source::{Given, Layer, Source};

/// Below this likeness a suggestion is more of a riddle than a help.
const LIKENESS_MIN: f64 = 0.7;
/// What environment variables of ours begin with.
pub(super) const VARIABLE_PREFIX: &str = "AQUIFER_";

/// Problems of the keys in a broker's layer that no entry has.
pub(super) fn in_broker_layer(layer: &Layer, entries: &[Entry]) -> Vec<Problem> {
    let unread =
        layer.iter().filter(|(key, _)| !entries.iter().any(|e| e.broker_names().any(|name| name == *key)));
    let judged = unread.filter_map(|(key, given)| {
        let why = match refused::judge(key, &given.text) {
            Some(Ok(())) => return None,
            Some(Err(why)) => return Some(problem(key, Some(given.text.clone()), given, why)),
            None => unknown_to_broker(key, entries, &given.source),
        };
        Some(problem(key, None, given, why))
    });
    judged.collect()
}

/// Problems of the keys in a topic's layer that no entry has.
pub(super) fn in_topic_layer(layer: &Layer, entries: &[Entry]) -> Vec<Problem> {
    let unread =
        layer.iter().filter(|(key, _)| !entries.iter().any(|entry| entry.topic == Some(key.as_str())));
    unread.map(|(key, given)| problem(key, None, given, unknown_to_topic(key, entries))).collect()
}

fn problem(key: &str, value: Option<String>, given: &Given, why: String) -> Problem {
    Problem { key: key.to_owned(), value, source: given.source.clone(), why }
}

/// What to say of a key that brokers do not have.
pub(super) fn unknown_to_broker(key: &str, entries: &[Entry], source: &Source) -> String {
    if let Some(entry) = entries.iter().find(|entry| entry.topic == Some(key)) {
        return match entry.broker {
            Some(broker) => format!("is a key of topics; the default that a broker has for it is {broker}"),
            None => "is a key of topics; brokers have no default for it".to_owned(),
        };
    }
    match nearest(key, entries.iter().flat_map(Entry::broker_names)) {
        Some(name) if matches!(source, Source::Environment(_)) => {
            format!("unknown key; did you mean {}?", variable_of(name))
        }
        Some(name) => format!("unknown key; did you mean {name}?"),
        None => "unknown key".to_owned(),
    }
}

/// What to say of a key that topics do not have.
pub(super) fn unknown_to_topic(key: &str, entries: &[Entry]) -> String {
    let known_to_broker = entries.iter().find(|entry| entry.broker_names().any(|name| name == key));
    if let Some(Entry { topic: Some(topic), .. }) = known_to_broker {
        return format!("is a key of brokers; a topic calls it {topic}");
    }
    if let Some(Err(why)) = refused::judge(key, "") {
        return why;
    }
    match nearest(key, entries.iter().filter_map(|entry| entry.topic)) {
        Some(name) => format!("unknown key of a topic; did you mean {name}?"),
        None => "unknown key of a topic".to_owned(),
    }
}

/// Problems of the keys in a group's layer that no entry has.
pub(super) fn in_group_layer(layer: &Layer, entries: &[Entry]) -> Vec<Problem> {
    let unread =
        layer.iter().filter(|(key, _)| !entries.iter().any(|entry| entry.group == Some(key.as_str())));
    unread.map(|(key, given)| problem(key, None, given, unknown_to_group(key, entries))).collect()
}

/// What to say of a key that groups do not have.
pub(super) fn unknown_to_group(key: &str, entries: &[Entry]) -> String {
    let known_to_broker = entries.iter().find(|entry| entry.broker_names().any(|name| name == key));
    if let Some(Entry { group: Some(group), .. }) = known_to_broker {
        return format!("is a key of brokers; a group calls it {group}");
    }
    if let Some(why) = refused::of_a_group(key) {
        return why;
    }
    match nearest(key, entries.iter().filter_map(|entry| entry.group)) {
        Some(name) => format!("unknown key of a group; did you mean {name}?"),
        None => "unknown key of a group".to_owned(),
    }
}

/// The variable that sets `key`.
pub(super) fn variable_of(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

fn nearest(key: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let plain = key.to_ascii_lowercase().replace(['_', '-'], ".");
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(&plain, name);
    let (likest, name) = names.map(|name| (likeness(name), name)).max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (likest >= LIKENESS_MIN).then_some(name)
}
