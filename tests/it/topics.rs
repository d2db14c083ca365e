//! CreateTopics, CreatePartitions, DeleteTopics.

use aquifer_protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use aquifer_protocol::messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicResult, CreateTopicsRequest,
};
use aquifer_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest,
};
use aquifer_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use aquifer_protocol::{ErrorCode, Str};
use uuid::Uuid;

use crate::batches::batch;
use crate::client::{
    Client, Topic, creatable, fetch_request, only_fetched, only_produced, produce_request, wanted,
};
use crate::node::Node;

/// How many partitions a topic has; `None` where there is none.
async fn partitions(client: &mut Client, name: &str) -> Option<usize> {
    let topic = MetadataRequestTopic { name: Some(Str::from(name)), ..Default::default() };
    let request =
        MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..Default::default() };
    let found = client.call(13, &request).await.topics.remove(0);
    found.error_code.is_none().then_some(found.partitions.len())
}

async fn create(
    client: &mut Client,
    version: i16,
    topic: CreatableTopic,
    validate_only: bool,
) -> CreatableTopicResult {
    let request = CreateTopicsRequest { topics: vec![topic], validate_only, ..Default::default() };
    client.call(version, &request).await.topics.remove(0)
}

pub(crate) async fn delete_by_name(client: &mut Client, name: &str) {
    let answer = delete(client, DeleteTopicState { name: Some(Str::from(name)), ..Default::default() }).await;
    assert_eq!(answer.error_code, ErrorCode::NONE, "{name}");
}

async fn delete(client: &mut Client, topic: DeleteTopicState) -> DeletableTopicResult {
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    client.call(6, &request).await.responses.remove(0)
}

fn assigned(name: &str, brokers: &[(i32, &[i32])]) -> CreatableTopic {
    let assignment = |(partition_index, brokers): &(i32, &[i32])| CreatableReplicaAssignment {
        partition_index: *partition_index,
        broker_ids: brokers.to_vec(),
    };
    CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: brokers.iter().map(assignment).collect(),
        ..creatable(name, -1, &[])
    }
}

fn replicated(name: &str, replication_factor: i16) -> CreatableTopic {
    CreatableTopic { replication_factor, ..creatable(name, 1, &[]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_creates() {
    let node = Node::start(&["num.partitions=4"]).await;
    let mut client = node.client().await;
    for version in 2..=7 {
        let name = format!("v{version}");
        let configs = [("max.message.bytes", "5000")];
        let created = create(&mut client, version, creatable(&name, 2, &configs), false).await;
        assert_eq!(created.error_code, ErrorCode::NONE, "{name}: {:?}", created.error_message);
        assert_eq!(partitions(&mut client, &name).await, Some(2), "{name}");
        if version >= 5 {
            assert_eq!((created.num_partitions, created.replication_factor), (2, 1), "{name}");
            let told = created.configs.expect("versions from 5 on tell the configs");
            let size =
                told.iter().find(|config| &*config.name == "max.message.bytes").expect("a topic's config");
            assert_eq!(
                (size.value.as_deref(), size.config_source, size.read_only),
                (Some("5000"), 1, false),
                "{name}"
            );
        }
        assert_eq!(created.topic_id.is_nil(), version < 7, "{name}");
        if version >= 4 {
            let name = format!("default-v{version}");
            let defaults = CreatableTopic { replication_factor: -1, ..creatable(&name, -1, &[]) };
            let created = create(&mut client, version, defaults, false).await;
            assert_eq!(created.error_code, ErrorCode::NONE, "{name}: {:?}", created.error_message);
            assert_eq!(partitions(&mut client, &name).await, Some(4), "{name}");
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_cannot_be_are_refused() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("there", 1, &[]).await;
    client.create("with.dot", 1, &[]).await;
    let longest = "x".repeat(249);
    let both = CreatableTopic { num_partitions: 1, ..assigned("t", &[(0, &[1])]) };
    let ok = ErrorCode::NONE;
    let cases: Vec<(CreatableTopic, ErrorCode)> = vec![
        (creatable("there", 1, &[]), ErrorCode::TOPIC_ALREADY_EXISTS),
        (creatable("with_dot", 1, &[]), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (creatable("", 1, &[]), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (creatable(".", 1, &[]), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (creatable("..", 1, &[]), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (creatable("a/b", 1, &[]), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (creatable(&"x".repeat(250), 1, &[]), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (creatable(&longest, 1, &[]), ok),
        (creatable("t", 0, &[]), ErrorCode::INVALID_PARTITIONS),
        (creatable("t", -2, &[]), ErrorCode::INVALID_PARTITIONS),
        (creatable("t", i32::MAX, &[]), ErrorCode::INVALID_PARTITIONS),
        (replicated("t", 0), ErrorCode::INVALID_REPLICATION_FACTOR),
        (replicated("t", 2), ErrorCode::INVALID_REPLICATION_FACTOR),
        (assigned("t", &[(0, &[2])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned("t", &[(0, &[1, 1])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned("t", &[(0, &[])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned("t", &[(1, &[1])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned("t", &[(0, &[1]), (2, &[1])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (both, ErrorCode::INVALID_REQUEST),
        (assigned("assigned", &[(0, &[1]), (1, &[1])]), ok),
        (creatable("t", 1, &[("no.such.key", "1")]), ErrorCode::INVALID_CONFIG),
        (creatable("t", 1, &[("max.message.bytes", "many")]), ErrorCode::INVALID_CONFIG),
        (creatable("t", 1, &[("cleanup.policy", "shrink")]), ErrorCode::INVALID_CONFIG),
        (creatable("compacted", 1, &[("cleanup.policy", "compact")]), ok),
        (creatable("t", 1, &[("compression.type", "zstd")]), ErrorCode::INVALID_CONFIG),
        (creatable("t", 1, &[("remote.storage.enable", "true")]), ErrorCode::INVALID_CONFIG),
    ];
    for (topic, expected) in cases {
        for validate_only in [true, false] {
            let name = topic.name.clone();
            let before = partitions(&mut client, &name).await;
            let result = create(&mut client, 7, topic.clone(), validate_only).await;
            assert_eq!(result.error_code, expected, "{topic:?}: {:?}", result.error_message);
            assert_eq!(result.error_message.is_some(), !expected.is_none(), "{topic:?}");
            if validate_only || !expected.is_none() {
                assert_eq!(partitions(&mut client, &name).await, before, "{topic:?} was not to be created");
            }
        }
    }
    assert_eq!(partitions(&mut client, "assigned").await, Some(2));
    assert_eq!(partitions(&mut client, &longest).await, Some(1));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_one_request_are_judged_each_alone() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topics = ["twice", "once", "twice", "a b"].map(|name| creatable(name, 1, &[]));
    let request = CreateTopicsRequest { topics: topics.to_vec(), ..Default::default() };
    let answer = client.call(7, &request).await;
    for result in &answer.topics {
        let expected = match &*result.name {
            "twice" => ErrorCode::INVALID_REQUEST,
            "once" => ErrorCode::NONE,
            _ => ErrorCode::INVALID_TOPIC_EXCEPTION,
        };
        assert_eq!(result.error_code, expected, "{:?}", result.name);
    }
    assert_eq!(partitions(&mut client, "once").await, Some(1));
    assert_eq!(partitions(&mut client, "twice").await, None);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_deletes() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    for version in 1..=6 {
        client.create("t", 1, &[]).await;
        let by_name = DeleteTopicState { name: Some(Str::from("t")), ..Default::default() };
        let request = DeleteTopicsRequest {
            topics: if version >= 6 { vec![by_name] } else { Vec::new() },
            topic_names: if version >= 6 { Vec::new() } else { vec![Str::from("t")] },
            timeout_ms: 30_000,
        };
        let answer = client.call(version, &request).await.responses.remove(0);
        assert_eq!((answer.error_code, answer.name.as_deref()), (ErrorCode::NONE, Some("t")), "v{version}");
        assert_eq!(partitions(&mut client, "t").await, None, "v{version}");
        let answer = client.call(version, &request).await.responses.remove(0);
        assert_eq!(answer.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "v{version}");
        assert_eq!(answer.name.as_deref(), Some("t"), "v{version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_deleted_by_id_and_no_other_of_their_name() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let first = client.create("t", 1, &[]).await;
    client.append(&first, 0, &batch(&["old"])).await;
    let by_id = |id: Uuid| DeleteTopicState { name: None, topic_id: id };
    let answer = delete(&mut client, by_id(first.id)).await;
    assert_eq!(
        (answer.error_code, answer.name.as_deref(), answer.topic_id),
        (ErrorCode::NONE, Some("t"), first.id)
    );
    let second = client.create("t", 1, &[]).await;
    assert_ne!(first.id, second.id);
    assert_eq!(delete(&mut client, by_id(first.id)).await.error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    let both = DeleteTopicState { name: Some(Str::from("t")), topic_id: second.id };
    assert_eq!(delete(&mut client, both).await.error_code, ErrorCode::INVALID_REQUEST);
    assert_eq!(partitions(&mut client, "t").await, Some(1));
    // Readers and writers of the old topic do not meet the new one.
    let old = only_fetched(client.call(13, &fetch_request(vec![wanted(&first, 0, 0)])).await);
    assert_eq!((old.error_code, old.records.len()), (ErrorCode::UNKNOWN_TOPIC_ID, 0));
    let refused = client.call(13, &produce_request(&first, 0, -1, batch(&["late"]))).await;
    assert_eq!(only_produced(refused).error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(client.end(&second, 0).await, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_can_be_turned_off() {
    let node = Node::start(&["delete.topic.enable=false"]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let answer = delete(&mut client, DeleteTopicState { name: None, topic_id: topic.id }).await;
    assert_eq!(answer.error_code, ErrorCode::TOPIC_DELETION_DISABLED);
    assert_eq!(partitions(&mut client, "t").await, Some(1));
    node.stop().await;
}

fn growing(name: &str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic {
    let assignments = assignments.map(|all| {
        all.iter().map(|brokers| CreatePartitionsAssignment { broker_ids: brokers.to_vec() }).collect()
    });
    CreatePartitionsTopic { name: Str::from(name), count, assignments }
}

async fn grow(
    client: &mut Client,
    version: i16,
    topic: CreatePartitionsTopic,
    validate_only: bool,
) -> ErrorCode {
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only };
    client.call(version, &request).await.results.remove(0).error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_grow_and_never_shrink() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic: Topic = client.create("t", 1, &[]).await;
    for version in 0..=3 {
        let count = i32::from(version) + 2;
        assert_eq!(grow(&mut client, version, growing("t", count, None), true).await, ErrorCode::NONE);
        assert_eq!(
            partitions(&mut client, "t").await,
            Some(count as usize - 1),
            "v{version}: only validated"
        );
        assert_eq!(grow(&mut client, version, growing("t", count, None), false).await, ErrorCode::NONE);
        assert_eq!(partitions(&mut client, "t").await, Some(count as usize), "v{version}");
        assert_eq!(client.append(&topic, count - 1, &batch(&["here at once"])).await, 0, "v{version}");
    }
    for (growth, expected) in [
        (growing("t", 5, None), ErrorCode::INVALID_PARTITIONS),
        (growing("t", 4, None), ErrorCode::INVALID_PARTITIONS),
        (growing("t", 0, None), ErrorCode::INVALID_PARTITIONS),
        (growing("t", -1, None), ErrorCode::INVALID_PARTITIONS),
        (growing("t", i32::MAX, None), ErrorCode::INVALID_PARTITIONS),
        (growing("none", 5, None), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (growing("t", 6, Some(&[&[1], &[1]])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (growing("t", 6, Some(&[&[2]])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (growing("t", 6, Some(&[&[1]])), ErrorCode::NONE),
    ] {
        assert_eq!(grow(&mut client, 3, growth.clone(), false).await, expected, "{growth:?}");
    }
    assert_eq!(partitions(&mut client, "t").await, Some(6));
    let twice = vec![growing("t", 7, None), growing("t", 8, None)];
    let request = CreatePartitionsRequest { topics: twice, timeout_ms: 30_000, validate_only: false };
    let answer = client.call(3, &request).await;
    assert!(
        answer.results.iter().all(|result| result.error_code == ErrorCode::INVALID_REQUEST),
        "{answer:?}"
    );
    assert_eq!(partitions(&mut client, "t").await, Some(6));
    node.stop().await;
}
