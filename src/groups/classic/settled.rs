//! From and to a group whose coordinator assigns: members keep their ids, what they said of themselves, and what they read.

use aquifer_protocol::Str;
use bytes::Bytes;
use tokio::time::Instant;

use super::super::effects::{Effects, Now};
use super::super::subscription;
use super::member::{Member, Profile};
use super::{ClassicGroup, Limits, State};

/// A member, and what it was given last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) member_id: Str,
    pub(crate) instance: Option<Str>,
    pub(crate) profile: Profile,
    /// What it says under the protocol in force; if it does not know that, or there is none yet, under the one that it likes best.
    pub(crate) metadata: Bytes,
    /// Empty if it has not been told yet.
    pub(crate) assignment: Bytes,
}

/// What members do once their group has become a classic one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejoin {
    /// They share anew.
    Needed,
    /// They have what is theirs already.
    Needless,
}

impl ClassicGroup {
    /// The last generation.
    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    /// All members.
    pub(crate) fn settled(&self) -> impl Iterator<Item = Settled> + '_ {
        self.members.values().map(|member| {
            let names = || member.profile.protocols.iter().map(|(name, _)| name);
            let in_force = names().find(|name| Some(*name) == self.protocol.as_ref());
            Settled {
                member_id: member.id.clone(),
                instance: member.instance.clone(),
                profile: member.profile.clone(),
                metadata: member.metadata(in_force.or_else(|| names().next())),
                assignment: member.assignment.clone(),
            }
        })
    }

    /// A stable group of consumers that were in one of the other kind, whose assignments `assign` makes of their ids and of what they
    /// say; `None` if they have no protocol in common, or for want of an assignment. They have to join again unless they have all that
    /// is theirs, and were told the protocol that is now the group's, which was the one that each likes best. Nobody leads it then, by
    /// which that is stored: whoever reads it has them join again, too.
    pub(crate) fn of_consumers(
        id: Str,
        generation: i32,
        consumers: Vec<Settled>,
        has_all: bool,
        now: Now,
        mut assign: impl FnMut(&Settled) -> Option<Bytes>,
    ) -> Option<(ClassicGroup, Rejoin)> {
        let mut group = ClassicGroup::new(id, now);
        group.set_state(State::Stable, now);
        group.protocol_type = Some(Str::from_static(subscription::CONSUMER));
        group.generation = generation;
        group.leader = consumers.first().map(|first| first.member_id.clone());
        for one in consumers {
            if let Some(instance) = &one.instance {
                group.instances.insert(instance.clone(), one.member_id.clone());
            }
            group.insert(Member::settled(one, now.at));
        }
        group.protocol = group.select_protocol();
        group.protocol.as_ref()?;
        let settled: Vec<Settled> = group.settled().collect();
        for one in settled {
            let assignment = assign(&one)?;
            if let Some(member) = group.members.get_mut(&one.member_id) {
                member.assignment = assignment;
            }
        }
        group.subscribed = group.subscribe();
        let is_told = |member: &Member| {
            member.profile.protocols.first().map(|(name, _)| name) == group.protocol.as_ref()
        };
        if has_all && group.members.values().all(is_told) {
            return Some((group, Rejoin::Needless));
        }
        group.leader = None;
        Some((group, Rejoin::Needed))
    }

    /// Has all members of a stable group join again.
    pub(crate) fn rejoin(&mut self, now: Now, limits: Limits, effects: &mut Effects) {
        if self.state == State::Stable {
            self.prepare(now, limits, effects);
        }
    }
}

impl Member {
    fn settled(one: Settled, now: Instant) -> Member {
        let deadline = now + one.profile.session_timeout;
        Member {
            id: one.member_id,
            instance: one.instance,
            profile: one.profile,
            assignment: one.assignment,
            is_new: false,
            joining: None,
            syncing: None,
            owes_sync: false,
            deadline,
        }
    }
}
