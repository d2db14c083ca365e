//! Writes records to a topic.
//!
//! Records gather in one open batch a partition; a full one goes to the partition's own task, which has one request in flight
//! at a time. Order and sequence numbers need nothing more, and partitions proceed side by side. A batch is sent again until it
//! is acknowledged or `delivery_timeout` has passed; with an idempotent producer the broker tells repeats from new batches, so
//! that each record is written once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use aquifer_model::batch::BatchProducer;
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, ProducerEpoch, ProducerId, Timestamp, TopicName};
use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::init_producer_id::InitProducerIdRequest;
use aquifer_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::cli::cluster::{Cluster, Failure, PATIENCE, Patience, Topic};
use crate::cli::partitioner::partition_of;

/// How records are written.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    /// Who must have a batch before it counts as written.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// Bytes of records, uncompressed, at which a batch is full. Below the broker's `message.max.bytes`.
    pub batch_bytes: ByteCount,
    /// Batches that wait for one partition; whoever sends more waits.
    pub queue_max: usize,
    /// How long a batch is tried for.
    pub delivery_timeout: Duration,
}

impl Default for ProducerOptions {
    fn default() -> ProducerOptions {
        ProducerOptions {
            acks: Acks::All,
            compression: Compression::None,
            batch_bytes: ByteCount::kib(512),
            queue_max: 4,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// Who must have a batch before it counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// All in-sync replicas, as durably as the topic promises; each record is written once.
    All,
    /// The leader; a retry may write a record twice.
    Leader,
    /// Nobody; what does not arrive is lost.
    Nobody,
}

/// A record to write.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Decides the partition, if there is one.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Names and values.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// When it came about.
    pub timestamp: Timestamp,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Records acknowledged; for [`Acks::Nobody`], sent.
    pub records: u64,
    /// Bytes of batches, as compressed.
    pub bytes: ByteCount,
}

/// Writes to one topic.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    lanes: Vec<Lane>,
    /// Where records without a key go until that batch is full.
    sticky: usize,
}

/// A partition's open batch, and the way to its task.
#[derive(Debug)]
struct Lane {
    partition: i32,
    open: BatchBuilder,
    queue: mpsc::Sender<BatchBuilder>,
}

#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    name: TopicName,
    options: ProducerOptions,
    producer: Option<(ProducerId, ProducerEpoch)>,
    /// The newest that is known of the topic.
    topic: Mutex<Arc<Topic>>,
    outcome: Mutex<Outcome>,
}

#[derive(Debug, Default)]
struct Outcome {
    written: Written,
    failure: Option<String>,
}

impl Producer {
    /// Finds the topic, which the broker may create, and gets a producer id where one is needed.
    pub async fn open(
        cluster: &Cluster,
        name: &TopicName,
        options: ProducerOptions,
    ) -> anyhow::Result<Producer> {
        let topic = cluster.topic(name, true).await?;
        let producer = match options.acks {
            Acks::All => Some(init_producer_id(cluster).await?),
            Acks::Leader | Acks::Nobody => None,
        };
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            name: name.clone(),
            producer,
            topic: Mutex::new(Arc::new(topic.clone())),
            outcome: Mutex::default(),
            options,
        });
        let lanes: Vec<Lane> =
            topic.partitions.iter().map(|partition| Lane::start(&shared, partition.index)).collect();
        let sticky = pick(cluster, lanes.len());
        Ok(Producer { shared, lanes, sticky })
    }

    /// How many partitions the topic had when this was opened.
    pub fn partition_count(&self) -> usize {
        self.lanes.len()
    }

    /// Adds a record: to `partition`, or to that of its key, or to any. Waits while that partition's queue is full; fails once
    /// any batch has.
    pub async fn send(&mut self, partition: Option<i32>, record: NewRecord<'_>) -> anyhow::Result<()> {
        let count = self.lanes.len();
        let index = match (partition, record.key) {
            (Some(partition), _) => match self.lanes.iter().position(|lane| lane.partition == partition) {
                Some(index) => index,
                None => bail!("topic {} has no partition {partition}, only {count}", self.shared.name),
            },
            (None, Some(key)) => partition_of(key, u32::try_from(count)?) as usize,
            (None, None) => self.sticky,
        };
        let lane = &mut self.lanes[index];
        lane.open.push(record.timestamp, record.key, record.value, record.headers);
        if lane.open.size() as u64 >= self.shared.options.batch_bytes.get() {
            self.close_batch(index).await?;
            self.sticky = pick(&self.shared.cluster, count);
        }
        Ok(())
    }

    /// Hands over what has gathered, full or not.
    pub async fn push(&mut self) -> anyhow::Result<()> {
        for index in 0..self.lanes.len() {
            if self.lanes[index].open.record_count() > 0 {
                self.close_batch(index).await?;
            }
        }
        Ok(())
    }

    /// What has been written so far.
    pub fn written(&self) -> Written {
        self.shared.outcome.lock().written
    }

    /// Writes all that is left and waits for it; fails if any batch has failed.
    pub async fn finish(mut self) -> anyhow::Result<Written> {
        self.push().await?;
        for Lane { queue, .. } in std::mem::take(&mut self.lanes) {
            // The task drops its end when it has taken care of all that was in the queue, and ends.
            let closed = queue.clone();
            drop(queue);
            closed.send(BatchBuilder::new()).await.ok();
            closed.closed().await;
        }
        let outcome = self.shared.outcome.lock();
        match &outcome.failure {
            Some(why) => bail!("{why}"),
            None => Ok(outcome.written),
        }
    }

    async fn close_batch(&mut self, index: usize) -> anyhow::Result<()> {
        let lane = &mut self.lanes[index];
        let sent = lane.queue.send(std::mem::take(&mut lane.open)).await;
        match &self.shared.outcome.lock().failure {
            Some(why) => bail!("{why}"),
            None if sent.is_err() => bail!("stopped"),
            None => Ok(()),
        }
    }
}

fn pick(cluster: &Cluster, count: usize) -> usize {
    (cluster.world().rng.number() % count.max(1) as u64) as usize
}

/// Asks for a producer id that no other has.
pub async fn init_producer_id(cluster: &Cluster) -> anyhow::Result<(ProducerId, ProducerEpoch)> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
    };
    let mut patience = Patience::new(cluster.world(), PATIENCE);
    loop {
        let answer = cluster.any().await?.call(&request).await?;
        match answer.error_code {
            ErrorCode::NONE => {
                return Ok((ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch)));
            }
            error if error.is_retriable() && patience.pause().await => {}
            error => bail!("cannot get a producer id: {error}"),
        }
    }
}

impl Lane {
    fn start(shared: &Arc<Shared>, partition: i32) -> Lane {
        let (queue, mut batches) = mpsc::channel::<BatchBuilder>(shared.options.queue_max);
        let task = {
            let shared = shared.clone();
            async move {
                let mut writer = Writer { shared, partition, sequence: 0 };
                while let Some(batch) = batches.recv().await {
                    // An empty batch is the last.
                    if batch.record_count() == 0 {
                        return writer.see_off().await;
                    }
                    if !writer.write(batch).await {
                        return;
                    }
                }
            }
        };
        let cancelled = shared.cluster.tasks().cancelled().clone();
        shared.cluster.tasks().spawn("producer-partition", async move {
            tokio::select! {
                () = task => {}
                () = cancelled.cancelled() => {}
            }
        });
        Lane { partition, open: BatchBuilder::new(), queue }
    }
}

/// Writes one partition's batches.
struct Writer {
    shared: Arc<Shared>,
    partition: i32,
    sequence: i32,
}

impl Writer {
    /// Whether it is written; if not, the producer has failed.
    async fn write(&mut self, batch: BatchBuilder) -> bool {
        let records = batch.record_count();
        match self.deliver(batch).await {
            Ok(bytes) => {
                self.sequence = next_sequence(self.sequence, records);
                let written = &mut self.shared.outcome.lock().written;
                written.records += u64::from(records);
                written.bytes += bytes;
                true
            }
            Err(error) => {
                let why = format!("{}-{}: {error:#}", self.shared.name, self.partition);
                self.shared.outcome.lock().failure.get_or_insert(why);
                false
            }
        }
    }

    /// With `acks=0` nothing says that a batch has left this process, but an answer to whatever is asked behind it does.
    async fn see_off(&self) {
        if self.shared.options.acks != Acks::Nobody || self.sequence == 0 {
            return;
        }
        let topic = self.shared.topic.lock().clone();
        let leader = topic.partitions.iter().find(|partition| partition.index == self.partition);
        let Some(leader) = leader.and_then(|partition| partition.leader.as_ref()) else { return };
        if let Ok(peer) = self.shared.cluster.at(leader).await
            && let Err(error) = peer.call(&ApiVersionsRequest::default()).await
        {
            tracing::debug!(partition = self.partition, %error, "the last batches may not have left");
        }
    }

    async fn deliver(&self, mut batch: BatchBuilder) -> anyhow::Result<ByteCount> {
        let base_sequence = self.sequence;
        if let Some((id, epoch)) = self.shared.producer {
            batch = batch.with_producer(BatchProducer { id, epoch, base_sequence });
        }
        let bytes = Bytes::from(batch.finish(self.shared.options.compression)?);
        let size = ByteCount(bytes.len() as u64);
        let mut patience = Patience::new(self.shared.cluster.world(), self.shared.options.delivery_timeout);
        loop {
            match self.try_once(&bytes).await {
                Ok(()) => return Ok(size),
                Err(Failure::Transient(why)) if patience.pause().await => {
                    tracing::debug!(topic = %self.shared.name, partition = self.partition, why, "writing again");
                    self.find_leader().await?;
                }
                Err(Failure::Transient(why)) => {
                    bail!("not written within {:?}: {why}", self.shared.options.delivery_timeout)
                }
                Err(Failure::Fatal(why)) => bail!("{why}"),
            }
        }
    }

    async fn try_once(&self, batch: &Bytes) -> Result<(), Failure> {
        let topic = self.shared.topic.lock().clone();
        let leader = topic.partitions.iter().find(|partition| partition.index == self.partition);
        let Some(leader) = leader.and_then(|partition| partition.leader.as_ref()) else {
            return Err(Failure::Transient("the partition has no leader".to_owned()));
        };
        let peer = self.shared.cluster.at(leader).await?;
        let request = self.request(&topic, batch);
        if self.shared.options.acks == Acks::Nobody {
            return Ok(peer.tell(&request).await?);
        }
        let answer = peer.call(&request).await?;
        let ours = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let ours = ours.ok_or_else(|| Failure::Fatal("the answer leaves the partition out".to_owned()))?;
        match ours.error_code {
            // A repeat of what arrived before.
            ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Ok(()),
            error if error.is_retriable() => Err(Failure::from(error)),
            error => Err(Failure::Fatal(explain(error, ours))),
        }
    }

    fn request(&self, topic: &Topic, batch: &Bytes) -> ProduceRequest {
        let options = &self.shared.options;
        let data = PartitionProduceData { index: self.partition, records: batch.clone().into() };
        ProduceRequest {
            transactional_id: None,
            acks: match options.acks {
                Acks::All => -1,
                Acks::Leader => 1,
                Acks::Nobody => 0,
            },
            timeout_ms: i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX),
            topic_data: vec![TopicProduceData {
                name: topic.name.clone(),
                topic_id: topic.id,
                partition_data: vec![data],
            }],
        }
    }

    /// Learns who leads now. A broker that cannot be asked at the moment is asked again after the next try.
    async fn find_leader(&self) -> anyhow::Result<()> {
        match self.shared.cluster.topic(&self.shared.name, false).await {
            Ok(topic) => {
                let known = self.shared.topic.lock().id;
                if topic.id != known {
                    bail!("the topic was deleted and created anew");
                }
                *self.shared.topic.lock() = Arc::new(topic);
            }
            Err(error) => {
                tracing::debug!(topic = %self.shared.name, error = %format!("{error:#}"), "no metadata")
            }
        }
        Ok(())
    }
}

fn explain(error: ErrorCode, answer: &PartitionProduceResponse) -> String {
    let said = answer.error_message.iter().map(|message| message.to_string());
    let records = answer.record_errors.iter().filter_map(|record| {
        let message = record.batch_index_error_message.as_ref()?;
        Some(format!("record {}: {message}", record.batch_index))
    });
    let details: Vec<String> = said.chain(records).collect();
    if details.is_empty() { error.to_string() } else { format!("{error}: {}", details.join("; ")) }
}

/// Sequences run to 2^31 - 1, and 0 comes after.
fn next_sequence(sequence: i32, records: u32) -> i32 {
    let next = i64::from(sequence) + i64::from(records);
    i32::try_from(next % (i64::from(i32::MAX) + 1)).expect("the remainder is below 2^31")
}
