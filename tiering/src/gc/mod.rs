//! What goes: retention, removed objects, superseded versions, orphans.
//!
//! The order is always the manifest first, then grace, then the object: a reader may hold the manifest of some seconds ago. Grace
//! is counted by the store's own clock, since ours may be wrong. Only the claim holder removes anything, and of what no
//! manifest names only objects of claims that do not outrank its own: a holder that was deposed without knowing it can never
//! remove what its successor wrote.
//!
//! A crash anywhere leaves objects that wait on the manifest's list, or orphans; the next sweep, by whoever holds the claim
//! then, finds both.

/// What retention takes; pure.
pub mod expire;

use std::collections::HashSet;
use std::time::Duration;

use aquifer_model::{ByteCount, Timestamp, TopicPartition};
use aquifer_runtime::metrics::{Counter, Registry};
use aquifer_runtime::planted::{self, Planted};
use futures::StreamExt as _;

use crate::manifest::Manifest;
use crate::manifest::commit::{CommitError, ManifestWriter};
use crate::manifest::load::{ManifestError, Pages};
use crate::options::Options;
use crate::path::{self, Key, Prefix};
use crate::store::{Store, StoreError};
use crate::upload::fresh_page;

pub use expire::Retention;

/// How many objects a manifest keeps waiting at most; retention goes on once some of them are gone.
const REMOVED_MAX: usize = 4_096;
/// How many objects one request to remove names at most.
const DELETE_BATCH: usize = 1_000;

/// How thoroughly to sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectDepth {
    /// What the manifest knows to be removed, and superseded versions.
    Removed,
    /// Also lists all objects of the partition for what nothing names. One listing request for a thousand segments.
    Orphans,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Objects removed: data, pages and versions.
    pub objects: u64,
    /// Multipart uploads ended.
    pub uploads: u64,
    /// Objects that still have grace.
    pub left: u64,
    /// Of these, what nothing names: only a sweep of [`CollectDepth::Orphans`] finds it again.
    pub orphans_left: u64,
}

/// What retention took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Expired {
    /// Segments that are named no longer.
    pub segments: u64,
    /// Their logs' bytes.
    pub bytes: ByteCount,
}

/// Counters of what went. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct GcMetrics {
    /// Segments that retention took.
    pub expired: Counter,
    /// Objects removed.
    pub removed: Counter,
    /// Of these, what nothing named.
    pub orphans: Counter,
}

impl GcMetrics {
    /// Shows the counters to the outside.
    pub fn register(&self, registry: &mut Registry) {
        let name = |what: &str| format!("aquifer_tier_{what}");
        registry.register(name("expired_segments"), "Segments that retention took", self.expired.clone());
        registry.register(name("removed_objects"), "Objects removed from the bucket", self.removed.clone());
        registry.register(name("orphan_objects"), "Objects removed that nothing named", self.orphans.clone());
    }
}

/// What a sweep needs besides the claim.
#[derive(Debug)]
pub struct Sweeper {
    /// The store.
    pub store: Store,
    /// Pages of old entries.
    pub pages: Pages,
    /// Bounds.
    pub options: Options,
    /// Counters.
    pub metrics: GcMetrics,
}

impl Sweeper {
    /// Drops from the manifest what retention no longer keeps, a bounded number a version, until nothing more is due.
    pub async fn expire(
        &self,
        writer: &mut ManifestWriter,
        retention: Retention,
    ) -> Result<Expired, CommitError> {
        writer.settle_pending().await?;
        if let Some(start) = retention.start.filter(|start| *start > writer.newest().log_start()) {
            // A start behind the end counts only up to there; no version is written to say nothing new.
            let next = writer.newest().with_log_start(start);
            if next != **writer.newest() {
                writer.commit(next).await?;
            }
        }
        let mut expired = Expired::default();
        // Asked once, before anything is taken: an earlier time only makes the grace shorter by this call's length.
        let mut now = None;
        loop {
            let manifest = writer.newest().clone();
            let paged = match manifest.pages().first() {
                Some(page) => Some(self.pages.get(manifest.partition(), page).await?),
                None => None,
            };
            let oldest = paged.as_ref().map_or(manifest.entries(), |entries| entries);
            let wall = self.store.world().clock.wall();
            let due = expire::due(oldest, manifest.log_bytes(), manifest.log_start(), retention, wall);
            let due = due.min(self.options.expire_segments_max);
            if due == 0 || manifest.removed().len() >= REMOVED_MAX {
                return Ok(expired);
            }
            let at = match now {
                Some(at) => at,
                None => *now.insert(self.store.clock().await.map_err(ManifestError::from)?),
            };
            let bytes: ByteCount = oldest[..due].iter().map(|entry| entry.segment.log_bytes).sum();
            if planted::is(Planted::ObjectDeletedFirst) {
                let keys: Vec<Key> = oldest[..due].iter().map(|entry| entry.object.clone()).collect();
                self.delete(&keys, &mut Collected::default()).await?;
            }
            let next = match &paged {
                None => manifest.without_oldest(due, at),
                Some(entries) => {
                    let key = fresh_page(&self.store, &manifest, writer.claimed());
                    let (next, page) = manifest.without_oldest_paged(entries, due, key, at);
                    if let Some(page) = page {
                        let sent = self.store.put(&page.object, vec![page.bytes]).await;
                        writer.note_sent(sent.map_err(ManifestError::from)?);
                    }
                    next
                }
            };
            writer.commit(next).await?;
            expired.segments += due as u64;
            expired.bytes += bytes;
            self.metrics.expired.inc_by(due as u64);
        }
    }

    /// Removes what the grace is over for.
    pub async fn collect(
        &self,
        writer: &mut ManifestWriter,
        depth: CollectDepth,
    ) -> Result<Collected, CommitError> {
        writer.settle_pending().await?;
        let now = self.store.clock().await.map_err(ManifestError::from)?;
        let over = Overdue { now, grace: self.options.delete_grace };
        let mut collected = Collected::default();
        self.collect_removed(writer, over, &mut collected).await?;
        let manifest = writer.newest().clone();
        self.collect_versions(&manifest, over, &mut collected).await?;
        if depth == CollectDepth::Orphans {
            self.collect_orphans(writer, over, &mut collected).await?;
        }
        self.metrics.removed.inc_by(collected.objects);
        Ok(collected)
    }

    async fn collect_removed(
        &self,
        writer: &mut ManifestWriter,
        over: Overdue,
        collected: &mut Collected,
    ) -> Result<(), CommitError> {
        let manifest = writer.newest().clone();
        let (due, left): (Vec<_>, Vec<_>) = manifest.removed().iter().partition(|removed| {
            over.is_over(removed.at) && writer.removed_for(&removed.object) >= over.grace
        });
        collected.left += left.len() as u64;
        if due.is_empty() {
            return Ok(());
        }
        let keys: Vec<Key> = due.iter().map(|removed| removed.object.clone()).collect();
        self.delete(&keys, collected).await?;
        writer.commit(manifest.without_removed(&keys)).await?;
        Ok(())
    }

    /// Removes versions that nobody can collide with any more.
    async fn collect_versions(
        &self,
        newest: &Manifest,
        over: Overdue,
        collected: &mut Collected,
    ) -> Result<(), ManifestError> {
        let stays = |key: &Key| {
            path::parse_version(key).is_none_or(|version| {
                let version = crate::manifest::ManifestVersion(version);
                version >= newest.version() || newest.pins(version)
            })
        };
        self.delete_where(&path::manifests(newest.partition()), over, collected, stays).await?;
        Ok(())
    }

    async fn collect_orphans(
        &self,
        writer: &ManifestWriter,
        over: Overdue,
        collected: &mut Collected,
    ) -> Result<(), ManifestError> {
        let manifest = writer.newest();
        let named = named_objects(&self.pages, manifest).await?;
        let claim = writer.claimed();
        let rank = (claim.incarnation.0, claim.epoch);
        let stays = |key: &Key| {
            let newer = path::parse_data(key).is_none_or(|name| (name.incarnation, name.epoch) > rank);
            newer || named.contains(key)
        };
        let partition = manifest.partition();
        let before = *collected;
        for prefix in [path::data(partition), path::pages(partition)] {
            self.delete_where(&prefix, over, collected, stays).await?;
        }
        self.metrics.orphans.inc_by(collected.objects - before.objects);
        collected.orphans_left = collected.left - before.left;
        collected.uploads += self.store.abort_uploads(&path::data(partition), over.deadline()).await?;
        Ok(())
    }

    /// Removes all of a deleted partition but its last version and those that a frozen writer must collide with. Until writes that
    /// were sent before its end can no longer come, something counts as left: nobody else would find what they bring.
    pub async fn collect_deleted(&self, last: &Manifest) -> Result<Collected, ManifestError> {
        let now = self.store.clock().await?;
        let over = Overdue { now, grace: self.options.delete_grace };
        let partition = last.partition();
        let marker = self.store.head(&path::manifest(partition, last.version().0)).await?;
        let mut collected = Collected::default();
        if !over.is_over(marker.modified) {
            collected.left = 1;
            return Ok(collected);
        }
        for prefix in [path::data(partition), path::pages(partition)] {
            self.delete_where(&prefix, over, &mut collected, |_| false).await?;
        }
        self.collect_versions(last, over, &mut collected).await?;
        collected.uploads = self.store.abort_uploads(&path::data(partition), over.deadline()).await?;
        self.metrics.removed.inc_by(collected.objects);
        let late = Overdue { now, grace: self.options.delete_grace + self.options.late_write_max };
        collected.left += u64::from(!late.is_over(marker.modified));
        Ok(collected)
    }

    /// Removes objects below a prefix that are past their grace, unless they stay.
    async fn delete_where(
        &self,
        prefix: &Prefix,
        over: Overdue,
        collected: &mut Collected,
        stays: impl Fn(&Key) -> bool,
    ) -> Result<(), StoreError> {
        let mut listing = self.store.list(prefix, None);
        let mut due = Vec::new();
        while let Some(facts) = listing.next().await.transpose()? {
            if stays(&facts.key) {
                continue;
            }
            if !over.is_over(facts.modified) {
                collected.left += 1;
                continue;
            }
            due.push(facts.key);
            if due.len() == DELETE_BATCH {
                self.delete(&std::mem::take(&mut due), collected).await?;
            }
        }
        self.delete(&due, collected).await
    }

    async fn delete(&self, keys: &[Key], collected: &mut Collected) -> Result<(), StoreError> {
        for some in keys.chunks(DELETE_BATCH) {
            self.store.delete(some.to_vec()).await?;
            collected.objects += some.len() as u64;
        }
        Ok(())
    }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> CommitError {
        CommitError::Manifest(error.into())
    }
}

/// Every object that a manifest names or keeps waiting: segments, pages and what pages name.
pub(crate) async fn named_objects(pages: &Pages, manifest: &Manifest) -> Result<HashSet<Key>, ManifestError> {
    let partition: TopicPartition = manifest.partition();
    let mut named: HashSet<Key> = manifest.entries().iter().map(|entry| entry.object.clone()).collect();
    named.extend(manifest.removed().iter().map(|removed| removed.object.clone()));
    for page in manifest.pages() {
        named.insert(page.object.clone());
        named.extend(pages.get(partition, page).await?.iter().map(|entry| entry.object.clone()));
    }
    Ok(named)
}

/// Tells, by the store's clock, what the grace is over for.
#[derive(Debug, Clone, Copy)]
struct Overdue {
    now: Timestamp,
    grace: Duration,
}

impl Overdue {
    fn is_over(self, since: Timestamp) -> bool {
        self.now.since(since) >= self.grace
    }

    /// What was there before this is past its grace.
    fn deadline(self) -> Timestamp {
        let grace = i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.now.0.saturating_sub(grace))
    }
}
