//! Leaving, and being put out.

use std::collections::BTreeSet;

use aquifer_protocol::Str;

use super::super::classic::Leaving;
use super::super::effects::Effects;
use super::super::error::GroupError;
use super::super::grants::Grants;
use super::super::record::{Current, MemberState, Said};
use super::{AWAY, Around, ConsumerGroup, pattern_of};

/// How a member leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Departure {
    /// Its place is another's.
    ForGood,
    /// A static member: its place is kept for as long as its session lasts.
    ForAWhile,
}

impl ConsumerGroup {
    /// Lets a member go.
    pub(crate) fn leave(
        &mut self,
        id: &Str,
        instance: Option<&Str>,
        departure: Departure,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            let holder = self.instances.get(instance).ok_or(GroupError::UnknownMember)?;
            if holder != id {
                return Err(GroupError::FencedInstance);
            }
        }
        let current = &self.members.get(id).ok_or(GroupError::UnknownMember)?.current;
        match departure {
            Departure::ForGood => self.put_out(std::slice::from_ref(id), around, effects),
            Departure::ForAWhile => {
                let value = Current {
                    epoch: AWAY,
                    previous_epoch: current.previous_epoch,
                    state: MemberState::Stable,
                    assigned: current.assigned.clone(),
                    revoking: Grants::default(),
                };
                self.say(Said::Current { member: id.clone(), value: Some(value) }, around, effects);
            }
        }
        Ok(())
    }

    /// Puts out members whom an operator names, by id or by instance; each is judged alone.
    pub(crate) fn remove(
        &mut self,
        leaving: &[Leaving],
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Vec<Result<(), GroupError>> {
        let found: Vec<Result<Str, GroupError>> = leaving.iter().map(|one| self.named(one)).collect();
        let ids: BTreeSet<Str> = found.iter().flatten().cloned().collect();
        if !ids.is_empty() {
            let ids: Vec<Str> = ids.into_iter().collect();
            self.put_out(&ids, around, effects);
        }
        found.into_iter().map(|found| found.map(drop)).collect()
    }

    fn named(&self, leaving: &Leaving) -> Result<Str, GroupError> {
        let Leaving { member_id, instance } = leaving;
        let Some(instance) = instance else {
            let is_in = self.members.contains_key(member_id);
            return if is_in { Ok(member_id.clone()) } else { Err(GroupError::UnknownMember) };
        };
        let holder = self.instances.get(instance).ok_or(GroupError::UnknownMember)?;
        let is_meant = member_id.is_empty() || member_id == holder;
        if is_meant { Ok(holder.clone()) } else { Err(GroupError::FencedInstance) }
    }

    /// Puts out whoever was not heard of in time, or has not given back in time what it was told to.
    pub(crate) fn tick(&mut self, around: Around<'_>, effects: &mut Effects) {
        let late = self.members.iter().filter(|(_, member)| member.next_deadline() <= around.now.at);
        let late: Vec<Str> = late.map(|(id, _)| id.clone()).collect();
        if !late.is_empty() {
            tracing::info!(
                group = %self.id,
                members = ?late,
                "members were not heard of, or did not give back partitions, in time and are out of the group"
            );
            self.put_out(&late, around, effects);
        }
        self.set_alarm();
    }

    /// Puts members out, and begins an epoch without them.
    fn put_out(&mut self, ids: &[Str], around: Around<'_>, effects: &mut Effects) {
        for id in ids {
            let pattern = self.members.get(id).and_then(|member| pattern_of(&member.profile)).cloned();
            self.forget(id, around, effects);
            if let Some(pattern) = pattern {
                self.drop_pattern_if_unread(&pattern, around, effects);
            }
        }
        self.renew(true, around, effects);
    }

    /// Takes back all that is stored of a member.
    pub(super) fn forget(&mut self, id: &Str, around: Around<'_>, effects: &mut Effects) {
        let member = id.clone();
        self.say(Said::Current { member: member.clone(), value: None }, around, effects);
        self.say(Said::Target { member: member.clone(), value: None }, around, effects);
        self.say(Said::Member { member, value: None }, around, effects);
    }
}
