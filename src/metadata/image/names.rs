//! Topics by name, where `.` and `_` are one character: Kafka refuses a second name that differs from a first only in these,
//! since both turn into `_` in the names of metrics.

use std::cmp::Ordering;

use aquifer_model::TopicName;

/// A name, ordered as if each `.` were a `_`.
#[derive(Debug, Clone)]
pub(in crate::metadata) struct Folded(TopicName);

fn fold(byte: u8) -> u8 {
    if byte == b'.' { b'_' } else { byte }
}

impl Folded {
    pub(in crate::metadata) fn new(name: TopicName) -> Folded {
        Folded(name)
    }

    /// The name as it was given.
    pub(in crate::metadata) fn name(&self) -> &TopicName {
        &self.0
    }

    /// How this name relates to another.
    pub(in crate::metadata) fn compare(&self, other: &str) -> Ordering {
        self.0.bytes().map(fold).cmp(other.bytes().map(fold))
    }
}

impl PartialEq for Folded {
    fn eq(&self, other: &Folded) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Folded {}

impl PartialOrd for Folded {
    fn partial_cmp(&self, other: &Folded) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Folded {
    fn cmp(&self, other: &Folded) -> Ordering {
        self.compare(&other.0)
    }
}
