//! History in a bucket, read back by ordinary requests: what comes back is what was written, at the offsets where it was
//! written, however often segments were sealed, uploaded and dropped in between.

use std::path::{Path, PathBuf};

use aquifer::cli::cluster::Cluster;
use aquifer::cli::consumer::{Consumer, ConsumerOptions, Start, Stop};
use aquifer::config::Endpoint;
use aquifer::net::PeerOptions;
use aquifer_model::batches::Batches;
use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, TopicName};
use aquifer_protocol::messages::fetch::FetchRequest;
use aquifer_protocol::{ErrorCode, Records};
use aquifer_runtime::World;
use aquifer_runtime::tasks::TaskGroup;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::admin::metric;
use crate::batches::{Dice, batch_at, headers_of, noisy, now};
use crate::client::{Client, PATIENCE, Topic, eventually, fetch_request, in_time, only_fetched, wanted};
use crate::node::{Home, Node};
use crate::offsets::delete_records;
use crate::process::Process;

/// A partition's contents, in order: a checksum over all that the broker may not change, and where they end.
#[derive(Clone)]
pub(crate) struct Contents {
    hash: Sha256,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) bytes: u64,
}

impl Contents {
    pub(crate) fn from(start: i64) -> Contents {
        Contents { hash: Sha256::new(), start, end: start, bytes: 0 }
    }

    /// Adds a batch. Of its bytes, base offset and leader epoch are the broker's.
    fn add(&mut self, batch: &[u8], count: u64) {
        self.hash.update(&batch[8..12]);
        self.hash.update(&batch[16..]);
        self.end += i64::try_from(count).expect("a small count");
        self.bytes += batch.len() as u64;
    }

    /// Adds batches as they were read, which must be sound and follow each other without a gap.
    fn add_read(&mut self, records: &Bytes) {
        for located in Batches::new(records) {
            let whole = &records[located.position..located.position + located.header.size()];
            located.header.verify(whole).expect("what is read is sound");
            assert_eq!(located.header.base_offset.get(), self.end, "the next batch");
            self.add(whole, located.header.offset_count());
        }
    }

    pub(crate) fn same_as(&self, other: &Contents) -> bool {
        let checksum = |contents: &Contents| (contents.start, contents.end, contents.hash.clone().finalize());
        checksum(self) == checksum(other)
    }
}

/// Writes about so many bytes, in batches of all kinds; gives them in order.
pub(crate) async fn write(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    bytes: u64,
    seed: u64,
) -> Vec<Bytes> {
    let kinds =
        [Compression::None, Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];
    let mut dice = Dice::new(seed);
    let mut written = Vec::new();
    let mut size = 0;
    while size < bytes {
        let length = 1000 + dice.below(100_000);
        let kind = kinds[dice.below(kinds.len())];
        let batch = noisy(&mut dice, length, kind);
        client.append(topic, partition, &batch).await;
        size += batch.len() as u64;
        written.push(batch);
    }
    written
}

/// What batches come to, written one behind the other from `start` on.
pub(crate) fn contents(start: i64, batches: &[Bytes]) -> Contents {
    let mut contents = Contents::from(start);
    for batch in batches {
        let [header] = headers_of(&Records::from(batch.clone()))[..] else { panic!("one batch") };
        contents.add(batch, header.offset_count());
    }
    contents
}

/// Reads a partition from `from` up to `until`, waiting for what takes time. An error, or an offset that is skipped, fails the
/// test.
pub(crate) async fn read(
    client: &mut Client,
    topic: &Topic,
    partition: i32,
    from: i64,
    until: i64,
) -> Contents {
    let mut found = Contents::from(from);
    in_time("a replay", async {
        while found.end < until {
            let request = FetchRequest {
                max_wait_ms: 500,
                min_bytes: 1,
                ..fetch_request(vec![wanted(topic, partition, found.end)])
            };
            let told = only_fetched(client.call(12, &request).await);
            assert_eq!(told.error_code, ErrorCode::NONE, "at {}", found.end);
            found.add_read(&told.records.into_bytes());
        }
    })
    .await;
    found
}

/// Waits until all is in the bucket and nothing on the local disk.
pub(crate) async fn all_is_cold(node: &Node, bytes: u64) {
    node.reports("all is in the bucket alone", |report| {
        report.local == ByteCount::ZERO && report.tiered >= ByteCount(bytes)
    })
    .await;
}

/// The files of a bucket whose path contains all of these.
pub(crate) fn objects(home: &Home, words: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    collect(&home.bucket(), &mut found);
    found.retain(|path| words.iter().all(|word| path.to_string_lossy().contains(word)));
    found
}

/// Has the program read every byte of a bucket and check every checksum, with no broker: an operator's way to be sure.
pub(crate) async fn bucket_is_sound(home: &Home) {
    let url = format!("file://{}", home.bucket().display());
    let args = ["tier", "verify", "--deep", "--object-store", &url];
    let ended = Process::run(home, &args, &[]).ended("tier verify").await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    // What is deleted while it is looked for is not there.
    for entry in World::system().disk.list(folder).unwrap_or_default() {
        let path = folder.join(&entry.name);
        if path.is_dir() { collect(&path, found) } else { found.push(path) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_to_the_bucket_comes_back_byte_for_byte() {
    let node = Home::tiered(&[]).start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    let written = [
        write(&mut client, &topic, 0, 3_500_000, 1).await,
        write(&mut client, &topic, 1, 1_200_000, 2).await,
    ];
    let written = written.map(|batches| contents(0, &batches));
    all_is_cold(&node, written[0].bytes + written[1].bytes).await;
    assert!(node.report().objects >= 6, "several segments: {:?}", node.report());
    for (partition, expected) in (0..).zip(&written) {
        let read = read(&mut client, &topic, partition, 0, expected.end).await;
        assert!(read.same_as(expected), "partition {partition}");
        // Every landmark lies where it should.
        for (timestamp, offset) in
            [(-1, expected.end), (-2, 0), (-4, expected.end), (-5, expected.end - 1), (-6, expected.end)]
        {
            let told = client.list_offset(&topic, partition, timestamp).await;
            assert_eq!(
                (told.error_code, told.offset),
                (ErrorCode::NONE, offset),
                "{timestamp} of {partition}"
            );
        }
    }
    // From the middle, too, and once more from what is cached by now.
    let middle = written[0].end / 2;
    let request = FetchRequest { max_wait_ms: 500, ..fetch_request(vec![wanted(&topic, 0, middle)]) };
    let first = eventually("the middle", async || {
        let told = only_fetched(client.call(12, &request).await);
        assert_eq!(told.error_code, ErrorCode::NONE);
        headers_of(&told.records).first().copied()
    });
    let first = first.await;
    assert!(first.base_offset.get() <= middle && middle <= first.last_offset().get());
    assert!(read(&mut client, &topic, 0, 0, written[0].end).await.same_as(&written[0]));
    bucket_is_sound(&node.stop().await).await;
}

/// Versions and limits mean the same, wherever the records lie.
#[tokio::test(flavor = "multi_thread")]
async fn every_version_reads_cold() {
    let node = Home::tiered(&[]).start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let batches = write(&mut client, &topic, 0, 1_300_000, 3).await;
    let written = contents(0, &batches);
    all_is_cold(&node, written.bytes).await;
    for version in 4..=18 {
        for isolation_level in [0, 1] {
            for partition_max_bytes in [0, 1, 100_000] {
                let mut asked = wanted(&topic, 0, 0);
                asked.partitions[0].partition_max_bytes = partition_max_bytes;
                let request =
                    FetchRequest { isolation_level, max_wait_ms: 500, ..fetch_request(vec![asked]) };
                let what = format!("v{version} isolation {isolation_level}, {partition_max_bytes} bytes");
                let told = eventually(&what, async || {
                    let told = only_fetched(client.call(version, &request).await);
                    assert_eq!(told.error_code, ErrorCode::NONE, "{what}");
                    Some(told).filter(|told| !told.records.is_empty())
                })
                .await;
                assert_eq!(
                    (told.high_watermark, told.last_stable_offset),
                    (written.end, written.end),
                    "{what}"
                );
                let aborted = told.aborted_transactions.as_ref().map(Vec::len);
                assert_eq!(aborted, (isolation_level == 1).then_some(0), "{what}");
                let came = headers_of(&told.records);
                assert_eq!(came[0].base_offset.get(), 0, "{what}");
                let fits = told.records.len() <= partition_max_bytes as usize;
                assert!(
                    fits || came.len() == 1,
                    "{what}: {} bytes in {} batches",
                    told.records.len(),
                    came.len()
                );
            }
        }
    }
    let told = client.fetch(&topic, 0, written.end + 1).await;
    assert_eq!(told.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    node.stop().await;
}

/// A consumer goes from the first offset to the last while more is written, sealed, uploaded and dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_crosses_from_cold_to_hot() {
    let node = Home::tiered(&[]).start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let mut batches = write(&mut client, &topic, 0, 2_500_000, 4).await;
    all_is_cold(&node, contents(0, &batches).bytes).await;
    let tasks = TaskGroup::new();
    let endpoint = Endpoint { host: node.address().ip().to_string(), port: node.address().port() };
    let cluster = Cluster::new(&World::system(), &tasks, vec![endpoint], PeerOptions::default());
    let name = TopicName::new("t").expect("a name");
    let opened =
        Consumer::open(&cluster, &name, &[], Start::Beginning, Stop::Never, ConsumerOptions::default()).await;
    let mut consumer = opened.expect("the topic is there");
    let mut found = Contents::from(0);
    // It has begun in the cold; what is written from here on is hot when it comes there, or just sealed, or dropped.
    let first = in_time("the first batches", consumer.next()).await.expect("no error").expect("no end");
    found.add_read(&first.batches);
    for seed in 5..9 {
        batches.extend(write(&mut client, &topic, 0, 600_000, seed).await);
        let end = contents(0, &batches).end;
        in_time("the rest", async {
            while found.end < end {
                let fetched = consumer.next().await.expect("no error").expect("no end");
                assert_eq!(fetched.from.get(), found.end);
                found.add_read(&fetched.batches);
            }
        })
        .await;
    }
    assert!(found.same_as(&contents(0, &batches)));
    drop(consumer);
    tasks.stop(PATIENCE).await.expect("the client stops");
    bucket_is_sound(&node.stop().await).await;
}

/// Ten who replay the same history ask the bucket for what one does: loads are shared, and what was loaded is kept.
#[tokio::test(flavor = "multi_thread")]
async fn many_consumers_cost_the_requests_of_one() {
    // Those for what readers want: others, of claims and sweeps, go by the time that it takes.
    const GETS: &str = "aquifer_tier_read_chunk_gets_total";
    let node = Home::tiered(&["admin.listen=127.0.0.1:0"]).start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let written = contents(0, &write(&mut client, &topic, 0, 6_000_000, 16).await);
    all_is_cold(&node, written.bytes).await;
    let mut costs = Vec::new();
    let mut node = node;
    for consumers in [1, 10] {
        // A start forgets what was cached.
        node = node.restart().await;
        let mut clients = Vec::new();
        for _ in 0..consumers {
            clients.push(node.client().await);
        }
        let before = metric(&node, GETS).await;
        let replays = clients.iter_mut().map(|client| read(client, &topic, 0, 0, written.end));
        let replays = futures::future::join_all(replays).await;
        assert!(replays.iter().all(|found| found.same_as(&written)));
        costs.push(metric(&node, GETS).await - before);
    }
    let [one, ten] = costs[..] else { unreachable!("two rounds") };
    assert!(one > 0.0 && ten <= one * 1.25, "one made {one} requests, ten made {ten}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_are_looked_up_in_the_cold() {
    const COUNT: i64 = 60;
    let node = Home::tiered(&[]).start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let origin = now() - 10_000_000;
    let filler = "x".repeat(50_000);
    let mut bytes = 0;
    for number in 0..COUNT {
        // Two records each, a second apart; one of them in the middle is the newest of all.
        let time = origin + number * 2000;
        let newest = if number == COUNT / 2 { origin + 9_000_000 } else { time + 1000 };
        let batch = batch_at(&[(time, &filler), (newest, &filler)]);
        bytes += batch.len() as u64;
        client.append(&topic, 0, &batch).await;
    }
    all_is_cold(&node, bytes).await;
    assert!(node.report().objects >= 4, "{:?}", node.report());
    let spike = (COUNT + 1, origin + 9_000_000);
    for (asked, (offset, time)) in [
        (0, (0, origin)),
        (origin, (0, origin)),
        (origin + 1, (1, origin + 1000)),
        (origin + 20_000, (20, origin + 20_000)),
        (origin + 20_500, (21, origin + 21_000)),
        (origin + COUNT * 1000, (COUNT, origin + COUNT * 1000)),
        // Time is not in order: the first record that is not older, not the one that is nearest.
        (origin + COUNT * 1000 + 1, spike),
        (origin + 100_000, spike),
        (origin + 9_000_000, spike),
        (origin + 9_000_001, (-1, -1)),
        (-3, spike),
    ] {
        for version in [1, 7, 11] {
            if asked == -3 && version < 7 {
                continue;
            }
            let mut answer = client.call(version, &crate::client::list_request(&topic, 0, asked)).await;
            let told = answer.topics.remove(0).partitions.remove(0);
            let what = format!("v{version} {}", asked - origin);
            assert_eq!(
                (told.error_code, told.offset, told.timestamp),
                (ErrorCode::NONE, offset, time),
                "{what}"
            );
        }
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_in_the_cold() {
    let home = Home::tiered(&[]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let batches = write(&mut client, &topic, 0, 3_000_000, 11).await;
    let written = contents(0, &batches);
    all_is_cold(&node, written.bytes).await;
    let before = node.report();
    // A batch's start beyond the first object.
    let at = batches.len() * 2 / 3;
    let start = contents(0, &batches[..at]).end;
    delete_records(&mut client, &topic, 0, start).await;
    assert_eq!(client.fetch(&topic, 0, start - 1).await.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    let rest = contents(start, &batches[at..]);
    assert!(read(&mut client, &topic, 0, start, written.end).await.same_as(&rest));
    node.reports("the manifest follows", |report| report.objects < before.objects).await;
    let node = node.restart().await;
    let mut client = node.client().await;
    assert_eq!(client.list_offset(&topic, 0, -2).await.offset, start, "deleted is deleted");
    assert!(read(&mut client, &topic, 0, start, written.end).await.same_as(&rest));
    bucket_is_sound(&node.stop().await).await;
}

/// Before anything is uploaded there is a manifest, so that objects without one are no leftovers.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_manifests_is_not_called_sound() {
    let node = Home::tiered(&[]).start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let written = contents(0, &write(&mut client, &topic, 0, 1_200_000, 23).await);
    all_is_cold(&node, written.bytes).await;
    let home = node.stop().await;
    bucket_is_sound(&home).await;
    let id = topic.id.to_string();
    for manifest in objects(&home, &["manifest", &id]) {
        World::system().disk.remove(&manifest).expect("it is there");
    }
    let url = format!("file://{}", home.bucket().display());
    let ended = Process::run(&home, &["tier", "verify", "--object-store", &url], &[]).ended("verify").await;
    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("there is no manifest"), "{}", ended.stdout);
    let url = format!("{url}/mistyped");
    World::system().disk.create_dir_all(&home.bucket().join("mistyped")).expect("a folder");
    for command in ["verify", "ls"] {
        let ended = Process::run(&home, &["tier", command, "--object-store", &url], &[]).ended(command).await;
        assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stderr.contains("no cluster has its records at"), "{}", ended.stderr);
    }
}

/// What a deleted topic had in the bucket goes; a mark that it was deleted stays, for a restore to see.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_leaves_the_bucket_and_a_mark() {
    let home = Home::tiered(&["tier.delete.grace.ms=1000", "tier.manifest.age.max.ms=100"]);
    let node = home.start().await;
    let mut client = node.client().await;
    let doomed = client.create("doomed", 2, &[]).await;
    let kept = client.create("kept", 1, &[]).await;
    let mut bytes = 0;
    for (topic, partition) in [(&doomed, 0), (&doomed, 1), (&kept, 0)] {
        bytes += contents(0, &write(&mut client, topic, partition, 1_200_000, 12).await).bytes;
    }
    all_is_cold(&node, bytes).await;
    let of = |topic: &Topic, kind: &str| {
        let ids = [topic.id.to_string(), topic.id.simple().to_string()];
        let found: Vec<PathBuf> = ids.iter().flat_map(|id| objects(&home, &[id, kind])).collect();
        found.len()
    };
    assert!(of(&doomed, "/data/") >= 4 && of(&kept, "/data/") >= 2, "{:?}", objects(&home, &[]));
    crate::topics::delete_by_name(&mut client, "doomed").await;
    eventually("its objects go", async || (of(&doomed, "/data/") == 0).then_some(())).await;
    assert!(of(&doomed, "") > 0, "a mark stays");
    assert!(of(&kept, "/data/") >= 2);
    assert!(node.report().objects >= 2);
    bucket_is_sound(&node.stop().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_memory_serves_while_its_broker_runs() {
    let home = Home::tiered(&["tier.object.store=memory:///"]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let written = contents(0, &write(&mut client, &topic, 0, 1_500_000, 13).await);
    all_is_cold(&node, written.bytes).await;
    assert!(read(&mut client, &topic, 0, 0, written.end).await.same_as(&written));
    node.stop().await;
}

/// A topic that is not tiered stays where it is, beside one that is.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_stay_local() {
    let node = Home::tiered(&[]).start().await;
    let mut client = node.client().await;
    let local = client.create("local", 1, &[("remote.storage.enable", "false")]).await;
    let tiered = client.create("tiered", 1, &[]).await;
    let here = contents(0, &write(&mut client, &local, 0, 2_200_000, 14).await);
    let there = contents(0, &write(&mut client, &tiered, 0, 2_200_000, 15).await);
    node.reports("one of two is in the bucket alone", |report| {
        report.tiered == ByteCount(there.bytes) && report.local == ByteCount(here.bytes)
    })
    .await;
    assert!(read(&mut client, &local, 0, 0, here.end).await.same_as(&here));
    assert!(read(&mut client, &tiered, 0, 0, there.end).await.same_as(&there));
    for (timestamp, offset) in [(-4, 0), (-5, -1), (-6, -1)] {
        assert_eq!(client.list_offset(&local, 0, timestamp).await.offset, offset, "{timestamp}");
    }
    node.stop().await;
}
