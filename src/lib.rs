//! Aquifer: a Kafka-compatible broker whose history never ends.

/// The configuration: every key once, with doc, default, bounds; from file, environment and flags.
pub mod config;
/// Frames on sockets, connections to peers.
pub mod net;
/// What people type: commands, what they print, and the client that they use.
pub mod cli;
