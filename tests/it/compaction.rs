//! A compacted topic, as its clients and its operators see it.

use std::collections::BTreeMap;

use aquifer_model::batch::{BatchHeader, HEADER_BYTES};
use aquifer_model::batches::Batches;
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{Timestamp, record};
use aquifer_protocol::ErrorCode;
use bytes::Bytes;

use crate::batches::{batch, now};
use crate::client::{Client, Topic, eventually};
use crate::configs::{TOPIC, set, value};
use crate::node::Home;

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
    // With `delete` as well its retention counts, too.
    set(&mut client, "t", "cleanup.policy", "compact,delete").await;
    set(&mut client, "t", "retention.bytes", "1").await;
    node.stop().await;
}
