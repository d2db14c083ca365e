//! Aquifer: a Kafka-compatible broker whose history never ends.
//!
//! Modules in layer order, from the ground up: a module imports only from those declared above it.

/// The configuration: every key once, with doc, default, bounds; from file, environment and flags.
pub mod config;
/// Frames on sockets, connections to peers, the table of APIs.
pub mod net;
/// One partition's local log: segments, indexes, append, read, recovery, truncation, producers, retention.
pub mod log;
/// The cluster's metadata: commands agreed on by Raft, judged by one pure function, seen as immutable images.
pub mod metadata;
/// Client quotas: how much a client may use, and how long it rests once it has used more.
pub(crate) mod quotas;
/// Leader of one partition: watermarks, append, read = the junction of hot and cold, uploads.
pub(crate) mod replica;
/// This broker's place in the cluster: registration.
pub(crate) mod lifecycle;
/// What changes the cluster: topics made, grown, deleted; leaders elected; the bucket's record of topics.
pub(crate) mod controller;
/// Consumer groups: who belongs to one, who gets what, how far each has read.
pub(crate) mod groups;
/// Producers' identities.
pub(crate) mod transactions;
/// One file per family of requests: from a request to its answer.
pub(crate) mod handlers;
/// Clients' connections: accept, read requests, answer in order.
pub(crate) mod server;
/// The admin port: live, ready, metrics, status, groups.
pub(crate) mod admin;
/// The composition root: builds, wires, starts, stops. No logic.
pub mod broker;
/// What people type: commands, what they print, and the client that they use.
pub mod cli;
/// What the fuzz targets in `fuzz/` do, and what they start from.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
