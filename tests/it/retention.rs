//! Retention, by size and by time, of logs that are only local and of those in a bucket.

use aquifer_protocol::ErrorCode;

use crate::client::{Client, eventually};
use crate::configs::set;
use crate::node::Home;
use crate::tier::{all_is_cold, bucket_is_sound, contents, objects, read, write};

/// Retention without patience.
const SOON: &str = "log.retention.check.interval.ms=50";

/// Waits until the log starts behind `offset`, and gives where.
async fn starts_behind(client: &mut Client, topic: &crate::client::Topic, offset: i64) -> i64 {
    eventually("a later start", async || {
        let start = client.list_offset(topic, 0, -2).await.offset;
        Some(start).filter(|start| *start > offset)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_log_is_cut_at_its_front() {
    let node = Home::new(&[SOON, "log.segment.bytes=1048576"]).start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let written = contents(0, &write(&mut client, &topic, 0, 4_500_000, 31).await);
    set(&mut client, "t", "retention.bytes", "2000000").await;
    let start = starts_behind(&mut client, &topic, 0).await;
    let local = node.reports("less on disk", |report| report.local.get() < written.bytes).await.local.get();
    assert!((2_000_000..2_000_000 + (1 << 20) + 200_000).contains(&local), "{local}");
    assert_eq!(client.fetch(&topic, 0, start - 1).await.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(read(&mut client, &topic, 0, start, written.end).await.end, written.end);
    // By time even the open segment goes, and the log goes on where it was.
    set(&mut client, "t", "retention.ms", "1").await;
    assert_eq!(starts_behind(&mut client, &topic, written.end - 1).await, written.end);
    let node = node.restart().await;
    let mut client = node.client().await;
    assert_eq!(client.list_offset(&topic, 0, -2).await.offset, written.end);
    assert_eq!(client.end(&topic, 0).await, written.end);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_reaches_into_the_bucket() {
    let home = Home::tiered(&[SOON]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let written = contents(0, &write(&mut client, &topic, 0, 2_200_000, 32).await);
    all_is_cold(&node, written.bytes).await;
    set(&mut client, "t", "retention.ms", "1").await;
    assert_eq!(starts_behind(&mut client, &topic, written.end - 1).await, written.end);
    node.reports("nothing is named in the bucket", |report| report.objects == 0).await;
    set(&mut client, "t", "retention.ms", "-1").await;
    let more = write(&mut client, &topic, 0, 100_000, 33).await;
    let more = contents(written.end, &more);
    assert!(read(&mut client, &topic, 0, written.end, more.end).await.same_as(&more));
    bucket_is_sound(&node.stop().await).await;
}

/// Retention reaches into the bucket: the log starts later, its manifest names less, and after the grace the objects go.
#[tokio::test(flavor = "multi_thread")]
async fn retention_drops_the_oldest_from_the_bucket() {
    let home = Home::tiered(&[
        "log.retention.check.interval.ms=50",
        "tier.delete.grace.ms=1000",
        "tier.manifest.age.max.ms=100",
    ]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let written = contents(0, &write(&mut client, &topic, 0, 4_500_000, 10).await);
    all_is_cold(&node, written.bytes).await;
    let before = (node.report(), objects(&home, &["/data/", ".seg"]).len());
    set(&mut client, "t", "retention.bytes", "2000000").await;
    let start = eventually("a later start", async || {
        let start = client.list_offset(&topic, 0, -2).await.offset;
        Some(start).filter(|start| *start > 0)
    })
    .await;
    let report = node.reports("fewer objects", |report| report.objects < before.0.objects).await;
    // As in Kafka, a segment goes if what is left without it is enough.
    assert!((2_000_000..2_000_000 + (1 << 20) + 200_000).contains(&report.tiered.get()), "{report:?}");
    assert_eq!(client.fetch(&topic, 0, 0).await.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(client.fetch(&topic, 0, start - 1).await.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    let found = read(&mut client, &topic, 0, start, written.end).await;
    assert_eq!(found.end, written.end);
    eventually("the objects go", async || {
        let left = objects(&home, &["/data/", ".seg"]).len();
        (left < before.1).then_some(())
    })
    .await;
    bucket_is_sound(&node.stop().await).await;
}
