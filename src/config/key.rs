//! A key: all that is known of one setting, in one place.
//!
//! A key is declared where it is read, so that name, type, default, bounds, documentation and the field that it fills stand
//! together, and cannot come apart. The reference in `docs/configuration.md`, the answers to DescribeConfigs and the messages
//! about bad values are all made from the same declaration.

use std::time::Duration;

use aquifer_model::ByteCount;

use super::units::{MINUTE, SECOND};
use super::values::{Bounds, Values, to_bytes, to_count, to_millis};

/// One setting whose readers get a `T`.
pub(super) struct Key<T> {
    /// The name for a topic, if topics have it.
    pub(super) topic: Option<&'static str>,
    /// The name for a group, if groups have it.
    pub(super) group: Option<&'static str>,
    /// The name for a broker, if brokers have it; of a topic's or a group's key, the name of its default.
    pub(super) broker: Option<&'static str>,
    /// Other names for the broker's key in a coarser unit, and how much of the key's own unit each is worth.
    pub(super) aliases: Vec<(&'static str, i64)>,
    pub(super) values: Values<T>,
    pub(super) default: String,
    /// How the default comes about, where it is no constant.
    pub(super) default_note: Option<&'static str>,
    /// Why only the default is accepted; `None` where any allowed value is.
    pub(super) fixed: Option<&'static str>,
    /// Whether a broker's value may change while it runs.
    pub(super) dynamic: bool,
    pub(super) doc: &'static str,
}

impl<T> Key<T> {
    fn new(name: &'static str, values: Values<T>, default: String) -> Key<T> {
        Key {
            topic: None,
            group: None,
            broker: Some(name),
            aliases: Vec::new(),
            values,
            default,
            default_note: None,
            fixed: None,
            dynamic: false,
            doc: "",
        }
    }

    /// Sets what it does, with units: one or a few sentences.
    pub(super) fn doc(mut self, doc: &'static str) -> Key<T> {
        self.doc = doc;
        self
    }

    /// Makes it a topic's key whose default is the broker's key `broker`, which may change while the broker runs.
    pub(super) fn synonym(mut self, broker: &'static str) -> Key<T> {
        self.topic = self.broker;
        self.broker = Some(broker);
        self.dynamic = true;
        self
    }

    /// Says that a group may have a value of its own for this key of brokers, and under which name.
    pub(super) fn of_groups(mut self, name: &'static str) -> Key<T> {
        self.group = Some(name);
        self
    }

    /// Says that a broker's value may change while it runs: whoever reads it reads it anew each time.
    pub(super) fn dynamic(mut self) -> Key<T> {
        self.dynamic = true;
        self
    }

    /// Makes it a topic's key that brokers have no default for.
    pub(super) fn topic_only(mut self) -> Key<T> {
        self.topic = self.broker.take();
        self
    }

    /// Adds a broker's name for it in a coarser unit. Earlier names win.
    pub(super) fn alias(mut self, name: &'static str, factor: i64) -> Key<T> {
        self.aliases.push((name, factor));
        self
    }

    /// Accepts the default alone. `why` completes "only the default is accepted: ".
    pub(super) fn only_default(mut self, why: &'static str) -> Key<T> {
        self.fixed = Some(why);
        self
    }

    /// Says how the default comes about.
    pub(super) fn default_note(mut self, note: &'static str) -> Key<T> {
        self.default_note = Some(note);
        self
    }

    /// Narrows a number's bounds to at least `min`.
    pub(super) fn at_least(self, min: i64) -> Key<T> {
        self.bounded(|bounds| bounds.min = min)
    }

    /// Narrows a number's bounds, both ends included.
    pub(super) fn range(self, min: i64, max: i64) -> Key<T> {
        self.bounded(|bounds| (bounds.min, bounds.max) = (min, max))
    }

    fn bounded(mut self, narrow: impl FnOnce(&mut Bounds)) -> Key<T> {
        match &mut self.values {
            Values::Int(bounds, _) => narrow(bounds),
            _ => panic!("{:?} is no number and has no bounds", self.broker),
        }
        self
    }
}

const ANY_SIZE: Bounds = Bounds { min: 0, max: i64::MAX, special: None };
const NO_LIMIT: Option<(i64, &str)> = Some((-1, "no limit"));

/// A number of bytes.
pub(super) fn bytes(name: &'static str, default: i64) -> Key<ByteCount> {
    Key::new(name, Values::Int(ANY_SIZE, to_bytes), default.to_string())
}

/// A number of bytes, or -1.
pub(super) fn bytes_or_unlimited(name: &'static str, default: i64) -> Key<Option<ByteCount>> {
    let of = |number| (number >= 0).then(|| to_bytes(number));
    Key::new(name, Values::Int(Bounds { special: NO_LIMIT, ..ANY_SIZE }, of), default.to_string())
}

/// A number of milliseconds.
pub(super) fn millis(name: &'static str, default: i64) -> Key<Duration> {
    Key::new(name, Values::Int(ANY_SIZE, to_millis), default.to_string())
}

/// A number of seconds.
pub(super) fn seconds(name: &'static str, default: i64) -> Key<Duration> {
    let of = |seconds| to_millis(seconds * SECOND);
    Key::new(name, Values::Int(ANY_SIZE, of), default.to_string())
}

/// A number of minutes.
pub(super) fn minutes(name: &'static str, default: i64) -> Key<Duration> {
    let of = |minutes| to_millis(minutes * MINUTE);
    Key::new(name, Values::Int(ANY_SIZE, of), default.to_string())
}

/// A number of milliseconds, or -1.
pub(super) fn millis_or_unlimited(name: &'static str, default: i64) -> Key<Option<Duration>> {
    let of = |number| (number >= 0).then(|| to_millis(number));
    Key::new(name, Values::Int(Bounds { special: NO_LIMIT, ..ANY_SIZE }, of), default.to_string())
}

/// How many of something: 0 to 2^31 - 1.
pub(super) fn count(name: &'static str, default: i64) -> Key<u32> {
    let bounds = Bounds { min: 0, max: i64::from(i32::MAX), special: None };
    Key::new(name, Values::Int(bounds, to_count), default.to_string())
}

/// How many of something, or -1 for what `chosen` says.
pub(super) fn count_or(name: &'static str, chosen: &'static str) -> Key<Option<u32>> {
    let bounds = Bounds { min: 0, max: i64::from(i32::MAX), special: Some((-1, chosen)) };
    Key::new(name, Values::Int(bounds, |number| u32::try_from(number).ok()), "-1".to_owned())
}

/// A whole number with bounds of its own, and one number below them with a meaning.
pub(super) fn number(name: &'static str, default: i64, special: Option<(i64, &'static str)>) -> Key<i64> {
    Key::new(name, Values::Int(Bounds { special, ..ANY_SIZE }, |number| number), default.to_string())
}

/// Yes or no.
pub(super) fn flag(name: &'static str, default: bool) -> Key<bool> {
    Key::new(name, Values::Bool(|value| value), default.to_string())
}

/// A fraction.
pub(super) fn fraction(name: &'static str, default: f64, min: f64, max: f64) -> Key<f64> {
    Key::new(name, Values::Float { min, max, of: |value| value }, default.to_string())
}

/// One of a few words, the first being the default.
pub(super) fn choice<T>(name: &'static str, choices: Vec<(&'static str, T)>) -> Key<T> {
    let default = choices[0].0.to_owned();
    Key::new(name, Values::Choice(choices), default)
}

/// A text of a syntax of its own; `allowed` says it in words.
pub(super) fn text<T>(
    name: &'static str,
    default: &str,
    allowed: &'static str,
    of: fn(&str) -> Result<T, String>,
) -> Key<T> {
    Key::new(name, Values::Text { allowed, of }, default.to_owned())
}

/// A list of texts; `allowed` says their syntax in words.
pub(super) fn list<T>(
    name: &'static str,
    default: &str,
    allowed: &'static str,
    of: fn(&[&str]) -> Result<T, String>,
) -> Key<T> {
    Key::new(name, Values::List { allowed, of }, default.to_owned())
}
