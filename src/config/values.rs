//! What a key's values may be, and how a text becomes one.
//!
//! Texts are what files, flags and Kafka's configuration requests carry; each is parsed once, into the type that its readers
//! want, and has one canonical text that is stored and shown.

use std::fmt;
use std::time::Duration;

use aquifer_model::ByteCount;

/// Kafka's names for the types of values, as DescribeConfigs reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Boolean,
    /// Any text.
    String,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// A fraction.
    Double,
    /// Texts between commas.
    List,
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueType::Boolean => "boolean",
            ValueType::String => "string",
            ValueType::Int => "int",
            ValueType::Long => "long",
            ValueType::Double => "double",
            ValueType::List => "list",
        })
    }
}

/// Whole numbers that a key takes, both ends included, and one number below them with a meaning of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) min: i64,
    pub(super) max: i64,
    /// -1 where that means "no limit".
    pub(super) special: Option<(i64, &'static str)>,
}

impl Bounds {
    fn contain(self, number: i64) -> bool {
        (self.min..=self.max).contains(&number) || self.special.is_some_and(|(special, _)| special == number)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.max == i64::MAX {
            write!(f, "at least {}", self.min)?;
        } else {
            write!(f, "{} to {}", self.min, self.max)?;
        }
        self.special.map_or(Ok(()), |(number, meaning)| write!(f, ", or {number} for {meaning}"))
    }
}

/// The values of a key whose readers get a `T`.
#[derive(Clone)]
pub(super) enum Values<T> {
    Bool(fn(bool) -> T),
    Int(Bounds, fn(i64) -> T),
    Float {
        min: f64,
        max: f64,
        of: fn(f64) -> T,
    },
    Choice(Vec<(&'static str, T)>),
    /// `allowed` says in words what `of` accepts.
    Text {
        allowed: &'static str,
        of: fn(&str) -> Result<T, String>,
    },
    /// Items between commas, trimmed; empty items are dropped.
    List {
        allowed: &'static str,
        of: fn(&[&str]) -> Result<T, String>,
    },
}

/// A text that became a value.
#[derive(Debug)]
pub(super) struct Parsed<T> {
    pub(super) value: T,
    pub(super) canonical: String,
}

impl<T: Clone> Values<T> {
    /// The value of `text`, or what would have been allowed.
    pub(super) fn parse(&self, text: &str) -> Result<Parsed<T>, String> {
        let text = text.trim();
        let parsed = |value, canonical| Ok(Parsed { value, canonical });
        match self {
            Values::Bool(of) => match text.to_ascii_lowercase().as_str() {
                "true" => parsed(of(true), "true".to_owned()),
                "false" => parsed(of(false), "false".to_owned()),
                _ => Err("must be true or false".to_owned()),
            },
            Values::Int(bounds, of) => match text.parse::<i64>() {
                Ok(number) if bounds.contain(number) => parsed(of(number), number.to_string()),
                _ => Err(format!("must be a whole number, {bounds}")),
            },
            Values::Float { min, max, of } => match text.parse::<f64>() {
                Ok(number) if (*min..=*max).contains(&number) => parsed(of(number), number.to_string()),
                _ => Err(format!("must be a number, {min} to {max}")),
            },
            Values::Choice(choices) => match choices.iter().find(|(name, _)| *name == text) {
                Some((name, value)) => parsed(value.clone(), (*name).to_owned()),
                None => Err(format!("must be {}", self.allowed())),
            },
            Values::Text { of, .. } => parsed(of(text)?, text.to_owned()),
            Values::List { of, .. } => {
                let items = list_items(text);
                parsed(of(&items)?, items.join(","))
            }
        }
    }

    /// What is allowed, in words; empty where anything is.
    pub(super) fn allowed(&self) -> String {
        match self {
            Values::Bool(_) => "true, false".to_owned(),
            Values::Int(bounds, _) => bounds.to_string(),
            Values::Float { min, max, .. } => format!("{min} to {max}"),
            Values::Choice(choices) => {
                let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
                names.join(" or ")
            }
            Values::Text { allowed, .. } | Values::List { allowed, .. } => (*allowed).to_owned(),
        }
    }

    /// The type by Kafka's name. A number whose bound fits 32 bits is an int, as in Kafka's own tables.
    pub(super) fn value_type(&self) -> ValueType {
        match self {
            Values::Bool(_) => ValueType::Boolean,
            Values::Int(bounds, _) if bounds.max <= i64::from(i32::MAX) => ValueType::Int,
            Values::Int(..) => ValueType::Long,
            Values::Float { .. } => ValueType::Double,
            Values::Choice(_) | Values::Text { .. } => ValueType::String,
            Values::List { .. } => ValueType::List,
        }
    }
}

/// The items of a list between commas.
pub(super) fn list_items(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// A number that its bounds keep at 0 or above.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).expect("the key's bounds exclude negative numbers")
}

pub(super) fn to_bytes(number: i64) -> ByteCount {
    ByteCount(unsigned(number))
}

pub(super) fn to_millis(number: i64) -> Duration {
    Duration::from_millis(unsigned(number))
}

pub(super) fn to_count(number: i64) -> u32 {
    u32::try_from(number).expect("the key's bounds are those of a count")
}
