//! Who this process is to the bucket, and the marker of the cluster that owns it.
//!
//! A bucket (or a prefix of one) belongs to one cluster. Its marker is there from the first day, in numbered create-only
//! versions, and says the cluster's id and *incarnation*: 1 at birth, one more at each restore, so that whatever is left of
//! the cluster before a restore is older than everything after it.
//!
//! A crash while the first version is written leaves either it or nothing. Two clusters that start on one bucket at once race
//! for version 1; the loser learns whose it is.

use std::fmt;

use aquifer_model::format::{Format, FormatError, Tags, Writer};
use aquifer_model::{BrokerId, ByteCount, Timestamp};
use bytes::Bytes;
use futures::TryStreamExt as _;
use uuid::Uuid;

use crate::path;
use crate::store::{Store, StoreError};

const MARKER: Format = Format { name: "cluster marker", magic: *b"AQCM", version: 1 };
const MARKER_BYTES_MAX: ByteCount = ByteCount::kib(64);

/// Counts the lives of a cluster: raised by each restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// Of a cluster that was never restored.
    pub const FIRST: Incarnation = Incarnation(1);
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's, from its marker.
    pub incarnation: Incarnation,
    /// The broker's configured id.
    pub broker: BrokerId,
    /// Fresh at each start: tells two processes apart that take themselves for the same broker.
    pub process: Uuid,
}

/// Whose bucket it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterMarker {
    /// The cluster's id, as its clients see it.
    pub cluster: String,
    /// Its life.
    pub incarnation: Incarnation,
    /// When the marker was written, by the writer's clock.
    pub created_at: Timestamp,
    tags: Tags,
}

/// Why a bucket could not be made this cluster's.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It is another cluster's. Its data is safe; nothing was written.
    #[error(
        "this bucket belongs to cluster {found}, this is cluster {own}: give each cluster a prefix of its own"
    )]
    Foreign {
        /// Whose it is.
        found: String,
        /// Who asked.
        own: String,
    },
    /// It is nobody's, and should be this cluster's: it was emptied, or it is another bucket, or a folder that is not mounted.
    /// Nothing was written.
    #[error("there is no cluster marker in this bucket, but cluster {own} has records in one")]
    Unmarked {
        /// Who asked.
        own: String,
    },
    /// The marker makes no sense.
    #[error("{key}: {source}")]
    Format {
        /// Its key.
        key: String,
        /// What is wrong.
        source: FormatError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ClusterMarker {
    pub(crate) fn encode(&self) -> Bytes {
        let mut body = Writer::new();
        body.string(&self.cluster);
        body.u64(self.incarnation.0);
        body.i64(self.created_at.0);
        body.tags(&self.tags);
        MARKER.seal(&body.finish()).into()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<ClusterMarker, FormatError> {
        let (_, body) = MARKER.open(bytes)?;
        let mut body = MARKER.reader(body);
        let marker = ClusterMarker {
            cluster: body.string()?.to_owned(),
            incarnation: Incarnation(body.u64()?),
            created_at: Timestamp(body.i64()?),
            tags: body.tags(&[])?,
        };
        body.end()?;
        Ok(marker)
    }
}

/// The newest marker; `None` in a bucket that is nobody's.
pub async fn read_marker(store: &Store) -> Result<Option<ClusterMarker>, AdoptError> {
    Ok(newest(store).await?.map(|(_, marker)| marker))
}

/// What a cluster knows of its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquaintance {
    /// It has had none: one that is nobody's becomes its own.
    First,
    /// It has records in one: only one with its marker is that.
    Again,
}

/// Makes an empty bucket this cluster's if it has none yet, or finds that it is.
pub async fn adopt(
    store: &Store,
    cluster: &str,
    acquaintance: Acquaintance,
) -> Result<ClusterMarker, AdoptError> {
    // A lost race shows a marker on the second look; a third would mean that it vanished.
    for _ in 0..3 {
        if let Some((_, found)) = newest(store).await? {
            let own = cluster.to_owned();
            let foreign = found.cluster != own;
            return if foreign { Err(AdoptError::Foreign { found: found.cluster, own }) } else { Ok(found) };
        }
        if acquaintance == Acquaintance::Again {
            return Err(AdoptError::Unmarked { own: cluster.to_owned() });
        }
        let marker = ClusterMarker {
            cluster: cluster.to_owned(),
            incarnation: Incarnation::FIRST,
            created_at: store.world().clock.wall(),
            tags: Tags::default(),
        };
        match store.put_new(&path::cluster_version(1), marker.encode()).await {
            Ok(()) => return Ok(marker),
            // Whether it was us or a rival, the next look tells.
            Err(StoreError::AlreadyExists { .. } | StoreError::Indeterminate { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (operation, key) = (crate::store::Operation::Create, path::cluster_version(1).to_string());
    let message = "the cluster marker is neither there nor can it be written".to_owned();
    Err(StoreError::Unavailable { operation, key, message }.into())
}

async fn newest(store: &Store) -> Result<Option<(path::Key, ClusterMarker)>, AdoptError> {
    let all: Vec<_> = store.list(&path::cluster(), None).try_collect().await?;
    let Some(facts) = all.last() else {
        return Ok(None);
    };
    let bytes = store.get(&facts.key, MARKER_BYTES_MAX).await?;
    let marker = ClusterMarker::decode(&bytes);
    let marker = marker.map_err(|source| AdoptError::Format { key: facts.key.to_string(), source })?;
    Ok(Some((facts.key.clone(), marker)))
}

#[cfg(test)]
mod tests {
    use aquifer_model::fuzzing::{of_next_version, with_unknown_field};

    use super::*;

    fn marker() -> ClusterMarker {
        ClusterMarker {
            cluster: "cluster-1".to_owned(),
            incarnation: Incarnation::FIRST,
            created_at: Timestamp(1_700_000_000_000),
            tags: Tags::default(),
        }
    }

    #[test]
    fn a_marker_keeps_its_bytes() {
        let bytes = marker().encode();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // What is in buckets already must be read for ever: these bytes never change.
        assert_eq!(hex, include_str!("../tests/golden/marker-1.hex").trim());
        assert_eq!(ClusterMarker::decode(&bytes), Ok(marker()));
    }

    #[test]
    fn what_newer_programs_add_is_kept_or_refused_by_name() {
        let (bytes, format) = (marker().encode(), "cluster marker");
        let more = with_unknown_field(&bytes, false);
        assert_eq!(ClusterMarker::decode(&more).unwrap().encode(), more);
        let required = ClusterMarker::decode(&with_unknown_field(&bytes, true));
        assert_eq!(required, Err(FormatError::RequiredField { format, tag: 100 }));
        let newer = ClusterMarker::decode(&of_next_version(&bytes));
        assert_eq!(newer, Err(FormatError::Version { format, found: 2, known: 1 }));
    }
}
