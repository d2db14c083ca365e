//! The cluster's metadata: commands agreed on by Raft, judged by one pure function, seen as immutable images.
//!
//! The way of a change: `Metadata::propose` -> Raft (one durable log, the same order on every node) -> `apply` (the only judge)
//! -> a new `Image`, published to whoever watches -> the proposer's answer. Whoever follows the image keeps the last one that
//! it has dealt with and asks `Delta::between`; there is no queue of changes.
//!
//! The directory of a node: `node` (whose it is, and whether formatting ended), `raft.redb` (log and vote), `raft.lock` (against
//! a second process), `image-<index>.snapshot` (the newest two images). After a crash at any point a start finds every command
//! that was answered, since a command is answered only when a majority of voters, here one, has synced it; what else the crash
//! left is dealt with by the file that owns it, as its head says.
//!
//! Every image is built from the newest snapshot and the log behind it, so `apply` may never change its mind about a command that
//! was judged before: see there.
//!
//! It does not know who is alive, where replicas should lie, or what a setting means: those who propose do.

/// Who and what, as far as only metadata names it.
pub mod ids;
/// A sorted map whose clones share what they have in common.
mod ordered;
/// The cluster as a whole at one moment.
pub mod image;
/// What may change it.
pub mod command;
/// What became of a command.
pub mod verdict;
/// What changed between two images.
pub mod delta;
/// The judge.
pub mod apply;
/// Features, and which changes of their levels are allowed.
pub mod features;
/// Commands and images as bytes.
mod codec;
/// What metadata counts.
mod metrics;
/// How commands become agreed, ordered and durable.
mod raft;
/// What can be set.
mod options;
/// Who a data directory belongs to.
mod node;
/// Snapshots in time, and Raft watched over.
mod keeper;
/// What Raft says of itself.
mod quorum;
/// The handle.
mod client;
/// How it comes up.
mod start;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use raft::fuzzing;

pub use client::{Metadata, ProposeError};
pub use command::Command;
pub use delta::Delta;
pub use features::{VERSION_FEATURE, VERSION_LEVEL};
pub use ids::{
    BrokerEpoch, BrokerIncarnation, ClusterId, DirectoryId, Incarnation, PartitionEpoch, RaftNodeId,
};
pub use image::Image;
pub use node::NodeFileError;
pub use options::Options;
pub use quorum::{Peer, Quorum};
pub use raft::log::LogError;
pub use start::StartError;
pub use verdict::{Outcome, Rejected};
