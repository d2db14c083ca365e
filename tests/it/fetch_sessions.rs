//! Fetch in sessions (KIP-227): a client says once what it reads, and then only what changes.

use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};
use bytes::Bytes;

use crate::batches::{batch, values_of};
use crate::client::{Client, PATIENCE, Topic, fetch_request, wanted};
use crate::node::Node;

/// A session's side of the client.
struct Reader {
    client: Client,
    version: i16,
    id: i32,
    epoch: i32,
}

impl Reader {
    async fn open(node: &Node, version: i16, topics: Vec<FetchTopic>) -> (Reader, FetchResponse) {
        let mut reader = Reader { client: node.client().await, version, id: 0, epoch: 0 };
        let answer = reader.ask(topics, Vec::new()).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "v{version}");
        reader.id = answer.session_id;
        (reader, answer)
    }

    fn request(&self, topics: Vec<FetchTopic>, forgotten: Vec<ForgottenTopic>) -> FetchRequest {
        FetchRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            forgotten_topics_data: forgotten,
            ..fetch_request(topics)
        }
    }

    async fn ask(&mut self, topics: Vec<FetchTopic>, forgotten: Vec<ForgottenTopic>) -> FetchResponse {
        let request = self.request(topics, forgotten);
        self.epoch += 1;
        self.client.call(self.version, &request).await
    }

    /// The next epoch of the session, with nothing new to say.
    async fn poll(&mut self) -> FetchResponse {
        self.ask(Vec::new(), Vec::new()).await
    }
}

fn of_topic(topic: &Topic, partitions: &[(i32, i64)]) -> FetchTopic {
    let each =
        partitions.iter().flat_map(|(partition, offset)| wanted(topic, *partition, *offset).partitions);
    FetchTopic { partitions: each.collect(), ..wanted(topic, 0, 0) }
}

/// Index, code and values of each partition that an answer lists, in order of index.
fn told(answer: &FetchResponse) -> Vec<(i32, ErrorCode, Vec<String>)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let mut told: Vec<_> = partitions
        .map(|partition| (partition.partition_index, partition.error_code, values_of(&partition.records)))
        .collect();
    told.sort_by_key(|(index, _, _)| *index);
    told
}

fn values(index: i32, values: &[&str]) -> (i32, ErrorCode, Vec<String>) {
    (index, ErrorCode::NONE, values.iter().map(|value| (*value).to_owned()).collect())
}

fn one(text: &str) -> Bytes {
    batch(&[text])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_tells_only_what_is_new() {
    let node = Node::start(&[]).await;
    let mut writer = node.client().await;
    for version in [7, 11, 12, 13, 18] {
        let topic = writer.create(&format!("v{version}"), 3, &[]).await;
        writer.append(&topic, 0, &one("a")).await;
        let (mut reader, answer) =
            Reader::open(&node, version, vec![of_topic(&topic, &[(0, 0), (1, 0), (2, 0)])]).await;
        assert!(reader.id > 0, "v{version}");
        assert_eq!(
            told(&answer),
            [values(0, &["a"]), values(1, &[]), values(2, &[])],
            "v{version}: all, at first"
        );

        // The client has read up to 1 of partition 0, and says so with its next request.
        let answer = reader.ask(vec![of_topic(&topic, &[(0, 1)])], Vec::new()).await;
        assert_eq!((answer.error_code, answer.session_id), (ErrorCode::NONE, reader.id), "v{version}");
        assert_eq!(told(&answer), [], "v{version}: nothing is new");

        writer.append(&topic, 2, &one("b")).await;
        assert_eq!(told(&reader.poll().await), [values(2, &["b"])], "v{version}");
        // It is told again until the client says that it has read it.
        assert_eq!(told(&reader.poll().await), [values(2, &["b"])], "v{version}");
        assert_eq!(told(&reader.ask(vec![of_topic(&topic, &[(2, 1)])], Vec::new()).await), [], "v{version}");

        let forgotten =
            ForgottenTopic { topic: topic.name.clone(), topic_id: topic.id, partitions: vec![0, 1] };
        assert_eq!(told(&reader.ask(Vec::new(), vec![forgotten]).await), [], "v{version}");
        for partition in 0..3 {
            writer.append(&topic, partition, &one("c")).await;
        }
        assert_eq!(told(&reader.poll().await), [values(2, &["c"])], "v{version}: the others are forgotten");

        // What is added is told in full, though it has nothing new.
        let answer = reader.ask(vec![of_topic(&topic, &[(1, 1), (2, 2)])], Vec::new()).await;
        assert_eq!(told(&answer), [values(1, &[])], "v{version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moved_watermarks_and_errors_are_told() {
    let node = Node::start(&[]).await;
    let mut writer = node.client().await;
    let topic = writer.create("t", 2, &[]).await;
    writer.append(&topic, 0, &one("a")).await;
    let (mut reader, _) = Reader::open(&node, 13, vec![of_topic(&topic, &[(0, 1), (1, 0)])]).await;
    assert_eq!(told(&reader.poll().await), []);
    crate::offsets::delete_records(&mut writer, &topic, 0, 1).await;
    let answer = reader.poll().await;
    assert_eq!(told(&answer), [values(0, &[])], "its log start has moved");
    assert_eq!(answer.responses[0].partitions[0].log_start_offset, 1);
    assert_eq!(told(&reader.poll().await), []);
    crate::topics::delete_by_name(&mut writer, "t").await;
    let answer = reader.poll().await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let codes: Vec<ErrorCode> = told(&answer).into_iter().map(|(_, code, _)| code).collect();
    assert_eq!(codes, [ErrorCode::UNKNOWN_TOPIC_ID; 2]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_cannot_go_on_say_why() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &one("a")).await;
    let asked = || vec![wanted(&topic, 0, 0)];
    let in_session = |id: i32, epoch: i32, topics: Vec<FetchTopic>| FetchRequest {
        session_id: id,
        session_epoch: epoch,
        ..fetch_request(topics)
    };
    for version in 7..=18 {
        let (reader, _) = Reader::open(&node, version, asked()).await;
        let id = reader.id;
        // From here on names, before it ids: a session keeps to one of the two.
        let other_way = if version >= 13 { 12 } else { 13 };
        for (what, version, request, expected) in [
            ("unknown", version, in_session(id ^ 1, 1, Vec::new()), ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
            ("no id", version, in_session(0, 1, Vec::new()), ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
            ("too new", version, in_session(id, 2, Vec::new()), ErrorCode::INVALID_FETCH_SESSION_EPOCH),
            ("mixed", other_way, in_session(id, 1, asked()), ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR),
            ("right", version, in_session(id, 1, Vec::new()), ErrorCode::NONE),
            ("again", version, in_session(id, 1, Vec::new()), ErrorCode::INVALID_FETCH_SESSION_EPOCH),
            ("on", version, in_session(id, 2, Vec::new()), ErrorCode::NONE),
            ("closed", version, in_session(id, -1, asked()), ErrorCode::NONE),
            ("after", version, in_session(id, 3, Vec::new()), ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
        ] {
            let answer: FetchResponse = client.call(version, &request).await;
            assert_eq!(answer.error_code, expected, "{what}, v{version}");
            if !expected.is_none() {
                assert!(answer.responses.is_empty() && answer.session_id == 0, "{what}, v{version}");
            } else if what == "closed" {
                assert_eq!(
                    (told(&answer), answer.session_id),
                    (vec![values(0, &["a"])], 0),
                    "{what}, v{version}"
                );
            }
        }
    }
    node.stop().await;
}

/// A request that opens a session may end another: clients do so when they have lost track.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_dropped_for_a_new_one() {
    let node = Node::start(&[]).await;
    let topic = node.client().await.create("t", 1, &[]).await;
    let asked = || vec![wanted(&topic, 0, 0)];
    let (mut reader, _) = Reader::open(&node, 12, asked()).await;
    let old = reader.id;
    reader.epoch = 0;
    let answer = reader.ask(asked(), Vec::new()).await;
    assert!(answer.session_id > 0 && answer.session_id != old, "{} after {old}", answer.session_id);
    (reader.id, reader.epoch) = (old, 1);
    assert_eq!(reader.poll().await.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    (reader.id, reader.epoch) = (answer.session_id, 1);
    assert_eq!(reader.poll().await.error_code, ErrorCode::NONE);
    node.stop().await;
}

/// Where there is no room the answer is complete all the same, and says that there is no session.
#[tokio::test(flavor = "multi_thread")]
async fn without_room_there_is_no_session_and_the_answer_is_whole() {
    let node = Node::start(&["max.incremental.fetch.session.cache.slots=2"]).await;
    let mut writer = node.client().await;
    let topic = writer.create("t", 1, &[]).await;
    writer.append(&topic, 0, &one("a")).await;
    let asked = || vec![wanted(&topic, 0, 0)];
    let (mut first, _) = Reader::open(&node, 12, asked()).await;
    let (second, _) = Reader::open(&node, 13, asked()).await;
    assert!(first.id > 0 && second.id > 0 && first.id != second.id);
    let (third, answer) = Reader::open(&node, 12, asked()).await;
    assert_eq!((third.id, told(&answer)), (0, vec![values(0, &["a"])]), "two are in use");
    assert_eq!(first.poll().await.error_code, ErrorCode::NONE, "and stay so");
    first.epoch = -1;
    first.ask(asked(), Vec::new()).await;
    let (fourth, _) = Reader::open(&node, 12, asked()).await;
    assert!(fourth.id > 0, "a closed one makes room");
    node.stop().await;
}

/// A waiting session wakes for a partition that it does not name in this request.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_session_wakes() {
    let node = Node::start(&[]).await;
    let mut writer = node.client().await;
    let topic = writer.create("t", 2, &[]).await;
    let (mut reader, _) = Reader::open(&node, 18, vec![of_topic(&topic, &[(0, 0), (1, 0)])]).await;
    for round in 0..3 {
        let max_wait_ms = i32::try_from(PATIENCE.as_millis() * 10).expect("minutes");
        // It has read partition 1 up to here; of partition 0 there is nothing to say.
        let read = vec![of_topic(&topic, &[(1, round)])];
        let request = FetchRequest { max_wait_ms, min_bytes: 1, ..reader.request(read, Vec::new()) };
        reader.epoch += 1;
        reader.client.send(18, &request).await;
        writer.append(&topic, 1, &one("x")).await;
        let answer: FetchResponse = reader.client.receive::<FetchRequest>(18).await;
        assert_eq!(told(&answer), [values(1, &["x"])], "round {round}");
    }
    node.stop().await;
}
