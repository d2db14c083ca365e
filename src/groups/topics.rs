//! The cluster's topics and what is set for groups, as groups see them whose coordinator assigns.

use std::sync::Arc;

use aquifer_model::TopicId;
use aquifer_protocol::Str;
use regex::bytes::RegexBuilder;
use siphasher::sip::SipHasher24;
use std::hash::Hasher as _;

use crate::metadata::image::Configs;
use crate::metadata::{Delta, Image};

/// Bytes that a compiled regular expression may take, which bounds how long a topic's name is looked at.
const PATTERN_COMPILED_BYTES_MAX: usize = 256 << 10;
/// Bytes that a regular expression may have: it is the key of a record.
const PATTERN_BYTES_MAX: usize = 8 << 10;

/// The topics at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Topics {
    image: Arc<Image>,
    version: u64,
}

/// What is known of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) id: TopicId,
    pub(crate) partitions: usize,
}

/// Why a regular expression is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PatternError {
    #[error("the regular expression has {0} bytes, and may have {PATTERN_BYTES_MAX}")]
    TooLong(usize),
    #[error(transparent)]
    Syntax(#[from] regex::Error),
}

impl Topics {
    /// Takes what the cluster knows now.
    pub(crate) fn see(&mut self, image: Arc<Image>) {
        if Arc::ptr_eq(&self.image, &image) {
            return;
        }
        let delta = Delta::between(&self.image, &image);
        let has_grown = || delta.partitions.iter().any(|change| change.before.is_none());
        // Who leads, and where replicas lie, changes nothing in who reads what.
        if !delta.topics_created.is_empty() || !delta.topics_deleted.is_empty() || has_grown() {
            self.version += 1;
        }
        self.image = image;
    }

    /// Rises whenever a topic comes, goes or grows.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// What is set for a group.
    pub(crate) fn settings_of(&self, group: &str) -> &Configs {
        self.image.group_configs(group)
    }

    /// The topic of that name.
    pub(crate) fn named(&self, name: &str) -> Option<Known> {
        let topic = self.image.topic_named(name)?;
        Some(Known { id: topic.id, partitions: topic.partitions.len() })
    }

    /// Its name; none of a topic that is no more.
    pub(crate) fn name_of(&self, id: TopicId) -> Option<Str> {
        Some(Str::from(self.image.topic(id)?.name.as_str()))
    }

    /// A number that is another one, but for chance, if any of these topics, in order, comes, goes, grows or is made anew; 0 if
    /// there are none. It is stored: a new way to compute it costs each group one more assignment.
    pub(crate) fn hash<'a>(&self, names: impl IntoIterator<Item = &'a Str>) -> i64 {
        let mut hasher = SipHasher24::new_with_keys(0, 0);
        let mut is_none = true;
        for name in names {
            let Some(known) = self.named(name) else { continue };
            is_none = false;
            hasher.write(&(name.len() as u64).to_le_bytes());
            hasher.write(name.as_bytes());
            hasher.write(known.id.uuid().as_bytes());
            hasher.write(&(known.partitions as u64).to_le_bytes());
        }
        if is_none { 0 } else { hasher.finish().cast_signed() }
    }
}

/// The topics whose whole name matches, in order. The time is linear in all names; for many topics it is some milliseconds, so
/// this is not for the task that serves a partition's groups.
pub(crate) fn matching(pattern: &str, image: &Image) -> Result<Vec<Str>, PatternError> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(PatternError::TooLong(pattern.len()));
    }
    // By itself first: a parenthesis too many must not end the group around it.
    // Names of topics are ASCII, and so is what a digit or a letter of either case is.
    let compiled = |pattern: &str| {
        RegexBuilder::new(pattern).unicode(false).size_limit(PATTERN_COMPILED_BYTES_MAX).build()
    };
    compiled(pattern)?;
    let whole = compiled(&format!(r"\A(?:{pattern})\z"))?;
    let names =
        image.topics().map(|topic| topic.name.as_str()).filter(|name| whole.is_match(name.as_bytes()));
    let mut names: Vec<Str> = names.map(Str::from).collect();
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
pub(super) mod tests;
