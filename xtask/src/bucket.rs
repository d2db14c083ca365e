//! What a folder that serves as a bucket holds, for the history: manifests by `aquifer tier ls`, objects by walking the folder.

use crate::broker::Broker;
use crate::history::History;
use crate::run::{command, output};
use crate::{plain_gets, s3};
use anyhow::{Context, Result};
use aquifer_checker::{Event, Object, Offset, Partition, Segment};
use serde::Deserialize;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// `tier.delete.grace.ms`, unless a proof sets another.
pub(crate) const GRACE: Duration = Duration::from_secs(300);

#[derive(Debug, Deserialize)]
struct Listing {
    topics: Vec<Topic>,
}

#[derive(Debug, Deserialize)]
struct Topic {
    id: String,
    name: Option<String>,
    deleted: bool,
    partitions: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    partition: u32,
    segments: Vec<ListedSegment>,
    others: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ListedSegment {
    base: i64,
    next: i64,
    object: String,
    image_bytes: u64,
}

/// Looks into a bucket, again and again.
#[derive(Debug)]
pub(crate) struct Look {
    began: Instant,
    grace: Duration,
}

impl Look {
    pub(crate) fn new(grace: Duration) -> Look {
        Look { began: Instant::now(), grace }
    }

    /// Notes each live partition's newest manifest, then the objects that are there. The bucket is a folder.
    pub(crate) fn note(&self, broker: &Broker, history: &mut History) -> Result<()> {
        let folder = broker.object_store().strip_prefix("file://").context("the bucket is no folder")?;
        self.note_of(broker, history, |below| {
            let mut objects = Vec::new();
            walk(Path::new(folder), below, &mut objects)?;
            Ok(objects)
        })
    }

    /// The same of a bucket of a server that anyone may list, in which nothing has changed for longer than the grace.
    pub(crate) fn note_in(
        &self,
        address: &str,
        prefix: &str,
        broker: &Broker,
        history: &mut History,
    ) -> Result<()> {
        let age_ms = u64::try_from(self.grace.as_millis())? + 1;
        self.note_of(broker, history, |below| {
            let listed = plain_gets::list(address, s3::BUCKET, &format!("{prefix}/{below}/"))?;
            let strip =
                |key: String| key.strip_prefix(prefix).map(|key| key.trim_start_matches('/').to_owned());
            let object = |(key, bytes)| Some(Object { key: strip(key)?, bytes, age_ms });
            Ok(listed.into_iter().filter_map(object).collect())
        })
    }

    fn note_of(
        &self,
        broker: &Broker,
        history: &mut History,
        objects_below: impl Fn(&str) -> Result<Vec<Object>>,
    ) -> Result<()> {
        let mut ls = broker.tier(["ls", "--json", "--object-store", broker.object_store()]);
        let listing: Listing = serde_json::from_str(&output(&mut ls)?).context("what `tier ls` says")?;
        let at_ms = self.now_ms();
        let live = listing.topics.into_iter().filter(|topic| !topic.deleted);
        for Topic { id, name, partitions, .. } in live {
            let topic = name.unwrap_or_else(|| id.clone());
            for Listed { partition: index, segments, others } in partitions {
                let partition = Partition { topic: topic.clone(), index };
                let segments = segments.into_iter().map(|listed| Segment {
                    base: Offset(listed.base),
                    next: Offset(listed.next),
                    object: listed.object,
                    bytes: listed.image_bytes,
                });
                let segments = segments.collect();
                let manifest = Event::Manifest { partition: partition.clone(), segments, others, at_ms };
                history.note(&manifest)?;
                let listing_at_ms = self.now_ms();
                let mut objects = Vec::new();
                for kind in ["data", "pages"] {
                    objects.extend(objects_below(&format!("partitions/{id}/{index}/{kind}"))?);
                }
                let grace_ms = u64::try_from(self.grace.as_millis())?;
                history.note(&Event::Listing { partition, objects, grace_ms, at_ms: listing_at_ms })?;
            }
        }
        Ok(())
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }
}

fn walk(root: &Path, prefix: &str, objects: &mut Vec<Object>) -> Result<()> {
    let folder = root.join(prefix);
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What is being written has such a name until it is whole: the store does not list it either.
        if name.contains('#') {
            continue;
        }
        // Gone between the two looks.
        let Ok(facts) = entry.metadata() else { continue };
        let age = SystemTime::now().duration_since(facts.modified()?).unwrap_or_default();
        let age_ms = u64::try_from(age.as_millis())?;
        objects.push(Object { key: format!("{prefix}/{name}"), bytes: facts.len(), age_ms });
    }
    Ok(())
}

/// What lies in a bucket besides what its manifests name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Rest {
    orphans: Vec<serde_json::Value>,
    /// Objects that wait for the end of their grace.
    removed: u64,
}

/// What lies in a bucket besides what its manifests name, as `aquifer tier verify` finds it.
pub(crate) fn rest(binary: &Path, url: &str) -> Result<Rest> {
    let mut verify = command(binary, ["tier", "verify", "--json", "--object-store", url]);
    serde_json::from_str(&output(verify.envs(s3::KEYS))?).context("what `tier verify` says")
}

/// `aquifer tier verify`, every byte; fails unless the bucket is as its manifests say.
pub(crate) fn verify(binary: &Path, url: &str) -> Result<()> {
    crate::run::run(command(binary, ["tier", "verify", "--deep", "--object-store", url]).envs(s3::KEYS))
}
