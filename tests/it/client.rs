//! A connection that speaks in versions of the test's choice, and the few requests that most tests make on their way.
//!
//! Whatever goes wrong below the messages (no answer, a closed connection, bytes left over) fails the test at once, so that a
//! call gives the answer itself.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use aquifer_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use aquifer_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use aquifer_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsTopic,
};
use aquifer_protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use aquifer_protocol::{ErrorCode, Request, Str, frame};
use aquifer_runtime::sockets::{self, Stream};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

/// How long anything is waited for. Far beyond what it takes, since the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Answers in tests are small.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// Waits for `future`, and fails the test if it takes too long.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what}: nothing within {PATIENCE:?}"))
}

/// Looks again and again until there is something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    in_time(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    })
    .await
}

/// A topic, by both of its names.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: Str,
    pub(crate) id: Uuid,
}

impl Topic {
    /// One that need not exist.
    pub(crate) fn named(name: &str) -> Topic {
        Topic { name: Str::from(name), id: Uuid::nil() }
    }
}

/// A connection.
pub(crate) struct Client {
    stream: Stream,
    correlation_id: i32,
    /// What it calls itself.
    name: Str,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Client {
        Client::connect_as(address, "it").await
    }

    /// One that calls itself so.
    pub(crate) async fn connect_as(address: SocketAddr, name: &str) -> Client {
        let stream = in_time("connect", Stream::connect(address)).await.expect("the broker listens");
        sockets::configure(&stream).expect("socket options");
        Client { stream, correlation_id: 0, name: Str::from(name) }
    }

    /// Asks in `version` and gives the answer, which must be one of that version, to the last byte.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    /// Asks, and leaves the answer in the socket.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let client_id = Some(self.name.clone());
        let frame = frame::encode_request(request, version, self.correlation_id, client_id);
        let frame = frame.unwrap_or_else(|error| panic!("{} v{version}: {error}", R::NAME));
        self.send_bytes(&frame.into_bytes()).await;
    }

    /// The answer to the last request sent.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let body = self.receive_frame().await;
        let body = body.unwrap_or_else(|| panic!("{} v{version}: the broker closed the connection", R::NAME));
        assert_eq!(frame::correlation_id(&body), Ok(self.correlation_id), "{} v{version}", R::NAME);
        let response = frame::decode_response::<R>(body, version);
        response
            .unwrap_or_else(|error| panic!("{} v{version} is answered by something else: {error}", R::NAME))
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        in_time("write", self.stream.write_all(bytes)).await.expect("the connection lives");
    }

    /// Sends what the broker may have closed the door on already.
    pub(crate) async fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        in_time("write", self.stream.write_all(bytes)).await
    }

    /// The next frame without its length; `None` if the broker closed the connection instead.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        in_time("an answer", async {
            let length = match self.stream.read_i32().await {
                Ok(length) => usize::try_from(length).expect("a frame's length"),
                Err(_) => return None,
            };
            assert!(length <= FRAME_BYTES_MAX, "an answer of {length} bytes");
            let mut body = BytesMut::zeroed(length);
            self.stream.read_exact(&mut body).await.ok()?;
            Some(body.freeze())
        })
        .await
    }

    /// Waits until the broker closes the connection; an answer instead fails the test.
    pub(crate) async fn expect_closed(&mut self, why: &str) {
        let answer = self.receive_frame().await;
        assert!(answer.is_none(), "{why}: answered with {} bytes", answer.map_or(0, |bytes| bytes.len()));
    }

    /// Makes a topic.
    pub(crate) async fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Topic {
        let request =
            CreateTopicsRequest { topics: vec![creatable(name, partitions, configs)], ..Default::default() };
        let answer = self.call(7, &request).await.topics.remove(0);
        assert_eq!(answer.error_code, ErrorCode::NONE, "{name}: {:?}", answer.error_message);
        Topic { name: answer.name, id: answer.topic_id }
    }

    /// Appends to a partition, with `acks=all`.
    pub(crate) async fn produce(
        &mut self,
        topic: &Topic,
        partition: i32,
        records: &Bytes,
    ) -> PartitionProduceResponse {
        let answer = self.call(12, &produce_request(topic, partition, -1, records.clone())).await;
        only_produced(answer)
    }

    /// Appends what must be accepted; gives its offset.
    pub(crate) async fn append(&mut self, topic: &Topic, partition: i32, records: &Bytes) -> i64 {
        let answer = self.produce(topic, partition, records).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "{:?}", answer.error_message);
        answer.base_offset
    }

    /// Reads a partition from `offset` on, without waiting for more.
    pub(crate) async fn fetch(&mut self, topic: &Topic, partition: i32, offset: i64) -> PartitionData {
        let answer = self.call(12, &fetch_request(vec![wanted(topic, partition, offset)])).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        only_fetched(answer)
    }

    /// Looks an offset up by a timestamp, or by one of the numbers below zero that stand for a landmark.
    pub(crate) async fn list_offset(
        &mut self,
        topic: &Topic,
        partition: i32,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let mut answer = self.call(11, &list_request(topic, partition, timestamp)).await;
        answer.topics.remove(0).partitions.remove(0)
    }

    /// The offset that the next record will get, as consumers see it.
    pub(crate) async fn end(&mut self, topic: &Topic, partition: i32) -> i64 {
        let answer = self.list_offset(topic, partition, -1).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        answer.offset
    }
}

pub(crate) fn creatable(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreatableTopic {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: Str::from(*name),
        value: Some(Str::from(*value)),
    };
    CreatableTopic {
        name: Str::from(name),
        num_partitions: partitions,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: configs.iter().map(config).collect(),
    }
}

pub(crate) fn produce_request(topic: &Topic, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index: partition, records: records.into() };
    let topic_data =
        TopicProduceData { name: topic.name.clone(), topic_id: topic.id, partition_data: vec![data] };
    ProduceRequest { transactional_id: None, acks, timeout_ms: 30_000, topic_data: vec![topic_data] }
}

pub(crate) fn only_produced(
    answer: aquifer_protocol::messages::produce::ProduceResponse,
) -> PartitionProduceResponse {
    let [topic] = <[_; 1]>::try_from(answer.responses).expect("one topic was asked for");
    let [partition] = <[_; 1]>::try_from(topic.partition_responses).expect("one partition was asked for");
    partition
}

/// One partition of one topic, as a Fetch asks for it: at most 1 MiB.
pub(crate) fn wanted(topic: &Topic, partition: i32, offset: i64) -> FetchTopic {
    let wanted = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    FetchTopic { topic: topic.name.clone(), topic_id: topic.id, partitions: vec![wanted] }
}

/// Outside of any session, and without waiting.
pub(crate) fn fetch_request(topics: Vec<FetchTopic>) -> FetchRequest {
    FetchRequest { topics, ..Default::default() }
}

pub(crate) fn only_fetched(answer: aquifer_protocol::messages::fetch::FetchResponse) -> PartitionData {
    let [topic] = <[_; 1]>::try_from(answer.responses).expect("one topic was asked for");
    let [partition] = <[_; 1]>::try_from(topic.partitions).expect("one partition was asked for");
    partition
}

pub(crate) fn list_request(topic: &Topic, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    let wanted = ListOffsetsPartition { partition_index: partition, timestamp, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: topic.name.clone(), partitions: vec![wanted] }];
    ListOffsetsRequest { replica_id: -1, topics, ..Default::default() }
}

/// A connection with many requests in flight, all of one kind.
pub(crate) struct Pipelined<R> {
    client: Client,
    in_flight: std::collections::VecDeque<(i32, i16)>,
    kind: std::marker::PhantomData<R>,
}

impl<R: Request> Pipelined<R> {
    pub(crate) async fn connect(address: SocketAddr) -> Pipelined<R> {
        let client = Client::connect(address).await;
        Pipelined { client, in_flight: std::collections::VecDeque::new(), kind: std::marker::PhantomData }
    }

    pub(crate) async fn send(&mut self, version: i16, request: &R) {
        self.client.send(version, request).await;
        self.in_flight.push_back((self.client.correlation_id, version));
    }

    /// The answer to the oldest request that has none yet.
    pub(crate) async fn receive(&mut self) -> R::Response {
        let (id, version) = self.in_flight.pop_front().expect("a request was sent");
        let body = self.client.receive_frame().await.expect("the connection lives");
        assert_eq!(frame::correlation_id(&body), Ok(id), "answers come in the order of requests");
        frame::decode_response::<R>(body, version).expect("an answer of that version")
    }
}

/// How long bytes that may never come are waited for.
const DRAIN: Duration = Duration::from_millis(250);

impl Client {
    /// Says that nothing more will be sent, and reads what comes until the broker closes, for a moment at most.
    pub(crate) async fn drain(&mut self) {
        if self.stream.shutdown().await.is_err() {
            return;
        }
        let mut rest = Vec::new();
        // An error is a close, too, and too long a wait is not of interest.
        let _ = tokio::time::timeout(DRAIN, self.stream.read_to_end(&mut rest)).await;
    }
}
