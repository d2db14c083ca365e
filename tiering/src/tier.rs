//! The façade: partitions, their claims and their readers.
//!
//! It hands out two things: `Claimed`, the right to write one partition's manifest, and reads, which need no right. It does not
//! know who leads, nor when to upload: it is told the epoch, and asked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aquifer_model::epochs::EpochEnd;
use aquifer_model::{ByteCount, LeaderEpoch, Offset, PartitionIndex, Timestamp, TopicId, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::metrics::Registry;
use aquifer_runtime::pace::Pace;
use aquifer_runtime::tasks::TaskGroup;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cluster::{self, Acquaintance, AdoptError, ClusterMarker, Identity};
use crate::damage::{DamagedObject, Damages, ScrubMetrics};
use crate::examine::{Damaged, Examiner};
use crate::gc::{CollectDepth, Collected, Expired, GcMetrics, Retention, Sweeper};
use crate::manifest::commit::{self, ClaimError, CommitError, ManifestWriter};
use crate::manifest::load::{self, ManifestError};
use crate::manifest::locate;
use crate::manifest::view::View;
use crate::manifest::{Claim, Entry, Manifest, ManifestVersion, TieredUpTo};
use crate::options::Options;
use crate::path;
use crate::read::{ColdRead, ColdRequest, ReadError, ReadMetrics, Reader, Tail, TimeLookup};
use crate::store::{Operation, Store, StoreError};
use crate::topic::{self, TopicRecord};
use crate::upload::{SegmentSource, UploadError, UploadMetrics, Uploader};

/// The epoch of a controller that deletes a topic: no leader's is higher.
const DELETION_EPOCH: i32 = i32::MAX;

/// All counters of the tier. Clones share them. Those of the store come with the store.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Of uploads.
    pub upload: UploadMetrics,
    /// Of reads.
    pub read: ReadMetrics,
    /// Of removals.
    pub gc: GcMetrics,
    /// Of damage.
    pub scrub: ScrubMetrics,
}

impl Metrics {
    /// Shows the counters to the outside.
    pub fn register(&self, registry: &mut Registry) {
        self.upload.register(registry);
        self.read.register(registry);
        self.gc.register(registry);
        self.scrub.register(registry);
    }
}

/// What a tier is made of.
#[derive(Debug)]
pub struct Setup {
    /// Where it is.
    pub store: Store,
    /// Who writes.
    pub identity: Identity,
    /// Its bounds.
    pub options: Options,
    /// Clock and randomness.
    pub world: World,
    /// Owns the loads that go on after their reader's wait.
    pub tasks: TaskGroup,
    /// What it counts.
    pub metrics: Metrics,
    /// Whether the bucket is known to be this cluster's. If not, nothing is written before [`Tier::adopt`] found it to be.
    pub adopted: bool,
}

/// What this process knows of a partition in the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Which.
    pub partition: TopicPartition,
    /// By which manifest.
    pub version: ManifestVersion,
    /// Whose that is.
    pub claim: Claim,
    /// The first offset that may be read.
    pub log_start: Offset,
    /// Behind the last tiered record.
    pub end: Option<Offset>,
    /// Segments in the bucket.
    pub segments: u64,
    /// Their logs' bytes.
    pub log_bytes: ByteCount,
    /// Objects that wait for the end of their grace.
    pub removed: u64,
}

/// Sealed segments in object storage. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Tier(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    identity: Identity,
    options: Options,
    adopted: AtomicBool,
    views: Mutex<HashMap<TopicPartition, Arc<View>>>,
    uploader: Uploader,
    reader: Reader,
    sweeper: Sweeper,
    examiner: Examiner,
    damages: Arc<Damages>,
}

impl Tier {
    /// A tier that knows nothing yet; asks the store nothing.
    pub fn new(setup: Setup) -> Tier {
        let Setup { store, identity, options, world: _, tasks, metrics, adopted } = setup;
        let damages = Arc::new(Damages::new(metrics.scrub));
        let reader = Reader::new(store.clone(), options.clone(), tasks, damages.clone(), metrics.read);
        let sweeper = Sweeper {
            store: store.clone(),
            pages: reader.pages().clone(),
            options: options.clone(),
            metrics: metrics.gc,
        };
        let examiner =
            Examiner { store: store.clone(), pages: reader.pages().clone(), damages: damages.clone() };
        Tier(Arc::new(Inner {
            examiner,
            uploader: Uploader::new(store.clone(), options.clone(), metrics.upload),
            reader,
            sweeper,
            views: Mutex::default(),
            damages,
            adopted: AtomicBool::new(adopted),
            store,
            identity,
            options,
        }))
    }

    /// Where it is.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Makes an empty bucket this cluster's if it has none yet, or finds that it is. From then on it is written to.
    pub async fn adopt(
        &self,
        cluster: &str,
        acquaintance: Acquaintance,
    ) -> Result<ClusterMarker, AdoptError> {
        let marker = cluster::adopt(&self.0.store, cluster, acquaintance).await?;
        self.0.adopted.store(true, Ordering::Release);
        Ok(marker)
    }

    /// A bucket that may be another cluster's is written nothing to, and does not say what there is.
    fn is_ours(&self) -> Result<(), StoreError> {
        if self.0.adopted.load(Ordering::Acquire) {
            return Ok(());
        }
        let (operation, key) = (Operation::Create, path::cluster().as_str().to_owned());
        let message = "the bucket was not seen to be this cluster's yet".to_owned();
        Err(StoreError::Unavailable { operation, key, message })
    }

    /// Writes a revision of a topic's record; repeating it is harmless.
    pub async fn record_topic(&self, record: &TopicRecord) -> Result<(), StoreError> {
        self.is_ours()?;
        topic::record(&self.0.store, self.0.identity.incarnation, record).await
    }

    /// Becomes the writer of a partition's manifest. A partition that was never tiered gets its first version.
    pub async fn claim(&self, partition: TopicPartition, epoch: LeaderEpoch) -> Result<Claimed, ClaimError> {
        self.is_ours().map_err(ManifestError::from)?;
        let claim = Claim::new(&self.0.identity, epoch);
        let (store, view) = (self.0.store.clone(), self.view(partition));
        let writer = ManifestWriter::claim(store, view, claim, self.0.options.commit_deadline).await?;
        Ok(Claimed { tier: self.0.clone(), writer })
    }

    /// The newest manifest; what is known of it will do if younger than `age_max` or written by this process. `None`: nothing
    /// was ever tiered.
    pub async fn manifest(
        &self,
        partition: TopicPartition,
        age_max: Duration,
    ) -> Result<Option<Arc<Manifest>>, ManifestError> {
        self.is_ours()?;
        self.view(partition).get(age_max).await
    }

    /// Reads the newest manifest, and gives what it proves. `None`: nothing was ever tiered.
    pub async fn refresh(&self, partition: TopicPartition) -> Result<Option<TieredUpTo>, ManifestError> {
        let view = self.view(partition);
        view.refresh().await?;
        Ok(view.known().map(|manifest| commit::proof_of(&manifest)))
    }

    /// What the manifest known here proves to whoever leads under this epoch, without a look at the store. Only this process's own
    /// claim proves something: a rival's manifest may hold other records at the same offsets, and under the same epoch.
    pub fn known(&self, partition: TopicPartition, epoch: LeaderEpoch) -> Option<TieredUpTo> {
        let own = Claim::new(&self.0.identity, epoch);
        let manifest = self.view(partition).known()?;
        (manifest.claim() == own).then(|| commit::proof_of(&manifest))
    }

    /// The tier's state at its end: what a leader without a log of its own starts from. `None`: nothing was ever tiered.
    pub async fn tail(&self, partition: TopicPartition) -> Result<Option<Tail>, ReadError> {
        self.0.reader.tail(&self.view(partition)).await
    }

    /// Reads from an offset on.
    pub async fn read(&self, request: ColdRequest) -> Result<ColdRead, ReadError> {
        self.0.reader.read(&self.view(request.partition), request).await
    }

    /// Reads as [`Tier::read`] does, but also what lies before the log's start in a segment that reaches beyond it: for a copy of
    /// that segment, and for no consumer.
    pub async fn copy(&self, request: ColdRequest) -> Result<ColdRead, ReadError> {
        self.0.reader.copy(&self.view(request.partition), request).await
    }

    /// Waits until reads lack memory that answers given before may hold. For one waiter.
    pub async fn short_of_memory(&self) {
        self.0.reader.short_of_memory().await;
    }

    /// Finds the first record at or after a timestamp.
    pub async fn offset_for_timestamp(
        &self,
        partition: TopicPartition,
        at: Timestamp,
        wait_until: Instant,
    ) -> Result<TimeLookup, ReadError> {
        self.is_ours().map_err(|error| ReadError::of_store(&error))?;
        self.0.reader.by_timestamp(&self.view(partition), at, wait_until).await
    }

    /// Where an epoch ended, as far as the tier knows: the newest epoch's end is the tier's.
    pub async fn epoch_end(
        &self,
        partition: TopicPartition,
        epoch: LeaderEpoch,
    ) -> Result<Option<EpochEnd>, ManifestError> {
        let manifest = self.manifest(partition, self.0.options.manifest_age_max).await?;
        Ok(manifest.and_then(|manifest| locate::epoch_end(&manifest, epoch)))
    }

    /// What is known to be damaged in the bucket.
    pub fn damage(&self) -> Vec<DamagedObject> {
        self.0.damages.all()
    }

    /// Waits until damage is found that was not known before. For one waiter.
    pub async fn damaged(&self) {
        self.0.damages.wait().await;
    }

    /// Looks whether all that the newest manifest names of a partition behind an offset is in the bucket as it was uploaded, at this
    /// pace. What is not is noted as damage, and what was and is no longer is forgotten. The offset moves on with what was looked
    /// at, so that a look which fails can go on from there.
    pub async fn examine(
        &self,
        partition: TopicPartition,
        from: &mut Offset,
        pace: &mut Pace,
    ) -> Result<(), ReadError> {
        self.0.examiner.examine(&self.view(partition), from, pace).await
    }

    /// What a damaged object is to the newest manifest known; one that is nothing to it any more is forgotten.
    pub async fn identify(&self, damaged: &DamagedObject) -> Result<Option<Damaged>, ReadError> {
        let view = self.0.views.lock().get(&damaged.partition).cloned();
        self.0.examiner.identify(view.as_deref(), damaged).await
    }

    /// What this process knows, by partition.
    pub fn status(&self) -> Vec<PartitionStatus> {
        let views: Vec<Arc<View>> = self.0.views.lock().values().cloned().collect();
        let mut all: Vec<PartitionStatus> =
            views.iter().filter_map(|view| view.known()).map(|manifest| status(&manifest)).collect();
        all.sort_by_key(|status| status.partition);
        all
    }

    /// Writes the last version of each partition of a deleted topic. Its objects go with [`Tier::collect_deleted`].
    pub async fn delete_topic(&self, topic: TopicId, partitions: u32) -> Result<(), ClaimError> {
        self.is_ours().map_err(ManifestError::from)?;
        let epoch = LeaderEpoch::new(DELETION_EPOCH).expect("the deletion epoch is not negative");
        let claim = Claim::new(&self.0.identity, epoch);
        for partition in partitions_of(topic, partitions) {
            let view = self.view(partition);
            ManifestWriter::delete(&self.0.store, &view, claim, self.0.options.commit_deadline).await?;
        }
        Ok(())
    }

    /// Removes the objects of a deleted topic once their grace is over; what is left says whether to come back.
    pub async fn collect_deleted(&self, topic: TopicId, partitions: u32) -> Result<Collected, ManifestError> {
        let mut all = Collected::default();
        for partition in partitions_of(topic, partitions) {
            let Some(last) = self.view(partition).refresh().await?.filter(|last| last.is_deleted()) else {
                continue;
            };
            let Collected { objects, uploads, left, orphans_left: _ } =
                self.0.sweeper.collect_deleted(&last).await?;
            all.objects += objects;
            all.uploads += uploads;
            all.left += left;
        }
        Ok(all)
    }

    /// Forgets a partition that this broker no longer hosts, and its damage.
    pub fn forget(&self, partition: TopicPartition) {
        self.0.views.lock().remove(&partition);
        self.0.damages.forget_all(partition);
    }

    fn view(&self, partition: TopicPartition) -> Arc<View> {
        let mut views = self.0.views.lock();
        let view =
            views.entry(partition).or_insert_with(|| Arc::new(View::new(self.0.store.clone(), partition)));
        view.clone()
    }
}

fn partitions_of(topic: TopicId, partitions: u32) -> impl Iterator<Item = TopicPartition> {
    let count = i32::try_from(partitions).unwrap_or(i32::MAX);
    (0..count).map(move |number| TopicPartition { topic, partition: PartitionIndex(number) })
}

fn status(manifest: &Manifest) -> PartitionStatus {
    PartitionStatus {
        partition: manifest.partition(),
        version: manifest.version(),
        claim: manifest.claim(),
        log_start: manifest.log_start(),
        end: manifest.end(),
        segments: manifest.segments(),
        log_bytes: manifest.log_bytes(),
        removed: manifest.removed().len() as u64,
    }
}

/// The right to write one partition's manifest. After [`commit::Fenced`] it is worth nothing: drop it, and claim again only with a
/// higher epoch.
#[derive(Debug)]
pub struct Claimed {
    tier: Arc<Inner>,
    writer: ManifestWriter,
}

impl Claimed {
    /// The newest committed manifest.
    pub fn manifest(&self) -> Arc<Manifest> {
        self.writer.newest().clone()
    }

    /// What it proves.
    pub fn proof(&self) -> TieredUpTo {
        self.writer.proof()
    }

    /// Verifies a segment, uploads what the tier does not have of it, and names it. If the tier's end lies inside the segment,
    /// it is uploaded from there on: replicas roll at different places.
    pub async fn upload(&mut self, segment: SegmentSource) -> Result<TieredUpTo, UploadError> {
        self.tier.uploader.upload(&mut self.writer, segment).await
    }

    /// Whether, since the last call, an object was written by more than one request: one of them may come later than the object's
    /// end, and bring back what nothing names.
    pub fn take_doubt(&mut self) -> bool {
        self.writer.take_doubt()
    }

    /// Raises the log start (`DeleteRecords`), at most to the tier's end.
    pub async fn set_log_start(&mut self, start: Offset) -> Result<TieredUpTo, CommitError> {
        self.writer.settle_pending().await?;
        let next = self.writer.newest().with_log_start(start);
        if next == **self.writer.newest() {
            return Ok(self.writer.proof());
        }
        self.writer.commit(next).await
    }

    /// Goes on at a later offset, because all before it was deleted, also what was never tiered: everything named so far goes, and
    /// the next segment may start there.
    pub async fn skip_to(&mut self, start: Offset) -> Result<TieredUpTo, CommitError> {
        let end = self.writer.newest().end();
        if end.is_none_or(|end| start <= end) {
            return Ok(self.proof());
        }
        self.expire(Retention { start: end, ..Retention::default() }).await?;
        self.writer.settle_pending().await?;
        let next = self.writer.newest().skipped_to(start);
        if next == **self.writer.newest() {
            return Ok(self.writer.proof());
        }
        self.writer.commit(next).await
    }

    /// Verifies a local segment, uploads it, and names it in the place of a damaged object that holds the same. `false` if it does
    /// not hold the same. The damaged object goes after its grace.
    pub async fn replace(&mut self, source: SegmentSource, damaged: &Entry) -> Result<bool, UploadError> {
        let pages = self.tier.reader.pages();
        let replaced = self.tier.uploader.replace(&mut self.writer, pages, source, damaged).await?;
        if replaced.is_some() {
            self.tier.damages.forget(damaged.object.as_str());
            self.tier.damages.metrics.mended.inc();
            tracing::warn!(partition = %self.writer.newest().partition(), object = %damaged.object, "replaced a damaged object by a new one");
        }
        Ok(replaced.is_some())
    }

    /// Looks whether the newest version lies in the bucket as it was committed. If not, what this process knows is committed
    /// again, as the next version: nothing in the bucket is written over. Gives whether that was needed.
    pub async fn examine_manifest(&mut self) -> Result<bool, CommitError> {
        self.writer.settle_pending().await?;
        let newest = self.writer.newest().clone();
        let (partition, key) = (newest.partition(), path::manifest(newest.partition(), newest.version().0));
        let what = match load::version(&self.tier.store, partition, newest.version()).await {
            Ok(Some(found)) if found == newest => {
                self.tier.damages.forget(key.as_str());
                return Ok(false);
            }
            Ok(Some(_)) => "it is not the version that was committed".to_owned(),
            Ok(None) => "it is not there".to_owned(),
            Err(error @ ManifestError::Store(_)) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        self.tier.damages.note(partition, key.as_str(), &what);
        self.writer.commit((*newest).clone()).await?;
        self.tier.damages.forget(key.as_str());
        self.tier.damages.metrics.mended.inc();
        tracing::warn!(%partition, object = %key, version = %self.writer.newest().version(), "committed a damaged manifest again, as the next version");
        Ok(true)
    }

    /// Drops from the manifest what is no longer to be kept.
    pub async fn expire(&mut self, retention: Retention) -> Result<Expired, CommitError> {
        self.tier.sweeper.expire(&mut self.writer, retention).await
    }

    /// Removes objects that the grace is over for.
    pub async fn collect(&mut self, depth: CollectDepth) -> Result<Collected, CommitError> {
        self.tier.sweeper.collect(&mut self.writer, depth).await
    }
}
