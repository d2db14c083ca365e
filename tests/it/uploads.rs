//! Uploads that fail, hang or stand still: told, and begun again by themselves.

use aquifer_model::ByteCount;
use aquifer_runtime::World;

use crate::admin::metric;
use crate::client::eventually;
use crate::node::Home;
use crate::tier::{all_is_cold, bucket_is_sound, contents, read, write};

#[tokio::test(flavor = "multi_thread")]
async fn uploads_that_stand_still_are_told_and_go_on() {
    let home = Home::tiered(&[
        "admin.listen=127.0.0.1:0",
        "tier.upload.deadline.ms=1000",
        "tier.upload.stall.ms=1000",
        "tier.upload.retry.backoff.ms=10",
        "tier.upload.retry.backoff.max.ms=100",
    ]);
    let (bucket, disk) = (home.bucket(), World::system().disk);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let mut batches = write(&mut client, &topic, 0, 1_200_000, 51).await;
    let before = contents(0, &batches);
    all_is_cold(&node, before.bytes).await;
    assert_eq!(metric(&node, "aquifer_replica_archive_stalled").await, 0.0);

    // A bucket whose calls fail only after long tries: a call is given up before, and begun again.
    let aside = bucket.with_extension("aside");
    disk.rename(&bucket, &aside).expect("the folder can be moved");
    let in_its_place = disk.create_new(&bucket).expect("a file can be made");
    batches.extend(write(&mut client, &topic, 0, 1_200_000, 52).await);
    let all = contents(0, &batches);
    eventually("a standstill, told once", async || {
        let told = metric(&node, "aquifer_replica_archive_stalls_total").await == 1.0;
        (told && metric(&node, "aquifer_replica_archive_stalled").await == 1.0).then_some(())
    })
    .await;
    eventually("calls given up, more than one", async || {
        (metric(&node, "aquifer_replica_archive_overdue_total").await > 1.0).then_some(())
    })
    .await;

    drop(in_its_place);
    disk.remove(&bucket).expect("the file can be removed");
    disk.rename(&aside, &bucket).expect("the folder can be moved back");
    all_is_cold(&node, all.bytes).await;
    eventually("uploads that move", async || {
        (metric(&node, "aquifer_replica_archive_stalled").await == 0.0).then_some(())
    })
    .await;
    assert_eq!(node.report().local, ByteCount::ZERO);
    assert!(read(&mut client, &topic, 0, 0, all.end).await.same_as(&all));
    bucket_is_sound(&node.stop().await).await;
}
