//! What is asked of a reader, and what it answers.

use aquifer_model::{AbortedTxn, ByteCount, LeaderEpochs, Offset, TopicPartition};
use bytes::Bytes;
use tokio::time::Instant;

use crate::manifest::load::ManifestError;
use crate::store::StoreError;

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct ColdRequest {
    /// Of which partition.
    pub partition: TopicPartition,
    /// From which offset on.
    pub offset: Offset,
    /// At most so many bytes; the first batch comes whole even if it is larger.
    pub bytes_max: ByteCount,
    /// No batch that starts here or behind.
    pub upper: Offset,
    /// When to answer with whatever is there.
    pub wait_until: Instant,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColdRead {
    /// Whole batches, one behind the other, cut anywhere. The first may begin before the offset asked for.
    pub slices: Vec<Bytes>,
    /// Their length.
    pub bytes: ByteCount,
    /// Behind the last batch; the offset asked for if there is none.
    pub next: Offset,
    /// The aborted transactions that overlap it.
    pub aborted: Vec<AbortedTxn>,
    /// Nothing was loaded in time; the load goes on.
    pub pending: bool,
}

/// The tier's state at its end: what a leader without a log of its own starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The first offset that may be read.
    pub log_start: Offset,
    /// Behind the last tiered record.
    pub end: Offset,
    /// The lineage of all that is tiered.
    pub epochs: LeaderEpochs,
    /// The producers' state at the end, in the local log's own format; empty if all segments have expired.
    pub producers: Bytes,
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The tier does not hold this offset.
    #[error("the tier holds offsets from {start} to below {end}")]
    OutOfRange {
        /// The first that may be read.
        start: Offset,
        /// Behind the last.
        end: Offset,
    },
    /// Nothing of the partition was ever tiered.
    #[error("nothing of this partition is tiered")]
    NotTiered,
    /// The store has failed for longer than the deadline. It is asked again with each read.
    #[error("the object store is away: {message}")]
    Unavailable {
        /// Its last error.
        message: String,
    },
    /// A named object is not there. An operator must look; the rest of the history can be read.
    #[error("{key} is named by the manifest and is not in the bucket")]
    Lost {
        /// The object.
        key: String,
    },
    /// An object is not what was written. An operator must look.
    #[error("{key} is damaged: {what}")]
    Corrupt {
        /// The object.
        key: String,
        /// What is wrong.
        what: String,
    },
    /// This process is ending.
    #[error("stopping")]
    Stopping,
}

impl ReadError {
    pub(crate) fn of_store(error: &StoreError) -> ReadError {
        match error {
            StoreError::NotFound { key } => ReadError::Lost { key: key.clone() },
            StoreError::TooLarge { key, .. } | StoreError::Short { key, .. } => {
                ReadError::Corrupt { key: key.clone(), what: error.to_string() }
            }
            other => ReadError::Unavailable { message: other.to_string() },
        }
    }

    pub(crate) fn of_manifest(error: &ManifestError) -> ReadError {
        match error {
            ManifestError::Store(error) => ReadError::of_store(error),
            ManifestError::Format { key, source } => {
                ReadError::Corrupt { key: key.clone(), what: source.to_string() }
            }
            ManifestError::Invalid { key, source } => {
                ReadError::Corrupt { key: key.clone(), what: source.to_string() }
            }
        }
    }
}
