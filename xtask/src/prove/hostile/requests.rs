//! Attacks by requests that are well-formed, and too many, too large, or never to be answered.

use super::super::TOPIC;
use super::ground::{Attacker, framed};
use aquifer_model::batch::{BatchProducer, NewBatch};
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{ProducerEpoch, ProducerId, Timestamp};
use aquifer_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use aquifer_protocol::messages::delete_topics::DeleteTopicsRequest;
use aquifer_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use aquifer_protocol::messages::init_producer_id::InitProducerIdRequest;
use aquifer_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use aquifer_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use aquifer_protocol::{Records, Str};
use bytes::Bytes;
use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const CODECS: [Compression; 4] =
    [Compression::Zstd, Compression::Gzip, Compression::Lz4, Compression::Snappy];
/// What comes before the first block of snappy as Java's library frames it.
const SNAPPY_HEAD_BYTES: usize = 16;
/// Nobody writes to it.
const EMPTY: &str = "empty";
/// The last version of Fetch, and of Produce, in which topics have names.
const FETCH: i16 = 12;
const PRODUCE: i16 = 12;

/// Arrays: one that announces more than there is, and requests full of the smallest elements.
pub(super) fn arrays(attacker: &Attacker<'_>) {
    let setting = CreatableTopicConfig { name: Str::EMPTY, value: None };
    let settings = CreateTopicsRequest {
        topics: (0..20)
            .map(|at| CreatableTopic {
                name: Str::from(format!("arrays-{at}")),
                num_partitions: 1,
                replication_factor: 1,
                configs: vec![setting.clone(); 200_000],
                ..CreatableTopic::default()
            })
            .collect(),
        timeout_ms: 1000,
        validate_only: true,
    };
    let name =
        |at: usize| MetadataRequestTopic { name: Some(Str::from(format!("n{at}"))), ..Default::default() };
    let names = MetadataRequest {
        topics: Some((0..200_000).map(name).collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    // Metadata, version 1, with an array of 2^31 - 1 topics and nothing behind.
    let endless: &[u8] = &[0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff];
    let (settings, names) = (framed(&settings, 7), framed(&names, 12));
    let mut turn = 0;
    while attacker.goes_on_after(Duration::from_millis(700)) {
        let bytes = [endless, &settings, &names][turn % 3];
        turn += 1;
        if let Some(mut stream) = attacker.connect()
            && attacker.send(&mut stream, bytes)
        {
            attacker.sip(&mut stream, 4096);
        }
    }
}

/// Batches that are small, and very large once they are expanded: to a topic that has them expanded.
pub(super) fn bombs(attacker: &Attacker<'_>) {
    const BOMBS: &str = "bombs";
    let validating =
        CreatableTopicConfig { name: Str::from("record.validation"), value: Some(Str::from("full")) };
    let bombs = CODECS.map(bomb);
    let mut turn = 0;
    let mut stream = None;
    while attacker.goes_on_after(Duration::from_millis(1000)) {
        let Some(open) = stream.as_mut() else {
            stream = attacker.connect();
            if let Some(open) = stream.as_mut() {
                make(attacker, open, BOMBS, 1, vec![validating.clone()]);
            }
            continue;
        };
        let request = produce(BOMBS, bombs[turn % bombs.len()].clone());
        turn += 1;
        match attacker.ask(open, &request, PRODUCE) {
            Some(answer) if answer.responses[0].partition_responses[0].error_code.is_none() => {}
            Some(_) => attacker.rebuff(),
            None => stream = None,
        }
    }
}

/// Topics without end, by request and on first use; once there may be no more, old ones go and new ones come.
pub(super) fn topics(attacker: &Attacker<'_>) {
    let mut made = VecDeque::new();
    let (mut number, mut stream) = (0, None);
    while attacker.goes_on_after(Duration::from_millis(20)) {
        let Some(open) = stream.as_mut() else {
            stream = attacker.connect();
            continue;
        };
        number += 1;
        let name = format!("flood-{number}");
        let done = if number % 4 == 0 {
            let by_name = MetadataRequestTopic { name: Some(Str::from(name.as_str())), ..Default::default() };
            let wanted = MetadataRequest { topics: Some(vec![by_name]), ..MetadataRequest::default() };
            attacker.ask(open, &wanted, 12).map(|answer| answer.topics[0].error_code.is_none())
        } else {
            make(attacker, open, &name, 10, Vec::new())
        };
        match done {
            Some(true) => made.push_back(name),
            Some(false) => {
                attacker.rebuff();
                let names = made.drain(..made.len().min(20)).map(Str::from).collect();
                let old = DeleteTopicsRequest { topic_names: names, timeout_ms: 1000, ..Default::default() };
                attacker.ask(open, &old, 5);
            }
            None => stream = None,
        }
    }
}

/// Fetch sessions, each of many partitions that do not exist.
pub(super) fn sessions(attacker: &Attacker<'_>) {
    let (mut number, mut stream) = (0, None);
    while attacker.goes_on_after(Duration::from_millis(50)) {
        let Some(open) = stream.as_mut() else {
            stream = attacker.connect();
            continue;
        };
        number += 1;
        let partitions = (0..500).map(|at| wanted(at, 1)).collect();
        let topic = Str::from(format!("session-{number}"));
        let request = FetchRequest {
            session_epoch: 0,
            topics: vec![FetchTopic { topic, partitions, ..FetchTopic::default() }],
            ..FetchRequest::default()
        };
        match attacker.ask(open, &request, FETCH) {
            // Served without a session.
            Some(answer) if answer.session_id == 0 => attacker.rebuff(),
            Some(_) => {}
            None => stream = None,
        }
    }
}

/// Producers' ids without end, and a batch by each, to a topic of its own.
pub(super) fn producers(attacker: &Attacker<'_>) {
    const IDS: &str = "ids";
    let mut stream = None;
    while attacker.goes_on_after(Duration::from_millis(10)) {
        let Some(open) = stream.as_mut() else {
            stream = attacker.connect();
            if let Some(open) = stream.as_mut() {
                make(attacker, open, IDS, 1, Vec::new());
            }
            continue;
        };
        let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
        let Some(given) = attacker.ask(open, &request, 4) else {
            stream = None;
            continue;
        };
        // A few more that nobody gave out.
        for id in [given.producer_id, given.producer_id + (1 << 40), given.producer_id + (1 << 41)] {
            if attacker.ask(open, &produce(IDS, batch(id, b"x")), PRODUCE).is_none() {
                stream = None;
                break;
            }
        }
    }
}

/// Requests one behind the other, for much, and no answer is ever read.
pub(super) fn deaf(attacker: &Attacker<'_>) {
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let requests = [framed(&read(TOPIC, 1), FETCH), framed(&all, 12)].concat().repeat(50);
    hold(attacker, 60, Duration::from_millis(500), |stream| {
        attacker.send(stream, &requests);
    });
}

/// Large answers that are read a little at a time.
pub(super) fn sips(attacker: &Attacker<'_>) {
    let request = framed(&read(TOPIC, 1), FETCH);
    let mut streams: Vec<TcpStream> = Vec::new();
    while attacker.goes_on_after(Duration::from_millis(300)) {
        if streams.len() < 16
            && let Some(mut stream) = attacker.connect()
            && attacker.send(&mut stream, &request)
        {
            streams.push(stream);
        }
        streams.retain_mut(|stream| attacker.sip(stream, 512).is_some());
    }
}

/// Fetches that wait for ever, by clients of which most are soon gone.
pub(super) fn polls(attacker: &Attacker<'_>) {
    if let Some(mut stream) = attacker.connect() {
        make(attacker, &mut stream, EMPTY, 1, Vec::new());
    }
    let request = framed(&read(EMPTY, i32::MAX), FETCH);
    hold(attacker, 400, Duration::from_millis(20), |stream| {
        attacker.send(stream, &request);
    });
}

/// Holds so many connections, on each of which something was begun; the oldest makes way.
fn hold(attacker: &Attacker<'_>, most: usize, pause: Duration, begin: impl Fn(&mut TcpStream)) {
    let mut held = VecDeque::new();
    while attacker.goes_on_after(pause) {
        if let Some(mut stream) = attacker.connect() {
            begin(&mut stream);
            held.push_back(stream);
        }
        if held.len() > most {
            held.pop_front();
        }
    }
}

/// Whether the topic was made; `None` without an answer.
fn make(
    attacker: &Attacker<'_>,
    stream: &mut TcpStream,
    name: &str,
    partitions: i32,
    configs: Vec<CreatableTopicConfig>,
) -> Option<bool> {
    let topic = CreatableTopic {
        name: Str::from(name),
        num_partitions: partitions,
        replication_factor: 1,
        configs,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false };
    attacker.ask(stream, &request, 5).map(|answer| answer.topics[0].error_code.is_none())
}

/// A read from a topic's start, of as much as there is, that waits for as long for as much.
fn read(topic: &str, wait: i32) -> FetchRequest {
    let topic = Str::from(topic);
    FetchRequest {
        max_wait_ms: wait,
        min_bytes: wait,
        topics: vec![FetchTopic { topic, partitions: vec![wanted(0, 50 << 20)], ..FetchTopic::default() }],
        ..FetchRequest::default()
    }
}

fn wanted(partition: i32, partition_max_bytes: i32) -> FetchPartition {
    FetchPartition { partition, fetch_offset: 0, partition_max_bytes, ..FetchPartition::default() }
}

fn produce(topic: &str, batch: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index: 0, records: Records::from(batch) };
    ProduceRequest {
        acks: 1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: Str::from(topic),
            partition_data: vec![partition],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// A batch with a header as it should be, and 200 MiB of zeros where records should be: what is written once, time and again.
fn bomb(codec: Compression) -> Bytes {
    const PIECE: usize = 4 << 20;
    const PIECES: usize = 50;
    let piece = codec.compress(&vec![0; PIECE]).expect("zeros can be compressed");
    // Snappy's blocks have one head for all.
    let head = if codec == Compression::Snappy { SNAPPY_HEAD_BYTES } else { 0 };
    let packed = [&piece[..head], &piece[head..].repeat(PIECES)].concat();
    let header = NewBatch {
        compression: codec,
        transactional: false,
        control: false,
        base_timestamp: now(),
        max_timestamp: now(),
        producer: None,
        record_count: 1,
    }
    .header(&packed);
    [&header.to_bytes()[..], &packed].concat().into()
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// A batch of one record.
fn batch(producer: i64, value: &[u8]) -> Bytes {
    let producer = BatchProducer { id: ProducerId(producer), epoch: ProducerEpoch(0), base_sequence: 0 };
    let mut batch = BatchBuilder::new().with_producer(producer);
    batch.push(now(), None, Some(value), &[]);
    batch.finish(Compression::None).expect("nothing is compressed").into()
}
