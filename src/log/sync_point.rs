//! [`SyncPoint`]: what one log has written and not synced yet, and how far it is durable.
//!
//! Bytes are durable once their segment's file is synced, or once the journal (`journal/mod.rs`) that holds them is. The first is
//! needed before a recovery point may say that recovery starts behind them, and before the journal may forget them; the second is
//! enough for whoever waits. So a log has a *synced end* that either moves, and beside it a note of which of its bytes only the
//! journal answers for: these are *unsettled*.
//!
//! What is durable is always all below an offset: a write of the journal takes a log's bytes from where the durable ones end, and takes
//! none of a segment while one before it is not durable to its end.
//!
//! Knows no thread and no queue: the committer works on it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use aquifer_model::{Offset, TopicPartition};
use aquifer_runtime::files::File;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::checkpoint::JournalMark;

/// Something quick to be done once bytes are synced in their files.
pub(crate) type Then = Box<dyn FnOnce() + Send>;

/// What one log has written and not synced yet, and how far it is durable.
pub(crate) struct SyncPoint {
    pub(super) partition: TopicPartition,
    pub(super) folder: PathBuf,
    unsynced: Mutex<Unsynced>,
    /// Held for the length of a sync: one at a time for each log.
    syncing: Mutex<()>,
    synced: watch::Sender<Offset>,
    /// Called each time the synced end has risen.
    observer: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Unsynced {
    end: Offset,
    open: OpenSegment,
    /// Files with unsynced bytes, by their segment's base; the last is the open segment's.
    files: Vec<(Offset, File)>,
    /// Whether a file of these must be synced itself, because it was cut.
    cut_back: bool,
    /// Whether names in the folder are unsynced.
    names: bool,
    /// Raised by each cut, so that a sync that began before says nothing about offsets behind it.
    cuts: u64,
    /// What to do once all of this is synced.
    then: Option<Then>,
    /// A sync of it was asked for since the last one began.
    asked: bool,
    queued: Queued,
    journal: InJournal,
}

/// The bytes of the segment that is written to.
#[derive(Default)]
struct OpenSegment {
    base: Offset,
    written: u64,
    /// How many of them are durable, in their file or in the journal.
    durable: u64,
}

/// Which queues a log stands in, or is being served from.
#[derive(Default)]
struct Queued {
    sync: bool,
    journal: bool,
}

/// What the journal has of a log. Sequences are of its writes, from 1.
#[derive(Default)]
struct InJournal {
    /// The last write with bytes of it.
    last: u64,
    /// Up to which write they are synced in their files as well.
    settled: u64,
    /// Writes before this one say nothing of the log any more.
    void: Option<JournalMark>,
    /// Nothing of the log may go there for now.
    held: bool,
}

impl InJournal {
    /// Whether what a write has of the log says nothing.
    fn is_void(&self, sequence: u64) -> bool {
        self.void.is_some_and(|mark| sequence < mark.sequence)
    }
}

/// What a log that asks for a sync waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Somebody waits for the synced end.
    Durable,
    /// A checkpoint does, or the journal, which wants to forget.
    Settled,
}

/// What is to be done for a log that has asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    pub(super) sync: bool,
    pub(super) journal: bool,
}

/// What a sync has to do.
pub(super) struct ToSync {
    pub(super) files: Vec<(Offset, File)>,
    pub(super) names: bool,
    then: Option<Then>,
    end: Offset,
    cuts: u64,
    base: Offset,
    written: u64,
    in_journal: u64,
}

/// Bytes of a log that go into a write of the journal: `[from, to)` of the open segment.
pub(super) struct ToJournal {
    pub(super) file: File,
    pub(super) base: Offset,
    pub(super) from: u64,
    pub(super) to: u64,
    end: Offset,
    cuts: u64,
}

impl Unsynced {
    /// Whether nobody has anything to wait for.
    fn is_durable(&self) -> bool {
        self.files.len() <= 1 && self.open.written == self.open.durable && !self.names && !self.cut_back
    }

    /// Whether what is not durable yet may go through the journal: a few bytes at the end of the open segment, and nothing else.
    fn suits_journal(&self, bytes_max: u64, synced: impl FnOnce() -> Offset) -> bool {
        let undurable = self.open.written.saturating_sub(self.open.durable);
        let in_open_segment = matches!(&self.files[..], [(base, _)] if *base == self.open.base);
        (1..=bytes_max).contains(&undurable)
            && in_open_segment
            && !self.names
            && !self.cut_back
            && !self.journal.held
            // The sync of an earlier segment may be under way, whose file is not among these any more.
            && synced() >= self.open.base
    }
}

impl std::fmt::Debug for SyncPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncPoint").field("synced", &*self.synced.borrow()).finish_non_exhaustive()
    }
}

impl SyncPoint {
    /// Of a log in `folder` that ends at `end` and is known to be durable up to `checkpoint`. What lies between was found in these
    /// files; a crash of the process alone may have left it in the page cache. `open` is the open segment's base and its bytes.
    pub(crate) fn recovered(
        partition: TopicPartition,
        folder: &Path,
        checkpoint: Offset,
        files: Vec<(Offset, File)>,
        end: Offset,
        open: (Offset, u64),
    ) -> SyncPoint {
        let names = !files.is_empty();
        let synced = if names { checkpoint.min(end) } else { end };
        let (base, written) = open;
        let open = OpenSegment { base, written, durable: if names { 0 } else { written } };
        SyncPoint {
            partition,
            folder: folder.to_owned(),
            unsynced: Mutex::new(Unsynced { end, open, files, names, ..Unsynced::default() }),
            syncing: Mutex::new(()),
            synced: watch::Sender::new(synced),
            observer: OnceLock::new(),
        }
    }

    /// The synced end.
    pub(crate) fn synced(&self) -> Offset {
        *self.synced.borrow()
    }

    /// Has `observer` called, by a committer thread, each time the synced end has risen. It must be quick. The first one set stays.
    pub(crate) fn observe(&self, observer: Box<dyn Fn() + Send + Sync>) {
        // A log has one owner; a second observer would be its mistake, and the first is the one that works.
        let _ = self.observer.set(observer);
    }

    /// To wait for the synced end.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Offset> {
        self.synced.subscribe()
    }

    /// Takes note that the segment at `base` was written to, up to byte `written`, and that the log now ends at `end`.
    pub(crate) fn note_written(&self, base: Offset, file: &File, written: u64, end: Offset) {
        let mut unsynced = self.unsynced.lock();
        unsynced.end = end;
        if unsynced.open.base != base {
            unsynced.open = OpenSegment { base, written: 0, durable: 0 };
        }
        unsynced.open.written = written;
        if unsynced.files.last().is_none_or(|(last, _)| *last != base) {
            unsynced.files.push((base, file.clone()));
        }
    }

    /// Takes note that a part of a batch was cut off again from the end of the segment at `base`.
    pub(crate) fn note_cut_back(&self, base: Offset, file: &File) {
        let mut unsynced = self.unsynced.lock();
        unsynced.cut_back = true;
        if unsynced.files.last().is_none_or(|(last, _)| *last != base) {
            unsynced.files.push((base, file.clone()));
        }
    }

    /// Takes note of a new file in the folder.
    pub(crate) fn note_name(&self) {
        self.unsynced.lock().names = true;
    }

    /// Has `then` run once all that was noted so far is synced; replaces one that still waits.
    pub(crate) fn then(&self, then: Then) {
        self.unsynced.lock().then = Some(then);
    }

    /// The log was cut to `end`, or made to start anew there, and is synced up to it. `open` is the open segment's base and its
    /// bytes.
    pub(crate) fn cut(&self, end: Offset, open: (Offset, u64)) {
        let mut unsynced = self.unsynced.lock();
        let (base, written) = open;
        unsynced.clear(end, OpenSegment { base, written, durable: written });
        self.synced.send_replace(end);
    }

    /// Forgets what is unsynced, for good, and waits for a sync under way: the files are about to go.
    pub(crate) fn retire(&self) {
        {
            let mut unsynced = self.unsynced.lock();
            unsynced.clear(self.synced(), OpenSegment::default());
            unsynced.journal.held = true;
        }
        drop(self.syncing.lock());
    }

    /// From which write of the journal on it says anything of this log.
    pub(super) fn journal_mark(&self) -> Option<JournalMark> {
        self.unsynced.lock().journal.void
    }

    /// Keeps the log out of the journal until [`SyncPoint::admit`]. Once a sync that begins after this has ended, what the journal
    /// has of the log is in the log's files as well, so that all of it is void from then on. `next` gives what the journal's next
    /// write will be, and is asked when nothing more of the log can get into an earlier one.
    pub(super) fn hold(&self, next: impl FnOnce() -> Option<JournalMark>) {
        let mut unsynced = self.unsynced.lock();
        unsynced.journal.held = true;
        unsynced.journal.void = next().or(unsynced.journal.void);
    }

    /// Ends [`SyncPoint::hold`].
    pub(super) fn admit(&self) {
        self.unsynced.lock().journal.held = false;
    }

    /// What is to be done for it that is not under way already. `small` is how much of a log the journal takes; `None` if there is
    /// no journal.
    pub(super) fn ask(&self, need: Need, small: Option<u64>) -> Wanted {
        let mut unsynced = self.unsynced.lock();
        if unsynced.is_durable() && need == Need::Durable {
            return Wanted::default();
        }
        let suits = |max| unsynced.suits_journal(max, || self.synced());
        let by_journal = need == Need::Durable && small.is_some_and(suits);
        unsynced.asked |= !by_journal;
        let needs_sync = !by_journal || unsynced.then.is_some();
        let wanted = Wanted {
            sync: needs_sync && !unsynced.queued.sync,
            journal: by_journal && !unsynced.queued.journal,
        };
        unsynced.queued.sync |= wanted.sync;
        unsynced.queued.journal |= wanted.journal;
        wanted
    }

    /// For the length of a sync.
    pub(super) fn alone(&self) -> MutexGuard<'_, ()> {
        self.syncing.lock()
    }

    /// Takes what there is to sync.
    pub(super) fn take(&self) -> ToSync {
        let mut unsynced = self.unsynced.lock();
        (unsynced.cut_back, unsynced.asked) = (false, false);
        ToSync {
            files: std::mem::take(&mut unsynced.files),
            names: std::mem::take(&mut unsynced.names),
            then: unsynced.then.take(),
            end: unsynced.end,
            cuts: unsynced.cuts,
            base: unsynced.open.base,
            written: unsynced.open.written,
            in_journal: unsynced.journal.last,
        }
    }

    /// All of it is synced: gives what is to be done then, unless the log was cut meanwhile.
    pub(super) fn note_synced(&self, done: ToSync) -> Option<Then> {
        let mut unsynced = self.unsynced.lock();
        if unsynced.cuts != done.cuts {
            return None;
        }
        unsynced.journal.settled = unsynced.journal.settled.max(done.in_journal);
        self.raise(unsynced, done.base, done.written, done.end);
        done.then
    }

    /// Whether more was asked for while it was synced; if not, it stands in the queue of syncs no more.
    pub(super) fn is_left_to_sync(&self) -> bool {
        let mut unsynced = self.unsynced.lock();
        unsynced.queued.sync = unsynced.then.is_some() || unsynced.asked;
        unsynced.queued.sync
    }

    /// Bytes for the write `sequence` of the journal; `None` if there are none that may go there.
    pub(super) fn to_journal(&self, sequence: u64, bytes_max: u64) -> Option<ToJournal> {
        let unsynced = self.unsynced.lock();
        if !unsynced.suits_journal(bytes_max, || self.synced()) || unsynced.journal.is_void(sequence) {
            return None;
        }
        let (base, file) = unsynced.files.last()?.clone();
        let OpenSegment { written: to, durable: from, .. } = unsynced.open;
        Some(ToJournal { file, base, from, to, end: unsynced.end, cuts: unsynced.cuts })
    }

    /// They are part of the write `sequence`, unless the log was cut since they were taken or may not go there any more: gives
    /// whether they are.
    pub(super) fn note_in_journal(&self, taken: &ToJournal, sequence: u64) -> bool {
        let mut unsynced = self.unsynced.lock();
        let in_it =
            unsynced.cuts == taken.cuts && !unsynced.journal.held && !unsynced.journal.is_void(sequence);
        if in_it {
            unsynced.journal.last = sequence;
        }
        in_it
    }

    /// The write of the journal is durable.
    pub(super) fn note_journaled(&self, taken: &ToJournal) {
        let unsynced = self.unsynced.lock();
        if unsynced.cuts == taken.cuts {
            self.raise(unsynced, taken.base, taken.to, taken.end);
        }
    }

    /// It leaves the queue of the journal.
    pub(super) fn leave_queue_of_journal(&self) {
        self.unsynced.lock().queued.journal = false;
    }

    /// Whether what the journal's write `sequence` has of this log is synced in its files as well.
    pub(super) fn is_settled(&self, sequence: u64) -> bool {
        self.unsynced.lock().journal.settled >= sequence
    }

    /// Bytes of the segment at `base` are durable up to `written`, and the log up to `end`.
    fn raise(&self, mut unsynced: MutexGuard<'_, Unsynced>, base: Offset, written: u64, end: Offset) {
        if unsynced.open.base == base {
            unsynced.open.durable = unsynced.open.durable.max(written);
        }
        let moved = self.synced.send_if_modified(|synced| {
            let moved = *synced < end;
            *synced = (*synced).max(end);
            moved
        });
        drop(unsynced);
        if moved && let Some(observer) = self.observer.get() {
            observer();
        }
    }
}

impl Unsynced {
    /// Forgets what was unsynced of a log that is durable up to `end`.
    fn clear(&mut self, end: Offset, open: OpenSegment) {
        let Unsynced { queued, journal, cuts, .. } = std::mem::take(self);
        // What the journal has is of bytes that are gone.
        let journal = InJournal { settled: journal.last, ..journal };
        *self = Unsynced { end, open, queued, journal, cuts: cuts + 1, ..Unsynced::default() };
    }
}

#[cfg(test)]
mod tests;
