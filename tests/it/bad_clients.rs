//! Clients that speak something else, or nothing sensible at all. Each costs its own connection and nothing more: the broker
//! says what it saw, goes on serving the others, and does not grow.

use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use aquifer_protocol::messages::create_topics::CreateTopicsRequest;
use aquifer_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use aquifer_protocol::messages::delete_topics::DeleteTopicsRequest;
use aquifer_protocol::messages::describe_cluster::DescribeClusterRequest;
use aquifer_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use aquifer_protocol::messages::fetch::FetchRequest;
use aquifer_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use aquifer_protocol::messages::init_producer_id::InitProducerIdRequest;
use aquifer_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use aquifer_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use aquifer_protocol::{ApiKey, Request, Str, VersionRange, frame};
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::api_versions::{framed, request_bytes};
use crate::batches::{Dice, batch, batch_of_bytes, sequenced, values_of};
use crate::client::{
    Client, Topic, creatable, eventually, fetch_request, list_request, produce_request, wanted,
};
use crate::node::Home;
use crate::process::BrokerProcess;

/// How much the broker may grow over a flood of nonsense: what the allocator keeps, and no more.
const GROWTH_MAX: u64 = 48 << 20;

/// A client that does everything right, to see that it is served.
struct Witness {
    client: Client,
    topic: Topic,
    written: Vec<String>,
}

impl Witness {
    async fn new(broker: &BrokerProcess) -> Witness {
        let mut client = broker.client().await;
        let topic = client.create("witness", 1, &[]).await;
        Witness { client, topic, written: Vec::new() }
    }

    /// Writes on the connection that it has had all along, and reads all on a new one.
    async fn is_served(&mut self, broker: &BrokerProcess, after: &str) {
        self.can_write(after).await;
        let read = broker.client().await.fetch(&self.topic, 0, 0).await.records;
        assert_eq!(values_of(&read), self.written, "{after}");
    }

    async fn can_write(&mut self, after: &str) {
        let value = format!("{}: {after}", self.written.len());
        let offset = self.client.append(&self.topic, 0, &batch(&[&value])).await;
        assert_eq!(offset, self.written.len() as i64, "{after}");
        self.written.push(value);
    }
}

fn home() -> Home {
    Home::new(&["auto.create.topics.enable=false"])
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_and_impossible_frames_cost_their_connection_alone() {
    let home = home();
    let mut broker = BrokerProcess::start(&home).await;
    let mut witness = Witness::new(&broker).await;
    let metadata =
        |version: i16, body: &[u8]| request_bytes(ApiKey::Metadata.code(), version, 1, body).to_vec();
    let hello = [&[0x16, 0x03, 0x01, 0x00, 0x2f, 0x01, 0x00, 0x00, 0x2b, 0x03, 0x03][..], &[7; 32]].concat();
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("HTTP", b"GET /metrics HTTP/1.1\r\nHost: aquifer\r\n\r\n".to_vec(), "Http"),
        ("HTTP POST", b"POST / HTTP/1.1\r\n\r\n".to_vec(), "Http"),
        ("TLS", hello, "Tls"),
        ("a frame of 2 GB", [&i32::MAX.to_be_bytes()[..], &[0; 20]].concat(), "2147483647"),
        ("a frame of less than nothing", [&(-5_i32).to_be_bytes()[..], &[0; 20]].concat(), "-5"),
        ("a frame of nothing", framed(b"").to_vec(), "request cannot be read"),
        ("a frame of one byte", framed(&[0]).to_vec(), "request cannot be read"),
        ("two billion topics", metadata(1, &[0x77, 0x35, 0x94, 0x00, 0, 0]), "MetadataRequest"),
        ("two billion topics, compact", metadata(9, &[0x81, 0xa8, 0xd6, 0xb9, 0x07, 0]), "MetadataRequest"),
        ("nothing of a body", metadata(1, &[]), "MetadataRequest"),
    ];
    let before = broker.process.resident_bytes();
    for (what, bytes, word) in cases {
        let mut client = broker.client().await;
        client.send_bytes(bytes).await;
        client.expect_closed(what).await;
        let line = broker.process.says(word).await;
        assert!(line.contains("WARN") && line.contains("127.0.0.1"), "{what}: {line}");
        witness.is_served(&broker, what).await;
    }
    // Again and again: a claim costs what arrives, not what is claimed.
    for _ in 0..100 {
        for (what, bytes, _) in cases {
            let mut client = broker.client().await;
            client.send_bytes(bytes).await;
            client.expect_closed(what).await;
        }
    }
    let growth = broker.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "grew by {growth} bytes");
    witness.is_served(&broker, "all of it a hundred times").await;
    broker.process.signal("TERM");
    assert_eq!(broker.process.ended("SIGTERM").await.code, Some(0));
}

/// Requests announced and never sent hold no memory, and no place that others need.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_never_come_hold_nothing() {
    let home = home();
    let broker = BrokerProcess::start(&home).await;
    let mut witness = Witness::new(&broker).await;
    let before = broker.process.resident_bytes();
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut client = broker.client().await;
        // Just below what is allowed, so that it is waited for.
        let announced = (100 << 20) - 1_i32;
        client.send_bytes(&[&announced.to_be_bytes()[..], &[0, 0, 0, 9]].concat()).await;
        idle.push(client);
    }
    witness.is_served(&broker, "twenty times 100 MB announced").await;
    let growth = broker.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "grew by {growth} bytes");
    drop(idle);
    witness.is_served(&broker, "the end of those").await;
}

/// Clients that ask for much and never read their answers hold what their sockets hold, and a bounded part of the broker. Whoever
/// reads is served nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_are_bounded() {
    let mut home = home();
    home.set(&["queued.max.response.bytes=16777216"]);
    let mut broker = BrokerProcess::start(&home).await;
    let mut witness = Witness::new(&broker).await;
    let mut client = broker.client().await;
    let topic = client.create("much", 1, &[]).await;
    let batch = batch_of_bytes(500_000);
    for _ in 0..32 {
        client.append(&topic, 0, &batch).await;
    }
    let before = broker.process.resident_bytes();
    let mut asked = wanted(&topic, 0, 0);
    asked.partitions[0].partition_max_bytes = i32::MAX;
    // They go on asking while there is no room for them.
    let request = FetchRequest { max_wait_ms: 1500, ..fetch_request(vec![asked]) };
    let mut deaf = Vec::new();
    let mut come = async |count| {
        for _ in 0..count {
            let mut client = broker.client().await;
            for _ in 0..40 {
                client.send(12, &request).await;
            }
            deaf.push(client);
        }
    };
    come(30).await;
    witness.is_served(&broker, "thirty who do not read").await;
    // More than there are places for: some of them have to go.
    come(50).await;
    witness.can_write("eighty who do not read").await;
    eventually("who reads is served", async || {
        let read = broker.client().await.fetch(&witness.topic, 0, 0).await.records;
        (values_of(&read) == witness.written).then_some(())
    })
    .await;
    broker.process.says("took its answer too slowly").await;
    let growth = broker.process.resident_bytes().saturating_sub(before);
    assert!(growth < (16 << 20) + GROWTH_MAX, "grew by {growth} bytes");
    drop(deaf);
    witness.is_served(&broker, "their end").await;
}

/// A connection that ends in the middle of a request leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn requests_cut_off_anywhere_are_forgotten() {
    let home = home();
    let broker = BrokerProcess::start(&home).await;
    let mut witness = Witness::new(&broker).await;
    let topic = broker.client().await.create("cut", 1, &[]).await;
    let whole = encoded(9, &produce_request(&topic, 0, -1, batch(&["cut off"])));
    for length in 0..whole.len() {
        broker.client().await.send_bytes(&whole[..length]).await;
    }
    witness.is_served(&broker, "requests cut off").await;
    assert_eq!(witness.client.end(&topic, 0).await, 0);
}

/// Requests of every API, mangled in every way that comes to mind. The broker answers or closes the connection; nobody else
/// notices.
#[tokio::test(flavor = "multi_thread")]
async fn mangled_requests_harm_nobody() {
    const ROUNDS: u64 = 4000;
    const WARM: u64 = 1000;
    let home = home();
    let broker = BrokerProcess::start(&home).await;
    let mut witness = Witness::new(&broker).await;
    let topic = broker.client().await.create("victim", 2, &[]).await;
    let seeds = seeds(&topic);
    let mut dice = Dice::new(0x5eed);
    let mut before = 0;
    for round in 0..ROUNDS {
        let seed = &seeds[dice.below(seeds.len())];
        let mangled = mangle(seed, &mut dice);
        let mut client = broker.client().await;
        // The connection may be closed before all is written.
        if client.try_send_bytes(&mangled).await.is_ok() {
            // Whatever comes, comes soon, or is waited for in vain: the frame says that it is longer than it is.
            client.drain().await;
        }
        if round % 100 == 0 {
            witness.is_served(&broker, &format!("round {round}")).await;
        }
        if round == WARM {
            before = broker.process.resident_bytes();
        }
    }
    let growth = broker.process.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "grew by {growth} bytes in {} rounds", ROUNDS - WARM);
    witness.is_served(&broker, "the last round").await;
    let log = broker.process.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    broker.process.signal("TERM");
    assert_eq!(broker.process.ended("SIGTERM").await.code, Some(0));
}

/// Bytes without any sense, on many connections at a time.
#[tokio::test(flavor = "multi_thread")]
async fn noise_harms_nobody() {
    let home = home();
    let broker = BrokerProcess::start(&home).await;
    let mut witness = Witness::new(&broker).await;
    let mut dice = Dice::new(0xd1ce);
    for _ in 0..20 {
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = broker.client().await;
            let noise: Vec<u8> = (0..dice.below(2000)).map(|_| dice.below(256) as u8).collect();
            let framed = if dice.below(2) == 0 { framed(&noise).to_vec() } else { noise };
            let _ = client.try_send_bytes(&framed).await;
            clients.push(client);
        }
        witness.is_served(&broker, "noise").await;
    }
    eventually("all is quiet", async || {
        let log = broker.process.log();
        assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
        Some(())
    })
    .await;
}

/// Does a few things to a frame that a client would not.
fn mangle(frame: &Bytes, dice: &mut Dice) -> BytesMut {
    let mut body = frame[4..].to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(body.len());
        match dice.below(8) {
            0 if !body.is_empty() => body[at] ^= 1 << dice.below(8),
            1 if !body.is_empty() => body[at] = [0, 0x7f, 0x80, 0xff][dice.below(4)],
            2 => body.truncate(at),
            3 => body.insert(at, dice.below(256) as u8),
            4 if !body.is_empty() => drop(body.remove(at)),
            5 => {
                // A length or a count where none was, or another one.
                let number = [0, 1, -1, i32::MAX, i32::MIN, 0x0100_0000][dice.below(6)];
                for (byte, other) in body[at..].iter_mut().zip(number.to_be_bytes()) {
                    *byte = other;
                }
            }
            6 => {
                let slice = body[at..(at + dice.below(40)).min(body.len())].to_vec();
                body.splice(at..at, slice);
            }
            7 if body.len() > 4 => body[2 + dice.below(2)] = dice.below(20) as u8,
            _ => {}
        }
    }
    match dice.below(10) {
        // The length says something else than there is.
        0 => {
            let mut lying = framed(&body);
            lying[..4].copy_from_slice(&(body.len() as i32 + dice.below(64) as i32 - 32).to_be_bytes());
            lying
        }
        1 => {
            let mut twice = framed(&body);
            twice.put_slice(&framed(&body));
            twice
        }
        _ => framed(&body),
    }
}

fn encoded<R: Request>(version: i16, request: &R) -> Bytes {
    let frame = frame::encode_request(request, version, 7, Some(Str::from_static("it")));
    frame.expect("a sound request").into_bytes()
}

/// Sound requests to begin with, in every version.
fn seeds(topic: &Topic) -> Vec<Bytes> {
    let mut seeds = Vec::new();
    let mut add = |frame: Bytes| seeds.push(frame);
    let name = topic.name.clone();
    for version in versions::<ApiVersionsRequest>(0) {
        let request = ApiVersionsRequest {
            client_software_name: Str::from("it"),
            client_software_version: Str::from("1"),
        };
        add(encoded(version, &request));
    }
    for version in versions::<MetadataRequest>(0) {
        let topics = vec![MetadataRequestTopic { name: Some(name.clone()), ..Default::default() }];
        add(encoded(version, &MetadataRequest { topics: Some(topics), ..Default::default() }));
    }
    for version in 3..=13 {
        add(encoded(version, &produce_request(topic, 0, -1, batch(&["a", "b"]))));
        add(encoded(version, &produce_request(topic, 1, 1, sequenced((7, 0), 0, 2))));
    }
    for version in versions::<aquifer_protocol::messages::fetch::FetchRequest>(4) {
        add(encoded(version, &fetch_request(vec![wanted(topic, 0, 0), wanted(topic, 1, 0)])));
    }
    for version in 1..=11 {
        add(encoded(version, &list_request(topic, 0, -1)));
    }
    for version in 2..=4 {
        let partitions = vec![OffsetForLeaderPartition { leader_epoch: 0, ..Default::default() }];
        let topics = vec![OffsetForLeaderTopic { topic: name.clone(), partitions }];
        add(encoded(version, &OffsetForLeaderEpochRequest { replica_id: -1, topics }));
    }
    for version in 2..=7 {
        let topics = vec![creatable("created", 1, &[("retention.ms", "1000")])];
        add(encoded(version, &CreateTopicsRequest { topics, validate_only: true, ..Default::default() }));
    }
    for version in 1..=5 {
        let request =
            DeleteTopicsRequest { topic_names: vec![Str::from("none")], timeout_ms: 1, ..Default::default() };
        add(encoded(version, &request));
    }
    for version in 0..=2 {
        let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: 0 }];
        let topics = vec![DeleteRecordsTopic { name: name.clone(), partitions }];
        add(encoded(version, &DeleteRecordsRequest { topics, timeout_ms: 1 }));
    }
    for version in 0..=3 {
        let topics = vec![CreatePartitionsTopic { name: name.clone(), count: 3, assignments: None }];
        add(encoded(version, &CreatePartitionsRequest { topics, timeout_ms: 1, validate_only: true }));
    }
    for version in 1..=4 {
        let resource = DescribeConfigsResource {
            resource_type: 2,
            resource_name: name.clone(),
            configuration_keys: None,
        };
        add(encoded(version, &DescribeConfigsRequest { resources: vec![resource], ..Default::default() }));
    }
    for version in 0..=1 {
        let config = AlterableConfig {
            name: Str::from("retention.ms"),
            config_operation: 0,
            value: Some(Str::from("-1")),
        };
        let resource =
            AlterConfigsResource { resource_type: 2, resource_name: name.clone(), configs: vec![config] };
        add(encoded(
            version,
            &IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false },
        ));
    }
    for version in 0..=5 {
        add(encoded(
            version,
            &InitProducerIdRequest {
                transaction_timeout_ms: 1,
                producer_id: -1,
                producer_epoch: -1,
                transactional_id: None,
            },
        ));
    }
    for version in 0..=2 {
        add(encoded(version, &DescribeClusterRequest::default()));
    }
    seeds
}

fn versions<R: Request>(min: i16) -> impl Iterator<Item = i16> {
    let VersionRange { max, .. } = R::VERSIONS;
    min..=max
}
