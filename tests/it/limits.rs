//! Limits, each met: one more than is allowed is refused, what is allowed goes on, and a metric tells.

use aquifer_model::compression::Compression;
use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::create_topics::CreateTopicsRequest;
use aquifer_protocol::messages::fetch::FetchRequest;
use aquifer_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use aquifer_protocol::{ApiKey, ErrorCode};

use crate::admin::metric;
use crate::api_versions::request_bytes;
use crate::batches::{batch, compressed, now, sequenced};
use crate::client::{
    Client, Pipelined, creatable, eventually, fetch_request, in_time, only_produced, produce_request, wanted,
};
use crate::node::{Home, Node};

async fn start(sets: &[&str]) -> Node {
    Home::new(&[&["admin.listen=127.0.0.1:0"], sets].concat()).start().await
}

async fn error_of_creation(client: &mut Client, name: &str, partitions: i32) -> ErrorCode {
    let request = CreateTopicsRequest {
        topics: vec![creatable(name, partitions, &[])],
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    client.call(7, &request).await.topics[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_more_is_closed_at_once_and_a_place_comes_back() {
    let node = start(&["max.connections=3", "max.connections.per.ip=2"]).await;
    let mut first = node.client().await;
    let mut second = node.client().await;
    for client in [&mut first, &mut second] {
        client.call(0, &ApiVersionsRequest::default()).await;
    }
    node.client().await.expect_closed("two are open").await;
    assert_eq!(metric(&node, "aquifer_server_connections_refused_total").await, 1.0);
    drop(first);
    eventually("a place", async || {
        let mut third = node.client().await;
        let sent = third.try_send_bytes(&request_bytes(ApiKey::ApiVersions.code(), 0, 1, &[])).await;
        sent.ok()?;
        third.receive_frame().await.map(drop)
    })
    .await;
    second.call(0, &ApiVersionsRequest::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_arrive_in_time_costs_its_connection() {
    let node = start(&["socket.request.arrival.ms=200"]).await;
    let (mut silent, mut patient) = (node.client().await, node.client().await);
    silent.send_bytes(&[0, 0, 1, 0, 0, 3]).await;
    silent.expect_closed("the rest of its request did not come").await;
    // A quiet client is none that is slow.
    patient.call(0, &ApiVersionsRequest::default()).await;
    assert_eq!(metric(&node, "aquifer_server_connections_given_up_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_no_longer_than_the_broker_allows() {
    let node = start(&["fetch.max.wait.ms=100"]).await;
    let mut client = node.client().await;
    let topic = client.create("empty", 1, &[]).await;
    let request = FetchRequest { max_wait_ms: i32::MAX, ..fetch_request(vec![wanted(&topic, 0, 0)]) };
    let answer = in_time("an answer", client.call(12, &request)).await;
    assert!(answer.responses[0].partitions[0].records.is_empty());
}

/// Nobody can leave waits behind: of a client that has gone nothing stays but what ends soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_while_its_fetch_waits_is_noticed() {
    let node = start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("empty", 1, &[]).await;
    let mut gone = node.client().await;
    let request = FetchRequest { max_wait_ms: i32::MAX, ..fetch_request(vec![wanted(&topic, 0, 0)]) };
    gone.send(12, &request).await;
    drop(gone);
    eventually("one connection left", async || {
        (metric(&node, "aquifer_server_connections_open").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_have_a_bound_together() {
    let node = start(&["auto.create.topics.enable=false"]).await;
    let name = MetadataRequestTopic { name: Some("x".into()), ..Default::default() };
    let of = |count| MetadataRequest { topics: Some(vec![name.clone(); count]), ..Default::default() };
    let mut client = node.client().await;
    assert_eq!(client.call(12, &of(100_000)).await.topics.len(), 100_000);
    client.send(12, &of(100_001)).await;
    client.expect_closed("one element too many").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_counted_and_paced() {
    let node = start(&["max.partitions=5"]).await;
    let mut client = node.client().await;
    client.create("four", 4, &[]).await;
    assert_eq!(error_of_creation(&mut client, "two", 2).await, ErrorCode::POLICY_VIOLATION);
    client.create("one", 1, &[]).await;
    assert_eq!(metric(&node, "aquifer_topics_refused_full_total").await, 1.0);
    drop(node.stop().await);

    let node = start(&["max.partitions.creation.rate=1"]).await;
    let mut client = node.client().await;
    // More than a hundred seconds' worth: a debt that this test does not outlast.
    client.create("a", 90, &[]).await;
    client.create("b", 100, &[]).await;
    assert_eq!(error_of_creation(&mut client, "c", 1).await, ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    assert_eq!(metric(&node, "aquifer_topics_refused_rate_total").await, 1.0);
}

/// Requests in flight together: those that are looked into keep their place among the others.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_are_opened_keep_their_order_and_have_a_bound() {
    let node = start(&["log.record.expansions.max=1"]).await;
    let mut client = node.client().await;
    let topic = client
        .create("full", 1, &[("record.validation", "full"), ("record.expanded.bytes.max", "1048576")])
        .await;
    let mut producer = Pipelined::connect(node.address()).await;
    let long = "x".repeat(900_000);
    for number in 0..20 {
        let records = match number % 2 {
            0 => compressed(&[(now(), &format!("{number} {long}"))], Compression::Zstd),
            _ => batch(&[&number.to_string()]),
        };
        producer.send(12, &produce_request(&topic, 0, -1, records)).await;
    }
    let most = "x".repeat((1 << 20) + 1);
    let bomb = compressed(&[(now(), &most)], Compression::Zstd);
    producer.send(12, &produce_request(&topic, 0, -1, bomb)).await;
    for number in 0..20 {
        let answer = only_produced(producer.receive().await);
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, number));
    }
    assert_eq!(only_produced(producer.receive().await).error_code, ErrorCode::INVALID_RECORD);
    assert_eq!(client.end(&topic, 0).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_are_forgotten_when_there_are_too_many_in_all() {
    let node = start(&["log.producer.ids.total.max=40"]).await;
    let mut client = node.client().await;
    let topic = client.create("many", 2, &[]).await;
    for id in 0..60 {
        client.append(&topic, (id % 2) as i32, &sequenced((id, 0), 0, 1)).await;
    }
    assert_eq!(metric(&node, "aquifer_log_forgotten_producers_total").await, 20.0);
    assert_eq!(metric(&node, "aquifer_log_producers").await, 40.0);
}
