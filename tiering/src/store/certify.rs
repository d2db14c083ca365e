//! Does a store keep the promises that this crate builds on?
//!
//! A store that only seems to create conditionally loses history when two writers meet, so it is asked before it is trusted.
//! Real stores were found to fail in each of these ways.

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _};

use super::{Store, StoreError};
use aquifer_model::ByteCount;
use uuid::Uuid;

use crate::path::{self, Key, Prefix};

/// How many tasks race for one key.
const RACERS: usize = 8;
/// How many keys they race for.
const ROUNDS: usize = 4;
/// S3's least size of a part that is not the last.
const PART_BYTES: usize = 5 << 20;

/// Why a store was not certified.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CertifyError {
    /// It answered wrongly: it must not be used.
    #[error("this store cannot be used: it lacks {capability}: {what}")]
    Lacks {
        /// What it cannot do.
        capability: &'static str,
        /// What was seen.
        what: String,
    },
    /// It failed to answer: nothing is known.
    #[error("this store could not be tested for {capability}: {source}")]
    Failed {
        /// What was being tested.
        capability: &'static str,
        /// How it failed.
        source: StoreError,
    },
}

/// After how long what a probe has left is taken for abandoned, in milliseconds.
const ABANDONED_MS: i64 = 3_600_000;

struct Probe<'a> {
    store: &'a Store,
    id: Uuid,
}

impl Store {
    /// Tests the store on objects of its own, which are gone afterwards.
    pub async fn certify(&self) -> Result<(), CertifyError> {
        let probe = Probe { store: self, id: self.world().rng.uuid() };
        let outcome = probe.run().await;
        // What crashed probes have left is told by its age against this one's objects: by the store's own clock.
        let swept = probe.clean(&path::probes(), ABANDONED_MS).await;
        let cleaned = probe.clean(&path::probe(probe.id), 0).await.and(swept);
        outcome.and(cleaned.map_err(|source| CertifyError::Failed { capability: "removal", source }))
    }
}

fn lacks(capability: &'static str, what: impl Into<String>) -> CertifyError {
    CertifyError::Lacks { capability, what: what.into() }
}

fn failed(capability: &'static str) -> impl Fn(StoreError) -> CertifyError {
    move |source| CertifyError::Failed { capability, source }
}

impl Probe<'_> {
    async fn run(&self) -> Result<(), CertifyError> {
        self.create_once().await?;
        self.ranges().await?;
        self.multipart().await?;
        self.list_then_delete().await
    }

    fn key(&self, name: &str) -> Key {
        path::probe_object(self.id, name)
    }

    /// Of several who create one key at once, one succeeds, and the object is that one's.
    async fn create_once(&self) -> Result<(), CertifyError> {
        const CAPABILITY: &str = "put-if-absent (If-None-Match: *)";
        for round in 0..ROUNDS {
            let key = self.key(&format!("create-{round}"));
            let body = |racer: usize| Bytes::from(format!("racer {racer}"));
            let racers = (0..RACERS).map(|racer| self.store.put_new(&key, body(racer)));
            let outcomes = join_all(racers).await;
            let winners: Vec<usize> = (0..RACERS).filter(|racer| outcomes[*racer].is_ok()).collect();
            for error in outcomes.into_iter().filter_map(Result::err) {
                if !matches!(error, StoreError::AlreadyExists { .. }) {
                    return Err(failed(CAPABILITY)(error));
                }
            }
            let [winner] = winners[..] else {
                return Err(lacks(
                    CAPABILITY,
                    format!("{} of {RACERS} racing creates succeeded", winners.len()),
                ));
            };
            let stored = self.store.get(&key, ByteCount::kib(1)).await.map_err(failed(CAPABILITY))?;
            if stored != body(winner) {
                return Err(lacks(CAPABILITY, "the object is not the winner's"));
            }
        }
        Ok(())
    }

    async fn ranges(&self) -> Result<(), CertifyError> {
        const CAPABILITY: &str = "ranged reads";
        let key = self.key("ranges");
        let bytes = Bytes::from((0..10_000u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
        self.store.put(&key, vec![bytes.clone()]).await.map_err(failed(CAPABILITY))?;
        let middle = self.store.get_range(&key, 1_000..1_100).await.map_err(failed(CAPABILITY))?;
        if middle != bytes.slice(1_000..1_100) {
            return Err(lacks(CAPABILITY, "a range came back as other bytes"));
        }
        let (tail, size) = self.store.get_suffix(&key, ByteCount(77)).await.map_err(failed(CAPABILITY))?;
        if tail != bytes.slice(bytes.len() - 77..) || size != ByteCount(bytes.len() as u64) {
            return Err(lacks("reads from the end (suffix ranges)", "the last bytes came back as others"));
        }
        Ok(())
    }

    async fn multipart(&self) -> Result<(), CertifyError> {
        const CAPABILITY: &str = "multipart uploads";
        let key = self.key("parts");
        let part = |byte: u8, length| vec![Bytes::from(vec![byte; length])];
        let mut upload = self.store.multipart(&key).await.map_err(failed(CAPABILITY))?;
        let sent = futures::try_join!(upload.part(part(1, PART_BYTES)), upload.part(part(2, 1_000)));
        if let Err(error) = sent {
            upload.abort().await;
            return Err(failed(CAPABILITY)(error));
        }
        upload.complete().await.map_err(failed(CAPABILITY))?;
        let (tail, size) = self.store.get_suffix(&key, ByteCount(1_001)).await.map_err(failed(CAPABILITY))?;
        let whole = tail[0] == 1 && tail[1..].iter().all(|byte| *byte == 2);
        if size != ByteCount(PART_BYTES as u64 + 1_000) || !whole {
            return Err(lacks(CAPABILITY, "the parts did not become the object that was sent"));
        }
        Ok(())
    }

    /// What was just written is listed, in order; what was just removed is not.
    async fn list_then_delete(&self) -> Result<(), CertifyError> {
        let listed = self.names().await.map_err(failed("listing"))?;
        let mut expected: Vec<String> = (0..ROUNDS).map(|round| format!("create-{round}")).collect();
        expected.extend(["parts".to_owned(), "ranges".to_owned()]);
        if listed != expected {
            return Err(lacks(
                "listing after a write",
                format!("{expected:?} were written, {listed:?} are listed"),
            ));
        }
        let keys = expected.iter().map(|name| self.key(name)).collect();
        self.store.delete(keys).await.map_err(failed("removal of several objects"))?;
        let left = self.names().await.map_err(failed("listing"))?;
        if !left.is_empty() {
            return Err(lacks("removal of several objects", format!("{left:?} are still listed")));
        }
        Ok(())
    }

    async fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut listing = self.store.list(&path::probe(self.id), None);
        let mut names = Vec::new();
        while let Some(facts) = listing.next().await {
            names.push(facts?.key.name().to_owned());
        }
        Ok(names)
    }

    async fn clean(&self, prefix: &Prefix, age_ms: i64) -> Result<(), StoreError> {
        let all: Vec<_> = self.store.list(prefix, None).try_collect().await?;
        let newest = all.iter().map(|facts| facts.modified.millis()).max().unwrap_or(0);
        let old = all.into_iter().filter(|facts| newest - facts.modified.millis() >= age_ms);
        self.store.delete(old.map(|facts| facts.key).collect()).await
    }
}
