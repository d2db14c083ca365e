//! A group of the classic protocol, in which the members' leader assigns: a state machine, pure.
//!
//! ```text
//!            first member              all joined, or time is up            the leader's assignment
//!   Empty ----------------> Preparing ---------------------------> Completing ---------------------> Stable
//!     ^                      |    ^                                    |                               |
//!     +----- all left -------+    +---- a member comes, goes, or does not sync, or the leader rejoins -+
//! ```
//!
//! Every way in takes what time it is and tells what it wants done in [`Effects`]. A request that waits is known by its
//! [`Ticket`]; it is answered by whatever ends the wait.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aquifer_model::Timestamp;
use aquifer_protocol::Str;
use bytes::Bytes;
use tokio::time::Instant;

use super::counts::Counts;
use super::effects::{Effects, JoinRefused, Now};
use super::error::GroupError;
use super::record::{GroupValue, Record};
use super::subscription::Subscribed;
use member::Member;

/// A member.
mod member;
/// Coming in, and the round of joining.
mod join;
/// The assignment, handed in and handed out.
mod sync;
/// Staying and leaving.
mod leave;
/// From and to a group whose coordinator assigns.
mod settled;
/// What is told of a group.
mod view;
#[cfg(test)]
mod tests;

pub(crate) use join::Join;
pub(crate) use leave::Leaving;
pub(crate) use member::{Profile, duration, millis};
pub(crate) use settled::{Rejoin, Settled};
pub(crate) use sync::{Assignments, Sync};
pub(crate) use view::View;

/// What groups are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) session_timeout_min: Duration,
    pub(crate) session_timeout_max: Duration,
    /// How long an empty group waits for more members than the first.
    pub(crate) initial_rebalance_delay: Duration,
    pub(crate) members_max: usize,
    /// What a batch of records may come to: what does not fit cannot be stored.
    pub(crate) batch_bytes_max: usize,
}

impl Limits {
    /// Whether a member may ask for such a session.
    pub(crate) fn admit_session(self, session: Duration) -> Result<(), GroupError> {
        let is_sound = (self.session_timeout_min..=self.session_timeout_max).contains(&session);
        if is_sound { Ok(()) } else { Err(GroupError::InvalidSessionTimeout) }
    }
}

/// What members are held to when they join, before anything of theirs is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberLimits {
    pub(crate) bytes_max: usize,
    pub(crate) protocols_max: usize,
}

impl MemberLimits {
    /// Judges a member by how many protocols it offers and by the bytes of all that it says.
    pub(crate) fn admit(self, protocols: usize, bytes: usize) -> Result<(), GroupError> {
        let fits = protocols <= self.protocols_max && bytes <= self.bytes_max;
        if fits { Ok(()) } else { Err(GroupError::MemberTooLarge) }
    }
}

/// How long a member that never was in a generation is waited for: as in Kafka.
const NEW_MEMBER_PATIENCE: Duration = Duration::from_secs(300);

/// How long static members of whom none has come back are waited for at least before they are looked at again: some ask for no
/// time at all.
const ROUND_MIN: Duration = Duration::from_secs(1);

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    /// Members join, until all have or the time is up.
    Preparing(Round),
    /// The generation stands, and its leader assigns.
    Completing,
    Stable,
}

/// A round of joining.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    until: Instant,
    /// Of a group that was empty, which waits a little for others to come.
    first: Option<FirstRound>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FirstRound {
    /// How much longer it may be put off.
    left: Duration,
    /// Somebody came since it was put off last.
    grew: bool,
}

/// A group.
#[derive(Debug)]
pub(crate) struct ClassicGroup {
    id: Str,
    state: State,
    /// Since when, for those who judge by it how long the group has been empty.
    since: Timestamp,
    /// `None` until the first member comes; a group that only stores positions never has one.
    protocol_type: Option<Str>,
    protocol: Option<Str>,
    generation: i32,
    leader: Option<Str>,
    members: BTreeMap<Str, Member>,
    instances: HashMap<Str, Str>,
    /// How many members can do each protocol.
    knowing: Counts,
    /// What the members of the last generation said that they read; for a group in between two, that is the best there is.
    subscribed: Subscribed,
    /// When members of the generation that have not asked what to read are given up; `None` if all have.
    sync_until: Option<Instant>,
    /// Ids that were given out and not been used yet, and until when they may be.
    pending: BTreeMap<Str, Instant>,
}

impl ClassicGroup {
    /// A group without members.
    pub(crate) fn new(id: Str, now: Now) -> ClassicGroup {
        ClassicGroup {
            id,
            state: State::Empty,
            since: now.wall,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::new(),
            knowing: Counts::default(),
            subscribed: Subscribed::Unknown,
            sync_until: None,
            pending: BTreeMap::new(),
        }
    }

    /// A group as it was stored. Its members have their whole session time again, since nobody knows when they were heard of last.
    pub(crate) fn restored(id: Str, value: GroupValue, now: Now) -> ClassicGroup {
        let mut group = ClassicGroup::new(id, now);
        let protocol = value.protocol;
        group.state = if value.members.is_empty() { State::Empty } else { State::Stable };
        group.since = if value.state_since < 0 { now.wall } else { Timestamp(value.state_since) };
        group.protocol_type = Some(value.protocol_type).filter(|kind| !kind.is_empty());
        group.generation = value.generation;
        group.leader = value.leader;
        for stored in value.members {
            let member = Member::restored(stored, protocol.as_ref(), now.at);
            if let Some(instance) = &member.instance {
                group.instances.insert(instance.clone(), member.id.clone());
            }
            group.insert(member);
        }
        group.protocol = protocol;
        group.subscribed = group.subscribe();
        group
    }

    /// Its name.
    pub(crate) fn id(&self) -> &Str {
        &self.id
    }

    /// The protocol that all members can do and have agreed on.
    pub(crate) fn protocol(&self) -> Option<&Str> {
        self.protocol.as_ref()
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether it has neither members nor ids that members were given.
    pub(crate) fn is_empty(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// How many are in it.
    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether this is an id that was given out and has not been used.
    pub(crate) fn is_pending(&self, member: &Str) -> bool {
        self.pending.contains_key(member)
    }

    /// Whether it was only ever used to store positions.
    pub(crate) fn is_simple(&self) -> bool {
        self.protocol_type.is_none()
    }

    /// When [`ClassicGroup::tick`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let of_state = match self.state {
            State::Preparing(round) => Some(round.until),
            State::Completing | State::Stable => self.sync_until,
            State::Empty => None,
        };
        let members = self.members.values().map(|member| member.deadline);
        of_state.into_iter().chain(members).chain(self.pending.values().copied()).min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Now, limits: Limits, effects: &mut Effects) {
        self.expire(now, limits, effects);
        match self.state {
            State::Preparing(round) if round.until <= now.at => self.end_round(round, now, limits, effects),
            State::Completing | State::Stable if self.sync_until.is_some_and(|until| until <= now.at) => {
                self.give_up_unsynced(now, limits, effects);
            }
            State::Empty | State::Stable | State::Preparing(_) | State::Completing => {}
        }
    }

    /// Goes on after its partition was read, which may have taken longer than a session: nobody could be heard of meanwhile.
    pub(crate) fn resume(&mut self, now: Now, limits: Limits, effects: &mut Effects) {
        for member in self.members.values_mut() {
            member.deadline = now.at + member.profile.session_timeout;
        }
        // Who joins again first stays in, up to `group.max.size`. And nobody leads a group whose members were to join again.
        let is_leaderless = self.state == State::Stable && self.leader.is_none();
        if is_leaderless || self.members.len() > limits.members_max {
            self.prepare(now, limits, effects);
        }
    }

    /// What was to be stored of it could not be, and nobody was told of it: its members share anew. If that was an assignment, nobody
    /// reads by it; any other is in force yet.
    pub(crate) fn not_kept(&mut self, was_handed_in: bool, now: Now, limits: Limits, effects: &mut Effects) {
        // Also if somebody left in the same step.
        if was_handed_in {
            self.drop_assignments();
        }
        if self.state == State::Stable {
            self.prepare(now, limits, effects);
        }
    }

    /// It is what it was before it became another, of which nothing could be stored. All who waited in it were told, and join again.
    pub(crate) fn come_back(&mut self, now: Now, limits: Limits) {
        for member in self.members.values_mut() {
            (member.joining, member.syncing) = (None, None);
        }
        if self.state != State::Stable {
            self.prepare(now, limits, &mut Effects::default());
        }
    }

    /// Ends all waits, of a group that is to be another from now on.
    pub(crate) fn end_waits(&self, effects: &mut Effects) {
        for member in self.members.values() {
            answer_both(member, GroupError::RebalanceInProgress, effects);
        }
    }

    fn drop_assignments(&mut self) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
        }
    }

    fn set_state(&mut self, state: State, now: Now) {
        self.state = state;
        self.since = now.wall;
    }

    /// The member that speaks, if it is one and is who it says.
    fn check(&self, member: &Str, instance: Option<&Str>) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.instances.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if current != member => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) { Ok(()) } else { Err(GroupError::UnknownMember) }
    }

    /// How long a round may take: as long as the most patient member.
    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.profile.rebalance_timeout).max().unwrap_or_default()
    }

    fn hear_of(&mut self, member: &Str, now: Now) {
        if let Some(member) = self.members.get_mut(member) {
            member.hear(now.at);
        }
    }

    /// Puts a member in. Members come and go by this and [`ClassicGroup::take_out`] alone, which count what they can do.
    fn insert(&mut self, member: Member) {
        self.learn(&member.profile);
        self.members.insert(member.id.clone(), member);
    }

    fn take_out(&mut self, id: &Str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.unlearn(&member.profile);
        Some(member)
    }

    fn learn(&mut self, profile: &Profile) {
        for name in profile.names() {
            self.knowing.add(name);
        }
    }

    fn unlearn(&mut self, profile: &Profile) {
        for name in profile.names() {
            self.knowing.remove(name);
        }
    }

    /// Whether all members can do a protocol.
    fn is_common(&self, protocol: &Str) -> bool {
        !self.members.is_empty() && self.knowing.of(protocol) == self.members.len()
    }

    /// What is stored of it as it stands.
    pub(crate) fn record(&self) -> Record {
        self.record_since(self.since)
    }

    /// The same, of a state that it is about to be in.
    fn record_since(&self, since: Timestamp) -> Record {
        let members = self.members.values().map(|member| member.stored(self.protocol.as_ref())).collect();
        let value = GroupValue {
            protocol_type: self.protocol_type.clone().unwrap_or(Str::EMPTY),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since: since.0,
            members,
        };
        Record::Group { group: self.id.clone(), value: Some(value) }
    }

    /// Takes a member out; whoever waits for it is told `why`.
    fn remove(&mut self, id: &Str, why: GroupError, effects: &mut Effects) {
        let Some(member) = self.take_out(id) else { return };
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        answer_both(&member, why, effects);
    }
}

/// Ends both waits that a member may be in.
fn answer_both(member: &Member, why: GroupError, effects: &mut Effects) {
    if let Some(ticket) = member.joining {
        effects.joins.push((ticket, Err(JoinRefused { error: why, member_id: member.id.clone() })));
    }
    if let Some(ticket) = member.syncing {
        effects.syncs.push((ticket, Err(why)));
    }
}
