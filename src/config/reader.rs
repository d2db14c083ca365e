//! Reads declared keys from layers of given values.
//!
//! Each [`Reader::read`] is at once the declaration of a key and the look-up of its value. The reader notes both, so one pass
//! yields the typed configuration, where each value came from, and the list of all keys that exist; whatever was given and not
//! read by then is unknown.
//!
//! The layers are read strongest first; within a layer, a key's own name goes before its aliases. A value that is not allowed
//! is noted as a problem and the next weaker one is taken, so that a stored topic config that a newer version would refuse
//! does not make its partition unreadable.

use super::key::Key;
use super::problem::Problem;
use super::source::{Given, Layer, Source};
use super::values::ValueType;

/// A value that a key was given, or has by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name it was given under: the key's own, its broker synonym, or an alias in a coarser unit.
    pub name: &'static str,
    /// The value, in its canonical text and in the key's own unit.
    pub value: String,
    /// The same in the unit of the name that it was given under.
    pub given: String,
    /// Where it came from.
    pub source: Source,
}

/// A key that was read: its declaration without its type, and what it came to.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) section: &'static str,
    pub(super) topic: Option<&'static str>,
    pub(super) group: Option<&'static str>,
    pub(super) broker: Option<&'static str>,
    pub(super) aliases: Vec<&'static str>,
    pub(super) value_type: ValueType,
    pub(super) allowed: String,
    pub(super) default: String,
    pub(super) default_note: Option<&'static str>,
    pub(super) fixed: Option<&'static str>,
    pub(super) dynamic: bool,
    pub(super) doc: &'static str,
    /// Strongest first; the first is in force, the last is the default.
    pub(super) settings: Vec<Setting>,
}

impl Entry {
    /// All names that a broker's layers may hold it under.
    pub(super) fn broker_names(&self) -> impl Iterator<Item = &'static str> {
        self.broker.into_iter().chain(self.aliases.iter().copied())
    }

    /// The setting in force.
    pub(super) fn in_force(&self) -> &Setting {
        self.settings.first().expect("every key has its default at least")
    }
}

/// Reads keys from layers.
pub(super) struct Reader<'a> {
    /// Weakest first.
    broker_layers: &'a [Layer],
    /// Stronger than all of the broker's.
    own: Option<Own<'a>>,
    section: &'static str,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

/// What was set for one topic, or for one group.
#[derive(Clone, Copy)]
enum Own<'a> {
    Topic(&'a Layer),
    Group(&'a Layer),
}

/// What a reader leaves behind.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) entries: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Reads a broker's configuration; `layers` go from weakest to strongest.
    pub(super) fn of_broker(layers: &'a [Layer]) -> Reader<'a> {
        Reader { broker_layers: layers, own: None, section: "", entries: Vec::new(), problems: Vec::new() }
    }

    /// Reads a topic's configuration over a broker's.
    pub(super) fn of_topic(layers: &'a [Layer], topic: &'a Layer) -> Reader<'a> {
        Reader { own: Some(Own::Topic(topic)), ..Reader::of_broker(layers) }
    }

    /// Reads a group's configuration over a broker's.
    pub(super) fn of_group(layers: &'a [Layer], group: &'a Layer) -> Reader<'a> {
        Reader { own: Some(Own::Group(group)), ..Reader::of_broker(layers) }
    }

    /// Whether it is a group's that is read.
    pub(super) fn is_group(&self) -> bool {
        matches!(self.own, Some(Own::Group(_)))
    }

    /// Starts a section of the reference.
    pub(super) fn section(&mut self, title: &'static str) {
        self.section = title;
    }

    /// Declares a key and reads its value.
    pub(super) fn read<T: Clone>(&mut self, key: Key<T>) -> T {
        let mut value = None;
        let mut settings = Vec::new();
        for (name, factor, Given { text, source }) in self.given(&key) {
            let own = in_own_unit(&text, factor);
            match parse(&key, &own) {
                Ok((parsed, canonical)) => {
                    let given = if factor == 1 { canonical.clone() } else { text.trim().to_owned() };
                    settings.push(Setting { name, value: canonical, given, source });
                    value.get_or_insert(parsed);
                }
                // A weaker value that is overridden may be wrong: the stronger one is how it was mended.
                Err(_) if value.is_some() => {}
                Err(why) => {
                    self.problems.push(Problem { key: name.to_owned(), value: Some(own), source, why })
                }
            }
        }
        let name = key.broker.or(key.topic).expect("a key has a name");
        let default = key.values.parse(&key.default).unwrap_or_else(|why| panic!("default of {name}: {why}"));
        let (value_text, given) = (default.canonical.clone(), default.canonical.clone());
        settings.push(Setting { name, value: value_text, given, source: Source::Default });
        self.entries.push(Entry {
            section: self.section,
            topic: key.topic,
            group: key.group,
            broker: key.broker,
            aliases: key.aliases.iter().map(|(name, _)| *name).collect(),
            value_type: key.values.value_type(),
            allowed: key.values.allowed(),
            default: default.canonical,
            default_note: key.default_note,
            fixed: key.fixed,
            dynamic: key.dynamic,
            doc: key.doc,
            settings,
        });
        value.unwrap_or(default.value)
    }

    /// Declares a key that is checked and shown, but that nothing needs.
    pub(super) fn declare<T: Clone>(&mut self, key: Key<T>) {
        self.read(key);
    }

    /// All that the key was given, strongest first: under which name, how much of the key's own unit that name's is worth, and what.
    fn given<T>(&self, key: &Key<T>) -> Vec<(&'static str, i64, Given)> {
        let mut found = Vec::new();
        let own = match self.own {
            Some(Own::Topic(layer)) => Some(layer).zip(key.topic),
            Some(Own::Group(layer)) => Some(layer).zip(key.group),
            None => None,
        };
        if let Some((layer, name)) = own
            && let Some(given) = layer.get(name)
        {
            found.push((name, 1, given.clone()));
        }
        let own_name = key.broker.map(|name| (name, 1));
        for layer in self.broker_layers.iter().rev() {
            for (name, factor) in own_name.iter().chain(&key.aliases) {
                if let Some(given) = layer.get(*name) {
                    found.push((name, *factor, given.clone()));
                }
            }
        }
        found
    }

    /// Where the value in force of the key just read came from.
    pub(super) fn last_source(&self) -> &Source {
        &self.entries.last().expect("a key was read").in_force().source
    }

    /// Notes that values do not go together; `name` is the key to blame, as a topic or as a broker knows it.
    pub(super) fn blame(&mut self, name: &str, why: String) {
        let entry = self.entries.iter().find(|entry| entry.topic == Some(name) || entry.broker == Some(name));
        let setting = entry.expect("only keys that were read are blamed").in_force();
        self.problems.push(Problem {
            key: setting.name.to_owned(),
            value: Some(setting.value.clone()),
            source: setting.source.clone(),
            why,
        });
    }

    pub(super) fn finish(self) -> Reading {
        Reading { entries: self.entries, problems: self.problems }
    }
}

/// The value, and its canonical text.
fn parse<T: Clone>(key: &Key<T>, text: &str) -> Result<(T, String), String> {
    let parsed = key.values.parse(text)?;
    match key.fixed {
        Some(why) if parsed.canonical != key.default => {
            Err(format!("only the default {:?} is accepted: {why}", key.default))
        }
        _ => Ok((parsed.value, parsed.canonical)),
    }
}

/// A number in a coarser unit, in the key's own; -1 ("no limit") is the same in all. What is no number stays as it is, for the
/// key to complain about.
fn in_own_unit(text: &str, factor: i64) -> String {
    match text.trim().parse::<i64>() {
        Ok(number) if factor != 1 && number >= 0 => number.saturating_mul(factor).to_string(),
        _ => text.to_owned(),
    }
}
