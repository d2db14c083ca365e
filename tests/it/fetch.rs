//! Fetch, outside of sessions.

use aquifer_protocol::messages::fetch::{
    FetchRequest, FetchResponse, FetchTopic, PartitionData, ReplicaState,
};
use aquifer_protocol::messages::offset_for_leader_epoch::OffsetForLeaderEpochRequest;
use aquifer_protocol::{ErrorCode, Records};
use uuid::Uuid;

use crate::batches::{batch, batch_of_bytes, headers_of, records_of, values_of};
use crate::client::{Client, PATIENCE, Topic, fetch_request, in_time, only_fetched, wanted};
use crate::node::Node;

/// As version 4 to 18 of one request.
fn versions() -> impl Iterator<Item = i16> {
    4..=18
}

async fn fetch_at(client: &mut Client, version: i16, topic: FetchTopic) -> PartitionData {
    only_fetched(client.call(version, &fetch_request(vec![topic])).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_reads_what_was_written_byte_for_byte() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let written = [batch(&["a", "b"]), batch(&["c"]), batch(&["d", "e", "f"])];
    for batch in &written {
        client.append(&topic, 0, batch).await;
    }
    for version in versions() {
        for isolation_level in [0, 1] {
            let request = FetchRequest { isolation_level, ..fetch_request(vec![wanted(&topic, 0, 0)]) };
            let told = only_fetched(client.call(version, &request).await);
            let what = format!("v{version} isolation {isolation_level}");
            assert_eq!(told.error_code, ErrorCode::NONE, "{what}");
            assert_eq!((told.high_watermark, told.last_stable_offset), (6, 6), "{what}");
            assert_eq!(told.log_start_offset, if version >= 5 { 0 } else { -1 }, "{what}");
            assert_eq!(told.preferred_read_replica, -1, "{what}");
            assert_eq!((told.diverging_epoch.epoch, told.current_leader.leader_id), (-1, -1), "{what}");
            // Null for whoever does not ask; a list, even an empty one, for whoever does.
            let aborted = told.aborted_transactions.as_ref().map(Vec::len);
            assert_eq!(aborted, (isolation_level == 1).then_some(0), "{what}");
            check_bytes(&told.records, &written, &what);
        }
    }
    node.stop().await;
}

/// The broker sets base offset and leader epoch, which lie in the first 16 bytes; all else is the producer's.
fn check_bytes(read: &Records, written: &[bytes::Bytes], what: &str) {
    let read = read.clone().into_bytes();
    let mut position = 0;
    for batch in written {
        let stored = &read[position..position + batch.len()];
        assert_eq!(stored[8..12], batch[8..12], "{what}: length");
        assert_eq!(stored[16..], batch[16..], "{what}");
        position += batch.len();
    }
    assert_eq!(position, read.len(), "{what}: nothing besides");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_within_a_batch_give_the_whole_batch() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a", "b"])).await;
    client.append(&topic, 0, &batch(&["c", "d", "e"])).await;
    for (offset, first) in [(0, 0), (1, 0), (2, 2), (3, 2), (4, 2)] {
        let read = records_of(&client.fetch(&topic, 0, offset).await.records);
        assert_eq!(read.first().map(|(offset, _)| *offset), Some(first), "from {offset}");
        assert_eq!(read.last().map(|(offset, _)| *offset), Some(4), "from {offset}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_outside_of_the_log_are_told_from_its_end() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a", "b"])).await;
    for version in versions() {
        for (offset, expected) in [
            (2, ErrorCode::NONE),
            (3, ErrorCode::OFFSET_OUT_OF_RANGE),
            (i64::MAX, ErrorCode::OFFSET_OUT_OF_RANGE),
            (-1, ErrorCode::OFFSET_OUT_OF_RANGE),
            (i64::MIN, ErrorCode::OFFSET_OUT_OF_RANGE),
        ] {
            let told = fetch_at(&mut client, version, wanted(&topic, 0, offset)).await;
            assert_eq!((told.error_code, told.records.len()), (expected, 0), "v{version} from {offset}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_topics_and_partitions_do_not_spoil_the_others() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a"])).await;
    let unknown = Topic { id: Uuid::from_u128(7), ..Topic::named("none") };
    for version in versions() {
        let mut asked = vec![wanted(&unknown, 0, 0), wanted(&topic, 0, 0), wanted(&topic, 9, 0)];
        asked[1].partitions.extend(wanted(&topic, -1, 0).partitions);
        let answer: FetchResponse = client.call(version, &fetch_request(asked)).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "v{version}");
        let mut codes: Vec<(bool, i32, ErrorCode)> = Vec::new();
        for told in &answer.responses {
            let ours = if version >= 13 { told.topic_id == topic.id } else { told.topic == topic.name };
            codes.extend(
                told.partitions
                    .iter()
                    .map(|partition| (ours, partition.partition_index, partition.error_code)),
            );
        }
        codes.sort_by_key(|(ours, index, _)| (*ours, *index));
        let no_partition = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let no_topic = if version >= 13 { ErrorCode::UNKNOWN_TOPIC_ID } else { no_partition };
        let expected = [
            (false, 0, no_topic),
            (true, -1, no_partition),
            (true, 0, ErrorCode::NONE),
            (true, 9, no_partition),
        ];
        assert_eq!(codes, expected, "v{version}");
    }
    node.stop().await;
}

/// A name that no topic can have is that of a topic that is not there, and spoils nothing else of the answer.
#[tokio::test(flavor = "multi_thread")]
async fn impossible_names_do_not_spoil_the_others() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a"])).await;
    let long = "x".repeat(300);
    let names = ["", "a b", "..", &long];
    for version in 4..=12 {
        let mut asked: Vec<_> = names.iter().map(|name| wanted(&Topic::named(name), 3, 0)).collect();
        asked.insert(1, wanted(&topic, 0, 0));
        let answer: FetchResponse = client.call(version, &fetch_request(asked)).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "v{version}");
        for told in &answer.responses {
            let [partition] = &told.partitions[..] else { panic!("v{version}: {told:?}") };
            let found = (partition.partition_index, partition.error_code, partition.records.is_empty());
            let expected = match told.topic == topic.name {
                true => (0, ErrorCode::NONE, false),
                false => (3, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, true),
            };
            assert_eq!(found, expected, "v{version} {:?}", told.topic);
        }
        let mut told: Vec<&str> = answer.responses.iter().map(|told| told.topic.as_str()).collect();
        told.sort_unstable();
        assert_eq!(told, ["", "..", "a b", "t", &long], "v{version}");
        // Alone, and with time to wait: an error does not.
        let patient = FetchRequest { max_wait_ms: 60_000, min_bytes: 1, ..fetch_request(Vec::new()) };
        let asked = FetchRequest { topics: vec![wanted(&Topic::named("a b"), 0, 0)], ..patient };
        let told = only_fetched(client.call(version, &asked).await);
        assert_eq!(told.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "v{version}");
    }
    node.stop().await;
}

/// A batch larger than all limits comes all the same, if it is the first there is: otherwise its reader would never get on
/// (KIP-74).
#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_but_for_the_first_batch() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 3, &[]).await;
    let one = batch_of_bytes(1000);
    for _ in 0..4 {
        client.append(&topic, 1, &one).await;
        client.append(&topic, 2, &one).await;
    }
    let size = one.len() as i32;
    // The whole answer's limit, each partition's, and the batches that come of the partitions 0 (empty), 1 and 2.
    for (bytes_max, partition_bytes_max, expected) in [
        (i32::MAX, i32::MAX, [0, 4, 4]),
        (1, i32::MAX, [0, 1, 0]),
        (0, i32::MAX, [0, 1, 0]),
        (i32::MAX, 1, [0, 1, 0]),
        (i32::MAX, 0, [0, 1, 0]),
        (i32::MAX, size, [0, 1, 1]),
        (i32::MAX, 2 * size + 1, [0, 2, 2]),
        (size * 3, i32::MAX, [0, 3, 0]),
        (size * 5, i32::MAX, [0, 4, 1]),
        (size * 5 + 1, 2 * size, [0, 2, 2]),
        (size * 3, 2 * size, [0, 2, 1]),
    ] {
        for version in versions() {
            let mut asked = wanted(&topic, 0, 0);
            asked.partitions.extend(wanted(&topic, 1, 0).partitions);
            asked.partitions.extend(wanted(&topic, 2, 0).partitions);
            for partition in &mut asked.partitions {
                partition.partition_max_bytes = partition_bytes_max;
            }
            let request = FetchRequest { max_bytes: bytes_max, ..fetch_request(vec![asked]) };
            let answer: FetchResponse = client.call(version, &request).await;
            let mut came = [0; 3];
            for partition in &answer.responses[0].partitions {
                assert_eq!(partition.error_code, ErrorCode::NONE);
                came[partition.partition_index as usize] = headers_of(&partition.records).len();
            }
            assert_eq!(came, expected, "v{version}: {bytes_max} in all, {partition_bytes_max} a partition");
        }
    }
    node.stop().await;
}

/// The order of a request is the order in which its partitions get their share.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_partition_asked_for_is_served_first() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    client.append(&topic, 0, &batch(&["of 0"])).await;
    client.append(&topic, 1, &batch(&["of 1"])).await;
    for order in [[0, 1], [1, 0]] {
        let mut asked = wanted(&topic, order[0], 0);
        asked.partitions.extend(wanted(&topic, order[1], 0).partitions);
        let request = FetchRequest { max_bytes: 1, ..fetch_request(vec![asked]) };
        let answer: FetchResponse = client.call(12, &request).await;
        for partition in &answer.responses[0].partitions {
            let is_first = partition.partition_index == order[0];
            assert_eq!(!partition.records.is_empty(), is_first, "{order:?}: {}", partition.partition_index);
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_wakes_when_enough_has_come() {
    let node = Node::start(&[]).await;
    let mut reader = node.client().await;
    let mut writer = node.client().await;
    let topic = writer.create("t", 2, &[]).await;
    let one = batch_of_bytes(500);
    let mut asked = wanted(&topic, 0, 0);
    asked.partitions.extend(wanted(&topic, 1, 0).partitions);
    // Far longer than the test waits for anything: whoever sleeps it out is late.
    let max_wait_ms = i32::try_from(PATIENCE.as_millis() * 10).expect("minutes");
    let request = FetchRequest { max_wait_ms, min_bytes: one.len() as i32 * 2, ..fetch_request(vec![asked]) };
    for version in [4, 12, 18] {
        let (start0, start1) = (writer.end(&topic, 0).await, writer.end(&topic, 1).await);
        let mut request = request.clone();
        request.topics[0].partitions[0].fetch_offset = start0;
        request.topics[0].partitions[1].fetch_offset = start1;
        reader.send(version, &request).await;
        // Half of what it waits for comes to each partition.
        writer.append(&topic, 0, &one).await;
        writer.append(&topic, 1, &one).await;
        let answer: FetchResponse = reader.receive::<FetchRequest>(version).await;
        let came: usize =
            answer.responses[0].partitions.iter().map(|partition| partition.records.len()).sum();
        assert_eq!(came, one.len() * 2, "v{version}");
    }
    node.stop().await;
}

/// Batches are given whole, so that what the limits let in may be a little less than what is asked for at least.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_more_than_the_limits_let_in_does_not_wait() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let one = batch_of_bytes(1_000);
    for _ in 0..20 {
        client.append(&topic, 0, &one).await;
    }
    let max_wait_ms = i32::try_from(PATIENCE.as_millis() * 10).expect("minutes");
    let limit = one.len() as i32 * 5 / 2;
    let mut asked = wanted(&topic, 0, 0);
    asked.partitions[0].partition_max_bytes = limit;
    for (min_bytes, max_bytes) in [(limit, i32::MAX), (limit * 10, limit)] {
        for version in [4, 12, 18] {
            let request =
                FetchRequest { max_wait_ms, min_bytes, max_bytes, ..fetch_request(vec![asked.clone()]) };
            let told = only_fetched(client.call(version, &request).await);
            assert_eq!(told.records.len(), one.len() * 2, "v{version} {min_bytes} {max_bytes}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_empty_when_its_time_is_up() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let clock = aquifer_runtime::World::system().clock;
    for version in versions() {
        let began = clock.now();
        let request =
            FetchRequest { max_wait_ms: 40, min_bytes: 1, ..fetch_request(vec![wanted(&topic, 0, 0)]) };
        let told = only_fetched(client.call(version, &request).await);
        assert_eq!(
            (told.error_code, told.records.len(), told.high_watermark),
            (ErrorCode::NONE, 0, 0),
            "v{version}"
        );
        assert!(!told.records.is_null(), "v{version}: clients take null for a broken answer");
        assert!(began.elapsed().as_millis() >= 40, "v{version}: {:?}", began.elapsed());
    }
    node.stop().await;
}

/// An error is told at once, however long the others would wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_does_not_wait() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let max_wait_ms = i32::try_from(PATIENCE.as_millis() * 10).expect("minutes");
    for asked in [wanted(&topic, 0, 7), wanted(&topic, 3, 0), wanted(&Topic::named("none"), 0, 0)] {
        let asked = vec![wanted(&topic, 0, 0), asked];
        let request = FetchRequest { max_wait_ms, min_bytes: 1, ..fetch_request(asked) };
        client.call(12, &request).await;
    }
    node.stop().await;
}

/// A deleted topic's readers are told so, even those who wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_with_its_topic() {
    let node = Node::start(&[]).await;
    let mut reader = node.client().await;
    let mut other = node.client().await;
    let topic = other.create("t", 1, &[]).await;
    let max_wait_ms = i32::try_from(PATIENCE.as_millis() * 10).expect("minutes");
    let request = FetchRequest { max_wait_ms, min_bytes: 1, ..fetch_request(vec![wanted(&topic, 0, 0)]) };
    reader.send(13, &request).await;
    crate::topics::delete_by_name(&mut other, "t").await;
    let told = only_fetched(in_time("the poll's end", reader.receive::<FetchRequest>(13)).await);
    assert!(!told.error_code.is_none() && told.records.is_empty(), "{told:?}");
    assert!(told.error_code.is_retriable(), "{:?}", told.error_code);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_epochs_are_checked() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a"])).await;
    // Each start is a new epoch.
    let node = node.restart().await;
    let mut client = node.client().await;
    let epoch = client.list_offset(&topic, 0, -1).await.leader_epoch;
    client.append(&topic, 0, &batch(&["b"])).await;
    let current =
        headers_of(&client.fetch(&topic, 0, 1).await.records)[0].leader_epoch.map_or(-1, |epoch| epoch.get());
    assert!(current > 0 && current >= epoch, "{current} after {epoch}");
    for version in 9..=18 {
        for (asked, expected) in [
            (-1, ErrorCode::NONE),
            (current, ErrorCode::NONE),
            (current - 1, ErrorCode::FENCED_LEADER_EPOCH),
            (0, ErrorCode::FENCED_LEADER_EPOCH),
            (current + 1, ErrorCode::UNKNOWN_LEADER_EPOCH),
        ] {
            let mut topic = wanted(&topic, 0, 0);
            topic.partitions[0].current_leader_epoch = asked;
            let answer: FetchResponse = client.call(version, &fetch_request(vec![topic])).await;
            let endpoints: Vec<i32> = answer.node_endpoints.iter().map(|endpoint| endpoint.port).collect();
            let told = only_fetched(answer);
            assert_eq!(told.error_code, expected, "v{version} epoch {asked} of {current}");
            if expected == ErrorCode::FENCED_LEADER_EPOCH {
                // Whoever is behind is told who leads, and from version 16 on where.
                let leader = (told.current_leader.leader_id, told.current_leader.leader_epoch);
                assert_eq!(leader, if version >= 12 { (1, current) } else { (-1, -1) }, "v{version}");
                let port = i32::from(node.address().port());
                assert_eq!(endpoints, if version >= 16 { vec![port] } else { Vec::new() }, "v{version}");
            }
        }
    }
    node.stop().await;
}

/// A reader that followed another history is told where it parts from ours (KIP-595).
#[tokio::test(flavor = "multi_thread")]
async fn diverging_readers_are_told_where() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a", "b"])).await;
    let node = node.restart().await;
    let mut client = node.client().await;
    client.append(&topic, 0, &batch(&["c", "d"])).await;
    let read = client.fetch(&topic, 0, 0).await.records;
    let epochs: Vec<i32> =
        headers_of(&read).iter().map(|header| header.leader_epoch.map_or(-1, |epoch| epoch.get())).collect();
    let [old, new] = epochs[..] else { panic!("{epochs:?}") };
    assert!(old < new);
    for version in 12..=18 {
        // What it last read, where it wants to go on, and where histories part.
        for (last, offset, diverging) in [
            (-1, 3, (-1, -1)),
            (old, 2, (-1, -1)),
            (new, 3, (-1, -1)),
            (old, 3, (old, 2)),
            (old, 4, (old, 2)),
        ] {
            let mut asked = wanted(&topic, 0, offset);
            asked.partitions[0].last_fetched_epoch = last;
            let told = fetch_at(&mut client, version, asked).await;
            assert_eq!(told.error_code, ErrorCode::NONE, "v{version}");
            let parts = (told.diverging_epoch.epoch, told.diverging_epoch.end_offset);
            assert_eq!(parts, diverging, "v{version}: read epoch {last} up to {offset}");
            assert!(diverging.0 == -1 || told.records.is_empty(), "v{version}");
        }
    }
    node.stop().await;
}

/// Replicas are brokers. Whoever only says so is refused, and gets nothing.
#[tokio::test(flavor = "multi_thread")]
async fn pretended_replicas_are_refused() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a"])).await;
    for version in versions() {
        for replica_id in [0, 1, 2, i32::MAX] {
            let mut request = fetch_request(vec![wanted(&topic, 0, 0)]);
            if version >= 15 {
                request.replica_state = ReplicaState { replica_id, replica_epoch: 1 };
            } else {
                request.replica_id = replica_id;
            }
            let answer: FetchResponse = client.call(version, &request).await;
            let told: Vec<&PartitionData> =
                answer.responses.iter().flat_map(|topic| &topic.partitions).collect();
            assert!(told.iter().all(|partition| partition.records.is_empty()), "v{version}");
            // Before version 7 an answer as a whole has no room for an error.
            let codes: Vec<ErrorCode> = told.iter().map(|partition| partition.error_code).collect();
            let whole = version >= 7 && !answer.error_code.is_none();
            assert!(whole || matches!(codes[..], [code] if !code.is_none()), "v{version}: {answer:?}");
        }
    }
    assert_eq!(values_of(&client.fetch(&topic, 0, 0).await.records), ["a"]);
    node.stop().await;
}

/// Whoever asks for nothing is not kept waiting.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_at_all_is_answered_with_nothing() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let max_wait_ms = i32::try_from(PATIENCE.as_millis() * 10).expect("minutes");
    for version in versions() {
        let request = FetchRequest { max_wait_ms, min_bytes: 1, ..Default::default() };
        let answer: FetchResponse = client.call(version, &request).await;
        assert!(answer.responses.is_empty(), "v{version}");
    }
    assert!(client.call(4, &OffsetForLeaderEpochRequest::default()).await.topics.is_empty());
    node.stop().await;
}
