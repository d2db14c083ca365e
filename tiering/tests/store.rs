//! The suite that every store must pass, on the stores at hand: memory, a folder, and whatever S3 servers `AQUIFER_TEST_S3_URLS`
//! names (URLs separated by spaces; credentials by the usual AWS variables). `cargo xtask test` starts MinIO and LocalStack and
//! sets it.

#![allow(clippy::unwrap_used)] // All of this file is a test, helpers included.

use aquifer_runtime::World;
use aquifer_tiering::store::{Created, OpenError, Store, StoreMetrics, StoreOptions};
use aquifer_tiering::testing::suite;

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
