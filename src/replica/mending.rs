//! Mends what is found to be damaged, by whomever, and has a sound copy.
//!
//! One task, woken by any finding.
//!
//! - A damaged local segment that a committed manifest covers is replaced by the bucket's copy, verified on its way and again
//!   once it is on disk. It is replaced rather than dropped, though the bucket has it: to drop it would drop all that is older, too,
//!   and the newest hours of a log are read most. Until then reads of it go to the bucket.
//! - A damaged object whose segment still lies here, sound, is uploaded again under a fresh key, which takes its place in the
//!   manifest; the damaged one goes after its grace.
//! - A damaged newest manifest is committed again by whoever holds the claim, and so knows what it said.
//! - What has no other copy stays as it is, is refused to readers, and is told: by log, metric and status.
//!
//! Uploads go first: a claim that is in use is not waited for. A bucket that is away ends the round, and is asked again ever less
//! often, once for all that waits for it. All of it can be interrupted anywhere: a copy half made is removed, an object half
//! uploaded is none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, Offset, OffsetRange, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::tasks::{self, TaskGroup};
use aquifer_tiering::Tier;
use aquifer_tiering::damage::DamagedObject;
use aquifer_tiering::examine::Damaged;
use aquifer_tiering::manifest::Entry;
use aquifer_tiering::read::{ColdRequest, ReadError};
use tokio::time::Instant;

use super::archive::{Held, Step};
use super::archiving::{ArchiveError, ArchiveRules, source_of};
use super::registry::Replicas;
use super::state::{Replica, Role};
use crate::log::MendError;

/// How much of a copy is asked of the bucket at once.
const COPY_BYTES: ByteCount = ByteCount::mib(4);
/// How long the bucket may take for a part of a copy.
const COPY_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks for something to mend that nobody has told of: a claim may have come, or the bucket be back.
const MEND_EVERY: Duration = Duration::from_secs(1);
/// Wait after a failure to mend one thing; doubles with each, up to [`MEND_RETRY_MAX`].
const MEND_RETRY: Duration = Duration::from_secs(1);
const MEND_RETRY_MAX: Duration = Duration::from_secs(600);

/// Mends.
#[derive(Debug)]
pub(crate) struct Mender {
    replicas: Arc<Replicas>,
    tier: Tier,
    rules: ArchiveRules,
    world: World,
}

/// How an attempt to mend something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mended {
    /// It is whole, or nobody needs it any more.
    Done,
    /// The claim is in use by an upload, which goes first.
    Busy,
    /// There is nothing to mend it with.
    NotNow,
}

/// Why something is not mended yet.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Mend(#[from] MendError),
    #[error(transparent)]
    Tier(#[from] ReadError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("the bucket has not answered within {COPY_PATIENCE:?}")]
    Late,
    #[error("the bucket has nothing at offset {0}")]
    Nothing(Offset),
}

/// Something to mend.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Wound {
    Segment(TopicPartition, Offset),
    Object(String),
}

/// When to try what again.
#[derive(Debug, Default)]
struct Retries {
    of: HashMap<Wound, Retry>,
    /// The bucket is away, and with it all copies.
    of_bucket: Option<Retry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Failure {
    /// Whether the next attempt to mend something else would fail by the same.
    fn is_of_bucket(&self) -> bool {
        match self {
            Failure::Late | Failure::Tier(ReadError::Unavailable { .. }) => true,
            Failure::Archive(error) => error.is_of_bucket(),
            Failure::Mend(_) | Failure::Tier(_) | Failure::Nothing(_) => false,
        }
    }
}

impl Retries {
    fn is_due(&self, wound: &Wound, now: Instant) -> bool {
        self.of.get(wound).is_none_or(|retry| retry.at <= now)
    }

    fn bucket_is_due(&self, now: Instant) -> bool {
        self.of_bucket.is_none_or(|retry| retry.at <= now)
    }

    fn note(&mut self, wound: Wound, mended: Mended, now: Instant) {
        match mended {
            Mended::Done => drop(self.of.remove(&wound)),
            Mended::Busy => drop(self.of.insert(wound, Retry::after(None, now))),
            Mended::NotNow => {
                let retry = Retry::after(self.of.get(&wound), now);
                self.of.insert(wound, retry);
            }
        }
    }

    /// Forgets what is no longer to be mended.
    fn keep_only(&mut self, wounds: &HashSet<Wound>) {
        self.of.retain(|wound, _| wounds.contains(wound));
    }
}

impl Retry {
    fn after(last: Option<&Retry>, now: Instant) -> Retry {
        let pause = last.map_or(MEND_RETRY, |last| last.pause.saturating_mul(2)).min(MEND_RETRY_MAX);
        Retry { at: now + pause, pause }
    }
}

impl Mender {
    pub(crate) fn new(replicas: Arc<Replicas>, tier: Tier, rules: ArchiveRules, world: World) -> Mender {
        Mender { replicas, tier, rules, world }
    }

    /// Starts its task, which ends with the group.
    pub(crate) fn start(self, group: &TaskGroup) {
        let cancelled = group.cancelled().clone();
        group.spawn("mend", async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = self.run() => {}
            }
        });
    }

    async fn run(&self) {
        let mut retries = Retries::default();
        loop {
            tokio::select! {
                () = self.replicas.logs().damaged() => {}
                () = self.tier.damaged() => {}
                () = tokio::time::sleep(MEND_EVERY) => {}
            }
            if retries.bucket_is_due(self.world.clock.now()) {
                self.round(&mut retries).await;
            }
        }
    }

    /// Tries to mend all that is due, until the bucket turns out to be away.
    async fn round(&self, retries: &mut Retries) {
        let mut seen = HashSet::new();
        for replica in self.replicas.all() {
            for range in replica.log().damaged_segments() {
                let wound = Wound::Segment(replica.partition(), range.base);
                seen.insert(wound.clone());
                if retries.is_due(&wound, self.world.clock.now()) {
                    let outcome = self.mend_segment(&replica, range).await;
                    if !self.note(retries, wound, outcome) {
                        return;
                    }
                }
            }
        }
        for damaged in self.tier.damage() {
            let wound = Wound::Object(damaged.object.clone());
            seen.insert(wound.clone());
            if retries.is_due(&wound, self.world.clock.now()) {
                let outcome = self.mend_object(&damaged).await;
                if !self.note(retries, wound, outcome) {
                    return;
                }
            }
        }
        retries.keep_only(&seen);
    }

    /// Notes what came of an attempt; gives whether to go on with others.
    fn note(&self, retries: &mut Retries, wound: Wound, outcome: Result<Mended, Failure>) -> bool {
        let now = self.world.clock.now();
        let error = match outcome {
            Ok(mended) => {
                // Only one that was mended proves that the bucket is back.
                if mended == Mended::Done {
                    retries.of_bucket = None;
                }
                retries.note(wound, mended, now);
                return true;
            }
            Err(error) => error,
        };
        self.replicas.metrics().mend_failures.inc();
        tracing::warn!(?wound, %error, "cannot mend what is damaged; tried again later");
        let is_of_bucket = error.is_of_bucket();
        if is_of_bucket {
            retries.of_bucket = Some(Retry::after(retries.of_bucket.as_ref(), now));
        }
        retries.note(wound, Mended::NotNow, now);
        !is_of_bucket
    }

    /// Replaces a damaged local segment by what the bucket has, if a committed manifest covers it.
    async fn mend_segment(&self, replica: &Arc<Replica>, range: OffsetRange) -> Result<Mended, Failure> {
        // Of a bucket that another process writes, nothing must come in the place of what was acknowledged here.
        let Role::Leader(epoch) = replica.role() else { return Ok(Mended::NotNow) };
        let proof = self.tier.known(replica.partition(), epoch);
        if !proof.is_some_and(|proof| proof.covers(range)) || replica.disk().is_full() {
            return Ok(Mended::NotNow);
        }
        let log = replica.log().clone();
        let begun = tasks::blocking(move || log.mend(range.base)).await?;
        let Some(mut mending) = begun else { return Ok(Mended::NotNow) };
        let (mut at, next) = (mending.range().base, mending.range().next);
        let mut late = self.world.clock.now() + COPY_PATIENCE;
        while at < next {
            let request = ColdRequest {
                partition: replica.partition(),
                offset: at,
                bytes_max: COPY_BYTES,
                upper: next,
                wait_until: late,
            };
            // The log may start within the segment; its file does not.
            let read = self.tier.copy(request).await?;
            // Compaction may have emptied the rest of what is named there.
            if read.slices.is_empty() && (read.pending || read.next <= at) {
                if self.world.clock.now() >= late {
                    return Err(Failure::Late);
                }
                if !read.pending {
                    return Err(Failure::Nothing(at));
                }
                continue;
            }
            (at, late) = (read.next, self.world.clock.now() + COPY_PATIENCE);
            if replica.disk().is_full() {
                return Ok(Mended::NotNow);
            }
            mending = tasks::blocking(move || mending.write(&read.slices).map(|()| mending)).await?;
        }
        tasks::blocking(move || mending.finish()).await?;
        Ok(Mended::Done)
    }

    /// Mends a damaged object, if it is named still and the leader that may do so is here.
    async fn mend_object(&self, damaged: &DamagedObject) -> Result<Mended, Failure> {
        let Some(what) = self.tier.identify(damaged).await? else { return Ok(Mended::Done) };
        let Some(replica) = self.replicas.get(damaged.partition) else { return Ok(Mended::NotNow) };
        match what {
            Damaged::Segment(entry) => self.upload_again(&replica, &entry).await,
            Damaged::Manifest => Ok(replica.mend_manifest(&self.rules).await?),
            Damaged::Page => Ok(Mended::NotNow),
        }
    }

    async fn upload_again(&self, replica: &Arc<Replica>, entry: &Entry) -> Result<Mended, Failure> {
        let log = replica.log();
        let Some(segment) = log.sealed_containing(entry.range().base) else { return Ok(Mended::NotNow) };
        if log.damaged_segments().contains(&segment.range) {
            return Ok(Mended::NotNow);
        }
        Ok(replica.replace_object(segment.range.base, entry, &self.rules).await?)
    }
}

impl Replica {
    /// Uploads a segment of this log in the place of a damaged object.
    async fn replace_object(
        self: &Arc<Replica>,
        base: Offset,
        damaged: &Entry,
        rules: &ArchiveRules,
    ) -> Result<Mended, ArchiveError> {
        let Ok(mut claim) = self.archive().claimed.try_lock() else { return Ok(Mended::Busy) };
        let Some(held) = claim.as_mut() else { return Ok(Mended::NotNow) };
        let replica = self.clone();
        let Some(parts) = tasks::blocking(move || replica.log().sealed_parts(base)).await? else {
            return Ok(Mended::NotNow);
        };
        // Read twice: before it is sent, it is compared.
        let bytes = ByteCount(parts.facts.log_bytes.get().saturating_mul(2));
        let replace = Box::pin(held.claimed.replace(source_of(parts), damaged));
        let replaced = self.within(Step::Mend, bytes, rules, replace).await;
        self.mended(&mut claim, replaced, rules)
    }

    /// Commits the newest manifest again if the bucket does not have it as it was committed.
    async fn mend_manifest(&self, rules: &ArchiveRules) -> Result<Mended, ArchiveError> {
        let Ok(mut claim) = self.archive().claimed.try_lock() else { return Ok(Mended::Busy) };
        let Some(held) = claim.as_mut() else { return Ok(Mended::NotNow) };
        let examine = held.claimed.examine_manifest();
        let examined = self.within(Step::Mend, ByteCount::ZERO, rules, examine).await;
        // It is whole, or was made so.
        self.mended(&mut claim, examined.map(|_| true), rules)
    }

    /// Takes note of what became of an attempt to mend something under the claim, as of any other use of it.
    fn mended(
        &self,
        claim: &mut Option<Held>,
        outcome: Result<bool, ArchiveError>,
        rules: &ArchiveRules,
    ) -> Result<Mended, ArchiveError> {
        if let Some(held) = claim.as_mut() {
            self.note_doubt(held, outcome.is_err());
        }
        let epoch = claim.as_ref().map(|held| held.epoch);
        if let (Err(error), Some(epoch)) = (&outcome, epoch)
            && error.is_fenced()
        {
            self.settle(error, epoch, claim, rules);
        }
        outcome.map(|is_mended| if is_mended { Mended::Done } else { Mended::NotNow })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_is_tried_ever_less_often_and_what_is_busy_soon() {
        let start = aquifer_runtime::clock::Clock::system().now();
        let wound = || Wound::Object("a".to_owned());
        let mut retries = Retries::default();
        let mut now = start;
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            assert!(retries.is_due(&wound(), now));
            retries.note(wound(), Mended::NotNow, now);
            now += Duration::from_secs(pause);
            assert!(!retries.is_due(&wound(), now - Duration::from_millis(1)), "{pause}");
        }
        for _ in 0..3 {
            retries.note(wound(), Mended::Busy, now);
            now += MEND_RETRY;
            assert!(retries.is_due(&wound(), now));
        }
        retries.note(wound(), Mended::NotNow, now);
        retries.keep_only(&HashSet::from([wound()]));
        assert!(!retries.is_due(&wound(), now));
        retries.keep_only(&HashSet::new());
        assert!(retries.is_due(&wound(), now), "it was forgotten");
    }
}
