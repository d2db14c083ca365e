//! Regular expressions, as topics come and go.
//!
//! To look at every topic's name is not for the task that serves a partition's groups: a heartbeat is told which expressions are
//! to be matched again, and whoever carries the heartbeat does that and hands in what came of it. Should it not, another heartbeat
//! is told.

use std::time::Duration;

use aquifer_protocol::Str;

use super::super::effects::Effects;
use super::super::record::{Matching, Said};
use super::heartbeat::Resolved;
use super::{Around, ConsumerGroup};

/// Between two times that a group's expressions are matched, as in Kafka: topics may be made one by one.
const INTERVAL_MIN: Duration = Duration::from_secs(10);

/// Expressions that have not seen the newest topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) patterns: Vec<Str>,
    /// The topics that they are to see.
    pub(crate) version: u64,
}

impl ConsumerGroup {
    /// Whether it is known what an expression matches.
    pub(crate) fn knows_pattern(&self, pattern: &str) -> bool {
        self.patterns.contains_key(pattern)
    }

    /// What is to be matched again now.
    pub(super) fn stale(&mut self, around: Around<'_>) -> Option<Stale> {
        let version = around.topics.version();
        let is_due = self.matching_since.is_none_or(|since| around.now.at >= since + INTERVAL_MIN);
        if self.patterns.is_empty() || self.matched == Some(version) || !is_due {
            return None;
        }
        self.matching_since = Some(around.now.at);
        Some(Stale { patterns: self.patterns.keys().cloned().collect(), version })
    }

    /// Takes what was matched; if that is not what was known, a new epoch begins. What matches more topics than a record can hold
    /// stays as it was.
    pub(crate) fn matched(
        &mut self,
        version: u64,
        all: Vec<Resolved>,
        around: Around<'_>,
        effects: &mut Effects,
    ) {
        let mut reads_anew = false;
        for Resolved { pattern, topics } in all {
            let Some(known) = self.patterns.get(&pattern).filter(|known| known.topics != topics) else {
                continue;
            };
            let (before, now) = (known.topics.len(), topics.len());
            let value = Some(Matching { topics, resolved: around.now.wall.0 });
            let stored = self.whole(around, effects, |group, effects| {
                group.say(Said::Pattern { pattern: pattern.clone(), value }, around, effects);
                Ok(())
            });
            match stored {
                Ok(()) => {
                    tracing::debug!(group = %self.id, %pattern, before, now, "a regular expression matches other topics now");
                    reads_anew = true;
                }
                Err(error) => {
                    tracing::warn!(group = %self.id, %pattern, before, now, %error, "what a regular expression matches now cannot be stored; its members read what it matched before");
                }
            }
        }
        self.matched = Some(version);
        if reads_anew {
            self.renew(true, around, effects);
        }
    }

    /// Forgets an expression that nobody subscribes to.
    pub(super) fn drop_pattern_if_unread(
        &mut self,
        pattern: &Str,
        around: Around<'_>,
        effects: &mut Effects,
    ) {
        if !self.readers.reads_pattern(pattern) && self.patterns.contains_key(pattern) {
            self.say(Said::Pattern { pattern: pattern.clone(), value: None }, around, effects);
        }
    }
}
