//! That a log lacks something which was acknowledged, noted in its folder. Its other bytes may be sound, and end where a batch does, so
//! that nothing else would tell the next start.
//!
//! The note is durable before what has shown the loss is forgotten, and goes once somebody has settled what the log ends with.

use std::io;
use std::path::Path;

use aquifer_runtime::files::Disk;

use super::layout;

/// Notes what is lost, durably.
pub(super) fn note(disk: &Disk, folder: &Path, what: &str) -> io::Result<()> {
    disk.write_atomic(&folder.join(layout::LOST), what.as_bytes())
}

/// What was noted, if anything.
pub(super) fn noted(disk: &Disk, folder: &Path) -> io::Result<Option<String>> {
    let stored = disk.read_if_exists(&folder.join(layout::LOST))?;
    Ok(stored.map(|what| String::from_utf8_lossy(&what).into_owned()))
}
