//! What a bucket holds: topics, partitions, segments.

use aquifer_model::{ByteCount, TopicId, TopicPartition};
use serde::Serialize;

use super::{InspectError, partitions, topics};
use crate::cluster;
use crate::manifest::load::{self, Pages};
use crate::manifest::{Entry, Manifest};
use crate::store::Store;
use crate::topic::{self, TopicState};

/// Memory for pages while listing.
const PAGES_BYTES: ByteCount = ByteCount::mib(4);

/// All of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Where it is.
    pub store: String,
    /// Whose; `None` if it has no marker.
    pub cluster: Option<String>,
    /// Which life of that cluster.
    pub incarnation: Option<u64>,
    /// In order of their ids.
    pub topics: Vec<TopicListing>,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicListing {
    /// Its id.
    pub id: String,
    /// Its name, if it has a record.
    pub name: Option<String>,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Those that were ever claimed.
    pub partitions: Vec<PartitionListing>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionListing {
    /// Its number.
    pub partition: i32,
    /// Its newest manifest's version.
    pub version: u64,
    /// Its writer's leader epoch.
    pub leader_epoch: i32,
    /// Its writer's broker.
    pub broker: i32,
    /// The first offset that may be read.
    pub log_start: i64,
    /// Behind the last tiered record; `None` before the first upload.
    pub end: Option<i64>,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Oldest first.
    pub segments: Vec<SegmentListing>,
    /// Pages of older entries, and objects that wait for their grace.
    pub others: Vec<String>,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentListing {
    /// First offset.
    pub base: i64,
    /// Behind the last.
    pub next: i64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Newest timestamp, in milliseconds since 1970.
    pub timestamp_max: i64,
    /// Its object.
    pub object: String,
    /// How much of the object is this segment's.
    pub image_bytes: u64,
}

/// Lists a bucket.
pub async fn list(store: &Store) -> Result<Listing, InspectError> {
    let marker = cluster::read_marker(store).await?;
    let pages = Pages::new(store.clone(), PAGES_BYTES);
    let mut listed = Vec::new();
    for topic in topics(store).await? {
        listed.push(list_topic(store, &pages, topic).await?);
    }
    Ok(Listing {
        store: store.url().to_owned(),
        cluster: marker.as_ref().map(|marker| marker.cluster.clone()),
        incarnation: marker.map(|marker| marker.incarnation.0),
        topics: listed,
    })
}

/// The live topic of a name, with its number of partitions.
pub async fn topic_named(store: &Store, name: &str) -> Result<Option<(TopicId, u32)>, InspectError> {
    for id in topics(store).await? {
        let record = topic::read(store, id).await?;
        if let Some(record) =
            record.filter(|record| &*record.name == name && record.state == TopicState::Live)
        {
            return Ok(Some((id, record.partitions)));
        }
    }
    Ok(None)
}

async fn list_topic(store: &Store, pages: &Pages, id: TopicId) -> Result<TopicListing, InspectError> {
    let record = topic::read(store, id).await?;
    let mut listed = Vec::new();
    for partition in partitions(store, id).await? {
        if let Some(manifest) = load::newest(store, partition, None).await? {
            listed.push(list_partition(pages, partition, &manifest).await?);
        }
    }
    Ok(TopicListing {
        id: id.to_string(),
        name: record.as_ref().map(|record| record.name.to_string()),
        deleted: record.is_some_and(|record| record.state == TopicState::Deleted),
        partitions: listed,
    })
}

async fn list_partition(
    pages: &Pages,
    partition: TopicPartition,
    manifest: &Manifest,
) -> Result<PartitionListing, InspectError> {
    let mut segments = Vec::new();
    for page in manifest.pages() {
        segments.extend(pages.get(partition, page).await?.iter().map(segment));
    }
    segments.extend(manifest.entries().iter().map(segment));
    let removed = manifest.removed().iter().map(|removed| &removed.object);
    let others = manifest.pages().iter().map(|page| &page.object).chain(removed);
    Ok(PartitionListing {
        partition: partition.partition.0,
        version: manifest.version().0,
        leader_epoch: manifest.claim().epoch.get(),
        broker: manifest.claim().broker.0,
        log_start: manifest.log_start().get(),
        end: manifest.end().map(|end| end.get()),
        log_bytes: manifest.log_bytes().get(),
        deleted: manifest.is_deleted(),
        segments,
        others: others.map(|key| key.to_string()).collect(),
    })
}

fn segment(entry: &Entry) -> SegmentListing {
    SegmentListing {
        base: entry.range().base.get(),
        next: entry.range().next.get(),
        log_bytes: entry.segment.log_bytes.get(),
        timestamp_max: entry.segment.timestamp_max.0,
        object: entry.object.to_string(),
        image_bytes: entry.image_bytes.get(),
    }
}
