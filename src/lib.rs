//! To come.

/// One partition's local log: segments, indexes, append, read, recovery, truncation, producers, retention.
pub mod log;
