//! What is told of a group: to operators, and to whoever decides about its positions.

use std::collections::BTreeSet;

use aquifer_model::Timestamp;
use aquifer_protocol::Str;
use bytes::Bytes;

use super::super::subscription::{self, Subscribed};
use super::{ClassicGroup, State};

/// A group as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) state: &'static str,
    pub(crate) protocol_type: Str,
    /// What its members agreed on; told of a stable group alone.
    pub(crate) protocol: Str,
    pub(crate) members: Vec<MemberView>,
}

/// A member as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberView {
    pub(crate) member_id: Str,
    pub(crate) instance: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    pub(crate) metadata: Bytes,
    pub(crate) assignment: Bytes,
}

impl State {
    /// Kafka's word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Preparing(_) => "PreparingRebalance",
            State::Completing => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

impl ClassicGroup {
    /// The group for operators. What members are to read is told once they all know it.
    pub(crate) fn view(&self) -> View {
        let is_stable = self.state == State::Stable;
        let members = self.members.values().map(|member| MemberView {
            member_id: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.profile.client_id.clone(),
            client_host: member.profile.client_host.clone(),
            metadata: if is_stable { member.metadata(self.protocol.as_ref()) } else { Bytes::new() },
            assignment: if is_stable { member.assignment.clone() } else { Bytes::new() },
        });
        View {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or(Str::EMPTY),
            protocol: self.protocol.clone().filter(|_| is_stable).unwrap_or(Str::EMPTY),
            members: members.collect(),
        }
    }

    /// What its members are, in the clients' words: `consumer`, `connect`.
    pub(crate) fn protocol_type(&self) -> Option<&Str> {
        self.protocol_type.as_ref()
    }

    /// Since when nobody is in, if nobody is.
    pub(crate) fn empty_since(&self) -> Option<Timestamp> {
        (self.state == State::Empty).then_some(self.since)
    }

    /// What its last generation read.
    pub(crate) fn subscribed(&self) -> &Subscribed {
        &self.subscribed
    }

    /// What the members read, by what each told of itself under the protocol in force.
    pub(super) fn subscribe(&self) -> Subscribed {
        let is_consumers = self.protocol_type.as_ref().is_some_and(|kind| *kind == *subscription::CONSUMER);
        if self.members.is_empty() {
            return Subscribed::To(BTreeSet::new());
        }
        if !is_consumers || self.protocol.is_none() {
            return Subscribed::Unknown;
        }
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            match subscription::topics(&member.metadata(self.protocol.as_ref())) {
                Some(topics) => all.extend(topics.iter().map(Str::detached)),
                None => return Subscribed::Unknown,
            }
        }
        Subscribed::To(all)
    }
}
