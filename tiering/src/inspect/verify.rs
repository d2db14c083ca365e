//! Is what the manifests name there, whole and in order?
//!
//! Of each partition: the newest manifest holds its invariants, and its pages are those it names; the versions that a frozen
//! writer must collide with are there; each object exists at its length, and its footer says what the manifest says. *Deep*:
//! every byte is read, every block and batch checked, and former versions too. Objects that nothing names are told, and are no fault.

use std::collections::HashMap;

use aquifer_model::{ByteCount, TopicId, TopicPartition};
use aquifer_runtime::pace::Pace;
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use super::{InspectError, partitions, topics};
use crate::examine::{self, Counted, Fault};
use crate::gc::named_objects;
use crate::manifest::load::{self, ManifestError, Pages};
use crate::manifest::{Entry, Manifest, ManifestVersion};
use crate::path::{self, Key};
use crate::store::{ObjectFacts, Store, StoreError};

/// Segments looked at side by side.
const PARALLEL: usize = 16;
/// Memory for pages while verifying.
const PAGES_BYTES: ByteCount = ByteCount::mib(16);

/// What to verify.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerifyOptions {
    /// Read every byte.
    pub deep: bool,
    /// Only this topic.
    pub topic: Option<TopicId>,
}

impl VerifyOptions {
    /// One topic.
    pub fn of(topic: TopicId) -> VerifyOptions {
        VerifyOptions { deep: false, topic: Some(topic) }
    }

    /// Every byte.
    #[must_use]
    pub fn deep(self) -> VerifyOptions {
        VerifyOptions { deep: true, ..self }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// Where.
    pub store: String,
    /// How many partitions were looked at.
    pub partitions: u64,
    /// How many segments.
    pub segments: u64,
    /// Their logs' bytes.
    pub log_bytes: u64,
    /// Bytes of logs that were read and checked.
    pub read_bytes: u64,
    /// Batches that were read and checked.
    pub batches: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What nothing names: left by a crash, or on its way.
    pub orphans: Vec<Orphan>,
    /// Objects that wait for the end of their grace.
    pub removed: u64,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whose.
    pub topic: String,
    /// Which partition.
    pub partition: i32,
    /// Which object, where it is one.
    pub object: Option<String>,
    /// What.
    pub what: String,
}

/// An object that nothing names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    /// Its key.
    pub object: String,
    /// Its length.
    pub bytes: u64,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Verifies a bucket, or one topic of it.
pub async fn verify(store: &Store, options: VerifyOptions) -> Result<Report, InspectError> {
    let mut report = Report { store: store.url().to_owned(), ..Report::default() };
    let all = match options.topic {
        Some(topic) => vec![topic],
        None => topics(store).await?,
    };
    for topic in all {
        for partition in partitions(store, topic).await? {
            let pages = Pages::new(store.clone(), PAGES_BYTES);
            let mut check = Check { store, pages, partition, deep: options.deep, report: &mut report };
            check.run().await?;
        }
    }
    Ok(report)
}

struct Check<'a> {
    store: &'a Store,
    pages: Pages,
    partition: TopicPartition,
    deep: bool,
    report: &'a mut Report,
}

/// What was found of one segment.
struct Segment {
    read: u64,
    batches: u64,
    problem: Option<(Key, String)>,
}

impl Check<'_> {
    async fn run(&mut self) -> Result<(), InspectError> {
        self.report.partitions += 1;
        let manifest = match load::newest(self.store, self.partition, None).await {
            Ok(Some(manifest)) => manifest,
            Ok(None) => return self.without_manifest().await,
            Err(ManifestError::Store(error)) => return Err(error.into()),
            Err(error) => {
                // It is never passed over for an older one: that would be a step back in time.
                self.problem(error.key().as_ref(), error.to_string());
                return Ok(());
            }
        };
        self.report.removed += manifest.removed().len() as u64;
        self.versions(&manifest).await?;
        let objects = self.objects().await?;
        let (entries, whole) = self.entries(&manifest).await?;
        self.segments(entries, &objects).await?;
        // What a damaged page named is not to be taken for an orphan.
        if whole { self.orphans(&manifest, &objects).await } else { Ok(()) }
    }

    fn problem(&mut self, object: Option<&Key>, what: String) {
        self.report.problems.push(Problem {
            topic: self.partition.topic.to_string(),
            partition: self.partition.partition.0,
            object: object.map(ToString::to_string),
            what,
        });
    }

    /// Before anything is uploaded a claim writes a first version, and a deleted partition keeps its last: where there are objects and
    /// no manifest, it is lost.
    async fn without_manifest(&mut self) -> Result<(), InspectError> {
        let objects = self.objects().await?;
        if !objects.is_empty() {
            let what = format!("there is no manifest, but {} objects are there", objects.len());
            self.problem(None, what);
        }
        self.report.orphans.extend(objects.values().map(orphan));
        Ok(())
    }

    /// A version that first carried a claim, and the one before it, must be there.
    async fn versions(&mut self, manifest: &Manifest) -> Result<(), InspectError> {
        let listed: Vec<_> = self.store.list(&path::manifests(self.partition), None).try_collect().await?;
        let there: Vec<u64> = listed.iter().filter_map(|facts| path::parse_version(&facts.key)).collect();
        for ManifestVersion(claim) in manifest.claim_versions() {
            for version in [claim - 1, *claim] {
                if version > 0 && there.binary_search(&version).is_err() {
                    let key = path::manifest(self.partition, version);
                    self.problem(Some(&key), "a version that fences former writers is missing".to_owned());
                }
            }
        }
        // What was superseded goes while this looks, and is no loss.
        let deep = self.deep;
        for version in there.into_iter().filter(|version| deep && *version < manifest.version().0) {
            match load::version(self.store, self.partition, ManifestVersion(version)).await {
                Ok(_) => {}
                Err(ManifestError::Store(error)) => return Err(error.into()),
                Err(error) => {
                    let key = path::manifest(self.partition, version);
                    self.problem(Some(&key), error.to_string());
                }
            }
        }
        Ok(())
    }

    async fn objects(&self) -> Result<HashMap<Key, ObjectFacts>, StoreError> {
        let mut objects = HashMap::new();
        for prefix in [path::data(self.partition), path::pages(self.partition)] {
            let listed: Vec<_> = self.store.list(&prefix, None).try_collect().await?;
            objects.extend(listed.into_iter().map(|facts| (facts.key.clone(), facts)));
        }
        Ok(objects)
    }

    /// All entries that can be read, oldest first, and whether that is all of them: each damaged page is a problem of its own.
    async fn entries(&mut self, manifest: &Manifest) -> Result<(Vec<Entry>, bool), InspectError> {
        let mut entries = Vec::new();
        let mut whole = true;
        for page in manifest.pages() {
            match self.pages.get(self.partition, page).await {
                Ok(paged) => entries.extend(paged.iter().cloned()),
                Err(ManifestError::Store(error)) if !error.is_not_found() => return Err(error.into()),
                Err(error) => {
                    self.problem(Some(&page.object), error.to_string());
                    whole = false;
                }
            }
        }
        entries.extend(manifest.entries().iter().cloned());
        Ok((entries, whole))
    }

    async fn segments(
        &mut self,
        entries: Vec<Entry>,
        objects: &HashMap<Key, ObjectFacts>,
    ) -> Result<(), InspectError> {
        let (store, partition, deep) = (self.store, self.partition, self.deep);
        let mut checked = futures::stream::iter(entries)
            .map(|entry| {
                let facts = objects.get(&entry.object).cloned();
                check_segment(store, partition, entry, facts, deep)
            })
            .buffered(PARALLEL);
        let mut all = Vec::new();
        while let Some(segment) = checked.next().await {
            all.push(segment?);
        }
        drop(checked);
        for (entry, segment) in all {
            self.report.segments += 1;
            self.report.log_bytes += entry.segment.log_bytes.get();
            self.report.read_bytes += segment.read;
            self.report.batches += segment.batches;
            if let Some((key, what)) = segment.problem
                && self.is_named_still(&entry).await?
            {
                self.problem(Some(&key), what);
            }
        }
        Ok(())
    }

    /// The cluster may be running: what went since the manifest was read is not missing.
    async fn is_named_still(&self, entry: &Entry) -> Result<bool, InspectError> {
        let Some(manifest) = load::newest(self.store, self.partition, None).await? else {
            return Ok(false);
        };
        Ok(manifest.first().is_some_and(|first| first <= entry.range().base))
    }

    async fn orphans(
        &mut self,
        manifest: &Manifest,
        objects: &HashMap<Key, ObjectFacts>,
    ) -> Result<(), InspectError> {
        let named = named_objects(&self.pages, manifest).await?;
        let mut orphans: Vec<Orphan> =
            objects.values().filter(|facts| !named.contains(&facts.key)).map(orphan).collect();
        orphans.sort_by(|a, b| a.object.cmp(&b.object));
        self.report.orphans.extend(orphans);
        Ok(())
    }
}

fn orphan(facts: &ObjectFacts) -> Orphan {
    Orphan { object: facts.key.to_string(), bytes: facts.size.get() }
}

async fn check_segment(
    store: &Store,
    partition: TopicPartition,
    entry: Entry,
    facts: Option<ObjectFacts>,
    deep: bool,
) -> Result<(Entry, Segment), InspectError> {
    let mut segment = Segment { read: 0, batches: 0, problem: None };
    let outcome = match facts {
        None => Err("the object is missing".to_owned()),
        Some(facts) if facts.size.get() < entry.position + entry.image_bytes.get() => Err(format!(
            "the object is {} bytes long, the manifest says {}",
            facts.size.get(),
            entry.image_bytes.get()
        )),
        Some(_) => check_bytes(store, partition, &entry, deep, &mut segment).await?,
    };
    segment.problem = outcome.err().map(|what| (entry.object.clone(), what));
    Ok((entry, segment))
}

/// Reads the footer, and where it is asked for the log. The outer error is the store's, the inner one the segment's.
async fn check_bytes(
    store: &Store,
    partition: TopicPartition,
    entry: &Entry,
    deep: bool,
    segment: &mut Segment,
) -> Result<Result<(), String>, InspectError> {
    let index = match examine::tail(store, partition, entry).await? {
        Ok(index) => index,
        Err(Fault(what)) => return Ok(Err(what)),
    };
    if !deep {
        return Ok(Ok(()));
    }
    let mut counted = Counted::default();
    let mut pace = Pace::new(store.world().clock, None);
    let looked = examine::log(store, entry, &index, &mut pace, &mut counted).await?;
    (segment.read, segment.batches) = (counted.bytes, counted.batches);
    Ok(looked.map_err(|Fault(what)| what))
}
