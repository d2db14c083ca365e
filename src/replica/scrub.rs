//! Looks for damage before a reader finds it, and mends what can be mended.
//!
//! Three tasks. *Local*: all segments on this disk, the open one too, with every checksum, and the small files beside them.
//! *Bucket*: all that the manifests of the partitions led here name, and the manifests themselves. Both go through everything once,
//! at their own pace in bytes a second, and not again before their interval is over; where a look stands is known only in memory, so
//! a restart begins anew. *Mending* is woken by any finding, by a reader's too:
//!
//! - A damaged local segment that a committed manifest covers is replaced by the bucket's copy, verified on its way and again
//!   once it is on disk. It is replaced rather than dropped, though the bucket has it: to drop it would drop all that is older, too,
//!   and the newest hours of a log are read most. Until then reads of it go to the bucket.
//! - A damaged object whose segment still lies here, sound, is uploaded again under a fresh key, which takes its place in the
//!   manifest; the damaged one goes after its grace.
//! - What has no other copy stays as it is, is refused to readers, and is told: by log, metric and status.
//!
//! All of it can be interrupted anywhere: a copy half made has another name, an object half uploaded none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, Offset, OffsetRange, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::pace::Pace;
use aquifer_runtime::tasks::{self, TaskGroup};
use aquifer_tiering::Tier;
use aquifer_tiering::damage::DamagedObject;
use aquifer_tiering::read::ColdRequest;
use aquifer_tiering::upload::{SegmentSource, UploadError};
use tokio::time::Instant;

use super::registry::Replicas;
use super::state::{Replica, Role};
use crate::log::{self, Looked, MendError};

/// How much of a local segment one visit to the threads for blocking work looks at.
const PIECE_BYTES: ByteCount = ByteCount::mib(1);
/// How much of a copy is asked of the bucket at once.
const COPY_BYTES: ByteCount = ByteCount::mib(4);
/// How long the bucket may take for a part of a copy.
const COPY_PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks for something to mend that nobody has told of: a claim may have come, or the bucket be back.
const MEND_EVERY: Duration = Duration::from_secs(1);
/// Wait after a failure to mend one thing; doubles with each, up to [`MEND_RETRY_MAX`].
const MEND_RETRY: Duration = Duration::from_secs(1);
const MEND_RETRY_MAX: Duration = Duration::from_secs(600);

/// When and how much.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScrubOptions {
    /// Of local files (`log.scrub.bytes.per.second`); `None` for not at all.
    pub(crate) local_rate: Option<ByteCount>,
    /// From the start of one look at all local files to that of the next, at least (`log.scrub.interval.ms`).
    pub(crate) local_interval: Duration,
    /// Of the bucket (`tier.scrub.bytes.per.second`).
    pub(crate) tier_rate: Option<ByteCount>,
    /// The same for the bucket (`tier.scrub.interval.ms`).
    pub(crate) tier_interval: Duration,
}

/// Looks and mends.
#[derive(Debug)]
pub(crate) struct Scrubber {
    replicas: Arc<Replicas>,
    tier: Option<Tier>,
    options: ScrubOptions,
    world: World,
    group: TaskGroup,
}

/// Why something is not mended yet.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Mend(#[from] MendError),
    #[error(transparent)]
    Tier(#[from] aquifer_tiering::read::ReadError),
    #[error(transparent)]
    Upload(#[from] UploadError),
    #[error(transparent)]
    Log(#[from] log::ReadError),
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

/// When to try again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Scrubber {
    pub(crate) fn new(
        replicas: Arc<Replicas>,
        tier: Option<Tier>,
        options: ScrubOptions,
        world: World,
        group: TaskGroup,
    ) -> Arc<Scrubber> {
        Arc::new(Scrubber { replicas, tier, options, world, group })
    }

    /// Starts its tasks, which end with the group.
    pub(crate) fn start(self: &Arc<Scrubber>) {
        let ScrubOptions { local_rate, local_interval, tier_rate, tier_interval } = self.options;
        if let Some(rate) = local_rate {
            let this = self.clone();
            let mut pace = Pace::new(self.world.clock, Some(rate));
            self.spawn("scrub-local", async move {
                loop {
                    let began = this.world.clock.now();
                    this.look_at_logs(&mut pace).await;
                    this.replicas.metrics().scrubs_local.inc();
                    tokio::time::sleep_until(began + local_interval).await;
                }
            });
        }
        if let (Some(rate), Some(tier)) = (tier_rate, self.tier.clone()) {
            let this = self.clone();
            let mut pace = Pace::new(self.world.clock, Some(rate));
            self.spawn("scrub-bucket", async move {
                loop {
                    let began = this.world.clock.now();
                    this.look_at_bucket(&tier, &mut pace).await;
                    this.replicas.metrics().scrubs_bucket.inc();
                    tokio::time::sleep_until(began + tier_interval).await;
                }
            });
        }
        if let Some(tier) = self.tier.clone() {
            let this = self.clone();
            self.spawn("mend", async move { this.mend(&tier).await });
        }
    }

    fn spawn(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let cancelled = self.group.cancelled().clone();
        self.group.spawn(name, async move {
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = work => {}
            }
        });
    }

    async fn look_at_logs(&self, pace: &mut Pace) {
        for replica in self.replicas.all() {
            if let Err(error) = look_at_log(&replica, pace).await {
                // Closed or deleted meanwhile, or a device that refuses: its readers are told the same.
                tracing::warn!(partition = %replica.partition(), topic = %replica.topic(), %error, "cannot scrub a log");
            }
        }
    }

    async fn look_at_bucket(&self, tier: &Tier, pace: &mut Pace) {
        for replica in self.replicas.all() {
            if !matches!(replica.role(), Role::Leader(_)) || !replica.config().tiered {
                continue;
            }
            let (partition, topic) = (replica.partition(), replica.topic());
            if let Some(held) = replica.archive().claimed.lock().await.as_mut()
                && let Err(error) = held.claimed.examine_manifest().await
            {
                tracing::warn!(%partition, %topic, %error, "cannot scrub a manifest");
            }
            if let Err(error) = tier.examine(partition, pace).await {
                tracing::warn!(%partition, %topic, %error, "cannot scrub a partition in the bucket");
            }
        }
    }

    /// Mends what is found, until it is cancelled.
    async fn mend(&self, tier: &Tier) {
        let mut retries: HashMap<Wound, Retry> = HashMap::new();
        loop {
            tokio::select! {
                () = self.replicas.logs().damaged() => {}
                () = tier.damaged() => {}
                () = tokio::time::sleep(MEND_EVERY) => {}
            }
            let mut seen = Vec::new();
            for replica in self.replicas.all() {
                for range in replica.log().damaged_segments() {
                    let wound = Wound::Segment(replica.partition(), range.base);
                    seen.push(wound.clone());
                    if self.is_due(&retries, &wound) {
                        let outcome = mend_segment(&replica, tier, range, &self.world).await;
                        self.note(&mut retries, wound, outcome);
                    }
                }
            }
            for damaged in tier.damage() {
                let wound = Wound::Object(damaged.object.clone());
                seen.push(wound.clone());
                if self.is_due(&retries, &wound) {
                    let outcome = self.mend_object(tier, &damaged).await;
                    self.note(&mut retries, wound, outcome);
                }
            }
            retries.retain(|wound, _| seen.contains(wound));
        }
    }

    fn is_due(&self, retries: &HashMap<Wound, Retry>, wound: &Wound) -> bool {
        retries.get(wound).is_none_or(|retry| retry.at <= self.world.clock.now())
    }

    /// Notes what came of an attempt; `Ok(false)`: there is nothing to mend it with, now.
    fn note(&self, retries: &mut HashMap<Wound, Retry>, wound: Wound, outcome: Result<bool, Failure>) {
        let is_mended = match outcome {
            Ok(is_mended) => is_mended,
            Err(error) => {
                self.replicas.metrics().mend_failures.inc();
                tracing::warn!(?wound, %error, "cannot mend what is damaged; tried again later");
                false
            }
        };
        if is_mended {
            retries.remove(&wound);
            return;
        }
        let pause = retries.get(&wound).map_or(MEND_RETRY, |retry| retry.pause.saturating_mul(2));
        let pause = pause.min(MEND_RETRY_MAX);
        retries.insert(wound, Retry { at: self.world.clock.now() + pause, pause });
    }

    /// Uploads a damaged object again, if the leader that may do so is here and has the segment.
    async fn mend_object(&self, tier: &Tier, damaged: &DamagedObject) -> Result<bool, Failure> {
        let Some(entry) = tier.damaged_entry(damaged).await? else { return Ok(false) };
        let Some(replica) = self.replicas.get(damaged.partition) else { return Ok(false) };
        let Some(segment) = replica.log().sealed_containing(entry.range().base) else { return Ok(false) };
        let mut claimed = replica.archive().claimed.lock().await;
        let Some(held) = claimed.as_mut() else { return Ok(false) };
        let (log, base) = (replica.log().clone(), segment.range.base);
        let Some(parts) = tasks::blocking(move || log.sealed_parts(base)).await? else { return Ok(false) };
        let source = SegmentSource {
            segment: parts.facts,
            log: parts.log,
            aborted: parts.aborted,
            producers: parts.producers,
        };
        Ok(held.claimed.replace(source, &entry).await?)
    }
}

/// Looks at all that one log has on this disk.
async fn look_at_log(replica: &Arc<Replica>, pace: &mut Pace) -> Result<(), log::ReadError> {
    let log = replica.log().clone();
    tasks::blocking(move || log.examine_log_books()).await?;
    for base in replica.log().bases() {
        let log = replica.log().clone();
        let Some(mut examination) = tasks::blocking(move || log.examine(base)).await? else { continue };
        loop {
            let (looked, back) = tasks::blocking(move || {
                let looked = examination.go_on(PIECE_BYTES);
                (looked, examination)
            })
            .await;
            examination = back;
            match looked? {
                Looked::More(bytes) => pace.spent(bytes).await,
                Looked::Sound(bytes) => {
                    pace.spent(bytes).await;
                    let log = replica.log().clone();
                    tasks::blocking(move || log.examine_books(base)).await?;
                    break;
                }
                Looked::Damaged(_) | Looked::Gone => break,
            }
        }
    }
    Ok(())
}

/// Replaces a damaged local segment by what the bucket has, if a committed manifest covers it.
async fn mend_segment(
    replica: &Arc<Replica>,
    tier: &Tier,
    range: OffsetRange,
    world: &World,
) -> Result<bool, Failure> {
    // Of a bucket that another process writes, nothing must come in the place of what was acknowledged here.
    let Role::Leader(epoch) = replica.role() else { return Ok(false) };
    if !tier.known(replica.partition(), epoch).is_some_and(|proof| proof.covers(range)) {
        return Ok(false);
    }
    let log = replica.log().clone();
    let Some(mut mending) = tasks::blocking(move || log.mend(range.base)).await? else { return Ok(false) };
    let (mut at, next) = (mending.range().base, mending.range().next);
    let mut late = world.clock.now() + COPY_PATIENCE;
    while at < next {
        let request = ColdRequest {
            partition: replica.partition(),
            offset: at,
            bytes_max: COPY_BYTES,
            upper: next,
            wait_until: late,
        };
        let read = tier.read(request).await?;
        if read.slices.is_empty() {
            if world.clock.now() >= late {
                return Err(Failure::Late);
            }
            if !read.pending {
                return Err(Failure::Nothing(at));
            }
            continue;
        }
        (at, late) = (read.next, world.clock.now() + COPY_PATIENCE);
        mending = tasks::blocking(move || mending.write(&read.slices).map(|()| mending)).await?;
    }
    tasks::blocking(move || mending.finish()).await?;
    Ok(true)
}
