//! All groups of one partition of `__consumer_offsets`, as its records and the requests since then have made them: pure.
//!
//! A group exists for as long as it has members, positions, or ids that it gave out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::TopicId;
use aquifer_protocol::Str;
use tokio::time::Instant;

use super::classic::{ClassicGroup, Join, Leaving, Limits, Sync, View};
use super::consumer::{Around, ConsumerLimits};
use super::effects::{Effects, JoinRefused, Now, Ticket};
use super::error::GroupError;
use super::members::{Kind, Members};
use super::positions::Positions;
use super::record::Record;
use super::topics::Topics;
use crate::metadata::Image;

/// Requests of those whose coordinator assigns, and changes of the protocol.
mod consumers;
/// Requests about positions, and what ages of them.
mod positions;

pub(crate) use positions::{Commit, Committer};

/// What a book goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) limits: Limits,
    pub(crate) consumer: ConsumerLimits,
    /// How long positions outlive their group's last member.
    pub(crate) offsets_retention: Duration,
    pub(crate) metadata_bytes_max: usize,
    pub(crate) groups_max: usize,
    /// Ids that may be given out and not used yet, of all groups together.
    pub(crate) pending_max: usize,
}

/// The groups.
#[derive(Debug)]
pub(crate) struct Book {
    rules: Rules,
    topics: Topics,
    groups: BTreeMap<Str, Group>,
    /// When each group has something to do next, or before; of groups that wait for nothing, nothing.
    deadlines: BTreeSet<(Instant, Str)>,
    /// Classic groups that became others by what is not stored yet.
    turned: Vec<ClassicGroup>,
    /// Ids that groups gave out, oldest first, whether or not they were used since.
    pending: VecDeque<(Str, Str)>,
    pending_forgotten: u64,
}

#[derive(Debug)]
struct Group {
    members: Members,
    positions: Positions,
    deadline: Option<Instant>,
}

/// How a group stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) group: Str,
    pub(crate) state: &'static str,
    pub(crate) members: usize,
    /// Topic, partition, offset.
    pub(crate) positions: Vec<(Str, i32, i64)>,
}

/// How groups stand, and what there was no room for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standings {
    pub(crate) groups: Vec<Standing>,
    pub(crate) groups_left_out: usize,
    /// Those of groups that are left out among them.
    pub(crate) positions_left_out: usize,
}

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) group: Str,
    pub(crate) protocol_type: Str,
    pub(crate) state: &'static str,
    pub(crate) kind: Kind,
}

fn around(topics: &Topics, rules: Rules, now: Now) -> Around<'_> {
    Around { topics, limits: rules.consumer, classic: rules.limits, now }
}

impl Book {
    /// No groups.
    pub(crate) fn new(rules: Rules) -> Book {
        Book {
            rules,
            topics: Topics::default(),
            groups: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            turned: Vec::new(),
            pending: VecDeque::new(),
            pending_forgotten: 0,
        }
    }

    /// Takes what a batch of records may come to now; it may change while a book is open.
    pub(crate) fn limit_batches(&mut self, bytes_max: usize) {
        self.rules.limits.batch_bytes_max = bytes_max;
        self.rules.consumer.batch_bytes_max = bytes_max;
    }

    /// Takes what the cluster knows of topics now; members whose coordinator assigns learn of it by their next heartbeats.
    pub(crate) fn see(&mut self, image: Arc<Image>) {
        self.topics.see(image);
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
                let restored = ClassicGroup::restored(group.clone(), value, now);
                self.group(&group, now).members = Members::Classic(restored);
                self.settle(&group);
            }
            Record::Group { group, value: None } => {
                if let Some(members) = self.groups.get_mut(&group).map(|known| &mut known.members)
                    && matches!(members, Members::Classic(_))
                {
                    *members = Members::nobody(&group, now);
                }
                self.settle(&group);
            }
            Record::Consumer(record) => self.replay_consumer(record, now),
        }
    }

    /// Begins to serve what was replayed: sessions run from now on, and positions are taken back that are in no topic that
    /// `is_there`, since it may have been deleted while nobody served.
    pub(crate) fn open(
        &mut self,
        mut is_there: impl FnMut(&str, Option<TopicId>) -> bool,
        now: Now,
        effects: &mut Effects,
    ) {
        let limits = self.rules.limits;
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        for id in ids {
            let around = around(&self.topics, self.rules, now);
            if let Some(group) = self.groups.get_mut(&id) {
                match &mut group.members {
                    Members::Classic(group) => group.resume(now, limits, effects),
                    Members::Consumer(group) => group.resume(around),
                }
                let orphans = group.positions.orphans(&id, &mut is_there);
                group.take(orphans, effects);
            }
            self.settle(&id);
        }
    }

    /// What was done since this was called last is in the log, and not to be undone any more.
    pub(crate) fn kept(&mut self) {
        self.turned.clear();
    }

    /// Takes back what a step has changed of which nothing was stored. Whoever waits for what is no more is in `lost`.
    pub(crate) fn undo(&mut self, step: &Effects, now: Now, lost: &mut Effects) {
        let limits = self.rules.limits;
        self.end_waits(&step.records, lost);
        for record in step.before.iter().rev() {
            self.replay(record.clone(), now);
        }
        // Of one that turned more than once, what it was first comes last. Not by a record: what its members can do is more than that
        // tells.
        for mut group in std::mem::take(&mut self.turned).into_iter().rev() {
            let id = group.id().clone();
            group.come_back(now, limits);
            self.group(&id, now).members = Members::Classic(group);
            self.settle(&id);
        }
        for record in &step.records {
            let Record::Group { group: id, value: Some(_) } = record else { continue };
            if let Some(Members::Classic(group)) = self.groups.get_mut(id).map(|group| &mut group.members) {
                // Nobody waits in such a group: all were answered, and are told that it did not happen.
                group.not_kept(step.handed_in.contains(id), now, limits, &mut Effects::default());
            }
            self.settle(id);
        }
    }

    /// Ids that were forgotten unused for want of room, since the book was opened.
    pub(crate) fn pending_forgotten(&self) -> u64 {
        self.pending_forgotten
    }

    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// When [`Book::tick`] has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Does what is due, each group once: what is due again at once waits for the next call.
    pub(crate) fn tick(&mut self, now: Now, effects: &mut Effects) {
        let due: Vec<Str> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now.at).map(|(_, id)| id.clone()).collect();
        for id in due {
            let limits = self.rules.limits;
            let around = around(&self.topics, self.rules, now);
            let said = effects.records.len();
            match self.groups.get_mut(&id).map(|group| &mut group.members) {
                Some(Members::Classic(group)) => group.tick(now, limits, effects),
                Some(Members::Consumer(group)) => group.tick(around, effects),
                None => {}
            }
            if effects.records.len() > said {
                self.downgrade(&id, now, effects);
            }
            effects.end_part();
            self.settle(&id);
        }
    }

    /// Lets a member into a group, which begins with its first.
    pub(crate) fn join(&mut self, id: &Str, join: Join, ticket: Ticket, now: Now, effects: &mut Effects) {
        if id.is_empty() {
            let refused = JoinRefused { error: GroupError::InvalidGroupId, member_id: join.member_id };
            return effects.joins.push((ticket, Err(refused)));
        }
        if let Err(error) = self.admit(id) {
            let refused = JoinRefused { error, member_id: join.member_id };
            return effects.joins.push((ticket, Err(refused)));
        }
        let limits = self.rules.limits;
        let fresh_id = join.fresh_id.clone();
        let around = around(&self.topics, self.rules, now);
        let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(id, now));
        // One that nobody is in becomes a classic one.
        if matches!(&group.members, Members::Consumer(members) if members.is_empty()) {
            group.members.end(id, around, effects);
        }
        let Members::Classic(classic) = &mut group.members else {
            let answer = self.join_consumers(id, join, now, effects);
            effects.joins.push((ticket, answer));
            return self.settle(id);
        };
        classic.join(join, ticket, now, limits, effects);
        if classic.is_pending(&fresh_id) {
            self.pending.push_back((id.clone(), fresh_id));
            self.forget_pending(now, effects);
        }
        self.settle(id);
    }

    /// Whether there is room for the group, if it is not there yet.
    fn admit(&self, id: &Str) -> Result<(), GroupError> {
        let fits = self.groups.len() < self.rules.groups_max || self.groups.contains_key(id);
        if fits { Ok(()) } else { Err(GroupError::TooManyGroups) }
    }

    /// Of ids that were given out only so many are remembered: whoever means to use one does so at once.
    fn forget_pending(&mut self, now: Now, effects: &mut Effects) {
        while self.pending.len() > self.rules.pending_max {
            let Some((id, member)) = self.pending.pop_front() else { return };
            let group = self.groups.get_mut(&id).map(|group| &mut group.members);
            let Some(Members::Classic(group)) = group else { continue };
            if group.is_pending(&member) {
                group.forget_pending(&member, now, effects);
                self.pending_forgotten += 1;
                self.settle(&id);
            }
        }
    }

    /// Tells a member what it is to read.
    pub(crate) fn sync(&mut self, id: &Str, sync: Sync, ticket: Ticket, now: Now, effects: &mut Effects) {
        let limits = self.rules.limits;
        let around = around(&self.topics, self.rules, now);
        match self.groups.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Consumer(group)) => {
                effects.syncs.push((ticket, group.classic_sync(&sync, around)));
            }
            Some(Members::Classic(_)) | None => match self.with_members(id) {
                Ok(group) => group.sync(sync, ticket, now, limits, effects),
                Err(error) => effects.syncs.push((ticket, Err(error))),
            },
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
        effects: &mut Effects,
    ) -> Result<(), GroupError> {
        let around = around(&self.topics, self.rules, now);
        match self.groups.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Consumer(group)) => {
                let heard = group.classic_heartbeat(member, instance, generation, around, effects);
                // It may have been told to join again, by a time that is nearer than all others.
                if heard.is_err() {
                    self.settle(id);
                }
                heard
            }
            // It puts a deadline off, which is seen when the deadline comes: all members are looked at then, not each time.
            Some(Members::Classic(_)) | None => {
                self.with_members(id)?.heartbeat(member, instance, generation, now)
            }
        }
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
        let around = around(&self.topics, self.rules, now);
        let answers = match self.groups.get_mut(id).map(|group| &mut group.members) {
            // By whichever protocol they came, operators put members out by this one.
            Some(Members::Consumer(group)) => {
                let answers = group.remove(leaving, around, effects);
                if answers.iter().any(Result::is_ok) {
                    self.downgrade(id, now, effects);
                }
                answers
            }
            _ => self.with_members(id)?.leave(leaving, now, limits, effects),
        };
        self.settle(id);
        Ok(answers)
    }

    /// Deletes a group that nobody is in.
    pub(crate) fn delete(&mut self, id: &Str, now: Now, effects: &mut Effects) -> Result<(), GroupError> {
        let around = around(&self.topics, self.rules, now);
        let group = self.groups.get_mut(id).ok_or(GroupError::NotFound)?;
        if group.members.is_occupied() {
            return Err(GroupError::NonEmpty);
        }
        let records = group.positions.tombstones(id, |_, _, _| true);
        group.take(records, effects);
        group.members.end(id, around, effects);
        self.settle(id);
        Ok(())
    }

    /// All groups.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let listed = self.groups.iter().map(|(id, group)| Listed {
            group: id.clone(),
            protocol_type: group.members.protocol_type().unwrap_or(Str::EMPTY),
            state: group.members.state_name(),
            kind: group.members.kind(),
        });
        listed.collect()
    }

    /// How groups stand: so many of them, with so many positions together.
    pub(crate) fn standings(&self, groups_max: usize, positions_max: usize) -> Standings {
        let mut standings = Standings::default();
        let mut room = positions_max;
        for (id, group) in &self.groups {
            if standings.groups.len() >= groups_max {
                standings.groups_left_out += 1;
                standings.positions_left_out += group.positions.len();
                continue;
            }
            let all = group.positions.all().map(|(topic, index, value)| (topic.clone(), index, value.offset));
            let positions: Vec<_> = all.take(room).collect();
            room -= positions.len();
            standings.positions_left_out += group.positions.len() - positions.len();
            let (state, members) = (group.members.state_name(), group.members.count());
            standings.groups.push(Standing { group: id.clone(), state, members, positions });
        }
        standings
    }

    /// One classic group, in full.
    pub(crate) fn describe(&self, id: &str) -> Option<View> {
        match &self.groups.get(id)?.members {
            Members::Classic(group) => Some(group.view()),
            Members::Consumer(_) => None,
        }
    }

    /// A group that may have classic members. Without a name there is none, though positions can be stored there, as by the oldest clients.
    fn with_members(&mut self, id: &Str) -> Result<&mut ClassicGroup, GroupError> {
        if id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        match self.groups.get_mut(id).map(|group| &mut group.members) {
            Some(Members::Classic(group)) => Ok(group),
            Some(Members::Consumer(_)) | None => Err(GroupError::UnknownMember),
        }
    }

    fn group(&mut self, id: &Str, now: Now) -> &mut Group {
        self.groups.entry(id.clone()).or_insert_with(|| Group::new(id, now))
    }

    /// Notes when the group has something to do next, or that it is no more.
    fn settle(&mut self, id: &Str) {
        let Some(group) = self.groups.get_mut(id) else { return };
        let next = group.members.next_deadline();
        if let Some(before) = group.deadline.filter(|before| Some(*before) != next) {
            self.deadlines.remove(&(before, id.clone()));
        }
        if let Some(next) = next.filter(|next| Some(*next) != group.deadline) {
            self.deadlines.insert((next, id.clone()));
        }
        group.deadline = next;
        self.drop_if_nothing(id);
    }

    fn drop_if_nothing(&mut self, id: &Str) {
        let Some(group) = self.groups.get(id) else { return };
        if group.members.is_blank() && group.positions.is_empty() {
            if let Some(deadline) = group.deadline {
                self.deadlines.remove(&(deadline, id.clone()));
            }
            self.groups.remove(id);
        }
    }
}

impl Group {
    fn new(id: &Str, now: Now) -> Group {
        Group { members: Members::nobody(id, now), positions: Positions::default(), deadline: None }
    }
}

#[cfg(test)]
mod tests;
