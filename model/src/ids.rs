//! Who and what: topics, partitions, brokers, producers.
//!
//! A partition is named by topic *id*, never by topic name: a topic that is deleted and made again under its old name is
//! another topic, and must see nothing of the first (Kafka's KIP-516).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// A topic's identity for life. Shown and parsed as a hyphenated uuid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(Uuid);

impl TopicId {
    /// What the protocol sends for "no id".
    pub const ZERO: TopicId = TopicId(Uuid::nil());

    /// Wraps a uuid.
    pub const fn new(uuid: Uuid) -> TopicId {
        TopicId(uuid)
    }

    /// The uuid itself.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for TopicId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<TopicId, uuid::Error> {
        Uuid::parse_str(text).map(TopicId)
    }
}

/// A topic's name: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// Zero characters.
    #[error("topic name is empty")]
    Empty,
    /// `.` or `..`, which are folders.
    #[error("topic name cannot be \"{0}\"")]
    Dots(String),
    /// Over [`TopicName::LENGTH_MAX`].
    #[error("topic name is {0} characters long, at most {max} are allowed", max = TopicName::LENGTH_MAX)]
    Long(usize),
    /// A character that Kafka does not allow.
    #[error("topic name \"{0}\" has a character other than ASCII letters, digits, '.', '_' and '-'")]
    Character(String),
}

impl TopicName {
    /// Longest name, in characters; Kafka's limit.
    pub const LENGTH_MAX: usize = 249;

    /// Checks Kafka's rules for names.
    pub fn new(name: &str) -> Result<TopicName, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if name == "." || name == ".." {
            return Err(TopicNameError::Dots(name.to_owned()));
        }
        if name.len() > TopicName::LENGTH_MAX {
            return Err(TopicNameError::Long(name.len()));
        }
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        if !name.bytes().all(legal) {
            return Err(TopicNameError::Character(name.to_owned()));
        }
        Ok(TopicName(name.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether two names become one in a metric's name, where Kafka turns `.` into `_`. Kafka refuses the second such topic.
    pub fn collides_with(&self, other: &TopicName) -> bool {
        self.0.len() == other.0.len()
            && self.0.bytes().zip(other.0.bytes()).all(|(a, b)| {
                let fold = |c: u8| if c == b'.' { b'_' } else { c };
                fold(a) == fold(b)
            })
    }
}

impl std::ops::Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A partition's number within its topic, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionIndex(pub i32);

impl fmt::Display for PartitionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PartitionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One partition of one topic, for ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic's identity.
    pub topic: TopicId,
    /// The partition's number.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A broker's configured id (`node.id`), 0 or greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An idempotent producer's id; -1 on the wire for a producer without one, which is `None` here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProducerId(pub i64);

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A producer's incarnation; a higher one fences a lower.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProducerEpoch(pub i16);

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rules() {
        for good in ["a", "a.b_c-D9", &"x".repeat(249)] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        let character = |name: &str| TopicNameError::Character(name.to_owned());
        for (name, expected) in [
            ("", TopicNameError::Empty),
            (".", TopicNameError::Dots(".".to_owned())),
            ("..", TopicNameError::Dots("..".to_owned())),
            (&"x".repeat(250), TopicNameError::Long(250)),
            ("a b", character("a b")),
            ("../etc", character("../etc")),
        ] {
            assert_eq!(TopicName::new(name), Err(expected));
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        let name = |text| TopicName::new(text).unwrap();
        assert!(name("a.b").collides_with(&name("a_b")));
        assert!(!name("a.b").collides_with(&name("a-b")));
        assert!(!name("a.b").collides_with(&name("a.bc")));
    }
}
