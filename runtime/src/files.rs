//! Files and folders.
//!
//! Everything blocks: the log's appends are page-cache writes of a few microseconds, done inline; whatever may wait for a
//! device (syncs, reads of cold pages) is the caller's to put on a thread of its own.
//!
//! A crash may undo what was not synced: a file's bytes need [`File::sync_data`], its name [`Disk::sync_dir`] of its folder.
//!
//! Released programs know the machine's own files only. Built for the simulation, a disk is either that or one in memory.

/// The machine's own.
mod host;

/// One of the two.
#[cfg(feature = "sim")]
mod either;
/// A disk in memory that loses what was not synced.
#[cfg(feature = "sim")]
pub mod simulated;

/// Which parts of a file are known to be sound as the page cache has them.
mod sound;
/// What of a file waits for a sync.
mod write_back;
/// Part of a file, lent to whoever sends it.
mod lent;

#[cfg(feature = "sim")]
pub use either::{Disk, File, Lock};
#[cfg(not(feature = "sim"))]
pub use host::{Disk, File, Lock};
pub use host::{Entry, Faults, Space, open_files_max, raise_open_files_max};
pub use lent::Lent;
pub use sound::{Look, Sound};
