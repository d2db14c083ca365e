//! What a replica knows of its uploads: the claim that it holds, and how they stand.
//!
//! Data alone; what is done with it is in `archiving.rs`.

use std::fmt;

use aquifer_model::{LeaderEpoch, Offset};
use aquifer_tiering::tier::Claimed;
use aquifer_tiering::{Manifest, TieredUpTo};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::plan::Sweeps;
use super::watchdog::Watchdog;

/// A partition's uploads. Its work is done by one task at a time, which holds `claimed` meanwhile.
#[derive(Debug)]
pub(super) struct Archive {
    pub(super) claimed: tokio::sync::Mutex<Option<Held>>,
    pub(super) status: Mutex<ArchiveStatus>,
    pub(super) watchdog: Mutex<Watchdog>,
    /// What is being done now, and since when.
    pub(super) step: Mutex<Option<(Step, Instant)>>,
}

/// What is done between a partition and the bucket, a call each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Claim,
    Skip,
    Upload,
    Expire,
    Sweep,
    Mend,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Claim => "claim the manifest",
            Step::Skip => "skip what was deleted",
            Step::Upload => "upload a segment",
            Step::Expire => "drop what retention does not keep",
            Step::Sweep => "sweep the bucket",
            Step::Mend => "mend what is damaged in the bucket",
        })
    }
}

/// A claim on the manifest.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) claimed: Claimed,
    /// Under which it was taken.
    pub(super) epoch: LeaderEpoch,
    pub(super) sweeps: Sweeps,
}

/// What is known of a partition's uploads.
#[derive(Debug, Clone, Default)]
pub(crate) struct ArchiveStatus {
    /// The first offset that is not in the bucket; `None` before anything is known.
    pub(crate) tiered_end: Option<Offset>,
    /// Where the history starts as the bucket has it.
    pub(super) log_start: Option<Offset>,
    /// The epoch of the claim that this broker holds.
    pub(crate) claim: Option<LeaderEpoch>,
    /// Another process took the manifest while this broker believed to lead under this epoch.
    pub(crate) fenced: Option<LeaderEpoch>,
    /// The last failure, until something works again.
    pub(crate) error: Option<String>,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// Not before this.
    pub(crate) retry_at: Option<Instant>,
}

impl Archive {
    pub(super) fn new() -> Archive {
        Archive {
            claimed: tokio::sync::Mutex::new(None),
            status: Mutex::default(),
            watchdog: Mutex::default(),
            step: Mutex::default(),
        }
    }

    /// Takes note of what a manifest says.
    pub(super) fn note(&self, manifest: &Manifest, proof: &TieredUpTo) {
        let mut status = self.status.lock();
        status.tiered_end = Some(proof.end());
        status.log_start = Some(manifest.log_start());
    }

    /// Forgets the failures.
    pub(super) fn note_success(&self) {
        let mut status = self.status.lock();
        status.error = None;
        status.failures = 0;
        status.retry_at = None;
    }
}
