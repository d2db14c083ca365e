//! Incremental fetch sessions (KIP-227): what a client fetches is remembered, so that it sends and gets only what changed.
//!
//! Pure: no clock, no socket; time comes in. A session holds the partitions in the order in which they are served; whoever got
//! data goes to the end, so that a busy partition cannot starve the others. The cache is bounded in sessions and in
//! partitions; a client that finds no room is served all the same, without a session, as Kafka does.
//!
//! Epochs: a client that opens sends (0, 0); then (id, 1), (id, 2), and after 2^31 - 1 again 1. (id, 0) gives the session up and
//! opens a new one, (id, -1) gives it up, (0, -1) wants none.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use aquifer_model::{TopicId, TopicName};
use tokio::time::Instant;

/// How a client names a topic: by name up to Fetch v12, by id from v13 on. A session keeps to one way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TopicRef {
    /// By name.
    Name(TopicName),
    /// By id.
    Id(TopicId),
}

/// A partition as the client names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartitionRef {
    pub(crate) topic: TopicRef,
    pub(crate) partition: i32,
}

/// What a client wants of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) fetch_offset: i64,
    pub(crate) current_leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
    pub(crate) log_start_offset: i64,
    pub(crate) bytes_max: i32,
}

/// What the last answer said of a partition, to tell whether a new one says more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
}

/// The head of a Fetch, as far as sessions go.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    pub(crate) session_id: i32,
    pub(crate) epoch: i32,
    pub(crate) wanted: Vec<(PartitionRef, Wanted)>,
    pub(crate) forgotten: Vec<PartitionRef>,
}

/// Why a session cannot go on. The client opens a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("fetch session is not known")]
    Unknown,
    #[error("fetch session has another epoch")]
    Epoch,
    #[error("fetch session names topics in two ways")]
    Mixed,
}

impl SessionRequest {
    /// A request for what is `wanted` and no longer wanted. A partition that is named more than once is wanted once, in its first place and
    /// with what was said last, as in Kafka: what a request costs is then bounded by what exists.
    pub(crate) fn new(
        session_id: i32,
        epoch: i32,
        wanted: Vec<(PartitionRef, Wanted)>,
        forgotten: Vec<PartitionRef>,
    ) -> SessionRequest {
        SessionRequest { session_id, epoch, wanted: once_each(wanted), forgotten }
    }
}

fn once_each(wanted: Vec<(PartitionRef, Wanted)>) -> Vec<(PartitionRef, Wanted)> {
    if wanted.len() < 2 {
        return wanted;
    }
    let mut seen = HashSet::with_capacity(wanted.len());
    if wanted.iter().all(|(partition, _)| seen.insert(partition)) {
        return wanted;
    }
    let mut places = HashMap::with_capacity(seen.len());
    let mut once: Vec<(PartitionRef, Wanted)> = Vec::with_capacity(seen.len());
    for (partition, what) in &wanted {
        match places.get(partition) {
            Some(place) => {
                let (_, said): &mut (PartitionRef, Wanted) = &mut once[*place];
                *said = what.clone();
            }
            None => {
                places.insert(partition, once.len());
                once.push((partition.clone(), what.clone()));
            }
        }
    }
    once
}

/// What to fetch, and what the answer is part of.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// In the order in which to serve.
    pub(crate) wanted: Vec<(PartitionRef, Wanted)>,
    /// The session that the answer continues; `None` for a full answer.
    pub(crate) incremental: Option<i32>,
    open: bool,
}

/// A session idle for this long makes way for any other.
const IDLE_MAX: Duration = Duration::from_secs(120);

#[derive(Debug)]
struct Session {
    epoch: i32,
    by_id: bool,
    order: BTreeMap<u64, PartitionRef>,
    partitions: HashMap<PartitionRef, Cached>,
    next_order: u64,
    last_used: Instant,
}

#[derive(Debug)]
struct Cached {
    order: u64,
    wanted: Wanted,
    told: Option<Told>,
}

/// All sessions of a broker.
#[derive(Debug)]
pub(crate) struct FetchSessions {
    sessions: HashMap<i32, Session>,
    by_use: BTreeSet<(Instant, i32)>,
    sessions_max: usize,
    partitions: usize,
    partitions_max: usize,
}

impl FetchSessions {
    /// Room for `sessions_max` sessions (`max.incremental.fetch.session.cache.slots`) and `partitions_max` partitions in all.
    pub(crate) fn new(sessions_max: usize, partitions_max: usize) -> FetchSessions {
        FetchSessions {
            sessions: HashMap::new(),
            by_use: BTreeSet::new(),
            sessions_max,
            partitions: 0,
            partitions_max,
        }
    }

    /// How many sessions there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// How many partitions they remember.
    pub(crate) fn partition_count(&self) -> usize {
        self.partitions
    }

    /// What a request wants.
    pub(crate) fn resolve(
        &mut self,
        request: SessionRequest,
        now: Instant,
    ) -> Result<Resolved, SessionError> {
        match (request.session_id, request.epoch) {
            (id, -1 | 0) => {
                if id != 0 {
                    self.remove(id);
                }
                Ok(Resolved { wanted: request.wanted, incremental: None, open: request.epoch == 0 })
            }
            (id, _) => self.proceed(id, request, now),
        }
    }

    fn proceed(&mut self, id: i32, request: SessionRequest, now: Instant) -> Result<Resolved, SessionError> {
        let session = self.sessions.get_mut(&id).ok_or(SessionError::Unknown)?;
        if session.epoch != request.epoch {
            return Err(SessionError::Epoch);
        }
        let named = request.wanted.iter().map(|(partition, _)| partition).chain(&request.forgotten);
        if named.into_iter().any(|partition| matches!(partition.topic, TopicRef::Id(_)) != session.by_id) {
            return Err(SessionError::Mixed);
        }
        self.by_use.remove(&(session.last_used, id));
        session.last_used = now;
        self.by_use.insert((now, id));
        self.partitions -= session.partitions.len();
        for partition in &request.forgotten {
            session.forget(partition);
        }
        for (partition, wanted) in request.wanted {
            session.want(partition, wanted);
        }
        self.partitions += session.partitions.len();
        if self.partitions > self.partitions_max {
            // It has outgrown the cache; the client opens another, and gets one if there is room.
            self.remove(id);
            return Err(SessionError::Unknown);
        }
        session.epoch = next_epoch(session.epoch);
        let wanted = session
            .order
            .values()
            .map(|partition| (partition.clone(), session.partitions[partition].wanted.clone()));
        Ok(Resolved { wanted: wanted.collect(), incremental: Some(id), open: false })
    }

    /// Opens the session that a full request asked for; gives its id, 0 where there is no room.
    pub(crate) fn open(
        &mut self,
        resolved: &Resolved,
        told: &[Option<Told>],
        new_id: i32,
        now: Instant,
    ) -> i32 {
        let size = resolved.wanted.len();
        if !resolved.open
            || size == 0
            || new_id <= 0
            || self.sessions.contains_key(&new_id)
            || !self.make_room(size, now)
        {
            return 0;
        }
        let by_id = matches!(resolved.wanted[0].0.topic, TopicRef::Id(_));
        let mut session = Session {
            epoch: 1,
            by_id,
            order: BTreeMap::new(),
            partitions: HashMap::new(),
            next_order: 0,
            last_used: now,
        };
        for ((partition, wanted), told) in resolved.wanted.iter().zip(told) {
            session.want(partition.clone(), wanted.clone());
            session.tell(partition, *told, false);
        }
        self.partitions += session.partitions.len();
        self.sessions.insert(new_id, session);
        self.by_use.insert((now, new_id));
        new_id
    }

    /// Notes what the answer to an incremental request says of a partition, and gives whether the answer must carry it: it must
    /// if it has data (or an error, or a redirection: `significant`) or if a watermark moved. One with data goes to the end.
    pub(crate) fn tell(
        &mut self,
        id: i32,
        partition: &PartitionRef,
        told: Option<Told>,
        significant: bool,
    ) -> bool {
        match self.sessions.get_mut(&id) {
            Some(session) => session.tell(partition, told, significant),
            // Evicted while it was being served: say all.
            None => true,
        }
    }

    fn make_room(&mut self, size: usize, now: Instant) -> bool {
        while self.sessions.len() >= self.sessions_max || self.partitions + size > self.partitions_max {
            let Some(&(used, id)) = self.by_use.first() else { return false };
            if now.duration_since(used) < IDLE_MAX {
                return false;
            }
            self.remove(id);
        }
        true
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.by_use.remove(&(session.last_used, id));
            self.partitions -= session.partitions.len();
        }
    }
}

impl Session {
    fn want(&mut self, partition: PartitionRef, wanted: Wanted) {
        if let Some(cached) = self.partitions.get_mut(&partition) {
            cached.wanted = wanted;
            return;
        }
        let order = self.next_order;
        self.next_order += 1;
        self.order.insert(order, partition.clone());
        self.partitions.insert(partition, Cached { order, wanted, told: None });
    }

    fn forget(&mut self, partition: &PartitionRef) {
        if let Some(cached) = self.partitions.remove(partition) {
            self.order.remove(&cached.order);
        }
    }

    fn tell(&mut self, partition: &PartitionRef, told: Option<Told>, significant: bool) -> bool {
        let Some(cached) = self.partitions.get_mut(partition) else { return true };
        let carry = significant || told.is_none() || cached.told != told;
        // After an error nothing is known to the client, so that the next good answer is carried whatever it says.
        cached.told = told;
        if significant {
            self.order.remove(&cached.order);
            cached.order = self.next_order;
            self.next_order += 1;
            self.order.insert(cached.order, partition.clone());
        }
        carry
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

#[cfg(test)]
mod tests;
