//! Aquifer: a Kafka-compatible broker whose history never ends.
//!
//! Modules in layer order, from the ground up: a module imports only from those declared above it.

/// The configuration: every key once, with doc, default, bounds; from file, environment and flags.
pub mod config;
/// Frames on sockets, connections to peers, the table of APIs.
pub(crate) mod net;
/// The cluster's metadata: commands agreed on by Raft, judged by one pure function, seen as immutable images.
pub mod metadata;
