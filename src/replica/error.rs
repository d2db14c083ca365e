//! Why an operation is refused. Each says what the caller can do.

use aquifer_model::{LeaderEpoch, Offset};
use aquifer_tiering as tiering;

use crate::log;

/// Whether a replica may answer at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoleError {
    /// Ask the metadata who leads.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The caller's metadata is older than ours: refresh.
    #[error("leader epoch {asked} is older than {current}")]
    FencedEpoch { asked: i32, current: LeaderEpoch },
    /// The caller's metadata is newer than ours: try again soon.
    #[error("leader epoch {asked} is newer than {current}")]
    UnknownEpoch { asked: i32, current: LeaderEpoch },
    /// The log directory failed, or the log is damaged: an operator is needed.
    #[error("the partition is offline: {0}")]
    Offline(String),
    /// The partition first has to learn from the bucket where it ends: try again.
    #[error("the partition is being recovered from the bucket")]
    Recovering,
}

/// Why records were not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error(transparent)]
    Role(#[from] RoleError),
    /// Fewer replicas in sync than `min.insync.replicas`: nothing was written, try again.
    #[error("{in_sync} replicas are in sync, {wanted} are wanted")]
    NotEnoughReplicas { in_sync: usize, wanted: usize },
    /// What is left of the disk is for others than clients: nothing was written, try again later.
    #[error("the local disk is above log.disk.high.watermark, and nothing on it can be dropped")]
    DiskFull,
    #[error(transparent)]
    Log(#[from] log::AppendError),
}

/// Why records that were appended were not acknowledged in time. They may yet be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AckError {
    #[error("not acknowledged in time")]
    Timeout,
    #[error("this broker stopped leading the partition before the records were acknowledged")]
    NotLeader,
    #[error("too few replicas stayed in sync")]
    NotEnoughReplicas,
}

/// Why nothing can be read there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Role(#[from] RoleError),
    /// No record has or will soon have this offset.
    #[error("offset {offset} is outside of [{start}, {end}]")]
    OutOfRange { offset: i64, start: Offset, end: Offset },
    #[error(transparent)]
    Log(#[from] log::ReadError),
    #[error(transparent)]
    Tier(#[from] tiering::read::ReadError),
    #[error(transparent)]
    Manifest(#[from] tiering::manifest::load::ManifestError),
    /// The records lie in a bucket, and this broker has none configured.
    #[error("offsets before {local_start} are in a bucket, but no object store is configured")]
    NoTier { local_start: Offset },
    /// The bucket has not answered in the time given; asking again finds it further on.
    #[error("the bucket has not answered yet")]
    Pending,
    /// A new leader that does not know yet how far its partition is acknowledged: ask again.
    #[error("the high watermark is not known yet")]
    NotYet,
}

/// Why records were not deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteRecordsError {
    #[error(transparent)]
    Role(#[from] RoleError),
    /// Its topic keeps the newest record of each key for ever: only a newer one may take its place.
    #[error("the topic is compacted, and its cleanup.policy has no delete")]
    CompactedAlone,
    /// Only what is below the high watermark can be deleted.
    #[error("offset {offset} is above the high watermark {high_watermark}")]
    AboveHighWatermark { offset: Offset, high_watermark: Offset },
    #[error(transparent)]
    Log(#[from] log::ChangeError),
}
