//! The task that owns a book: it reads the book from its partition when this broker begins to lead that, judges what is asked,
//! appends what must be kept, and lets answers go once it is.
//!
//! Everything asked in one go is appended together, so that a thousand commits cost one sync. While the partition takes no
//! records (a full disk, too few replicas) each request is judged alone, so that those who only read are served. If the partition
//! is led elsewhere, or it is not known what of a step was written, the book is dropped, whoever waits is told to ask again, and
//! it is read anew.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, LeaderEpoch, Offset, TopicId};
use aquifer_protocol::Str;
use aquifer_runtime::World;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batches::batches;
use super::book::{Book, Rules};
use super::classic::{Join, Sync};
use super::desk::Desk;
use super::effects::{Effects, JoinRefused, Joined, Now, Synced};
use super::error::{GroupError, Unavailable};
use super::load::{LoadError, load};
use super::metrics::GroupMetrics;
use crate::log;
use crate::metadata::Metadata;
use crate::replica::error::{AppendError, RoleError};
use crate::replica::{Marks, Replica};

/// Requests that may wait for one shard; who comes later waits to be let in.
const JOBS_MAX: usize = 1024;
/// Requests that are judged before what they want kept is appended.
const JOBS_PER_STEP: usize = 256;
/// How long to wait before a partition that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What a shard can be asked to do; it is told if it will not be done.
type Job = Box<dyn FnOnce(Result<&mut Desk, Unavailable>) + Send>;

/// A way to a shard.
#[derive(Debug, Clone)]
pub(crate) struct Shard {
    jobs: mpsc::Sender<Job>,
    status: watch::Receiver<Status>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    NotLeading,
    Loading,
    Serving,
}

impl Status {
    fn refusal(self) -> Option<Unavailable> {
        match self {
            Status::NotLeading => Some(Unavailable::NotCoordinator),
            Status::Loading => Some(Unavailable::Loading),
            Status::Serving => None,
        }
    }
}

impl Shard {
    /// Asks something of the book that is answered at once.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&mut Book, Now, &mut Effects) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |desk| match desk {
            Err(unavailable) => drop(answer.send(Err(unavailable))),
            Ok(desk) => {
                let found = ask(&mut desk.book, desk.now, &mut desk.effects);
                desk.answer(Box::new(move |kept| drop(answer.send(kept.map(|()| found)))));
            }
        });
        self.send(job, answered).await
    }

    /// Lets a member into a group; answered when the group's round is over.
    pub(crate) async fn join(
        &self,
        group: Str,
        join: Join,
    ) -> Result<Result<Joined, JoinRefused>, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |desk| match desk {
            Err(unavailable) => drop(answer.send(Err(unavailable))),
            Ok(desk) => {
                let ticket = desk.wait_to_join(answer);
                desk.book.join(&group, join, ticket, desk.now, &mut desk.effects);
            }
        });
        self.send(job, answered).await
    }

    /// Tells a member what to read; answered when its leader has said so.
    pub(crate) async fn sync(
        &self,
        group: Str,
        sync: Sync,
    ) -> Result<Result<Synced, GroupError>, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |desk| match desk {
            Err(unavailable) => drop(answer.send(Err(unavailable))),
            Ok(desk) => {
                let ticket = desk.wait_to_sync(answer);
                desk.book.sync(&group, sync, ticket, desk.now, &mut desk.effects);
            }
        });
        self.send(job, answered).await
    }

    async fn send<T>(
        &self,
        job: Job,
        answered: oneshot::Receiver<Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        let refusal = self.status.borrow().refusal();
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if self.jobs.send(job).await.is_err() {
            return Err(Unavailable::NotCoordinator);
        }
        answered.await.unwrap_or(Err(Unavailable::NotCoordinator))
    }
}

/// What a shard needs of the outside.
pub(super) struct Surroundings {
    pub(super) replica: Arc<Replica>,
    pub(super) metadata: Metadata,
    pub(super) metrics: GroupMetrics,
    pub(super) world: World,
    pub(super) rules: Rules,
    /// Between two looks for positions that are too old.
    pub(super) expiry_interval: Duration,
    /// How long what is appended may take to be acknowledged (`offsets.commit.timeout.ms`).
    pub(super) commit_timeout: Duration,
    pub(super) cancelled: CancellationToken,
}

/// A shard and the task that it needs.
pub(super) fn shard(surroundings: Surroundings) -> (Shard, impl Future<Output = ()> + Send) {
    let (jobs, todo) = mpsc::channel(JOBS_MAX);
    let (status, told) = watch::channel(Status::NotLeading);
    (Shard { jobs, status: told }, Task { around: surroundings, todo, status }.run())
}

struct Task {
    around: Surroundings,
    todo: mpsc::Receiver<Job>,
    status: watch::Sender<Status>,
}

/// What came of reading a book.
enum Opened {
    Desk(Box<Desk>),
    /// The partition is led elsewhere, or under another epoch.
    Deposed,
    /// The broker stops.
    Stopped,
}

/// Why a book is closed.
enum Closed {
    /// The broker stops.
    Stopped,
    /// The partition is led elsewhere, or under another epoch.
    Deposed,
    /// It is not known what of a step was written.
    Lost(AppendError),
}

/// Why a step's records are not all in the log.
enum Unwritten {
    /// None of them is.
    None(String),
    Closed(Closed),
}

impl Task {
    async fn run(mut self) {
        let mut marks = self.around.replica.marks();
        loop {
            let leading = marks.borrow_and_update().leading;
            let Some(epoch) = leading else {
                self.status.send_replace(Status::NotLeading);
                self.refuse_all(&Unavailable::NotCoordinator);
                tokio::select! {
                    () = self.around.cancelled.cancelled() => return,
                    changed = marks.changed() => if changed.is_err() { return },
                    // Whoever asked before it saw that nobody leads.
                    job = self.todo.recv() => match job {
                        Some(job) => job(Err(Unavailable::NotCoordinator)),
                        None => return,
                    },
                }
                continue;
            };
            self.status.send_replace(Status::Loading);
            let mut desk = match self.open(epoch, &mut marks).await {
                Ok(Opened::Desk(desk)) => desk,
                Ok(Opened::Deposed) => continue,
                Ok(Opened::Stopped) => return self.stop(),
                Err(error) => {
                    let partition = self.around.replica.partition();
                    tracing::error!(%partition, %error, "groups cannot be read from their partition; trying again");
                    if self.pause().await {
                        continue;
                    }
                    return self.stop();
                }
            };
            self.status.send_replace(Status::Serving);
            let closed = self.serve(&mut desk, epoch, &mut marks).await;
            let why = match &closed {
                Closed::Stopped | Closed::Deposed => Unavailable::NotCoordinator,
                Closed::Lost(error) => {
                    let partition = self.around.replica.partition();
                    tracing::error!(%partition, %error, "groups cannot be kept in their partition; reading it again");
                    self.around.metrics.shards_reread.inc();
                    Unavailable::Lost(error.to_string())
                }
            };
            desk.close(&why);
            self.status.send_replace(Status::Loading);
            self.refuse_all(&why);
            match closed {
                Closed::Stopped => return self.stop(),
                Closed::Deposed => {}
                Closed::Lost(_) => {
                    if !self.pause().await {
                        return self.stop();
                    }
                }
            }
        }
    }

    /// Ends for good.
    fn stop(&mut self) {
        self.status.send_replace(Status::NotLeading);
        self.refuse_all(&Unavailable::NotCoordinator);
    }

    /// Waits before a partition is tried again; false if the broker stops.
    async fn pause(&self) -> bool {
        tokio::select! {
            () = self.around.cancelled.cancelled() => false,
            () = tokio::time::sleep(RETRY) => true,
        }
    }

    /// Refuses what came in while nobody served.
    fn refuse_all(&mut self, why: &Unavailable) {
        while let Ok(job) = self.todo.try_recv() {
            job(Err(why.clone()));
        }
    }

    /// Reads all that was ever acknowledged into a book.
    async fn open(
        &mut self,
        epoch: LeaderEpoch,
        marks: &mut watch::Receiver<Marks>,
    ) -> Result<Opened, LoadError> {
        let replica = self.around.replica.clone();
        let mut book = Book::new(self.around.rules);
        let began = self.around.world.clock.now();
        // What the log holds now may not all be acknowledged yet; it will be, unless another leads.
        let end = replica.log().end();
        let mut next = Offset::ZERO;
        loop {
            let Surroundings { world, metrics, cancelled, .. } = &self.around;
            next = load(&replica, &mut book, next, world, metrics, cancelled).await?;
            if cancelled.is_cancelled() {
                return Ok(Opened::Stopped);
            }
            if next >= end {
                break;
            }
            tokio::select! {
                () = cancelled.cancelled() => return Ok(Opened::Stopped),
                changed = marks.changed() => {
                    if changed.is_err() {
                        return Ok(Opened::Stopped);
                    }
                    if marks.borrow_and_update().leading != Some(epoch) {
                        return Ok(Opened::Deposed);
                    }
                }
            }
        }
        let took = began.elapsed();
        tracing::debug!(partition = %replica.partition(), groups = book.len(), ?took, "groups are read");
        let mut desk = Desk::new(book, next, self.now(), &self.around.metrics);
        // It knows at least what was known under any earlier epoch, and so every topic that a position was stored of.
        let image = self.around.metadata.image();
        desk.book.see(image.clone());
        let is_there = |name: &str, id: Option<TopicId>| match id {
            Some(id) => image.topic(id).is_some(),
            None => image.topic_named(name).is_some(),
        };
        desk.book.open(is_there, desk.now, &mut desk.effects);
        Ok(Opened::Desk(Box::new(desk)))
    }

    fn now(&self) -> Now {
        Now { at: self.around.world.clock.now(), wall: self.around.world.clock.wall() }
    }

    async fn serve(
        &mut self,
        desk: &mut Desk,
        epoch: LeaderEpoch,
        marks: &mut watch::Receiver<Marks>,
    ) -> Closed {
        let mut expiry = Expiry { due: self.now().at + self.around.expiry_interval, after: None };
        // What opening the book takes back.
        if let Err(closed) = self.keep(desk, epoch) {
            return closed;
        }
        loop {
            let due = [desk.book.next_deadline(), desk.next_deadline(), Some(expiry.due)];
            let due = due.into_iter().flatten().min().unwrap_or(expiry.due);
            let job = tokio::select! {
                () = self.around.cancelled.cancelled() => return Closed::Stopped,
                changed = marks.changed() => {
                    if changed.is_err() {
                        return Closed::Stopped;
                    }
                    None
                }
                job = self.todo.recv() => {
                    let Some(job) = job else { return Closed::Stopped };
                    Some(job)
                }
                () = tokio::time::sleep_until(due) => None,
            };
            // Before anything is judged: another may lead by now, and have judged otherwise.
            if marks.borrow().leading != Some(epoch) {
                return Closed::Deposed;
            }
            desk.now = self.now();
            desk.book.limit_batches(self.batch_bytes_max());
            desk.book.see(self.around.metadata.image());
            if let Some(job) = job {
                self.work(desk, job);
                if let Err(closed) = self.keep(desk, epoch) {
                    return closed;
                }
            }
            self.tick(desk, &mut expiry);
            if let Err(closed) = self.keep(desk, epoch) {
                return closed;
            }
            let told = *marks.borrow_and_update();
            if told.leading != Some(epoch) {
                return Closed::Deposed;
            }
            desk.release(told.high_watermark);
        }
    }

    /// Does a job, and those that came since.
    fn work(&mut self, desk: &mut Desk, job: Job) {
        job(Ok(desk));
        desk.effects.end_part();
        let jobs = if self.around.replica.takes_records() { JOBS_PER_STEP } else { 1 };
        for _ in 1..jobs {
            let Ok(job) = self.todo.try_recv() else { break };
            job(Ok(desk));
            desk.effects.end_part();
        }
    }

    /// Does what is due.
    fn tick(&self, desk: &mut Desk, expiry: &mut Expiry) {
        desk.book.tick(desk.now, &mut desk.effects);
        if expiry.due <= desk.now.at {
            expiry.after = desk.book.expire(expiry.after.as_ref(), desk.now, &mut desk.effects);
            if expiry.after.is_none() {
                expiry.due = desk.now.at + self.around.expiry_interval;
            }
        }
    }

    /// Appends what this step wants kept, and puts its answers behind it.
    fn keep(&self, desk: &mut Desk, epoch: LeaderEpoch) -> Result<(), Closed> {
        match self.append(desk, epoch) {
            Ok(()) => desk.written(self.around.commit_timeout),
            Err(Unwritten::Closed(closed)) => return Err(closed),
            Err(Unwritten::None(why)) => {
                let partition = self.around.replica.partition();
                tracing::warn!(%partition, why, "groups cannot be written to their partition now");
                self.around.metrics.steps_not_written.inc();
                desk.not_written(&Unavailable::NotWritten(why));
            }
        }
        Ok(())
    }

    fn append(&self, desk: &mut Desk, epoch: LeaderEpoch) -> Result<(), Unwritten> {
        let Effects { records, parts, .. } = &desk.effects;
        let batches = batches(records, parts, desk.now, self.batch_bytes_max());
        let mut is_first = true;
        for batch in batches.map_err(|error| Unwritten::None(error.to_string()))? {
            match self.around.replica.append_under(epoch, batch) {
                Ok(records) => desk.end = records.upto,
                Err(error) if is_first && wrote_nothing(&error) => {
                    return Err(Unwritten::None(error.to_string()));
                }
                Err(AppendError::Role(_)) => return Err(Unwritten::Closed(Closed::Deposed)),
                Err(error) => return Err(Unwritten::Closed(Closed::Lost(error))),
            }
            is_first = false;
        }
        Ok(())
    }

    fn batch_bytes_max(&self) -> usize {
        let ByteCount(bytes_max) = self.around.replica.config().records.batch_bytes_max;
        usize::try_from(bytes_max).unwrap_or(usize::MAX)
    }
}

/// When positions that are too old are looked for, and behind which group.
struct Expiry {
    due: Instant,
    after: Option<Str>,
}

/// Whether a refused batch surely is not in the log, and the next may be taken.
fn wrote_nothing(error: &AppendError) -> bool {
    match error {
        AppendError::NotEnoughReplicas { .. } | AppendError::DiskFull => true,
        AppendError::Role(error) => match error {
            RoleError::NotLeader
            | RoleError::FencedEpoch { .. }
            | RoleError::UnknownEpoch { .. }
            | RoleError::Offline(_)
            | RoleError::Recovering => false,
        },
        AppendError::Log(error) => match error {
            log::AppendError::TooLarge { .. }
            | log::AppendError::SegmentTooLarge { .. }
            | log::AppendError::Batch(_)
            | log::AppendError::Invalid(_)
            | log::AppendError::Timestamp { .. }
            | log::AppendError::OutOfOrderSequence { .. }
            | log::AppendError::ProducerFenced { .. }
            | log::AppendError::Full => true,
            log::AppendError::StaleEpoch { .. }
            | log::AppendError::Failed
            | log::AppendError::Corrupt(_)
            | log::AppendError::Closed => false,
        },
    }
}
