//! What can go wrong with a log, by operation: each variant is a different thing for the caller to do.

use std::io;
use std::path::{Path, PathBuf};

use aquifer_model::format::FormatError;
use aquifer_model::record;
use aquifer_model::{
    BatchError, ByteCount, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition,
};

/// Bytes on disk are not what was written. Never served, never cut without being told to: they are fetched again from a peer
/// or from the bucket, or an operator decides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at byte {position}: {what}", file.display())]
pub struct Corruption {
    /// Which file.
    pub file: PathBuf,
    /// Where in it the damaged batch starts.
    pub position: u64,
    /// What was found.
    pub what: String,
}

/// Why a data directory stopped taking part. It stays so until the process starts anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log dir {} has failed: {what}", path.display())]
pub struct DirFailure {
    /// The directory.
    pub path: PathBuf,
    /// What failed, and how.
    pub what: String,
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenDirError {
    /// Another process has it. Stop that one, or use another directory.
    #[error("log dir {} is in use by another process", .0.display())]
    Locked(PathBuf),
    /// It is to be made where a file is. Use another directory.
    #[error("log dir {}: it, or something above it, is a file and not a directory; name another with log.dirs", .0.display())]
    NotADirectory(PathBuf),
    /// It was written by a newer program, or its `format` file is damaged.
    #[error("log dir {}: {error}", path.display())]
    Format {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        error: FormatError,
    },
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// Why a log could not be opened or made. Damaged records are no such reason: a damaged log opens and says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// A folder belongs to another topic than its name says.
    #[error("{} belongs to {found}, not to {expected}", path.display())]
    Mismatch {
        /// The folder.
        path: PathBuf,
        /// By its name.
        expected: TopicPartition,
        /// By its contents.
        found: TopicPartition,
    },
    /// A file of a newer program.
    #[error("{}: {error}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: FormatError,
    },
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The whole directory has failed or is closed.
    #[error("log dir takes no part any more")]
    Failed,
}

/// Why a leader's append did not happen. Nothing of the batch is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Over `max.message.bytes`. The producer must send smaller batches.
    #[error("record batch of {size} is larger than max.message.bytes, {max}")]
    TooLarge {
        /// The batch.
        size: ByteCount,
        /// The bound.
        max: ByteCount,
    },
    /// Over `segment.bytes`: no segment can hold it.
    #[error("record batch of {size} is larger than segment.bytes, {max}")]
    SegmentTooLarge {
        /// The batch.
        size: ByteCount,
        /// The bound.
        max: ByteCount,
    },
    /// Damaged on the way, or of an old format.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The producer made it wrongly.
    #[error(transparent)]
    Invalid(#[from] InvalidRecords),
    /// Records too old or too new for the topic.
    #[error("{} a timestamp outside of the topic's bounds", outside(errors))]
    Timestamp {
        /// Which; empty where the batch was not expanded to find out.
        errors: Vec<TimestampIssue>,
    },
    /// A gap in an idempotent producer's sequence.
    #[error("producer {producer} sent sequence {found}, expected {expected}")]
    OutOfOrderSequence {
        /// Whose.
        producer: ProducerId,
        /// What would have continued.
        expected: i32,
        /// What came.
        found: i32,
    },
    /// A newer incarnation of the producer has written here.
    #[error("producer {producer} has epoch {}, this batch is from epoch {}", current.0, found.0)]
    ProducerFenced {
        /// Whose.
        producer: ProducerId,
        /// The newest known here.
        current: ProducerEpoch,
        /// The batch's.
        found: ProducerEpoch,
    },
    /// A newer leader has written here.
    #[error("the log has leader epoch {current}, this append is from {found}")]
    StaleEpoch {
        /// The log's newest.
        current: LeaderEpoch,
        /// The append's.
        found: LeaderEpoch,
    },
    /// No space on the device, or no descriptors. Worth a retry once there are.
    #[error("the disk is full, or too many files are open")]
    Full,
    /// The directory has failed; its partitions are given up.
    #[error("the log dir has failed")]
    Failed,
    /// The log is damaged and takes nothing until that is settled.
    #[error(transparent)]
    Corrupt(Corruption),
    /// Closed or deleted.
    #[error("the log is closed")]
    Closed,
}

/// What a producer did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecords {
    /// Nothing at all.
    #[error("no record batch")]
    Empty,
    /// A client's request holds one batch per partition.
    #[error("more than one record batch")]
    SeveralBatches,
    /// Only the transaction coordinator ends transactions.
    #[error("a client may not send control batches")]
    Control,
    /// Only compaction sets one.
    #[error("a client may not set a delete horizon")]
    DeleteHorizon,
    /// The header contradicts itself.
    #[error("record batch claims {records} records over {offsets} offsets")]
    Count {
        /// Records, as stated.
        records: u32,
        /// Offsets, as stated.
        offsets: u64,
    },
    /// An idempotent producer's batch without a sequence.
    #[error("record batch of an idempotent producer has sequence {0}")]
    Sequence(i32),
    /// The records are not what the header says.
    #[error(transparent)]
    Record(#[from] record::RecordError),
    /// A compacted topic needs keys.
    #[error("record {0} has no key, which a compacted topic needs")]
    Keyless(u32),
    /// The records cannot be expanded.
    #[error("{0}")]
    Compressed(String),
}

fn outside(errors: &[TimestampIssue]) -> String {
    match errors {
        [] => "the records have".to_owned(),
        [one] => format!("record {} has", one.index),
        [first, rest @ ..] => format!("record {} and {} more have", first.index, rest.len()),
    }
}

/// One record's timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampIssue {
    /// Which record of the batch, from 0.
    pub index: u32,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

/// Why what a leader sent was not taken. Nothing behind the last whole batch taken is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FollowerAppendError {
    /// Damaged on the way; fetch again.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// It does not continue this log.
    #[error("fetched records start at {found}, the log ends at {expected}")]
    Gap {
        /// The log's end.
        expected: Offset,
        /// The batch's base offset.
        found: Offset,
    },
    /// It is from an older leader than what the log already has, or from none.
    #[error("fetched records have leader epoch {found:?}, the log has {current:?}")]
    EpochBackwards {
        /// The log's newest.
        current: Option<LeaderEpoch>,
        /// The batch's.
        found: Option<LeaderEpoch>,
    },
    /// No space on the device, or no descriptors. Worth a retry once there are.
    #[error("the disk is full, or too many files are open")]
    Full,
    /// The directory has failed.
    #[error("the log dir has failed")]
    Failed,
    /// The log is damaged and takes nothing until that is settled.
    #[error(transparent)]
    Corrupt(Corruption),
    /// Closed or deleted.
    #[error("the log is closed")]
    Closed,
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not on this disk any more: in the bucket, or gone.
    #[error("the log starts at {local_start} on this disk")]
    BelowLocalStart {
        /// The first offset on this disk.
        local_start: Offset,
    },
    /// Behind the end.
    #[error("the log ends at {end}")]
    BeyondEnd {
        /// The log end offset.
        end: Offset,
    },
    /// What lies there is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The device or the file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Closed or deleted.
    #[error("the log is closed")]
    Closed,
}

impl ReadError {
    pub(crate) fn io(path: &Path, error: io::Error) -> ReadError {
        ReadError::Io { path: path.to_owned(), error }
    }

    /// Of a read at a place in a file. A sector that the device cannot read is damage, too.
    pub(crate) fn of_read(path: &Path, position: u64, error: io::Error) -> ReadError {
        const EIO: i32 = 5;
        match error.raw_os_error() {
            Some(EIO) => {
                let what = format!("the device cannot read it: {error}");
                Corruption { file: path.to_owned(), position, what }.into()
            }
            _ => ReadError::io(path, error),
        }
    }
}

/// Why a log was not cut, restarted or trimmed. Before [`ChangeError::Failed`] the log is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The offset lies behind the end.
    #[error("the log ends at {end}")]
    Ahead {
        /// The log end offset.
        end: Offset,
    },
    /// The offset lies before what this disk holds.
    #[error("the log starts at {local_start} on this disk")]
    BelowLocalStart {
        /// The first offset on this disk.
        local_start: Offset,
    },
    /// The producer snapshot handed in makes no sense.
    #[error(transparent)]
    Snapshot(FormatError),
    /// What has to be read for it is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// No space on the device for the new checkpoint. Worth a retry once there is.
    #[error("the disk is full")]
    Full,
    /// The directory has failed.
    #[error("the log dir has failed")]
    Failed,
    /// Closed or deleted.
    #[error("the log is closed")]
    Closed,
}

/// Whether something ran out that may come back: room on the device, or descriptors. All other errors of a write are taken for
/// the device's failure.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || lacks_descriptors(error)
}

/// Whether the process, or the machine, has too many files open.
pub(crate) fn lacks_descriptors(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}
