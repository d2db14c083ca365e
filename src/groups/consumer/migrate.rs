//! Online migration: a group with members goes from one protocol to the other (KIP-848).
//!
//! Upwards, when a first member comes that speaks the new protocol: all others keep their ids and what they were assigned, which is
//! theirs at an epoch that is their generation, and go on by the classic protocol. Downwards, when the last such member is gone:
//! those who are left are a stable classic group whose generation is the epoch of the target and whose assignment is what they have;
//! unless that is all of the target, they join again at once. (In Kafka the assignment is the target, reached or not.)
//!
//! Invariant: what a member may still read is its own across the change, so that nobody else is given it before it is given back.
//!
//! Stored, each is the tombstones of what the group was and the records of what it is, in one batch: a crash keeps all of it or
//! nothing. What does not fit into one is refused, or left undone.

use std::collections::HashSet;

use aquifer_protocol::Str;
use bytes::Bytes;

use super::super::classic::{self, ClassicGroup, Rejoin, Settled, duration};
use super::super::effects::Effects;
use super::super::embedded::{Assignment, Subscription};
use super::super::error::GroupError;
use super::super::grants::Grants;
use super::super::partitions::Partitions;
use super::super::record::{Classic, Current, GroupEpoch, MemberState, Profile, Record, Said};
use super::super::subscription::CONSUMER;
use super::classic::{known, profile_of, told};
use super::{Around, ConsumerGroup};

/// A classic member on its way.
struct Migrant {
    id: Str,
    profile: Profile,
    assigned: Partitions,
    /// By its own words, when it joined last.
    had: Partitions,
}

impl ConsumerGroup {
    /// The group that a classic one becomes, or why it cannot. Whether what is to be stored of it fits into one batch is for whoever
    /// stores it to look at.
    pub(crate) fn of_classic(
        id: &Str,
        classic: &ClassicGroup,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Result<ConsumerGroup, GroupError> {
        let refuse_if =
            |is_wrong: bool, why| if is_wrong { Err(GroupError::NotUpgraded(why)) } else { Ok(()) };
        let is_consumers = classic.protocol_type().is_some_and(|kind| **kind == *CONSUMER);
        let is_large = classic.member_count() > around.limits.members_max;
        refuse_if(!around.limits.migration.may_upgrade(), "group.consumer.migration.policy forbids it")?;
        refuse_if(!is_consumers, "they are no consumers")?;
        refuse_if(is_large, "there are more of them than group.consumer.max.size")?;
        let migrants: Vec<Migrant> =
            classic.settled().map(|one| Migrant::of(one, around)).collect::<Result<_, _>>()?;
        let mut taken = HashSet::new();
        for place in migrants.iter().flat_map(|migrant| migrant.assigned.iter()) {
            refuse_if(!taken.insert(place), "two of them read the same partition")?;
        }
        let mut group = ConsumerGroup::new(id.clone());
        let epoch = classic.generation();
        let mut having: Vec<(Str, Partitions)> = Vec::with_capacity(migrants.len());
        for Migrant { id: member, profile, assigned, had } in migrants {
            let mut has = assigned;
            // In the middle of a rebalance it may not know yet what it was assigned, and go on to read what it had.
            has.extend(had.iter().filter(|place| taken.insert(*place)));
            having.push((member.clone(), has));
            group.say(Said::Member { member, value: Some(profile) }, around, effects);
        }
        if epoch > 0 {
            // As if it knew nothing of its topics: whoever comes begins an epoch by that, also one that only takes another's place.
            // For what is assigned may be less than all there is, in the middle of a rebalance.
            let at = GroupEpoch { epoch, metadata_hash: 0 };
            group.say(Said::Group(Some(at)), around, effects);
        }
        for (member, has) in &having {
            group.say(Said::Target { member: member.clone(), value: Some(has.clone()) }, around, effects);
        }
        if epoch > 0 {
            group.say(Said::TargetEpoch(Some(epoch)), around, effects);
        }
        for (member, has) in having {
            let value = Some(settled_at(epoch, &has));
            group.say(Said::Current { member, value }, around, effects);
        }
        Ok(group)
    }

    /// Whether any of its members speaks the protocol of such groups.
    pub(crate) fn has_consumers(&self) -> bool {
        self.classics.count < self.members.len()
    }

    /// The classic group that this one becomes, now that nobody is left who speaks the other protocol, and whether its members have to
    /// join again; `None` if it has to stay what it is. All that was stored of it is taken back.
    pub(crate) fn turn_classic(
        &mut self,
        around: Around<'_>,
        effects: &mut Effects,
    ) -> Option<(ClassicGroup, Rejoin)> {
        let may = around.limits.migration.may_downgrade();
        if !may || self.members.is_empty() || self.has_consumers() {
            return None;
        }
        if self.members.len() > around.classic.members_max {
            tracing::info!(group = %self.id, "the group has only classic members left, and more than group.max.size: it stays one whose coordinator assigns");
            return None;
        }
        let Some((classic, rejoin)) = self.as_classic(around) else {
            tracing::warn!(group = %self.id, "the group has only classic members left, and cannot become a classic one: they have no protocol in common");
            return None;
        };
        let begun = classic.record();
        let ended = self.last_words().into_iter().map(|said| self.record(said));
        let all: Vec<Record> = ended.chain([begun.clone()]).collect();
        // With what led to this.
        let bytes = Record::batch_bytes_max_of(effects.part().iter().chain(&all));
        if bytes > around.limits.batch_bytes_max {
            tracing::warn!(group = %self.id, "the group has only classic members left, and cannot become a classic one: what is to be stored of that does not fit into one batch");
            return None;
        }
        self.end(around, effects);
        effects.before.push(Record::Group { group: self.id.clone(), value: None });
        effects.records.push(begun);
        Some((classic, rejoin))
    }

    /// The classic group of all members. Those who have to join again keep all that they may still read, also what they were to give
    /// back: should another member of the other protocol come before they do, it is not given that.
    fn as_classic(&self, around: Around<'_>) -> Option<(ClassicGroup, Rejoin)> {
        let settled = self.members.iter().map(|(id, member)| {
            let classic = member.profile.classic.as_ref()?;
            Some(settled(id, &member.profile, classic))
        });
        let assign = |one: &Settled| -> Option<Bytes> {
            let version = Subscription::read(&one.metadata).ok()?.version;
            let Current { assigned, revoking, .. } = &self.members.get(&one.member_id)?.current;
            told(&assigned.iter().chain(revoking.iter()).collect(), version, around.topics).ok()
        };
        let settled = settled.collect::<Option<Vec<Settled>>>()?;
        let id = self.id.clone();
        let has_all = self.state_name() == "Stable";
        ClassicGroup::of_consumers(id, self.target_epoch, settled, has_all, around.now, assign)
    }
}

impl Migrant {
    fn of(one: Settled, around: Around<'_>) -> Result<Migrant, GroupError> {
        let unreadable = |_| GroupError::NotUpgraded("what one of them says of itself cannot be read");
        let subscription = Subscription::read(&one.metadata).map_err(unreadable)?;
        let mut assigned = Partitions::default();
        // Whom no leader has given anything yet was told nothing.
        if !one.assignment.is_empty() {
            let told = Assignment::read(&one.assignment).map_err(unreadable)?;
            if !told.user_data.is_empty() {
                return Err(GroupError::NotUpgraded(
                    "their assignor tells them more than partitions, which would be lost",
                ));
            }
            assigned = known(&told.partitions, around.topics);
        }
        Ok(Migrant {
            had: known(&subscription.owned, around.topics),
            id: one.member_id,
            profile: profile_of(&one.profile, one.instance, subscription, &Profile::default()),
            assigned,
        })
    }
}

/// A member that has reached an epoch with these partitions.
fn settled_at(epoch: i32, has: &Partitions) -> Current {
    let mut assigned = Grants::default();
    for (topic, index) in has.iter() {
        assigned.insert(topic, index, epoch);
    }
    Current {
        epoch,
        previous_epoch: epoch,
        state: MemberState::Stable,
        assigned,
        revoking: Grants::default(),
    }
}

fn settled(id: &Str, profile: &Profile, classic: &Classic) -> Settled {
    Settled {
        member_id: id.clone(),
        instance: profile.instance.clone(),
        profile: classic::Profile {
            client_id: profile.client_id.clone(),
            client_host: profile.client_host.clone(),
            rebalance_timeout: duration(profile.rebalance_timeout_ms),
            session_timeout: duration(classic.session_timeout_ms),
            protocols: classic.protocols.clone(),
        },
        metadata: Bytes::new(),
        assignment: Bytes::new(),
    }
}
