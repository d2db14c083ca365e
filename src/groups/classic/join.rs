//! Coming in, and the round of joining.

use std::collections::HashMap;
use std::time::Duration;

use aquifer_protocol::Str;
use bytes::Bytes;

use super::super::effects::{Effects, JoinRefused, Joined, JoinedMember, Now, Ticket};
use super::super::error::GroupError;
use super::member::{Member, Profile};
use super::{ClassicGroup, FirstRound, Limits, NEW_MEMBER_PATIENCE, ROUND_MIN, Round, State, answer_both};

/// A request to join.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    /// Empty for a first join.
    pub(crate) member_id: Str,
    /// What a first join becomes; made by the caller, since nothing here is random.
    pub(crate) fresh_id: Str,
    pub(crate) instance: Option<Str>,
    pub(crate) protocol_type: Str,
    pub(crate) profile: Profile,
    /// The client's version has a first join answered with an id alone (KIP-394).
    pub(crate) needs_known_id: bool,
    /// The client's version lets a returning leader leave the assignment as it is (KIP-814).
    pub(crate) may_skip_assignment: bool,
}

impl ClassicGroup {
    /// Lets a member in, or refuses it; either may come later, by its ticket.
    pub(crate) fn join(
        &mut self,
        join: Join,
        ticket: Ticket,
        now: Now,
        limits: Limits,
        effects: &mut Effects,
    ) {
        if let Err(error) = self.try_join(&join, ticket, now, limits, effects) {
            let member_id =
                if error == GroupError::MemberIdRequired { join.fresh_id } else { join.member_id };
            effects.joins.push((ticket, Err(JoinRefused { error, member_id })));
        }
        // Whoever was waited for may be the one that came, or that was refused.
        self.maybe_end_round(now, effects);
    }

    fn try_join(
        &mut self,
        join: &Join,
        ticket: Ticket,
        now: Now,
        limits: Limits,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        let session = join.profile.session_timeout;
        limits.admit_session(session)?;
        if let Err(full) = self.make_room(join, limits) {
            // One that is in, and came too late to stay.
            if let Some(id) = self.known(join).cloned() {
                self.remove(&id, full, effects);
            }
            return Err(full);
        }
        if !self.fits(join) {
            return Err(GroupError::InconsistentProtocol);
        }
        if !join.member_id.is_empty() {
            return self.join_again(join, ticket, now, limits, effects);
        }
        if let Some(instance) = &join.instance {
            if let Some(old) = self.instances.get(instance).cloned() {
                self.replace(&old, join, ticket, now, limits, effects);
            } else {
                self.add(join, join.fresh_id.clone(), ticket, now, limits, effects);
            }
            return Ok(());
        }
        if join.needs_known_id {
            self.pending.insert(join.fresh_id.clone(), now.at + session);
            return Err(GroupError::MemberIdRequired);
        }
        self.add(join, join.fresh_id.clone(), ticket, now, limits, effects);
        Ok(())
    }

    /// A group that is full takes back only whom it has. While it forms it has those who wait to be in: so of a group that was
    /// larger than it may be now, the last to join again are out.
    fn make_room(&self, join: &Join, limits: Limits) -> Result<(), GroupError> {
        let known = self.known(join).and_then(|id| self.members.get(id));
        let room = match self.state {
            State::Empty => true,
            State::Preparing(_) => {
                let awaited = self.members.values().filter(|member| member.joining.is_some()).count();
                known.is_some_and(|member| member.joining.is_some()) || awaited < limits.members_max
            }
            State::Completing | State::Stable => known.is_some() || self.members.len() < limits.members_max,
        };
        if room { Ok(()) } else { Err(GroupError::GroupFull) }
    }

    /// The member whose place is asked for.
    fn known(&self, join: &Join) -> Option<&Str> {
        let by_instance = join.instance.as_ref().and_then(|instance| self.instances.get(instance));
        by_instance.or_else(|| self.members.get_key_value(&join.member_id).map(|(id, _)| id))
    }

    /// Whether the group would still have a protocol that all know.
    fn fits(&self, join: &Join) -> bool {
        let protocols = &join.profile.protocols;
        if self.members.is_empty() {
            return !join.protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_ref() == Some(&join.protocol_type)
            && protocols.iter().any(|(name, _)| self.is_common(name))
    }

    fn join_again(
        &mut self,
        join: &Join,
        ticket: Ticket,
        now: Now,
        limits: Limits,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        let id = &join.member_id;
        if self.pending.contains_key(id) {
            // Ids are given out to members without an instance alone; one with both would be in twice.
            if join.instance.is_some() {
                return Err(GroupError::UnknownMember);
            }
            self.add(join, id.clone(), ticket, now, limits, effects);
            return Ok(());
        }
        self.check(id, join.instance.as_ref())?;
        let member = &self.members[id];
        let same = member.profile.protocols == join.profile.protocols;
        let is_leader = self.leader.as_ref() == Some(id);
        match self.state {
            State::Empty => return Err(GroupError::UnknownMember),
            // The answer was lost, and is given again.
            State::Completing if same => {
                let members = if is_leader { self.roll() } else { Vec::new() };
                let joined = self.joined(id.clone(), members);
                effects.joins.push((ticket, Ok(joined)));
                self.hear_of(id, now);
            }
            State::Stable if same && !is_leader => {
                effects.joins.push((ticket, Ok(self.joined(id.clone(), Vec::new()))));
                self.hear_of(id, now);
            }
            State::Preparing(_) => self.update(id, join, ticket, now, effects),
            State::Completing | State::Stable => {
                self.update(id, join, ticket, now, effects);
                self.prepare(now, limits, effects);
            }
        }
        Ok(())
    }

    fn update(&mut self, id: &Str, join: &Join, ticket: Ticket, now: Now, effects: &mut Effects) {
        let Some(mut member) = self.take_out(id) else { return };
        member.profile = join.profile.clone();
        // A request before this one was given up by its client.
        if let Some(given_up) = member.joining.replace(ticket) {
            let refused = JoinRefused { error: GroupError::RebalanceInProgress, member_id: id.clone() };
            effects.joins.push((given_up, Err(refused)));
        }
        member.hear(now.at);
        self.insert(member);
    }

    fn add(&mut self, join: &Join, id: Str, ticket: Ticket, now: Now, limits: Limits, effects: &mut Effects) {
        self.pending.remove(&id);
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        if let State::Preparing(Round { first: Some(first), .. }) = &mut self.state {
            first.grew = true;
        }
        let member = Member {
            id: id.clone(),
            instance: join.instance.clone(),
            profile: join.profile.clone(),
            assignment: Bytes::new(),
            is_new: true,
            joining: Some(ticket),
            syncing: None,
            owes_sync: false,
            deadline: now.at + NEW_MEMBER_PATIENCE,
        };
        self.insert(member);
        if !matches!(self.state, State::Preparing(_)) {
            self.prepare(now, limits, effects);
        }
    }

    /// A static member comes back, under another id: who had its place is fenced.
    fn replace(
        &mut self,
        old: &Str,
        join: &Join,
        ticket: Ticket,
        now: Now,
        limits: Limits,
        effects: &mut Effects,
    ) {
        let Some(mut member) = self.take_out(old) else { return };
        answer_both(&member, GroupError::FencedInstance, effects);
        let leader_before = self.leader.clone();
        let id = join.fresh_id.clone();
        (member.joining, member.syncing) = (Some(ticket), None);
        member.id = id.clone();
        member.profile = join.profile.clone();
        // Its place is not new, whoever has it.
        member.is_new = false;
        member.hear(now.at);
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        if self.leader.as_ref() == Some(old) {
            self.leader = Some(id.clone());
        }
        self.insert(member);
        match self.state {
            // What a member tells its leader may be another each time that it starts (what it owns, for one); for the sake of
            // that Kafka disturbs nobody either.
            State::Stable if self.select_protocol() == self.protocol => {
                let record = self.record();
                if record.batch_bytes_max() <= limits.batch_bytes_max {
                    effects.records.push(record);
                    self.take_back(&id, join, leader_before, effects);
                } else {
                    self.prepare(now, limits, effects);
                }
            }
            State::Stable | State::Completing | State::Empty => self.prepare(now, limits, effects),
            State::Preparing(_) => {}
        }
    }

    /// Nothing changes for the others: the member has its assignment again, and who it is now is stored.
    fn take_back(&mut self, id: &Str, join: &Join, leader_before: Option<Str>, effects: &mut Effects) {
        let Some(member) = self.members.get_mut(id) else { return };
        let Some(ticket) = member.joining.take() else { return };
        let leads = self.leader.as_ref() == Some(id);
        let mut joined = self.joined(id.clone(), Vec::new());
        if join.may_skip_assignment {
            joined.skip_assignment = leads;
            joined.members = if leads { self.roll() } else { Vec::new() };
        } else if let Some(before) = leader_before {
            // Told that it leads, it would assign anew, and nobody would be asked to take it.
            joined.leader = before;
        }
        effects.joins.push((ticket, Ok(joined)));
    }

    /// Begins a round of joining.
    pub(super) fn prepare(&mut self, now: Now, limits: Limits, effects: &mut Effects) {
        let was_empty = self.state == State::Empty;
        self.sync_until = None;
        if self.state == State::Completing {
            self.drop_assignments();
            for member in self.members.values_mut() {
                if let Some(ticket) = member.syncing.take() {
                    effects.syncs.push((ticket, Err(GroupError::RebalanceInProgress)));
                }
            }
        }
        let timeout = self.rebalance_timeout();
        let round = if was_empty {
            let delay = limits.initial_rebalance_delay;
            let first = FirstRound { left: timeout.saturating_sub(delay), grew: false };
            Round { until: now.at + delay, first: Some(first) }
        } else {
            Round { until: now.at + timeout, first: None }
        };
        self.set_state(State::Preparing(round), now);
    }

    /// Ends the round if there is nobody left to wait for. A first round waits for those who are still to come.
    pub(super) fn maybe_end_round(&mut self, now: Now, effects: &mut Effects) {
        let State::Preparing(Round { first: None, .. }) = self.state else { return };
        if self.pending.is_empty() && self.members.values().all(|member| member.joining.is_some()) {
            self.complete(now, effects);
        }
    }

    /// The round's time is up.
    pub(super) fn end_round(&mut self, round: Round, now: Now, limits: Limits, effects: &mut Effects) {
        match round.first {
            Some(first) if first.grew && first.left > Duration::ZERO => {
                let delay = limits.initial_rebalance_delay.min(first.left);
                let first = FirstRound { left: first.left.saturating_sub(delay), grew: false };
                self.state = State::Preparing(Round { until: now.at + delay, first: Some(first) });
            }
            _ => self.complete(now, effects),
        }
    }

    /// Begins a generation of those who joined.
    fn complete(&mut self, now: Now, effects: &mut Effects) {
        let absent =
            self.members.values().filter(|member| member.joining.is_none() && member.instance.is_none());
        let absent: Vec<Str> = absent.map(|member| member.id.clone()).collect();
        for id in &absent {
            self.remove(id, GroupError::UnknownMember, effects);
        }
        if !self.members.is_empty() && !self.elect_who_joined() {
            // All are static, and none has come back yet: their sessions end the wait.
            let wait = self.rebalance_timeout().max(ROUND_MIN);
            self.state = State::Preparing(Round { until: now.at + wait, first: None });
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.protocol = None;
            self.leader = None;
            self.subscribed = self.subscribe();
            self.set_state(State::Empty, now);
            effects.records.push(self.record());
            return;
        }
        self.protocol = self.select_protocol();
        self.subscribed = self.subscribe();
        self.set_state(State::Completing, now);
        self.sync_until = Some(now.at + self.rebalance_timeout());
        let roll = self.roll();
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in ids {
            let members = if self.leader.as_ref() == Some(&id) { roll.clone() } else { Vec::new() };
            let joined = self.joined(id.clone(), members);
            let Some(member) = self.members.get_mut(&id) else { continue };
            member.is_new = false;
            member.owes_sync = true;
            member.hear(now.at);
            if let Some(ticket) = member.joining.take() {
                effects.joins.push((ticket, Ok(joined)));
            }
        }
    }

    fn elect_who_joined(&mut self) -> bool {
        let has_joined = |id: &Str| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let joined = self.members.values().find(|member| member.joining.is_some());
        let Some(joined) = joined else { return false };
        self.leader = Some(joined.id.clone());
        true
    }

    /// Each member votes for the best that all know; the most votes win, and of equal ones the leader's better.
    pub(super) fn select_protocol(&self) -> Option<Str> {
        let mut votes: HashMap<&Str, usize> = HashMap::new();
        for member in self.members.values() {
            let mut names = member.profile.protocols.iter().map(|(name, _)| name);
            if let Some(best) = names.find(|name| self.is_common(name)) {
                *votes.entry(best).or_default() += 1;
            }
        }
        let count = |name: &Str| votes.get(name).copied().unwrap_or(0);
        let leader = self.leader.as_ref().and_then(|id| self.members.get(id))?;
        let mut best: Option<&Str> = None;
        for (name, _) in &leader.profile.protocols {
            if self.is_common(name) && best.is_none_or(|best| count(name) > count(best)) {
                best = Some(name);
            }
        }
        best.map(Str::detached)
    }

    /// All members, as their leader is told of them.
    fn roll(&self) -> Vec<JoinedMember> {
        let told = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(self.protocol.as_ref()),
        };
        self.members.values().map(told).collect()
    }

    fn joined(&self, member_id: Str, members: Vec<JoinedMember>) -> Joined {
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or(Str::EMPTY),
            skip_assignment: false,
            member_id,
            members,
        }
    }
}
