//! Reads a topic's partitions from chosen offsets on.
//!
//! There is one Fetch in flight for each broker that leads any of them, and the next is on its way while the answer to the last
//! is looked at, so that network, broker and reader work at once. What comes back is whole batches as they are stored; opening
//! them is the caller's, who may only want to count or to hash them.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use aquifer_model::batches::{Batches, Tail};
use aquifer_model::{ByteCount, Offset, Timestamp, TopicName};
use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use aquifer_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::cli::cluster::{Cluster, Failure, PATIENCE, Patience, Topic};
use crate::config::Endpoint;

/// How a topic is read.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// How long a broker may wait for new records before it answers.
    pub wait_max: Duration,
    /// Bytes of one partition in one answer; a larger batch comes alone.
    pub partition_bytes_max: ByteCount,
    /// Bytes of one answer.
    pub answer_bytes_max: ByteCount,
    /// How long failures are retried before the reader is told.
    pub patience: Duration,
}

impl Default for ConsumerOptions {
    fn default() -> ConsumerOptions {
        ConsumerOptions {
            wait_max: Duration::from_millis(500),
            partition_bytes_max: ByteCount::mib(4),
            answer_bytes_max: ByteCount::mib(50),
            patience: Duration::from_secs(120),
        }
    }
}

/// Where to start in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The oldest record, wherever it is kept.
    Beginning,
    /// Behind the newest record.
    End,
    /// At this offset.
    At(Offset),
    /// So many offsets before the end, or at the beginning where there are fewer.
    BeforeEnd(u64),
    /// At the first record that is not older; behind the newest where all are.
    Since(Timestamp),
}

/// Where to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Wait for more, for ever.
    Never,
    /// At what was the end when reading began.
    AtEnd,
}

/// Whole batches of one partition, as stored.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Which.
    pub partition: i32,
    /// The offset that was asked for; the first batch may begin before it.
    pub from: Offset,
    /// The first offset behind these batches.
    pub next: Offset,
    /// The batches, without a partial one at their end.
    pub batches: Bytes,
}

type Answer = Pin<Box<dyn Future<Output = (Endpoint, Result<FetchResponse, Failure>)> + Send>>;

/// Reads one topic.
pub struct Consumer {
    cluster: Cluster,
    name: TopicName,
    options: ConsumerOptions,
    topic: Topic,
    positions: BTreeMap<i32, Position>,
    in_flight: FuturesUnordered<Answer>,
    /// Brokers with a Fetch in flight.
    busy: Vec<Endpoint>,
    ready: VecDeque<Fetched>,
    /// Runs while nothing but failures comes.
    patience: Option<Patience>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("topic", &self.name)
            .field("positions", &self.positions)
            .finish_non_exhaustive()
    }
}

/// A partition being read.
#[derive(Debug, Clone, Copy)]
struct Position {
    next: Offset,
    /// Exclusive; `None` reads on for ever.
    stop: Option<Offset>,
}

impl Position {
    fn is_done(self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
}

impl Consumer {
    /// Finds the topic and where to start in each of `partitions`, or in all if there are none.
    pub async fn open(
        cluster: &Cluster,
        name: &TopicName,
        partitions: &[i32],
        start: Start,
        stop: Stop,
        options: ConsumerOptions,
    ) -> anyhow::Result<Consumer> {
        let topic = cluster.topic(name, false).await?;
        let all: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
        let chosen = if partitions.is_empty() { &all } else { partitions };
        for index in chosen {
            topic.partition(*index)?;
        }
        let mut positions = BTreeMap::new();
        let starts = starts(cluster, name, chosen, start).await?;
        let ends = match stop {
            Stop::AtEnd => Some(offsets(cluster, name, chosen, LATEST).await?),
            Stop::Never => None,
        };
        for index in chosen {
            let stop = ends.as_ref().and_then(|ends| ends.get(index).copied().flatten());
            positions.insert(*index, Position { next: starts[index], stop });
        }
        Ok(Consumer {
            cluster: cluster.clone(),
            name: name.clone(),
            options,
            topic,
            positions,
            in_flight: FuturesUnordered::new(),
            busy: Vec::new(),
            ready: VecDeque::new(),
            patience: None,
        })
    }

    /// How many offsets lie between here and the stop; `None` without one.
    pub fn left(&self) -> Option<u64> {
        self.positions.values().map(|position| position.stop.map(|stop| stop.since(position.next))).sum()
    }

    /// Where reading goes on, by partition.
    pub fn positions(&self) -> impl Iterator<Item = (i32, Offset)> {
        self.positions.iter().map(|(index, position)| (*index, position.next))
    }

    /// The next batches; `None` once all partitions are at their stop. May be cancelled: what is in flight stays so.
    pub async fn next(&mut self) -> anyhow::Result<Option<Fetched>> {
        loop {
            self.ask().await?;
            if let Some(fetched) = self.ready.pop_front() {
                return Ok(Some(fetched));
            }
            if self.positions.values().all(|position| position.is_done()) {
                return Ok(None);
            }
            let Some((broker, answer)) = self.in_flight.next().await else {
                // Nobody to ask: partitions without a leader.
                self.wait("no partition has a leader").await?;
                continue;
            };
            self.busy.retain(|busy| *busy != broker);
            let taken = match answer {
                Ok(answer) => self.take(answer),
                Err(failure) => Err(failure),
            };
            match taken {
                Ok(()) => self.patience = None,
                Err(Failure::Transient(why)) => self.wait(&why).await?,
                Err(Failure::Fatal(why)) => bail!("{}: {why}", self.name),
            }
        }
    }

    /// Sends a Fetch to each broker that leads something and has none.
    async fn ask(&mut self) -> anyhow::Result<()> {
        let mut by_leader: Vec<(Endpoint, Vec<FetchPartition>)> = Vec::new();
        for (index, position) in self.positions.iter().filter(|(_, position)| !position.is_done()) {
            let partition = self.topic.partition(*index)?;
            let Some(leader) = partition.leader.clone().filter(|leader| !self.busy.contains(leader)) else {
                continue;
            };
            let wanted = FetchPartition {
                partition: *index,
                current_leader_epoch: partition.leader_epoch,
                fetch_offset: position.next.get(),
                partition_max_bytes: to_i32(self.options.partition_bytes_max),
                ..Default::default()
            };
            match by_leader.iter_mut().find(|(other, _)| *other == leader) {
                Some((_, partitions)) => partitions.push(wanted),
                None => by_leader.push((leader, vec![wanted])),
            }
        }
        for (leader, partitions) in by_leader {
            let request = self.request(partitions);
            let cluster = self.cluster.clone();
            let patience = self.options.wait_max + PATIENCE;
            self.busy.push(leader.clone());
            self.in_flight.push(Box::pin(async move {
                let answer = fetch(&cluster, &leader, &request, patience).await;
                (leader, answer)
            }));
        }
        Ok(())
    }

    fn request(&self, partitions: Vec<FetchPartition>) -> FetchRequest {
        let topic = FetchTopic { topic: self.topic.name.clone(), topic_id: self.topic.id, partitions };
        FetchRequest {
            max_wait_ms: i32::try_from(self.options.wait_max.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: to_i32(self.options.answer_bytes_max),
            replica_id: -1,
            topics: vec![topic],
            ..Default::default()
        }
    }

    fn take(&mut self, answer: FetchResponse) -> Result<(), Failure> {
        if !answer.error_code.is_none() {
            return Err(Failure::from(answer.error_code));
        }
        let mut outcome = Ok(());
        let partitions = answer.responses.into_iter().flat_map(|topic| topic.partitions);
        for partition in partitions {
            // What came is kept, whatever became of the others.
            match self.take_partition(partition) {
                Ok(()) => {}
                Err(fatal @ Failure::Fatal(_)) => return Err(fatal),
                Err(transient) => outcome = Err(transient),
            }
        }
        outcome
    }

    fn take_partition(&mut self, data: PartitionData) -> Result<(), Failure> {
        let index = data.partition_index;
        let unasked = || Failure::Fatal(format!("the answer has partition {index}, which was not asked for"));
        let position = self.positions.get_mut(&index).ok_or_else(unasked)?;
        let from = position.next;
        match data.error_code {
            ErrorCode::NONE => {}
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                return Err(Failure::Fatal(format!(
                    "partition {index} has no offset {from}: it begins at {} and ends at {}",
                    data.log_start_offset, data.high_watermark
                )));
            }
            // The answer of a leader that was, or of one that does not know yet.
            ErrorCode::FENCED_LEADER_EPOCH | ErrorCode::UNKNOWN_LEADER_EPOCH => {
                return Err(Failure::Transient(format!("partition {index}: {}", data.error_code)));
            }
            error if error.is_retriable() => {
                return Err(Failure::Transient(format!("partition {index}: {error}")));
            }
            error => return Err(Failure::Fatal(format!("partition {index}: {error}"))),
        }
        let records = data.records.into_bytes();
        if records.is_empty() {
            return Ok(());
        }
        let mut batches = Batches::new(&records);
        let mut kept = 0;
        for located in batches.by_ref() {
            if let Some(stop) = position.stop.filter(|stop| located.header.base_offset >= *stop) {
                // What lay before may have been compacted away meanwhile.
                position.next = position.next.max(stop);
                break;
            }
            kept = located.position + located.header.size();
            position.next = position.next.max(located.header.next_offset());
        }
        match batches.tail() {
            _ if kept > 0 => {
                let next = position.next;
                self.ready.push_back(Fetched {
                    partition: index,
                    from,
                    next,
                    batches: records.slice(..kept),
                });
                Ok(())
            }
            Some(Tail::Invalid(error)) => {
                Err(Failure::Fatal(format!("partition {index}, from offset {from}: {error}")))
            }
            _ if position.stop.is_some_and(|stop| position.next >= stop) => Ok(()),
            _ => Err(Failure::Fatal(format!("partition {index}: no whole batch came from offset {from} on"))),
        }
    }

    /// Waits, then learns who leads now.
    async fn wait(&mut self, why: &str) -> anyhow::Result<()> {
        let new = || Patience::new(self.cluster.world(), self.options.patience);
        let patience = self.patience.get_or_insert_with(new);
        if !patience.pause().await {
            bail!("{}: {why}, for {:?}", self.name, self.options.patience);
        }
        tracing::debug!(topic = %self.name, why, "reading again");
        match self.cluster.topic(&self.name, false).await {
            Ok(topic) => {
                ensure!(topic.id == self.topic.id, "topic {} was deleted and created anew", self.name);
                self.topic = topic;
            }
            Err(error) => tracing::debug!(topic = %self.name, error = %format!("{error:#}"), "no metadata"),
        }
        Ok(())
    }
}

async fn fetch(
    cluster: &Cluster,
    leader: &Endpoint,
    request: &FetchRequest,
    patience: Duration,
) -> Result<FetchResponse, Failure> {
    let peer = cluster.at(leader).await?;
    Ok(peer.send(request).await?.within(patience).await?)
}

fn to_i32(bytes: ByteCount) -> i32 {
    i32::try_from(bytes.get()).unwrap_or(i32::MAX)
}

/// What ListOffsets calls the end.
pub const LATEST: Timestamp = Timestamp(-1);
/// What ListOffsets calls the beginning.
pub const EARLIEST: Timestamp = Timestamp(-2);
/// What ListOffsets calls the beginning of what is on local disk.
pub const EARLIEST_LOCAL: Timestamp = Timestamp(-4);

/// Where these partitions start, by this rule.
pub async fn starts(
    cluster: &Cluster,
    name: &TopicName,
    partitions: &[i32],
    start: Start,
) -> anyhow::Result<BTreeMap<i32, Offset>> {
    let asked = match start {
        Start::At(offset) => return Ok(partitions.iter().map(|index| (*index, offset)).collect()),
        Start::Beginning => EARLIEST,
        Start::End | Start::BeforeEnd(_) => LATEST,
        Start::Since(timestamp) => timestamp,
    };
    let found = offsets(cluster, name, partitions, asked).await?;
    // Where no record is as new, and for going back from the end.
    let other = match start {
        Start::Since(_) => offsets(cluster, name, partitions, LATEST).await?,
        Start::BeforeEnd(_) => offsets(cluster, name, partitions, EARLIEST).await?,
        _ => BTreeMap::new(),
    };
    let start_of = |index: i32, found: Option<Offset>| {
        let other = other.get(&index).copied().flatten();
        let offset = match (start, found) {
            (Start::BeforeEnd(count), Some(end)) => {
                let back = end.get().saturating_sub_unsigned(count);
                Some(Offset::new(back).unwrap_or(Offset::ZERO).max(other.unwrap_or(Offset::ZERO)))
            }
            (_, found) => found.or(other),
        };
        Ok((index, offset.with_context(|| format!("partition {index} of {name} does not say where it is"))?))
    };
    found.into_iter().map(|(index, found)| start_of(index, found)).collect()
}

/// Asks the leaders for the offsets that belong to `timestamp`; `None` where no record is as new.
pub async fn offsets(
    cluster: &Cluster,
    name: &TopicName,
    partitions: &[i32],
    timestamp: Timestamp,
) -> anyhow::Result<BTreeMap<i32, Option<Offset>>> {
    let mut patience = Patience::new(cluster.world(), PATIENCE);
    let mut found = BTreeMap::new();
    loop {
        let topic = cluster.topic(name, false).await?;
        let mut failure = None;
        let mut by_leader: Vec<(Endpoint, Vec<ListOffsetsPartition>)> = Vec::new();
        for index in partitions.iter().filter(|index| !found.contains_key(*index)) {
            let partition = topic.partition(*index)?;
            let wanted = ListOffsetsPartition {
                partition_index: *index,
                current_leader_epoch: partition.leader_epoch,
                timestamp: timestamp.millis(),
            };
            let leader = partition.leader.clone().context("a topic that was found has leaders")?;
            match by_leader.iter_mut().find(|(other, _)| *other == leader) {
                Some((_, partitions)) => partitions.push(wanted),
                None => by_leader.push((leader, vec![wanted])),
            }
        }
        for (leader, partitions) in by_leader {
            match offsets_of(cluster, &leader, name, partitions, &mut found).await {
                Ok(()) => {}
                Err(Failure::Transient(why)) => failure = Some(why),
                Err(Failure::Fatal(why)) => bail!("offsets of {name}: {why}"),
            }
        }
        match failure {
            None => return Ok(found),
            Some(why) => ensure!(patience.pause().await, "offsets of {name}: {why}"),
        }
    }
}

async fn offsets_of(
    cluster: &Cluster,
    leader: &Endpoint,
    name: &TopicName,
    partitions: Vec<ListOffsetsPartition>,
    found: &mut BTreeMap<i32, Option<Offset>>,
) -> Result<(), Failure> {
    let topic = ListOffsetsTopic { name: name.as_str().into(), partitions };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![topic],
        timeout_ms: i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX),
        ..Default::default()
    };
    let answer = cluster.at(leader).await?.call(&request).await?;
    let mut outcome = Ok(());
    for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
        let index = partition.partition_index;
        match partition.error_code {
            ErrorCode::NONE => drop(found.insert(index, Offset::new(partition.offset))),
            ErrorCode::FENCED_LEADER_EPOCH | ErrorCode::UNKNOWN_LEADER_EPOCH => {
                outcome = Err(Failure::Transient(format!("partition {index}: {}", partition.error_code)));
            }
            error if error.is_retriable() => {
                outcome = Err(Failure::Transient(format!("partition {index}: {error}")))
            }
            error => return Err(Failure::Fatal(format!("partition {index}: {error}"))),
        }
    }
    outcome
}
