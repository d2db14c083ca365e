//! How many members subscribe to what: all that a group reads is asked for whenever an epoch begins, and must not cost a look at
//! every member.

use std::collections::BTreeMap;

use aquifer_protocol::Str;

use super::super::record::Profile;
use super::pattern_of;

/// The counts. What nobody subscribes to is not among them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Readers {
    topics: BTreeMap<Str, usize>,
    patterns: BTreeMap<Str, usize>,
}

impl Readers {
    /// Counts what a member subscribes to.
    pub(super) fn add(&mut self, profile: &Profile) {
        for topic in &profile.topics {
            add(&mut self.topics, topic);
        }
        if let Some(pattern) = pattern_of(profile) {
            add(&mut self.patterns, pattern);
        }
    }

    /// Counts it no more.
    pub(super) fn remove(&mut self, profile: &Profile) {
        for topic in &profile.topics {
            remove(&mut self.topics, topic);
        }
        if let Some(pattern) = pattern_of(profile) {
            remove(&mut self.patterns, pattern);
        }
    }

    /// The topics that somebody subscribes to by name.
    pub(super) fn topics(&self) -> impl Iterator<Item = &Str> {
        self.topics.keys()
    }

    /// The regular expressions that somebody subscribes to.
    pub(super) fn patterns(&self) -> impl Iterator<Item = &Str> {
        self.patterns.keys()
    }

    /// Whether somebody subscribes to a regular expression.
    pub(super) fn reads_pattern(&self, pattern: &Str) -> bool {
        self.patterns.contains_key(pattern)
    }
}

fn add(counts: &mut BTreeMap<Str, usize>, name: &Str) {
    *counts.entry(name.clone()).or_default() += 1;
}

fn remove(counts: &mut BTreeMap<Str, usize>, name: &Str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}
