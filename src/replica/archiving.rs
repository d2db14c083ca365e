//! One partition's way into the bucket: claim, upload, expire, sweep.
//!
//! The leader holds at most one claim on its partition's manifest, taken under its leader epoch. With it, and in this order, it
//! uploads sealed segments oldest first, expires what retention lets go, and removes what nothing names. A claim that is fenced
//! is gone for this epoch: another process writes the manifest, and this one must not.
//!
//! What a crash leaves, at any step, is an object that no manifest names; the next holder of the claim collects it. Local
//! segments are dropped by a [`TieredUpTo`] alone, which only a manifest's commit (or load) can make; dropping them needs no
//! claim and no store, so that an absent bucket does not keep the disk full.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, LeaderEpoch, Offset, OffsetRange, SealedSegment, Timestamp};
use aquifer_runtime::planted::{self, Planted};
use aquifer_runtime::tasks;
use aquifer_tiering::gc::Retention;
use aquifer_tiering::manifest::commit::{ClaimError, CommitError};
use aquifer_tiering::manifest::load::ManifestError;
use aquifer_tiering::read::ReadError;
use aquifer_tiering::tier::Claimed;
use aquifer_tiering::upload::{SegmentSource, UploadError};
use aquifer_tiering::{Manifest, Tier, TieredUpTo};
use tokio::time::Instant;

use super::archive::{ArchiveStatus, Held, Step};
use super::metrics::ReplicaMetrics;
use super::plan::{Resume, Sweeps, covered, resume, trimmable};
use super::state::{Replica, Role};
use crate::log;
use crate::log::{Keep, SealedParts, SealedSum};

/// How work on a partition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Nothing is left to do.
    Idle,
    /// There is more, and others have their turn first.
    More,
    /// Try again after a while; the status says why.
    Retry,
    /// Not before this broker leads under another epoch.
    Stopped,
}

/// How the work is done.
#[derive(Debug, Clone)]
pub(crate) struct ArchiveRules {
    /// Wait after a first failure; doubles with each in a row.
    pub(super) retry_min: Duration,
    /// Longest such wait.
    pub(super) retry_max: Duration,
    /// Between two sweeps of what was removed.
    pub(super) sweep_interval: Duration,
    /// How late a write may reach the bucket.
    pub(super) late_write_max: Duration,
    /// How long one call may take that moves no bytes.
    pub(super) deadline: Duration,
    /// One that moves bytes may take as much longer as they need at this rate.
    pub(super) bytes_per_second_min: ByteCount,
    /// After how long uploads that do not move are told of.
    pub(super) stall_after: Duration,
    pub(super) metrics: ReplicaMetrics,
}

/// Segments that one partition uploads before others have their turn.
const SEGMENTS_PER_TURN: usize = 8;

impl Replica {
    /// Sealed segments that are not in the bucket, for metrics and for the operator.
    pub(crate) fn upload_lag(&self) -> SealedSum {
        self.log().sealed_beyond(self.tiered_end().unwrap_or(Offset::ZERO))
    }

    /// What is known of the uploads.
    pub(crate) fn archive_status(&self) -> ArchiveStatus {
        self.archive().status.lock().clone()
    }

    /// The end of what the bucket holds, as far as this broker knows.
    pub(crate) fn tiered_end(&self) -> Option<Offset> {
        self.archive().status.lock().tiered_end
    }

    /// Whether a look is worth its while now: no claim yet, a segment that can go, or a log start that the bucket does not know.
    /// Asked of every partition every second, so that it costs next to nothing where nothing happens.
    pub(super) fn has_archive_work(&self, now: Instant) -> bool {
        let (tiered_end, known_start) = {
            let status = self.archive().status.lock();
            if status.retry_at.is_some_and(|at| now < at) {
                return false;
            }
            match (status.claim, status.tiered_end, status.log_start) {
                (Some(_), Some(end), Some(start)) => (end, start),
                _ => return status.fenced.is_none_or(|fenced| self.role() != Role::Leader(fenced)),
            }
        };
        if self.log().offsets().start.min(tiered_end) > known_start {
            return true;
        }
        self.has_segment_due(tiered_end)
    }

    /// Whether a sealed segment waits that may be uploaded.
    pub(super) fn has_segment_due(&self, tiered_end: Offset) -> bool {
        if self.log().sealed_end() <= tiered_end {
            return false;
        }
        let resumed = self.log().sealed_containing(tiered_end.max(self.log().first_base()));
        resumed.is_some_and(|segment| segment.range.next <= self.last_stable())
    }

    /// Makes one call of the tier, and gives it up when it takes longer than it may. What it has begun is settled by the next one.
    pub(super) async fn within<T, E: Into<ArchiveError>>(
        &self,
        step: Step,
        bytes: ByteCount,
        rules: &ArchiveRules,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ArchiveError> {
        let moving = Duration::from_secs(bytes.get() / rules.bytes_per_second_min.get().max(1));
        let patience = rules.deadline + moving;
        *self.archive().step.lock() = Some((step, self.world().clock.now()));
        let outcome = tokio::time::timeout(patience, call).await;
        *self.archive().step.lock() = None;
        match outcome {
            Ok(outcome) => outcome.map_err(Into::into),
            Err(_) => {
                rules.metrics.overdue.inc();
                Err(ArchiveError::Overdue { step, patience })
            }
        }
    }

    /// Does what there is to do between this partition and the bucket, for one turn.
    pub(super) async fn work_on_archive(self: &Arc<Replica>, tier: &Tier, rules: &ArchiveRules) -> Done {
        let epoch = match self.role() {
            Role::Leader(epoch) | Role::Recovering(epoch) => epoch,
            Role::NotLeading | Role::Offline(_) => return Done::Stopped,
        };
        // One task at a time; another is on it.
        let Ok(mut held) = self.archive().claimed.try_lock() else { return Done::Idle };
        if held.as_ref().is_some_and(|held| held.epoch != epoch) {
            *held = None;
        }
        if self.archive().status.lock().fenced == Some(epoch) {
            return Done::Stopped;
        }
        match self.archive_turn(tier, epoch, &mut held, rules).await {
            Ok(done) => {
                self.archive().note_success();
                done
            }
            Err(error) => self.settle(&error, epoch, &mut held, rules),
        }
    }

    async fn archive_turn(
        self: &Arc<Replica>,
        tier: &Tier,
        epoch: LeaderEpoch,
        held: &mut Option<Held>,
        rules: &ArchiveRules,
    ) -> Result<Done, ArchiveError> {
        let held = match held {
            Some(held) => held,
            None => held.insert(self.claim(tier, epoch, rules).await?),
        };
        let uploaded = self.upload_sealed(&mut held.claimed, epoch, rules).await;
        self.note_doubt(held, uploaded.is_err());
        match &uploaded {
            Ok(Done::More) => return uploaded,
            Err(error) if error.is_fenced() => return uploaded,
            // A segment that cannot be uploaded must not keep the bucket from letting go of what is old.
            Ok(Done::Idle | Done::Retry | Done::Stopped) | Err(_) => {}
        }
        let kept = self.let_go(held, rules).await;
        match (uploaded, kept) {
            (_, Err(error)) if error.is_fenced() => Err(error),
            (Ok(done), kept) => kept.map(|()| done),
            (Err(error), Ok(())) => Err(error),
            (Err(error), Err(also)) => {
                rules.metrics.retention_failures.inc();
                tracing::warn!(partition = %self.partition(), topic = %self.topic(), error = %also, "cannot let go of what is old in the bucket");
                Err(error)
            }
        }
    }

    /// Expires what retention does not keep, and sweeps.
    async fn let_go(self: &Arc<Replica>, held: &mut Held, rules: &ArchiveRules) -> Result<(), ArchiveError> {
        let expired = self.expire(&mut held.claimed, rules).await;
        self.note_doubt(held, expired.is_err());
        expired?;
        self.sweep(held, rules).await
    }

    /// What failed, or was sent more than once, may have left something in the bucket, or bring it there later.
    pub(super) fn note_doubt(&self, held: &mut Held, failed: bool) {
        if held.claimed.take_doubt() || failed {
            held.sweeps.doubt(self.world().clock.now());
        }
    }

    async fn claim(
        self: &Arc<Replica>,
        tier: &Tier,
        epoch: LeaderEpoch,
        rules: &ArchiveRules,
    ) -> Result<Held, ArchiveError> {
        let claim = tier.claim(self.partition(), epoch);
        let claimed = self.within(Step::Claim, ByteCount::ZERO, rules, claim).await?;
        self.follow_tier(tier, &claimed, epoch, rules).await?;
        self.archive().note(&claimed.manifest(), &claimed.proof());
        self.archive().status.lock().claim = Some(epoch);
        let first = rules.sweep_interval.mul_f64(self.world().rng.number() as f64 / u64::MAX as f64);
        let sweeps = Sweeps::new(self.world().clock.now(), first, rules.sweep_interval, rules.late_write_max);
        Ok(Held { claimed, epoch, sweeps })
    }

    /// Right after a claim: where the bucket holds offsets, the bucket is right. A log that ends below what is tiered, or
    /// whose epochs part from the manifest's, starts anew at the tier's end. A leader that serves already stops for as long.
    async fn follow_tier(
        self: &Arc<Replica>,
        tier: &Tier,
        claimed: &Claimed,
        epoch: LeaderEpoch,
        rules: &ArchiveRules,
    ) -> Result<(), ArchiveError> {
        let manifest = claimed.manifest();
        if self.contradicts(&manifest) && self.suspend(epoch) {
            let tail = tier.tail(self.partition()).await?.ok_or(ArchiveError::NoTail)?;
            let offsets = self.log().offsets();
            tracing::error!(
                partition = %self.partition(), topic = %self.topic(), log_start = %offsets.start, log_end = %offsets.end,
                tier_end = %tail.end, "the bucket contradicts the local log: restarting the log at the bucket's end"
            );
            rules.metrics.restarted.inc();
            let restart = log::Restart {
                at: tail.end,
                log_start: tail.log_start,
                epochs: tail.epochs,
                producers: tail.producers,
            };
            let replica = self.clone();
            tasks::blocking(move || replica.log().restart_at(restart)).await?;
        }
        self.follow_log_start(manifest.log_start()).await?;
        self.recovered(epoch);
        Ok(())
    }

    /// Whether the bucket holds what this log cannot have written, or no longer has.
    fn contradicts(&self, manifest: &Manifest) -> bool {
        let Some(tier_end) = manifest.end() else { return false };
        let offsets = self.log().offsets();
        let Some(last) = tier_end.get().checked_sub(1).and_then(Offset::new) else { return false };
        // Below the local start the log has no batches to compare, and where nothing is named there is nothing to compare with.
        let same_history = last < offsets.local_start
            || manifest.epochs().epoch_at(last).is_none_or(|epoch| self.log().epoch_at(last) == Some(epoch));
        offsets.end < tier_end || !same_history
    }

    /// Retention in the bucket, by this leader or the one before, raises the log's start.
    async fn follow_log_start(self: &Arc<Replica>, start: Offset) -> Result<(), ArchiveError> {
        if start > self.log().offsets().start {
            let replica = self.clone();
            tasks::blocking(move || replica.log().advance_start(start)).await?;
        }
        Ok(())
    }

    async fn upload_sealed(
        self: &Arc<Replica>,
        claimed: &mut Claimed,
        epoch: LeaderEpoch,
        rules: &ArchiveRules,
    ) -> Result<Done, ArchiveError> {
        for _ in 0..SEGMENTS_PER_TURN {
            let (log_start, first_base) = (self.log().offsets().start, self.log().first_base());
            let tiered_end = claimed.manifest().end();
            let from = match resume(tiered_end, log_start, first_base) {
                Resume::At(from) => from,
                Resume::SkipTo(first) if self.log().sealed_end() <= first => return Ok(Done::Idle),
                Resume::SkipTo(first) => {
                    let skip = claimed.skip_to(first);
                    let proof = self.within(Step::Skip, ByteCount::ZERO, rules, skip).await?;
                    self.archive().note(&claimed.manifest(), &proof);
                    first
                }
                Resume::Gap(missing) => {
                    rules.metrics.gaps.inc();
                    return Err(ArchiveError::Gap { missing, first_base });
                }
            };
            let Some(segment) = self.log().sealed_containing(from) else { return Ok(Done::Idle) };
            if segment.range.next > self.last_stable() || self.role() != Role::Leader(epoch) {
                return Ok(Done::Idle);
            }
            if self.log().damaged_segments().contains(&segment.range) {
                return Err(ArchiveError::Damaged { range: segment.range });
            }
            let replica = self.clone();
            let base = segment.range.base;
            // Gone from the local disk in the meantime: the next turn sees where the log now starts.
            let Some(parts) = tasks::blocking(move || replica.log().sealed_parts(base)).await? else {
                return Ok(Done::More);
            };
            if planted::is(Planted::TrimBeforeManifest) {
                self.log().trim_local(segment.range.next)?;
            }
            let bytes = segment.log_bytes;
            let upload = Box::pin(claimed.upload(source_of(parts)));
            let uploaded = self.within(Step::Upload, bytes, rules, upload).await;
            if let Err(ArchiveError::Upload(UploadError::LocalCorrupt(_) | UploadError::LocalShort { .. })) =
                &uploaded
            {
                // Notes which file it is, and where; what is noted is not read and sent again.
                let replica = self.clone();
                tasks::blocking(move || replica.log().examine_whole(base)).await?;
            }
            let proof = uploaded?;
            self.archive().note(&claimed.manifest(), &proof);
            self.archive().note_success();
            self.trim(proof).await?;
        }
        Ok(Done::More)
    }

    /// Drops local segments that the bucket holds and local retention does not ask for.
    async fn trim(self: &Arc<Replica>, proof: TieredUpTo) -> Result<ByteCount, ArchiveError> {
        let retention = self.config().retention;
        let keep = Keep { time: retention.local_time, size: retention.local_bytes };
        let (replica, now) = (self.clone(), self.world().clock.wall());
        Ok(tasks::blocking(move || replica.trim_now(&proof, keep, now)).await?)
    }

    /// Drops local segments that the bucket holds, but for what `keep` asks for; gives what that frees. Blocks.
    pub(super) fn trim_now(
        &self,
        proof: &TieredUpTo,
        keep: Keep,
        now: Timestamp,
    ) -> Result<ByteCount, log::ChangeError> {
        let log = self.log();
        let (sealed, active, start) = (log.sealed_segments(), log.active_size(), log.offsets().start);
        match trimmable(&sealed, active, keep, start, |range| proof.covers(range), now) {
            Some(below) => log.trim_local(below),
            None => Ok(ByteCount::ZERO),
        }
    }

    /// The local segments that the bucket holds, oldest first.
    pub(super) fn covered(&self, proof: &TieredUpTo) -> Vec<SealedSegment> {
        let mut sealed = self.log().sealed_segments();
        sealed.truncate(covered(&sealed, self.log().offsets().start, |range| proof.covers(range)));
        sealed
    }

    /// Retention over the whole history: the manifest first, then the log's start. Objects go after their grace.
    async fn expire(
        self: &Arc<Replica>,
        claimed: &mut Claimed,
        rules: &ArchiveRules,
    ) -> Result<(), ArchiveError> {
        let total = self.config().retention;
        // What is only here counts towards the total, too.
        let only_here = self.upload_lag().bytes + self.log().active_size();
        let retention = Retention {
            bytes: total.bytes.map(|bytes| bytes.saturating_sub(only_here)),
            age: total.time,
            start: Some(self.log().offsets().start),
        };
        if may_expire(&claimed.manifest(), retention) {
            let expire = claimed.expire(retention);
            self.within(Step::Expire, ByteCount::ZERO, rules, expire).await?;
        }
        let manifest = claimed.manifest();
        self.archive().note(&manifest, &claimed.proof());
        self.follow_log_start(manifest.log_start()).await?;
        self.trim(claimed.proof()).await?;
        Ok(())
    }

    /// Removes from the bucket what nothing names, now and then. A failure waits for the next time, since nothing depends on it;
    /// only a lost claim is told.
    async fn sweep(&self, held: &mut Held, rules: &ArchiveRules) -> Result<(), ArchiveError> {
        let now = self.world().clock.now();
        let Some(depth) = held.sweeps.due(now, held.claimed.manifest().version()) else { return Ok(()) };
        let collect = held.claimed.collect(depth);
        let collected = self.within(Step::Sweep, ByteCount::ZERO, rules, collect).await;
        let newest = held.claimed.manifest().version();
        held.sweeps.swept(now, depth, collected.as_ref().ok().copied(), newest);
        match collected {
            Ok(_) => Ok(()),
            Err(error) if error.is_fenced() => Err(error),
            Err(error) => {
                rules.metrics.sweep_failures.inc();
                tracing::warn!(partition = %self.partition(), topic = %self.topic(), %error, "cannot sweep the bucket");
                Ok(())
            }
        }
    }

    pub(super) fn settle(
        &self,
        error: &ArchiveError,
        epoch: LeaderEpoch,
        held: &mut Option<Held>,
        rules: &ArchiveRules,
    ) -> Done {
        let (partition, topic) = (self.partition(), self.topic());
        let role = self.role();
        if !matches!(role, Role::Leader(current) | Role::Recovering(current) if current == epoch) {
            // The topic was deleted, or another leads: whatever failed is nobody's concern any more.
            tracing::debug!(%partition, %topic, %error, "uploads end");
            *held = None;
            return Done::Stopped;
        }
        let mut status = self.archive().status.lock();
        status.error = Some(error.to_string());
        if error.is_fenced() {
            rules.metrics.fenced.inc();
            status.fenced = Some(epoch);
            status.claim = None;
            *held = None;
            drop(status);
            tracing::error!(%partition, %topic, %epoch, %error, "uploads stop: another process writes this manifest");
            if role == Role::Recovering(epoch) {
                // It waits for a word that will not come; whoever asks shall be told.
                self.go_offline(format!("cannot recover from the bucket: {error}"));
            }
            return Done::Stopped;
        }
        rules.metrics.archive_failures.inc();
        status.failures = status.failures.saturating_add(1);
        let doubled = rules.retry_min.saturating_mul(1 << status.failures.saturating_sub(1).min(16));
        let pause = self.world().rng.jittered(doubled.min(rules.retry_max));
        status.retry_at = Some(self.world().clock.now() + pause);
        tracing::warn!(%partition, %topic, failures = status.failures, ?pause, %error, "upload failed, will be tried again");
        Done::Retry
    }
}

pub(super) fn source_of(parts: SealedParts) -> SegmentSource {
    let SealedParts { facts, log, offset_index: _, time_index: _, aborted, producers } = parts;
    SegmentSource { segment: facts, log, aborted, producers }
}

/// Whether retention may have something to take. A history that never ends need not even be looked at: its oldest entries lie in a
/// page, which may have to be fetched.
fn may_expire(manifest: &Manifest, retention: Retention) -> bool {
    let unread = manifest.first().is_some_and(|first| first < manifest.log_start());
    let moved = retention.start.is_some_and(|start| start > manifest.log_start());
    retention.age.is_some() || retention.bytes.is_some() || moved || unread
}

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArchiveError {
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Tail(#[from] ReadError),
    #[error("the manifest has entries but no tail")]
    NoTail,
    #[error(
        "records from offset {missing} to {first_base} are neither in the bucket nor on this disk: uploads wait for an operator"
    )]
    Gap { missing: Offset, first_base: Offset },
    #[error(
        "the segment of offsets {range} is damaged on this disk and is not in the bucket: uploads wait for an operator"
    )]
    Damaged { range: OffsetRange },
    #[error("gave up to {step}: it took longer than {patience:?}")]
    Overdue { step: Step, patience: Duration },
    #[error(transparent)]
    LogRead(#[from] log::ReadError),
    #[error(transparent)]
    LogChange(#[from] log::ChangeError),
}

impl ArchiveError {
    pub(super) fn is_fenced(&self) -> bool {
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
            | ArchiveError::Gap { .. }
            | ArchiveError::Damaged { .. }
            | ArchiveError::Overdue { .. }
            | ArchiveError::LogRead(_)
            | ArchiveError::LogChange(_) => false,
        }
    }

    /// Whether the bucket has failed or is away, so that whatever else is asked of it would fail, too.
    pub(super) fn is_of_bucket(&self) -> bool {
        match self {
            ArchiveError::Overdue { .. } | ArchiveError::Tail(ReadError::Unavailable { .. }) => true,
            ArchiveError::Claim(ClaimError::Manifest(error))
            | ArchiveError::Commit(CommitError::Manifest(error))
            | ArchiveError::Upload(UploadError::Commit(CommitError::Manifest(error))) => {
                matches!(error, ManifestError::Store(_))
            }
            ArchiveError::Upload(error) => matches!(error, UploadError::Store(_)),
            ArchiveError::Claim(ClaimError::Fenced(_) | ClaimError::Deleted)
            | ArchiveError::Commit(
                CommitError::Fenced(_) | CommitError::Invalid(_) | CommitError::Superseded(_),
            )
            | ArchiveError::Tail(_)
            | ArchiveError::NoTail
            | ArchiveError::Gap { .. }
            | ArchiveError::Damaged { .. }
            | ArchiveError::LogRead(_)
            | ArchiveError::LogChange(_) => false,
        }
    }
}
