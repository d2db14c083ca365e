//! How many members subscribe to what: all that a group reads is asked for whenever an epoch begins, and must not cost a look at
//! every member.

use aquifer_protocol::Str;

use super::super::counts::Counts;
use super::super::record::Profile;
use super::pattern_of;

/// The counts. What nobody subscribes to is not among them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Readers {
    topics: Counts,
    patterns: Counts,
}

impl Readers {
    /// Counts what a member subscribes to.
    pub(super) fn add(&mut self, profile: &Profile) {
        for topic in &profile.topics {
            self.topics.add(topic);
        }
        if let Some(pattern) = pattern_of(profile) {
            self.patterns.add(pattern);
        }
    }

    /// Counts it no more.
    pub(super) fn remove(&mut self, profile: &Profile) {
        for topic in &profile.topics {
            self.topics.remove(topic);
        }
        if let Some(pattern) = pattern_of(profile) {
            self.patterns.remove(pattern);
        }
    }

    /// The topics that somebody subscribes to by name.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Str> {
        self.topics.names()
    }

    /// The regular expressions that somebody subscribes to.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &Str> {
        self.patterns.names()
    }

    /// Whether somebody subscribes to a regular expression.
    pub(super) fn reads_pattern(&self, pattern: &Str) -> bool {
        self.patterns.of(pattern) > 0
    }
}
