//! Groups whose coordinator assigns (KIP-848): ConsumerGroupHeartbeat, ConsumerGroupDescribe, and what the other requests of groups
//! make of such a group.

use std::collections::{BTreeMap, BTreeSet};

use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::consumer_group_describe::{ConsumerGroupDescribeRequest, DescribedGroup};
use aquifer_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use aquifer_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use aquifer_protocol::messages::delete_groups::DeleteGroupsRequest;
use aquifer_protocol::messages::describe_groups::DescribeGroupsRequest;
use aquifer_protocol::messages::find_coordinator::FindCoordinatorRequest;
use aquifer_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use aquifer_protocol::messages::list_groups::ListGroupsRequest;
use aquifer_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aquifer_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use aquifer_protocol::{ErrorCode, Str};
use bytes::Bytes;
use uuid::Uuid;

use crate::admin::metric;
use crate::client::{Client, Topic, eventually};
use crate::configs::{GROUP, SET, alter};
use crate::node::Node;

/// Short sessions, and no more partitions of groups than are wanted.
pub(crate) const SETS: [&str; 6] = [
    "group.consumer.min.session.timeout.ms=1",
    "group.consumer.session.timeout.ms=6000",
    "group.consumer.min.heartbeat.interval.ms=1",
    "group.consumer.heartbeat.interval.ms=100",
    "group.consumer.max.size=3",
    "offsets.topic.num.partitions=2",
];

/// A member, as a client sees itself.
pub(crate) struct Member {
    id: String,
    pub(crate) epoch: i32,
    pub(crate) owned: BTreeMap<Uuid, Vec<i32>>,
}

pub(crate) fn request(group: &str, member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: Str::from(group),
        member_id: Str::from(member),
        member_epoch: epoch,
        ..Default::default()
    }
}

fn joining(group: &str, member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(topics.iter().map(|topic| Str::from(*topic)).collect()),
        topic_partitions: Some(Vec::new()),
        ..request(group, member, 0)
    }
}

impl Member {
    /// Joins, once the group's partition is led and read.
    pub(crate) async fn join(client: &mut Client, group: &str, member: &str, topics: &[&str]) -> Member {
        let found = FindCoordinatorRequest { key: Str::from(group), ..Default::default() };
        assert_eq!(client.call(3, &found).await.error_code, ErrorCode::NONE);
        let joining = joining(group, member, topics);
        let answer = eventually("the group's shard", async || {
            let answer = client.call(1, &joining).await;
            let is_read = ![ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS]
                .contains(&answer.error_code);
            is_read.then_some(answer)
        })
        .await;
        let mut member = Member { id: member.to_owned(), epoch: 0, owned: BTreeMap::new() };
        member.hear(answer);
        member
    }

    fn hear(&mut self, answer: ConsumerGroupHeartbeatResponse) {
        assert_eq!(answer.error_code, ErrorCode::NONE, "{:?}", answer.error_message);
        assert_eq!(answer.heartbeat_interval_ms, 100);
        assert_eq!(answer.member_id.as_deref(), Some(self.id.as_str()));
        self.epoch = answer.member_epoch;
        if let Some(assignment) = answer.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.owned = topics.map(|topic| (topic.topic_id, topic.partitions)).collect();
        }
    }

    fn beat_request(&self, group: &str) -> ConsumerGroupHeartbeatRequest {
        let owned = self.owned.iter();
        let owned =
            owned.map(|(id, partitions)| TopicPartitions { topic_id: *id, partitions: partitions.clone() });
        ConsumerGroupHeartbeatRequest {
            topic_partitions: Some(owned.collect()),
            ..request(group, &self.id, self.epoch)
        }
    }

    pub(crate) async fn beat(&mut self, client: &mut Client, group: &str) {
        let answer = client.call(1, &self.beat_request(group)).await;
        self.hear(answer);
    }

    pub(crate) fn indexes(&self, topic: &Topic) -> Vec<i32> {
        self.owned.get(&topic.id).cloned().unwrap_or_default()
    }
}

async fn code(client: &mut Client, request: &ConsumerGroupHeartbeatRequest) -> ErrorCode {
    client.call(1, request).await.error_code
}

pub(crate) async fn described(client: &mut Client, group: &str) -> DescribedGroup {
    let request = ConsumerGroupDescribeRequest { group_ids: vec![Str::from(group)], ..Default::default() };
    client.call(1, &request).await.groups.remove(0)
}

/// All members heartbeat until the group is stable.
async fn settle(client: &mut Client, group: &str, members: &mut [&mut Member]) {
    eventually("a stable group", async || {
        for member in &mut *members {
            member.beat(client, group).await;
        }
        let state = described(client, group).await.group_state;
        (state == "Stable").then_some(())
    })
    .await;
}

async fn commit(client: &mut Client, topic: &Topic, member: &Member, version: i16) -> ErrorCode {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 7,
        committed_leader_epoch: -1,
        committed_metadata: None,
    };
    let (name, topic_id) =
        if version >= 10 { (Str::EMPTY, topic.id) } else { (topic.name.clone(), Uuid::nil()) };
    let request = OffsetCommitRequest {
        group_id: Str::from("g"),
        generation_id_or_member_epoch: member.epoch,
        member_id: Str::from(member.id.as_str()),
        topics: vec![OffsetCommitRequestTopic { name, topic_id, partitions: vec![partition] }],
        ..Default::default()
    };
    client.call(version, &request).await.topics.remove(0).partitions.remove(0).error_code
}

async fn committed(
    client: &mut Client,
    topic: &Topic,
    member: Option<(&str, i32)>,
) -> Result<i64, ErrorCode> {
    let topics =
        vec![OffsetFetchRequestTopics { name: Str::EMPTY, topic_id: topic.id, partition_indexes: vec![0] }];
    let group = OffsetFetchRequestGroup {
        group_id: Str::from("g"),
        member_id: member.map(|(id, _)| Str::from(id)),
        member_epoch: member.map_or(-1, |(_, epoch)| epoch),
        topics: Some(topics),
    };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let mut found = client.call(10, &request).await.groups.remove(0);
    if found.error_code != ErrorCode::NONE {
        return Err(found.error_code);
    }
    Ok(found.topics.remove(0).partitions.remove(0).committed_offset)
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_a_topic_commit_and_leave_and_outlive_the_broker() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    let topic = client.create("t", 4, &[]).await;
    let mut a = Member::join(&mut client, "g", "a", &["t"]).await;
    assert_eq!(a.indexes(&topic), [0, 1, 2, 3]);
    let mut b = Member::join(&mut client, "g", "b", &["t"]).await;
    assert!(b.owned.is_empty(), "all is a's yet");
    settle(&mut client, "g", &mut [&mut a, &mut b]).await;
    let all: BTreeSet<i32> = a.indexes(&topic).into_iter().chain(b.indexes(&topic)).collect();
    assert_eq!((a.indexes(&topic).len(), all.len()), (2, 4));

    for version in 9..=10 {
        assert_eq!(commit(&mut client, &topic, &a, version).await, ErrorCode::NONE, "v{version}");
    }
    assert_eq!(commit(&mut client, &topic, &a, 8).await, ErrorCode::UNSUPPORTED_VERSION);
    // Who has not heard of its newest epoch yet may; who speaks of before it was given the partition may not.
    let at = |epoch| Member { id: "a".to_owned(), epoch, owned: BTreeMap::new() };
    assert_eq!(commit(&mut client, &topic, &at(a.epoch - 1), 10).await, ErrorCode::NONE);
    assert_eq!(commit(&mut client, &topic, &at(0), 10).await, ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(committed(&mut client, &topic, None).await, Ok(7));
    assert_eq!(committed(&mut client, &topic, Some(("a", a.epoch))).await, Ok(7));
    let refused = committed(&mut client, &topic, Some(("a", a.epoch + 1))).await;
    assert_eq!(refused, Err(ErrorCode::STALE_MEMBER_EPOCH));
    let refused = committed(&mut client, &topic, Some(("nobody", a.epoch))).await;
    assert_eq!(refused, Err(ErrorCode::UNKNOWN_MEMBER_ID));

    let before = described(&mut client, "g").await;
    assert_eq!(
        (before.group_epoch, before.assignment_epoch, before.assignor_name.as_str()),
        (2, 2, "uniform")
    );
    assert_eq!(before.members.len(), 2);
    assert!(before.members.iter().all(|member| member.assignment == member.target_assignment));
    assert!(before.members.iter().all(|member| member.client_id == "it" && member.member_type == 1));
    assert_eq!(before.members[0].assignment.topic_partitions[0].topic_name, "t");

    let node = node.restart().await;
    let mut client = node.client().await;
    eventually("the group is read", async || {
        let answer = client.call(1, &a.beat_request("g")).await;
        (answer.error_code == ErrorCode::NONE && answer.member_epoch == a.epoch).then_some(())
    })
    .await;
    assert_eq!(described(&mut client, "g").await, before);
    b.beat(&mut client, "g").await;
    assert_eq!(committed(&mut client, &topic, Some(("b", b.epoch))).await, Ok(7));

    let leaving = client.call(1, &request("g", "b", -1)).await;
    assert_eq!((leaving.error_code, leaving.member_epoch), (ErrorCode::NONE, -1));
    settle(&mut client, "g", &mut [&mut a]).await;
    assert_eq!(a.indexes(&topic), [0, 1, 2, 3]);
    eventually("a session's end", async || {
        let state = described(&mut client, "g").await.group_state;
        (state == "Empty").then_some(())
    })
    .await;
    assert_eq!(code(&mut client, &a.beat_request("g")).await, ErrorCode::UNKNOWN_MEMBER_ID);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    let mut a = Member::join(&mut client, "g", "a", &["t"]).await;
    let with = |change: fn(&mut ConsumerGroupHeartbeatRequest)| {
        let mut request = joining("g", "b", &["t"]);
        change(&mut request);
        request
    };
    let invalid: [fn(&mut ConsumerGroupHeartbeatRequest); 9] = [
        |request| request.group_id = Str::EMPTY,
        |request| request.member_id = Str::EMPTY,
        |request| request.instance_id = Some(Str::EMPTY),
        |request| request.rack_id = Some(Str::EMPTY),
        |request| request.rebalance_timeout_ms = -1,
        |request| request.topic_partitions = None,
        |request| request.subscribed_topic_names = None,
        |request| request.member_epoch = -2,
        |request| request.member_epoch = -3,
    ];
    for (at, change) in invalid.into_iter().enumerate() {
        assert_eq!(code(&mut client, &with(change)).await, ErrorCode::INVALID_REQUEST, "case {at}");
    }
    let assignor = with(|request| request.server_assignor = Some(Str::from("sticky")));
    assert_eq!(code(&mut client, &assignor).await, ErrorCode::UNSUPPORTED_ASSIGNOR);
    let regex = with(|request| request.subscribed_topic_regex = Some(Str::from("(")));
    assert_eq!(code(&mut client, &regex).await, ErrorCode::INVALID_REGULAR_EXPRESSION);
    let ahead = request("g", "a", a.epoch + 1);
    assert_eq!(code(&mut client, &ahead).await, ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(code(&mut client, &request("g", "x", 1)).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code(&mut client, &request("nowhere", "x", 1)).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(code(&mut client, &request("nowhere", "x", -1)).await, ErrorCode::GROUP_ID_NOT_FOUND);
    let fixed = |member: &str| {
        let mut request = joining("g", member, &["t"]);
        request.instance_id = Some(Str::from("i"));
        request
    };
    assert_eq!(code(&mut client, &fixed("b")).await, ErrorCode::NONE);
    assert_eq!(code(&mut client, &fixed("c")).await, ErrorCode::UNRELEASED_INSTANCE_ID);
    let away = ConsumerGroupHeartbeatRequest { member_epoch: -2, ..fixed("b") };
    let answer = client.call(1, &away).await;
    assert_eq!((answer.error_code, answer.member_epoch), (ErrorCode::NONE, -2));
    assert_eq!(code(&mut client, &fixed("c")).await, ErrorCode::NONE);
    assert_eq!(code(&mut client, &joining("g", "d", &["t"])).await, ErrorCode::NONE);
    assert_eq!(code(&mut client, &joining("g", "e", &["t"])).await, ErrorCode::GROUP_MAX_SIZE_REACHED);
    a.beat(&mut client, "g").await;

    // In version 0 the coordinator chooses an id.
    let nameless = ConsumerGroupHeartbeatRequest { group_id: Str::from("h"), ..joining("h", "", &["t"]) };
    Member::join(&mut client, "h", "first", &["t"]).await;
    let answer = client.call(0, &nameless).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    assert!(answer.member_id.is_some_and(|id| !id.is_empty()));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_what_kind_of_group_it_is() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    Member::join(&mut client, "g", "a", &["t"]).await;
    let list = async |client: &mut Client, types: &[&str], states: &[&str]| {
        let strs = |words: &[&str]| words.iter().map(|word| Str::from(*word)).collect();
        let request = ListGroupsRequest { types_filter: strs(types), states_filter: strs(states) };
        client.call(5, &request).await.groups
    };
    let mut found = list(&mut client, &["consumer"], &["stable"]).await;
    let group = found.pop().expect("it is there");
    let words = (group.protocol_type.as_str(), group.group_state.as_str(), group.group_type.as_str());
    assert_eq!(words, ("consumer", "Stable", "Consumer"));
    assert!(list(&mut client, &["classic"], &[]).await.is_empty());
    assert!(list(&mut client, &[], &["Empty"]).await.is_empty());

    let classic = DescribeGroupsRequest { groups: vec![Str::from("g")], ..Default::default() };
    let answer = client.call(6, &classic).await.groups.remove(0);
    assert_eq!((answer.error_code, answer.group_state.as_str()), (ErrorCode::GROUP_ID_NOT_FOUND, "Dead"));
    let answer = client.call(5, &classic).await.groups.remove(0);
    assert_eq!((answer.error_code, answer.group_state.as_str()), (ErrorCode::NONE, "Dead"));
    assert_eq!(described(&mut client, "nowhere").await.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(described(&mut client, "").await.error_code, ErrorCode::INVALID_GROUP_ID);
    let protocol = JoinGroupRequestProtocol { name: Str::from("range"), metadata: Bytes::new() };
    let join = JoinGroupRequest {
        group_id: Str::from("g"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: Str::from("consumer"),
        protocols: vec![protocol],
        ..Default::default()
    };
    assert_eq!(client.call(9, &join).await.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let delete = DeleteGroupsRequest { groups_names: vec![Str::from("g")] };
    assert_eq!(client.call(2, &delete).await.results[0].error_code, ErrorCode::NON_EMPTY_GROUP);
    assert_eq!(code(&mut client, &request("g", "a", -1)).await, ErrorCode::NONE);
    assert_eq!(client.call(9, &join).await.error_code, ErrorCode::MEMBER_ID_REQUIRED, "nobody is in");
    Member::join(&mut client, "h", "a", &["t"]).await;
    assert_eq!(code(&mut client, &request("h", "a", -1)).await, ErrorCode::NONE);
    let delete = DeleteGroupsRequest { groups_names: vec![Str::from("h")] };
    assert_eq!(client.call(2, &delete).await.results[0].error_code, ErrorCode::NONE);
    assert_eq!(described(&mut client, "h").await.error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    let ask = ApiVersionsRequest {
        client_software_name: Str::from("it"),
        client_software_version: Str::from("1.0"),
    };
    let features = client.call(4, &ask).await.finalized_features;
    let levels = features.iter().map(|feature| (feature.name.as_str(), feature.max_version_level));
    assert!(levels.collect::<Vec<_>>().contains(&("group.version", 1)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_come_and_grow_are_read() {
    let node = Node::start(&SETS).await;
    let mut client = node.client().await;
    let first = client.create("t1", 1, &[]).await;
    client.create("other", 1, &[]).await;
    Member::join(&mut client, "g", "warm", &[]).await;
    assert_eq!(code(&mut client, &request("g", "warm", -1)).await, ErrorCode::NONE);
    let by_regex = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(Str::from("t[0-9]")),
        ..joining("g", "a", &[])
    };
    let mut a = Member { id: "a".to_owned(), epoch: 0, owned: BTreeMap::new() };
    a.hear(client.call(1, &by_regex).await);
    assert_eq!((a.owned.len(), a.indexes(&first)), (1, vec![0]));
    let grow = CreatePartitionsTopic { name: Str::from("t1"), count: 3, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![grow], timeout_ms: 30_000, ..Default::default() };
    assert_eq!(client.call(3, &request).await.results[0].error_code, ErrorCode::NONE);
    eventually("all partitions", async || {
        a.beat(&mut client, "g").await;
        (a.indexes(&first) == [0, 1, 2]).then_some(())
    })
    .await;
    // Not before ten seconds are over since it was matched last.
    let second = client.create("t2", 1, &[]).await;
    eventually("a topic that matches", async || {
        a.beat(&mut client, "g").await;
        (a.indexes(&second) == [0]).then_some(())
    })
    .await;
    let found = described(&mut client, "g").await;
    assert_eq!(found.members[0].subscribed_topic_regex.as_deref(), Some("t[0-9]"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_a_group_hold_from_its_next_heartbeats_on() {
    let sets = [&SETS[..], &["group.consumer.session.timeout.ms=60000"]].concat();
    let node = Node::start(&sets).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    let quick = Member::join(&mut client, "quick", "a", &["t"]).await;
    let slow = Member::join(&mut client, "slow", "a", &["t"]).await;
    let changes = [
        ("consumer.heartbeat.interval.ms", SET, Some("70")),
        ("consumer.session.timeout.ms", SET, Some("1000")),
    ];
    assert_eq!(alter(&mut client, (GROUP, "quick"), &changes, false).await, ErrorCode::NONE);
    for (group, member, interval) in [("quick", &quick, 70), ("slow", &slow, 100)] {
        let answer = client.call(1, &member.beat_request(group)).await;
        assert_eq!((answer.error_code, answer.heartbeat_interval_ms), (ErrorCode::NONE, interval), "{group}");
    }
    eventually("a group whose session is over", async || {
        (described(&mut client, "quick").await.group_state == "Empty").then_some(())
    })
    .await;
    assert_eq!(described(&mut client, "slow").await.group_state, "Stable", "it has a minute");
    node.stop().await;
}

/// Some clients name it in each heartbeat.
#[tokio::test(flavor = "multi_thread")]
async fn an_expression_that_a_group_knows_is_not_matched_again() {
    const MATCHED: &str = "aquifer_groups_patterns_matched_total";
    let sets = [&SETS[..], &["admin.listen=127.0.0.1:0"]].concat();
    let node = Node::start(&sets).await;
    let mut client = node.client().await;
    let topic = client.create("t1", 1, &[]).await;
    let mut first = Member::join(&mut client, "g", "first", &[]).await;
    let by_regex = |member: &str| ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(Str::from("t[0-9]")),
        ..joining("g", member, &[])
    };
    let mut b = Member { id: "b".to_owned(), epoch: 0, owned: BTreeMap::new() };
    assert_eq!(metric(&node, MATCHED).await, 0.0);
    b.hear(client.call(1, &by_regex("b")).await);
    assert_eq!(b.indexes(&topic), [0]);
    let matched = metric(&node, MATCHED).await;
    assert!(matched >= 1.0);
    // The same once more, from the same and from another.
    b.hear(client.call(1, &by_regex("b")).await);
    first.hear(client.call(1, &by_regex("first")).await);
    settle(&mut client, "g", &mut [&mut first, &mut b]).await;
    assert_eq!(metric(&node, MATCHED).await, matched);
    let all: Vec<i32> = first.indexes(&topic).into_iter().chain(b.indexes(&topic)).collect();
    assert_eq!(all, [0], "both read what it matched");
    node.stop().await;
}
