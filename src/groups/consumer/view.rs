//! What is told of a group: to operators, and to whoever decides about its positions.

use aquifer_model::TopicId;
use aquifer_protocol::Str;

use super::super::error::GroupError;
use super::super::partitions::Partitions;
use super::super::record::{Current, MemberState, Profile};
use super::{ConsumerGroup, ConsumerLimits, Member};

/// A group as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerView {
    pub(crate) state: &'static str,
    pub(crate) epoch: i32,
    pub(crate) target_epoch: i32,
    pub(crate) assignor: &'static str,
    pub(crate) members: Vec<MemberView>,
}

/// A member as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberView {
    pub(crate) member: Str,
    pub(crate) epoch: i32,
    pub(crate) profile: Profile,
    pub(crate) assigned: Partitions,
    pub(crate) target: Partitions,
}

impl ConsumerGroup {
    /// Kafka's word for where it stands.
    pub(crate) fn state_name(&self) -> &'static str {
        let is_there = |member: &Member| {
            member.current.state == MemberState::Stable && member.current.epoch == self.target_epoch
        };
        if self.members.is_empty() {
            "Empty"
        } else if self.at.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().all(is_there) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// The group for operators.
    pub(crate) fn view(&self, limits: ConsumerLimits) -> ConsumerView {
        let members = self.members.iter().map(|(id, member)| MemberView {
            member: id.clone(),
            epoch: member.current.epoch,
            profile: member.profile.clone(),
            assigned: member.current.assigned.partitions(),
            target: self.targets.get(id).cloned().unwrap_or_default(),
        });
        ConsumerView {
            state: self.state_name(),
            epoch: self.at.epoch,
            target_epoch: self.target_epoch,
            assignor: self.assignor(limits).name(),
            members: members.collect(),
        }
    }

    /// Whether positions in these partitions may be stored for whoever asks. An epoch below 0 is somebody from outside, who may as
    /// long as nobody is in. A member may not know its newest epoch yet, since the answer that says it is on its way; what it was
    /// given before, and has had since, is its own all the same (KIP-1251). Each is refused in words of the protocol that it speaks.
    pub(crate) fn check_commit(
        &self,
        member: &Str,
        epoch: i32,
        knows_epochs: bool,
        mut places: impl Iterator<Item = (TopicId, i32)>,
    ) -> Result<(), GroupError> {
        if epoch < 0 && self.members.is_empty() {
            return Ok(());
        }
        let Member { profile, current, .. } = self.members.get(member).ok_or(GroupError::UnknownMember)?;
        if !knows_epochs && profile.classic.is_none() {
            return Err(GroupError::CommitTooOld);
        }
        let Current { assigned, revoking, .. } = current;
        let is_its_own = |(topic, index)| {
            let given = assigned.epoch_of(topic, index).or_else(|| revoking.epoch_of(topic, index));
            given.is_some_and(|given| given <= epoch)
        };
        let may = epoch == current.epoch || (epoch < current.epoch && places.all(is_its_own));
        if may { Ok(()) } else { Err(stale(profile)) }
    }

    /// Whether whoever says that it is this member, at this epoch, may be told positions.
    pub(crate) fn check_fetch(&self, member: Option<&Str>, epoch: i32) -> Result<(), GroupError> {
        let Some(member) = member else {
            return if epoch < 0 { Ok(()) } else { Err(GroupError::UnknownMember) };
        };
        let Member { profile, current, .. } = self.members.get(member).ok_or(GroupError::UnknownMember)?;
        if epoch == current.epoch { Ok(()) } else { Err(stale(profile)) }
    }
}

/// That its epoch is not the one it has, in a member's own words.
fn stale(profile: &Profile) -> GroupError {
    if profile.classic.is_some() { GroupError::IllegalGeneration } else { GroupError::StaleEpoch }
}
