//! What this process knows of a partition's newest manifest.
//!
//! The writer publishes what it commits, so a leader's readers never ask the store. Others read it anew once what they know is
//! too old; one at a time, the others wait for that one.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::TopicPartition;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Manifest;
use super::load::{self, ManifestError};
use crate::path;
use crate::store::Store;

/// The newest manifest known.
#[derive(Debug)]
pub struct View {
    store: Store,
    partition: TopicPartition,
    seen: Mutex<Seen>,
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Seen {
    manifest: Option<Arc<Manifest>>,
    at: Option<Instant>,
    /// A writer in this process keeps it up to date.
    written_here: bool,
}

impl View {
    /// Knows nothing yet.
    pub fn new(store: Store, partition: TopicPartition) -> View {
        View { store, partition, seen: Mutex::default(), refreshing: tokio::sync::Mutex::new(()) }
    }

    /// Whose.
    pub fn partition(&self) -> TopicPartition {
        self.partition
    }

    /// What is known, however old.
    pub fn known(&self) -> Option<Arc<Manifest>> {
        self.seen.lock().manifest.clone()
    }

    /// The newest manifest, by what is known if that is younger than `age_max` or written by this process.
    pub async fn get(&self, age_max: Duration) -> Result<Option<Arc<Manifest>>, ManifestError> {
        if let Some(fresh) = self.fresh(age_max) {
            return Ok(fresh);
        }
        let _one_at_a_time = self.refreshing.lock().await;
        // Whoever was ahead may have brought it.
        match self.fresh(age_max) {
            Some(fresh) => Ok(fresh),
            None => self.load().await,
        }
    }

    /// The newest manifest, by a look at the store.
    pub async fn refresh(&self) -> Result<Option<Arc<Manifest>>, ManifestError> {
        let _one_at_a_time = self.refreshing.lock().await;
        self.load().await
    }

    async fn load(&self) -> Result<Option<Arc<Manifest>>, ManifestError> {
        // Taken before the look, so that the age is never understated.
        let at = self.store.world().clock.now();
        let found = load::newest(&self.store, self.partition, self.known()).await?;
        if let Some(found) = &found {
            if self.known().is_none_or(|known| known.version < found.version) {
                // Local data is dropped for what a manifest names: it must be there to stay.
                self.store.harden(&path::manifest(self.partition, found.version.0)).await?;
            }
            self.note(found.clone());
        }
        self.seen.lock().at = Some(at);
        Ok(self.known())
    }

    /// What is known, if that is young enough or written by this process.
    pub(crate) fn fresh(&self, age_max: Duration) -> Option<Option<Arc<Manifest>>> {
        let now = self.store.world().clock.now();
        let seen = self.seen.lock();
        let young = seen.at.is_some_and(|at| now.duration_since(at) < age_max);
        (young || seen.written_here).then(|| seen.manifest.clone())
    }

    /// Takes note of a version; an older one than known changes nothing.
    pub(super) fn note(&self, manifest: Arc<Manifest>) {
        let mut seen = self.seen.lock();
        if seen.manifest.as_ref().is_none_or(|known| known.version < manifest.version) {
            seen.manifest = Some(manifest);
        }
    }

    /// Whether a writer in this process keeps it up to date.
    pub(super) fn set_written_here(&self, written_here: bool) {
        self.seen.lock().written_here = written_here;
    }
}
