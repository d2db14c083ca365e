//! One partition's way into the bucket: claim, upload, expire.
//!
//! The leader holds at most one claim on its partition's manifest, taken under its leader epoch. With it, and in this order, it
//! uploads sealed segments oldest first, expires what retention lets go, and drops local segments that a committed manifest
//! holds. A claim that is fenced is gone for this epoch: another process writes the manifest, and this one must not.
//!
//! What a crash leaves, at any step, is an object that no manifest names; the next holder of the claim collects it. Local
//! segments are dropped by a [`TieredUpTo`] alone, which only a manifest's commit (or load) can make.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, LeaderEpoch, Offset, Timestamp};
use aquifer_runtime::tasks;
use aquifer_tiering::gc::{CollectDepth, Retention};
use aquifer_tiering::manifest::commit::{ClaimError, CommitError};
use aquifer_tiering::tier::Claimed;
use aquifer_tiering::upload::{SegmentSource, UploadError};
use aquifer_tiering::{Tier, TieredUpTo};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::state::{Replica, Role};
use crate::log;
use crate::log::{Keep, removable_before};

/// A partition's uploads. Its work is done by one task at a time, which holds `claimed` meanwhile.
#[derive(Debug)]
pub(super) struct Archive {
    claimed: tokio::sync::Mutex<Option<Held>>,
    status: Mutex<ArchiveStatus>,
}

#[derive(Debug)]
struct Held {
    claimed: Claimed,
    epoch: LeaderEpoch,
    collected: Option<Instant>,
}

/// What is known of a partition's uploads.
#[derive(Debug, Clone, Default)]
pub(crate) struct ArchiveStatus {
    /// The first offset that is not in the bucket; `None` before anything is known.
    pub(crate) tiered_end: Option<Offset>,
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

/// How far uploads lag behind what could be uploaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UploadLag {
    /// Bytes of sealed segments that are not in the bucket.
    pub(crate) bytes: ByteCount,
    /// How many segments that is.
    pub(crate) segments: usize,
    /// When the oldest of them was sealed.
    pub(crate) oldest: Option<Timestamp>,
}

/// How work on a partition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Nothing is left to do.
    Idle,
    /// Try again after a while; the status says why.
    Retry,
    /// Not before this broker leads under another epoch.
    Stopped,
}

/// How often the leader looks for what no manifest names, besides right after it claimed.
const ORPHANS_EVERY: Duration = Duration::from_secs(6 * 3600);

impl Archive {
    pub(super) fn new() -> Archive {
        Archive { claimed: tokio::sync::Mutex::new(None), status: Mutex::default() }
    }

    /// What is known of the uploads.
    pub(super) fn status(&self) -> ArchiveStatus {
        self.status.lock().clone()
    }

    fn note_tiered(&self, proof: &TieredUpTo) {
        let mut status = self.status.lock();
        status.tiered_end = Some(proof.end());
        status.error = None;
        status.failures = 0;
        status.retry_at = None;
    }
}

impl Replica {
    /// How far uploads lag, for metrics and for the operator.
    pub(crate) fn upload_lag(&self) -> UploadLag {
        let from = self.tiered_end().unwrap_or(Offset::ZERO);
        let mut lag = UploadLag::default();
        for segment in self.log().sealed_segments() {
            if segment.range.next > from {
                lag.bytes += segment.log_bytes;
                lag.segments += 1;
                lag.oldest =
                    Some(lag.oldest.map_or(segment.sealed_at, |oldest| oldest.min(segment.sealed_at)));
            }
        }
        lag
    }

    /// Whether a look is worth its while: no claim yet, or a segment that can go.
    pub(super) fn has_archive_work(&self) -> bool {
        let status = self.archive().status();
        if status.claim.is_none() {
            return status.fenced.is_none_or(|fenced| self.role() != Role::Leader(fenced));
        }
        let from = status.tiered_end.unwrap_or(self.log().offsets().local_start);
        self.log().sealed_containing(from).is_some_and(|segment| segment.range.next <= self.last_stable())
    }

    /// What is known of the uploads.
    pub(crate) fn archive_status(&self) -> ArchiveStatus {
        self.archive().status()
    }

    /// Does what there is to do between this partition and the bucket. `backoff` gives how long to wait after so many failures
    /// in a row.
    pub(super) async fn work_on_archive(
        self: &Arc<Replica>,
        tier: &Tier,
        backoff: impl Fn(u32) -> Duration,
    ) -> Done {
        let now = self.world().clock.now();
        let epoch = match self.role() {
            Role::Leader(epoch) | Role::Recovering(epoch) => epoch,
            Role::Offline(_) => return Done::Stopped,
        };
        // One task at a time; another is on it.
        let Ok(mut held) = self.archive().claimed.try_lock() else { return Done::Idle };
        if held.as_ref().is_some_and(|held| held.epoch != epoch) {
            *held = None;
        }
        if self.archive().status().fenced == Some(epoch) {
            return Done::Stopped;
        }
        let outcome = self.archive_steps(tier, epoch, now, &mut held).await;
        self.settle(outcome, epoch, now, &mut held, backoff)
    }

    async fn archive_steps(
        self: &Arc<Replica>,
        tier: &Tier,
        epoch: LeaderEpoch,
        now: Instant,
        held: &mut Option<Held>,
    ) -> Result<(), ArchiveError> {
        if held.is_none() {
            let claimed = tier.claim(self.partition(), epoch).await?;
            self.follow_tier(tier, &claimed, epoch).await?;
            self.archive().note_tiered(&claimed.proof());
            self.archive().status.lock().claim = Some(epoch);
            *held = Some(Held { claimed, epoch, collected: None });
        }
        let Some(held) = held.as_mut() else { return Ok(()) };
        self.upload_sealed(&mut held.claimed).await?;
        self.expire(&mut held.claimed).await?;
        let orphans_due = held.collected.is_none_or(|last| now.duration_since(last) >= ORPHANS_EVERY);
        let depth = if orphans_due { CollectDepth::Orphans } else { CollectDepth::Removed };
        held.claimed.collect(depth).await?;
        if orphans_due {
            held.collected = Some(now);
        }
        Ok(())
    }

    /// Right after a claim: where the bucket holds offsets, the bucket is right. A log that ends below what is tiered, or
    /// whose epochs part from the manifest's, starts anew at the tier's end.
    async fn follow_tier(
        &self,
        tier: &Tier,
        claimed: &Claimed,
        epoch: LeaderEpoch,
    ) -> Result<(), ArchiveError> {
        let manifest = claimed.manifest();
        let Some(tier_end) = manifest.end() else {
            self.recovered(epoch);
            return Ok(());
        };
        let offsets = self.log().offsets();
        let last_tiered = Offset::new(tier_end.get() - 1);
        let same_history = last_tiered.is_none_or(|last| {
            // Below the local start the log has no batches to compare, and its epochs came from the same tier.
            last < offsets.local_start || self.log().epoch_at(last) == manifest.epochs().epoch_at(last)
        });
        if offsets.end < tier_end || !same_history {
            let tail = tier.tail(self.partition()).await?.ok_or(ArchiveError::NoTail)?;
            tracing::warn!(
                partition = %self.partition(), topic = %self.topic(), log_end = %offsets.end, tier_end = %tail.end,
                "the bucket holds more of this partition than the local log: restarting the log at the bucket's end"
            );
            let restart = log::Restart {
                at: tail.end,
                log_start: tail.log_start,
                epochs: tail.epochs,
                producers: tail.producers,
            };
            self.log().restart_at(restart)?;
        } else if manifest.log_start() > offsets.start {
            self.log().advance_start(manifest.log_start())?;
        }
        self.recovered(epoch);
        Ok(())
    }

    async fn upload_sealed(self: &Arc<Replica>, claimed: &mut Claimed) -> Result<(), ArchiveError> {
        loop {
            let from = claimed.manifest().end().unwrap_or(self.log().offsets().local_start);
            let stable = self.last_stable();
            let Some(segment) = self.log().sealed_containing(from) else { return Ok(()) };
            if segment.range.next > stable || !matches!(self.role(), Role::Leader(_)) {
                return Ok(());
            }
            let replica = self.clone();
            let base = segment.range.base;
            // Gone from the local disk in the meantime: then the bucket holds it.
            let Some(parts) = tasks::blocking(move || replica.log().sealed_parts(base)).await? else {
                return Ok(());
            };
            let source = SegmentSource {
                segment: parts.facts,
                log: parts.log,
                aborted: parts.aborted,
                producers: parts.producers,
            };
            let proof = claimed.upload(source).await?;
            self.archive().note_tiered(&proof);
            self.trim(&proof).await?;
        }
    }

    /// Drops local segments that the bucket holds and local retention does not ask for.
    async fn trim(self: &Arc<Replica>, proof: &TieredUpTo) -> Result<(), ArchiveError> {
        let replica = self.clone();
        let now = self.world().clock.wall();
        let tiered_end = proof.end();
        tasks::blocking(move || {
            let log = replica.log();
            let retention = replica.config().retention;
            let keep = Keep { time: retention.local_time, size: retention.local_bytes };
            let active = log.active_size();
            match removable_before(&log.sealed_segments(), active, keep, tiered_end, now) {
                Some(below) => log.trim_local(below).map(|_| ()),
                None => Ok(()),
            }
        })
        .await?;
        Ok(())
    }

    /// Retention over the whole history: the manifest first, then the log's start. Objects go after their grace.
    async fn expire(self: &Arc<Replica>, claimed: &mut Claimed) -> Result<(), ArchiveError> {
        let total = self.config().retention;
        let start = self.log().offsets().start;
        let retention = Retention {
            // What is only here counts towards the total, too.
            bytes: total.bytes.map(|bytes| bytes.saturating_sub(self.upload_lag().bytes)),
            age: total.time,
            start: Some(start),
        };
        claimed.expire(retention).await?;
        let log_start = claimed.manifest().log_start();
        if log_start > start {
            let replica = self.clone();
            tasks::blocking(move || replica.log().advance_start(log_start)).await?;
        }
        self.trim(&claimed.proof()).await
    }

    fn settle(
        &self,
        outcome: Result<(), ArchiveError>,
        epoch: LeaderEpoch,
        now: Instant,
        held: &mut Option<Held>,
        backoff: impl Fn(u32) -> Duration,
    ) -> Done {
        let mut status = self.archive().status.lock();
        let error = match outcome {
            Ok(()) => {
                status.error = None;
                status.failures = 0;
                status.retry_at = None;
                return Done::Idle;
            }
            Err(error) => error,
        };
        let (partition, topic) = (self.partition(), self.topic());
        status.error = Some(error.to_string());
        if error.is_fenced() {
            tracing::warn!(%partition, %topic, %epoch, %error, "uploads stop: another process writes this manifest");
            status.fenced = Some(epoch);
            status.claim = None;
            *held = None;
            return Done::Stopped;
        }
        status.failures = status.failures.saturating_add(1);
        status.retry_at = Some(now + backoff(status.failures));
        tracing::warn!(%partition, %topic, failures = status.failures, %error, "upload failed, will be tried again");
        Done::Retry
    }
}

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Tail(#[from] aquifer_tiering::read::ReadError),
    #[error("the manifest has entries but no tail")]
    NoTail,
    #[error(transparent)]
    LogRead(#[from] log::ReadError),
    #[error(transparent)]
    LogChange(#[from] log::ChangeError),
}

impl ArchiveError {
    fn is_fenced(&self) -> bool {
        match self {
            ArchiveError::Claim(ClaimError::Fenced(_) | ClaimError::Deleted) => true,
            ArchiveError::Commit(CommitError::Fenced(_)) => true,
            ArchiveError::Upload(UploadError::Commit(CommitError::Fenced(_))) => true,
            ArchiveError::Claim(ClaimError::Manifest(_))
            | ArchiveError::Commit(
                CommitError::Invalid(_) | CommitError::Superseded(_) | CommitError::Manifest(_),
            )
            | ArchiveError::Upload(_)
            | ArchiveError::Tail(_)
            | ArchiveError::NoTail
            | ArchiveError::LogRead(_)
            | ArchiveError::LogChange(_) => false,
        }
    }
}
