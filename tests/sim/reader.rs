//! Readers: at the tail, in the past, and the audit at the end.

use aquifer_checker::{Event, Number, Offset, Partition, Producer, Reader as Name, Records, Source};
use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::batches::Batches;
use aquifer_model::record;
use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use aquifer_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use aquifer_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use bytes::Bytes;

use crate::client::{Client, pause};
use crate::dice::Dice;
use crate::workload::{Topic, Until, World};

/// ListOffsets' numbers for landmarks.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;

/// Reads from the start on as records come, until it is over.
pub(crate) async fn tail(world: World, topic: Topic, index: i32, until: Until) {
    let mut reader = Reader::new(&world, &topic, index, "tail", Source::Broker);
    reader.seek(0);
    while !until() {
        reader.fetch(500).await;
    }
}

/// Goes anywhere in the past and reads a while, again and again, until it is over.
pub(crate) async fn wander(world: World, topic: Topic, index: i32, until: Until) {
    let mut reader = Reader::new(&world, &topic, index, "wanderer", Source::Broker);
    while !until() {
        let (start, end) = reader.bounds().await;
        let span = u64::try_from(end - start).unwrap_or(0);
        let from = start + reader.dice.below(span + 1) as i64;
        reader.seek(from);
        for _ in 0..reader.dice.within(1..6) {
            reader.fetch(200).await;
        }
        tokio::time::sleep(reader.dice.millis(0..1_500)).await;
    }
}

/// Reads all that there is, and says so.
pub(crate) async fn audit(world: &World, topic: &Topic, index: i32) {
    let mut reader = Reader::new(world, topic, index, "audit", Source::Audit);
    let (start, end) = reader.bounds().await;
    reader.seek(start);
    while reader.position < end {
        reader.fetch(500).await;
    }
    // Retention may have been at work meanwhile.
    let start = reader.landmark(EARLIEST).await;
    let (partition, log_start, end) = (reader.partition.clone(), Offset(start), Offset(end.max(start)));
    world.history().tell(&Event::Audited { partition, log_start, end });
}

/// Has a log begin further on, now and then, until it is over.
pub(crate) async fn shorten(world: World, topic: Topic, index: i32, until: Until) {
    let mut reader = Reader::new(&world, &topic, index, "shortener", Source::Broker);
    loop {
        tokio::time::sleep(reader.dice.millis(1_000..10_000)).await;
        // Not before the sleep: what an audit has seen the log begin at must stay so.
        if until() {
            return;
        }
        let (start, end) = reader.bounds().await;
        let span = u64::try_from(end - start).unwrap_or(0);
        let offset = start + reader.dice.below(span + 1) as i64;
        let wanted = DeleteRecordsPartition { partition_index: index, offset };
        let topics = vec![DeleteRecordsTopic { name: topic.name.clone(), partitions: vec![wanted] }];
        let mut answer = reader.client.call(&DeleteRecordsRequest { topics, timeout_ms: 30_000 }).await;
        let told = answer.topics.pop().and_then(|mut topic| topic.partitions.pop());
        let told = told.expect("the partition that was asked for is answered");
        match told.error_code {
            ErrorCode::NONE => reader.marks(Some(told.low_watermark), None),
            // Retention may have been quicker.
            error if error.is_retriable() || error == ErrorCode::OFFSET_OUT_OF_RANGE => {}
            error => world.history().broken(format!("{}: {error:?}", reader.name.0)),
        }
    }
}

struct Reader {
    world: World,
    dice: Dice,
    client: Client,
    topic: Topic,
    index: i32,
    partition: Partition,
    name: Name,
    source: Source,
    position: i64,
}

impl Reader {
    fn new(world: &World, topic: &Topic, index: i32, kind: &str, source: Source) -> Reader {
        let partition = topic.partition(index);
        let name = format!("{kind} of {partition}");
        Reader {
            world: world.clone(),
            dice: Dice::new(world.seed(), &name),
            client: Client::new(world.host()),
            topic: topic.clone(),
            index,
            partition,
            name: Name(name),
            source,
            position: 0,
        }
    }

    fn seek(&mut self, offset: i64) {
        self.position = offset;
        let (reader, partition) = (self.name.clone(), self.partition.clone());
        self.world.history().tell(&Event::Seek { reader, partition, offset: Offset(offset) });
    }

    fn marks(&self, log_start: Option<i64>, high_watermark: Option<i64>) {
        let (reader, partition) = (self.name.clone(), self.partition.clone());
        let (log_start, high_watermark) = (log_start.map(Offset), high_watermark.map(Offset));
        self.world.history().tell(&Event::Marks { reader, partition, log_start, high_watermark });
    }

    /// Where the log starts and ends.
    async fn bounds(&mut self) -> (i64, i64) {
        let start = self.landmark(EARLIEST).await;
        self.marks(Some(start), None);
        let end = self.landmark(LATEST).await;
        self.marks(None, Some(end));
        (start, end)
    }

    async fn landmark(&mut self, timestamp: i64) -> i64 {
        loop {
            let wanted =
                ListOffsetsPartition { partition_index: self.index, timestamp, ..Default::default() };
            let topics = vec![ListOffsetsTopic { name: self.topic.name.clone(), partitions: vec![wanted] }];
            let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
            let mut answer = self.client.call(&request).await;
            let told = answer.topics.pop().and_then(|mut topic| topic.partitions.pop());
            let told = told.expect("the partition that was asked for is answered");
            match told.error_code {
                ErrorCode::NONE => return told.offset,
                error if error.is_retriable() => pause().await,
                error => {
                    self.world.history().broken(format!("{}: landmark {timestamp}: {error:?}", self.name.0));
                    pause().await;
                }
            }
        }
    }

    /// Reads on, if there is something.
    async fn fetch(&mut self, max_wait_ms: i32) {
        let wanted = FetchPartition {
            partition: self.index,
            fetch_offset: self.position,
            partition_max_bytes: 1 << self.dice.within(10..20),
            ..Default::default()
        };
        let topic =
            FetchTopic { topic: self.topic.name.clone(), topic_id: self.topic.id, partitions: vec![wanted] };
        let request = FetchRequest { max_wait_ms, min_bytes: 1, topics: vec![topic], ..Default::default() };
        let mut answer = self.client.call(&request).await;
        if !answer.error_code.is_none() {
            return pause().await;
        }
        let told = answer.responses.pop().and_then(|mut topic| topic.partitions.pop());
        let told = told.expect("the partition that was asked for is answered");
        let known = |offset: i64| (offset >= 0).then_some(offset);
        match told.error_code {
            ErrorCode::NONE => {
                self.read(&told.records.into_bytes());
                self.marks(known(told.log_start_offset), known(told.high_watermark));
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let (reader, partition) = (self.name.clone(), self.partition.clone());
                let offset = Offset(self.position);
                self.world.history().tell(&Event::Denied { reader, partition, offset });
                let (start, _) = self.bounds().await;
                self.seek(start);
                pause().await;
            }
            error if error.is_retriable() => pause().await,
            error => {
                self.world.history().broken(format!("{}: fetch: {error:?}", self.name.0));
                pause().await;
            }
        }
    }

    fn read(&mut self, bytes: &Bytes) {
        for located in Batches::new(bytes) {
            let whole = bytes.slice(located.position..located.position + located.header.size());
            if let Err(error) = located.header.verify(&whole) {
                self.foreign(located.header.base_offset.get(), format!("a damaged batch: {error}"));
                continue;
            }
            let body = whole.slice(HEADER_BYTES..);
            let records = record::read(&located.header, &body).expect("its checksum fits");
            let mut run: Option<(i64, Records)> = None;
            for record in records {
                let offset = record.offset.get();
                if offset < self.position {
                    continue;
                }
                let value = record.value.unwrap_or_default();
                let Some((producer, number)) = parse(&value) else {
                    self.foreign(offset, format!("{:?}", &value[..value.len().min(40)]));
                    continue;
                };
                match &mut run {
                    Some((first, records))
                        if records.producer == producer
                            && number == records.first.0 + u64::from(records.count)
                            && offset == *first + i64::from(records.count) =>
                    {
                        records.count += 1;
                    }
                    _ => {
                        let new = (offset, Records { producer, first: Number(number), count: 1 });
                        if let Some(run) = run.replace(new) {
                            self.note(run);
                        }
                    }
                }
            }
            if let Some(run) = run {
                self.note(run);
            }
        }
    }

    fn note(&mut self, (offset, records): (i64, Records)) {
        self.position = offset + i64::from(records.count);
        let (reader, partition) = (self.name.clone(), self.partition.clone());
        let (offset, source) = (Offset(offset), self.source);
        self.world.history().tell(&Event::Read { reader, partition, offset, records, source });
    }

    fn foreign(&mut self, offset: i64, what: String) {
        self.position = offset + 1;
        let (reader, partition) = (self.name.clone(), self.partition.clone());
        self.world.history().tell(&Event::Foreign { reader, partition, offset: Offset(offset), what });
    }
}

fn parse(value: &[u8]) -> Option<(Producer, u64)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut words = text.split(' ');
    let producer = words.next()?.parse().ok()?;
    Some((Producer(producer), words.next()?.parse().ok()?))
}
