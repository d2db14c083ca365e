//! Requests of those whose coordinator assigns, and changes of the protocol.

use std::collections::BTreeSet;

use aquifer_protocol::Str;

use super::super::classic::{Join, Rejoin, State};
use super::super::consumer::{ConsumerGroup, ConsumerView, Departure, Heard, Heartbeat, JOINING, Resolved};
use super::super::effects::{Effects, JoinRefused, Joined, Now};
use super::super::error::GroupError;
use super::super::members::Members;
use super::super::record::{ConsumerRecord, Record};
use super::Book;

impl Book {
    /// Takes what a stored record says of such a group.
    pub(super) fn replay_consumer(&mut self, record: ConsumerRecord, now: Now) {
        let ConsumerRecord { group: id, said } = record;
        let around = super::around(&self.topics, self.rules, now);
        if said.takes_back() {
            if let Some(Members::Consumer(group)) = self.groups.get_mut(&id).map(|group| &mut group.members) {
                group.apply(said, around);
            }
        } else {
            let group = self.groups.entry(id.clone()).or_insert_with(|| super::Group::new(&id, now));
            match &mut group.members {
                Members::Consumer(group) => group.apply(said, around),
                // Whatever it was, this was said later.
                Members::Classic(_) => {
                    let mut consumers = ConsumerGroup::new(id.clone());
                    consumers.apply(said, around);
                    group.members = Members::Consumer(consumers);
                }
            }
        }
        if let Some(group) = self.groups.get_mut(&id)
            && group.members.is_blank()
        {
            group.members = Members::nobody(&id, now);
        }
        self.settle(&id);
    }

    /// Hears a member, which may be a group's first. A classic group becomes one of these, if nobody is in or it may be upgraded.
    pub(crate) fn consumer_heartbeat(
        &mut self,
        id: &Str,
        beat: &Heartbeat,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Heard, GroupError> {
        if id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let said = effects.records.len();
        let around = super::around(&self.topics, self.rules, now);
        let heard = match self.groups.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Consumer(group)) => group.heartbeat(beat, around, effects),
            // Kafka says that the group is not there, over which its own client gives up; at this one it joins anew.
            _ if beat.epoch != JOINING => Err(GroupError::UnknownMember),
            Some(Members::Classic(_)) | None => self.begin_consumers(id, beat, now, effects),
        };
        // One that says nothing new puts a deadline off, which is seen when the deadline comes, unless the session was made shorter.
        let is_sooner = |group: &super::Group| {
            let next = group.members.next_deadline();
            next.is_some_and(|next| group.deadline.is_none_or(|noted| next < noted))
        };
        if effects.records.len() > said || self.groups.get(id).is_some_and(is_sooner) {
            self.settle(id);
        }
        heard
    }

    /// Puts off a member's deadline, although what it says is not heard: there is no room for it.
    pub(crate) fn consumer_is_alive(&mut self, id: &Str, member: &Str, epoch: i32, now: Now) {
        let around = super::around(&self.topics, self.rules, now);
        if let Some(Members::Consumer(group)) = self.groups.get_mut(id).map(|group| &mut group.members) {
            group.is_alive(member, epoch, around);
        }
    }

    /// Whether members of the group subscribe to this regular expression already, so that it is known what it matches.
    pub(crate) fn knows_pattern(&self, id: &str, pattern: &str) -> bool {
        match self.groups.get(id).map(|group| &group.members) {
            Some(Members::Consumer(group)) => group.knows_pattern(pattern),
            Some(Members::Classic(_)) | None => false,
        }
    }

    /// Begins a group with its first member of this protocol, among all that a classic group had.
    fn begin_consumers(
        &mut self,
        id: &Str,
        beat: &Heartbeat,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Heard, GroupError> {
        self.admit(id)?;
        let around = super::around(&self.topics, self.rules, now);
        // Before all members are looked at.
        beat.check_assignor(around)?;
        let mut first = Effects::default();
        let group = self.groups.get(id).map(|group| &group.members);
        let mut consumers = match group {
            Some(Members::Classic(classic)) if classic.state() != State::Empty => {
                ConsumerGroup::of_classic(id, classic, around, &mut first)?
            }
            _ => ConsumerGroup::new(id.clone()),
        };
        let heard = consumers.heartbeat(beat, around, &mut first)?;
        let group = self.groups.entry(id.clone()).or_insert_with(|| super::Group::new(id, now));
        match &group.members {
            Members::Classic(classic) if classic.state() != State::Empty => {
                let gone = Record::Group { group: id.clone(), value: None };
                let bytes = Record::batch_bytes_max_of(first.records.iter().chain([&gone]));
                if bytes > around.limits.batch_bytes_max {
                    return Err(GroupError::NotUpgraded("they do not fit into one batch of records"));
                }
                let members = classic.member_count();
                tracing::info!(group = %id, members, "the coordinator assigns from now on; classic members join again");
                classic.end_waits(effects);
                effects.records.push(gone);
            }
            Members::Classic(_) | Members::Consumer(_) => group.members.end(id, around, effects),
        }
        let before = std::mem::replace(&mut group.members, Members::Consumer(consumers));
        if let Members::Classic(classic) = before
            && classic.state() != State::Empty
        {
            self.turned.push(classic);
        }
        effects.records.append(&mut first.records);
        effects.before.append(&mut first.before);
        Ok(heard)
    }

    /// Lets a classic member into a group whose coordinator assigns. It may take the place of a static member that was the last to
    /// speak the other protocol.
    pub(super) fn join_consumers(
        &mut self,
        id: &Str,
        join: Join,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Joined, JoinRefused> {
        let around = super::around(&self.topics, self.rules, now);
        let refused = |error| {
            let needs_id = error == GroupError::MemberIdRequired;
            JoinRefused {
                error,
                member_id: if needs_id { join.fresh_id.clone() } else { join.member_id.clone() },
            }
        };
        let Some(Members::Consumer(group)) = self.groups.get_mut(id).map(|group| &mut group.members) else {
            return Err(refused(GroupError::InconsistentProtocol));
        };
        let had_consumers = group.has_consumers();
        let mut joined = group.classic_join(&join, around, effects).map_err(refused)?;
        if had_consumers && !group.has_consumers() {
            self.downgrade(id, now, effects);
        }
        if let Some(Members::Classic(group)) = self.groups.get(id).map(|group| &group.members) {
            joined.protocol = group.protocol().cloned();
        }
        Ok(joined)
    }

    /// Has a group go on by the classic protocol, if nobody is left who speaks the other and it may.
    pub(super) fn downgrade(&mut self, id: &Str, now: Now, effects: &mut Effects) {
        let limits = self.rules.limits;
        let around = super::around(&self.topics, self.rules, now);
        let Some(members) = self.groups.get_mut(id).map(|group| &mut group.members) else { return };
        let Members::Consumer(consumers) = members else { return };
        let Some((mut classic, rejoin)) = consumers.turn_classic(around, effects) else { return };
        tracing::info!(group = %id, members = classic.member_count(), ?rejoin, "only classic members are left, and one of them assigns from now on");
        match rejoin {
            Rejoin::Needed => classic.rejoin(now, limits, effects),
            Rejoin::Needless => {}
        }
        *members = Members::Classic(classic);
    }

    /// Lets a member go.
    pub(crate) fn consumer_leave(
        &mut self,
        id: &Str,
        member: &Str,
        instance: Option<&Str>,
        departure: Departure,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        if id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let around = super::around(&self.topics, self.rules, now);
        let left = match self.groups.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Consumer(group)) => group.leave(member, instance, departure, around, effects),
            _ => Err(GroupError::NotFound),
        };
        if left.is_ok() {
            self.downgrade(id, now, effects);
        }
        self.settle(id);
        left
    }

    /// Takes what a group's regular expressions match now.
    pub(crate) fn consumer_matched(
        &mut self,
        id: &Str,
        version: u64,
        all: Vec<Resolved>,
        now: Now,
        effects: &mut Effects,
    ) {
        let around = super::around(&self.topics, self.rules, now);
        if let Some(Members::Consumer(group)) = self.groups.get_mut(id).map(|group| &mut group.members) {
            group.matched(version, all, around, effects);
        }
        self.settle(id);
    }

    /// One such group, in full.
    pub(crate) fn describe_consumers(&self, id: &str) -> Option<ConsumerView> {
        match &self.groups.get(id)?.members {
            Members::Consumer(group) => Some(group.view(self.rules.consumer)),
            Members::Classic(_) => None,
        }
    }

    /// Whether whoever asks for a group's positions may have them. Only whose coordinator assigns has to say who it is.
    pub(crate) fn check_fetch(&self, id: &str, member: Option<&Str>, epoch: i32) -> Result<(), GroupError> {
        match self.groups.get(id).map(|group| &group.members) {
            Some(Members::Consumer(group)) => group.check_fetch(member, epoch),
            Some(Members::Classic(_)) | None => Ok(()),
        }
    }

    /// Ends the waits in classic groups that these records, of which nothing was stored, had made of others.
    pub(super) fn end_waits(&mut self, records: &[Record], lost: &mut Effects) {
        let groups = records.iter().filter_map(|record| match record {
            Record::Consumer(ConsumerRecord { group, .. }) => Some(group),
            Record::Offset { .. } | Record::Group { .. } => None,
        });
        // Many records may be of one group, whose waits end once.
        for id in groups.collect::<BTreeSet<&Str>>() {
            if let Some(Members::Classic(group)) = self.groups.get(id).map(|group| &group.members) {
                group.end_waits(lost);
            }
        }
    }
}
