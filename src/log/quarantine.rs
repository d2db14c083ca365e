//! Tails that are cut off, kept aside for an operator to look at.
//!
//! The copy is synced before the cut. A crash in between leaves both; the next start cuts, and copies, again. Nobody here removes
//! what is in quarantine.

use std::io;
use std::path::{Path, PathBuf};

use aquifer_model::{ByteCount, Offset, TopicPartition};
use aquifer_runtime::files::File;

use super::layout;
use super::shared::Shared;

/// A tail that goes.
pub(crate) struct Cut<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) partition: TopicPartition,
    pub(crate) file: &'a File,
    pub(crate) position: u64,
    pub(crate) size: u64,
    /// Bases of segments behind, which go as a whole.
    pub(crate) later: Vec<Offset>,
    pub(crate) end: Offset,
}

/// Moves a tail into quarantine and cuts it off, durably. What cannot be saved for want of space is cut nevertheless: it was never
/// acknowledged, and a full disk must not keep a log from opening.
pub(crate) fn cut_tail(shared: &Shared, cut: &Cut<'_>) -> io::Result<(ByteCount, Option<PathBuf>)> {
    let disk = &shared.world.disk;
    let name = format!("{}-{:020}-{:x}", cut.partition, cut.end.get(), shared.world.rng.number());
    let mut bytes = cut.size - cut.position;
    let target = shared.quarantine_file(&format!("{name}.{}", layout::LOG));
    let saved = copy_tail(shared, cut, &target);
    if let Err(error) = &saved {
        tracing::warn!(path = %target.display(), %error, "could not save an unfinished tail before cutting it off");
    }
    for base in &cut.later {
        let log = layout::segment_file(cut.folder, *base, layout::LOG);
        bytes += disk.size_of(&log)?.map_or(0, ByteCount::get);
        disk.rename(&log, &shared.quarantine_file(&format!("{name}-{:020}.{}", base.get(), layout::LOG)))?;
        for extension in [layout::INDEX, layout::SNAPSHOT] {
            disk.remove(&layout::segment_file(cut.folder, *base, extension))?;
        }
    }
    disk.sync_dir(cut.folder)?;
    cut.file.set_size(ByteCount(cut.position))?;
    cut.file.sync_data()?;
    shared.metrics.quarantined_bytes.inc_by(bytes);
    Ok((ByteCount(bytes), saved.is_ok().then_some(target)))
}

fn copy_tail(shared: &Shared, cut: &Cut<'_>, target: &Path) -> io::Result<()> {
    const WINDOW_BYTES: usize = 1 << 20;
    let disk = &shared.world.disk;
    disk.create_dir_all(target.parent().unwrap_or(cut.folder))?;
    let copy = disk.create_new(target)?;
    let mut position = cut.position;
    while position < cut.size {
        let window = cut.file.read_at(position, WINDOW_BYTES.min((cut.size - position) as usize))?;
        if window.is_empty() {
            break;
        }
        copy.write_all_at(position - cut.position, &mut [io::IoSlice::new(&window)])?;
        position += window.len() as u64;
    }
    copy.sync_data()
}
