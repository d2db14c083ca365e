//! The broker.
//!
//! Modules in layer order: a module imports only from those declared above it.

/// The cluster's metadata: commands agreed on by Raft, judged by one pure function, seen as immutable images.
pub mod metadata;
