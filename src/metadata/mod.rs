//! The cluster's metadata: commands agreed on by Raft, judged by one pure function, seen as immutable images.

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
/// The handle.
mod client;
/// How it comes up.
mod start;

pub use client::{Metadata, ProposeError};
pub use command::Command;
pub use delta::Delta;
pub use ids::{
    BrokerEpoch, BrokerIncarnation, ClusterId, DirectoryId, Incarnation, PartitionEpoch, RaftNodeId,
};
pub use image::Image;
pub use node::NodeFileError;
pub use options::Options;
pub use raft::log::LogError;
pub use start::{StartError, VERSION_FEATURE, VERSION_LEVEL};
pub use verdict::{Outcome, Rejected};
