//! Heartbeats: a member enters, says what changed of it, learns what changed for it.

use aquifer_protocol::Str;

use super::super::effects::Effects;
use super::super::error::GroupError;
use super::super::grants::Grants;
use super::super::partitions::Partitions;
use super::super::record::{Current, Matching, MemberState, Profile, Said};
use super::patterns::Stale;
use super::{AWAY, Around, ConsumerGroup, JOINING, pattern_of, sooner};

/// What a member says. What is `None` has not changed since it said it last.
#[derive(Debug, Clone)]
pub(crate) struct Heartbeat {
    pub(crate) member: Str,
    /// 0 to be let in.
    pub(crate) epoch: i32,
    pub(crate) instance: Option<Str>,
    pub(crate) rack: Option<Str>,
    pub(crate) rebalance_timeout_ms: Option<i32>,
    /// In order, each once.
    pub(crate) topics: Option<Vec<Str>>,
    pub(crate) pattern: Option<Resolved>,
    pub(crate) assignor: Option<Str>,
    /// What it has, by its own words.
    pub(crate) owned: Option<Partitions>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
}

/// A regular expression, and the topics that it matches, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) pattern: Str,
    pub(crate) topics: Vec<Str>,
}

/// What a member is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) epoch: i32,
    /// What it may read, if that changed or it asked for everything.
    pub(crate) assigned: Option<Partitions>,
    /// Expressions that whoever asked has to match again.
    pub(crate) stale: Option<Stale>,
}

impl Heartbeat {
    fn joins(&self) -> bool {
        self.epoch == JOINING
    }

    /// Refuses a vote for an assignor that there is not.
    pub(crate) fn check_assignor(&self, around: Around<'_>) -> Result<(), GroupError> {
        let is_unknown = |name: &Str| around.limits.assignors.named(name).is_none();
        if self.assignor.as_ref().is_some_and(is_unknown) {
            return Err(GroupError::UnsupportedAssignor);
        }
        Ok(())
    }

    /// Whether it says everything, as members do after any error.
    fn is_full(&self) -> bool {
        let subscribes = self.topics.is_some() || self.pattern.is_some();
        self.rebalance_timeout_ms.is_some() && subscribes && self.owned.is_some()
    }

    /// What is known of the member once it has been heard.
    fn profile(&self, before: &Profile) -> Profile {
        let changed = |said: &Option<Str>, before: &Option<Str>| said.clone().or_else(|| before.clone());
        let said = self.pattern.as_ref().map(|resolved| resolved.pattern.clone());
        // Who joins says all of it: no expression then is none, also in the place of a static member that had one.
        let pattern = if self.epoch == JOINING { said } else { changed(&said, &before.pattern) };
        Profile {
            instance: changed(&self.instance, &before.instance),
            rack: changed(&self.rack, &before.rack),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topics: self.topics.clone().unwrap_or_else(|| before.topics.clone()),
            pattern,
            rebalance_timeout_ms: self.rebalance_timeout_ms.unwrap_or(before.rebalance_timeout_ms),
            assignor: changed(&self.assignor, &before.assignor),
            // Whatever it spoke before.
            classic: None,
        }
    }
}

impl ConsumerGroup {
    /// Hears a member.
    pub(crate) fn heartbeat(
        &mut self,
        beat: &Heartbeat,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Result<Heard, GroupError> {
        beat.check_assignor(around)?;
        let mut heard = self.whole(around, effects, |group, effects| group.hear(beat, around, effects))?;
        heard.stale = self.stale(around);
        Ok(heard)
    }

    fn hear(
        &mut self,
        beat: &Heartbeat,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Result<Heard, GroupError> {
        self.let_in(beat, around, effects)?;
        let known = self.members.get(&beat.member);
        let before = known.map(|member| member.current.assigned.clone()).unwrap_or_default();
        let is_first = self.at.epoch == 0;
        let profile = match known {
            Some(member) => beat.profile(&member.profile),
            None => beat.profile(&Profile::default()),
        };
        let reads_anew = self.take_profile(&beat.member, profile, beat.pattern.as_ref(), around, effects);
        self.renew(is_first || reads_anew, around, effects);
        self.retarget(around, effects);
        self.reconcile(&beat.member, beat.owned.as_ref(), around, effects);
        let member = self.members.get_mut(&beat.member).ok_or(GroupError::UnknownMember)?;
        member.hear(&self.id, around);
        sooner(&mut self.wake, member.next_deadline());
        let assigned = &member.current.assigned;
        let is_told = beat.joins() || beat.is_full() || *assigned != before;
        let assigned = is_told.then(|| assigned.partitions());
        Ok(Heard { epoch: member.current.epoch, assigned, stale: None })
    }

    /// A member of this epoch is there, whatever it says.
    pub(crate) fn is_alive(&mut self, id: &Str, epoch: i32, around: Around<'_>) {
        let member = self.members.get_mut(id).filter(|member| member.current.epoch == epoch);
        if let Some(member) = member {
            member.hear(&self.id, around);
            sooner(&mut self.wake, member.next_deadline());
        }
    }

    /// Judges whether whoever speaks may, and has it begin anew if it joins and was there before.
    fn let_in(
        &mut self,
        beat: &Heartbeat,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        let holder = beat.instance.as_ref().and_then(|instance| self.instances.get(instance)).cloned();
        let is_known = self.members.contains_key(&beat.member) || holder.is_some();
        if !is_known && beat.joins() && self.members.len() >= around.limits.members_max {
            return Err(GroupError::GroupFull);
        }
        match holder {
            Some(holder) if holder != beat.member => {
                if !beat.joins() {
                    return Err(GroupError::FencedInstance);
                }
                // By the classic protocol a name is another's as soon as that comes, and so it is between the two.
                let is_free = self
                    .members
                    .get(&holder)
                    .is_some_and(|member| member.current.epoch == AWAY || member.profile.classic.is_some());
                if !is_free {
                    return Err(GroupError::UnreleasedInstance);
                }
                self.replace(&holder, &beat.member, around, effects);
                Ok(())
            }
            None if beat.instance.is_some() && !beat.joins() => Err(GroupError::UnknownMember),
            _ if beat.joins() => {
                self.begin_anew(&beat.member, around, effects);
                Ok(())
            }
            _ => self.check_epoch(beat),
        }
    }

    /// A member that joins has given up all that it had, whatever became of its last answers. Kafka refuses it until its session
    /// is over if it had any epoch but the first (KAFKA-19233).
    fn begin_anew(&mut self, id: &Str, around: Around<'_>, effects: &mut Effects) {
        let Some(member) = self.members.get(id) else { return };
        let value = Some(fresh(&member.current));
        self.say(Said::Current { member: id.clone(), value }, around, effects);
    }

    /// Puts one that stands for the same static member in the place of another that is away.
    pub(super) fn replace(&mut self, old: &Str, new: &Str, around: Around<'_>, effects: &mut Effects) {
        let Some(member) = self.members.get(old) else { return };
        let (profile, current) = (member.profile.clone(), fresh(&member.current));
        let target = self.targets.get(old).cloned().unwrap_or_default();
        self.forget(old, around, effects);
        let member = new.clone();
        self.say(Said::Member { member: member.clone(), value: Some(profile) }, around, effects);
        self.say(Said::Target { member: member.clone(), value: Some(target) }, around, effects);
        self.say(Said::Current { member, value: Some(current) }, around, effects);
    }

    fn check_epoch(&self, beat: &Heartbeat) -> Result<(), GroupError> {
        let current = &self.members.get(&beat.member).ok_or(GroupError::UnknownMember)?.current;
        let knows_less = || beat.owned.as_ref().is_some_and(|owned| owned.is_within(&current.assigned));
        // The answer with its new epoch may not have reached it.
        let missed_answer = beat.epoch == current.previous_epoch && knows_less();
        if beat.epoch == current.epoch || (beat.epoch < current.epoch && missed_answer) {
            Ok(())
        } else {
            Err(GroupError::FencedEpoch)
        }
    }

    /// Takes what a member says of itself; whether it reads something else now.
    pub(super) fn take_profile(
        &mut self,
        id: &Str,
        profile: Profile,
        resolved: Option<&Resolved>,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> bool {
        let known = self.members.get(id).map(|member| member.profile.clone());
        let is_new = known.is_none();
        let before = known.unwrap_or_default();
        if is_new || profile != before {
            let value = Some(profile.clone());
            self.say(Said::Member { member: id.clone(), value }, around, effects);
        }
        let mut reads_anew = profile.topics != before.topics;
        let (old, new) = (pattern_of(&before), pattern_of(&profile));
        if old != new {
            if let Some(old) = old {
                self.drop_pattern_if_unread(old, around, effects);
            }
            // Also who reads by no expression any more gives up what only that had matched.
            reads_anew = true;
        }
        if let Some(resolved) = resolved.filter(|resolved| !resolved.pattern.is_empty())
            && !self.patterns.contains_key(&resolved.pattern)
        {
            let matching = Matching { topics: resolved.topics.clone(), resolved: around.now.wall.0 };
            let pattern = resolved.pattern.clone();
            self.say(Said::Pattern { pattern, value: Some(matching) }, around, effects);
        }
        reads_anew
    }
}

/// Where a member is that has just joined again.
fn fresh(current: &Current) -> Current {
    Current {
        epoch: JOINING,
        previous_epoch: JOINING,
        state: MemberState::Stable,
        assigned: current.assigned.clone(),
        revoking: Grants::default(),
    }
}
