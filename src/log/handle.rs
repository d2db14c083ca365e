//! [`Log`]: the handle to one partition's local log, its state, and what can be asked of it without touching a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use aquifer_model::epochs::EpochEnd;
use aquifer_model::{
    ByteCount, LeaderEpoch, LeaderEpochs, Offset, OffsetRange, Timestamp, TopicName, TopicPartition,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::config::LogConfig;
use super::error::Corruption;
use super::producers::ProducerState;
use super::recovery::Recovered;
use super::report::{RecoveryFinding, RecoveryReport};
use super::shared::Shared;
use super::state::{Books, Captured, Condition, Cuts, State};
use super::sync_point::SyncPoint;
use super::uncaptured::Uncaptured;

/// One partition's local log. All methods may be called from any thread.
///
/// Locks are taken in this order: `books`, `state`, then those of the sync point.
#[derive(Debug)]
pub struct Log {
    pub(super) this: Weak<Log>,
    pub(super) partition: TopicPartition,
    topic: TopicName,
    pub(super) folder: PathBuf,
    pub(super) shared: Arc<Shared>,
    config: RwLock<Arc<LogConfig>>,
    report: RecoveryReport,
    /// What is on disk beside the batches. Held while that is written: never on the way of an append.
    pub(super) books: Mutex<Books>,
    /// A checkpoint that the keeper has not come to yet.
    pub(super) waiting: Mutex<Option<Captured>>,
    /// Held for the time of a page-cache write, or of a cut.
    pub(super) state: Mutex<State>,
    pub(super) sync: Arc<SyncPoint>,
    pub(super) high_watermark: AtomicI64,
    /// Raised whenever bytes that were once in the log leave it, so that a read that overlapped can tell.
    pub(super) departures: AtomicU64,
    /// What was found to be damaged and is not mended yet, by file.
    damage: Mutex<Damaged>,
}

/// Files that are damaged.
#[derive(Debug, Default)]
struct Damaged {
    files: BTreeMap<PathBuf, Corruption>,
    /// The log was deleted: whoever still looks at it finds nothing worth telling.
    is_over: bool,
}

/// Where a log begins and ends; taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOffsets {
    /// Nothing below exists.
    pub start: Offset,
    /// Nothing below is on this disk.
    pub local_start: Offset,
    /// Where the next record goes.
    pub end: Offset,
    /// All below survives a power cut.
    pub synced: Offset,
}

/// What some closed segments are together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SealedSum {
    /// How many.
    pub segments: usize,
    /// Bytes of their batches.
    pub bytes: ByteCount,
    /// When the first of them was closed.
    pub oldest: Option<Timestamp>,
}

impl Log {
    pub(super) fn new(
        shared: Arc<Shared>,
        partition: TopicPartition,
        topic: TopicName,
        folder: PathBuf,
        config: LogConfig,
        recovered: Recovered,
    ) -> Arc<Log> {
        let Recovered {
            sealed,
            tail,
            active,
            log_start,
            local_start,
            high_watermark,
            compacted,
            gap_mark,
            condition,
            point,
            written,
            unsynced,
            report,
        } = recovered;
        let sync = Arc::new(SyncPoint::recovered(
            partition,
            &folder,
            point.offset,
            unsynced,
            tail.end,
            (tail.base, tail.bytes),
        ));
        shared.committer.request(&sync);
        let jitter = jitter(&shared, &config);
        let uncaptured =
            Uncaptured::new(partition, report.reread.get(), shared.metrics.uncaptured_bytes.clone());
        let producer_share = shared.producer_room.share_of(tail.producers.len());
        let log = Arc::new_cyclic(|this| Log {
            this: this.clone(),
            partition,
            topic,
            folder,
            shared,
            config: RwLock::new(Arc::new(config)),
            books: Mutex::new(Books { point, written, names_swaps: compacted.is_or_was(), gap_mark }),
            waiting: Mutex::new(None),
            state: Mutex::new(State {
                sealed,
                active,
                jitter,
                log_start,
                local_start,
                compacted,
                condition,
                uncaptured,
                cuts: Cuts::default(),
                tail,
                producer_share,
            }),
            sync,
            high_watermark: AtomicI64::new(high_watermark.get()),
            departures: AtomicU64::new(0),
            damage: Mutex::default(),
            report,
        });
        for finding in &log.report.findings {
            if let RecoveryFinding::Corrupt(corruption) = finding {
                log.note_damage(corruption);
            }
        }
        log
    }

    /// Whose log this is.
    pub fn partition(&self) -> TopicPartition {
        self.partition
    }

    /// The topic's name, for people.
    pub fn topic(&self) -> &TopicName {
        &self.topic
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// Has `observer` called each time the synced end has risen; it must be quick. Only one can be set.
    pub fn on_synced(&self, observer: Box<dyn Fn() + Send + Sync>) {
        self.sync.observe(observer);
    }

    /// How often its end was cut or moved.
    pub fn cuts(&self) -> Cuts {
        self.state.lock().cuts
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.read().clone()
    }

    /// Replaces the settings; the next append goes by them.
    pub fn set_config(&self, config: LogConfig) {
        let mut state = self.state.lock();
        state.jitter = jitter(&self.shared, &config);
        let clean_below = &mut state.compacted.clean_below;
        *clean_below = clean_below.or(config.cleanup.start());
        drop(state);
        *self.config.write() = Arc::new(config);
    }

    /// What was found and done when the log was opened.
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// Whether it was blank when it was opened, and no leader has begun in it since: it may have lost what it held.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.report.is_blank && self.latest_epoch().is_none()
    }

    /// The damage for which the log takes no appends, if there is any. Reads work up to it; nothing was cut.
    pub fn corruption(&self) -> Option<Corruption> {
        match &self.state.lock().condition {
            Condition::Corrupt(corruption) => Some(corruption.clone()),
            Condition::Open | Condition::Closed => None,
        }
    }

    /// Where the log begins and ends.
    pub fn offsets(&self) -> LogOffsets {
        let state = self.state.lock();
        let synced = self.sync.synced();
        LogOffsets { start: state.log_start, local_start: state.local_start, end: state.tail.end, synced }
    }

    /// Where the next record goes.
    pub fn end(&self) -> Offset {
        self.state.lock().tail.end
    }

    /// Up to where all survives a power cut; never beyond the end. A log of `durability=replicated` is synced only now and then:
    /// when it has grown by a checkpoint's bytes, when a segment closes, and on [`Log::flush`]. Of a log
    /// that was opened alone, rather than with [`super::LogDir::open_many`], what lies behind the checkpoint is synced in the
    /// background.
    pub fn synced(&self) -> watch::Receiver<Offset> {
        self.sync.subscribe()
    }

    /// The synced end right now.
    pub fn synced_end(&self) -> Offset {
        self.sync.synced()
    }

    /// Has all synced that was appended so far, or found at the opening, and waits for it. The directory may fail over it.
    pub(super) fn settle(&self) {
        if let Some(then) = self.shared.committer.sync(&self.sync) {
            then();
        }
    }

    /// Asks for a sync of all that was appended so far; [`Log::synced`] tells when it is done. Does not wait.
    pub fn flush(&self) {
        self.shared.committer.request(&self.sync);
    }

    /// The first offset that readers of committed records may not see although it is below `high_watermark`: of a transaction
    /// that is open or whose marker is not replicated yet. `None`: the last stable offset is the high watermark.
    pub fn first_unstable(&self, high_watermark: Offset) -> Option<Offset> {
        self.state.lock().tail.producers.first_unstable(high_watermark)
    }

    /// The high watermark as last noted, or as it was in the last checkpoint; at most the end. After a start it may lag.
    pub fn high_watermark_hint(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Relaxed)).unwrap_or(Offset::ZERO)
    }

    /// Notes the high watermark for the next checkpoint.
    pub fn note_high_watermark(&self, offset: Offset) {
        self.high_watermark.store(offset.get(), Ordering::Relaxed);
    }

    /// Notes that leader `epoch` starts at the log's end. Durable with its first batch: until then there is nothing that a
    /// follower could hold of it. An epoch that is not newer than the newest changes nothing.
    pub fn begin_epoch(&self, epoch: LeaderEpoch) {
        let mut state = self.state.lock();
        let end = state.tail.end;
        state.tail.epochs.assign(epoch, end);
    }

    /// The leaders of this log.
    pub fn epochs(&self) -> LeaderEpochs {
        self.state.lock().tail.epochs.clone()
    }

    /// The newest leader's epoch.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.state.lock().tail.epochs.latest()
    }

    /// Where the largest epoch up to `epoch` ended; see [`LeaderEpochs::end_of`].
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let state = self.state.lock();
        state.tail.epochs.end_of(epoch, state.tail.end)
    }

    /// Whose record the one at `offset` is.
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.state.lock().tail.epochs.epoch_at(offset)
    }

    /// Bytes of batches on this disk.
    pub fn size(&self) -> ByteCount {
        let state = self.state.lock();
        state.sealed.iter().map(|sealed| sealed.facts.bytes).sum::<ByteCount>() + ByteCount(state.tail.bytes)
    }

    /// Bytes in the open segment.
    pub fn active_size(&self) -> ByteCount {
        ByteCount(self.state.lock().tail.bytes)
    }

    /// Where the open segment starts: what is closed lies below.
    pub fn sealed_end(&self) -> Offset {
        self.state.lock().tail.base
    }

    /// Where the oldest segment on this disk starts; at most the local start, which may lie within it.
    pub fn first_base(&self) -> Offset {
        let state = self.state.lock();
        state.sealed.front().map_or(state.tail.base, |sealed| sealed.facts.range.base)
    }

    /// The closed segments that reach beyond `from`. Costs as much as there are of these, not as there are segments.
    pub fn sealed_beyond(&self, from: Offset) -> SealedSum {
        let state = self.state.lock();
        let first = state.sealed.partition_point(|sealed| sealed.facts.range.next <= from);
        let beyond = state.sealed.range(first..);
        SealedSum {
            segments: beyond.len(),
            bytes: beyond.clone().map(|sealed| sealed.facts.bytes).sum(),
            oldest: beyond.map(|sealed| sealed.facts.sealed_at).min(),
        }
    }

    /// When the open segment got its first batch, by the broker's clock; `None` while it is empty.
    pub fn active_since(&self) -> Option<Timestamp> {
        self.state.lock().tail.builder.running.since
    }

    /// How many idempotent producers it remembers.
    pub fn producer_count(&self) -> usize {
        self.state.lock().tail.producers.len()
    }

    /// What it remembers of these, by id.
    pub fn producers(&self) -> Vec<ProducerState> {
        self.state.lock().tail.producers.states()
    }

    /// What is known to be damaged on this disk: of each file what was found first. Readers are refused that, and nothing else.
    pub fn damage(&self) -> Vec<Corruption> {
        self.damage.lock().files.values().cloned().collect()
    }

    /// The closed segments that are damaged.
    pub fn damaged_segments(&self) -> Vec<OffsetRange> {
        let damage = self.damage.lock();
        if damage.files.is_empty() {
            return Vec::new();
        }
        let files: Vec<PathBuf> = damage.files.keys().cloned().collect();
        drop(damage);
        let state = self.state.lock();
        let damaged = state.sealed.iter().filter(|sealed| files.iter().any(|file| file == sealed.log.path()));
        damaged.map(|sealed| sealed.facts.range).collect()
    }

    /// Takes note of damage, and tells whoever mends. Said and counted once for each file.
    pub(super) fn note_damage(&self, corruption: &Corruption) {
        {
            let mut damage = self.damage.lock();
            if damage.is_over || damage.files.contains_key(&corruption.file) {
                return;
            }
            damage.files.insert(corruption.file.clone(), corruption.clone());
            // Under the lock, so that nobody takes away what was not added yet.
            self.shared.metrics.damaged_files.inc();
        }
        {
            // Whatever was known of it.
            let state = self.state.lock();
            let mut slots = state.sealed.iter().map(|sealed| &sealed.log).chain([&state.active]);
            if let Some(slot) = slots.find(|slot| slot.path() == corruption.file) {
                slot.forget_from(corruption.position);
            }
        }
        self.shared.metrics.corruptions.inc();
        tracing::error!(log = %self.partition, topic = %self.topic, %corruption, "a file of a log is damaged");
        self.shared.damaged.notify_one();
    }

    /// Forgets the damage of files that `is_over` says are whole again, or gone.
    pub(super) fn forget_damage(&self, is_over: impl Fn(&Path) -> bool) {
        let mut damage = self.damage.lock();
        let before = damage.files.len();
        damage.files.retain(|file, _| !is_over(file));
        let over = before - damage.files.len();
        self.shared.metrics.damaged_files.dec_by(i64::try_from(over).unwrap_or(i64::MAX));
    }

    /// Forgets all damage, and takes note of none from now on: the log is about to go.
    pub(super) fn end_damage(&self) {
        self.damage.lock().is_over = true;
        self.forget_damage(|_| true);
    }

    pub(super) fn depart(&self) {
        self.departures.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.world.clock.wall()
    }
}

/// A part of `segment.jitter.ms`, drawn anew for each segment.
pub(super) fn jitter(shared: &Shared, config: &LogConfig) -> Duration {
    if config.segment_jitter_ms.is_zero() {
        return Duration::ZERO;
    }
    let millis = u64::try_from(config.segment_jitter_ms.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(shared.world.rng.number() % millis.saturating_add(1).max(1))
}
