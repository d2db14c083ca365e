//! Compaction of one log: of each key the newest record stays.
//!
//! ```text
//!   ───── clean ─────┬─────────── dirty ───────────┬── may not go yet ──┬─ active ─▶
//!   every key once   │ the keys of a pass are read  │ too young, or not  │ never
//!                    │ here, as many as memory holds│ replicated         │
//! ```
//!
//! A [`Pass`] reads the keys of the dirty part into a map of a fixed size (`key_map.rs`), as far as they fit; then it reads the
//! log from its start up to there and writes what stays (`judge.rs`, `thin.rs`) into new segments (`output.rs`), which take the
//! place of the old ones one by one, small ones together (`swap.rs`). A pass goes step by step, each of about a mebibyte, so that
//! whoever drives it can wait in between, or stop.
//!
//! Offsets never change: they are left out. Closed segments alone are compacted, below what the caller says is replicated and
//! decided. What is appended meanwhile does not wait but for the moment in which files change names.
//!
//! A crash leaves files named `.cleaned`, which the next start removes, unless the checkpoint says that they belong in the log:
//! then it puts them there. `swap.rs` says it step by step.
//!
//! It does not know when it is time, nor how fast it may go.

/// What is to be compacted, and how urgently: pure.
mod dirt;
/// Keys and their newest offsets: pure.
mod key_map;
/// A batch with some of its records left out: pure.
mod thin;
/// Which records stay: pure.
mod judge;
/// The batches of closed segments, one by one.
mod walk;
/// What becomes of a pass and of the segments that it writes.
mod outcome;
/// A segment that is being written.
mod output;
/// Puts new segments in the place of old ones.
mod swap;
/// A pass, step by step.
mod pass;

pub use dirt::Dirt;
pub use outcome::CompactError;
pub use pass::{CompactOptions, Pass, PassOutcome, Step};

#[cfg(test)]
mod tests;
