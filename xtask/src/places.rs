//! Where things lie. All that is made here is under `target/`: git ignores it, and `cargo clean` takes it away.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

/// Installed tools: one folder each. `XTASK_TOOLS` moves it, so that several clones can share one.
pub(crate) fn tools() -> PathBuf {
    std::env::var_os("XTASK_TOOLS").map_or_else(|| root().join("target/tools"), PathBuf::from)
}

/// Where a server or a broker writes what it has to say, empty: what an earlier run left is removed.
pub(crate) fn log(name: &str) -> Result<PathBuf> {
    let path = made(work().join("test-logs"))?.join(format!("{name}.log"));
    std::fs::write(&path, "").with_context(|| format!("emptying {}", path.display()))?;
    Ok(path)
}

/// Input and data folders of the last run.
pub(crate) fn data() -> Result<PathBuf> {
    made(work().join("test-data"))
}

/// How full the disk of the data folders may be, as brokers count: at 0.90 (`log.disk.high.watermark`) they begin to drop segments
/// that the bucket has, and proofs which count on those would fail for it.
const FULL_MAX: f64 = 0.89;

/// What may yet be written to the disk of the data folders.
pub(crate) fn free_bytes() -> Result<u64> {
    let stat = rustix::fs::statvfs(&data()?)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// Fails unless there is room on the disk of the data folders.
pub(crate) fn has_room() -> Result<()> {
    let folder = data()?;
    let stat = rustix::fs::statvfs(&folder)?;
    let free_gb = free_bytes()? as f64 / 1e9;
    let in_use = stat.f_blocks - stat.f_bfree;
    let full = in_use as f64 / (in_use + stat.f_bavail) as f64;
    ensure!(
        full < FULL_MAX,
        "the disk of {} has {free_gb:.0} GB left and is {:.0}% full: brokers drop segments that the bucket has from 90% on, and proofs need them",
        folder.display(),
        full * 100.0
    );
    Ok(())
}

/// Below it lies what runs leave. `XTASK_WORK` moves it, so that two proofs can run side by side.
fn work() -> PathBuf {
    std::env::var_os("XTASK_WORK").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The program that cargo built, in debug or release form.
pub(crate) fn binary(profile: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join(profile).join("aquifer")
}

/// An empty folder: what was there is removed.
pub(crate) fn emptied(folder: PathBuf) -> Result<PathBuf> {
    removed(&folder)?;
    made(folder)
}

/// Removes a file, if it is there.
pub(crate) fn removed_file(file: &Path) -> Result<()> {
    if file.exists() {
        std::fs::remove_file(file).with_context(|| format!("removing {}", file.display()))?;
    }
    Ok(())
}

/// Removes a folder, if it is there.
pub(crate) fn removed(folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("removing {}", folder.display()))?;
    }
    Ok(())
}

fn made(folder: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    Ok(folder)
}
