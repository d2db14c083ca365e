//! Consumer groups of the classic protocol: FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit,
//! OffsetFetch, OffsetDelete, ListGroups, DescribeGroups, DeleteGroups.

use std::path::{Path, PathBuf};

use aquifer_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use aquifer_protocol::messages::delete_groups::DeleteGroupsRequest;
use aquifer_protocol::messages::describe_groups::DescribeGroupsRequest;
use aquifer_protocol::messages::find_coordinator::FindCoordinatorRequest;
use aquifer_protocol::messages::heartbeat::HeartbeatRequest;
use aquifer_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use aquifer_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use aquifer_protocol::messages::list_groups::ListGroupsRequest;
use aquifer_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use aquifer_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aquifer_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use aquifer_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use aquifer_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use aquifer_protocol::{ErrorCode, Str};
use aquifer_runtime::World;
use bytes::Bytes;

use crate::admin::metric;
use crate::batches::batch;
use crate::client::{Client, Topic, eventually};
use crate::node::{Home, Node};

/// A first round is over at once, and no more partitions are made than are wanted.
const SETS: [&str; 2] = ["group.initial.rebalance.delay.ms=0", "offsets.topic.num.partitions=4"];

/// Asks until the group's partition is led and read.
async fn coordinator(client: &mut Client, group: &str, version: i16) {
    let (key, keys) = match version {
        0..=3 => (Str::from(group), Vec::new()),
        _ => (Str::EMPTY, vec![Str::from(group)]),
    };
    let request = FindCoordinatorRequest { key, key_type: 0, coordinator_keys: keys };
    let mut answer = client.call(version, &request).await;
    let (error, node) = match answer.coordinators.pop() {
        Some(found) => (found.error_code, found.node_id),
        None => (answer.error_code, answer.node_id),
    };
    assert_eq!((error, node), (ErrorCode::NONE, 1), "v{version}");
    let describe = DescribeGroupsRequest { groups: vec![Str::from(group)], ..Default::default() };
    eventually("the group's shard", async || {
        let mut answer = client.call(5, &describe).await;
        (answer.groups.pop()?.error_code == ErrorCode::NONE).then_some(())
    })
    .await;
}

fn join_request(group: &str, member: &str, version: i16) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol {
        name: Str::from("range"),
        metadata: Bytes::from_static(&[0, 0, 0, 0, 0, 0]),
    };
    JoinGroupRequest {
        group_id: Str::from(group),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: if version >= 1 { 10_000 } else { -1 },
        member_id: Str::from(member),
        protocol_type: Str::from("consumer"),
        protocols: vec![protocol],
        ..Default::default()
    }
}

/// Joins as clients do: with the id that a first join is answered with.
async fn join(client: &mut Client, group: &str, version: i16) -> JoinGroupResponse {
    let first = client.call(version, &join_request(group, "", version)).await;
    if version < 4 {
        return first;
    }
    assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED, "v{version}");
    assert!(!first.member_id.is_empty(), "v{version}");
    client.call(version, &join_request(group, &first.member_id, version)).await
}

async fn sync(client: &mut Client, group: &str, joined: &JoinGroupResponse, version: i16) -> Bytes {
    let assignment = SyncGroupRequestAssignment {
        member_id: joined.member_id.clone(),
        assignment: Bytes::from_static(b"all of it"),
    };
    let request = SyncGroupRequest {
        group_id: Str::from(group),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: (version >= 5).then(|| Str::from("consumer")),
        protocol_name: (version >= 5).then(|| Str::from("range")),
        assignments: vec![assignment],
        ..Default::default()
    };
    let answer = client.call(version, &request).await;
    assert_eq!(answer.error_code, ErrorCode::NONE, "v{version}");
    answer.assignment
}

fn commit_request(group: &str, topic: &Topic, offset: i64, version: i16) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        committed_leader_epoch: if version >= 6 { 0 } else { -1 },
        committed_metadata: Some(Str::from("why")),
    };
    let (name, topic_id) = named(topic, version);
    OffsetCommitRequest {
        group_id: Str::from(group),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic { name, topic_id, partitions: vec![partition] }],
        ..Default::default()
    }
}

fn named(topic: &Topic, version: i16) -> (Str, uuid::Uuid) {
    if version >= 10 { (Str::EMPTY, topic.id) } else { (topic.name.clone(), uuid::Uuid::nil()) }
}

async fn commit(client: &mut Client, request: &OffsetCommitRequest, version: i16) -> ErrorCode {
    client.call(version, request).await.topics.remove(0).partitions.remove(0).error_code
}

async fn committed(client: &mut Client, group: &str, topic: &Topic, version: i16) -> (i64, ErrorCode) {
    let (name, topic_id) = named(topic, version);
    if version < 8 {
        let topics = Some(vec![OffsetFetchRequestTopic { name, partition_indexes: vec![0] }]);
        let request = OffsetFetchRequest { group_id: Str::from(group), topics, ..Default::default() };
        let partition = client.call(version, &request).await.topics.remove(0).partitions.remove(0);
        return (partition.committed_offset, partition.error_code);
    }
    let topics = Some(vec![OffsetFetchRequestTopics { name, topic_id, partition_indexes: vec![0] }]);
    let asked = OffsetFetchRequestGroup { group_id: Str::from(group), topics, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![asked], ..Default::default() };
    let mut found = client.call(version, &request).await.groups.remove(0);
    let partition = found.topics.remove(0).partitions.remove(0);
    (partition.committed_offset, partition.error_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_lives_and_leaves_in_every_version() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    for version in 0..=9 {
        let group = format!("g{version}");
        coordinator(&mut client, &group, version.min(6)).await;
        let joined = join(&mut client, &group, version).await;
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1), "v{version}");
        assert_eq!(joined.leader, joined.member_id, "v{version}");
        assert_eq!(joined.protocol_name.as_deref(), Some("range"), "v{version}");
        assert_eq!(joined.members.len(), 1, "v{version}");
        assert_eq!(sync(&mut client, &group, &joined, version.min(5)).await, "all of it", "v{version}");
        let heartbeat = HeartbeatRequest {
            group_id: Str::from(group.as_str()),
            generation_id: 1,
            member_id: joined.member_id.clone(),
            group_instance_id: None,
        };
        let alive = client.call(version.min(4), &heartbeat).await;
        assert_eq!(alive.error_code, ErrorCode::NONE, "v{version}");
        let leaving = version.min(5);
        let member = MemberIdentity { member_id: joined.member_id.clone(), ..Default::default() };
        let leave = LeaveGroupRequest {
            group_id: Str::from(group.as_str()),
            member_id: if leaving < 3 { joined.member_id.clone() } else { Str::EMPTY },
            members: if leaving < 3 { Vec::new() } else { vec![member] },
        };
        assert_eq!(client.call(leaving, &leave).await.error_code, ErrorCode::NONE, "v{version}");
        let gone = client.call(version.min(4), &heartbeat).await;
        assert_eq!(gone.error_code, ErrorCode::UNKNOWN_MEMBER_ID, "v{version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_stored_and_told_in_every_version_and_outlive_the_broker() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    coordinator(&mut client, "g", 4).await;
    assert_eq!(committed(&mut client, "g", &topic, 8).await, (-1, ErrorCode::NONE));
    for version in 2..=10 {
        let offset = 100 + i64::from(version);
        let request = commit_request("g", &topic, offset, version);
        assert_eq!(commit(&mut client, &request, version).await, ErrorCode::NONE, "v{version}");
        assert_eq!(
            committed(&mut client, "g", &topic, version).await,
            (offset, ErrorCode::NONE),
            "v{version}"
        );
    }
    assert_eq!(committed(&mut client, "g", &topic, 1).await, (110, ErrorCode::NONE));
    let nowhere = Topic { name: Str::from("nowhere"), id: uuid::Uuid::from_u128(7) };
    for (version, expected) in [(9, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), (10, ErrorCode::UNKNOWN_TOPIC_ID)]
    {
        let request = commit_request("g", &nowhere, 1, version);
        assert_eq!(commit(&mut client, &request, version).await, expected, "v{version}");
    }

    let node = node.restart().await;
    let mut client = node.client().await;
    coordinator(&mut client, "g", 4).await;
    assert_eq!(committed(&mut client, "g", &topic, 8).await, (110, ErrorCode::NONE));
    node.stop().await;
}

/// The files that say whose a log is, of all logs.
fn partition_files(home: &Home) -> Vec<PathBuf> {
    let disk = World::system().disk;
    let below = |folder: &Path| -> Vec<PathBuf> {
        let entries = disk.list(folder).expect("a folder of the broker's");
        entries.into_iter().map(|entry| folder.join(entry.name)).collect()
    };
    let topics = below(&home.data().join("topics"));
    topics.iter().flat_map(|topic| below(topic)).map(|partition| partition.join("partition")).collect()
}

/// What keeps a log from being opened at a start may pass: a disk that was full. Its partition is then served without another start,
/// and so are the groups in it.
#[tokio::test(flavor = "multi_thread")]
async fn logs_that_can_be_opened_later_are_served_from_then_on() {
    let sets = [&SETS[..], &["offsets.topic.num.partitions=1", "admin.listen=127.0.0.1:0"]].concat();
    let node = Node::start(&sets).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    coordinator(&mut client, "g", 4).await;
    client.append(&topic, 0, &batch(&["a", "b"])).await;
    assert_eq!(commit(&mut client, &commit_request("g", &topic, 2, 8), 8).await, ErrorCode::NONE);

    let home = node.stop().await;
    let disk = World::system().disk;
    let files = partition_files(&home);
    for file in &files {
        disk.rename(file, &file.with_extension("away")).expect("it is there");
        disk.create_dir_all(file).expect("a folder in its place");
    }
    let node = home.start().await;
    let mut client = node.client().await;
    let unopened = async || metric(&node, "aquifer_replica_partitions_unopened").await;
    assert_eq!(unopened().await, files.len() as f64);
    assert_eq!(client.list_offset(&topic, 0, -1).await.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    // One is in order again, and then the others: each attempt opens what it can.
    for file in &files {
        disk.remove_dir_all(file).expect("it was made above");
        disk.rename(&file.with_extension("away"), file).expect("it was put there above");
        let left = files.iter().filter(|file| file.is_dir()).count() as f64;
        eventually("one more is open", async || (unopened().await <= left).then_some(())).await;
    }
    assert_eq!(client.end(&topic, 0).await, 2);
    assert_eq!(client.append(&topic, 0, &batch(&["c"])).await, 2);
    coordinator(&mut client, "g", 4).await;
    assert_eq!(committed(&mut client, "g", &topic, 8).await, (2, ErrorCode::NONE));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_goes_on_after_a_restart_of_the_broker() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    coordinator(&mut client, "g", 4).await;
    let joined = join(&mut client, "g", 9).await;
    sync(&mut client, "g", &joined, 5).await;

    let node = node.restart().await;
    let mut client = node.client().await;
    coordinator(&mut client, "g", 4).await;
    let heartbeat = HeartbeatRequest {
        group_id: Str::from("g"),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        group_instance_id: None,
    };
    assert_eq!(client.call(4, &heartbeat).await.error_code, ErrorCode::NONE);
    assert_eq!(sync(&mut client, "g", &joined, 5).await, "all of it");
    let outsider = commit_request("g", &topic, 5, 9);
    assert_eq!(commit(&mut client, &outsider, 9).await, ErrorCode::UNKNOWN_MEMBER_ID);
    let member = OffsetCommitRequest {
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..commit_request("g", &topic, 5, 9)
    };
    assert_eq!(commit(&mut client, &member, 9).await, ErrorCode::NONE);
    let stale = OffsetCommitRequest { generation_id_or_member_epoch: 0, ..member };
    assert_eq!(commit(&mut client, &stale, 9).await, ErrorCode::ILLEGAL_GENERATION);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_listed_described_and_deleted() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    coordinator(&mut client, "idle", 4).await;
    coordinator(&mut client, "busy", 4).await;
    let request = commit_request("idle", &topic, 5, 9);
    assert_eq!(commit(&mut client, &request, 9).await, ErrorCode::NONE);
    let joined = join(&mut client, "busy", 9).await;
    sync(&mut client, "busy", &joined, 5).await;

    let mut listed = client.call(5, &ListGroupsRequest::default()).await.groups;
    listed.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    let told: Vec<(&str, &str)> =
        listed.iter().map(|group| (&*group.group_id, &*group.group_state)).collect();
    assert_eq!(told, [("busy", "Stable"), ("idle", "Empty")]);
    let filter = ListGroupsRequest { states_filter: vec![Str::from("stable")], ..Default::default() };
    assert_eq!(client.call(5, &filter).await.groups.len(), 1);

    let names = vec![Str::from("busy"), Str::from("none")];
    let describe = DescribeGroupsRequest { groups: names.clone(), ..Default::default() };
    let described = client.call(6, &describe).await.groups;
    assert_eq!((described[0].members.len(), &*described[0].protocol_data), (1, "range"));
    assert_eq!(&*described[0].members[0].client_id, "it");
    assert_eq!(described[1].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(&*client.call(5, &describe).await.groups[1].group_state, "Dead");

    let delete =
        DeleteGroupsRequest { groups_names: vec![Str::from("busy"), Str::from("idle"), Str::from("none")] };
    let codes: Vec<ErrorCode> =
        client.call(2, &delete).await.results.into_iter().map(|result| result.error_code).collect();
    assert_eq!(codes, [ErrorCode::NON_EMPTY_GROUP, ErrorCode::NONE, ErrorCode::GROUP_ID_NOT_FOUND]);
    assert_eq!(committed(&mut client, "idle", &topic, 8).await, (-1, ErrorCode::NONE));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_in_a_deleted_topic_do_not_come_back_with_its_name() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    coordinator(&mut client, "g", 4).await;
    let request = commit_request("g", &topic, 5, 9);
    assert_eq!(commit(&mut client, &request, 9).await, ErrorCode::NONE);
    let name = Some(topic.name.clone());
    let state = aquifer_protocol::messages::delete_topics::DeleteTopicState { name, ..Default::default() };
    let delete = aquifer_protocol::messages::delete_topics::DeleteTopicsRequest {
        topics: vec![state],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(client.call(6, &delete).await.responses[0].error_code, ErrorCode::NONE);
    client.create("t", 1, &[]).await;
    eventually("the position to be forgotten", async || {
        (committed(&mut client, "g", &topic, 8).await == (-1, ErrorCode::NONE)).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_topic_of_groups_is_the_brokers_own() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    let name = Str::from("__consumer_offsets");
    let asked = MetadataRequestTopic { name: Some(name.clone()), ..Default::default() };
    let request =
        MetadataRequest { topics: Some(vec![asked]), allow_auto_topic_creation: true, ..Default::default() };
    let found = client.call(12, &request).await.topics.remove(0);
    assert_eq!((found.error_code, found.is_internal), (ErrorCode::NONE, true));
    assert_eq!(found.partitions.len(), 4, "as offsets.topic.num.partitions has it");
    let topic = Topic { name, id: found.topic_id };
    let refused = client.produce(&topic, 0, &batch(&["poison"])).await;
    assert_eq!(refused.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    // A group is found by its name and the number of partitions.
    let grow = CreatePartitionsTopic { name: topic.name.clone(), count: 8, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![grow], timeout_ms: 30_000, ..Default::default() };
    assert_eq!(client.call(3, &request).await.results[0].error_code, ErrorCode::INVALID_REQUEST);
    coordinator(&mut client, "g", 4).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_as_long_as_strings_may_be_fit_into_records() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    coordinator(&mut client, "g", 4).await;
    let instance = Str::from("i".repeat(32_767));
    let request = JoinGroupRequest { group_instance_id: Some(instance), ..join_request("g", "", 9) };
    let joined = client.call(9, &request).await;
    assert_eq!(joined.error_code, ErrorCode::NONE);
    assert!(joined.member_id.len() < 300);
    assert_eq!(sync(&mut client, "g", &joined, 5).await, "all of it");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_says_too_much_is_refused() {
    let node = Node::start(&[SETS[0], SETS[1], "group.member.bytes.max=1000"]).await;
    let mut client = node.client().await;
    coordinator(&mut client, "g", 4).await;
    let protocol = |index: usize, bytes: usize| JoinGroupRequestProtocol {
        name: Str::from(format!("p{index}")),
        metadata: Bytes::from(vec![0; bytes]),
    };
    let wordy = JoinGroupRequest { protocols: vec![protocol(0, 1_000)], ..join_request("g", "", 9) };
    assert_eq!(client.call(9, &wordy).await.error_code, ErrorCode::POLICY_VIOLATION);
    let protocols = (0..101).map(|index| protocol(index, 0)).collect();
    let many = JoinGroupRequest { protocols, ..join_request("g", "", 9) };
    assert_eq!(client.call(9, &many).await.error_code, ErrorCode::POLICY_VIOLATION);
    assert_eq!(join(&mut client, "g", 9).await.error_code, ErrorCode::NONE);
    node.stop().await;
}

/// What members say is remembered within what there is for all of them, and given back when they leave.
#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_room_for_what_it_says_is_asked_to_come_again() {
    let node = Node::start(&[SETS[0], SETS[1], "group.members.bytes.max=1048576"]).await;
    let mut client = node.client().await;
    let wordy = |group: &str| {
        let metadata = Bytes::from(vec![0; 700_000]);
        let protocols = vec![JoinGroupRequestProtocol { name: Str::from("range"), metadata }];
        JoinGroupRequest { protocols, ..join_request(group, "", 3) }
    };
    for group in ["first", "second", "third"] {
        coordinator(&mut client, group, 4).await;
    }
    let first = client.call(3, &wordy("first")).await;
    assert_eq!(first.error_code, ErrorCode::NONE);
    let second = client.call(3, &wordy("second")).await;
    assert_eq!(second.error_code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!(
        join(&mut client, "second", 9).await.error_code,
        ErrorCode::NONE,
        "who says little finds room"
    );
    let leave = LeaveGroupRequest {
        group_id: Str::from("first"),
        member_id: first.member_id.clone(),
        members: Vec::new(),
    };
    assert_eq!(client.call(2, &leave).await.error_code, ErrorCode::NONE);
    drop(first);
    assert_eq!(client.call(3, &wordy("third")).await.error_code, ErrorCode::NONE);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_says_what_was_agreed_on_or_is_refused() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    coordinator(&mut client, "g", 4).await;
    let joined = join(&mut client, "g", 9).await;
    let silent = SyncGroupRequest {
        group_id: Str::from("g"),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    assert_eq!(client.call(5, &silent).await.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(client.call(4, &silent).await.error_code, ErrorCode::NONE);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_that_wait_hold_no_memory_for_requests() {
    let sets = [
        "group.initial.rebalance.delay.ms=600000",
        "offsets.topic.num.partitions=4",
        "socket.request.max.bytes=1048576",
        "queued.max.request.bytes=1048576",
    ];
    let node = Node::start(&sets).await;
    let mut client = node.client().await;
    coordinator(&mut client, "g", 4).await;
    let large = |group: &str| {
        let metadata = Bytes::from(vec![0; 700 << 10]);
        let protocols = vec![JoinGroupRequestProtocol { name: Str::from("range"), metadata }];
        let slow = join_request(group, "", 3);
        JoinGroupRequest { protocols, rebalance_timeout_ms: 1_000_000, ..slow }
    };
    let mut waiting = Vec::new();
    for group in ["g", "h", "k", "l"] {
        let mut member = node.client().await;
        member.send(3, &large(group)).await;
        // So much of the next was read that this one must have been started.
        let refused = client.call(3, &large("")).await;
        assert_ne!(refused.error_code, ErrorCode::NONE, "a group has a name");
        waiting.push(member);
    }
    drop(waiting);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_deleted_in_topics_that_are_there_and_a_group_is_told_of_once() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    coordinator(&mut client, "g", 4).await;
    let request = commit_request("g", &topic, 5, 9);
    assert_eq!(commit(&mut client, &request, 9).await, ErrorCode::NONE);
    let partition = |index| OffsetDeleteRequestPartition { partition_index: index };
    let topics = vec![
        OffsetDeleteRequestTopic { name: Str::from("none"), partitions: vec![partition(0)] },
        OffsetDeleteRequestTopic { name: topic.name.clone(), partitions: vec![partition(7), partition(0)] },
    ];
    let request = OffsetDeleteRequest { group_id: Str::from("g"), topics };
    let answer = client.call(0, &request).await;
    let told = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|one| one.error_code);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(told.collect::<Vec<_>>(), [unknown, unknown, ErrorCode::NONE]);
    assert_eq!(committed(&mut client, "g", &topic, 8).await, (-1, ErrorCode::NONE));

    let asked = || OffsetFetchRequestGroup { group_id: Str::from("g"), topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![asked(), asked()], ..Default::default() };
    assert_eq!(client.call(9, &request).await.groups.len(), 1);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_as_another_and_fences_who_it_was() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    coordinator(&mut client, "g", 4).await;
    // As long as a name on the wire may be: what is made of it has to fit all the same.
    let instance = Str::from("i".repeat(32_767));
    let request = JoinGroupRequest { group_instance_id: Some(instance.clone()), ..join_request("g", "", 9) };
    let first = client.call(9, &request).await;
    assert_eq!((first.error_code, first.generation_id), (ErrorCode::NONE, 1));
    assert_eq!(sync(&mut client, "g", &first, 5).await, "all of it");
    let again = client.call(9, &request).await;
    assert_eq!((again.error_code, again.generation_id), (ErrorCode::NONE, 1), "nobody is disturbed");
    assert_ne!(again.member_id, first.member_id);
    assert!(again.skip_assignment);
    assert_eq!(sync(&mut client, "g", &again, 5).await, "all of it");
    let heartbeat = |member: &Str| HeartbeatRequest {
        group_id: Str::from("g"),
        generation_id: 1,
        member_id: member.clone(),
        group_instance_id: Some(instance.clone()),
    };
    let fenced = client.call(4, &heartbeat(&first.member_id)).await;
    assert_eq!(fenced.error_code, ErrorCode::FENCED_INSTANCE_ID);

    let node = node.restart().await;
    let mut client = node.client().await;
    coordinator(&mut client, "g", 4).await;
    assert_eq!(client.call(4, &heartbeat(&again.member_id)).await.error_code, ErrorCode::NONE);
    node.stop().await;
}
