//! The suite that every store must pass, on the stores at hand: memory, a folder, and whatever S3 servers `AQUIFER_TEST_S3_URLS`
//! names (URLs separated by spaces; credentials by the usual AWS variables). `cargo xtask test` starts MinIO and LocalStack and
//! sets it.

use aquifer_runtime::World;
use aquifer_tiering::store::{Created, Store, StoreMetrics, StoreOptions};
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
    let urls = std::env::var("AQUIFER_TEST_S3_URLS").unwrap_or_default();
    if urls.trim().is_empty() {
        // Said for the test runner, which fails if it asked for servers and sees this.
        println!("NO S3 SERVER WAS TESTED: AQUIFER_TEST_S3_URLS is not set");
    }
    for url in urls.split_whitespace() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(url).await;
        let created: Created = store.create_bucket_if_missing().await.unwrap();
        println!("S3 SERVER UNDER TEST: {} ({created:?})", store.url());
        store.set_lifecycle().await;
        suite::run(store, folder.path()).await;
    }
}
