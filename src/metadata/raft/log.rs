//! The Raft log: all live entries in memory, and in redb, where the writer thread puts them.
//!
//! Memory is what is read from: an entry can be read as soon as it is appended, before it is durable, as Raft wants it. What is
//! live is bounded by the snapshot policy (two intervals), so memory is. redb is only read at start.
//!
//! Kept: indexes have no holes; a vote is durable before anyone hears of it; what was purged is remembered. A crash at any point
//! leaves what the writer had committed; entries behind it were not promised to anyone.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use aquifer_model::format::FormatError;
use aquifer_runtime::clock::Clock;
use aquifer_runtime::files::Lock;
use aquifer_runtime::tasks::TaskGroup;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use redb::StorageBackend;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::DropGuard;

use super::backend::{Glance, Shared as Whole};
use super::codec;
use super::types::{Entry, LogId, Types, Vote};
use super::writer::{self, Write};
use crate::metadata::ids::RaftNodeId;
use crate::metadata::metrics::Metrics;

/// redb's cache. The log is read once, so this serves its writes.
const CACHE_BYTES: usize = 4 << 20;

/// Why a log does not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The database cannot be opened or read.
    #[error("the metadata log cannot be read: {0}")]
    Database(#[source] Box<redb::Error>),
    /// The database's own code cannot cope with what it found.
    #[error("the metadata log is damaged ({0}): restore it, or move the whole directory away")]
    Unreadable(String),
    /// Its pages are not what was written, and only an older state of it could be had: one that may have forgotten a promise.
    #[error("the metadata log is damaged: restore it, or move the whole directory away")]
    Damaged,
    /// A record in it is damaged or too new.
    #[error("the metadata log has a record that cannot be read ({record}): {source}")]
    Record {
        /// Which.
        record: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// It belongs to another data directory.
    #[error(
        "the metadata log is that of raft node {found}, not of {expected}: files of two nodes were mixed"
    )]
    Owner {
        /// Whose it is.
        found: RaftNodeId,
        /// Whose it should be.
        expected: RaftNodeId,
    },
    /// Entries are missing or out of order.
    #[error("the metadata log is inconsistent at index {index}")]
    Hole {
        /// The first index that is not as it should be.
        index: u64,
    },
    /// The writer's thread does not start.
    #[error("no thread for the metadata log: {0}")]
    Thread(#[source] io::Error),
}

/// How much was appended, in all, since the log was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

/// What lasts as long as the database is open.
pub(crate) struct Held {
    /// Against other processes.
    pub(crate) _lock: Option<Lock>,
    /// Cancelled when dropped: tells that the files are free.
    pub(crate) _closed: DropGuard,
}

/// A handle to the log. Clones are the same log.
#[derive(Clone)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Write>,
}

struct Shared {
    state: Mutex<State>,
    appended: watch::Sender<Appended>,
    metrics: Metrics,
}

#[derive(Default)]
struct State {
    /// Index of the first of `entries`; where there are none, of the next.
    first: u64,
    entries: VecDeque<(Arc<Entry>, u64)>,
    bytes: u64,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

impl State {
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|(entry, _)| entry.log_id).or(self.purged)
    }

    fn push(&mut self, entry: Arc<Entry>, bytes: u64) {
        if self.entries.is_empty() {
            self.first = entry.log_id.index;
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
    }
}

impl Log {
    /// Opens the log on `backend`, which is empty or was written by this; starts its thread, which drops `held` once the database
    /// is closed. Blocks.
    pub(crate) fn open(
        backend: impl StorageBackend,
        node: RaftNodeId,
        tasks: &TaskGroup,
        clock: Clock,
        metrics: Metrics,
        held: Held,
    ) -> Result<Log, LogError> {
        let failed = |error: redb::Error| LogError::Database(Box::new(error));
        let backend = Arc::new(backend);
        let (database, contents) = unless_it_panics(|| {
            look_through(&backend)?;
            let database = redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .create_with_backend(Whole(backend))
                .map_err(|error| failed(error.into()))?;
            let contents = writer::load(&database, &codec::encode_owner(node)).map_err(failed)?;
            Ok((database, contents))
        })?;
        let state = State::from_contents(contents, node)?;
        metrics.log_size(state.entries.len(), state.bytes);
        let appended = Appended { entries: state.entries.len() as u64, bytes: state.bytes };
        let (queue, writes) = mpsc::channel(writer::QUEUE_MAX);
        let writer_metrics = metrics.clone();
        let body = async move {
            writer::run(database, writes, clock, &writer_metrics).await;
            drop(held);
        };
        tasks.spawn_thread("metadata-log", body).map_err(LogError::Thread)?;
        let shared = Shared { state: Mutex::new(state), appended: watch::Sender::new(appended), metrics };
        Ok(Log { shared: Arc::new(shared), queue })
    }

    /// Where the entries that are still there begin: behind this one.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.shared.state.lock().purged
    }

    /// Whether it has no entry and never had one.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.state.lock().last().is_none()
    }

    /// How much was appended since the log was opened, what was found then included.
    pub(crate) fn appended(&self) -> watch::Receiver<Appended> {
        self.shared.appended.subscribe()
    }

    /// How much of the log lies up to `index`.
    pub(crate) fn size_upto(&self, index: u64) -> Appended {
        let state = self.shared.state.lock();
        let covered = state.entries.iter().take_while(|(entry, _)| entry.log_id.index <= index);
        covered.fold(Appended::default(), |sum, (_, bytes)| Appended {
            entries: sum.entries + 1,
            bytes: sum.bytes + bytes,
        })
    }

    async fn send(&self, write: Write) -> io::Result<()> {
        self.queue.send(write).await.map_err(|_| closed())
    }

    fn changed(&self, state: &State) {
        self.shared.metrics.log_size(state.entries.len(), state.bytes);
    }
}

/// redb checks its pages' sums, and yet trusts lengths that it reads from some before it has: a flipped bit there is a panic. What
/// lies on a disk is input, and must not be more than a refusal.
fn unless_it_panics<T>(open: impl FnOnce() -> Result<T, LogError>) -> Result<T, LogError> {
    std::panic::catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(LogError::Unreadable(text.unwrap_or("its database panicked").to_owned()))
    })
}

/// Whether every page is what was written: redb itself looks only at those that it comes across, and mends without asking.
fn look_through<B: StorageBackend>(backend: &Arc<B>) -> Result<(), LogError> {
    let failed = |error: redb::Error| LogError::Database(Box::new(error));
    let glance = Glance::new(backend.clone()).map_err(|error| failed(error.into()))?;
    let mut database = redb::Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(glance)
        .map_err(|error| failed(error.into()))?;
    match database.check_integrity() {
        Ok(true) => Ok(()),
        Ok(false) => Err(LogError::Damaged),
        Err(error) => Err(failed(error.into())),
    }
}

fn closed() -> io::Error {
    io::Error::other("the metadata log's thread has ended")
}

impl State {
    fn from_contents(contents: writer::Contents, node: RaftNodeId) -> Result<State, LogError> {
        let meta = Meta(contents.meta);
        let owner = meta.get(writer::OWNER, codec::decode_owner)?;
        if let Some(found) = owner.filter(|owner| *owner != node) {
            return Err(LogError::Owner { found, expected: node });
        }
        let purged = meta.get(writer::PURGED, codec::decode_position)?;
        let mut state = State {
            first: purged.map_or(0, |purged| purged.index + 1),
            vote: meta.get(writer::VOTE, codec::decode_vote)?,
            committed: meta.get(writer::COMMITTED, codec::decode_position)?,
            purged,
            ..State::default()
        };
        for (index, bytes) in contents.entries {
            let entry = codec::decode_entry(&bytes)
                .map_err(|source| LogError::Record { record: format!("entry {index}"), source })?;
            // The very first entry ever may have any index; behind another, or behind what was purged, only the next.
            let continues = index == state.next() || (state.last().is_none() && state.entries.is_empty());
            if !continues || entry.log_id.index != index {
                return Err(LogError::Hole { index });
            }
            state.push(Arc::new(entry), bytes.len() as u64);
        }
        match state.committed {
            Some(committed) if state.last().is_none_or(|last| committed.index > last.index) => {
                Err(LogError::Hole { index: committed.index })
            }
            _ => Ok(state),
        }
    }
}

struct Meta(BTreeMap<String, Vec<u8>>);

impl Meta {
    fn get<T>(
        &self,
        key: &str,
        decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    ) -> Result<Option<T>, LogError> {
        let decoded = self.0.get(key).map(|bytes| decode(bytes)).transpose();
        decoded.map_err(|source| LogError::Record { record: key.to_owned(), source })
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<Entry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let found: Vec<Arc<Entry>> = {
            let state = self.shared.state.lock();
            let start = match range.start_bound() {
                Bound::Included(index) => *index,
                Bound::Excluded(index) => index.saturating_add(1),
                Bound::Unbounded => 0,
            };
            let end = match range.end_bound() {
                Bound::Included(index) => index.saturating_add(1),
                Bound::Excluded(index) => *index,
                Bound::Unbounded => u64::MAX,
            };
            let place = |index: u64| index.clamp(state.first, state.next()) - state.first;
            let (from, to) = (place(start) as usize, place(end) as usize);
            if from < to {
                state.entries.range(from..to).map(|(entry, _)| Arc::clone(entry)).collect()
            } else {
                Vec::new()
            }
        };
        // Copied outside the lock: an entry may hold thousands of assignments.
        Ok(found.iter().map(|entry| Entry::clone(entry)).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.state.lock().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.shared.state.lock();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last() })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let (told, durable) = oneshot::channel();
        self.send(Write::Vote(*vote, told)).await?;
        durable.await.map_err(|_| closed())??;
        self.shared.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.shared.state.lock().committed = committed;
        match committed {
            // Behind the entries that it is about, in the same queue: it never names what is not in the database.
            Some(committed) => self.send(Write::Committed(committed)).await,
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.shared.state.lock().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Arc<Entry>> = entries.into_iter().map(Arc::new).collect();
        let stored: Vec<(u64, Vec<u8>)> =
            entries.iter().map(|entry| (entry.log_id.index, codec::encode_entry(entry))).collect();
        let added = Appended {
            entries: stored.len() as u64,
            bytes: stored.iter().map(|(_, bytes)| bytes.len() as u64).sum(),
        };
        {
            let mut state = self.shared.state.lock();
            for (entry, (index, bytes)) in entries.into_iter().zip(&stored) {
                if !state.entries.is_empty() && *index != state.next() {
                    let expected = state.next();
                    return Err(io::Error::other(format!(
                        "entry {index} does not continue the log at {expected}"
                    )));
                }
                state.push(entry, bytes.len() as u64);
            }
            self.changed(&state);
        }
        self.send(Write::Append(stored, callback)).await?;
        self.shared.appended.send_modify(|appended| {
            appended.entries += added.entries;
            appended.bytes += added.bytes;
        });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index + 1);
        {
            let mut state = self.shared.state.lock();
            while state.next() > from
                && let Some((_, bytes)) = state.entries.pop_back()
            {
                state.bytes -= bytes;
            }
            self.changed(&state);
        }
        self.send(Write::TruncateFrom(from)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        {
            let mut state = self.shared.state.lock();
            while state.first <= upto.index
                && let Some((_, bytes)) = state.entries.pop_front()
            {
                state.bytes -= bytes;
                state.first += 1;
            }
            if state.entries.is_empty() {
                state.first = upto.index + 1;
            }
            state.purged = Some(upto);
            self.changed(&state);
        }
        self.send(Write::Purge(upto)).await
    }
}
