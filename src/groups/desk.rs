//! A book that is open, and who waits for its answers.
//!
//! What is asked is done in steps. A step's records are appended together, and its answers wait behind them for the high watermark,
//! in the order in which they were found, those that merely read among them: nobody is told what could still be lost. If nothing
//! of a step can be stored, the book is taken back to what it was before, and whoever asked is told so.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use aquifer_model::Offset;
use aquifer_runtime::metrics::{Counter, Gauge};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::book::Book;
use super::effects::{Effects, JoinRefused, Joined, Now, Synced, Ticket};
use super::error::{GroupError, Unavailable};
use super::metrics::GroupMetrics;

/// An answer that waits until what it rests on is safe.
pub(super) type Release = Box<dyn FnOnce(Result<(), Unavailable>) + Send>;
/// Where a request waits for its answer.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Unavailable>>;

/// The book, and who waits.
pub(super) struct Desk {
    pub(super) book: Book,
    pub(super) now: Now,
    pub(super) effects: Effects,
    /// Answers found in this step.
    releases: Vec<Release>,
    joining: HashMap<Ticket, Answer<Result<Joined, JoinRefused>>>,
    syncing: HashMap<Ticket, Answer<Result<Synced, GroupError>>>,
    tickets: u64,
    /// Answers that wait for the high watermark, oldest first.
    waiting: VecDeque<Waiting>,
    /// Where what was appended last ends.
    pub(super) end: Offset,
    shown: Shown,
}

struct Waiting {
    upto: Offset,
    deadline: Instant,
    releases: Vec<Release>,
}

/// What metrics tell of the book for as long as it is open.
struct Shown {
    gauge: Gauge,
    groups: i64,
    counter: Counter,
    pending_forgotten: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.gauge.dec_by(self.groups);
    }
}

impl Desk {
    /// Opens a book that was read up to `end`.
    pub(super) fn new(book: Book, end: Offset, now: Now, metrics: &GroupMetrics) -> Desk {
        let shown = Shown {
            gauge: metrics.groups.clone(),
            groups: 0,
            counter: metrics.pending_forgotten.clone(),
            pending_forgotten: 0,
        };
        Desk {
            book,
            now,
            effects: Effects::default(),
            releases: Vec::new(),
            joining: HashMap::new(),
            syncing: HashMap::new(),
            tickets: 0,
            waiting: VecDeque::new(),
            end,
            shown,
        }
    }

    /// Has an answer wait for what this step stores.
    pub(super) fn answer(&mut self, release: Release) {
        self.releases.push(release);
    }

    /// Has a join wait for its group.
    pub(super) fn wait_to_join(&mut self, answer: Answer<Result<Joined, JoinRefused>>) -> Ticket {
        let ticket = self.ticket();
        self.joining.insert(ticket, answer);
        ticket
    }

    /// Has a sync wait for its group.
    pub(super) fn wait_to_sync(&mut self, answer: Answer<Result<Synced, GroupError>>) -> Ticket {
        let ticket = self.ticket();
        self.syncing.insert(ticket, answer);
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// When the oldest answer has waited too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.deadline)
    }

    /// What this step wants stored is in the log, up to `end`: its answers wait behind it.
    pub(super) fn written(&mut self, patience: Duration) {
        let Effects { records: _, before: _, parts: _, handed_in: _, joins, syncs } =
            std::mem::take(&mut self.effects);
        self.book.kept();
        let mut releases = std::mem::take(&mut self.releases);
        for (ticket, joined) in joins {
            if let Some(answer) = self.joining.remove(&ticket) {
                releases.push(Box::new(move |kept| drop(answer.send(kept.map(|()| joined)))));
            }
        }
        for (ticket, synced) in syncs {
            if let Some(answer) = self.syncing.remove(&ticket) {
                releases.push(Box::new(move |kept| drop(answer.send(kept.map(|()| synced)))));
            }
        }
        if !releases.is_empty() {
            self.waiting.push_back(Waiting { upto: self.end, deadline: self.now.at + patience, releases });
        }
        self.show();
    }

    /// Nothing of what this step wants stored is in the log: the step did not happen, and all whom it would have answered are told.
    pub(super) fn not_written(&mut self, why: &Unavailable) {
        let step = std::mem::take(&mut self.effects);
        let mut lost = Effects::default();
        self.book.undo(&step, self.now, &mut lost);
        let (joins, syncs) = (step.joins.iter().chain(&lost.joins), step.syncs.iter().chain(&lost.syncs));
        for release in std::mem::take(&mut self.releases) {
            release(Err(why.clone()));
        }
        for answer in joins.filter_map(|(ticket, _)| self.joining.remove(ticket)) {
            // Whoever asked may be gone.
            let _ = answer.send(Err(why.clone()));
        }
        for answer in syncs.filter_map(|(ticket, _)| self.syncing.remove(ticket)) {
            let _ = answer.send(Err(why.clone()));
        }
        self.show();
    }

    fn show(&mut self) {
        let groups = i64::try_from(self.book.len()).unwrap_or(i64::MAX);
        self.shown.gauge.inc_by(groups - self.shown.groups);
        self.shown.groups = groups;
        let forgotten = self.book.pending_forgotten();
        self.shown.counter.inc_by(forgotten - self.shown.pending_forgotten);
        self.shown.pending_forgotten = forgotten;
    }

    /// Gives the answers that are safe now; tells those that waited too long that nobody knows.
    pub(super) fn release(&mut self, high_watermark: Offset) {
        while let Some(waiting) = self.waiting.front() {
            let kept = if waiting.upto <= high_watermark {
                Ok(())
            } else if waiting.deadline <= self.now.at {
                Err(Unavailable::NotAcknowledged)
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
    pub(super) fn close(&mut self, why: &Unavailable) {
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

#[cfg(test)]
mod tests {
    use aquifer_model::{Timestamp, TopicId};
    use aquifer_protocol::Str;
    use aquifer_runtime::clock::Clock;

    use super::*;
    use crate::config::{Assignor, Assignors, GroupTime, Migration};
    use crate::groups::book::{Commit, Committer, Rules};
    use crate::groups::classic::Limits;
    use crate::groups::consumer::ConsumerLimits;

    fn desk() -> Desk {
        let limits = Limits {
            session_timeout_min: Duration::from_secs(6),
            session_timeout_max: Duration::from_secs(60),
            initial_rebalance_delay: Duration::ZERO,
            members_max: 10,
            batch_bytes_max: 1_000,
        };
        let consumer = ConsumerLimits {
            session_timeout: GroupTime::always(Duration::from_secs(45)),
            members_max: 10,
            assignors: Assignors { default: Assignor::Uniform, other: None },
            migration: Migration::Bidirectional,
            batch_bytes_max: 1_000,
        };
        let rules = Rules {
            limits,
            consumer,
            offsets_retention: Duration::from_secs(1_000),
            metadata_bytes_max: 4,
            groups_max: 10,
            pending_max: 10,
        };
        let now = Now { at: Clock::system().now(), wall: Timestamp(0) };
        Desk::new(Book::new(rules), Offset::ZERO, now, &GroupMetrics::default())
    }

    /// Commits this offset, and gives where the answer comes.
    fn commit(desk: &mut Desk, offset: i64) -> oneshot::Receiver<Result<(), Unavailable>> {
        let commit = Commit {
            topic: Str::from("t"),
            topic_id: TopicId::ZERO,
            partition: 0,
            offset,
            leader_epoch: None,
            metadata: Str::EMPTY,
        };
        let committer = Committer {
            member_id: Str::EMPTY,
            instance: None,
            generation: -1,
            knows_epochs: false,
            retention: None,
        };
        let kept = desk.book.commit(&Str::from("g"), &committer, vec![commit], desk.now, &mut desk.effects);
        assert_eq!(kept, Ok(vec![Ok(())]));
        let (answer, answered) = oneshot::channel();
        desk.answer(Box::new(move |kept| drop(answer.send(kept))));
        answered
    }

    fn offset(desk: &Desk) -> Option<i64> {
        Some(desk.book.positions("g")?.get("t", 0)?.offset)
    }

    #[test]
    fn what_was_not_written_is_told_and_the_book_is_as_before() {
        let mut desk = desk();
        let mut first = commit(&mut desk, 1);
        desk.end = Offset::new(1).expect("an offset");
        desk.written(Duration::from_secs(5));
        let mut second = commit(&mut desk, 2);
        let why = Unavailable::NotWritten("the disk is full".to_owned());
        desk.not_written(&why);
        assert_eq!(second.try_recv(), Ok(Err(why)));
        assert_eq!(offset(&desk), Some(1));
        assert!(first.try_recv().is_err(), "it waits for its replicas");
        desk.release(Offset::new(1).expect("an offset"));
        assert_eq!(first.try_recv(), Ok(Ok(())));
    }
}
