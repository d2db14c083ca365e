//! A compacted topic, as its clients and its operators see it.

use std::collections::BTreeMap;

use aquifer_model::batch::{BatchHeader, HEADER_BYTES};
use aquifer_model::batches::Batches;
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{Timestamp, record};
use aquifer_protocol::ErrorCode;
use aquifer_runtime::World;
use bytes::Bytes;

use crate::admin::metric;
use crate::batches::{batch, now};
use crate::client::{Client, Topic, eventually, in_time};
use crate::configs::{TOPIC, set, value};
use crate::damage::{harm, segments, tiered_end};
use crate::node::{Home, Node};
use crate::offsets::{delete_before, delete_records};
use crate::tier::{all_is_cold, bucket_is_sound};

pub(crate) fn keyed(records: &[(&str, Option<&str>)], padding: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (key, value) in records {
        let value = value.map(|value| format!("{value}{}", " ".repeat(padding)));
        let value = value.as_ref().map(String::as_bytes);
        builder.push(Timestamp(now()), Some(key.as_bytes()), value, &[]);
    }
    Bytes::from(builder.finish(Compression::None).expect("nothing is compressed"))
}

/// (offset, key, value) of all there is, as a consumer reads it that goes on behind each batch.
async fn consume(client: &mut Client, topic: &Topic) -> Vec<(i64, String, Option<String>)> {
    let end = client.end(topic, 0).await;
    let (mut position, mut found) = (0, Vec::new());
    while position < end {
        let fetched = client.fetch(topic, 0, position).await;
        assert_eq!(fetched.error_code, ErrorCode::NONE);
        let bytes = fetched.records.into_bytes();
        for located in Batches::new(&bytes) {
            let header: BatchHeader = located.header;
            assert!(header.next_offset().get() > position, "offsets rise");
            position = header.next_offset().get();
            let body = bytes.slice(located.position + HEADER_BYTES..located.position + header.size());
            let text = |bytes: Bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned();
            let records = record::read(&header, &body).expect("sound records");
            let shown = records.into_iter().map(|record| {
                (record.offset.get(), record.key.map(text).unwrap_or_default(), record.value.map(text))
            });
            found.extend(shown);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_keeps_the_newest_value_of_each_key_at_its_offset() {
    let home = Home::tiered(&["log.cleaner.backoff.ms=20", "log.segment.bytes=1048576"]);
    let node = home.start().await;
    let mut client = node.client().await;
    let configs =
        [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01"), ("delete.retention.ms", "0")];
    let topic = client.create("t", 1, &configs).await;
    let tiered = value(&mut client, TOPIC, "t", "remote.storage.enable").await.0;
    assert_eq!(tiered.as_deref(), Some("false"), "it stays out of the bucket, and says so");
    let keyless = client.produce(&topic, 0, &batch(&["no key"])).await;
    assert_eq!(keyless.error_code, ErrorCode::INVALID_RECORD);
    let mut sent = BTreeMap::new();
    for round in 0..60 {
        let (text, key) = (format!("v{round}"), format!("k{}", round % 7));
        let left = (round % 10 != 9).then_some(text.as_str());
        client.append(&topic, 0, &keyed(&[(&key, left), ("same", Some(&text))], 50_000)).await;
        sent.insert(key, left.map(str::to_owned));
        sent.insert("same".to_owned(), Some(text));
    }
    let end = client.end(&topic, 0).await;
    let found = eventually("compaction", async || {
        let found = consume(&mut client, &topic).await;
        (found.len() < 60).then_some(found)
    })
    .await;
    let check = |found: &[(i64, String, Option<String>)]| {
        let newest: BTreeMap<String, Option<String>> =
            found.iter().map(|(_, key, value)| (key.clone(), value.clone())).collect();
        let lives = |table: &BTreeMap<String, Option<String>>| -> BTreeMap<String, String> {
            table.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect()
        };
        assert_eq!(lives(&newest), lives(&sent));
        for (offset, key, value) in found {
            let round = offset / 2;
            let expected = if offset % 2 == 1 { "same".to_owned() } else { format!("k{}", round % 7) };
            assert_eq!(*key, expected, "the record at {offset} is the one that was sent there");
            assert!(value.as_ref().is_none_or(|value| *value == format!("v{round}")));
        }
    };
    check(&found);
    let node = node.restart().await;
    let mut client = node.client().await;
    check(&consume(&mut client, &topic).await);
    assert_eq!(client.end(&topic, 0).await, end);
    // A key's newest value does not go for its offset, but with `delete` as well its retention counts, too.
    let refused = delete_before(&mut client, 2, &topic, 0, 1).await;
    assert_eq!(refused.error_code, ErrorCode::POLICY_VIOLATION);
    set(&mut client, "t", "cleanup.policy", "compact,delete").await;
    delete_records(&mut client, &topic, 0, 1).await;
    set(&mut client, "t", "retention.bytes", "1").await;
    node.stop().await;
}

type Shown = Vec<(i64, String, Option<String>)>;

/// A topic that was compacted, with gaps at the ends of segments, and is tiered now; what it holds.
async fn tiered_later(home: &Home, node: &Node, client: &mut Client) -> (Topic, Shown) {
    let topic = client.create("t", 1, &[("remote.storage.enable", "false")]).await;
    for round in 0..72 {
        let key = if round % 4 == 0 { format!("stays{round}") } else { "goes".to_owned() };
        client.append(&topic, 0, &keyed(&[(&key, Some("v"))], 60_000)).await;
    }
    set(client, "t", "min.cleanable.dirty.ratio", "0.01").await;
    set(client, "t", "cleanup.policy", "compact").await;
    eventually("it is compacted", async || {
        (metric(node, "aquifer_cleaner_passes_total").await >= 1.0).then_some(())
    })
    .await;
    set(client, "t", "cleanup.policy", "delete").await;
    let found = consume(client, &topic).await;
    assert!(found.len() < 40, "{} records", found.len());
    let ends = segments(home).into_iter().map(|path| {
        let bytes = Bytes::from(World::system().disk.read(&path).expect("a segment"));
        let located: Vec<_> = Batches::new(&bytes).collect();
        let first = located.first().expect("a batch").header.base_offset;
        (first, located.last().expect("a batch").header.next_offset())
    });
    let ends: Vec<_> = ends.collect();
    assert!(ends.windows(2).any(|pair| pair[0].1 < pair[1].0), "a gap where a segment ends: {ends:?}");
    set(client, "t", "remote.storage.enable", "true").await;
    (topic, found)
}

/// Whoever asks for an offset that compaction has left out gets what comes next, out of the bucket as from the disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_compacted_is_read_from_the_bucket() {
    let home = Home::tiered(&["admin.listen=127.0.0.1:0", "log.cleaner.backoff.ms=20"]);
    let node = home.start().await;
    let mut client = node.client().await;
    let (topic, found) = tiered_later(&home, &node, &mut client).await;
    all_is_cold(&node, 1).await;
    in_time("all of it", async { assert_eq!(consume(&mut client, &topic).await, found) }).await;
    let end = client.end(&topic, 0).await;
    for offset in 0..end {
        let next = found.iter().map(|(at, ..)| *at).find(|at| *at >= offset);
        let got = eventually("the next record", async || {
            let fetched = client.fetch(&topic, 0, offset).await;
            assert_eq!(fetched.error_code, ErrorCode::NONE);
            let bytes = fetched.records.into_bytes();
            Batches::new(&bytes).next().map(|located| located.header.last_offset().get())
        })
        .await;
        assert_eq!(Some(got), next, "from {offset}");
    }
    // It grows on behind them.
    let more = client.append(&topic, 0, &keyed(&[("more", Some("v"))], 10)).await;
    assert_eq!(more, end);
    let node = node.restart().await;
    let mut client = node.client().await;
    let again = in_time("all of it", consume(&mut client, &topic)).await;
    assert_eq!((&again[..found.len()], again.len()), (&found[..], found.len() + 1));
    bucket_is_sound(&node.stop().await).await;
}

/// Its gaps keep no segment from being found sound, or mended from the bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_a_topic_that_was_compacted_is_mended_from_the_bucket() {
    let home = Home::tiered(&[
        "admin.listen=127.0.0.1:0",
        "log.cleaner.backoff.ms=20",
        "log.local.retention.ms=3600000",
        "tier.scrub.bytes.per.second=1073741824",
    ]);
    let node = home.start().await;
    let mut client = node.client().await;
    let (topic, found) = tiered_later(&home, &node, &mut client).await;
    let end = client.end(&topic, 0).await;
    eventually("all is in the bucket", async || (tiered_end(&mut client, &topic).await == end).then_some(()))
        .await;
    let oldest = segments(&home).remove(0);
    let sound = World::system().disk.read(&oldest).expect("a segment");
    harm(&oldest);
    eventually("it is mended", async || {
        in_time("all of it", async { assert_eq!(consume(&mut client, &topic).await, found) }).await;
        (metric(&node, "aquifer_log_mended_segments_total").await == 1.0).then_some(())
    })
    .await;
    assert!(World::system().disk.read(&oldest).expect("a segment") == sound);
    assert_eq!(metric(&node, "aquifer_log_damaged_files").await, 0.0);
    assert_eq!(metric(&node, "aquifer_tier_damaged_objects").await, 0.0);
    node.stop().await;
}
