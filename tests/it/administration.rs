//! What operators' tools ask of a broker besides topics, groups and configurations: log directories, producers, the metadata's
//! quorum, elections, features.

use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::describe_cluster::DescribeClusterRequest;
use aquifer_protocol::messages::describe_log_dirs::{
    DescribableLogDirTopic, DescribeLogDirsRequest, DescribeLogDirsResult,
};
use aquifer_protocol::messages::describe_producers::{
    DescribeProducersRequest, PartitionResponse, ProducerState, TopicRequest,
};
use aquifer_protocol::messages::describe_quorum::{
    self as quorum, DescribeQuorumRequest, DescribeQuorumResponse,
};
use aquifer_protocol::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse, TopicPartitions};
use aquifer_protocol::messages::metadata::MetadataRequest;
use aquifer_protocol::messages::update_features::{
    FeatureUpdateKey, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use aquifer_protocol::{ErrorCode, Str};
use aquifer_runtime::World;

use crate::batches::{batch_of_bytes, now, sequenced};
use crate::client::{Client, eventually};
use crate::node::Node;

async fn log_dir(client: &mut Client, version: i16, topics: Option<&[(&str, i32)]>) -> DescribeLogDirsResult {
    let named = |topics: &[(&str, i32)]| {
        let named = topics.iter().map(|(topic, index)| DescribableLogDirTopic {
            topic: Str::from(*topic),
            partitions: vec![*index],
        });
        named.collect()
    };
    let answer = client.call(version, &DescribeLogDirsRequest { topics: topics.map(named) }).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let [result] = <[_; 1]>::try_from(answer.results).expect("there is one log directory");
    result
}

/// Topic, partition, bytes.
fn sizes(result: &DescribeLogDirsResult) -> Vec<(&str, i32, i64)> {
    let topics = result.topics.iter();
    topics
        .flat_map(|topic| {
            topic.partitions.iter().map(|partition| {
                assert_eq!((partition.offset_lag, partition.is_future_key), (0, false));
                (&*topic.name, partition.partition_index, partition.partition_size)
            })
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_dir_tells_what_lies_in_it_and_what_is_left_beside() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let (first, second) = (client.create("a", 2, &[]).await, client.create("b", 1, &[]).await);
    let (large, small) = (batch_of_bytes(5000), batch_of_bytes(10));
    client.append(&first, 1, &large).await;
    client.append(&second, 0, &small).await;
    client.append(&second, 0, &small).await;
    let expected = [("a", 0, 0), ("a", 1, large.len() as i64), ("b", 0, 2 * small.len() as i64)];
    for version in 1..=5 {
        let told = log_dir(&mut client, version, None).await;
        assert_eq!(told.error_code, ErrorCode::NONE, "v{version}");
        assert!(told.log_dir.starts_with('/') && told.log_dir.ends_with("/data"), "{}", &*told.log_dir);
        assert_eq!(sizes(&told), expected, "v{version}");
        let volume = (told.total_bytes, told.usable_bytes);
        match version {
            4.. => assert!(0 < volume.1 && volume.1 <= volume.0, "v{version}: {volume:?}"),
            _ => assert_eq!(volume, (-1, -1), "v{version}"),
        }
        assert!(!told.is_cordoned);
    }
    let some = log_dir(&mut client, 4, Some(&[("b", 0), ("a", 1), ("a", 7), ("none", 0)])).await;
    assert_eq!(sizes(&some), expected[1..]);
    let none = log_dir(&mut client, 4, Some(&[])).await;
    assert!(sizes(&none).is_empty() && none.total_bytes > 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_dir_that_cannot_be_used_says_so() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("a", 1, &[]).await;
    let told = log_dir(&mut client, 4, None).await;
    let (here, away) = (told.log_dir.to_string(), format!("{}-away", &*told.log_dir));
    let disk = World::system().disk;
    disk.rename(here.as_ref(), away.as_ref()).expect("a folder of the test's own");
    let told = log_dir(&mut client, 4, None).await;
    assert_eq!(told.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    assert!(told.topics.is_empty() && (told.total_bytes, told.usable_bytes) == (-1, -1));
    disk.rename(away.as_ref(), here.as_ref()).expect("and back");
    assert_eq!(log_dir(&mut client, 4, None).await.error_code, ErrorCode::NONE);
    node.stop().await;
}

async fn producers(client: &mut Client, topic: &str, index: i32) -> PartitionResponse {
    let topics = vec![TopicRequest { name: Str::from(topic), partition_indexes: vec![index] }];
    let mut answer = client.call(0, &DescribeProducersRequest { topics }).await;
    assert_eq!(&*answer.topics[0].name, topic);
    answer.topics.remove(0).partitions.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_are_told_with_their_last_batch() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    let before = now();
    client.append(&topic, 0, &sequenced((9, 1), 0, 3)).await;
    client.append(&topic, 0, &sequenced((9, 1), 3, 2)).await;
    client.append(&topic, 0, &sequenced((4, 0), 0, 1)).await;
    let told = producers(&mut client, "t", 0).await;
    assert_eq!((told.partition_index, told.error_code, told.error_message), (0, ErrorCode::NONE, None));
    let state = |producer_id, producer_epoch, last_sequence, last_timestamp| ProducerState {
        producer_id,
        producer_epoch,
        last_sequence,
        last_timestamp,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    };
    let times: Vec<i64> = told.active_producers.iter().map(|producer| producer.last_timestamp).collect();
    assert!(times.iter().all(|time| (before..=now()).contains(time)), "{times:?}");
    assert_eq!(told.active_producers, [state(4, 0, 0, times[0]), state(9, 1, 4, times[1])]);
    assert!(producers(&mut client, "t", 1).await.active_producers.is_empty());
    // Named twice, told once.
    let twice = TopicRequest { name: Str::from("t"), partition_indexes: vec![0, 1, 0] };
    let request = DescribeProducersRequest { topics: vec![twice.clone(), twice] };
    let answer = client.call(0, &request).await;
    let told = answer.topics.iter().map(|topic| topic.partitions.len());
    assert_eq!(told.collect::<Vec<_>>(), [2, 0]);
    for (topic, index, expected) in [
        ("t", 2, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("none", 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("no/name", 0, ErrorCode::INVALID_TOPIC_EXCEPTION),
    ] {
        let told = producers(&mut client, topic, index).await;
        assert_eq!((told.partition_index, told.error_code), (index, expected), "{topic}-{index}");
        assert!(told.error_message.is_some() && told.active_producers.is_empty());
    }
    node.stop().await;
}

async fn quorum_of(client: &mut Client, version: i16, topic: &str, index: i32) -> DescribeQuorumResponse {
    let partitions = vec![quorum::PartitionRequest { partition_index: index }];
    let topics = vec![quorum::TopicRequest { topic_name: Str::from(topic), partitions }];
    client.call(version, &DescribeQuorumRequest { topics }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_is_one_voter_that_leads_and_its_log_grows() {
    const LOG: &str = "__cluster_metadata";
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let mut last = 0;
    for version in 0..=2 {
        client.create(&format!("t{version}"), 1, &[]).await;
        // What Raft says of itself follows its log a moment later.
        let grown = eventually("a longer log", async || {
            let told = quorum_of(&mut client, version, LOG, 0).await;
            assert_eq!(told.error_code, ErrorCode::NONE, "v{version}");
            Some(told).filter(|told| told.topics[0].partitions[0].high_watermark > last)
        });
        let told = grown.await;
        let partition = &told.topics[0].partitions[0];
        assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::NONE, 1), "v{version}");
        assert!(partition.leader_epoch > 0 && partition.observers.is_empty(), "v{version}");
        let [voter] = &partition.current_voters[..] else { panic!("one voter: {partition:?}") };
        assert_eq!(voter.replica_id, 1);
        assert!(voter.log_end_offset >= partition.high_watermark, "v{version}: {partition:?}");
        last = partition.high_watermark;
        assert_eq!(voter.replica_directory_id.is_nil(), version < 2, "v{version}");
        assert_eq!(voter.last_caught_up_timestamp > 0, version >= 1, "v{version}");
        let nodes: Vec<i32> = told.nodes.iter().map(|node| node.node_id).collect();
        assert_eq!(nodes, if version < 2 { vec![] } else { vec![1] }, "v{version}");
        if let [node_told] = &told.nodes[..] {
            assert_eq!(node_told.listeners[0].port, node.address().port());
        }
    }
    for (topic, index) in [(LOG, 1), ("t0", 0)] {
        let told = quorum_of(&mut client, 2, topic, index).await;
        assert_eq!(told.topics[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    node.stop().await;
}

async fn elect(
    client: &mut Client,
    version: i16,
    kind: i8,
    partitions: Option<&[(&str, i32)]>,
) -> ElectLeadersResponse {
    let named = |partitions: &[(&str, i32)]| {
        let named = partitions
            .iter()
            .map(|(topic, index)| TopicPartitions { topic: Str::from(*topic), partitions: vec![*index] });
        named.collect()
    };
    let request = ElectLeadersRequest {
        election_type: if version == 0 { 0 } else { kind },
        topic_partitions: partitions.map(named),
        timeout_ms: 10_000,
    };
    client.call(version, &request).await
}

/// Of one replica none can be elected but the one that leads.
#[tokio::test(flavor = "multi_thread")]
async fn an_election_that_is_not_needed_is_none() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("t", 2, &[]).await;
    let asked = [("t", 1), ("t", 2), ("none", 0)];
    let expected = [
        ErrorCode::ELECTION_NOT_NEEDED,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ];
    for (version, kind) in [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)] {
        let answer = elect(&mut client, version, kind, Some(&asked)).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        for ((result, (topic, index)), expected) in
            answer.replica_election_results.iter().zip(asked).zip(expected)
        {
            assert_eq!((&*result.topic, result.partition_result[0].partition_id), (topic, index));
            assert_eq!(result.partition_result[0].error_code, expected, "v{version} {kind} {topic}-{index}");
            assert!(result.partition_result[0].error_message.is_some());
        }
        // Of all partitions those that need none are left out.
        let all = elect(&mut client, version, kind, None).await;
        let told: Vec<(&str, usize)> = all
            .replica_election_results
            .iter()
            .map(|result| (&*result.topic, result.partition_result.len()))
            .collect();
        assert_eq!((all.error_code, told), (ErrorCode::NONE, vec![("t", 0)]));
    }
    let unknown = elect(&mut client, 2, 7, Some(&asked)).await;
    assert_eq!(unknown.error_code, ErrorCode::INVALID_REQUEST);
    let codes = unknown.replica_election_results.iter().map(|result| result.partition_result[0].error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [ErrorCode::INVALID_REQUEST; 3]);
    node.stop().await;
}

const FEATURE: &str = "aquifer.version";

async fn update(
    client: &mut Client,
    version: i16,
    feature: &str,
    level: i16,
    upgrade_type: i8,
) -> UpdateFeaturesResponse {
    let update = FeatureUpdateKey {
        feature: Str::from(feature),
        max_version_level: level,
        allow_downgrade: version == 0 && upgrade_type != 1,
        upgrade_type: if version == 0 { 1 } else { upgrade_type },
    };
    let request = UpdateFeaturesRequest { feature_updates: vec![update], ..UpdateFeaturesRequest::default() };
    client.call(version, &request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_told_and_no_level_that_is_unknown_is_finalized() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let ask =
        ApiVersionsRequest { client_software_name: Str::from("it"), client_software_version: Str::from("1") };
    let before = client.call(4, &ask).await;
    let supported: Vec<(&str, i16, i16)> = before
        .supported_features
        .iter()
        .map(|feature| (&*feature.name, feature.min_version, feature.max_version))
        .collect();
    assert!(supported.contains(&(FEATURE, 1, 2)), "{supported:?}");
    let finalized = before.finalized_features.iter().find(|feature| &*feature.name == FEATURE).unwrap();
    assert_eq!((finalized.min_version_level, finalized.max_version_level), (2, 2));
    assert!(before.finalized_features_epoch >= 0, "clients ignore levels of an epoch that is unknown");
    let (upgrade, downgrade, nonsense) = (1, 2, 9);
    for (feature, level, direction, expected) in [
        (FEATURE, 2, upgrade, ErrorCode::NONE),
        (FEATURE, 3, upgrade, ErrorCode::INVALID_UPDATE_VERSION),
        (FEATURE, 1, upgrade, ErrorCode::INVALID_UPDATE_VERSION),
        (FEATURE, 1, downgrade, ErrorCode::INVALID_UPDATE_VERSION),
        (FEATURE, 0, downgrade, ErrorCode::INVALID_UPDATE_VERSION),
        (FEATURE, -1, downgrade, ErrorCode::INVALID_UPDATE_VERSION),
        ("metadata.version", 25, upgrade, ErrorCode::INVALID_UPDATE_VERSION),
        (FEATURE, 2, nonsense, ErrorCode::INVALID_UPDATE_VERSION),
    ] {
        for version in 0..=2 {
            if version == 0 && direction == nonsense {
                continue;
            }
            let answer = update(&mut client, version, feature, level, direction).await;
            assert_eq!(answer.error_code, expected, "v{version} {feature}={level}");
            assert_eq!(answer.error_message.is_some(), !expected.is_none());
            assert_eq!(answer.results.len(), usize::from(expected.is_none() && version < 2));
        }
    }
    let after = client.call(4, &ask).await;
    assert_eq!(after.finalized_features, before.finalized_features);
    assert!(after.finalized_features_epoch >= before.finalized_features_epoch);
    node.stop().await;
}

/// Without access rules everybody may do everything, and whoever asks is told so.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_may_do_is_told_on_request() {
    const NOT_ASKED: i32 = i32::MIN;
    const TOPIC: i32 = 0b1101_1111_1000;
    const CLUSTER: i32 = 0b1_1111_1010_0000;
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    for asked in [false, true] {
        let expected = |operations| if asked { operations } else { NOT_ASKED };
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: asked,
            ..DescribeClusterRequest::default()
        };
        assert_eq!(client.call(1, &request).await.cluster_authorized_operations, expected(CLUSTER));
        let request = MetadataRequest {
            topics: None,
            include_topic_authorized_operations: asked,
            include_cluster_authorized_operations: asked,
            ..MetadataRequest::default()
        };
        let answer = client.call(10, &request).await;
        assert_eq!(answer.topics[0].topic_authorized_operations, expected(TOPIC));
        assert_eq!(answer.cluster_authorized_operations, expected(CLUSTER));
    }
    node.stop().await;
}
