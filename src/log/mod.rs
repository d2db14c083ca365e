//! One partition's local log, and the data directory that holds many.
//!
//! ```text
//!            log start                 local start                          synced     end
//!               │                          │                                   │        │
//!  ─────────────┴──── in the bucket ───────┴────── sealed ──────┬─── active ───┴────────┴──▶ offsets
//!                                           closed segments      the open one
//! ```
//!
//! - *log start*: nothing below exists for a reader. May lie in the bucket.
//! - *local start*: the first offset on this disk.
//! - *synced*: all below survives a power cut. Moved by the committer alone.
//! - *end*: where the next record goes.
//!
//! Files hold record batches exactly as producers sent them, but for base offset and leader epoch. Appends are writes to the
//! page cache under one short lock; reads take the lock only to find their place. Nothing here waits for the device on an
//! append, and nothing is asynchronous but the wait for a place to expand a batch: whoever wants durability watches the synced end.
//!
//! Knows no request, no error code, no replica and no bucket: what must not be removed yet, or be seen yet, is told by offsets.
//!
//! A crash leaves: files as described in `layout.rs`, bytes that the journal alone has (`journal/replay.rs`), a tail behind the last
//! checkpoint that is walked again with every checksum (`recovery.rs`), and leftovers named `.tmp`, `.deleted` and `.cleaned` that the next start removes, but for those
//! of the last that a checkpoint has made part of the log.

mod retention;
mod config;
mod error;
mod validate;
mod producers;
mod producer_room;
mod gaps;
mod checkpoint;
mod layout;
mod index;
mod scan;
mod open_files;
mod damage;
mod reserve;
mod metrics;
mod health;
mod keeper;
mod sync_point;
mod uncaptured;
mod loss;
mod journal;
mod committer;
mod segment;
mod state;
mod shared;
mod report;
mod replay;
mod quarantine;
mod opening;
mod recovery;
mod handle;
mod expanding;
mod append;
mod segments;
mod books;
mod gap_mark;
mod read;
mod lend;
mod lookup;
mod change;
mod examine;
mod mend;
mod compaction;
mod dir;

pub use append::{Append, Appended, Outcome};
pub use change::Restart;
pub use compaction::{CompactError, CompactOptions, Dirt, Pass, PassOutcome, Step};
pub use config::{Cleanup, LogConfig, LogDirOptions};
pub use dir::{Found, LogDir, Wanted};
pub use error::{
    AppendError, ChangeError, Corruption, DirFailure, FollowerAppendError, InvalidRecords, OpenDirError,
    OpenLogError, ReadError, TimestampIssue,
};
pub use examine::{Examination, Looked};
pub use handle::{Log, LogOffsets, SealedSum};
pub use lend::Stored;
pub use lookup::TimedOffset;
pub use mend::{MendError, Mending};
pub use producers::ProducerState;
pub use read::{AbortedTxns, AtLeast, Read, Slice};
pub use report::{RecoveryFinding, RecoveryReport};
pub use retention::{Keep, removable_before};
pub use segments::SealedParts;
pub use state::Cuts;
pub use validate::Origin;

/// What fuzz targets do with a log's files.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
