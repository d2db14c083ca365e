//! The assignment: handed in by the leader, handed out to all.

use std::collections::HashMap;

use aquifer_protocol::Str;
use bytes::Bytes;

use super::super::effects::{Effects, Now, Synced, Ticket};
use super::super::error::GroupError;
use super::{ClassicGroup, Limits, State};

/// A request for what a member is to read; the leader's brings what all are.
#[derive(Debug, Clone)]
pub(crate) struct Sync {
    pub(crate) member_id: Str,
    pub(crate) instance: Option<Str>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<Str>,
    pub(crate) protocol: Option<Str>,
    pub(crate) assignments: Assignments,
}

/// What a leader hands in; nothing, as from others.
#[derive(Debug, Clone)]
pub(crate) enum Assignments {
    /// What each member is to read.
    Given(Vec<(Str, Bytes)>),
    /// More than can be stored, and therefore not looked at.
    TooLarge,
}

impl ClassicGroup {
    /// Tells a member what it is to read, as soon as that is known.
    pub(crate) fn sync(
        &mut self,
        sync: Sync,
        ticket: Ticket,
        now: Now,
        limits: Limits,
        effects: &mut Effects,
    ) {
        if let Err(error) = self.try_sync(sync, ticket, now, limits, effects) {
            effects.syncs.push((ticket, Err(error)));
        }
    }

    fn try_sync(
        &mut self,
        sync: Sync,
        ticket: Ticket,
        now: Now,
        limits: Limits,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        self.check(&sync.member_id, sync.instance.as_ref())?;
        if sync.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.state {
            State::Empty => return Err(GroupError::UnknownMember),
            // Before its words are compared: after a change of protocol it may have been told others than the group's.
            State::Preparing(_) => return Err(GroupError::RebalanceInProgress),
            State::Completing | State::Stable => {}
        }
        let differs = |asked: &Option<Str>, ours: &Option<Str>| asked.is_some() && asked != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(GroupError::InconsistentProtocol);
        }
        self.hear_of(&sync.member_id, now);
        let is_leader = self.leader.as_ref() == Some(&sync.member_id);
        if let Some(member) = self.members.get_mut(&sync.member_id) {
            member.owes_sync = false;
            // A request before this one was given up by its client.
            if let Some(given_up) = member.syncing.replace(ticket) {
                effects.syncs.push((given_up, Err(GroupError::RebalanceInProgress)));
            }
        }
        if self.members.values().all(|member| !member.owes_sync) {
            self.sync_until = None;
        }
        if is_leader && self.state == State::Completing {
            self.assign(sync.assignments, now, limits, effects);
        }
        if self.state == State::Stable {
            self.hand_out(effects);
        }
        Ok(())
    }

    fn assign(&mut self, assignments: Assignments, now: Now, limits: Limits, effects: &mut Effects) {
        let Assignments::Given(assignments) = assignments else {
            return self.refuse_assignment(now, limits, effects);
        };
        let mut assignments: HashMap<Str, Bytes> = assignments.into_iter().collect();
        for member in self.members.values_mut() {
            // Whom the leader forgot reads nothing.
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        let record = self.record_since(now.wall);
        if record.batch_bytes_max() > limits.batch_bytes_max {
            return self.refuse_assignment(now, limits, effects);
        }
        self.set_state(State::Stable, now);
        effects.records.push(record);
        effects.handed_in.push(self.id.clone());
    }

    /// Nobody reads by what cannot be stored: all are told, and may join again.
    fn refuse_assignment(&mut self, now: Now, limits: Limits, effects: &mut Effects) {
        tracing::warn!(
            group = %self.id,
            members = self.members.len(),
            "the group's assignment does not fit into a record; raise max.message.bytes of __consumer_offsets"
        );
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                effects.syncs.push((ticket, Err(GroupError::GroupTooLarge)));
            }
        }
        self.drop_assignments();
        self.prepare(now, limits, effects);
    }

    fn hand_out(&mut self, effects: &mut Effects) {
        for member in self.members.values_mut() {
            if let Some(ticket) = member.syncing.take() {
                let synced = Synced {
                    protocol_type: self.protocol_type.clone(),
                    protocol: self.protocol.clone(),
                    assignment: member.assignment.clone(),
                };
                effects.syncs.push((ticket, Ok(synced)));
            }
        }
    }

    /// Who joined and then did not ask what to read holds all others up: it is given up.
    pub(super) fn give_up_unsynced(&mut self, now: Now, limits: Limits, effects: &mut Effects) {
        let owing: Vec<Str> =
            self.members.values().filter(|member| member.owes_sync).map(|member| member.id.clone()).collect();
        self.sync_until = None;
        if owing.is_empty() && self.state == State::Stable {
            return;
        }
        for id in &owing {
            self.remove(id, GroupError::UnknownMember, effects);
        }
        self.prepare(now, limits, effects);
        self.maybe_end_round(now, effects);
    }
}
