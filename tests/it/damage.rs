//! Bytes that change below a running broker: what is searched, what is mended, and what goes on beside what cannot be.

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use aquifer_runtime::World;

use crate::admin::metric;
use crate::client::{Client, Topic, eventually};
use crate::node::{Home, Node};
use crate::offsets::delete_records;
use crate::tier::{all_is_cold, contents, objects, read, write};

const LATEST_TIERED: i64 = -5;

/// Changes a byte of a file, in the middle of it.
pub(crate) fn harm(path: &Path) {
    let disk = World::system().disk;
    let bytes = disk.read(path).expect("the file can be read");
    let at = bytes.len() / 2;
    let file = disk.open(path).expect("the file can be opened");
    file.write_all_at(at as u64, &mut [IoSlice::new(&[!bytes[at]])]).expect("the file can be written");
    // As a device does it, and not in memory.
    file.sync_data().expect("the file can be synced");
    file.forget_clean_pages();
}

/// The segments of the only partition, oldest first.
pub(crate) fn segments(home: &Home) -> Vec<PathBuf> {
    let disk = World::system().disk;
    let topic = home.data().join("topics").join("t");
    let partition = topic.join(&disk.list(&topic).expect("the topic is there")[0].name);
    let entries = disk.list(&partition).expect("the partition is there");
    let mut names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    names.into_iter().map(|name| partition.join(name)).collect()
}

pub(crate) async fn tiered_end(client: &mut Client, topic: &Topic) -> i64 {
    client.list_offset(topic, 0, LATEST_TIERED).await.offset + 1
}

async fn counts(node: &Node, name: &str, least: f64) {
    eventually(name, async || (metric(node, name).await >= least).then_some(())).await;
}

/// A segment that cannot be uploaded is told, is not sent again and again, and keeps the bucket from nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_that_is_nowhere_else_stops_uploads_and_nothing_more() {
    let home = Home::tiered(&[
        "admin.listen=127.0.0.1:0",
        "tier.roll.ms=600000",
        "tier.upload.retry.backoff.ms=10",
        "tier.upload.retry.backoff.max.ms=20",
    ]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    write(&mut client, &topic, 0, 1_400_000, 61).await;
    node.reports("a segment is in the bucket", |report| report.objects == 1).await;
    let end = tiered_end(&mut client, &topic).await;
    // The open one, which goes up once it is closed.
    harm(segments(&home).last().expect("there is an open segment"));
    write(&mut client, &topic, 0, 1_400_000, 62).await;
    counts(&node, "aquifer_log_damaged_files", 1.0).await;
    counts(&node, "aquifer_replica_archive_failures_total", 8.0).await;
    assert_eq!(metric(&node, "aquifer_tier_upload_corrupt_total").await, 1.0, "it is sent once");
    // Retention in the bucket goes on.
    delete_records(&mut client, &topic, 0, end).await;
    node.reports("what is old is gone", |report| report.objects == 0).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_the_log_starts_within_is_mended_too() {
    let home = Home::tiered(&["admin.listen=127.0.0.1:0", "log.local.retention.ms=3600000"]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let written = contents(0, &write(&mut client, &topic, 0, 2_200_000, 63).await);
    eventually("all is in the bucket", async || {
        (tiered_end(&mut client, &topic).await == written.end).then_some(())
    })
    .await;
    let manifests = || objects(&home, &["partitions", "manifest"]).into_iter().max();
    let before = manifests();
    delete_records(&mut client, &topic, 0, 1).await;
    eventually("the bucket knows the log's start", async || (manifests() > before).then_some(())).await;
    let oldest = segments(&home).remove(0);
    let sound = World::system().disk.read(&oldest).expect("a segment");
    harm(&oldest);
    // Whoever reads it finds it, and gets the bucket's.
    eventually("it is mended", async || {
        read(&mut client, &topic, 0, middle(&sound), written.end).await;
        (metric(&node, "aquifer_log_mended_segments_total").await == 1.0).then_some(())
    })
    .await;
    assert!(World::system().disk.read(&oldest).expect("a segment") == sound);
    assert_eq!(metric(&node, "aquifer_log_damaged_files").await, 0.0);
    node.stop().await;
}

/// The offset of the batch that lies in the middle of a segment.
fn middle(segment: &[u8]) -> i64 {
    let batches: Vec<_> = aquifer_model::batches::Batches::new(segment).collect();
    let at = batches.iter().rposition(|located| located.position <= segment.len() / 2);
    batches[at.expect("a batch")].header.base_offset.get()
}

/// Each start begins a search of the bucket. What cannot be read then is looked at when it can be, and not in a month.
#[tokio::test(flavor = "multi_thread")]
async fn a_search_waits_for_what_it_cannot_read() {
    let home = Home::tiered(&[
        "admin.listen=127.0.0.1:0",
        "tier.store.attempt.ms=500",
        "tier.store.deadline.ms=1000",
        "tier.scrub.bytes.per.second=1073741824",
    ]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let written = contents(0, &write(&mut client, &topic, 0, 2_200_000, 64).await);
    all_is_cold(&node, written.bytes).await;
    let home = node.stop().await;
    let object = objects(&home, &["data", ".seg"]).into_iter().max().expect("an object");
    harm(&object);
    let disk = World::system().disk;
    let data = object.parent().expect("a folder").to_owned();
    let aside = data.with_extension("aside");
    disk.rename(&data, &aside).expect("the folder can be moved");
    let in_its_place = disk.create_new(&data).expect("a file can be made");
    let node = home.start().await;
    counts(&node, "aquifer_replica_scrub_failures_total", 1.0).await;
    assert_eq!(metric(&node, "aquifer_replica_scrubs_bucket_total").await, 0.0, "not all was seen");
    drop(in_its_place);
    disk.remove(&data).expect("the file can be removed");
    disk.rename(&aside, &data).expect("the folder can be moved back");
    counts(&node, "aquifer_tier_damaged_objects", 1.0).await;
    counts(&node, "aquifer_replica_scrubs_bucket_total", 1.0).await;
    node.stop().await;
}
