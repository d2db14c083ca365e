//! The bucket: opened, certified, adopted.
//!
//! A store is certified once: what was found is kept in the data directory, by URL. A store that answers wrongly is refused. One
//! that was never certified and cannot be reached fails the start, since nobody knows yet whether it could ever work; one that
//! was is merely away, and the broker starts without it.
//!
//! A bucket is adopted by its marker, and from then on the data directory says that there are records in one. Without it, or with
//! a bucket that does not have the marker, the broker does not start: it would take what lies in the bucket for gone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aquifer_runtime::World;
use aquifer_runtime::metrics::{Gauge, Registry, Table};
use aquifer_runtime::tasks::{Pool, TaskGroup};
use aquifer_tiering::cluster::{Acquaintance, AdoptError};
use aquifer_tiering::options::OptionsError;
use aquifer_tiering::store::certify::CertifyError;
use aquifer_tiering::store::{OpenError, StoreMetrics};
use aquifer_tiering::{Identity, Metrics, Setup, Store, Tier};

use url::Url;

use super::StartError;
use crate::config::Config;
use crate::metadata::Metadata;

/// Names the store that was certified, inside of the log directory.
const CERTIFIED: &str = "store-certified";
/// Names the bucket that this cluster has its records in, there too.
const ADOPTED: &str = "store-adopted";
/// How long to wait before a store that is away is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Why the bucket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or not with these credentials.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It does not do what a bucket must.
    #[error(transparent)]
    Certify(#[from] CertifyError),
    /// It is another cluster's, or cannot be written.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// Settings contradict each other.
    #[error(transparent)]
    Options(OptionsError),
    /// There are records in a bucket, and none is configured.
    #[error(
        "this cluster has records in {url}, as {path} says, but tier.object.store is not set: without it retention would take what \
         lies there for gone (whoever gives it up removes that file)"
    )]
    Unset {
        /// The bucket.
        url: String,
        /// What says so.
        path: PathBuf,
    },
    /// What was found cannot be recorded, or read.
    #[error("cannot record in {path} what is known of the store: {error}")]
    Record {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// A store that may be used.
pub(super) struct OpenStore {
    store: Store,
    /// It was certified before and does not answer now.
    away: bool,
    /// 1 once it was adopted.
    adopted: Gauge,
    /// What is known of this cluster's bucket.
    record: Record,
}

/// Says, in the data directory, that there are records in a bucket, and in which.
#[derive(Debug, Clone)]
struct Record {
    world: World,
    path: PathBuf,
}

impl Record {
    fn new(world: &World, dir: &Path) -> Record {
        Record { world: world.clone(), path: dir.join(ADOPTED) }
    }

    /// The bucket's URL.
    fn read(&self) -> Result<Option<String>, StoreError> {
        let read = self.world.disk.read_if_exists(&self.path);
        let read = read.map_err(|error| StoreError::Record { path: self.path.clone(), error })?;
        Ok(read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn write(&self, url: &str) -> Result<(), StoreError> {
        let written = self.world.disk.write_atomic(&self.path, url.as_bytes());
        written.map_err(|error| StoreError::Record { path: self.path.clone(), error })
    }
}

/// Opens the configured store, if there is one; what comes from it, comes by the threads of the background.
pub(super) async fn open(
    config: &Config,
    world: &World,
    dir: &Path,
    background: &Pool,
    registry: &mut Registry,
) -> Result<Option<OpenStore>, StartError> {
    let record = Record::new(world, dir);
    let known = record.read()?;
    let Some(tier) = &config.broker().tier else {
        return match known {
            Some(url) => Err(StoreError::Unset { url, path: record.path }.into()),
            None => Ok(None),
        };
    };
    if is_within(&tier.object_store, dir) {
        Store::make_folder(tier.object_store.as_str(), world).map_err(StoreError::Open)?;
    }
    let metrics = StoreMetrics::default();
    metrics.register(registry);
    let adopted = Gauge::default();
    Table::under(registry, "aquifer_store").row(
        "adopted",
        "1 once the bucket was seen to be certified and this cluster's; nothing is uploaded before",
        &adopted,
    );
    let options = super::options::store(tier);
    let (url, world_there) = (tier.object_store.clone(), world.clone());
    // Its connections are kept up where it was opened.
    let opened =
        background.run(async move { Store::open(url.as_str(), options, world_there, metrics).await });
    let store = opened.await.map_err(StoreError::Open)?;
    let path = dir.join(CERTIFIED);
    let failed = |error| StoreError::Record { path: path.clone(), error };
    let certified = world.disk.read_if_exists(&path).map_err(failed)?;
    if certified.as_deref() == Some(store.url().as_bytes()) {
        let away = match store.check().await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%error, "the object store does not answer: starting without it");
                true
            }
        };
        return Ok(Some(OpenStore { store, away, adopted, record }));
    }
    store.check().await.map_err(StoreError::Open)?;
    store.certify().await.map_err(StoreError::Certify)?;
    world.disk.write_atomic(&path, store.url().as_bytes()).map_err(failed)?;
    tracing::info!(url = store.url(), "object store certified");
    Ok(Some(OpenStore { store, away: false, adopted, record }))
}

/// Whether a URL names a folder inside of the data directory: an embedded bucket, which is made with it. Any other that is not
/// there may be a mistyped one, or a disk that was not mounted.
fn is_within(url: &Url, dir: &Path) -> bool {
    let Ok(dir) = std::path::absolute(dir) else { return false };
    url.scheme() == "file" && url.to_file_path().is_ok_and(|folder| folder.starts_with(&dir))
}

impl OpenStore {
    /// Takes the bucket for this cluster.
    pub(super) async fn into_tier(
        self,
        config: &Config,
        world: &World,
        metadata: &Metadata,
        group: &TaskGroup,
        registry: &mut Registry,
    ) -> Result<Tier, StartError> {
        let tier = config.broker().tier.as_ref().expect("a store is opened only if one is configured");
        let image = metadata.image();
        let cluster = image.cluster().expect("metadata is formatted before anything else starts");
        let options = super::options::tier(tier);
        options.check().map_err(StoreError::Options)?;
        let metrics = Metrics::default();
        metrics.register(registry);
        let tier = Tier::new(Setup {
            store: self.store.clone(),
            identity: Identity {
                incarnation: aquifer_tiering::Incarnation(cluster.incarnation.0),
                broker: config.broker().node.id,
                process: world.rng.uuid(),
            },
            options,
            world: world.clone(),
            tasks: group.clone(),
            metrics,
            adopted: false,
        });
        let cluster_id = cluster.id.to_string();
        match self.adopt(&tier, &cluster_id).await {
            Ok(()) => {}
            Err(StoreError::Adopt(AdoptError::Store(error))) if self.away => {
                tracing::debug!(%error, "the bucket cannot be adopted yet");
                adopt_later(tier.clone(), self, cluster_id, group);
            }
            Err(error @ StoreError::Record { .. }) => {
                tracing::error!(%error, "the bucket is adopted, which is to be recorded yet");
                adopt_later(tier.clone(), self, cluster_id, group);
            }
            Err(error) => return Err(error.into()),
        }
        Ok(tier)
    }

    async fn adopt(&self, tier: &Tier, cluster_id: &str) -> Result<(), StoreError> {
        let known = self.record.read()?;
        let acquaintance = if known.is_some() { Acquaintance::Again } else { Acquaintance::First };
        tier.adopt(cluster_id, acquaintance).await?;
        self.adopted.set(1);
        self.store.set_lifecycle().await;
        // One in memory is another each time. On a full disk this waits for the room that uploads make.
        let lasts = !self.store.url().starts_with("memory:");
        if lasts && known.as_deref() != Some(self.store.url()) {
            self.record.write(self.store.url())?;
        }
        Ok(())
    }
}

/// Nothing is written to the bucket before.
fn adopt_later(tier: Tier, opened: OpenStore, cluster_id: String, group: &TaskGroup) {
    let cancelled = group.cancelled().clone();
    group.spawn("adopt-bucket", async move {
        let mut is_told = false;
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = tokio::time::sleep(AGAIN_AFTER) => {}
            }
            match opened.adopt(&tier, &cluster_id).await {
                Ok(()) => {
                    tracing::info!("the object store is back");
                    return;
                }
                Err(StoreError::Adopt(AdoptError::Store(error))) => {
                    tracing::debug!(%error, "the object store is still away");
                }
                Err(StoreError::Adopt(error @ (AdoptError::Foreign { .. } | AdoptError::Format { .. }))) => {
                    tracing::error!(%error, "the object store is not this cluster's: nothing is uploaded");
                    return;
                }
                // A folder that is not mounted yet; or it is adopted, and there is no room to say so.
                Err(error) if !is_told => {
                    tracing::error!(%error, "the object store is not adopted as it should be, and is asked again");
                    is_told = true;
                }
                Err(error) => tracing::debug!(%error, "the object store is not adopted as it should be"),
            }
        }
    });
}
