//! The bucket: opened, certified, adopted.
//!
//! A store is certified once: what was found is kept in the data directory, by URL. A store that answers wrongly is refused. One
//! that was never certified and cannot be reached fails the start, since nobody knows yet whether it could ever work; one that
//! was is merely away, and the broker starts without it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aquifer_runtime::World;
use aquifer_runtime::metrics::{Gauge, Registry, Table};
use aquifer_runtime::tasks::{Pool, TaskGroup};
use aquifer_tiering::cluster::AdoptError;
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
    /// What was found cannot be recorded.
    #[error("cannot record the store's certification in {path}: {error}")]
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
}

/// Opens the configured store, if there is one; what comes from it, comes by the threads of the background.
pub(super) async fn open(
    config: &Config,
    world: &World,
    dir: &Path,
    background: &Pool,
    registry: &mut Registry,
) -> Result<Option<OpenStore>, StartError> {
    let Some(tier) = &config.broker().tier else { return Ok(None) };
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
    let record = |error| StoreError::Record { path: path.clone(), error };
    let certified = world.disk.read_if_exists(&path).map_err(record)?;
    if certified.as_deref() == Some(store.url().as_bytes()) {
        let away = match store.check().await {
            Ok(()) => false,
            Err(error) => {
                tracing::warn!(%error, "the object store does not answer: starting without it");
                true
            }
        };
        return Ok(Some(OpenStore { store, away, adopted }));
    }
    store.check().await.map_err(StoreError::Open)?;
    store.certify().await.map_err(StoreError::Certify)?;
    world.disk.write_atomic(&path, store.url().as_bytes()).map_err(record)?;
    tracing::info!(url = store.url(), "object store certified");
    Ok(Some(OpenStore { store, away: false, adopted }))
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
        });
        let cluster_id = cluster.id.to_string();
        match tier.adopt(&cluster_id).await {
            Ok(_) => {
                self.adopted.set(1);
                self.store.set_lifecycle().await;
            }
            Err(AdoptError::Store(error)) if self.away => {
                tracing::debug!(%error, "the bucket cannot be adopted yet");
                adopt_later(tier.clone(), self, cluster_id, group);
            }
            Err(error) => return Err(StoreError::Adopt(error).into()),
        }
        Ok(tier)
    }
}

/// Every claim fails while the store is away, so nothing is written before it was seen to be this cluster's.
fn adopt_later(tier: Tier, opened: OpenStore, cluster_id: String, group: &TaskGroup) {
    let cancelled = group.cancelled().clone();
    group.spawn("adopt-bucket", async move {
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                () = tokio::time::sleep(AGAIN_AFTER) => {}
            }
            match tier.adopt(&cluster_id).await {
                Ok(_) => {
                    tracing::info!("the object store is back");
                    opened.adopted.set(1);
                    opened.store.set_lifecycle().await;
                    return;
                }
                Err(AdoptError::Store(error)) => tracing::debug!(%error, "the object store is still away"),
                Err(error) => {
                    tracing::error!(%error, "the object store is not this cluster's: nothing is uploaded");
                    return;
                }
            }
        }
    });
}
