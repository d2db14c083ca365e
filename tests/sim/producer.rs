//! A producer of one partition: idempotent, with a few batches in flight, which it sends again until they are answered.

use std::collections::VecDeque;
use std::time::Duration;

use aquifer_checker::{Event, Number, Offset, Partition, Producer, Records};
use aquifer_model::batch::BatchProducer;
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{ProducerEpoch, ProducerId, Timestamp};
use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::init_producer_id::InitProducerIdRequest;
use aquifer_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use bytes::Bytes;

use crate::client::{Client, pause};
use crate::dice::Dice;
use crate::machine::EPOCH_SECONDS;
use crate::workload::{Topic, Until, World};

/// How long a batch's answer is waited for.
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

struct Batch {
    records: Records,
    bytes: Bytes,
}

/// Writes to a partition until it is over, and until all is answered.
pub(crate) async fn run(world: World, topic: Topic, index: i32, until: Until) {
    let number = world.next_producer();
    let dice = Dice::new(world.seed(), &format!("producer {number}"));
    let partition = topic.partition(index);
    let mut session = Session {
        client: Client::new(world.host()),
        producer: Producer(number),
        id: (ProducerId(-1), ProducerEpoch(-1)),
        partition,
        index,
        topic,
        world,
        dice,
        next: 0,
        window: VecDeque::new(),
        is_broken: false,
        has_begun: false,
    };
    session.begin().await;
    session.write(&until).await;
}

struct Session {
    world: World,
    dice: Dice,
    client: Client,
    topic: Topic,
    index: i32,
    partition: Partition,
    producer: Producer,
    id: (ProducerId, ProducerEpoch),
    next: u64,
    window: VecDeque<Batch>,
    /// The broker said that it has something else.
    is_broken: bool,
    /// A batch was acknowledged.
    has_begun: bool,
}

/// What became of a batch in one try.
enum Told {
    At(i64),
    Later,
    Never(ErrorCode),
}

impl Session {
    async fn begin(&mut self) {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
        };
        loop {
            let answer = self.client.call(&request).await;
            if answer.error_code == ErrorCode::NONE {
                self.id = (ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch));
                return;
            }
            pause().await;
        }
    }

    async fn write(&mut self, until: &Until) {
        loop {
            let is_over = until() || self.is_broken;
            if self.window.is_empty() && is_over {
                return;
            }
            if !is_over {
                if self.window.is_empty() {
                    tokio::time::sleep(self.dice.millis(0..400)).await;
                }
                // The first batch goes alone: while it may still be refused and come again, a broker that does not know the producer
                // takes a later one for its first (KAFKA-14359), and the session is broken.
                let wanted = if self.has_begun { self.dice.within(1..4) as usize } else { 1 };
                while self.window.len() < wanted {
                    self.make_batch();
                }
            }
            if !self.push().await {
                pause().await;
            }
            // Now and then as a client that lost its connection for no reason.
            if self.dice.percent(1) {
                self.client.hang_up();
            }
        }
    }

    fn make_batch(&mut self) {
        let count = self.dice.within(1..8) as u32;
        let records = Records { producer: self.producer, first: Number(self.next), count };
        let mut builder = BatchBuilder::new();
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        let now = Timestamp(EPOCH_SECONDS as i64 * 1000).plus(elapsed);
        // Small ones and, now and then, some of several sectors and several pages.
        let padding = if self.dice.percent(10) { self.dice.below(12_000) } else { self.dice.below(200) };
        for number in self.next..self.next + u64::from(count) {
            let mut value = format!("{} {number} ", self.producer.0).into_bytes();
            value.resize(value.len() + padding as usize, b'x');
            builder.push(now, None, Some(&value), &[]);
        }
        let base_sequence = i32::try_from(self.next).expect("a short session");
        let (id, epoch) = self.id;
        let builder = builder.with_producer(BatchProducer { id, epoch, base_sequence });
        let bytes = Bytes::from(builder.finish(Compression::None).expect("nothing is compressed"));
        self.next += u64::from(count);
        self.world.history().tell(&Event::Sent { partition: self.partition.clone(), records });
        self.window.push_back(Batch { records, bytes });
    }

    /// Sends all that is not answered, in order; false: something is to be sent again later.
    async fn push(&mut self) -> bool {
        let peer = self.client.peer().await;
        let mut answers = Vec::new();
        for batch in &self.window {
            match peer.send(&self.request(batch)).await {
                Ok(answer) => answers.push(answer),
                Err(_) => break,
            }
        }
        for answer in answers {
            let Ok(mut answer) = answer.within(ANSWER_PATIENCE).await else { return false };
            let told = answer.responses.pop().and_then(|mut topic| topic.partition_responses.pop());
            let told = told.expect("the partition that was asked for is answered");
            let records = self.window.front().expect("as many answers as batches").records;
            let partition = self.partition.clone();
            match judge(told.error_code, told.base_offset) {
                Told::At(offset) => {
                    self.window.pop_front();
                    self.has_begun = true;
                    let offset = Offset(offset);
                    self.world.history().tell(&Event::Acked { partition, records, offset });
                }
                Told::Later => return false,
                Told::Never(error) => {
                    let what = format!("{error:?} for {records:?}");
                    self.world.history().tell(&Event::Broken { producer: self.producer, partition, what });
                    self.window.clear();
                    self.is_broken = true;
                    return true;
                }
            }
        }
        true
    }

    fn request(&self, batch: &Batch) -> ProduceRequest {
        let data = PartitionProduceData { index: self.index, records: batch.bytes.clone().into() };
        let topic_data = vec![TopicProduceData {
            name: self.topic.name.clone(),
            topic_id: self.topic.id,
            partition_data: vec![data],
        }];
        ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 30_000, topic_data }
    }
}

fn judge(error: ErrorCode, offset: i64) -> Told {
    match error {
        ErrorCode::NONE => Told::At(offset),
        error if error.is_retriable() => Told::Later,
        error => Told::Never(error),
    }
}
