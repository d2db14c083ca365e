//! Raft: how commands become agreed, ordered and durable. openraft decides; here are its log, its state machine and its network.
//!
//! No other module knows openraft's types: its interface is not stable yet.

/// openraft's type parameters, chosen.
pub(super) mod types;
/// The log's records and the snapshot's head as bytes.
mod codec;
/// A file as redb wants it.
pub(super) mod backend;
/// The thread that writes the log.
mod writer;
/// The log: all of it in memory, all of it in redb.
pub(super) mod log;
/// Images as files.
pub(super) mod snapshots;
/// The state machine: applies, publishes, answers.
pub(super) mod machine;
/// The way to other nodes.
pub(super) mod network;

/// What fuzz targets do with metadata.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
pub(super) mod platter;
#[cfg(test)]
mod tests;
