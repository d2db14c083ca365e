//! Images as files: `image-<index>.snapshot` in the metadata directory, each the image after the entry of that index.
//!
//! A file is whole or it is not there (`write_atomic`). The newest two are kept, and the log from the older of them on: so a
//! snapshot that its disk has damaged is set aside (`.damaged`, for a person to look at) and the older one, with the log, leads
//! to the same image. A crash before the older files are removed leaves more of them; the next snapshot removes those.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquifer_runtime::files::Disk;
use aquifer_runtime::tasks::blocking;
use bytes::Bytes;
use parking_lot::Mutex;

use super::codec::{self, SnapshotFile};
use super::types::{LogId, StoredMembers};
use crate::metadata::metrics::Metrics;

/// How many are kept.
const KEPT: usize = 2;
const PREFIX: &str = "image-";
const SUFFIX: &str = ".snapshot";

/// Where a snapshot stands in the log, and the members then.
type Head = (Option<LogId>, StoredMembers);

/// The directory of snapshots. Clones are the same.
#[derive(Clone)]
pub(crate) struct Snapshots {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Disk,
    dir: PathBuf,
    /// One writer at a time: a snapshot being built and one being installed may meet.
    writing: Mutex<()>,
    newest: Mutex<Option<u64>>,
    metrics: Metrics,
}

impl Snapshots {
    /// The snapshots in `dir`, which exists.
    pub(crate) fn new(disk: Disk, dir: &Path, metrics: Metrics) -> Snapshots {
        let shared =
            Shared { disk, dir: dir.to_owned(), writing: Mutex::new(()), newest: Mutex::new(None), metrics };
        Snapshots { shared: Arc::new(shared) }
    }

    /// The index of the newest snapshot that is known to be good.
    pub(crate) fn newest(&self) -> Option<u64> {
        *self.shared.newest.lock()
    }

    /// Indexes of the files there are, newest first. Blocks.
    pub(crate) fn indexes(&self) -> io::Result<Vec<u64>> {
        let entries = self.shared.disk.list(&self.shared.dir)?;
        let index = |name: &str| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok();
        let mut indexes: Vec<u64> = entries.iter().filter_map(|entry| index(&entry.name)).collect();
        indexes.sort_unstable_by(|a, b| b.cmp(a));
        Ok(indexes)
    }

    fn path(&self, index: u64) -> PathBuf {
        self.shared.dir.join(format!("{PREFIX}{index:020}{SUFFIX}"))
    }

    /// The newest snapshot that can be read, as bytes and decoded. Damaged ones are set aside. One from a newer program is an
    /// error: it is not damaged. Blocks.
    pub(super) fn load(&self) -> io::Result<Option<(Bytes, SnapshotFile)>> {
        use aquifer_model::format::FormatError;
        for index in self.indexes()? {
            let path = self.path(index);
            let bytes = Bytes::from(self.shared.disk.read(&path)?);
            let decoded = codec::decode_snapshot(&bytes).and_then(|snapshot| {
                let named = snapshot.index() == index;
                if named {
                    Ok(snapshot)
                } else {
                    Err(codec::SNAPSHOT.invalid("its index is not that of its name"))
                }
            });
            match decoded {
                Ok(snapshot) => {
                    *self.shared.newest.lock() = Some(index);
                    return Ok(Some((bytes, snapshot)));
                }
                Err(error @ (FormatError::Version { .. } | FormatError::RequiredField { .. })) => {
                    return Err(io::Error::new(io::ErrorKind::Unsupported, error));
                }
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "a metadata snapshot is damaged: set aside");
                    self.shared.metrics.snapshots_damaged.inc();
                    let mut aside = path.clone().into_os_string();
                    aside.push(".damaged");
                    self.shared.disk.rename(&path, Path::new(&aside))?;
                    self.shared.disk.sync_dir(&self.shared.dir)?;
                }
            }
        }
        Ok(None)
    }

    /// The newest snapshot that is known to be good, as bytes, with its head. Blocks.
    pub(super) fn current(&self) -> io::Result<Option<(Bytes, Head)>> {
        let Some(index) = self.newest() else {
            return Ok(None);
        };
        let bytes = Bytes::from(self.shared.disk.read(&self.path(index))?);
        match codec::decode_snapshot_head(&bytes) {
            Ok(head) => Ok(Some((bytes, head))),
            // It was good once: its disk has changed it since.
            Err(_) => Ok(self.load()?.map(|(bytes, file)| (bytes, (file.applied, file.members)))),
        }
    }

    /// Writes a snapshot and removes those that are too old.
    pub(super) async fn save(&self, snapshot: SnapshotFile) -> io::Result<Bytes> {
        let this = self.clone();
        blocking(move || {
            let too_large =
                || io::Error::new(io::ErrorKind::FileTooLarge, "the metadata image is too large to save");
            let bytes = Bytes::from(codec::encode_snapshot(&snapshot).ok_or_else(too_large)?);
            this.put(snapshot.index(), &bytes)?;
            Ok(bytes)
        })
        .await
    }

    /// Writes a snapshot that came as bytes, already checked.
    pub(super) async fn save_bytes(&self, index: u64, bytes: Bytes) -> io::Result<()> {
        let this = self.clone();
        blocking(move || this.put(index, &bytes)).await
    }

    fn put(&self, index: u64, bytes: &Bytes) -> io::Result<()> {
        let _one = self.shared.writing.lock();
        self.shared.disk.write_atomic(&self.path(index), bytes)?;
        self.shared.metrics.snapshots.inc();
        *self.shared.newest.lock() = Some(index);
        for old in self.indexes()?.into_iter().filter(|old| *old < index).skip(KEPT - 1) {
            if let Err(error) = self.shared.disk.remove(&self.path(old)) {
                tracing::warn!(old, %error, "an old metadata snapshot was not removed; the next one tries again");
            }
        }
        Ok(())
    }
}
