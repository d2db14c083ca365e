//! A broker in this process, with its data in a folder that goes with it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquifer::broker::{Broker, Report};
use aquifer::config::{Config, Sources};
use aquifer_runtime::World;
use tempfile::TempDir;

use crate::client::{Client, eventually, in_time};

/// A running broker.
pub(crate) struct Node {
    broker: Broker,
    home: Home,
}

/// What a broker leaves when it stops.
#[derive(Clone)]
pub(crate) struct Home {
    folder: Arc<TempDir>,
    /// The settings of a broker that lives here.
    sets: Vec<String>,
}

impl Home {
    /// An empty one. `sets` are `key=value`.
    pub(crate) fn new(sets: &[&str]) -> Home {
        let folder = Arc::new(tempfile::tempdir().expect("a temporary folder"));
        let mut home = Home { folder, sets: Vec::new() };
        let data = format!("log.dirs={}", home.data().display());
        home.set(&["listeners=PLAINTEXT://127.0.0.1:0", "admin.listen=", &data]);
        // One that is in use at once, and soon full.
        home.set(&["log.journal.logs.min=1", "log.journal.bytes=1048576"]);
        home.set(&["log.read.lend.bytes.min=1"]);
        home.set(sets);
        home
    }

    /// An empty one with a bucket, for a broker in a hurry: small segments, sealed soon, nothing kept locally.
    pub(crate) fn tiered(sets: &[&str]) -> Home {
        let mut home = Home::new(&[]);
        World::system().disk.create_dir_all(&home.bucket()).expect("a folder in a temporary folder");
        let bucket = format!("tier.object.store=file://{}", home.bucket().display());
        home.set(&[
            &bucket,
            "log.segment.bytes=1048576",
            "log.local.retention.ms=1",
            "tier.roll.ms=1000",
            "tier.check.interval.ms=10",
        ]);
        home.set(sets);
        home
    }

    /// Settings for the next start; of one key, the last counts.
    pub(crate) fn set(&mut self, sets: &[&str]) {
        self.sets.extend(sets.iter().map(|set| (*set).to_owned()));
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(crate) fn bucket(&self) -> PathBuf {
        self.path().join("bucket")
    }

    pub(crate) fn sets(&self) -> &[String] {
        &self.sets
    }

    pub(crate) async fn start(&self) -> Node {
        let config = Config::load(Sources { sets: self.sets.clone(), ..Sources::default() })
            .expect("a sound configuration");
        let starting = Box::pin(Broker::start(config, World::system()));
        let broker = in_time("start", starting).await.expect("the broker starts");
        Node { broker, home: self.clone() }
    }
}

impl Node {
    /// A broker without a bucket, and with these settings besides.
    pub(crate) async fn start(sets: &[&str]) -> Node {
        Home::new(sets).start().await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.addresses()[0]
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.broker.admin_address().expect("the settings turn it on")
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    pub(crate) fn report(&self) -> Report {
        self.broker.report()
    }

    /// Waits until the report is as wanted.
    pub(crate) async fn reports(&self, what: &str, wanted: impl Fn(&Report) -> bool) -> Report {
        eventually(what, async || Some(self.report()).filter(|report| wanted(report))).await
    }

    /// Stops in order.
    pub(crate) async fn stop(self) -> Home {
        in_time("stop", self.broker.stop()).await.expect("the broker stops in order");
        self.home
    }

    /// Stops in order and starts again over the same data.
    pub(crate) async fn restart(self) -> Node {
        self.stop().await.start().await
    }
}
