//! The client against a broker in this process, over real sockets, and over sockets that are cut.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, Offset, Timestamp, TopicName};
use aquifer_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use aquifer_runtime::World;
use aquifer_runtime::sockets::{self, Stream};
use aquifer_runtime::tasks::TaskGroup;
use clap::CommandFactory as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::cluster::Cluster;
use super::consume::records_of;
use super::consumer::{Consumer, ConsumerOptions, LATEST, Start, Stop};
use super::places::places;
use super::producer::{Acks, NewRecord, Producer, ProducerOptions};
use crate::broker::Broker;
use crate::config::{Config, Endpoint, Sources};
use crate::net::{Peer, PeerOptions};

#[test]
fn the_tree_of_commands_is_sound() {
    super::Cli::command().debug_assert();
}

/// A broker without a tier, and a client of it.
struct Rig {
    broker: Broker,
    world: World,
    tasks: TaskGroup,
    /// Goes last.
    _folder: TempDir,
}

const STOP: Duration = Duration::from_secs(10);

impl Rig {
    async fn start(settings: &[&str]) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let dir = format!("log.dirs={}", folder.path().display());
        let own = [dir.as_str(), "listeners=PLAINTEXT://127.0.0.1:0", "admin.listen="];
        let sets = own.iter().chain(settings).map(|set| (*set).to_owned()).collect();
        let config = Config::load(Sources { sets, ..Sources::default() }).unwrap();
        let world = World::system();
        let broker = Broker::start(config, world.clone()).await.unwrap();
        Rig { broker, world, tasks: TaskGroup::new(), _folder: folder }
    }

    fn address(&self) -> SocketAddr {
        self.broker.addresses()[0]
    }

    fn cluster(&self, address: SocketAddr) -> Cluster {
        Cluster::new(&self.world, &self.tasks, vec![endpoint(address)], PeerOptions::default())
    }

    async fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicName {
        let config = |(key, value): &(&str, &str)| CreatableTopicConfig {
            name: (*key).into(),
            value: Some((*value).into()),
        };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: -1,
            assignments: Vec::new(),
            configs: configs.iter().map(config).collect(),
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
        let answer = self.cluster(self.address()).any().await.unwrap().call(&request).await.unwrap();
        assert!(answer.topics[0].error_code.is_none(), "{answer:?}");
        TopicName::new(name).unwrap()
    }

    async fn stop(self) {
        self.tasks.stop(STOP).await.unwrap();
        assert_eq!(self.tasks.failure(), None);
        self.broker.stop().await.unwrap();
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { host: address.ip().to_string(), port: address.port() }
}

/// Writes `count` records, numbered from `from`, to `key`'s partitions.
async fn write(
    cluster: &Cluster,
    topic: &TopicName,
    numbers: std::ops::Range<u64>,
    options: ProducerOptions,
) {
    let mut producer = Producer::open(cluster, topic, options).await.unwrap();
    let count = numbers.end - numbers.start;
    for number in numbers {
        let (key, value) = (format!("key-{}", number % 10), number.to_string());
        let record = NewRecord {
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: &[(b"source", Some(b"test"))],
            timestamp: Timestamp(1_700_000_000_000 + i64::try_from(number).unwrap()),
        };
        producer.send(None, record).await.unwrap();
    }
    assert_eq!(producer.finish().await.unwrap().records, count);
}

/// All numbers of the topic by key, in the order of their offsets, which must be dense. Reads on until there are `count`; with
/// none, to the end.
async fn read(cluster: &Cluster, topic: &TopicName, start: Start, count: Option<usize>) -> Numbers {
    let options = ConsumerOptions { partition_bytes_max: ByteCount::kib(16), ..ConsumerOptions::default() };
    let stop = if count.is_some() { Stop::Never } else { Stop::AtEnd };
    let mut consumer = Consumer::open(cluster, topic, &[], start, stop, options).await.unwrap();
    let mut expected: BTreeMap<i32, Offset> = consumer.positions().collect();
    let mut found = Numbers::default();
    while count.is_none_or(|count| found.count() < count) {
        let Some(fetched) = consumer.next().await.unwrap() else { break };
        for record in records_of(&fetched).unwrap() {
            let next = expected.get_mut(&fetched.partition).unwrap();
            assert_eq!(record.offset, *next, "partition {}", fetched.partition);
            *next = next.next();
            let text = |bytes: Option<bytes::Bytes>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            assert_eq!(record.headers.len(), 1);
            found.0.entry(text(record.key)).or_default().push(text(record.value).parse().unwrap());
        }
    }
    if stop == Stop::AtEnd {
        assert_eq!(consumer.left(), Some(0));
    }
    found
}

/// Numbers by key.
#[derive(Debug, Default, PartialEq)]
struct Numbers(BTreeMap<String, Vec<u64>>);

impl Numbers {
    fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    fn min(&self) -> Option<u64> {
        self.0.values().flatten().min().copied()
    }

    /// Fails unless these are what [`write`] wrote, and says where they first are not.
    #[track_caller]
    fn assert_all(&self, numbers: std::ops::Range<u64>, what: &str) {
        assert_eq!(self.count() as u64, numbers.end - numbers.start, "{what}");
        for (key, found) in &self.0 {
            let expected = numbers.clone().filter(|number| *key == format!("key-{}", number % 10));
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert_eq!(*found, expected, "{what}: record {index} of {key}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_in_every_codec_and_with_all_acks() {
    let rig = Rig::start(&[]).await;
    let cluster = rig.cluster(rig.address());
    let cases = [
        (Compression::None, Acks::All),
        (Compression::Gzip, Acks::All),
        (Compression::Snappy, Acks::Leader),
        (Compression::Lz4, Acks::Nobody),
        (Compression::Zstd, Acks::All),
    ];
    for (compression, acks) in cases {
        let topic = rig.create(&format!("in-{compression}"), 3, &[("segment.bytes", "1048576")]).await;
        let options = ProducerOptions {
            compression,
            acks,
            batch_bytes: ByteCount::kib(8),
            ..ProducerOptions::default()
        };
        write(&cluster, &topic, 0..20_000, options).await;
        // What is not acknowledged by all may be there a while before it can be read.
        let count = (acks != Acks::All).then_some(20_000);
        let found = read(&cluster, &topic, Start::Beginning, count).await;
        found.assert_all(0..20_000, &compression.to_string());
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_starts_where_it_is_told_to() {
    let rig = Rig::start(&[]).await;
    let cluster = rig.cluster(rig.address());
    let topic = rig.create("starts", 1, &[]).await;
    write(&cluster, &topic, 0..1000, ProducerOptions::default()).await;
    let first_of = |start: Start| {
        let (cluster, topic) = (&cluster, &topic);
        async move { read(cluster, topic, start, None).await.min() }
    };
    for (start, expected) in [
        (Start::Beginning, Some(0)),
        (Start::At(Offset::new(990).unwrap()), Some(990)),
        (Start::BeforeEnd(7), Some(993)),
        (Start::BeforeEnd(5000), Some(0)),
        (Start::Since(Timestamp(1_700_000_000_500)), Some(500)),
        (Start::Since(Timestamp(1_800_000_000_000)), None),
        (Start::End, None),
    ] {
        assert_eq!(first_of(start).await, expected, "{start:?}");
    }
    // An offset that is not there is told, never passed over.
    let beyond = Start::At(Offset::new(1001).unwrap());
    let mut consumer =
        Consumer::open(&cluster, &topic, &[0], beyond, Stop::Never, ConsumerOptions::default())
            .await
            .unwrap();
    let error = consumer.next().await.unwrap_err().to_string();
    assert_eq!(error, "starts: partition 0 has no offset 1001: it begins at 0 and ends at 1000");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_at_the_end_sees_what_is_written_next() {
    let rig = Rig::start(&[]).await;
    let cluster = rig.cluster(rig.address());
    let topic = rig.create("live", 2, &[]).await;
    let mut consumer =
        Consumer::open(&cluster, &topic, &[], Start::End, Stop::Never, ConsumerOptions::default())
            .await
            .unwrap();
    let mut seen = 0;
    let reading = async {
        while seen < 100 {
            seen += records_of(&consumer.next().await.unwrap().unwrap()).unwrap().len();
        }
    };
    let writing = write(&cluster, &topic, 0..100, ProducerOptions::default());
    tokio::time::timeout(Duration::from_secs(30), async { tokio::join!(reading, writing) }).await.unwrap();
    assert_eq!(seen, 100);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_producer_writes_once_over_connections_that_are_cut() {
    // Clients are told the address of the proxy.
    let listener = sockets::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let proxy = listener.local_addr().unwrap();
    let rig = Rig::start(&[&format!("advertised.listeners=PLAINTEXT://{proxy}")]).await;
    let cuts = Arc::new(AtomicU64::new(0));
    rig.tasks.spawn("proxy", cutting_proxy(listener, rig.address(), rig.tasks.clone(), cuts.clone()));
    let topic = rig.create("cut", 2, &[]).await;
    let cluster = rig.cluster(proxy);
    let options = ProducerOptions { batch_bytes: ByteCount::kib(2), ..ProducerOptions::default() };
    write(&cluster, &topic, 0..30_000, options).await;
    assert!(cuts.load(Ordering::Relaxed) >= 5, "only {cuts:?} connections were cut");
    read(&cluster, &topic, Start::Beginning, None).await.assert_all(0..30_000, "over cut connections");
    rig.stop().await;
}

/// Passes bytes on, and cuts each connection once so many have gone back and forth: sooner or later, and mostly while answers
/// are on their way.
async fn cutting_proxy(
    listener: sockets::Listener,
    target: SocketAddr,
    tasks: TaskGroup,
    cuts: Arc<AtomicU64>,
) {
    let mut budget = 3_000;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tasks.cancelled().cancelled() => return,
        };
        let (client, _) = accepted.unwrap();
        let broker = Stream::connect(target).await.unwrap();
        let (cuts, cancelled) = (cuts.clone(), tasks.cancelled().clone());
        // Longer and longer lives, so that the test ends; odd numbers, so that frames are cut anywhere.
        budget = budget * 5 / 4 + 1;
        tasks.spawn("proxied", async move {
            tokio::select! {
                () = pass(client, broker, budget) => drop(cuts.fetch_add(1, Ordering::Relaxed)),
                () = cancelled.cancelled() => {}
            }
        });
    }
}

/// Ends when `budget` bytes have passed in both directions together, or either side has closed.
async fn pass(mut client: Stream, mut broker: Stream, mut budget: usize) {
    let (mut asked, mut answered) = (vec![0; 4096], vec![0; 4096]);
    while budget > 0 {
        let count = tokio::select! {
            read = client.read(&mut asked) => {
                let count = read.unwrap_or(0).min(budget);
                broker.write_all(&asked[..count]).await.ok();
                count
            }
            read = broker.read(&mut answered) => {
                let count = read.unwrap_or(0).min(budget);
                client.write_all(&answered[..count]).await.ok();
                count
            }
        };
        if count == 0 {
            return;
        }
        budget -= count;
    }
}

/// Whoever only looks is told what cannot be said, and why, and does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn places_of_partitions_that_nobody_leads_are_told_as_unknown() {
    let rig = Rig::start(&[]).await;
    let cluster = rig.cluster(rig.address());
    let name = rig.create("places", 3, &[]).await;
    write(&cluster, &name, 0..100, ProducerOptions::default()).await;
    let mut topic = cluster.topic(&name, false).await.unwrap();
    topic.partitions[1].leader = None;
    // It has gone, and nobody knows that yet.
    let nobody = sockets::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    topic.partitions[2].leader = Some(endpoint(nobody.local_addr().unwrap()));
    drop(nobody);
    let places = places(&cluster, &topic, &[0, 1, 2, 3], LATEST).await;
    assert_eq!(places.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!(matches!(places[&0], Ok(Some(_))), "{places:?}");
    for (index, expected) in [(1, "no leader"), (2, "127.0.0.1"), (3, "no such partition")] {
        let why = places[&index].as_ref().unwrap_err();
        assert!(why.contains(expected), "{index}: {why}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_peer_tells_why_it_has_no_answer() {
    let tasks = TaskGroup::new();
    let options = PeerOptions {
        connect_timeout: Duration::from_millis(300),
        call_timeout: Duration::from_millis(300),
        ..PeerOptions::default()
    };
    // Each is what a listener does with a connection.
    let cases: [(&[u8], bool, &str); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", false, "does not answer as a Kafka broker: "),
        (b"", true, "does not answer as a Kafka broker: the broker closed it"),
        (b"", false, "no answer within 300ms"),
        (&[0, 0, 0, 4, 0, 0, 0, 99], false, "an answer came to request 99, which nobody made"),
        (&[0, 0, 0, 2, 0, 0], false, "an answer is too short to be one"),
    ];
    for (answer, closes, expected) in cases {
        let listener = sockets::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = endpoint(listener.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 256];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer).await.unwrap();
            if !closes {
                // Until the client gives up.
                while stream.read(&mut request).await.unwrap_or(0) > 0 {}
            }
        };
        let (error, ()) = tokio::join!(Peer::connect(&address, options.clone(), &tasks), serve);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} says nothing of {expected:?}");
    }
    tasks.stop(STOP).await.unwrap();
}
