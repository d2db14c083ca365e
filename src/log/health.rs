//! Whether a data directory still takes part.
//!
//! A write that failed with anything but "no space", and any failed sync, ends it: the kernel may have dropped dirty pages, so
//! that neither the page cache nor a repeated sync can be believed any more. There is no way back but a new start, which reads
//! what the device really holds. For that start the failure is noted in a file, which need not be durable: it is to outlive this
//! process, and with the machine the page cache goes, too.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use aquifer_runtime::files::Disk;
use aquifer_runtime::metrics::Gauge;
use tokio::sync::watch;

use super::error::DirFailure;
use super::layout;

/// The state of one directory, shared by all that write to it.
#[derive(Debug)]
pub(crate) struct Health {
    disk: Disk,
    path: PathBuf,
    failure: watch::Sender<Option<DirFailure>>,
    /// The same, for a look on each append.
    has_failed: AtomicBool,
    gauge: Gauge,
}

impl Health {
    pub(crate) fn new(disk: &Disk, path: &Path, gauge: Gauge) -> Health {
        Health {
            disk: disk.clone(),
            path: path.to_owned(),
            failure: watch::Sender::new(None),
            has_failed: AtomicBool::new(false),
            gauge,
        }
    }

    /// Whether it has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Declares it failed; the first reason stays.
    pub(crate) fn fail(&self, file: &Path, operation: &str, error: &std::io::Error) {
        let what = format!("{operation} {}: {error}", file.display());
        self.failure.send_if_modified(|failure| {
            if failure.is_some() {
                return false;
            }
            tracing::error!(dir = %self.path.display(), what, "log dir has failed, its partitions are given up");
            self.has_failed.store(true, Ordering::Release);
            self.gauge.set(1);
            self.note(&what);
            *failure = Some(DirFailure { path: self.path.clone(), what });
            true
        });
    }

    /// Tells the next process that what it reads may be pages which never reached the device.
    fn note(&self, what: &str) {
        let path = self.path.join(layout::FAILED);
        let noted = self.disk.open_or_create(&path);
        let noted = noted.and_then(|file| file.write_all_at(0, &mut [IoSlice::new(what.as_bytes())]));
        if let Err(error) = noted {
            tracing::error!(path = %path.display(), %error, "could not note the failure: restart the machine, not only the broker");
        }
    }

    /// What a failure that the last process noted has left is dealt with: the note goes, unless it is about another failure by now.
    pub(crate) fn forget_note(&self) {
        self.failure.send_if_modified(|failure| {
            let path = self.path.join(layout::FAILED);
            if failure.is_none()
                && let Err(error) = self.disk.remove(&path)
            {
                tracing::warn!(path = %path.display(), %error, "could not remove the note of a failure");
            }
            false
        });
    }

    /// To wait for a failure.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<DirFailure>> {
        self.failure.subscribe()
    }
}
