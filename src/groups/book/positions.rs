//! Requests about positions, and what ages of them.

use std::ops::Bound;
use std::time::Duration;

use aquifer_model::{LeaderEpoch, TopicId};
use aquifer_protocol::Str;

use super::super::effects::{Effects, Now};
use super::super::error::GroupError;
use super::super::members::Members;
use super::super::positions::Positions;
use super::super::record::{OffsetKey, OffsetValue, Record};
use super::super::subscription::{self, Subscribed};
use super::{Book, Group, Rules, around};

/// Groups, and records, that one step of expiry handles, so that others get their turn.
const EXPIRED_PER_STEP: usize = 1_000;

/// A position to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) topic: Str,
    pub(crate) topic_id: TopicId,
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
    /// Whether it speaks a version in which the generation may be a member's epoch.
    pub(crate) knows_epochs: bool,
    /// How long they are to be kept, if the client says so itself.
    pub(crate) retention: Option<Duration>,
}

impl Book {
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
        self.admit(id)?;
        let Rules { metadata_bytes_max, limits, .. } = self.rules;
        let group = self.group(id, now);
        let Committer { member_id, instance, generation, knows_epochs, retention } = committer;
        let allowed = match &mut group.members {
            Members::Classic(group) => group.check_commit(member_id, instance.as_ref(), *generation, now),
            Members::Consumer(group) => {
                let places = commits.iter().map(|commit| (commit.topic_id, commit.partition));
                group.check_commit(member_id, *generation, *knows_epochs, places)
            }
        };
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
                    topic_id: Some(commit.topic_id),
                    metadata: commit.metadata,
                    committed: now.wall,
                    expires: retention.map(|retention| now.wall.plus(retention)),
                };
                let record = Record::Offset { key, value: Some(value) };
                if record.batch_bytes_max() > limits.batch_bytes_max {
                    answers.push(Err(GroupError::PositionTooLarge));
                    continue;
                }
                group.take(vec![record], effects);
                answers.push(Ok(()));
            }
            answers
        });
        self.drop_if_nothing(id);
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
        let is_consumers = group.members.protocol_type().is_some_and(|kind| *kind == *subscription::CONSUMER);
        let has_members = group.members.is_occupied();
        let subscribed = group.members.subscribed();
        if has_members && !is_consumers {
            return Err(GroupError::NonEmpty);
        }
        let mut answers = Vec::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            let is_read = match &subscribed {
                Subscribed::To(topics) => topics.contains(topic),
                Subscribed::Unknown => true,
            };
            if has_members && is_read {
                answers.push(Err(GroupError::SubscribedToTopic));
                continue;
            }
            if group.positions.get(topic, *partition).is_some() {
                let key = OffsetKey { group: id.clone(), topic: topic.clone(), partition: *partition };
                group.take(vec![Record::Offset { key, value: None }], effects);
            }
            answers.push(Ok(()));
        }
        self.drop_if_nothing(id);
        Ok(answers)
    }

    /// Takes back all positions in a topic that is no more; not those in another that has its name by now.
    pub(crate) fn forget_topic(&mut self, topic: &str, topic_id: TopicId, effects: &mut Effects) {
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        for id in ids {
            if let Some(group) = self.groups.get_mut(&id) {
                let stays = |named: &str, of: Option<TopicId>| {
                    *named != *topic || of.is_some_and(|of| of != topic_id)
                };
                let records = group.positions.orphans(&id, stays);
                group.take(records, effects);
            }
            self.drop_if_nothing(&id);
        }
    }

    /// Takes back the positions that are too old, and the groups that have nothing left, of some groups behind `after`. Gives the
    /// last of them, to go on from; nothing once all were looked at.
    pub(crate) fn expire(&mut self, after: Option<&Str>, now: Now, effects: &mut Effects) -> Option<Str> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.groups.range::<Str, _>((from, Bound::Unbounded));
        let ids: Vec<Str> = behind.take(EXPIRED_PER_STEP).map(|(id, _)| id.clone()).collect();
        let is_last = ids.len() < EXPIRED_PER_STEP;
        for id in &ids {
            self.expire_group(id, now, effects);
            effects.end_part();
            if effects.records.len() >= EXPIRED_PER_STEP {
                return Some(id.clone());
            }
        }
        ids.last().filter(|_| !is_last).cloned()
    }

    fn expire_group(&mut self, id: &Str, now: Now, effects: &mut Effects) {
        let around = around(&self.topics, self.rules, now);
        let Some(group) = self.groups.get_mut(id) else { return };
        let aging = group.members.aging();
        let records = group.positions.expired(id, &aging, now.wall, self.rules.offsets_retention);
        group.take(records, effects);
        if group.positions.is_empty() && group.members.is_empty() {
            group.members.end(id, around, effects);
        }
        self.settle(id);
    }
}

impl Group {
    /// Carries out records of positions, and has them stored.
    pub(super) fn take(&mut self, records: Vec<Record>, effects: &mut Effects) {
        for record in records {
            if let Record::Offset { key, value } = &record {
                let before = self.positions.get(&key.topic, key.partition).cloned();
                effects.before.push(Record::Offset { key: key.clone(), value: before });
                self.positions.note(key, value.clone());
            }
            effects.records.push(record);
        }
    }
}
