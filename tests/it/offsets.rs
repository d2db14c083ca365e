//! ListOffsets, OffsetForLeaderEpoch, DeleteRecords, on logs that are only local. With a bucket: see `tier`.

use aquifer_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsTopic,
};
use aquifer_protocol::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsRequest};
use aquifer_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use aquifer_protocol::{ErrorCode, Str};

use crate::batches::{batch, batch_at, now, values_of};
use crate::client::{Client, Topic, list_request};
use crate::node::Node;

async fn list(
    client: &mut Client,
    version: i16,
    topic: &Topic,
    timestamp: i64,
    isolation: i8,
) -> ListOffsetsPartitionResponse {
    let request = ListOffsetsRequest {
        isolation_level: if version >= 2 { isolation } else { 0 },
        ..list_request(topic, 0, timestamp)
    };
    client.call(version, &request).await.topics.remove(0).partitions.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_landmark_and_time_in_every_version() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let t = now() - 1_000_000;
    // Times that go up and down, as producers' clocks do.
    client.append(&topic, 0, &batch_at(&[(t + 10, "0"), (t + 20, "1")])).await;
    client.append(&topic, 0, &batch_at(&[(t + 90, "2"), (t + 30, "3")])).await;
    client.append(&topic, 0, &batch_at(&[(t + 40, "4"), (t + 50, "5")])).await;
    delete_records(&mut client, &topic, 0, 1).await;
    // What is asked, from which version on it can be, and offset and time that are answered.
    let cases = [
        (-1, 1, 6, -1),
        (-2, 1, 1, -1),
        (-3, 7, 2, t + 90),
        (-4, 8, 1, -1),
        (0, 1, 1, t + 20),
        (t + 15, 1, 1, t + 20),
        (t + 20, 1, 1, t + 20),
        (t + 21, 1, 2, t + 90),
        (t + 45, 1, 2, t + 90),
        (t + 90, 1, 2, t + 90),
        (t + 91, 1, -1, -1),
        (i64::MAX, 1, -1, -1),
    ];
    for version in 1..=11 {
        for (timestamp, since, offset, time) in cases {
            for isolation in [0, 1] {
                let told = list(&mut client, version, &topic, timestamp, isolation).await;
                let what = format!("v{version} {timestamp} isolation {isolation}");
                if version < since {
                    assert_eq!(
                        (told.error_code, told.offset),
                        (ErrorCode::UNSUPPORTED_VERSION, -1),
                        "{what}"
                    );
                    continue;
                }
                assert_eq!(
                    (told.error_code, told.offset, told.timestamp),
                    (ErrorCode::NONE, offset, time),
                    "{what}"
                );
                assert_eq!(
                    told.leader_epoch >= 0,
                    version >= 4 && offset >= 0,
                    "{what}: {}",
                    told.leader_epoch
                );
            }
        }
        // Nothing is in a bucket where there is none.
        for (timestamp, since) in [(-5, 9), (-6, 11)] {
            let told = list(&mut client, version, &topic, timestamp, 0).await;
            let expected = if version < since { ErrorCode::UNSUPPORTED_VERSION } else { ErrorCode::NONE };
            assert_eq!(
                (told.error_code, told.offset, told.leader_epoch),
                (expected, -1, -1),
                "v{version} {timestamp}"
            );
        }
        let told = list(&mut client, version, &topic, -99, 0).await;
        assert!(
            !told.error_code.is_none() && !told.error_code.is_retriable(),
            "v{version}: {:?}",
            told.error_code
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_log_has_landmarks_and_no_times() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    for (timestamp, offset) in [(-1, 0), (-2, 0), (-3, -1), (-4, 0), (0, -1), (now(), -1)] {
        let told = client.list_offset(&topic, 0, timestamp).await;
        assert_eq!(
            (told.error_code, told.offset, told.timestamp),
            (ErrorCode::NONE, offset, -1),
            "{timestamp}"
        );
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_of_what_is_not_there() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    for version in 1..=11 {
        for (topic, partition) in [(&Topic::named("none"), 0), (&topic, 1), (&topic, -1)] {
            let answer = client.call(version, &list_request(topic, partition, -1)).await;
            let told = &answer.topics[0].partitions[0];
            let expected = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1, -1);
            assert_eq!((told.error_code, told.offset, told.timestamp), expected, "v{version}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_named_twice_is_refused_and_spoils_no_other() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    for version in 1..=11 {
        let mut request = list_request(&topic, 0, -1);
        request.topics[0].partitions.extend(list_request(&topic, 1, -1).topics.remove(0).partitions);
        request.topics[0].partitions.extend(list_request(&topic, 0, -2).topics.remove(0).partitions);
        request.topics.push(list_request(&topic, 0, 0).topics.remove(0));
        let answer = client.call(version, &request).await;
        let told = answer.topics.iter().flat_map(|told| &told.partitions);
        let mut told: Vec<_> =
            told.map(|told| (told.partition_index, told.error_code, told.offset)).collect();
        told.sort_by_key(|(index, ..)| *index);
        assert_eq!(told, [(0, ErrorCode::INVALID_REQUEST, -1), (1, ErrorCode::NONE, 0)], "v{version}");
        assert!(answer.topics.iter().all(|told| told.name == topic.name), "v{version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_are_checked_and_looked_up() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a", "b"])).await;
    let first = client.list_offset(&topic, 0, -2).await.leader_epoch;
    let node = node.restart().await;
    let node = node.restart().await;
    let mut client = node.client().await;
    client.append(&topic, 0, &batch(&["c"])).await;
    let latest = client.list_offset(&topic, 0, -1).await.leader_epoch;
    assert!(latest > first + 1, "each start is a new epoch: {first}, {latest}");
    for (epoch, expected) in [
        (-1, ErrorCode::NONE),
        (latest, ErrorCode::NONE),
        (latest - 1, ErrorCode::FENCED_LEADER_EPOCH),
        (latest + 1, ErrorCode::UNKNOWN_LEADER_EPOCH),
    ] {
        for version in 4..=11 {
            let mut request = list_request(&topic, 0, -1);
            request.topics[0].partitions[0].current_leader_epoch = epoch;
            let answer = client.call(version, &request).await;
            assert_eq!(
                answer.topics[0].partitions[0].error_code, expected,
                "ListOffsets v{version}, epoch {epoch}"
            );
        }
        for version in 2..=4 {
            let told = epoch_end(&mut client, version, &topic, 0, epoch, latest).await;
            assert_eq!(told.error_code, expected, "OffsetForLeaderEpoch v{version}, epoch {epoch}");
        }
    }
    for version in 2..=4 {
        // The largest epoch that is not larger, and where it ended; nothing for what is yet to come.
        for (asked, expected) in [
            (first, (first, 2)),
            (first + 1, (first, 2)),
            (latest, (latest, 3)),
            (latest + 1, (-1, -1)),
            (-1, (-1, -1)),
        ] {
            let told = epoch_end(&mut client, version, &topic, 0, -1, asked).await;
            assert_eq!(told.error_code, ErrorCode::NONE, "v{version}");
            assert_eq!(
                (told.leader_epoch, told.end_offset),
                expected,
                "v{version}: epoch {asked} of {first}, {latest}"
            );
        }
        for (topic, partition) in [(&Topic::named("none"), 0), (&topic, 5)] {
            let told = epoch_end(&mut client, version, topic, partition, -1, 0).await;
            assert_eq!(told.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "v{version}");
        }
    }
    node.stop().await;
}

async fn epoch_end(
    client: &mut Client,
    version: i16,
    topic: &Topic,
    partition: i32,
    current_leader_epoch: i32,
    leader_epoch: i32,
) -> EpochEndOffset {
    let wanted = OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch };
    let topics = vec![OffsetForLeaderTopic { topic: topic.name.clone(), partitions: vec![wanted] }];
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
    client.call(version, &request).await.topics.remove(0).partitions.remove(0)
}

pub(crate) async fn delete_before(
    client: &mut Client,
    version: i16,
    topic: &Topic,
    partition: i32,
    offset: i64,
) -> DeleteRecordsPartitionResult {
    let wanted = DeleteRecordsPartition { partition_index: partition, offset };
    let topics = vec![DeleteRecordsTopic { name: topic.name.clone(), partitions: vec![wanted] }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 30_000 };
    client.call(version, &request).await.topics.remove(0).partitions.remove(0)
}

/// Deletes all records before an offset, which must succeed.
pub(crate) async fn delete_records(client: &mut Client, topic: &Topic, partition: i32, offset: i64) {
    let told = delete_before(client, 2, topic, partition, offset).await;
    assert_eq!(
        (told.error_code, told.low_watermark),
        (ErrorCode::NONE, offset),
        "{:?}-{partition}",
        topic.name
    );
}

/// Of a topic that keeps the newest of each key for ever nothing is deleted, unless it may also delete.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_topic_that_only_compacts_are_not_deleted() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    for (name, policy, expected) in [
        ("keys", "compact", ErrorCode::POLICY_VIOLATION),
        ("both", "compact,delete", ErrorCode::NONE),
        ("all", "", ErrorCode::NONE),
    ] {
        let topic = client.create(name, 1, &[("cleanup.policy", policy)]).await;
        let told = delete_before(&mut client, 2, &topic, 0, 0).await;
        assert_eq!(told.error_code, expected, "{policy:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_from_the_front() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let unknown = Topic::named("none");
    for version in 0..=2 {
        let topic = client.create(&format!("v{version}"), 1, &[]).await;
        for value in ["a", "b", "c", "d"] {
            client.append(&topic, 0, &batch(&[value])).await;
        }
        let out_of_range = ErrorCode::OFFSET_OUT_OF_RANGE;
        // Where to, and the code and low watermark that are answered.
        for (offset, expected) in [
            (0, (ErrorCode::NONE, 0)),
            (5, (out_of_range, -1)),
            (i64::MAX, (out_of_range, -1)),
            (-2, (out_of_range, -1)),
            (2, (ErrorCode::NONE, 2)),
            (1, (ErrorCode::NONE, 2)),
        ] {
            let told = delete_before(&mut client, version, &topic, 0, offset).await;
            assert_eq!((told.error_code, told.low_watermark), expected, "v{version} {offset}");
        }
        assert_eq!(client.list_offset(&topic, 0, -2).await.offset, 2);
        for (offset, expected) in [(0, out_of_range), (1, out_of_range), (2, ErrorCode::NONE)] {
            let told = client.fetch(&topic, 0, offset).await;
            assert_eq!(
                (told.error_code, told.records.is_empty()),
                (expected, !expected.is_none()),
                "v{version} {offset}"
            );
        }
        assert_eq!(client.fetch(&topic, 0, 2).await.log_start_offset, 2);
        assert_eq!(values_of(&client.fetch(&topic, 0, 2).await.records), ["c", "d"]);
        let told = delete_before(&mut client, version, &topic, 0, -1).await;
        assert_eq!(
            (told.error_code, told.low_watermark),
            (ErrorCode::NONE, 4),
            "v{version}: up to the high watermark"
        );
        assert_eq!(client.append(&topic, 0, &batch(&["e"])).await, 4);
        assert_eq!(client.produce(&topic, 0, &batch(&["f"])).await.log_start_offset, 4);
        for (topic, partition) in [(&unknown, 0), (&topic, 3), (&topic, -1)] {
            let told = delete_before(&mut client, version, topic, partition, 0).await;
            let expected = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1);
            assert_eq!((told.error_code, told.low_watermark), expected, "v{version}");
        }
    }
    let node = node.restart().await;
    let mut client = node.client().await;
    let topic = Topic::named(&Str::from("v2"));
    assert_eq!(client.list_offset(&topic, 0, -2).await.offset, 4, "deleted is deleted");
    assert_eq!(
        values_of(&client.fetch(&topic, 0, 4).await.records),
        ["e", "f"],
        "the first fetch has it all"
    );
    assert_eq!(client.end(&topic, 0).await, 6);
    node.stop().await;
}
