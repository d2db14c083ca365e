//! What a member of a consumer group says that it reads: the start of Kafka's `ConsumerProtocolSubscription`.

use std::collections::BTreeSet;

use aquifer_protocol::{Reader, Str};
use bytes::Bytes;

/// What the groups of consumers call their kind of protocol.
pub(crate) const CONSUMER: &str = "consumer";

/// What a group reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// These topics.
    To(BTreeSet<Str>),
    /// It cannot be said: members of another kind, or whose words cannot be read.
    Unknown,
}

/// The topics in a subscription; `None` if it is none that can be read.
pub(crate) fn topics(metadata: &Bytes) -> Option<Vec<Str>> {
    let mut reader = Reader::new(metadata.clone());
    // All versions begin alike; what later ones add follows.
    let _version = reader.i16().ok()?;
    reader.array(false, 2, |reader| reader.string(false)).ok()
}
