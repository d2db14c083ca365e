//! Leader of one partition on this broker: watermarks, append, read, and what becomes of its sealed segments.
//!
//! ```text
//!   log start            local start          tiered end     last stable   high watermark   log end
//!       |--- only in the bucket ---|--- in both ---|--- only here ---|--------------|-------------|
//!       cold reads ----------------> hot reads ----------------------------------->
//! ```
//!
//! Offsets below `local start` are read from the bucket, all others from the local log; there is one place that decides
//! ([`read`]). A consumer sees nothing at or above the high watermark (the last stable offset, if it reads only what is
//! committed). This module knows no request and no error code; what it refuses, it refuses by a type of its own.

/// What is counted.
mod metrics;
/// Why an operation is refused.
pub(crate) mod error;
/// Which offsets are acknowledged: pure.
pub(crate) mod progress;
/// What of a log came through since it was last open: pure.
mod survival;
/// What happens as the local disk fills: pure.
mod disk;
/// When to sweep the bucket, what may leave the local disk, where uploads go on: pure.
mod plan;
/// Does a partition's way into the bucket stand still: pure.
mod watchdog;
/// What a replica knows of its uploads.
mod archive;
/// A partition's replica on this broker, and its role.
mod state;
/// Appending as leader, and waiting until it is acknowledged.
mod append;
/// The junction: hot or cold.
pub(crate) mod read;
/// Offsets by time and by name, across hot and cold.
pub(crate) mod offsets;
/// One partition's way into the bucket: claim, upload, expire.
mod archiving;
/// Tells when a partition's uploads stand still.
mod standstill;
/// Work on many things by few tasks, a turn at a time.
mod turns;
/// Which partitions' segments are to be rolled, uploaded or dropped, and when.
pub(crate) mod keeper;
/// When which log is compacted, and how fast.
pub(crate) mod cleaner;
/// Finds replicas; opens and closes them as the metadata says.
pub(crate) mod registry;
/// What the replicas take of the disk.
pub(crate) mod usage;
/// Looks for damage.
pub(crate) mod scrub;
/// Mends what is damaged and has a sound copy.
pub(crate) mod mending;

pub(crate) use append::{Acknowledged, Acks};
pub(crate) use metrics::ReplicaMetrics;
pub(crate) use registry::{Replicas, Unopened};
pub(crate) use state::{Marks, Replica, Role};
