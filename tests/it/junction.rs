//! Where the local log and the bucket meet: what is only in the bucket, what is deleted from both, and what a restart makes of it.

use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use aquifer_protocol::messages::fetch::{FetchRequest, FetchResponse};

use crate::batches::{batch, batch_of_bytes, headers_of, values_of};
use crate::client::{Client, Topic, eventually, fetch_request, wanted};
use crate::node::{Home, Node};

const LATEST_TIERED: i64 = -5;
const EARLIEST_LOCAL: i64 = -4;
const EARLIEST: i64 = -2;

/// Waits until the bucket holds all up to `end`.
async fn tiered(client: &mut Client, topic: &Topic, end: i64) {
    eventually("all is in the bucket", async || {
        let last = client.list_offset(topic, 0, LATEST_TIERED).await;
        (last.offset == end - 1).then_some(())
    })
    .await;
}

/// Waits until nothing but the open segment is on the disk.
async fn trimmed(client: &mut Client, topic: &Topic, end: i64) {
    eventually("local segments are dropped", async || {
        (client.list_offset(topic, 0, EARLIEST_LOCAL).await.offset == end).then_some(())
    })
    .await;
}

async fn delete_before(client: &mut Client, topic: &Topic, offset: i64) -> (ErrorCode, i64) {
    let partition = DeleteRecordsPartition { partition_index: 0, offset };
    let named = DeleteRecordsTopic { name: topic.name.as_str().into(), partitions: vec![partition] };
    let request = DeleteRecordsRequest { topics: vec![named], timeout_ms: 10_000 };
    let answer = client.call(2, &request).await;
    let result = &answer.topics[0].partitions[0];
    (result.error_code, result.low_watermark)
}

/// Reads what lies at `offset`, asking again while it is on its way from the bucket.
async fn read(client: &mut Client, topic: &Topic, offset: i64) -> Vec<String> {
    eventually("records come", async || {
        let request =
            FetchRequest { max_wait_ms: 500, min_bytes: 1, ..fetch_request(vec![wanted(topic, 0, offset)]) };
        let answer: FetchResponse = client.call(12, &request).await;
        let data = &answer.responses[0].partitions[0];
        assert_eq!(data.error_code, ErrorCode::NONE, "at {offset}");
        let values = values_of(&data.records);
        (!values.is_empty()).then_some(values)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_before_they_were_tiered_stop_nothing() {
    let node: Node = Home::tiered(&["tier.roll.ms=1000", "log.retention.check.interval.ms=50"]).start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a", "b"])).await;
    tiered(&mut client, &topic, 2).await;
    trimmed(&mut client, &topic, 2).await;
    assert_eq!(read(&mut client, &topic, 0).await, ["a", "b"]);
    // All that there is, tiered or not.
    client.append(&topic, 0, &batch(&["c", "d"])).await;
    assert_eq!(delete_before(&mut client, &topic, -1).await, (ErrorCode::NONE, 4));
    assert_eq!(client.list_offset(&topic, 0, EARLIEST).await.offset, 4);
    client.append(&topic, 0, &batch(&["e", "f"])).await;
    tiered(&mut client, &topic, 6).await;
    trimmed(&mut client, &topic, 6).await;
    assert_eq!(read(&mut client, &topic, 4).await, ["e", "f"]);
    let gone = client.fetch(&topic, 0, 3).await;
    assert_eq!((gone.error_code, gone.log_start_offset), (ErrorCode::OFFSET_OUT_OF_RANGE, 4));
    let node = node.restart().await;
    let mut client = node.client().await;
    assert_eq!(read(&mut client, &topic, 4).await, ["e", "f"]);
    node.stop().await;
}

/// A bucket that has let go of all that it held contradicts nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_outlives_what_the_bucket_has_expired() {
    let home = Home::tiered(&["tier.roll.ms=1000", "log.retention.check.interval.ms=50"]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &batch(&["a", "b"])).await;
    tiered(&mut client, &topic, 2).await;
    assert_eq!(delete_before(&mut client, &topic, 2).await, (ErrorCode::NONE, 2));
    node.reports("the bucket names nothing", |report| report.objects == 0).await;
    client.append(&topic, 0, &batch(&["c"])).await;
    let node = node.restart().await;
    let mut client = node.client().await;
    tiered(&mut client, &topic, 3).await;
    assert_eq!(client.end(&topic, 0).await, 3);
    assert_eq!(read(&mut client, &topic, 2).await, ["c"]);
    node.stop().await;
}

/// What is hot is not kept waiting by what is cold, and neither takes all of an answer.
#[tokio::test(flavor = "multi_thread")]
async fn hot_and_cold_share_an_answer() {
    let node: Node = Home::tiered(&[]).start().await;
    let mut client = node.client().await;
    let cold = client.create("cold", 1, &[]).await;
    let hot = client.create("hot", 1, &[("remote.storage.enable", "false")]).await;
    let one = batch_of_bytes(10_000);
    for _ in 0..20 {
        client.append(&cold, 0, &one).await;
        client.append(&hot, 0, &one).await;
    }
    tiered(&mut client, &cold, 20).await;
    trimmed(&mut client, &cold, 20).await;
    // Room for ten batches; whichever is asked for first.
    let room = 10 * one.len() as i32;
    for order in [[&cold, &hot], [&hot, &cold]] {
        let counts = eventually("both come", async || {
            let topics = order.iter().map(|topic| wanted(topic, 0, 0)).collect();
            let request =
                FetchRequest { max_wait_ms: 500, min_bytes: room, max_bytes: room, ..fetch_request(topics) };
            let answer: FetchResponse = client.call(12, &request).await;
            let count = |topic: &Topic| {
                let of_topic = answer.responses.iter().find(|one| *one.topic == *topic.name)?;
                Some(headers_of(&of_topic.partitions[0].records).len())
            };
            let counts = (count(&hot)?, count(&cold)?);
            (counts.1 > 0).then_some(counts)
        })
        .await;
        assert_eq!(counts, (5, 5), "hot, cold");
    }
    node.stop().await;
}

/// Requests that announce much and send little hold what they sent, not what they announced.
#[tokio::test(flavor = "multi_thread")]
async fn announced_bytes_are_not_paid_for() {
    let node = Node::start(&["queued.max.request.bytes=1048576"]).await;
    let mut slow = Vec::new();
    for _ in 0..14 {
        let mut client = node.client().await;
        client.send_bytes(&(100_000_000i32).to_be_bytes()).await;
        client.send_bytes(&[0; 100]).await;
        slow.push(client);
    }
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    assert_eq!(client.append(&topic, 0, &batch(&["served all the same"])).await, 0);
    // Larger than all of the budget, and with others in the way: it passes alone.
    assert_eq!(client.append(&topic, 0, &batch_of_bytes(900_000)).await, 1);
    drop(slow);
    node.stop().await;
}
