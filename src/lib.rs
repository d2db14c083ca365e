//! Aquifer: a Kafka-compatible broker whose history never ends.

/// The configuration: every key once, with doc, default, bounds; from file, environment and flags.
pub mod config;
