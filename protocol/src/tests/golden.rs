//! Bytes written by hand, for versions that kafka-protocol does not know, each with the reason why it is as it is.

use bytes::Bytes;
use uuid::Uuid;

use super::encoded;
use crate::messages::describe_log_dirs::*;
use crate::messages::list_offsets::*;
use crate::messages::offset_commit::*;
use crate::messages::offset_fetch::*;
use crate::messages::produce::*;
use crate::{EncodeError, ErrorCode, Message, Reader, Records};

/// Both ways: the value gives these bytes, and the bytes this value.
fn check<M: Message>(version: i16, message: M, golden: &[&[u8]]) {
    let golden = Bytes::from(golden.concat());
    assert_eq!(encoded(&message, version), Ok(golden.clone()), "{} version {version}", M::NAME);
    let mut reader = Reader::new(golden);
    assert_eq!(M::decode(&mut reader, version), Ok(message));
    assert_eq!(reader.expect_end(), Ok(()));
}

const TOPIC_ID: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
const TOPIC_ID_BYTES: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];

fn old_produce_request() -> ProduceRequest {
    let partition = PartitionProduceData { index: 2, records: Records::from(Bytes::from_static(b"old")) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![partition], ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() }
}

#[test]
fn produce_0_to_2_can_be_read() {
    for version in 0..=2 {
        // The transactional id, which comes first since version 3, is absent.
        let golden: &[&[u8]] = &[
            &[0xff, 0xff],             // acks: -1
            &[0, 0, 0x03, 0xe8],       // timeout: 1000 ms
            &[0, 0, 0, 1, 0, 1, b't'], // one topic, its name
            &[0, 0, 0, 1, 0, 0, 0, 2], // one partition, number 2
            &[0, 0, 0, 3],             // three bytes of records
            b"old",
        ];
        check(version, old_produce_request(), golden);
    }
    let transactional = ProduceRequest { transactional_id: Some("id".into()), ..old_produce_request() };
    let refused =
        EncodeError::FieldNotInVersion { message: "ProduceRequest", field: "transactional_id", version: 2 };
    assert_eq!(encoded(&transactional, 2), Err(refused));
}

#[test]
fn produce_0_to_2_can_be_refused() {
    let partition = PartitionProduceResponse {
        index: 2,
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        base_offset: -1,
        ..Default::default()
    };
    let topic =
        TopicProduceResponse { name: "t".into(), partition_responses: vec![partition], ..Default::default() };
    let response = ProduceResponse { responses: vec![topic], ..Default::default() };

    let partition: &[&[u8]] = &[
        &[0, 0, 0, 1, 0, 1, b't'], // one topic, its name
        &[0, 0, 0, 1, 0, 0, 0, 2], // one partition, number 2
        &[0, 35],                  // unsupported version
        &[0xff; 8],                // base offset: -1
    ];
    let throttle_time: &[u8] = &[0; 4];
    let log_append_time: &[u8] = &[0xff; 8];
    check(0, response.clone(), partition);
    check(1, response.clone(), &[partition, &[throttle_time]].concat());
    check(2, response, &[partition, &[log_append_time, throttle_time]].concat());
}

#[test]
fn list_offsets_11_has_the_form_of_10() {
    let partition = ListOffsetsPartition { partition_index: 3, current_leader_epoch: 7, timestamp: -6 };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: 1,
        topics: vec![ListOffsetsTopic { name: "t".into(), partitions: vec![partition] }],
        timeout_ms: 5,
    };
    let golden: &[&[u8]] = &[
        &[0xff; 4],                                        // replica id: -1, a client
        &[1],                                              // read committed
        &[2, 2, b't'], // one topic (compact: 1 + 1), a name of one byte (likewise)
        &[2],          // one partition
        &[0, 0, 0, 3], // number 3
        &[0, 0, 0, 7], // leader epoch 7
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfa], // timestamp: -6, the first offset not yet tiered
        &[0],          // no tagged fields: partition
        &[0],          // nor topic
        &[0, 0, 0, 5], // timeout: 5 ms
        &[0],          // nor request
    ];
    check(11, request, golden);

    let partition =
        ListOffsetsPartitionResponse { partition_index: 3, offset: 9, leader_epoch: 7, ..Default::default() };
    let response = ListOffsetsResponse {
        throttle_time_ms: 0,
        topics: vec![ListOffsetsTopicResponse { name: "t".into(), partitions: vec![partition] }],
    };
    let golden: &[&[u8]] = &[
        &[0; 4],                   // throttle time
        &[2, 2, b't', 2],          // one topic, its name, one partition
        &[0, 0, 0, 3],             // number 3
        &[0, 0],                   // no error
        &[0xff; 8],                // timestamp: -1, which is what stands for none
        &[0, 0, 0, 0, 0, 0, 0, 9], // offset 9
        &[0, 0, 0, 7],             // leader epoch 7
        &[0, 0, 0],                // no tagged fields: partition, topic, response
    ];
    check(11, response, golden);
}

#[test]
fn offset_commit_10_names_topics_by_id() {
    let partition = OffsetCommitRequestPartition {
        partition_index: 1,
        committed_offset: 258,
        committed_leader_epoch: -1,
        committed_metadata: None,
    };
    let request = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: 4,
        member_id: "m".into(),
        group_instance_id: None,
        retention_time_ms: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "dropped, since it is ignorable".into(),
            topic_id: TOPIC_ID,
            partitions: vec![partition],
        }],
    };
    let golden: &[&[u8]] = &[
        &[2, b'g'],                // group
        &[0, 0, 0, 4],             // member epoch
        &[2, b'm'],                // member
        &[0],                      // group instance id: null; no retention time since version 5
        &[2],                      // one topic
        TOPIC_ID_BYTES,            // its id in place of its name
        &[2],                      // one partition
        &[0, 0, 0, 1],             // number 1
        &[0, 0, 0, 0, 0, 0, 1, 2], // offset 258
        &[0xff; 4],                // leader epoch unknown
        &[0],                      // metadata: null
        &[0, 0, 0],                // no tagged fields: partition, topic, request
    ];
    assert_eq!(encoded(&request, 10), Ok(golden.concat().into()));
    let mut nameless = request;
    nameless.topics[0].name = "".into();
    check(10, nameless, golden);
}

#[test]
fn offset_fetch_10_names_topics_by_id() {
    let topic =
        OffsetFetchRequestTopics { topic_id: TOPIC_ID, partition_indexes: vec![1, 2], ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: "g".into(),
        member_id: Some("m".into()),
        member_epoch: 4,
        topics: Some(vec![topic]),
    };
    let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
    let golden: &[&[u8]] = &[
        &[2, 2, b'g'],                // one group, its id
        &[2, b'm', 0, 0, 0, 4],       // member and epoch
        &[2],                         // one topic
        TOPIC_ID_BYTES,               // its id in place of its name
        &[3, 0, 0, 0, 1, 0, 0, 0, 2], // two partitions
        &[0, 0],                      // no tagged fields: topic, group
        &[1],                         // require stable
        &[0],                         // no tagged fields: request
    ];
    check(10, request, golden);
}

#[test]
fn describe_log_dirs_5_tells_of_cordons() {
    let asked = DescribableLogDirTopic { topic: "t".into(), partitions: vec![3] };
    let golden: &[&[u8]] = &[
        &[2, 2, b't'],       // one topic, its name
        &[2, 0, 0, 0, 3, 0], // one partition, number 3; no tagged fields
        &[0],                // no tagged fields: request
    ];
    check(5, DescribeLogDirsRequest { topics: Some(vec![asked]) }, golden);
    let partition = DescribeLogDirsPartition {
        partition_index: 3,
        partition_size: 258,
        offset_lag: 1,
        is_future_key: false,
    };
    let result = DescribeLogDirsResult {
        error_code: ErrorCode::NONE,
        log_dir: "/d".into(),
        topics: vec![DescribeLogDirsTopic { name: "t".into(), partitions: vec![partition] }],
        total_bytes: 512,
        usable_bytes: 256,
        is_cordoned: true,
    };
    let response = DescribeLogDirsResponse { results: vec![result], ..Default::default() };
    let golden: &[&[u8]] = &[
        &[0; 4],                   // throttle time
        &[0, 0],                   // no error
        &[2, 0, 0, 3, b'/', b'd'], // one directory, without error, its path
        &[2, 2, b't', 2],          // one topic, its name, one partition
        &[0, 0, 0, 3],             // number 3
        &[0, 0, 0, 0, 0, 0, 1, 2], // 258 bytes
        &[0, 0, 0, 0, 0, 0, 0, 1], // lag 1
        &[0],                      // no future log
        &[0, 0],                   // no tagged fields: partition, topic
        &[0, 0, 0, 0, 0, 0, 2, 0], // 512 bytes in all
        &[0, 0, 0, 0, 0, 0, 1, 0], // 256 free
        &[1],                      // cordoned: the byte that version 4 does not have
        &[0, 0],                   // no tagged fields: directory, response
    ];
    check(5, response, golden);
}
