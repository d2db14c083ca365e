//! Metadata and DescribeCluster.

use aquifer_protocol::messages::describe_cluster::DescribeClusterRequest;
use aquifer_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use aquifer_protocol::{ApiKey, ErrorCode, Str, frame};
use uuid::Uuid;

use crate::api_versions::request_bytes;
use crate::client::{Client, Topic, eventually};
use crate::node::Node;

fn by_name(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(Str::from(name)), ..Default::default() }
}

fn by_id(id: Uuid) -> MetadataRequestTopic {
    MetadataRequestTopic { name: None, topic_id: id }
}

/// Creates nothing where a client can say so, which it can from version 4 on.
fn ask(version: i16, topics: Option<Vec<MetadataRequestTopic>>) -> MetadataRequest {
    MetadataRequest { topics, allow_auto_topic_creation: version < 4, ..Default::default() }
}

async fn one(client: &mut Client, version: i16, topic: MetadataRequestTopic) -> MetadataResponseTopic {
    let answer: MetadataResponse = client.call(version, &ask(version, Some(vec![topic]))).await;
    let [topic] = <[_; 1]>::try_from(answer.topics).expect("one topic was asked for");
    topic
}

fn names(answer: &MetadataResponse) -> Vec<String> {
    let mut names: Vec<String> =
        answer.topics.iter().filter_map(|topic| topic.name.clone()).map(String::from).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_means_all_and_an_empty_one_none_but_in_version_0() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("a", 1, &[]).await;
    client.create("b", 2, &[]).await;
    for version in 0..=13 {
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let answer = client.call(version, &ask(version, all)).await;
        assert_eq!(names(&answer), ["a", "b"], "v{version}");
        if version > 0 {
            let answer = client.call(version, &ask(version, Some(Vec::new()))).await;
            assert_eq!(names(&answer), [""; 0], "v{version}");
            assert_eq!(answer.brokers.len(), 1, "v{version}");
        }
    }
    node.stop().await;
}

/// librdkafka leaves the four bytes of its count where one says "all topics", and so sends three more than the message has.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_behind_a_request_are_let_pass() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("a", 1, &[]).await;
    for version in 9..=13 {
        // The header's tags, the count, whether to create topics, whether to tell what is allowed, the message's tags.
        let body = [0, 0, 0, 0, 0, 0, 0, 0];
        client.send_bytes(&request_bytes(ApiKey::Metadata.code(), version, 7, &body)).await;
        let answer = client.receive_frame().await.expect("the connection lives");
        assert_eq!(frame::correlation_id(&answer), Ok(7));
        let answer = frame::decode_response::<MetadataRequest>(answer, version).expect("that version");
        assert_eq!(names(&answer), ["a"], "v{version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_describes_the_same_topic() {
    let node = Node::start(&["broker.rack=shelf"]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 3, &[]).await;
    for version in 0..=13 {
        let answer = client.call(version, &ask(version, Some(vec![by_name("t")]))).await;
        let broker = &answer.brokers[0];
        assert_eq!(
            (&*broker.host, broker.port),
            ("127.0.0.1", i32::from(node.address().port())),
            "v{version}"
        );
        assert_eq!(broker.rack.as_deref(), (version >= 1).then_some("shelf"), "v{version}");
        assert_eq!(answer.controller_id, if version >= 1 { broker.node_id } else { -1 }, "v{version}");
        assert_eq!(answer.cluster_id.is_some(), version >= 2, "v{version}");
        let found = &answer.topics[0];
        assert_eq!(found.error_code, ErrorCode::NONE, "v{version}");
        assert!(!found.is_internal, "v{version}");
        assert_eq!(found.topic_id, if version >= 10 { topic.id } else { Uuid::nil() }, "v{version}");
        let mut indexes: Vec<i32> =
            found.partitions.iter().map(|partition| partition.partition_index).collect();
        indexes.sort_unstable();
        assert_eq!(indexes, [0, 1, 2], "v{version}");
        for partition in &found.partitions {
            assert_eq!(partition.error_code, ErrorCode::NONE, "v{version}");
            assert_eq!(partition.leader_id, broker.node_id, "v{version}");
            assert_eq!(partition.replica_nodes, [broker.node_id], "v{version}");
            assert_eq!(partition.isr_nodes, [broker.node_id], "v{version}");
            assert_eq!(partition.offline_replicas, [0; 0], "v{version}");
            assert_eq!(partition.leader_epoch >= 0, version >= 7, "v{version}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_found_by_name_and_by_id() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let unknown = Uuid::from_u128(0x1234_5678_9abc_4def_8000_0000_0000_0001);
    for (wanted, version, expected) in [
        (by_name("t"), 0, ErrorCode::NONE),
        (by_name("t"), 13, ErrorCode::NONE),
        (by_id(topic.id), 12, ErrorCode::NONE),
        (by_id(topic.id), 13, ErrorCode::NONE),
        (MetadataRequestTopic { name: Some(Str::EMPTY), topic_id: topic.id }, 12, ErrorCode::NONE),
        (by_id(unknown), 12, ErrorCode::UNKNOWN_TOPIC_ID),
        (by_id(unknown), 13, ErrorCode::UNKNOWN_TOPIC_ID),
        (by_name("gone"), 4, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (by_name("gone"), 13, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (by_name(""), 4, ErrorCode::INVALID_TOPIC_EXCEPTION),
        (by_name(".."), 4, ErrorCode::INVALID_TOPIC_EXCEPTION),
        (by_name("a b"), 9, ErrorCode::INVALID_TOPIC_EXCEPTION),
        (by_name(&"x".repeat(250)), 13, ErrorCode::INVALID_TOPIC_EXCEPTION),
    ] {
        let found = one(&mut client, version, wanted.clone()).await;
        assert_eq!(found.error_code, expected, "v{version} {wanted:?}");
        if expected.is_none() {
            assert_eq!(found.name.as_deref(), Some("t"), "v{version} {wanted:?}");
            assert_eq!(found.partitions.len(), 1, "v{version} {wanted:?}");
        } else {
            assert_eq!(found.name, wanted.name, "v{version} {wanted:?}");
            assert_eq!(found.topic_id, wanted.topic_id, "v{version} {wanted:?}");
            assert!(found.partitions.is_empty(), "v{version} {wanted:?}");
        }
    }
    // Two versions have a field for the id, and must not use it.
    for version in [10, 11] {
        let named = MetadataRequestTopic { name: Some(Str::from("t")), topic_id: topic.id };
        for (wanted, name) in [(by_id(topic.id), ""), (by_id(Uuid::nil()), ""), (named, "t")] {
            let found = one(&mut client, version, wanted.clone()).await;
            let expected = (ErrorCode::INVALID_REQUEST, Some(name), wanted.topic_id);
            assert_eq!(
                (found.error_code, found.name.as_deref(), found.topic_id),
                expected,
                "v{version} {wanted:?}"
            );
        }
    }
    node.stop().await;
}

/// A topic comes into being by being asked for only where broker and client both want it.
#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_on_first_use_if_both_sides_want_it() {
    for broker_wants in [true, false] {
        let flag = format!("auto.create.topics.enable={broker_wants}");
        let node = Node::start(&[&flag, "num.partitions=3"]).await;
        let mut client = node.client().await;
        // Before version 4 a client could not say; all wanted it.
        for (version, client_wants) in [(0, true), (3, true), (4, false), (4, true), (13, false), (13, true)]
        {
            let name = format!("v{version}-{client_wants}");
            let request = MetadataRequest {
                topics: Some(vec![by_name(&name)]),
                allow_auto_topic_creation: client_wants,
                ..Default::default()
            };
            if broker_wants && client_wants {
                // Kafka says "unknown" or "no leader yet" at first, and clients ask again.
                let created = eventually(&name, async || {
                    let found = client.call(version, &request).await.topics.remove(0);
                    let is_later = [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::LEADER_NOT_AVAILABLE];
                    assert!(found.error_code.is_none() || is_later.contains(&found.error_code), "{name}");
                    found.error_code.is_none().then_some(found)
                });
                assert_eq!(created.await.partitions.len(), 3, "{name}");
            } else {
                let found = client.call(version, &request).await.topics.remove(0);
                assert_eq!(found.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "{name}");
                let all = client.call(13, &ask(13, None)).await;
                assert!(!names(&all).contains(&name), "{name}");
            }
        }
        let request = MetadataRequest { topics: Some(vec![by_name("not a name")]), ..Default::default() };
        let found = client.call(13, &request).await.topics.remove(0);
        assert_eq!(found.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_again_under_its_name_is_another() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let first = client.create("t", 1, &[]).await;
    crate::topics::delete_by_name(&mut client, "t").await;
    assert_eq!(one(&mut client, 13, by_name("t")).await.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(one(&mut client, 13, by_id(first.id)).await.error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    let second: Topic = client.create("t", 1, &[]).await;
    assert_ne!(first.id, second.id);
    assert_eq!(one(&mut client, 13, by_id(first.id)).await.error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(one(&mut client, 13, by_name("t")).await.topic_id, second.id);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_described() {
    let node = Node::start(&["node.id=7", "broker.rack=shelf"]).await;
    let mut client = node.client().await;
    let cluster_id =
        client.call(13, &ask(13, Some(Vec::new()))).await.cluster_id.expect("a cluster has an id");
    for version in 0..=2 {
        let answer = client.call(version, &DescribeClusterRequest::default()).await;
        assert_eq!(answer.error_code, ErrorCode::NONE, "v{version}");
        assert_eq!((&answer.cluster_id, answer.controller_id), (&cluster_id, 7), "v{version}");
        let [broker] = &answer.brokers[..] else { panic!("v{version}: {:?}", answer.brokers) };
        assert_eq!(
            (broker.broker_id, &*broker.host, broker.rack.as_deref()),
            (7, "127.0.0.1", Some("shelf"))
        );
        assert_eq!(broker.port, i32::from(node.address().port()));
        assert!(!broker.is_fenced);
    }
    for (endpoint_type, expected) in
        [(2, ErrorCode::MISMATCHED_ENDPOINT_TYPE), (0, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE)]
    {
        let answer = client.call(1, &DescribeClusterRequest { endpoint_type, ..Default::default() }).await;
        assert_eq!((answer.error_code, answer.brokers.len()), (expected, 0), "{endpoint_type}");
    }
    node.stop().await;
}
