//! The suite that every store must pass, on the stores at hand: memory, a folder, and whatever S3 servers `AQUIFER_TEST_S3_URLS`
//! names (URLs separated by spaces; credentials by the usual AWS variables). `cargo xtask test` starts MinIO and LocalStack and
//! sets it.

#![allow(clippy::unwrap_used)] // All of this file is a test, helpers included.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aquifer_model::{ByteCount, PartitionIndex, Timestamp, TopicId, TopicPartition};
use aquifer_runtime::budget::{ByteBudget, BytePermit};
use aquifer_runtime::tasks::TaskGroup;
use aquifer_runtime::{World, sockets};
use aquifer_tiering::path;
use aquifer_tiering::store::{Created, OpenError, Store, StoreError, StoreMetrics, StoreOptions};
use aquifer_tiering::testing::suite;
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, TryFutureExt as _, TryStreamExt as _};
use uuid::Uuid;

async fn open(url: &str) -> Store {
    Store::open(url, StoreOptions::default(), World::system(), StoreMetrics::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_passes() {
    let folder = tempfile::tempdir().unwrap();
    suite::run(open("memory:///").await, folder.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_passes() {
    let (local, bucket) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    suite::run(open(&format!("file://{}", bucket.path().display())).await, local.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_s3_server_passes() {
    let urls = std::env::var("AQUIFER_TEST_S3_URLS")
        .expect("no S3 server to test: run `cargo xtask test`, which starts MinIO and LocalStack and sets AQUIFER_TEST_S3_URLS");
    assert!(!urls.trim().is_empty(), "AQUIFER_TEST_S3_URLS names no server");
    for url in urls.split_whitespace() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(url).await;
        let created: Created = store.create_bucket_if_missing().await.unwrap();
        println!("S3 SERVER UNDER TEST: {} ({created:?})", store.url());
        store.set_lifecycle().await;
        suite::run(store, folder.path()).await;
        says_that_the_bucket_is_missing(url).await;
    }
}

async fn says_that_the_bucket_is_missing(url: &str) {
    let (_, rest) = url.trim_start_matches("s3://").split_once(['/', '?']).unwrap();
    let query = rest.rsplit_once('?').map_or(rest, |(_, query)| query);
    let error = open(&format!("s3://aquifer-no-such-bucket?{query}")).await.check().await.unwrap_err();
    assert!(matches!(error, OpenError::BucketMissing { .. }), "{error}");
}

#[tokio::test]
async fn what_cannot_be_opened_says_what_to_do() {
    for (url, words) in [
        ("s3//bucket", "should look like s3://bucket/prefix"),
        ("ftp://bucket", "s3://, file:// and memory:// are"),
        ("file:///dev/null/bucket", "choose a folder that this user may write"),
        ("file:///no/such/folder", "/no/such/folder does not exist: create it, or correct the URL"),
        ("s3://bucket?endpoint=http://store.example", "allow_http=true"),
    ] {
        let opened =
            Store::open(url, StoreOptions::default(), World::system(), StoreMetrics::default()).await;
        let error = opened.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    // A port that nobody listens on.
    let store = open("s3://bucket?endpoint=http://127.0.0.1:1&anonymous=true").await;
    let error = store.check().await.unwrap_err();
    assert!(matches!(error, OpenError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("http://127.0.0.1:1: check that it runs"), "{error}");
}

/// A visit to a folder's file that takes longer than an attempt may.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_a_file_that_hangs_is_given_up_and_not_repeated() {
    static GATE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    static VISITS: AtomicU32 = AtomicU32::new(0);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let options = StoreOptions { attempt: Duration::from_millis(50), ..StoreOptions::default() };
    let store = Store::open(&url, options, World::system(), StoreMetrics::default()).await.unwrap();
    let key = path::probe_object(Uuid::nil(), "slow");
    store.put(&key, vec![Bytes::from_static(b"0123456789")]).await.unwrap();
    let hang = |(): &mut (), _: &[u8]| {
        VISITS.fetch_add(1, Ordering::Relaxed);
        drop(GATE.blocking_lock());
    };
    let closed = GATE.lock().await;
    // The buffer goes back to its budget when the visit is over, and not before.
    let budget = ByteBudget::new(ByteCount(10));
    let into = Paid(vec![0; 10], budget.take(ByteCount(10)).await);
    let error = store.get_range_into(&key, 0, into, hang).await.map(drop).unwrap_err();
    assert!(matches!(error, StoreError::Indeterminate { .. }), "{error}");
    assert!(budget.take(ByteCount(10)).now_or_never().is_none(), "the visit has it");
    drop(closed);
    drop(budget.take(ByteCount(10)).await);
    assert_eq!(VISITS.load(Ordering::Relaxed), 1);
}

struct Paid(Vec<u8>, #[allow(dead_code)] BytePermit);

impl AsMut<[u8]> for Paid {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// A store that takes every request and answers none. Whatever is asked of it comes to an end, by itself.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_waits_for_ever_for_a_store_that_says_nothing() {
    let listener = sockets::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskGroup::new();
    let cancelled = tasks.cancelled().clone();
    tasks.spawn("silent-store", async move {
        let mut held = Vec::new();
        while let Some(Ok((stream, _))) = cancelled.run_until_cancelled(listener.accept()).await {
            held.push(stream);
        }
    });
    let options = StoreOptions {
        attempt: Duration::from_millis(200),
        deadline: Duration::from_secs(1),
        ..StoreOptions::default()
    };
    let url =
        format!("s3://bucket?endpoint=http://{address}&allow_http=true&anonymous=true&region=us-east-1");
    let store = Store::open(&url, options, World::system(), StoreMetrics::default()).await.unwrap();
    let partition = TopicPartition { topic: TopicId::new(Uuid::from_u128(1)), partition: PartitionIndex(0) };
    let (key, prefix) = (path::manifest(partition, 1), path::manifests(partition));
    let some = || vec![Bytes::from_static(b"some")];
    let most = ByteCount::kib(1);
    let calls: Vec<(&str, BoxFuture<'_, Result<(), StoreError>>)> = vec![
        ("create", store.put_new(&key, some().remove(0)).boxed()),
        ("put", store.put(&key, some()).map_ok(drop).boxed()),
        ("multipart", store.multipart(&key).map_ok(drop).boxed()),
        ("get", store.get(&key, most).map_ok(drop).boxed()),
        ("a range", store.get_range(&key, 0..10).map_ok(drop).boxed()),
        ("the end", store.get_suffix(&key, most).map_ok(drop).boxed()),
        ("head", store.head(&key).map_ok(drop).boxed()),
        ("list", store.list(&prefix, None).try_collect::<Vec<_>>().map_ok(drop).boxed()),
        ("folders", store.folders(&prefix).map_ok(drop).boxed()),
        ("delete", store.delete(vec![key.clone()]).boxed()),
        ("clock", store.clock().map_ok(drop).boxed()),
        ("unfinished uploads", store.abort_uploads(&prefix, Timestamp(0)).map_ok(drop).boxed()),
    ];
    let patience = Duration::from_secs(20);
    let ended = calls.into_iter().map(|(name, call)| async move {
        let outcome = tokio::time::timeout(patience, call).await;
        let error = outcome.unwrap_or_else(|_| panic!("{name}: no end")).unwrap_err();
        assert!(error.is_transient(), "{name}: {error}");
    });
    join_all(ended).await;
    tasks.stop(patience).await.unwrap();
}
