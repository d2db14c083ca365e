//! The nouns of a log and their bytes.
//!
//! Everything here is pure and synchronous: no clock is read, no file is opened, nothing waits. Both the local log and the
//! bucket store these bytes, so their layout has one home, below both.
//!
//! Modules in layer order: a module imports only from those declared above it.

/// Who and what: topics, partitions, brokers, producers.
pub mod ids;
/// Positions in a log, and the epochs that order its leaders.
pub mod offset;
/// Sizes in bytes.
pub mod size;
/// Wall-clock time as Kafka counts it.
pub mod time;
/// The envelope of every durable format: version, tagged fields, checksum.
pub mod format;
/// The four codecs that Kafka's clients compress batches with.
pub mod compression;
/// The header of a record batch v2, and the few fields of it that a broker may change.
pub mod batch;
/// Whole batches in a run of bytes.
pub mod batches;
/// The records inside a batch: framing check, reading.
pub mod record;
/// Batches made here: for tools, tests and control records.
pub mod builder;
/// Sparse map from offset to position in a segment.
pub mod offset_index;
/// Sparse map from timestamp to offset in a segment.
pub mod time_index;
/// Aborted transactions that overlap a segment.
pub mod aborted;
/// Which leader wrote from which offset on.
pub mod epochs;
/// The facts of one sealed segment.
pub mod segment;
/// What fuzz targets, and tests of durable formats, need to come past a checksum.
#[cfg(feature = "fuzzing")]
pub mod fuzzing;

pub use aborted::AbortedTxn;
pub use batch::{BatchError, BatchHeader};
pub use epochs::{EpochStart, LeaderEpochs};
pub use ids::{BrokerId, PartitionIndex, ProducerEpoch, ProducerId, TopicId, TopicName, TopicPartition};
pub use offset::{LeaderEpoch, Offset, OffsetRange};
pub use segment::SealedSegment;
pub use size::ByteCount;
pub use time::Timestamp;
