//! Produce.

use aquifer_model::compression::Compression;
use aquifer_protocol::messages::produce::{PartitionProduceData, ProduceRequest};
use aquifer_protocol::{ErrorCode, Records, Str};
use bytes::Bytes;
use uuid::Uuid;

use crate::batches::{
    batch, batch_at, batch_of_bytes, compressed, damaged, edited, headers_of, joined, now, records_of,
    values_of,
};
use crate::client::{Client, Topic, eventually, only_produced, produce_request};
use crate::node::Node;

/// Where a batch's header has its attributes' low byte, and what is under the bits.
const ATTRIBUTES: usize = 22;
const LOG_APPEND_TIME: u8 = 1 << 3;
const TRANSACTIONAL: u8 = 1 << 4;
const CONTROL: u8 = 1 << 5;
const DELETE_HORIZON: u8 = 1 << 6;

#[tokio::test(flavor = "multi_thread")]
async fn every_version_appends() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let mut written = Vec::new();
    for version in 3..=13 {
        for acks in [1, -1] {
            let value = format!("v{version} acks={acks}");
            let request = produce_request(&topic, 0, acks, batch(&[&value, "more"]));
            let answer = client.call(version, &request).await;
            assert!(answer.node_endpoints.is_empty(), "{value}: nobody is sent elsewhere");
            if version >= 13 {
                assert_eq!(answer.responses[0].topic_id, topic.id, "{value}");
            } else {
                assert_eq!(answer.responses[0].name, topic.name, "{value}");
            }
            let told = only_produced(answer);
            assert_eq!(told.error_code, ErrorCode::NONE, "{value}");
            assert_eq!(told.base_offset, written.len() as i64, "{value}");
            assert_eq!(told.log_append_time_ms, -1, "{value}: the producer's own time holds");
            assert_eq!(told.log_start_offset, if version >= 5 { 0 } else { -1 }, "{value}");
            assert_eq!(
                (told.current_leader.leader_id, told.current_leader.leader_epoch),
                (-1, -1),
                "{value}"
            );
            assert!(told.record_errors.is_empty() && told.error_message.is_none(), "{value}");
            written.extend([value, "more".to_owned()]);
        }
    }
    // `acks=1` waits for less than what readers wait for.
    eventually("all can be read", async || {
        let read = values_of(&client.fetch(&topic, 0, 0).await.records);
        (read.len() == written.len()).then_some(read)
    })
    .await;
    assert_eq!(values_of(&client.fetch(&topic, 0, 0).await.records), written);
    node.stop().await;
}

/// Answers to versions 0 to 2 are not needed by anyone, but librdkafka looks whether they are advertised (KAFKA-18659).
#[tokio::test(flavor = "multi_thread")]
async fn versions_0_to_2_are_refused_and_the_connection_lives() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    for version in 0..=2 {
        let told = only_produced(client.call(version, &produce_request(&topic, 0, 1, batch(&["no"]))).await);
        assert_eq!((told.error_code, told.base_offset), (ErrorCode::UNSUPPORTED_VERSION, -1), "v{version}");
    }
    assert_eq!(client.append(&topic, 0, &batch(&["yes"])).await, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acknowledgement_there_is_no_answer() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    for version in 3..=13 {
        client.send(version, &produce_request(&topic, 0, 0, batch(&[&version.to_string()]))).await;
        // The next answer on this connection is that to the next request: its correlation id is checked.
        client.list_offset(&topic, 0, -1).await;
    }
    eventually("all are written", async || (client.end(&topic, 0).await == 11).then_some(())).await;
    node.stop().await;
}

/// All that a producer which waits for no answer can notice of an error is that its connection ends.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_without_acknowledgement_closes_the_connection() {
    let node = Node::start(&[]).await;
    let topic = node.client().await.create("t", 1, &[]).await;
    let ok = batch(&["x"]);
    for (version, request) in [
        (9, produce_request(&Topic::named("none"), 0, 0, ok.clone())),
        (13, produce_request(&Topic { id: Uuid::from_u128(7), ..topic.clone() }, 0, 0, ok.clone())),
        (9, produce_request(&topic, 1, 0, ok.clone())),
        (9, produce_request(&topic, 0, 0, damaged(&ok))),
        (9, produce_request(&topic, 0, 0, batch_of_bytes(2 << 20))),
    ] {
        let mut client = node.client().await;
        client.send(version, &request).await;
        client.expect_closed(&format!("v{version} {request:?}")).await;
    }
    assert_eq!(node.client().await.end(&topic, 0).await, 0);
    node.stop().await;
}

/// What is sent, and what is said to it. Nothing that is refused may leave a trace.
struct Case {
    what: &'static str,
    version: i16,
    acks: i16,
    records: Bytes,
    expected: ErrorCode,
}

fn case(what: &'static str, version: i16, records: Bytes, expected: ErrorCode) -> Case {
    Case { what, version, acks: -1, records, expected }
}

async fn check(client: &mut Client, topic: &Topic, case: Case) {
    let Case { what, version, acks, records, expected } = case;
    let before = client.end(topic, 0).await;
    let answer = client.call(version, &produce_request(topic, 0, acks, records)).await;
    let told = only_produced(answer);
    assert_eq!(told.error_code, expected, "{what}, v{version}: {:?}", told.error_message);
    if expected.is_none() {
        assert_eq!(told.base_offset, before, "{what}, v{version}");
    } else {
        assert_eq!((told.base_offset, told.log_append_time_ms), (-1, -1), "{what}, v{version}");
        assert_eq!(client.end(topic, 0).await, before, "{what}, v{version}: refused, yet written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_stored_is_refused() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[("max.message.bytes", "10000")]).await;
    let ok = batch(&["a", "b"]);
    let attribute = |bit: u8| edited(&ok, |bytes| bytes[ATTRIBUTES] |= bit);
    let zstd = compressed(&[(now(), "packed")], Compression::Zstd);
    let invalid = ErrorCode::INVALID_RECORD;
    let none = ErrorCode::NONE;
    let cases = vec![
        case("sound", 3, ok.clone(), none),
        Case { acks: 2, ..case("acks=2", 3, ok.clone(), ErrorCode::INVALID_REQUIRED_ACKS) },
        Case { acks: -2, ..case("acks=-2", 13, ok.clone(), ErrorCode::INVALID_REQUIRED_ACKS) },
        case("a flipped bit", 3, damaged(&ok), ErrorCode::CORRUPT_MESSAGE),
        case("a flipped bit", 13, damaged(&ok), ErrorCode::CORRUPT_MESSAGE),
        case("too large", 3, batch_of_bytes(20_000), ErrorCode::MESSAGE_TOO_LARGE),
        case("too large", 13, batch_of_bytes(20_000), ErrorCode::MESSAGE_TOO_LARGE),
        case("as large as may be", 9, batch_of_bytes(9_900), none),
        case("two batches", 7, joined(&[&ok, &ok]), invalid),
        case("two batches", 13, joined(&[&ok, &ok]), invalid),
        case("no batch", 9, Bytes::new(), invalid),
        case("control", 9, attribute(CONTROL), invalid),
        case("delete horizon", 9, attribute(DELETE_HORIZON), invalid),
        case("a producer's own append time", 9, attribute(LOG_APPEND_TIME), ErrorCode::INVALID_TIMESTAMP),
        case("one record claimed too many", 9, edited(&ok, |bytes| bytes[60] = 3), invalid),
        case("one offset claimed too many", 9, edited(&ok, |bytes| bytes[26] = 2), invalid),
        case("records cut short", 9, edited(&ok, |bytes| bytes[61] += 2), invalid),
        case("zstd before it was known", 3, zstd.clone(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        case("zstd before it was known", 6, zstd.clone(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        case("zstd", 7, zstd, none),
        case("gzip", 3, compressed(&[(now(), "packed")], Compression::Gzip), none),
        case("snappy", 3, compressed(&[(now(), "packed")], Compression::Snappy), none),
        case("lz4", 3, compressed(&[(now(), "packed")], Compression::Lz4), none),
    ];
    for case in cases {
        check(&mut client, &topic, case).await;
    }
    node.stop().await;
}

/// Cut anywhere, a batch is refused with an error that a client does not take for a passing one.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_cut_short_is_refused() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let whole = batch(&["some", "records"]);
    for length in 1..whole.len() {
        let told = client.produce(&topic, 0, &whole.slice(..length)).await;
        let expected = [ErrorCode::CORRUPT_MESSAGE, ErrorCode::INVALID_RECORD];
        assert!(expected.contains(&told.error_code), "{length} bytes: {:?}", told.error_code);
    }
    assert_eq!(client.append(&topic, 0, &whole).await, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_message_formats_are_refused() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    // The last is no format at all, and may come of damage on the way.
    let (old_format, damage) = (ErrorCode::INVALID_RECORD, ErrorCode::CORRUPT_MESSAGE);
    for (magic, expected) in [(0, old_format), (1, old_format), (3, damage), (0xff, damage)] {
        let mut old = batch(&["x"]).to_vec();
        old[16] = magic;
        for version in 3..=13 {
            let request = produce_request(&topic, 0, -1, Bytes::from(old.clone()));
            let told = only_produced(client.call(version, &request).await);
            assert_eq!(told.error_code, expected, "v{version}, magic {magic}: {:?}", told.error_code);
        }
    }
    assert_eq!(client.end(&topic, 0).await, 0);
    node.stop().await;
}

/// As in Kafka, where a partition is a key: the last batch counts, and is the only one that is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_partition_named_twice_the_last_counts() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    for (end, version) in (0..).zip(3..=13) {
        let values = [format!("v{version} first"), format!("v{version} other"), format!("v{version} last")];
        let data = |partition, value: &String| {
            let mut request = produce_request(&topic, partition, -1, batch(&[value]));
            request.topic_data.remove(0)
        };
        let mut request = produce_request(&topic, 0, -1, batch(&[&values[0]]));
        request.topic_data[0].partition_data.extend(data(1, &values[1]).partition_data);
        request.topic_data[0].partition_data.extend(data(0, &values[0]).partition_data);
        request.topic_data.push(data(0, &values[2]));
        let answer = client.call(version, &request).await;
        let told = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let mut told: Vec<_> = told.map(|told| (told.index, told.error_code, told.base_offset)).collect();
        told.sort_by_key(|(index, ..)| *index);
        assert_eq!(told, [(0, ErrorCode::NONE, end), (1, ErrorCode::NONE, end)], "v{version}");
        let read = client.fetch(&topic, 0, end).await;
        assert_eq!(values_of(&read.records), [values[2].as_str()], "v{version}");
    }
    node.stop().await;
}

/// A producer that was told yes would believe in a promise that nobody keeps yet.
#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_refused() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let plain = batch(&["x"]);
    let marked = edited(&crate::batches::sequenced((1, 0), 0, 1), |bytes| bytes[ATTRIBUTES] |= TRANSACTIONAL);
    for version in 3..=13 {
        for (id, records) in [(Some("txn"), &plain), (Some("txn"), &marked), (None, &marked)] {
            let request = ProduceRequest {
                transactional_id: id.map(Str::from),
                ..produce_request(&topic, 0, -1, records.clone())
            };
            let told = only_produced(client.call(version, &request).await);
            assert!(
                !told.error_code.is_none() && !told.error_code.is_retriable(),
                "v{version}: {:?}",
                told.error_code
            );
        }
    }
    assert_eq!(client.end(&topic, 0).await, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_out_of_bounds_are_named_record_by_record() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let bounds = [("message.timestamp.before.max.ms", "60000"), ("message.timestamp.after.max.ms", "60000")];
    let topic = client.create("t", 1, &bounds).await;
    let now = now();
    let hour = 3_600_000;
    let mixed = batch_at(&[(now, "ok"), (now - hour, "old"), (now, "ok"), (now + hour, "early")]);
    for version in 3..=13 {
        let told = only_produced(client.call(version, &produce_request(&topic, 0, -1, mixed.clone())).await);
        assert_eq!(told.error_code, ErrorCode::INVALID_TIMESTAMP, "v{version}");
        let named: Vec<i32> = told.record_errors.iter().map(|error| error.batch_index).collect();
        assert_eq!(named, if version >= 8 { vec![1, 3] } else { Vec::new() }, "v{version}");
        assert_eq!(told.error_message.is_some(), version >= 8, "v{version}");
    }
    assert_eq!(client.end(&topic, 0).await, 0);
    assert_eq!(client.append(&topic, 0, &batch_at(&[(now - 30_000, "a"), (now + 30_000, "b")])).await, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_append_is_told_and_stored() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let before = now();
    // The producer's clock is of no concern, however wrong it is.
    let told = client.produce(&topic, 0, &batch_at(&[(0, "a"), (1, "b")])).await;
    assert_eq!(told.error_code, ErrorCode::NONE);
    assert!((before..=now()).contains(&told.log_append_time_ms), "{}", told.log_append_time_ms);
    let read = client.fetch(&topic, 0, 0).await.records;
    let [header] = headers_of(&read)[..] else { panic!("{read:?}") };
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp().0, told.log_append_time_ms);
    assert_eq!(records_of(&read).len(), 2, "its checksum fits");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_partitions_are_told_apart_from_known_ones() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    let data = |index: i32| PartitionProduceData { index, records: Records::from(batch(&["x"])) };
    let mut request = produce_request(&topic, 0, -1, batch(&["x"]));
    request.topic_data[0].partition_data = vec![data(0), data(7), data(1), data(-1)];
    let mut other = request.topic_data[0].clone();
    other.name = Str::from("none");
    other.topic_id = Uuid::from_u128(7);
    other.partition_data = vec![data(0)];
    request.topic_data.push(other);
    for version in 3..=13 {
        let answer = client.call(version, &request).await;
        let codes: Vec<Vec<ErrorCode>> = answer
            .responses
            .iter()
            .map(|topic| topic.partition_responses.iter().map(|partition| partition.error_code).collect())
            .collect();
        let (ok, unknown) = (ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let unknown_topic = if version >= 13 { ErrorCode::UNKNOWN_TOPIC_ID } else { unknown };
        assert_eq!(codes, [vec![ok, unknown, ok, unknown], vec![unknown_topic]], "v{version}");
    }
    assert_eq!((client.end(&topic, 0).await, client.end(&topic, 1).await), (11, 11));
    node.stop().await;
}

/// Many requests in flight on one connection are answered in their order, and keep it in the log.
#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_keep_their_order() {
    const COUNT: i64 = 200;
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let mut writer = crate::client::Pipelined::connect(node.address()).await;
    for number in 0..COUNT {
        writer.send(12, &produce_request(&topic, 0, -1, batch(&[&number.to_string()]))).await;
    }
    for number in 0..COUNT {
        let told = only_produced(writer.receive().await);
        assert_eq!((told.error_code, told.base_offset), (ErrorCode::NONE, number));
    }
    let read = values_of(&client.fetch(&topic, 0, 0).await.records);
    assert_eq!(read, (0..COUNT).map(|number| number.to_string()).collect::<Vec<_>>());
    node.stop().await;
}
