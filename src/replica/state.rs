//! A partition's replica on this broker, and its role.

use std::sync::Arc;

use aquifer_model::{LeaderEpoch, Offset, TopicName, TopicPartition};
use aquifer_runtime::World;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::archive::Archive;
use super::disk::DiskGuard;
use super::error::RoleError;
use super::progress::{Own, Progress};
use super::survival::Survival;
use crate::config::TopicConfig;
use crate::log::{Log, LogConfig};
use crate::metadata::image::Partition;

/// What a replica may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// It appends and serves.
    Leader(LeaderEpoch),
    /// It will lead under this epoch once the bucket has told where the partition ends.
    Recovering(LeaderEpoch),
    /// Another broker leads, or none.
    NotLeading,
    /// It cannot be used on this broker; here is why.
    Offline(String),
}

/// How far a partition may be read, and by which leader's word. Watched by every wait for an acknowledgement or for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// The epoch under which this broker leads; `None` while it does not.
    pub(crate) leading: Option<LeaderEpoch>,
    /// The first offset that is not acknowledged.
    pub(crate) high_watermark: Offset,
}

/// One partition on this broker.
#[derive(Debug)]
pub(crate) struct Replica {
    log: Arc<Log>,
    config: RwLock<Arc<TopicConfig>>,
    state: Mutex<State>,
    marks: watch::Sender<Marks>,
    archive: Archive,
    survival: Survival,
    disk: Arc<DiskGuard>,
    world: World,
}

#[derive(Debug)]
struct State {
    role: Role,
    progress: Progress,
    /// Where the epoch under which this broker leads began.
    epoch_start: Offset,
}

impl Replica {
    /// A replica over its open log; it serves once it is told to lead.
    pub(super) fn new(
        log: Arc<Log>,
        survival: Survival,
        config: TopicConfig,
        disk: Arc<DiskGuard>,
        world: World,
    ) -> Arc<Replica> {
        let high_watermark = log.high_watermark_hint();
        let (marks, _) = watch::channel(Marks { leading: None, high_watermark });
        let progress = Progress::new(high_watermark, 0, 1);
        let (role, epoch_start) = (Role::NotLeading, Offset::ZERO);
        let archive = Archive::new();
        let replica = Arc::new(Replica {
            log,
            config: RwLock::new(Arc::new(config)),
            state: Mutex::new(State { role, progress, epoch_start }),
            marks,
            archive,
            survival,
            disk,
            world,
        });
        let weak = Arc::downgrade(&replica);
        replica.log.on_synced(Box::new(move || {
            if let Some(replica) = weak.upgrade() {
                replica.advance();
            }
        }));
        replica
    }

    /// Which partition.
    pub(crate) fn partition(&self) -> TopicPartition {
        self.log.partition()
    }

    /// Its topic's name.
    pub(crate) fn topic(&self) -> &TopicName {
        self.log.topic()
    }

    /// Its local log.
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Its topic's configuration.
    pub(crate) fn config(&self) -> Arc<TopicConfig> {
        self.config.read().clone()
    }

    /// The outside world.
    pub(super) fn world(&self) -> &World {
        &self.world
    }

    /// How full the disk is that it lies on.
    pub(super) fn disk(&self) -> &DiskGuard {
        &self.disk
    }

    /// Its way into the bucket.
    pub(super) fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Whether the bucket must be asked where the partition ends before this replica may lead.
    pub(super) fn must_ask_tier(&self, partition_is_new: bool) -> bool {
        let config = self.config();
        config.tiered && self.survival.may_have_lost(config.durability, partition_is_new)
    }

    /// What it may do now.
    pub(crate) fn role(&self) -> Role {
        self.state.lock().role.clone()
    }

    /// Its watermarks, to wait on.
    pub(crate) fn marks(&self) -> watch::Receiver<Marks> {
        self.marks.subscribe()
    }

    /// The first offset that is not acknowledged.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.marks.borrow().high_watermark
    }

    /// The first offset that a reader of committed records may not see.
    pub(crate) fn last_stable(&self) -> Offset {
        let high_watermark = self.high_watermark();
        self.log.first_unstable(high_watermark).unwrap_or(high_watermark)
    }

    /// Checks that this broker leads, and under the epoch that the caller names (-1 names none).
    pub(crate) fn check_leader(&self, epoch_asked: i32) -> Result<LeaderEpoch, RoleError> {
        let current = match &self.state.lock().role {
            Role::Leader(epoch) => *epoch,
            Role::Recovering(_) => return Err(RoleError::Recovering),
            Role::NotLeading => return Err(RoleError::NotLeader),
            Role::Offline(reason) => return Err(RoleError::Offline(reason.clone())),
        };
        match epoch_asked {
            asked if asked < 0 || asked == current.get() => Ok(current),
            asked if asked < current.get() => Err(RoleError::FencedEpoch { asked, current }),
            asked => Err(RoleError::UnknownEpoch { asked, current }),
        }
    }

    /// How many replicas are in sync, and how many must be.
    pub(crate) fn in_sync(&self) -> (usize, usize) {
        self.state.lock().progress.in_sync()
    }

    /// Takes the lead under the partition's epoch, at once or, with `Role::Recovering`, once [`Replica::recovered`] is called.
    pub(super) fn lead(&self, partition: &Partition, role: Role) {
        let in_sync_min = self.in_sync_min(partition);
        let mut state = self.state.lock();
        state.progress.set_in_sync(partition.isr.len(), in_sync_min);
        state.role = role;
        self.begin_epoch(&mut state);
        self.publish(&state);
        self.advance_locked(&mut state);
    }

    /// Stops serving until [`Replica::recovered`]: the bucket contradicts the log. Gives whether it led under this epoch.
    pub(super) fn suspend(&self, epoch: LeaderEpoch) -> bool {
        let mut state = self.state.lock();
        if !matches!(state.role, Role::Leader(current) | Role::Recovering(current) if current == epoch) {
            return false;
        }
        state.role = Role::Recovering(epoch);
        self.publish(&state);
        true
    }

    /// The bucket has told where the partition ends: takes the lead that was held back.
    pub(super) fn recovered(&self, epoch: LeaderEpoch) {
        let mut state = self.state.lock();
        if state.role != Role::Recovering(epoch) {
            return;
        }
        // Everything up to the tier's end was acknowledged once; the hint of a log that was dropped says nothing more.
        let (in_sync, in_sync_min) = state.progress.in_sync();
        let high_watermark = self.log.high_watermark_hint().max(self.log.offsets().start);
        state.progress = Progress::new(high_watermark, in_sync, in_sync_min);
        state.role = Role::Leader(epoch);
        self.begin_epoch(&mut state);
        self.publish(&state);
        self.advance_locked(&mut state);
    }

    fn begin_epoch(&self, state: &mut State) {
        if let Role::Leader(epoch) = state.role {
            self.log.begin_epoch(epoch);
            state.epoch_start = self.log.end();
        }
    }

    /// Whether all that was acknowledged before this broker led is known to be. Until then nobody must be told where the end is
    /// (KIP-207): it could lie before what they have read.
    pub(super) fn knows_its_end(&self) -> bool {
        let state = self.state.lock();
        state.progress.high_watermark() >= state.epoch_start
    }

    /// Takes another configuration.
    pub(super) fn set_config(&self, config: TopicConfig, partition: &Partition) {
        self.log.set_config(LogConfig::from(&config));
        *self.config.write() = Arc::new(config);
        self.refresh(partition);
    }

    /// Takes a change of the ISR or of the topic's configuration.
    pub(super) fn refresh(&self, partition: &Partition) {
        let in_sync_min = self.in_sync_min(partition);
        self.state.lock().progress.set_in_sync(partition.isr.len(), in_sync_min);
        self.advance();
    }

    /// Stops serving, because another broker leads or none; every waiter hears of it.
    pub(super) fn stop_leading(&self) {
        self.leave(Role::NotLeading);
    }

    /// Stops serving, because it cannot; every waiter hears of it.
    pub(super) fn go_offline(&self, reason: String) {
        self.leave(Role::Offline(reason));
    }

    fn leave(&self, role: Role) {
        let mut state = self.state.lock();
        state.role = role;
        self.publish(&state);
    }

    /// Looks how far the log is safe, and lets the watermark follow.
    pub(super) fn advance(&self) {
        self.advance_locked(&mut self.state.lock());
    }

    fn advance_locked(&self, state: &mut State) {
        if !matches!(state.role, Role::Leader(_)) {
            return;
        }
        let offsets = self.log.offsets();
        let own = Own { end: offsets.end, synced: offsets.synced, durability: self.config.read().durability };
        if let Some(high_watermark) = state.progress.advance(own) {
            self.log.note_high_watermark(high_watermark);
            self.publish(state);
        }
    }

    fn in_sync_min(&self, partition: &Partition) -> usize {
        (self.config.read().min_insync_replicas as usize).min(partition.replicas.len())
    }

    /// Under the lock of the state, so that what is told last is what holds.
    fn publish(&self, state: &State) {
        let leading = match state.role {
            Role::Leader(epoch) => Some(epoch),
            Role::Recovering(_) | Role::NotLeading | Role::Offline(_) => None,
        };
        let marks = Marks { leading, high_watermark: state.progress.high_watermark() };
        self.marks.send_if_modified(|told| std::mem::replace(told, marks) != marks);
    }
}
