//! Consumer groups that change their protocol while members are in: JoinGroup, SyncGroup, Heartbeat, LeaveGroup of classic members among
//! such that speak ConsumerGroupHeartbeat.

use aquifer_protocol::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use aquifer_protocol::messages::describe_groups::DescribeGroupsRequest;
use aquifer_protocol::messages::find_coordinator::FindCoordinatorRequest;
use aquifer_protocol::messages::heartbeat::HeartbeatRequest;
use aquifer_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use aquifer_protocol::messages::leave_group::{LeaveGroupRequest, MemberIdentity};
use aquifer_protocol::messages::list_groups::ListGroupsRequest;
use aquifer_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aquifer_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use aquifer_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use aquifer_protocol::{ErrorCode, Str};
use bytes::Bytes;

use crate::client::{Client, Topic, eventually};
use crate::consumer_groups::{Member, SETS, described, request};
use crate::node::Node;

/// A classic member, as a client sees itself; it reads `t`.
struct Classic {
    id: Str,
    generation: i32,
    owned: Vec<i32>,
}

/// Topics by name with partitions, as consumers of a classic group write them.
fn named(indexes: &[i32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(i32::from(!indexes.is_empty()).to_be_bytes());
    if !indexes.is_empty() {
        bytes.extend(b"\0\x01t");
        bytes.extend((indexes.len() as i32).to_be_bytes());
        bytes.extend(indexes.iter().flat_map(|index| index.to_be_bytes()));
    }
    bytes
}

impl Classic {
    fn new() -> Classic {
        Classic { id: Str::EMPTY, generation: -1, owned: Vec::new() }
    }

    fn join_request(&self) -> JoinGroupRequest {
        let mut metadata = vec![0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff];
        metadata.extend(named(&self.owned));
        JoinGroupRequest {
            group_id: Str::from("g"),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id: self.id.clone(),
            protocol_type: Str::from("consumer"),
            protocols: vec![JoinGroupRequestProtocol { name: Str::from("range"), metadata: metadata.into() }],
            ..Default::default()
        }
    }

    /// Joins, with the id that a first join is answered with, and asks what to read. One that leads gives itself these partitions.
    async fn join(&mut self, client: &mut Client, leading: &[i32]) {
        let mut joined = client.call(9, &self.join_request()).await;
        if joined.error_code == ErrorCode::MEMBER_ID_REQUIRED {
            self.id = joined.member_id;
            joined = client.call(9, &self.join_request()).await;
        }
        assert_eq!(joined.error_code, ErrorCode::NONE);
        assert_eq!((&joined.member_id, joined.protocol_name.as_deref()), (&self.id, Some("range")));
        self.generation = joined.generation_id;
        let assignment = [&[0, 1][..], &named(leading), &[0xff; 4]].concat().into();
        let given = SyncGroupRequestAssignment { member_id: self.id.clone(), assignment };
        let synced = client
            .call(
                5,
                &SyncGroupRequest {
                    group_id: Str::from("g"),
                    generation_id: self.generation,
                    member_id: self.id.clone(),
                    protocol_type: Some(Str::from("consumer")),
                    protocol_name: Some(Str::from("range")),
                    assignments: if joined.leader == self.id { vec![given] } else { Vec::new() },
                    ..Default::default()
                },
            )
            .await;
        assert_eq!(synced.error_code, ErrorCode::NONE);
        self.owned = indexes(&synced.assignment);
    }

    async fn beat(&self, client: &mut Client) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: Str::from("g"),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        client.call(4, &request).await.error_code
    }

    async fn commit(&self, client: &mut Client, topic: &Topic, generation: i32, offset: i64) -> ErrorCode {
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: offset,
            committed_leader_epoch: -1,
            committed_metadata: None,
        };
        let (name, topic_id) = (topic.name.clone(), uuid::Uuid::nil());
        let request = OffsetCommitRequest {
            group_id: Str::from("g"),
            generation_id_or_member_epoch: generation,
            member_id: self.id.clone(),
            topics: vec![OffsetCommitRequestTopic { name, topic_id, partitions: vec![partition] }],
            ..Default::default()
        };
        client.call(8, &request).await.topics.remove(0).partitions.remove(0).error_code
    }
}

/// The partitions of `t` in an assignment.
fn indexes(assignment: &Bytes) -> Vec<i32> {
    let number = |at: usize| i32::from_be_bytes(assignment[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(assignment[..2], [0, 1], "in the version that it speaks");
    if number(2) == 0 {
        return Vec::new();
    }
    let count = usize::try_from(number(9)).expect("a count");
    (0..count).map(|nth| number(13 + 4 * nth)).collect()
}

async fn kind(client: &mut Client) -> (String, String) {
    let group = client.call(5, &ListGroupsRequest::default()).await.groups.pop().expect("it is there");
    (group.group_type.to_string(), group.group_state.to_string())
}

fn words(kind: &str, state: &str) -> (String, String) {
    (kind.to_owned(), state.to_owned())
}

async fn committed(client: &mut Client, topic: &Topic) -> i64 {
    let topics =
        vec![OffsetFetchRequestTopics { name: Str::EMPTY, topic_id: topic.id, partition_indexes: vec![0] }];
    let group = OffsetFetchRequestGroup {
        group_id: Str::from("g"),
        member_epoch: -1,
        topics: Some(topics),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let mut found = client.call(10, &request).await.groups.remove(0);
    found.topics.remove(0).partitions.remove(0).committed_offset
}

/// A node whose group `g` can be asked, and its topic `t`.
async fn start(policy: &str) -> (Node, Client, Topic) {
    let policy = format!("group.consumer.migration.policy={policy}");
    let sets: Vec<&str> =
        SETS.into_iter().chain(["group.initial.rebalance.delay.ms=0", policy.as_str()]).collect();
    let node = Node::start(&sets).await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    let found = FindCoordinatorRequest { key: Str::from("g"), ..Default::default() };
    assert_eq!(client.call(3, &found).await.error_code, ErrorCode::NONE);
    let describe = DescribeGroupsRequest { groups: vec![Str::from("g")], ..Default::default() };
    eventually("the group's shard", async || {
        let mut answer = client.call(5, &describe).await;
        (answer.groups.pop()?.error_code == ErrorCode::NONE).then_some(())
    })
    .await;
    (node, client, topic)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_over_to_its_coordinator_and_back_with_members_in() {
    let (node, mut client, topic) = start("bidirectional").await;
    let mut old = Classic::new();
    old.join(&mut client, &[0, 1]).await;
    assert_eq!((old.generation, old.owned.as_slice()), (1, &[0, 1][..]));
    assert_eq!(old.commit(&mut client, &topic, 1, 7).await, ErrorCode::NONE);
    assert_eq!(kind(&mut client).await, words("Classic", "Stable"));

    let mut new = Member::join(&mut client, "g", "new", &["t"]).await;
    assert!(new.owned.is_empty(), "all is the other's yet");
    assert_eq!(kind(&mut client).await, words("Consumer", "Reconciling"));
    let found = described(&mut client, "g").await;
    let types: Vec<(&str, i8)> =
        found.members.iter().map(|member| (member.member_id.as_str(), member.member_type)).collect();
    assert_eq!(types.iter().find(|(id, _)| *id == old.id.as_str()).map(|(_, kind)| *kind), Some(0));
    assert_eq!(types.iter().find(|(id, _)| *id == "new").map(|(_, kind)| *kind), Some(1));
    let classic = DescribeGroupsRequest { groups: vec![Str::from("g")], ..Default::default() };
    assert_eq!(client.call(6, &classic).await.groups[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND);

    assert_eq!(old.beat(&mut client).await, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(old.commit(&mut client, &topic, 1, 8).await, ErrorCode::NONE, "where it is, it may");
    assert_eq!(old.commit(&mut client, &topic, 9, 8).await, ErrorCode::ILLEGAL_GENERATION);
    old.join(&mut client, &[]).await;
    assert_eq!((old.generation, old.owned.len()), (1, 1), "it has to give one back first");
    assert_eq!(old.beat(&mut client).await, ErrorCode::REBALANCE_IN_PROGRESS);
    old.join(&mut client, &[]).await;
    assert_eq!((old.generation, old.owned.len()), (2, 1));
    new.beat(&mut client, "g").await;
    assert_eq!(new.indexes(&topic).len(), 1);
    assert_ne!(new.indexes(&topic), old.owned);
    assert_eq!(old.beat(&mut client).await, ErrorCode::NONE);
    assert_eq!(kind(&mut client).await, words("Consumer", "Stable"));

    // All of it is stored.
    let node = node.restart().await;
    let mut client = node.client().await;
    eventually("the group is read", async || (old.beat(&mut client).await == ErrorCode::NONE).then_some(()))
        .await;
    eventually("and served", async || (committed(&mut client, &topic).await == 8).then_some(())).await;
    new.beat(&mut client, "g").await;
    assert_eq!(described(&mut client, "g").await.members.len(), 2);

    let left = client.call(1, &request("g", "new", -1)).await;
    assert_eq!(left.error_code, ErrorCode::NONE);
    assert_eq!(kind(&mut client).await, words("Classic", "PreparingRebalance"));
    assert_eq!(old.beat(&mut client).await, ErrorCode::REBALANCE_IN_PROGRESS);
    let late = ConsumerGroupHeartbeatRequest { member_epoch: new.epoch, ..request("g", "new", new.epoch) };
    assert_eq!(client.call(1, &late).await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    old.join(&mut client, &[0, 1]).await;
    assert_eq!((old.generation, old.owned.as_slice()), (3, &[0, 1][..]));
    assert_eq!(kind(&mut client).await, words("Classic", "Stable"));
    assert_eq!(committed(&mut client, &topic).await, 8);
    assert_eq!(described(&mut client, "g").await.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classic_member_joins_and_leaves_a_group_whose_coordinator_assigns() {
    let (node, mut client, topic) = start("bidirectional").await;
    let mut new = Member::join(&mut client, "g", "new", &["t"]).await;
    let mut old = Classic::new();
    old.join(&mut client, &[]).await;
    assert_eq!((old.generation, old.owned.len()), (2, 0));
    eventually("a partition for each", async || {
        new.beat(&mut client, "g").await;
        if old.beat(&mut client).await == ErrorCode::REBALANCE_IN_PROGRESS {
            old.join(&mut client, &[]).await;
        }
        (new.indexes(&topic).len() == 1 && old.owned.len() == 1).then_some(())
    })
    .await;
    let gone = MemberIdentity { member_id: old.id.clone(), ..Default::default() };
    let leave = LeaveGroupRequest { group_id: Str::from("g"), members: vec![gone], ..Default::default() };
    assert_eq!(client.call(5, &leave).await.members[0].error_code, ErrorCode::NONE);
    assert_eq!(old.beat(&mut client).await, ErrorCode::UNKNOWN_MEMBER_ID);
    eventually("all for the one that stays", async || {
        new.beat(&mut client, "g").await;
        (new.indexes(&topic).len() == 2).then_some(())
    })
    .await;
    assert_eq!(kind(&mut client).await, words("Consumer", "Stable"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_forbids_it_is_kept() {
    let (node, mut client, _) = start("disabled").await;
    let mut old = Classic::new();
    old.join(&mut client, &[0, 1]).await;
    let joining = ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![Str::from("t")]),
        topic_partitions: Some(Vec::new()),
        ..request("g", "new", 0)
    };
    let refused = client.call(1, &joining).await;
    assert_eq!(refused.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    let why = refused.error_message.expect("a reason");
    assert!(why.contains("group.consumer.migration.policy"), "{why}");
    assert_eq!(old.beat(&mut client).await, ErrorCode::NONE, "nobody noticed");
    node.stop().await;
}
