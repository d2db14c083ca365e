//! All groups of one partition of `__consumer_offsets`, as its records and the requests since then have made them: pure.
//!
//! A group exists for as long as it has members, positions, or ids that it gave out.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aquifer_model::LeaderEpoch;
use aquifer_protocol::Str;
use tokio::time::Instant;

use super::classic::{ClassicGroup, Join, Leaving, Limits, State, Sync, View};
use super::effects::{Effects, JoinRefused, Now, Ticket};
use super::error::GroupError;
use super::positions::{Aging, Positions};
use super::record::{OffsetKey, OffsetValue, Record};
use super::subscription;

/// What a book goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    /// How long positions outlive their group's last member.
    pub(crate) offsets_retention: Duration,
    pub(crate) metadata_bytes_max: usize,
}

/// The groups.
#[derive(Debug)]
pub(crate) struct Book {
    rules: Rules,
    groups: HashMap<Str, Group>,
    /// When each group has something to do next; of groups that wait for nothing, nothing.
    deadlines: BTreeSet<(Instant, Str)>,
}

#[derive(Debug)]
struct Group {
    classic: ClassicGroup,
    positions: Positions,
    deadline: Option<Instant>,
}

/// A position to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) topic: Str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    pub(crate) metadata: Str,
}

/// Who stores positions.
#[derive(Debug, Clone)]
pub(crate) struct Committer {
    pub(crate) member_id: Str,
    pub(crate) instance: Option<Str>,
    /// Below 0 for somebody who is no member.
    pub(crate) generation: i32,
    /// How long they are to be kept, if the client says so itself.
    pub(crate) retention: Option<Duration>,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) group: Str,
    pub(crate) protocol_type: Str,
    pub(crate) state: &'static str,
}

impl Book {
    /// No groups.
    pub(crate) fn new(rules: Rules) -> Book {
        Book { rules, groups: HashMap::new(), deadlines: BTreeSet::new() }
    }

    /// Takes what a stored record says.
    pub(crate) fn replay(&mut self, record: Record, now: Now) {
        match record {
            Record::Offset { key, value } => {
                let group = key.group.clone();
                self.group(&group, now).positions.note(&key, value);
                self.settle(&group);
            }
            Record::Group { group, value: Some(value) } => {
                self.group(&group, now).classic = ClassicGroup::restored(group.clone(), value, now);
                self.settle(&group);
            }
            Record::Group { group, value: None } => {
                if let Some(known) = self.groups.get_mut(&group) {
                    known.classic = ClassicGroup::new(group.clone(), now);
                }
                self.settle(&group);
            }
        }
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// When [`Book::tick`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Now, effects: &mut Effects) {
        while let Some((_, id)) = self.deadlines.first().filter(|(at, _)| *at <= now.at).cloned() {
            let limits = self.rules.limits;
            if let Some(group) = self.groups.get_mut(&id) {
                group.classic.tick(now, limits, effects);
            }
            self.settle(&id);
        }
    }

    /// Takes back the positions that are too old, and the groups that have nothing left.
    pub(crate) fn expire(&mut self, now: Now, effects: &mut Effects) {
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        for id in ids {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            let reads = group.reads();
            let is_read = |topic: &str| reads.iter().flatten().any(|read| *read == *topic);
            let aging = match group.classic.empty_since() {
                _ if group.classic.is_simple() => Aging::EachSinceCommitted,
                Some(since) => Aging::Since(since),
                None if reads.is_some() => Aging::Except(&is_read),
                None => Aging::Never,
            };
            let records = group.positions.expired(&id, &aging, now.wall, self.rules.offsets_retention);
            group.take(records, effects);
            if group.positions.is_empty() && group.classic.is_empty() {
                if !group.classic.is_simple() {
                    effects.records.push(Record::Group { group: id.clone(), value: None });
                }
                group.classic = ClassicGroup::new(id.clone(), now);
            }
            self.settle(&id);
        }
    }

    /// Lets a member into a group, which begins with its first.
    pub(crate) fn join(&mut self, id: &Str, join: Join, ticket: Ticket, now: Now, effects: &mut Effects) {
        if id.is_empty() {
            let refused = JoinRefused { error: GroupError::InvalidGroupId, member_id: join.member_id };
            return effects.joins.push((ticket, Err(refused)));
        }
        let limits = self.rules.limits;
        self.group(id, now).classic.join(join, ticket, now, limits, effects);
        self.settle(id);
    }

    /// Tells a member what it is to read.
    pub(crate) fn sync(&mut self, id: &Str, sync: Sync, ticket: Ticket, now: Now, effects: &mut Effects) {
        let limits = self.rules.limits;
        match self.with_members(id) {
            Ok(group) => group.classic.sync(sync, ticket, now, limits, effects),
            Err(error) => effects.syncs.push((ticket, Err(error))),
        }
        self.settle(id);
    }

    /// A member is alive.
    pub(crate) fn heartbeat(
        &mut self,
        id: &Str,
        member: &Str,
        instance: Option<&Str>,
        generation: i32,
        now: Now,
    ) -> Result<(), GroupError> {
        let group = self.with_members(id)?;
        let answer = group.classic.heartbeat(member, instance, generation, now);
        self.settle(id);
        answer
    }

    /// Members go.
    pub(crate) fn leave(
        &mut self,
        id: &Str,
        leaving: &[Leaving],
        now: Now,
        effects: &mut Effects,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        let limits = self.rules.limits;
        let group = self.with_members(id)?;
        let answers = group.classic.leave(leaving, now, limits, effects);
        self.settle(id);
        Ok(answers)
    }

    /// Stores positions; each is judged alone, once it is clear that the committer may.
    pub(crate) fn commit(
        &mut self,
        id: &Str,
        committer: &Committer,
        commits: Vec<Commit>,
        now: Now,
        effects: &mut Effects,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if committer.generation >= 0 && !self.groups.contains_key(id) {
            return Err(GroupError::IllegalGeneration);
        }
        let Rules { metadata_bytes_max, .. } = self.rules;
        let group = self.group(id, now);
        let Committer { member_id, instance, generation, retention } = committer;
        let allowed = group.classic.check_commit(member_id, instance.as_ref(), *generation, now);
        let answers = allowed.map(|()| {
            let mut answers = Vec::with_capacity(commits.len());
            for commit in commits {
                if commit.metadata.len() > metadata_bytes_max {
                    answers.push(Err(GroupError::MetadataTooLarge));
                    continue;
                }
                let key = OffsetKey { group: id.clone(), topic: commit.topic, partition: commit.partition };
                let value = OffsetValue {
                    offset: commit.offset,
                    leader_epoch: commit.leader_epoch,
                    metadata: commit.metadata,
                    committed: now.wall,
                    expires: retention.map(|retention| now.wall.plus(retention)),
                };
                group.take(vec![Record::Offset { key, value: Some(value) }], effects);
                answers.push(Ok(()));
            }
            answers
        });
        self.settle(id);
        answers
    }

    /// The positions of a group; none if there is no such group.
    pub(crate) fn positions(&self, id: &str) -> Option<&Positions> {
        self.groups.get(id).map(|group| &group.positions)
    }

    /// Takes back the positions in these partitions.
    pub(crate) fn delete_positions(
        &mut self,
        id: &Str,
        partitions: &[(Str, i32)],
        effects: &mut Effects,
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        if id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        let group = self.groups.get_mut(id).ok_or(GroupError::NotFound)?;
        let is_consumers = group.classic.protocol_type().is_some_and(|kind| *kind == *subscription::CONSUMER);
        let has_members = group.classic.state() != State::Empty;
        if has_members && !is_consumers {
            return Err(GroupError::NonEmpty);
        }
        let reads = group.reads();
        let mut answers = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            let is_read = reads.as_ref().is_none_or(|reads| reads.contains(topic));
            if has_members && is_read {
                answers.push(Err(GroupError::SubscribedToTopic));
                continue;
            }
            let records =
                group.positions.tombstones(id, |named, index, _| named == topic && index == *partition);
            group.take(records, effects);
            answers.push(Ok(()));
        }
        self.settle(id);
        Ok(answers)
    }

    /// Deletes a group that nobody is in.
    pub(crate) fn delete(&mut self, id: &Str, now: Now, effects: &mut Effects) -> Result<(), GroupError> {
        let group = self.groups.get_mut(id).ok_or(GroupError::NotFound)?;
        if group.classic.state() != State::Empty {
            return Err(GroupError::NonEmpty);
        }
        let records = group.positions.tombstones(id, |_, _, _| true);
        group.take(records, effects);
        if !group.classic.is_simple() {
            effects.records.push(Record::Group { group: id.clone(), value: None });
        }
        group.classic = ClassicGroup::new(id.clone(), now);
        self.settle(id);
        Ok(())
    }

    /// Takes back all positions in a topic that is no more.
    pub(crate) fn forget_topic(&mut self, topic: &str, effects: &mut Effects) {
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        for id in ids {
            if let Some(group) = self.groups.get_mut(&id) {
                let records = group.positions.tombstones(&id, |named, _, _| **named == *topic);
                group.take(records, effects);
            }
            self.settle(&id);
        }
    }

    /// All groups.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let listed = self.groups.iter().map(|(id, group)| Listed {
            group: id.clone(),
            protocol_type: group.classic.protocol_type().cloned().unwrap_or(Str::EMPTY),
            state: group.classic.state().name(),
        });
        listed.collect()
    }

    /// One group, in full.
    pub(crate) fn describe(&self, id: &str) -> Option<View> {
        self.groups.get(id).map(|group| group.classic.view())
    }

    /// A group that may have members. Without a name there is none, though positions can be stored there, as by the oldest clients.
    fn with_members(&mut self, id: &Str) -> Result<&mut Group, GroupError> {
        if id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        self.groups.get_mut(id).ok_or(GroupError::UnknownMember)
    }

    fn group(&mut self, id: &Str, now: Now) -> &mut Group {
        self.groups.entry(id.clone()).or_insert_with(|| Group {
            classic: ClassicGroup::new(id.clone(), now),
            positions: Positions::default(),
            deadline: None,
        })
    }

    /// Notes when the group has something to do next, or that it is no more.
    fn settle(&mut self, id: &Str) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let next = group.classic.next_deadline();
        if let Some(before) = group.deadline.filter(|before| Some(*before) != next) {
            self.deadlines.remove(&(before, id.clone()));
        }
        if let Some(next) = next.filter(|next| Some(*next) != group.deadline) {
            self.deadlines.insert((next, id.clone()));
        }
        group.deadline = next;
        if group.classic.is_empty() && group.classic.is_simple() && group.positions.is_empty() {
            self.groups.remove(id);
        }
    }
}

impl Group {
    /// Carries out records of positions, and has them stored.
    fn take(&mut self, records: Vec<Record>, effects: &mut Effects) {
        for record in records {
            if let Record::Offset { key, value } = &record {
                self.positions.note(key, value.clone());
            }
            effects.records.push(record);
        }
    }

    /// What its members read, if that can be said.
    fn reads(&self) -> Option<BTreeSet<Str>> {
        let is_consumers = self.classic.protocol_type().is_some_and(|kind| *kind == *subscription::CONSUMER);
        if !is_consumers || self.classic.state() != State::Stable {
            return None;
        }
        let mut all = BTreeSet::new();
        for metadata in self.classic.subscriptions() {
            all.extend(subscription::topics(&metadata)?);
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests;
