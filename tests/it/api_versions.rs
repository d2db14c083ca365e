//! ApiVersions. That all that it promises is answered is `prober.rs`'s.

use std::collections::BTreeMap;

use aquifer_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use aquifer_protocol::{ApiKey, ErrorCode, Str, VersionRange, frame};
use bytes::{BufMut as _, BytesMut};

use crate::node::Node;

fn ask() -> ApiVersionsRequest {
    ApiVersionsRequest { client_software_name: Str::from("it"), client_software_version: Str::from("1.0") }
}

fn ranges(answer: &ApiVersionsResponse) -> BTreeMap<i16, VersionRange> {
    let keys = answer.api_keys.iter();
    keys.map(|api| (api.api_key, VersionRange { min: api.min_version, max: api.max_version })).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_says_the_same() {
    let node = Node::start(&[]).await;
    let mut told = Vec::new();
    for version in 0..=4 {
        // The first request on its connection: nothing need be known before.
        let answer = node.client().await.call(version, &ask()).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "v{version}");
        told.push(ranges(&answer));
    }
    assert!(told.iter().all(|ranges| *ranges == told[0]));
    let range = |key: ApiKey| told[0].get(&key.code()).copied();
    // The versions that clients of today cannot do without, and Produce from 0 on (KAFKA-18659).
    for (key, min, max) in [
        (ApiKey::Produce, 0, 13),
        (ApiKey::Fetch, 4, 17),
        (ApiKey::ListOffsets, 1, 11),
        (ApiKey::Metadata, 0, 13),
        (ApiKey::OffsetCommit, 2, 10),
        (ApiKey::OffsetFetch, 1, 10),
        (ApiKey::FindCoordinator, 0, 6),
        (ApiKey::JoinGroup, 0, 9),
        (ApiKey::Heartbeat, 0, 4),
        (ApiKey::LeaveGroup, 0, 5),
        (ApiKey::SyncGroup, 0, 5),
        (ApiKey::DescribeGroups, 0, 6),
        (ApiKey::ListGroups, 0, 5),
        (ApiKey::DeleteGroups, 0, 2),
        (ApiKey::OffsetDelete, 0, 0),
        (ApiKey::ApiVersions, 0, 4),
        (ApiKey::CreateTopics, 2, 7),
        (ApiKey::DeleteTopics, 1, 6),
        (ApiKey::DeleteRecords, 0, 2),
        (ApiKey::InitProducerId, 0, 5),
        (ApiKey::OffsetForLeaderEpoch, 2, 4),
        (ApiKey::DescribeConfigs, 1, 4),
        (ApiKey::CreatePartitions, 0, 3),
        (ApiKey::IncrementalAlterConfigs, 0, 1),
        (ApiKey::AlterConfigs, 0, 2),
        (ApiKey::DescribeLogDirs, 1, 5),
        (ApiKey::ElectLeaders, 0, 2),
        (ApiKey::DescribeClientQuotas, 0, 1),
        (ApiKey::AlterClientQuotas, 0, 1),
        (ApiKey::DescribeUserScramCredentials, 0, 0),
        (ApiKey::DescribeQuorum, 0, 2),
        (ApiKey::UpdateFeatures, 0, 2),
        (ApiKey::DescribeCluster, 0, 2),
        (ApiKey::DescribeProducers, 0, 0),
        (ApiKey::ListConfigResources, 0, 1),
        (ApiKey::DescribeTopicPartitions, 0, 0),
        (ApiKey::ConsumerGroupHeartbeat, 0, 1),
        (ApiKey::ConsumerGroupDescribe, 0, 1),
    ] {
        let range = range(key).unwrap_or_else(|| panic!("{key} is not advertised"));
        assert_eq!(range.min, min, "{key}");
        assert!(range.max >= max, "{key}: {range}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_is_answered_in_version_0() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    for version in [5_i16, 99, i16::MAX, -1] {
        client.send_bytes(&request_bytes(ApiKey::ApiVersions.code(), version, 7, b"\x00what\x05ever")).await;
        let body = client.receive_frame().await.expect("the connection lives");
        assert_eq!(frame::correlation_id(&body), Ok(7));
        let answer = frame::decode_response::<ApiVersionsRequest>(body, 0).expect("version 0");
        assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_VERSION, "v{version}");
        let own = ranges(&answer).get(&ApiKey::ApiVersions.code()).copied();
        assert_eq!(own, Some(VersionRange { min: 0, max: 4 }), "v{version}");
    }
    let answer = client.call(4, &ask()).await;
    assert_eq!(answer.error_code, ErrorCode::NONE, "the same connection goes on");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_none_is_refused() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    for (name, version, expected) in [
        ("apache-kafka-java", "4.1.0", ErrorCode::NONE),
        ("", "1", ErrorCode::INVALID_REQUEST),
        ("a b", "1", ErrorCode::INVALID_REQUEST),
        ("a", "{}", ErrorCode::INVALID_REQUEST),
        ("-a", "1", ErrorCode::INVALID_REQUEST),
    ] {
        let request = ApiVersionsRequest {
            client_software_name: Str::from(name),
            client_software_version: Str::from(version),
        };
        assert_eq!(client.call(3, &request).await.error_code, expected, "{name:?} {version:?}");
        // Before version 3 nobody says who they are.
        assert_eq!(client.call(2, &request).await.error_code, ErrorCode::NONE);
    }
    node.stop().await;
}

/// A key or a version that is not served is told apart from garbage: the answer is error 35, and the connection goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_gets_error_35_and_the_connection_lives() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let unserved = [
        (ApiKey::Fetch.code(), 3),
        (ApiKey::Fetch.code(), 99),
        (ApiKey::Metadata.code(), 14),
        (ApiKey::Produce.code(), 14),
        (ApiKey::JoinGroup.code(), 10),
        (ApiKey::ShareFetch.code(), 1),
        (500, 0),
        (-7, 0),
        (i16::MAX, i16::MAX),
    ];
    for (number, (key, version)) in (0..).zip(unserved) {
        client.send_bytes(&request_bytes(key, version, number, &[0; 12])).await;
        let body = client.receive_frame().await.expect("the connection lives");
        assert_eq!(frame::correlation_id(&body), Ok(number));
        let error = ErrorCode::UNSUPPORTED_VERSION.code().to_be_bytes();
        assert_eq!(body.get(4..6), Some(&error[..]), "key {key} v{version}");
    }
    assert_eq!(client.call(4, &ask()).await.error_code, ErrorCode::NONE);
    node.stop().await;
}

/// A request of any key and version, without regard to whether they exist.
pub(crate) fn request_bytes(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> BytesMut {
    let mut header = BytesMut::new();
    header.put_i16(key);
    header.put_i16(version);
    header.put_i32(correlation_id);
    header.put_i16(2);
    header.put_slice(b"it");
    header.put_slice(body);
    framed(&header)
}

/// The bytes with their length in front.
pub(crate) fn framed(body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_u32(u32::try_from(body.len()).expect("a small frame"));
    frame.put_slice(body);
    frame
}
