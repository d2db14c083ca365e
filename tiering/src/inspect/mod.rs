//! A bucket looked at without a broker: list, verify, replay.
//!
//! Reads only, and believes nothing: what it says of a bucket is what the bucket itself says. Safe beside a running cluster; an
//! object that goes between the reading of a manifest and the look at the object is looked up in a fresh manifest before it is
//! called lost.

mod cat;
mod list;
mod verify;

pub use cat::cat;
pub use list::{Listing, PartitionListing, SegmentListing, TopicListing, list, topic_named};
pub use verify::{Orphan, Problem, Report, VerifyOptions, verify};

use crate::cluster::AdoptError;
use crate::manifest::load::ManifestError;
use crate::path;
use crate::read::ReadError;
use crate::store::{Store, StoreError};
use crate::topic::TopicError;
use aquifer_model::{TopicId, TopicPartition};

/// Why a bucket could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A topic's record cannot be read.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The cluster's marker cannot be read.
    #[error(transparent)]
    Cluster(#[from] AdoptError),
    /// A segment cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The topics that have a record or a partition in the bucket, in order of their ids.
async fn topics(store: &Store) -> Result<Vec<TopicId>, StoreError> {
    let mut names = store.folders(&path::topics()).await?;
    names.extend(store.folders(&path::partitions()).await?);
    let mut topics: Vec<TopicId> = names.iter().filter_map(|name| path::parse_topic(name)).collect();
    topics.sort();
    topics.dedup();
    Ok(topics)
}

/// The partitions of a topic that were ever claimed, in order.
async fn partitions(store: &Store, topic: TopicId) -> Result<Vec<TopicPartition>, StoreError> {
    let names = store.folders(&path::topic_partitions(topic)).await?;
    let mut partitions: Vec<TopicPartition> =
        names.iter().filter_map(|name| path::parse_partition(topic, name)).collect();
    partitions.sort();
    Ok(partitions)
}
