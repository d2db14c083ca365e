//! The task that owns a book: it reads the book from its partition when this broker begins to lead that, judges what is asked,
//! appends what must be kept, and lets answers go once it is.
//!
//! Everything asked in one go is appended as one batch, so that a thousand commits cost one sync. Answers wait for the high
//! watermark in the order in which they were found, those that merely read among them: nobody is told what could still be lost.
//! If the partition is led elsewhere, or cannot be written to, the book is dropped, whoever waits is told to ask again, and it is
//! read anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, LeaderEpoch, Offset};
use aquifer_protocol::Str;
use aquifer_runtime::World;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::book::{Book, Rules};
use super::classic::{Join, Sync};
use super::effects::{Effects, JoinRefused, Joined, Now, Synced, Ticket};
use super::error::GroupError;
use super::load::{LoadError, load};
use super::record::Record;
use crate::replica::error::AppendError;
use crate::replica::{Acks, Marks, Replica};

/// Requests that may wait for one shard; who comes later waits to be let in.
const JOBS_MAX: usize = 1024;
/// Requests that are judged before what they want kept is appended.
const JOBS_PER_STEP: usize = 256;
/// More than a batch's header and the numbers of a record take.
const FRAMING_BYTES: usize = 128;
/// How long to wait before a partition that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why a shard does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// Ask the broker that leads the group's partition.
    #[error("this broker does not coordinate the group")]
    NotCoordinator,
    /// Ask again soon.
    #[error("the group is being read from __consumer_offsets")]
    Loading,
    /// Ask again; whether it was done is not known.
    #[error("what was asked could not be kept: {0}")]
    NotKept(String),
}

/// What a shard can be asked to do; it is told if it will not be done.
type Job = Box<dyn FnOnce(Result<&mut Desk, Unavailable>) + Send>;
/// An answer that waits until what it rests on is safe.
type Release = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;
/// Where a request waits for its answer.
type Answer<T> = oneshot::Sender<Result<T, Unavailable>>;

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
                desk.releases.push(Box::new(move |kept| drop(answer.send(kept.map(|()| found)))));
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
                let ticket = desk.ticket();
                desk.joining.insert(ticket, answer);
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
                let ticket = desk.ticket();
                desk.syncing.insert(ticket, answer);
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

/// A book that is open, and who waits for it.
struct Desk {
    book: Book,
    now: Now,
    effects: Effects,
    /// Answers found in this step.
    releases: Vec<Release>,
    joining: HashMap<Ticket, Answer<Result<Joined, JoinRefused>>>,
    syncing: HashMap<Ticket, Answer<Result<Synced, GroupError>>>,
    tickets: u64,
    /// Answers that wait for the high watermark, oldest first.
    waiting: VecDeque<Waiting>,
    /// Where what was appended last ends.
    end: Offset,
}

struct Waiting {
    upto: Offset,
    deadline: Instant,
    releases: Vec<Release>,
}

/// Why a book is closed.
enum Closed {
    /// The broker stops.
    Stopped,
    /// The partition is led elsewhere, or under another epoch.
    Deposed,
    /// What had to be kept could not be.
    NotKept(AppendError),
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
                Ok(Some(desk)) => desk,
                Ok(None) => continue,
                Err(error) => {
                    let partition = self.around.replica.partition();
                    tracing::error!(%partition, %error, "groups cannot be read from their partition; trying again");
                    tokio::select! {
                        () = self.around.cancelled.cancelled() => return,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                    continue;
                }
            };
            self.status.send_replace(Status::Serving);
            let closed = self.serve(&mut desk, epoch, &mut marks).await;
            let why = match &closed {
                Closed::Stopped | Closed::Deposed => Unavailable::NotCoordinator,
                Closed::NotKept(error) => {
                    let partition = self.around.replica.partition();
                    tracing::error!(%partition, %error, "groups cannot be kept in their partition; reading it again");
                    Unavailable::NotKept(error.to_string())
                }
            };
            desk.close(&why);
            self.status.send_replace(Status::Loading);
            self.refuse_all(&why);
            if matches!(closed, Closed::Stopped) {
                self.status.send_replace(Status::NotLeading);
                return;
            }
            if matches!(closed, Closed::NotKept(_)) {
                tokio::select! {
                    () = self.around.cancelled.cancelled() => return,
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        }
    }

    /// Refuses what came in while nobody served.
    fn refuse_all(&mut self, why: &Unavailable) {
        while let Ok(job) = self.todo.try_recv() {
            job(Err(why.clone()));
        }
    }

    /// Reads all that was ever acknowledged into a book; nothing if this broker leads no more.
    async fn open(
        &mut self,
        epoch: LeaderEpoch,
        marks: &mut watch::Receiver<Marks>,
    ) -> Result<Option<Desk>, LoadError> {
        let replica = self.around.replica.clone();
        let mut book = Book::new(self.around.rules);
        let began = self.around.world.clock.now();
        // What the log holds now may not all be acknowledged yet; it will be, unless another leads.
        let end = replica.log().end();
        let mut next = Offset::ZERO;
        loop {
            next = load(&replica, &mut book, next, &self.around.world).await?;
            if next >= end {
                break;
            }
            tokio::select! {
                () = self.around.cancelled.cancelled() => return Ok(None),
                changed = marks.changed() => {
                    if changed.is_err() || marks.borrow_and_update().leading != Some(epoch) {
                        return Ok(None);
                    }
                }
            }
        }
        let took = began.elapsed();
        tracing::debug!(partition = %replica.partition(), groups = book.len(), ?took, "groups are read");
        Ok(Some(Desk {
            book,
            now: self.now(),
            effects: Effects::default(),
            releases: Vec::new(),
            joining: HashMap::new(),
            syncing: HashMap::new(),
            tickets: 0,
            waiting: VecDeque::new(),
            end: next,
        }))
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
        let mut expiry = self.now().at + self.around.expiry_interval;
        loop {
            let late = desk.waiting.front().map(|waiting| waiting.deadline);
            let due =
                [desk.book.next_deadline(), late, Some(expiry)].into_iter().flatten().min().unwrap_or(expiry);
            tokio::select! {
                () = self.around.cancelled.cancelled() => return Closed::Stopped,
                changed = marks.changed() => {
                    if changed.is_err() {
                        return Closed::Stopped;
                    }
                }
                job = self.todo.recv() => {
                    let Some(job) = job else { return Closed::Stopped };
                    desk.now = self.now();
                    job(Ok(desk));
                    for _ in 1..JOBS_PER_STEP {
                        let Ok(job) = self.todo.try_recv() else { break };
                        job(Ok(desk));
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
            desk.now = self.now();
            desk.book.tick(desk.now, &mut desk.effects);
            if expiry <= desk.now.at {
                expiry = desk.now.at + self.around.expiry_interval;
                desk.book.expire(desk.now, &mut desk.effects);
            }
            if let Err(error) = self.keep(desk).await {
                return Closed::NotKept(error);
            }
            let told = *marks.borrow_and_update();
            if told.leading != Some(epoch) {
                return Closed::Deposed;
            }
            desk.release(told.high_watermark);
        }
    }

    /// Appends what this step wants kept, and puts its answers behind it.
    async fn keep(&self, desk: &mut Desk) -> Result<(), AppendError> {
        let bytes_max = record_bytes_max(self.around.replica.config().records.batch_bytes_max);
        let records = std::mem::take(&mut desk.effects.records);
        for batch in batches(&records, desk.now, bytes_max) {
            desk.end = self.around.replica.append(batch.into(), Acks::All).await?.upto;
        }
        let mut releases = std::mem::take(&mut desk.releases);
        for (ticket, joined) in std::mem::take(&mut desk.effects.joins) {
            if let Some(answer) = desk.joining.remove(&ticket) {
                releases.push(Box::new(move |kept| drop(answer.send(kept.map(|()| joined)))));
            }
        }
        for (ticket, synced) in std::mem::take(&mut desk.effects.syncs) {
            if let Some(answer) = desk.syncing.remove(&ticket) {
                releases.push(Box::new(move |kept| drop(answer.send(kept.map(|()| synced)))));
            }
        }
        if !releases.is_empty() {
            let deadline = desk.now.at + self.around.commit_timeout;
            desk.waiting.push_back(Waiting { upto: desk.end, deadline, releases });
        }
        Ok(())
    }
}

impl Desk {
    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Gives the answers that are safe now; tells those that waited too long that nobody knows.
    fn release(&mut self, high_watermark: Offset) {
        while let Some(waiting) = self.waiting.front() {
            let kept = if waiting.upto <= high_watermark {
                Ok(())
            } else if waiting.deadline <= self.now.at {
                Err(Unavailable::NotKept("not acknowledged in time".to_owned()))
            } else {
                return;
            };
            let releases = self.waiting.pop_front().map(|waiting| waiting.releases);
            for release in releases.into_iter().flatten() {
                release(kept.clone());
            }
        }
    }

    /// Tells everybody who waits that it is over.
    fn close(&mut self, why: &Unavailable) {
        let waiting = std::mem::take(&mut self.waiting).into_iter().flat_map(|waiting| waiting.releases);
        for release in waiting.chain(std::mem::take(&mut self.releases)) {
            release(Err(why.clone()));
        }
        for (_, answer) in self.joining.drain() {
            // Whoever asked may be gone.
            let _ = answer.send(Err(why.clone()));
        }
        for (_, answer) in self.syncing.drain() {
            let _ = answer.send(Err(why.clone()));
        }
    }
}

/// What the records of a batch may come to, less what a batch and a record have around them.
pub(super) fn record_bytes_max(batch_bytes_max: ByteCount) -> usize {
    usize::try_from(batch_bytes_max.get()).unwrap_or(usize::MAX).saturating_sub(FRAMING_BYTES)
}

/// Records as batches of at most so many bytes, unless it is one record alone.
fn batches(records: &[Record], now: Now, bytes_max: usize) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new();
    let mut finish = |builder: BatchBuilder| {
        batches.push(builder.finish(Compression::None).expect("nothing is compressed"));
    };
    for record in records {
        let key = record.key().expect("a group's name fits, or it would not have come in a request");
        let value = record.value().expect("what came in a request's strings fits into a record's");
        let bytes = key.len() + value.as_ref().map_or(0, Bytes::len) + FRAMING_BYTES;
        if builder.record_count() > 0 && builder.size() + bytes > bytes_max {
            finish(std::mem::take(&mut builder));
        }
        builder.push(now.wall, Some(&key), value.as_deref(), &[]);
    }
    if builder.record_count() > 0 {
        finish(builder);
    }
    batches
}
