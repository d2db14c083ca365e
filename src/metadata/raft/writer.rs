//! The thread that writes the Raft log: the only one that touches redb once it is open.
//!
//! All writes go through one queue, votes and entries alike, since Raft's safety rests on their order. The thread takes what has
//! queued up and commits it as one transaction, with one sync: many proposers at once cost what one does. After the first error
//! nothing more is written: what a failed sync left behind is unknown, and to try again could make a lie of it.
//!
//! A crash leaves a prefix of the queue, cut between transactions.

use std::io;

use aquifer_runtime::clock::Clock;
use openraft::storage::IOFlushed;
use redb::{Database, Durability, ReadableDatabase as _, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::codec;
use super::types::{LogId, Types, Vote};
use crate::metadata::metrics::Metrics;

/// Index to entry.
pub(super) const ENTRIES: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("entries");
/// The single values below.
pub(super) const META: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
pub(super) const VOTE: &str = "vote";
pub(super) const PURGED: &str = "purged";
pub(super) const COMMITTED: &str = "committed";
pub(super) const OWNER: &str = "owner";

/// Writes that wait for the thread, at most.
pub(super) const QUEUE_MAX: usize = 1024;
/// Writes that go into one transaction, at most.
const BATCH_MAX: usize = 256;

/// One write.
pub(super) enum Write {
    /// Entries with their indexes; told when they are durable.
    Append(Vec<(u64, Vec<u8>)>, IOFlushed<Types>),
    /// A vote; told when it is durable.
    Vote(Vote, oneshot::Sender<io::Result<()>>),
    /// No entry at or above this index is valid any more.
    TruncateFrom(u64),
    /// No entry up to here is needed any more.
    Purge(LogId),
    /// Entries up to here are committed. Kept for the next transaction: it only spares work after a restart.
    Committed(LogId),
}

/// Runs until all senders are gone, then closes the database.
pub(super) async fn run(
    database: Database,
    mut queue: mpsc::Receiver<Write>,
    clock: Clock,
    metrics: &Metrics,
) {
    let mut failed: Option<String> = None;
    let mut committed = None;
    while let Some(first) = queue.recv().await {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        // Alone it is not worth a sync.
        if let Some(last) = lone_committed(&batch) {
            committed = Some(last);
            continue;
        }
        if failed.is_none() {
            let began = clock.now();
            match commit(&database, &batch, committed.take()) {
                Ok(()) => metrics.log_commit_seconds.observe(clock.now().duration_since(began).as_secs_f64()),
                Err(error) => {
                    tracing::error!(%error, "the metadata log cannot be written: this node stops");
                    failed = Some(error.to_string());
                }
            }
        }
        for write in batch {
            let outcome = || failed.as_ref().map_or(Ok(()), |error| Err(io::Error::other(error.clone())));
            match write {
                Write::Append(_, told) => told.io_completed(outcome()),
                // Whoever asked may have gone.
                Write::Vote(_, told) => drop(told.send(outcome())),
                Write::TruncateFrom(_) | Write::Purge(_) | Write::Committed(_) => {}
            }
        }
    }
    if failed.is_none()
        && let Some(last) = committed
        && let Err(error) = commit(&database, &[Write::Committed(last)], None)
    {
        tracing::warn!(%error, "the end of what is committed was not noted; the next start finds it out anew");
    }
}

/// The last of them, if the batch has no other writes.
fn lone_committed(batch: &[Write]) -> Option<LogId> {
    let all = batch.iter().all(|write| matches!(write, Write::Committed(_)));
    match batch.last() {
        Some(Write::Committed(last)) if all => Some(*last),
        _ => None,
    }
}

fn commit(database: &Database, batch: &[Write], committed: Option<LogId>) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // One sync more, so that a start after a crash never takes the commit before for the newest when that one is damaged: with it a
    // vote would be forgotten. redb then says that it is damaged.
    transaction.set_two_phase_commit(true);
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        let mut meta = transaction.open_table(META)?;
        if let Some(last) = committed {
            meta.insert(COMMITTED, &*codec::encode_position(&last))?;
        }
        for write in batch {
            match write {
                Write::Append(new, _) => {
                    for (index, bytes) in new {
                        entries.insert(index, &**bytes)?;
                    }
                }
                Write::Vote(vote, _) => drop(meta.insert(VOTE, &*codec::encode_vote(vote))?),
                Write::TruncateFrom(index) => entries.retain_in(*index.., |_, _| false)?,
                Write::Purge(upto) => {
                    entries.retain_in(..=upto.index, |_, _| false)?;
                    meta.insert(PURGED, &*codec::encode_position(upto))?;
                }
                Write::Committed(last) => drop(meta.insert(COMMITTED, &*codec::encode_position(last))?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// Everything in the database.
pub(super) struct Contents {
    /// Entries as stored, by index.
    pub(super) entries: Vec<(u64, Vec<u8>)>,
    /// Single values as stored.
    pub(super) meta: std::collections::BTreeMap<String, Vec<u8>>,
}

/// Reads everything; a database that is new gets its tables and its owner.
pub(super) fn load(database: &Database, owner: &[u8]) -> Result<Contents, redb::Error> {
    use redb::ReadableTable as _;
    let transaction = database.begin_write()?;
    {
        transaction.open_table(ENTRIES)?;
        let mut meta = transaction.open_table(META)?;
        if meta.get(OWNER)?.is_none() {
            meta.insert(OWNER, owner)?;
        }
    }
    transaction.commit()?;
    let transaction = database.begin_read()?;
    let mut contents = Contents { entries: Vec::new(), meta: std::collections::BTreeMap::new() };
    for item in transaction.open_table(ENTRIES)?.iter()? {
        let (index, bytes) = item?;
        contents.entries.push((index.value(), bytes.value().to_vec()));
    }
    for item in transaction.open_table(META)?.iter()? {
        let (key, bytes) = item?;
        contents.meta.insert(key.value().to_owned(), bytes.value().to_vec());
    }
    Ok(contents)
}
