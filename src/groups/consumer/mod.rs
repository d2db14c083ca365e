//! A group whose coordinator assigns (KIP-848): a state machine, pure.
//!
//! The group's epoch rises whenever who is in it, what they subscribe to, or the topics behind that change. At the next heartbeat
//! of anybody an assignor makes the *target* of that epoch, and then each member walks from what it has to its part of the target
//! at its own pace, by its own heartbeats: it is told what to give back, says that it has, reaches the epoch, and is given what
//! others have given back. Nobody waits for all others.
//!
//! ```text
//!                        the target takes nothing, and all else is free
//!          +------------------------------------------------------------------+
//!          |                                                                  v
//!   Stable (old epoch) --- something is to be given back ---> Unrevoked    Stable (epoch of the target)
//!          |                                                     |            ^
//!          |                                        it says that it has       | it is given back
//!          +------------ others have it yet -------------------> + ---> Unreleased
//! ```
//!
//! Members that speak the classic protocol may be among the others, and go the same way at their own pace ([`classic`]): so a group
//! changes its protocol while its members are in ([`migrate`]).
//!
//! What a group is, is what its records say, and nothing else changes it: every step writes records, and each is applied as it will
//! be when it is read again. So a step that could not be stored is undone by the records that were true before. Only deadlines
//! are not stored; they begin anew when the group is read.
//!
//! It knows no request and no answer, and regular expressions by the topics that they matched alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aquifer_model::TopicId;
use aquifer_protocol::Str;
use tokio::time::Instant;

use super::classic::{Limits, duration};
use super::effects::{Effects, Now};
use super::error::GroupError;
use super::partitions::Partitions;
use super::record::{ConsumerRecord, Current, GroupEpoch, Matching, MemberState, Profile, Record, Said};
use super::topics::Topics;
use crate::config::{Assignor, Assignors, GroupTime, Migration};

/// How many members subscribe to what.
mod readers;
/// Who shall read what.
mod assign;
/// From what a member has to what it shall have.
mod reconcile;
/// Entering and staying.
mod heartbeat;
/// Leaving, and being put out.
mod leave;
/// Members that speak the classic protocol.
mod classic;
/// From the classic protocol to this one, and back.
mod migrate;
/// Regular expressions, as topics come and go.
mod patterns;
/// What is told of a group.
mod view;
#[cfg(test)]
mod tests;

pub(crate) use heartbeat::{Heard, Heartbeat, Resolved};
pub(crate) use leave::Departure;
pub(crate) use patterns::Stale;
pub(crate) use view::{ConsumerView, MemberView};

use classic::Classics;
use readers::Readers;

/// The epoch by which a member asks to be let in.
pub(crate) const JOINING: i32 = 0;
/// The one by which it goes.
pub(crate) const LEAVING: i32 = -1;
/// The one by which a static member goes for a while, and the one that it has meanwhile.
pub(crate) const AWAY: i32 = -2;

/// What these groups are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConsumerLimits {
    /// How long a member may be silent.
    pub(crate) session_timeout: GroupTime,
    pub(crate) members_max: usize,
    pub(crate) assignors: Assignors,
    pub(crate) migration: Migration,
    /// What a batch of records may come to: what does not fit cannot be stored.
    pub(crate) batch_bytes_max: usize,
}

/// What a step goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) topics: &'a Topics,
    pub(crate) limits: ConsumerLimits,
    /// What holds of those who speak the classic protocol.
    pub(crate) classic: Limits,
    pub(crate) now: Now,
}

impl Around<'_> {
    /// Until when a member of this group may be silent, which was heard of now.
    fn session_until(&self, group: &str) -> Instant {
        self.now.at + self.limits.session_timeout.of(self.topics.settings_of(group))
    }
}

/// A group.
#[derive(Debug)]
pub(crate) struct ConsumerGroup {
    id: Str,
    /// Epoch 0 has never been stored.
    at: GroupEpoch,
    /// The epoch of the target assignment.
    target_epoch: i32,
    members: BTreeMap<Str, Member>,
    /// Who stands for each static member.
    instances: BTreeMap<Str, Str>,
    targets: BTreeMap<Str, Partitions>,
    /// Who has each partition, or has yet to give it back.
    owners: HashMap<(TopicId, i32), Str>,
    /// How many members subscribe to each topic by its name, and to each regular expression.
    readers: Readers,
    classics: Classics,
    /// No member has to be put out before. It may be far too early: it is made exact when it comes.
    wake: Option<Instant>,
    /// The regular expressions that members subscribe to.
    patterns: BTreeMap<Str, Matching>,
    has_topics_record: bool,
    /// The topics that the hash was made of; `None` if it has to be looked at.
    hashed: Option<u64>,
    /// The topics for which no target could be stored since the epoch began, and the most bytes that a batch might have then.
    unfit: Option<(u64, usize)>,
    /// The topics that all regular expressions have seen; `None` if that is not known.
    matched: Option<u64>,
    /// When they were last given out to be matched again.
    matching_since: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    profile: Profile,
    current: Current,
    /// When it is put out, unless it is heard of.
    session_until: Instant,
    /// When it is put out, unless it has given back what it was told to; of one that speaks the classic protocol, unless it has
    /// joined again as it was told to, or has asked what to read.
    rebalance_until: Option<Instant>,
}

impl Member {
    fn new(session_until: Instant) -> Member {
        Member {
            profile: Profile::default(),
            current: Current::default(),
            session_until,
            rebalance_until: None,
        }
    }

    /// It was heard of. One that speaks the classic protocol has a session of its own.
    fn hear(&mut self, group: &str, around: Around<'_>) {
        let of_its_own = self.profile.classic.as_ref().map(|classic| duration(classic.session_timeout_ms));
        self.session_until = match of_its_own {
            Some(session) => around.now.at + session,
            None => around.session_until(group),
        };
    }

    /// Starts the time in which it has to give back what it was told to, if it was. Whoever gives back some of it has new time for the
    /// rest; to be told of more is no reason for more time. One that speaks the classic protocol learns of it by its next heartbeat,
    /// and its time starts then.
    fn hurry(&mut self, before: &Current, now: Instant) {
        if self.profile.classic.is_some() {
            return;
        }
        let Current { state, revoking, .. } = &self.current;
        let owes_yet = |(topic, index)| revoking.epoch_of(topic, index).is_some();
        let has_time = self.rebalance_until.filter(|_| before.revoking.iter().all(owes_yet));
        let timeout = duration(self.profile.rebalance_timeout_ms);
        let is_unrevoked = *state == MemberState::Unrevoked;
        self.rebalance_until = is_unrevoked.then(|| has_time.unwrap_or(now + timeout));
    }

    fn next_deadline(&self) -> Instant {
        self.rebalance_until.map_or(self.session_until, |until| until.min(self.session_until))
    }
}

/// Brings an alarm forward, if it is not early enough.
fn sooner(alarm: &mut Option<Instant>, at: Instant) {
    *alarm = Some(alarm.map_or(at, |alarm| alarm.min(at)));
}

/// The expression that a member subscribes to, if it does.
fn pattern_of(profile: &Profile) -> Option<&Str> {
    profile.pattern.as_ref().filter(|pattern| !pattern.is_empty())
}

impl ConsumerGroup {
    /// A group without members, of which nothing was stored.
    pub(crate) fn new(id: Str) -> ConsumerGroup {
        ConsumerGroup {
            id,
            at: GroupEpoch::default(),
            target_epoch: 0,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            targets: BTreeMap::new(),
            owners: HashMap::new(),
            readers: Readers::default(),
            classics: Classics::default(),
            wake: None,
            patterns: BTreeMap::new(),
            has_topics_record: false,
            hashed: None,
            unfit: None,
            matched: None,
            matching_since: None,
        }
    }

    /// How many are in it.
    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// Whether nobody is in.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether nothing is stored of it.
    pub(crate) fn is_blank(&self) -> bool {
        self.members.is_empty()
            && self.targets.is_empty()
            && self.patterns.is_empty()
            && self.at.epoch == 0
            && self.target_epoch == 0
            && !self.has_topics_record
    }

    /// When [`ConsumerGroup::tick`] has something to do next, or before.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.wake.filter(|_| !self.members.is_empty())
    }

    /// Finds when a member has to be put out next, by a look at them all.
    fn set_alarm(&mut self) {
        self.wake = self.members.values().map(Member::next_deadline).min();
    }

    /// Goes on after its partition was read: nobody could be heard of meanwhile.
    pub(crate) fn resume(&mut self, around: Around<'_>) {
        for member in self.members.values_mut() {
            member.hear(&self.id, around);
            member.rebalance_until = None;
            member.hurry(&Current::default(), around.now.at);
        }
        self.set_alarm();
    }

    /// Takes what a record says. Records of a copied or compacted topic may come without those that they once followed: what they
    /// say of a member that is not known makes one, and what they take back from one is as good as taken back.
    pub(crate) fn apply(&mut self, said: Said, around: Around<'_>) {
        match said {
            Said::Group(value) => {
                self.at = value.unwrap_or_default();
                self.hashed = None;
                self.unfit = None;
            }
            Said::Topics(is_there) => self.has_topics_record = is_there,
            Said::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or(0),
            Said::Target { member, value: Some(partitions) } => {
                self.targets.insert(member, partitions);
            }
            Said::Target { member, value: None } => {
                self.targets.remove(&member);
            }
            Said::Member { member, value } => self.set_profile(member, value, around),
            Said::Current { member, value } => self.set_current(member, value, around),
            Said::Pattern { pattern, value } => {
                match value {
                    // It may outlive the member that said it.
                    Some(matching) => self.patterns.insert(pattern.detached(), matching),
                    None => self.patterns.remove(&pattern),
                };
                self.matched = None;
            }
        }
    }

    fn set_profile(&mut self, id: Str, value: Option<Profile>, around: Around<'_>) {
        let Some(profile) = value else {
            self.set_current(id.clone(), None, around);
            let Some(gone) = self.members.remove(&id) else { return };
            self.readers.remove(&gone.profile);
            self.classics.remove(&gone.profile);
            if let Some(instance) = gone.profile.instance {
                self.free_instance(&instance, &id);
            }
            return;
        };
        let member =
            self.members.entry(id.clone()).or_insert_with(|| Member::new(around.session_until(&self.id)));
        let before = std::mem::replace(&mut member.profile, profile);
        if before.classic.is_some() != member.profile.classic.is_some() {
            // What it owed by the one protocol it does not owe by the other.
            member.rebalance_until = None;
        }
        member.hear(&self.id, around);
        sooner(&mut self.wake, member.next_deadline());
        let instance = member.profile.instance.clone();
        self.readers.add(&member.profile);
        self.readers.remove(&before);
        self.classics.add(&member.profile);
        self.classics.remove(&before);
        if let Some(before) = before.instance.filter(|before| Some(before) != instance.as_ref()) {
            self.free_instance(&before, &id);
        }
        if let Some(instance) = instance {
            self.instances.insert(instance, id);
        }
    }

    fn free_instance(&mut self, instance: &Str, member: &Str) {
        if self.instances.get(instance) == Some(member) {
            self.instances.remove(instance);
        }
    }

    fn set_current(&mut self, id: Str, value: Option<Current>, around: Around<'_>) {
        if value.is_none() && !self.members.contains_key(&id) {
            return;
        }
        let member =
            self.members.entry(id.clone()).or_insert_with(|| Member::new(around.session_until(&self.id)));
        let before = std::mem::replace(&mut member.current, value.unwrap_or_default());
        member.hurry(&before, around.now.at);
        sooner(&mut self.wake, member.next_deadline());
        for place in before.assigned.iter().chain(before.revoking.iter()) {
            if self.owners.get(&place) == Some(&id) {
                self.owners.remove(&place);
            }
        }
        for place in member.current.assigned.iter().chain(member.current.revoking.iter()) {
            self.owners.insert(place, id.clone());
        }
    }

    /// What is stored now under the key of what is about to be said.
    fn before(&self, said: &Said) -> Said {
        match said {
            Said::Group(_) => Said::Group(Some(self.at).filter(|at| at.epoch > 0)),
            Said::Topics(_) => Said::Topics(self.has_topics_record),
            Said::TargetEpoch(_) => Said::TargetEpoch(Some(self.target_epoch).filter(|epoch| *epoch > 0)),
            Said::Target { member, .. } => {
                Said::Target { member: member.clone(), value: self.targets.get(member).cloned() }
            }
            Said::Member { member, .. } => {
                let value = self.members.get(member).map(|known| known.profile.clone());
                Said::Member { member: member.clone(), value }
            }
            Said::Current { member, .. } => {
                let value = self.members.get(member).map(|known| known.current.clone());
                Said::Current { member: member.clone(), value }
            }
            Said::Pattern { pattern, .. } => {
                Said::Pattern { pattern: pattern.clone(), value: self.patterns.get(pattern).cloned() }
            }
        }
    }

    fn record(&self, said: Said) -> Record {
        Record::Consumer(ConsumerRecord { group: self.id.clone(), said })
    }

    /// Says something, and has it stored.
    fn say(&mut self, said: Said, around: Around<'_>, effects: &mut Effects) {
        effects.before.push(self.record(self.before(&said)));
        effects.records.push(self.record(said.clone()));
        self.apply(said, around);
    }

    /// Makes a step, or none at all: if it is refused, or comes to more than can be stored, the group is as it was.
    fn whole<T>(
        &mut self,
        around: Around<'_>,
        effects: &mut Effects,
        step: impl FnOnce(&mut ConsumerGroup, &mut Effects) -> Result<T, GroupError>,
    ) -> Result<T, GroupError> {
        let mut said = Effects::default();
        let outcome = step(self, &mut said);
        let fits = |record: &Record| record.batch_bytes_max() <= around.limits.batch_bytes_max;
        let outcome = match outcome {
            Ok(_) if !said.records.iter().all(fits) => Err(GroupError::GroupTooLarge),
            outcome => outcome,
        };
        if outcome.is_ok() {
            effects.records.append(&mut said.records);
            effects.before.append(&mut said.before);
            return outcome;
        }
        for record in said.before.into_iter().rev() {
            if let Record::Consumer(ConsumerRecord { said, .. }) = record {
                self.apply(said, around);
            }
        }
        outcome
    }

    /// What takes back everything that is stored of the group.
    fn last_words(&self) -> Vec<Said> {
        let mut last = Vec::new();
        for member in self.members.keys() {
            last.push(Said::Current { member: member.clone(), value: None });
            last.push(Said::Member { member: member.clone(), value: None });
        }
        last.extend(self.targets.keys().map(|member| Said::Target { member: member.clone(), value: None }));
        last.extend(
            self.patterns.keys().map(|pattern| Said::Pattern { pattern: pattern.clone(), value: None }),
        );
        last.push(Said::TargetEpoch(None));
        if self.has_topics_record {
            last.push(Said::Topics(false));
        }
        last.push(Said::Group(None));
        last
    }

    /// Takes it back.
    pub(crate) fn end(&mut self, around: Around<'_>, effects: &mut Effects) {
        for said in self.last_words() {
            self.say(said, around, effects);
        }
    }

    /// What all members read, by name.
    pub(crate) fn subscribed(&self) -> BTreeSet<Str> {
        let matched = self.readers.patterns().filter_map(|pattern| self.patterns.get(pattern));
        self.readers.topics().chain(matched.flat_map(|matching| &matching.topics)).cloned().collect()
    }

    fn topics_of<'a>(&'a self, profile: &'a Profile) -> impl Iterator<Item = &'a Str> {
        let matching = pattern_of(profile).and_then(|pattern| self.patterns.get(pattern));
        profile.topics.iter().chain(matching.into_iter().flat_map(|matching| &matching.topics))
    }

    /// Begins a new epoch if there is a reason, or the topics are not those that they were.
    fn renew(&mut self, has_reason: bool, around: Around<'_>, effects: &mut Effects) {
        let version = around.topics.version();
        if !has_reason && self.hashed == Some(version) {
            return;
        }
        let metadata_hash = around.topics.hash(&self.subscribed());
        if has_reason || metadata_hash != self.at.metadata_hash {
            let epoch = self.at.epoch.saturating_add(1);
            self.say(Said::Group(Some(GroupEpoch { epoch, metadata_hash })), around, effects);
        }
        self.hashed = Some(version);
        if self.has_topics_record {
            self.say(Said::Topics(false), around, effects);
        }
    }

    /// Makes the target of the group's epoch, if there is none.
    fn retarget(&mut self, around: Around<'_>, effects: &mut Effects) {
        if self.at.epoch <= self.target_epoch {
            return;
        }
        let none = Partitions::default();
        let mut sizes = assign::Sizes::new();
        let mut candidates: Vec<assign::Candidate<'_>> = Vec::with_capacity(self.members.len());
        let mut last: Option<&Profile> = None;
        for (id, Member { profile, .. }) in &self.members {
            // Most members of a group subscribe to the same as their neighbours.
            let is_alike =
                |last: &Profile| (&last.topics, &last.pattern) == (&profile.topics, &profile.pattern);
            let topics = match candidates.last().filter(|_| last.is_some_and(is_alike)) {
                Some(neighbour) => neighbour.topics.clone(),
                None => self.sized_topics_of(profile, around.topics, &mut sizes),
            };
            last = Some(profile);
            let before = self.targets.get(id).unwrap_or(&none);
            candidates.push(assign::Candidate {
                member: id,
                instance: profile.instance.as_ref(),
                topics,
                before,
            });
        }
        let targets = assign::assign(self.assignor(around.limits), &candidates, &sizes);
        let named = self.members.keys().cloned().zip(targets);
        let changed: Vec<(Str, Partitions)> =
            named.filter(|(member, target)| self.targets.get(member) != Some(target)).collect();
        for (member, target) in changed {
            self.say(Said::Target { member, value: Some(target) }, around, effects);
        }
        self.say(Said::TargetEpoch(Some(self.at.epoch)), around, effects);
    }

    /// The topics that a member subscribes to and that are there, in order, each once; their sizes are noted.
    fn sized_topics_of(
        &self,
        profile: &Profile,
        topics: &Topics,
        sizes: &mut assign::Sizes,
    ) -> Arc<[TopicId]> {
        let mut ids = BTreeSet::new();
        for known in self.topics_of(profile).filter_map(|name| topics.named(name)) {
            sizes.insert(known.id, known.partitions);
            ids.insert(known.id);
        }
        ids.into_iter().collect()
    }

    /// The assignor that most members vote for.
    fn assignor(&self, limits: ConsumerLimits) -> Assignor {
        let Assignors { default, other } = limits.assignors;
        let votes = |assignor: Assignor| {
            let cast = self.members.values().filter_map(|member| member.profile.assignor.as_ref());
            cast.filter(|name| **name == *assignor.name()).count()
        };
        other.filter(|other| votes(*other) > votes(default)).unwrap_or(default)
    }

    /// Has a member go a step towards its target.
    fn reconcile(&mut self, id: &Str, owned: Option<&Partitions>, around: Around<'_>, effects: &mut Effects) {
        let none = Partitions::default();
        let Some(member) = self.members.get(id) else { return };
        let partitions = self.targets.get(id).unwrap_or(&none);
        let target = reconcile::Target { epoch: self.target_epoch, partitions };
        let is_free = |topic, index| self.owners.get(&(topic, index)).is_none_or(|owner| owner == id);
        let next = reconcile::step(&member.current, target, owned, is_free);
        if next != member.current {
            self.say(Said::Current { member: id.clone(), value: Some(next) }, around, effects);
        }
    }
}
