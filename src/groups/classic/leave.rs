//! Staying and leaving: heartbeats, sessions that end, members that go.

use aquifer_protocol::Str;

use super::super::effects::{Effects, Now};
use super::super::error::GroupError;
use super::{ClassicGroup, Limits, State};

/// A member that leaves: by its id, or by its instance alone, as an operator would.
#[derive(Debug, Clone)]
pub(crate) struct Leaving {
    pub(crate) member_id: Str,
    pub(crate) instance: Option<Str>,
}

impl ClassicGroup {
    /// A member says that it is alive.
    pub(crate) fn heartbeat(
        &mut self,
        member: &Str,
        instance: Option<&Str>,
        generation: i32,
        now: Now,
    ) -> Result<(), GroupError> {
        self.check(member, instance)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.hear_of(member, now);
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::Preparing(_) => Err(GroupError::RebalanceInProgress),
            State::Completing | State::Stable => Ok(()),
        }
    }

    /// Whether a position may be stored for whoever asks. A generation below 0 without a member is somebody from outside, who may
    /// as long as nobody is in.
    pub(crate) fn check_commit(
        &mut self,
        member: &Str,
        instance: Option<&Str>,
        generation: i32,
        now: Now,
    ) -> Result<(), GroupError> {
        if generation < 0 && member.is_empty() && instance.is_none() {
            return if self.state == State::Empty { Ok(()) } else { Err(GroupError::UnknownMember) };
        }
        if generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        self.check(member, instance)?;
        if generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        self.hear_of(member, now);
        match self.state {
            // It knows the generation, so it was told of the round; what it reads may be another's by the time it is heard.
            State::Completing => Err(GroupError::RebalanceInProgress),
            State::Empty | State::Preparing(_) | State::Stable => Ok(()),
        }
    }

    /// Lets members go; each is judged alone.
    pub(crate) fn leave(
        &mut self,
        leaving: &[Leaving],
        now: Now,
        limits: Limits,
        effects: &mut Effects,
    ) -> Vec<Result<(), GroupError>> {
        let before = self.members.len();
        let answers = leaving.iter().map(|one| self.leave_one(one, effects)).collect();
        self.share_anew(self.members.len() < before, now, limits, effects);
        answers
    }

    fn leave_one(&mut self, leaving: &Leaving, effects: &mut Effects) -> Result<(), GroupError> {
        let instance = leaving.instance.as_ref();
        let id = match instance {
            Some(instance) if leaving.member_id.is_empty() => {
                self.instances.get(instance).cloned().ok_or(GroupError::UnknownMember)?
            }
            _ => leaving.member_id.clone(),
        };
        if self.pending.remove(&id).is_some() {
            return Ok(());
        }
        self.check(&id, instance)?;
        self.remove(&id, GroupError::UnknownMember, effects);
        Ok(())
    }

    /// Gives up whoever has not been heard of for too long.
    pub(super) fn expire(&mut self, now: Now, limits: Limits, effects: &mut Effects) {
        self.pending.retain(|_, deadline| *deadline > now.at);
        let mut silent = Vec::new();
        for member in self.members.values_mut().filter(|member| member.deadline <= now.at) {
            if member.is_excused() {
                member.deadline = now.at + member.profile.session_timeout;
            } else {
                silent.push(member.id.clone());
            }
        }
        for id in &silent {
            self.remove(id, GroupError::UnknownMember, effects);
        }
        if !silent.is_empty() {
            tracing::info!(group = %self.id, members = ?silent, "members were not heard of in time and are out of the group");
        }
        self.share_anew(!silent.is_empty(), now, limits, effects);
    }

    /// Forgets an id that was given out and has not been used.
    pub(crate) fn forget_pending(&mut self, id: &Str, now: Now, effects: &mut Effects) {
        if self.pending.remove(id).is_some() {
            self.maybe_end_round(now, effects);
        }
    }

    /// Those who are left share what the lost ones read.
    fn share_anew(&mut self, lost_somebody: bool, now: Now, limits: Limits, effects: &mut Effects) {
        if lost_somebody && matches!(self.state, State::Stable | State::Completing) {
            self.prepare(now, limits, effects);
        }
        self.maybe_end_round(now, effects);
    }
}
