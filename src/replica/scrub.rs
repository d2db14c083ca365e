//! Looks for damage before a reader finds it.
//!
//! Two tasks. *Local*: all segments on this disk, the open one too, with every checksum, and the small files beside them.
//! *Bucket*: all that the manifests of the partitions led here name, and the manifests themselves. Both go through everything once,
//! at their own pace in bytes a second, and not again before their interval is over; where a look stands is known only in memory, so
//! a restart begins anew.
//!
//! What cannot be looked at, because a device refuses or the bucket is away, keeps nothing else from being looked at, and is tried
//! again, ever less often, until the next search is due. Only a search that has seen everything counts as one. Of a partition that
//! is deleted meanwhile nothing is held, and nothing told.
//!
//! What is found is noted by the log or the tier, which wakes whoever mends. Nothing is mended here but the small files beside a
//! segment, which the log writes anew itself.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, Offset, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::metrics::Counter;
use aquifer_runtime::pace::Pace;
use aquifer_runtime::tasks::{self, TaskGroup};
use aquifer_tiering::Tier;
use tokio::time::Instant;

use super::registry::Replicas;
use super::state::Role;
use crate::log::{self, Log, Looked};

/// How much of a local segment one visit to the threads for blocking work looks at.
const PIECE_BYTES: ByteCount = ByteCount::mib(1);
/// Before what could not be looked at is tried again; doubles each time, up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(600);

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

/// Looks.
#[derive(Debug)]
pub(crate) struct Scrubber {
    replicas: Arc<Replicas>,
    tier: Option<Tier>,
    options: ScrubOptions,
    world: World,
    group: TaskGroup,
}

/// What a search has still to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// All that a log has on this disk.
    Log(TopicPartition),
    /// What a log has beside its segments.
    Books(TopicPartition),
    /// The segment that starts here.
    Segment(TopicPartition, Offset),
    /// What a partition has in the bucket, from an offset on.
    Bucket(TopicPartition, Offset),
}

/// Why something could not be looked at.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error(transparent)]
    Log(#[from] log::ReadError),
    #[error(transparent)]
    Tier(#[from] aquifer_tiering::read::ReadError),
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
        let metrics = self.replicas.metrics();
        if let Some(rate) = local_rate {
            self.search("scrub-local", Place::Log, rate, local_interval, metrics.scrubs_local.clone());
        }
        if let (Some(rate), Some(_)) = (tier_rate, &self.tier) {
            let place = |partition| Place::Bucket(partition, Offset::ZERO);
            self.search("scrub-bucket", place, rate, tier_interval, metrics.scrubs_bucket.clone());
        }
    }

    /// Searches all of one kind, again and again.
    fn search(
        self: &Arc<Scrubber>,
        name: &'static str,
        place: fn(TopicPartition) -> Place,
        rate: ByteCount,
        interval: Duration,
        seen_all: Counter,
    ) {
        let this = self.clone();
        let mut pace = Pace::new(self.world.clock, Some(rate));
        let cancelled = self.group.cancelled().clone();
        self.group.spawn(name, async move {
            let work = async {
                loop {
                    let next_due = this.world.clock.now() + interval;
                    let places = this.replicas.partitions().into_iter().map(place).collect();
                    if this.look_at_all(places, &mut pace, next_due).await {
                        seen_all.inc();
                    }
                    tokio::time::sleep_until(next_due).await;
                }
            };
            tokio::select! {
                () = cancelled.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// Looks at all of these, and again at what could not be looked at; gives whether nothing was left of it when the next search
    /// was due.
    async fn look_at_all(&self, mut left: Vec<Place>, pace: &mut Pace, next_due: Instant) -> bool {
        let mut pause = AGAIN_MIN;
        loop {
            let mut missed = Vec::new();
            for place in left {
                self.look_at(place, pace, &mut missed).await;
            }
            if missed.is_empty() {
                return true;
            }
            let again = self.world.clock.now() + pause;
            if again >= next_due {
                let (places, first) = (missed.len(), missed.first());
                tracing::error!(places, ?first, "a search for damage has not seen everything");
                return false;
            }
            tokio::time::sleep_until(again).await;
            pause = pause.saturating_mul(2).min(AGAIN_MAX);
            left = missed;
        }
    }

    async fn look_at(&self, place: Place, pace: &mut Pace, missed: &mut Vec<Place>) {
        match place {
            Place::Log(partition) => {
                let Some(log) = self.log(partition) else { return };
                let bases = log.bases();
                // Not held for the hours that this may take.
                drop(log);
                self.look_at_books(partition, missed).await;
                for base in bases {
                    self.look_at_segment(partition, base, pace, missed).await;
                }
            }
            Place::Books(partition) => self.look_at_books(partition, missed).await,
            Place::Segment(partition, base) => self.look_at_segment(partition, base, pace, missed).await,
            Place::Bucket(partition, from) => self.look_at_bucket(partition, from, pace, missed).await,
        }
    }

    fn log(&self, partition: TopicPartition) -> Option<Arc<Log>> {
        self.replicas.get(partition).map(|replica| replica.log().clone())
    }

    async fn look_at_books(&self, partition: TopicPartition, missed: &mut Vec<Place>) {
        let Some(log) = self.log(partition) else { return };
        if let Err(error) = tasks::blocking(move || log.examine_log_books()).await {
            self.miss(Place::Books(partition), &error.into(), missed);
        }
    }

    async fn look_at_segment(
        &self,
        partition: TopicPartition,
        base: Offset,
        pace: &mut Pace,
        missed: &mut Vec<Place>,
    ) {
        let Some(log) = self.log(partition) else { return };
        if let Err(error) = look_through(&log, base, pace).await {
            self.miss(Place::Segment(partition, base), &error.into(), missed);
        }
    }

    async fn look_at_bucket(
        &self,
        partition: TopicPartition,
        mut from: Offset,
        pace: &mut Pace,
        missed: &mut Vec<Place>,
    ) {
        let (Some(tier), Some(replica)) = (&self.tier, self.replicas.get(partition)) else { return };
        // Whoever leads a partition looks at it.
        if !matches!(replica.role(), Role::Leader(_) | Role::Recovering(_)) || !replica.config().tiered {
            return;
        }
        drop(replica);
        if let Err(error) = tier.examine(partition, &mut from, pace).await {
            self.miss(Place::Bucket(partition, from), &error.into(), missed);
        }
    }

    /// Notes what could not be looked at, unless it is gone.
    fn miss(&self, place: Place, error: &Unseen, missed: &mut Vec<Place>) {
        if matches!(error, Unseen::Log(log::ReadError::Closed)) {
            return;
        }
        self.replicas.metrics().scrub_failures.inc();
        tracing::warn!(?place, %error, "cannot look for damage; tried again later");
        missed.push(place);
    }
}

/// Looks at all of a segment, and at the small files that belong to it.
async fn look_through(log: &Arc<Log>, base: Offset, pace: &mut Pace) -> Result<(), log::ReadError> {
    let looked_at = log.clone();
    let Some(mut examination) = tasks::blocking(move || looked_at.examine(base)).await? else {
        return Ok(());
    };
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
                let log = log.clone();
                return tasks::blocking(move || log.examine_books(base)).await;
            }
            Looked::Damaged(_) | Looked::Gone => return Ok(()),
        }
    }
}
