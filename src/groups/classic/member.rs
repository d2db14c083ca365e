//! A member of a classic group.

use std::collections::BTreeSet;
use std::time::Duration;

use aquifer_protocol::Str;
use bytes::Bytes;
use tokio::time::Instant;

use super::super::effects::Ticket;
use super::super::record::MemberValue;

/// What a member says of itself each time it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    /// How long the others wait for it to join again.
    pub(crate) rebalance_timeout: Duration,
    /// How long it may be silent.
    pub(crate) session_timeout: Duration,
    /// What it can do, best first, each with words for the leader.
    pub(crate) protocols: Vec<(Str, Bytes)>,
}

impl Profile {
    /// The protocols that it can do, each once.
    pub(super) fn names(&self) -> BTreeSet<&Str> {
        self.protocols.iter().map(|(name, _)| name).collect()
    }
}

/// A member.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: Str,
    /// A static member keeps its place for as long as its session lasts, whatever process stands for it.
    pub(super) instance: Option<Str>,
    pub(super) profile: Profile,
    pub(super) assignment: Bytes,
    /// It has not been in any generation yet.
    pub(super) is_new: bool,
    pub(super) joining: Option<Ticket>,
    pub(super) syncing: Option<Ticket>,
    /// It knows of the generation, but has not asked what it is to read.
    pub(super) owes_sync: bool,
    /// When it is given up, unless it is heard of.
    pub(super) deadline: Instant,
}

impl Member {
    /// What it tells the leader under a protocol; nothing if it does not know it.
    pub(super) fn metadata(&self, protocol: Option<&Str>) -> Bytes {
        let known = self.profile.protocols.iter().find(|(name, _)| Some(name) == protocol);
        known.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// A silent member that waits for an answer of ours is not to blame; but one that never was in a generation is given up all
    /// the same, lest the group wait for a client that is long gone.
    pub(super) fn is_excused(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    /// It was heard of. One that never was in a generation is waited for longer than a session, since it may not heartbeat yet.
    pub(super) fn hear(&mut self, now: Instant) {
        if !self.is_new {
            self.deadline = now + self.profile.session_timeout;
        }
    }

    pub(super) fn stored(&self, protocol: Option<&Str>) -> MemberValue {
        MemberValue {
            member_id: self.id.clone(),
            instance: self.instance.clone(),
            client_id: self.profile.client_id.clone(),
            client_host: self.profile.client_host.clone(),
            rebalance_timeout_ms: millis(self.profile.rebalance_timeout),
            session_timeout_ms: millis(self.profile.session_timeout),
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    pub(super) fn restored(value: MemberValue, protocol: Option<&Str>, now: Instant) -> Member {
        let session_timeout = duration(value.session_timeout_ms);
        let protocols = protocol.map(|protocol| (protocol.clone(), value.subscription));
        Member {
            id: value.member_id,
            instance: value.instance,
            profile: Profile {
                client_id: value.client_id,
                client_host: value.client_host,
                rebalance_timeout: duration(value.rebalance_timeout_ms),
                session_timeout,
                protocols: protocols.into_iter().collect(),
            },
            assignment: value.assignment,
            is_new: false,
            joining: None,
            syncing: None,
            owes_sync: false,
            deadline: now + session_timeout,
        }
    }
}

/// As requests and records say it.
pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// What a request or a record says; nothing below 0.
pub(crate) fn duration(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
