//! Members that speak the classic protocol, in a group whose coordinator assigns.
//!
//! Such a member knows the group's epoch that it has reached as a generation. It goes its steps by JoinGroup, whose words for a leader
//! say what it still has, and is told by SyncGroup what it may read; both are answered at once, since nobody waits for the others
//! here. That it has a step to go it learns by Heartbeat, which tells it to join again. From then on it has its rebalance timeout to
//! do so, and as long again to ask what to read.

use std::collections::BTreeSet;

use aquifer_protocol::Str;
use bytes::Bytes;

use super::super::classic::{self, Join, Sync, duration, millis};
use super::super::counts::Counts;
use super::super::effects::{Effects, Joined, Synced};
use super::super::embedded::{self, Named, Subscription};
use super::super::error::GroupError;
use super::super::partitions::Partitions;
use super::super::record::{Classic, Current, MemberState, Profile};
use super::super::subscription::CONSUMER;
use super::super::topics::Topics;
use super::{Around, ConsumerGroup, Member, sooner};
use crate::config::Migration;

/// How many members speak the classic protocol, and how many of them can do each of its protocols.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Classics {
    pub(super) count: usize,
    knowing: Counts,
}

impl Classics {
    /// Counts a member, if it speaks it.
    pub(super) fn add(&mut self, profile: &Profile) {
        let Some(classic) = &profile.classic else { return };
        self.count += 1;
        for name in names(classic) {
            self.knowing.add(name);
        }
    }

    /// Counts it no more.
    pub(super) fn remove(&mut self, profile: &Profile) {
        let Some(classic) = &profile.classic else { return };
        self.count -= 1;
        for name in names(classic) {
            self.knowing.remove(name);
        }
    }

    /// Whether all of them can do a protocol.
    fn all_know(&self, name: &Str) -> bool {
        self.knowing.of(name) == self.count
    }
}

/// Each once.
fn names(classic: &Classic) -> BTreeSet<&Str> {
    classic.protocols.iter().map(|(name, _)| name).collect()
}

/// A member's words for a leader: the same under all protocols, but for what only an assignor understands.
fn words(classic: &Classic) -> Option<(&Str, &Bytes)> {
    classic.protocols.first().map(|(name, words)| (name, words))
}

/// Partitions by the ids of their topics; those of topics that are no more are left out.
pub(super) fn known(named: &Named, topics: &Topics) -> Partitions {
    let known = named.iter().filter_map(|(name, indexes)| Some((topics.named(name)?.id, indexes)));
    known.flat_map(|(topic, indexes)| indexes.iter().map(move |index| (topic, *index))).collect()
}

/// What a member may read, as it reads it in that version.
pub(super) fn told(partitions: &Partitions, version: i16, topics: &Topics) -> Result<Bytes, GroupError> {
    let named = partitions.topics().filter_map(|(topic, indexes)| {
        Some((topics.name_of(topic)?, indexes.iter().copied().collect::<Vec<i32>>()))
    });
    // Names of topics are short, and an answer holds far more than a record.
    embedded::assignment(version, &named.collect()).map_err(|_| GroupError::GroupTooLarge)
}

impl ConsumerGroup {
    /// Lets a member in by the classic protocol, or has it go a step.
    pub(crate) fn classic_join(
        &mut self,
        join: &Join,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Result<Joined, GroupError> {
        around.classic.admit_session(join.profile.session_timeout)?;
        if around.limits.migration == Migration::Disabled {
            return Err(GroupError::InconsistentProtocol);
        }
        let holder = join.instance.as_ref().and_then(|instance| self.instances.get(instance)).cloned();
        let is_known = holder.is_some() || self.members.contains_key(&join.member_id);
        if !is_known && self.members.len() >= around.limits.members_max {
            return Err(GroupError::GroupFull);
        }
        let protocols = &join.profile.protocols;
        let is_consumer = *join.protocol_type == *CONSUMER;
        if !is_consumer || !protocols.iter().any(|(name, _)| self.classics.all_know(name)) {
            return Err(GroupError::InconsistentProtocol);
        }
        let subscription = protocols.first().and_then(|(_, words)| Subscription::read(words).ok());
        let subscription = subscription.ok_or(GroupError::InconsistentProtocol)?;
        // Some clients go on to say what they had: who has got an id already is refused by that, and would ask again for ever.
        let has_nothing = subscription.owned.is_empty();
        if join.member_id.is_empty() && join.instance.is_none() && join.needs_known_id && has_nothing {
            return Err(GroupError::MemberIdRequired);
        }
        self.whole(around, effects, |group, effects| {
            group.let_classic_in(join, subscription, holder, around, effects)
        })
    }

    fn let_classic_in(
        &mut self,
        join: &Join,
        subscription: Subscription,
        holder: Option<Str>,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Result<Joined, GroupError> {
        let id = if join.member_id.is_empty() { &join.fresh_id } else { &join.member_id };
        match holder {
            // Whatever protocol it spoke: who had its place is fenced.
            Some(holder) if join.member_id.is_empty() => self.replace(&holder, id, around, effects),
            Some(holder) if holder != *id => return Err(GroupError::FencedInstance),
            None if join.instance.is_some() && !join.member_id.is_empty() => {
                return Err(GroupError::UnknownMember);
            }
            Some(_) | None => {}
        }
        // Whoever was put out and does not know it yet has nothing any more, and must not store positions in what is others' by now.
        // Kafka lets it in.
        if *id == join.member_id && !self.members.contains_key(id) && !subscription.owned.is_empty() {
            return Err(GroupError::UnknownMember);
        }
        let before = self.members.get(id).map(|member| member.profile.clone()).unwrap_or_default();
        let owned = known(&subscription.owned, around.topics);
        let profile = profile_of(&join.profile, join.instance.clone(), subscription, &before);
        let is_first = self.at.epoch == 0;
        let reads_anew = self.take_profile(id, profile, None, around, effects);
        self.renew(is_first || reads_anew, around, effects);
        self.retarget(around, effects);
        self.reconcile(id, Some(&owned), around, effects);
        let member = self.members.get_mut(id).ok_or(GroupError::UnknownMember)?;
        member.hear(&self.id, around);
        member.rebalance_until = Some(around.now.at + join.profile.rebalance_timeout);
        sooner(&mut self.wake, member.next_deadline());
        Ok(Joined {
            generation: member.current.epoch,
            protocol_type: Some(Str::from_static(CONSUMER)),
            protocol: join.profile.protocols.first().map(|(name, _)| name.clone()),
            // Nobody: none of them assigns.
            leader: Str::EMPTY,
            skip_assignment: false,
            member_id: id.clone(),
            members: Vec::new(),
        })
    }

    /// Tells a member what it may read.
    pub(crate) fn classic_sync(&mut self, sync: &Sync, around: Around<'_>) -> Result<Synced, GroupError> {
        let target_epoch = self.target_epoch;
        let member = self.classic_member(&sync.member_id, sync.instance.as_ref())?;
        if sync.generation != member.current.epoch {
            return Err(GroupError::IllegalGeneration);
        }
        let classic = member.profile.classic.as_ref();
        let (protocol, words) = classic.and_then(words).ok_or(GroupError::InconsistentProtocol)?;
        // First: one that was told another protocol, before the coordinator assigned, shall join again. One that has something to give
        // back has joined already, and learns by this what it is.
        if member.current.epoch < target_epoch && member.current.state != MemberState::Unrevoked {
            self.have_rejoin(&sync.member_id, around);
            return Err(GroupError::RebalanceInProgress);
        }
        let is_another_kind = sync.protocol_type.as_ref().is_some_and(|kind| **kind != *CONSUMER);
        if is_another_kind || sync.protocol.as_ref().is_some_and(|name| name != protocol) {
            return Err(GroupError::InconsistentProtocol);
        }
        let version = Subscription::read(words).map_err(|_| GroupError::InconsistentProtocol)?.version;
        let assignment = told(&member.current.assigned.partitions(), version, around.topics)?;
        if let Some(member) = self.members.get_mut(&sync.member_id) {
            member.rebalance_until = None;
            member.hear(&self.id, around);
            sooner(&mut self.wake, member.next_deadline());
        }
        Ok(Synced { protocol_type: sync.protocol_type.clone(), protocol: sync.protocol.clone(), assignment })
    }

    /// A member is alive, and is told if it has a step to go. As at any member's heartbeat a target is made if there is none: Kafka
    /// leaves that to members that speak the other protocol, of which there may be none if the policy keeps the group as it is.
    pub(crate) fn classic_heartbeat(
        &mut self,
        id: &Str,
        instance: Option<&Str>,
        generation: i32,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        if generation != self.classic_member(id, instance)?.current.epoch {
            return Err(GroupError::IllegalGeneration);
        }
        if let Some(member) = self.members.get_mut(id) {
            member.hear(&self.id, around);
            sooner(&mut self.wake, member.next_deadline());
        }
        // Not at each heartbeat, if it cannot be stored.
        let tried = (around.topics.version(), around.limits.batch_bytes_max);
        if self.unfit != Some(tried) {
            let made = self.whole(around, effects, |group, effects| {
                group.renew(false, around, effects);
                group.retarget(around, effects);
                Ok(())
            });
            if let Err(error) = made {
                // It is alive all the same, and its client has no word for that.
                tracing::warn!(group = %self.id, %error, "a new assignment cannot be stored; members read what they had");
                self.unfit = Some(tried);
            }
        }
        if self.members.get(id).is_some_and(|member| self.has_a_step(id, &member.current)) {
            self.have_rejoin(id, around);
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    /// The member that speaks, if it is one of these and is who it says.
    fn classic_member(&self, id: &Str, instance: Option<&Str>) -> Result<&Member, GroupError> {
        if let Some(instance) = instance {
            let holder = self.instances.get(instance).ok_or(GroupError::UnknownMember)?;
            if holder != id {
                return Err(GroupError::FencedInstance);
            }
        }
        let member = self.members.get(id).filter(|member| member.profile.classic.is_some());
        member.ok_or(GroupError::UnknownMember)
    }

    /// Whether a member that joined again would be told anything new: there is a newer target, it has something to give back, or
    /// all that it waited for is free.
    fn has_a_step(&self, id: &Str, current: &Current) -> bool {
        current.epoch < self.target_epoch
            || match current.state {
                MemberState::Stable => false,
                MemberState::Unrevoked => true,
                MemberState::Unreleased => {
                    let mut target = self.targets.get(id).into_iter().flat_map(Partitions::iter);
                    target.all(|place| self.owners.get(&place).is_none_or(|owner| owner == id))
                }
            }
    }

    /// A member was told to join again: it is put out unless it does in time.
    fn have_rejoin(&mut self, id: &Str, around: Around<'_>) {
        if let Some(member) = self.members.get_mut(id) {
            let timeout = duration(member.profile.rebalance_timeout_ms);
            member.rebalance_until.get_or_insert(around.now.at + timeout);
            sooner(&mut self.wake, member.next_deadline());
        }
    }
}

/// What is known of a member by what it says of itself, and by what was known before.
pub(super) fn profile_of(
    said: &classic::Profile,
    instance: Option<Str>,
    subscription: Subscription,
    before: &Profile,
) -> Profile {
    let mut topics = subscription.topics;
    topics.sort_unstable();
    topics.dedup();
    Profile {
        instance: instance.or_else(|| before.instance.clone()),
        rack: subscription.rack.or_else(|| before.rack.clone()),
        client_id: said.client_id.clone(),
        client_host: said.client_host.clone(),
        topics,
        // These have no word for one.
        pattern: None,
        rebalance_timeout_ms: millis(said.rebalance_timeout),
        assignor: before.assignor.clone(),
        classic: Some(Classic {
            session_timeout_ms: millis(said.session_timeout),
            protocols: said.protocols.clone(),
        }),
    }
}
