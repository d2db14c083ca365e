//! The journal of a data directory: a few files that take what many logs have written, so that one sync makes all of it durable.
//!
//! A sync of a file costs the same for a byte and for a megabyte, and a thousand partitions with a little each would take a
//! thousand. So what a log has written and is not durable is copied, if it is little, from its segment in the page cache into an
//! *envelope* with that of others; the envelope is written behind the last one, into a file that has its length and its blocks
//! already, and that file is synced. The segments are written back later, as the kernel likes.
//!
//! There are two files, filled in turn. Before one is filled anew all that it holds is synced where it belongs (*settled*): that is
//! asked for as soon as the other's turn has come. Where it is not done by then, or there is too much of a log, or no journal,
//! logs are synced by themselves, as ever.
//!
//! After a crash what the journal holds is put where it belongs before any log is opened (`replay.rs`), and the journal begins
//! anew. What it has of a log may have been cut off since. Then the log's checkpoint has a [`JournalMark`], which is durable before
//! anything else of the log gets here. Before a log is made where another of this name was, the journal is emptied.
//!
//! A crash leaves: of an envelope that was being written a part, which nobody was told of; files that are not whole yet, which are made
//! anew; or, of files that were to be emptied, the newer one as it was.

mod envelope;
mod replay;

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aquifer_model::format::crc32c;
use aquifer_model::{ByteCount, TopicPartition};
use aquifer_runtime::files::{Disk, File};
use parking_lot::{Mutex, MutexGuard};

use self::envelope::{Head, PIECES_MAX, Piece};
use super::checkpoint::JournalMark;
use super::config::LogDirOptions;
use super::layout;
use super::sync_point::{SyncPoint, ToJournal};

pub(super) use replay::{Replayed, replay};

/// An envelope is not larger: it is in memory as a whole.
const ENVELOPE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of zeros written in one go where a file is made.
const STEP_BYTES: usize = 1 << 20;
/// Of a file: its mark, and an envelope of the most that is taken of one log.
const BLOCKS_MIN: u64 = 4;
/// The sequences of what two files begin with.
const FIRST_MARKS: [u64; 2] = [2, 1];
/// A journal is made only where the disk has room for so many of it.
const ROOM_FACTOR: u64 = 4;

/// The journal of a directory, ready to be written to.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Which opening of the directory this is.
    run: u64,
    /// Of a log with more than this that is not durable, nothing is taken.
    pub(super) log_bytes_max: u64,
    /// No more logs are in one file: each has a descriptor of its own open until it is settled.
    logs_max: usize,
    /// The last write that was begun.
    begun: AtomicU64,
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    /// The one that is filled, then the one before.
    files: [Filling; 2],
    /// Where the next envelope goes.
    position: u64,
    /// Of each file, in bytes.
    size: u64,
    /// For the pieces' bytes of an envelope.
    payload: Vec<u8>,
}

/// A file, and whose bytes are in it.
#[derive(Debug)]
struct Filling {
    file: File,
    logs: HashMap<TopicPartition, Pin>,
}

/// A log has bytes in a file. It is held for as long, also if nobody else does: what is not settled stays so.
#[derive(Debug)]
struct Pin {
    log: Arc<SyncPoint>,
    /// The last write with some.
    sequence: u64,
}

impl Pin {
    /// Whose bytes the journal still answers for.
    fn unsettled(&self) -> Option<Arc<SyncPoint>> {
        (!self.log.is_settled(self.sequence)).then(|| self.log.clone())
    }
}

/// An envelope that is being put together. There is one at a time.
pub(super) struct Write<'a> {
    journal: &'a Journal,
    ring: MutexGuard<'a, Ring>,
    pub(super) sequence: u64,
    pieces: Vec<Piece>,
}

/// What became of a log's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// They are in the envelope.
    Yes,
    /// There is no room in it, or in the file.
    NoRoom,
    /// The log was cut since they were taken.
    Changed,
    /// They cannot be read, or there are too many logs: it is to be synced by itself.
    Unfit,
}

/// What came of an attempt to go on to the other file.
pub(super) enum Turned {
    /// It is empty. These have bytes in the one before, which are to be settled.
    Done(Vec<Arc<SyncPoint>>),
    /// What it holds is not settled yet, that of these logs.
    NotYet(Vec<Arc<SyncPoint>>),
}

impl Journal {
    /// In files that were [`begun`].
    fn over(files: [File; 2], size: u64, run: u64, options: &LogDirOptions) -> Journal {
        Journal {
            run,
            // One log's always fits.
            log_bytes_max: options.journal_log_bytes_max.get().min(size.min(ENVELOPE_BYTES_MAX) / 2),
            logs_max: (options.files_open_max / 8).max(1),
            begun: AtomicU64::new(FIRST_MARKS.len() as u64),
            ring: Mutex::new(Ring {
                files: files.map(|file| Filling { file, logs: HashMap::new() }),
                position: envelope::BLOCK_BYTES,
                size,
                payload: Vec::new(),
            }),
        }
    }

    /// Makes the files. Blocks for as long as it takes to write them.
    pub(super) fn make(
        disk: &Disk,
        folder: &Path,
        run: u64,
        options: &LogDirOptions,
        is_stopping: &dyn Fn() -> bool,
    ) -> io::Result<Journal> {
        let size = file_bytes(options);
        let journal = folder.join(layout::JOURNAL);
        if disk.space(folder)?.available.get() < ROOM_FACTOR * options.journal_bytes.get() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk.create_dir_all(&journal)?;
        let make = |name| {
            let file = disk.open_or_create(&journal.join(name))?;
            fill(&file, size, is_stopping)?;
            Ok(file)
        };
        let made = make(layout::JOURNAL_FILES[0]).and_then(|one| Ok([one, make(layout::JOURNAL_FILES[1])?]));
        let files = match made {
            Ok(files) => files,
            Err(error) => {
                // What there is of them takes room that others need more.
                remove(disk, folder)?;
                return Err(error);
            }
        };
        for (file, sequence) in files.iter().zip(FIRST_MARKS) {
            begin(file, size, run, sequence)?;
        }
        disk.sync_dir(&journal)?;
        Ok(Journal::over(files, size, run, options))
    }

    /// What the next write will be.
    pub(super) fn next_mark(&self) -> JournalMark {
        JournalMark { run: self.run, sequence: self.begun.load(Ordering::Acquire) + 1 }
    }

    /// Whether there may be bytes of a log.
    pub(super) fn holds(&self, log: TopicPartition) -> bool {
        self.ring.lock().files.iter().any(|filling| filling.logs.contains_key(&log))
    }

    /// Begins an envelope.
    pub(super) fn begin(&self) -> Write<'_> {
        let mut ring = self.ring.lock();
        ring.payload.clear();
        let sequence = self.next();
        Write { journal: self, ring, sequence, pieces: Vec::new() }
    }

    /// Goes on to the other file, if it can be filled anew.
    pub(super) fn turn(&self) -> Result<Turned, (PathBuf, io::Error)> {
        let mut ring = self.ring.lock();
        let pinned: Vec<_> = ring.files[1].logs.values().filter_map(Pin::unsettled).collect();
        if !pinned.is_empty() {
            return Ok(Turned::NotYet(pinned));
        }
        let size = ring.size;
        ring.files[1].begin(size, self.run, self.next())?;
        ring.files.swap(0, 1);
        ring.position = envelope::BLOCK_BYTES;
        Ok(Turned::Done(ring.files[1].logs.values().filter_map(Pin::unsettled).collect()))
    }

    /// Forgets all that there is, durably, once `settle` has synced it where it belongs; gives whether that went well.
    pub(super) fn empty(
        &self,
        settle: impl Fn(&Arc<SyncPoint>) -> bool,
    ) -> Result<bool, (PathBuf, io::Error)> {
        let mut ring = self.ring.lock();
        let pins = ring.files.iter().flat_map(|filling| filling.logs.values());
        let pinned: Vec<_> = pins.filter_map(Pin::unsettled).collect();
        if !pinned.iter().all(settle) {
            return Ok(false);
        }
        let size = ring.size;
        let [newer, older] = &mut ring.files;
        older.begin(size, self.run, self.next())?;
        newer.begin(size, self.run, self.next())?;
        ring.position = envelope::BLOCK_BYTES;
        Ok(true)
    }

    /// The sequence of one more write.
    fn next(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }
}

impl Filling {
    /// Has it be filled anew.
    fn begin(&mut self, size: u64, run: u64, sequence: u64) -> Result<(), (PathBuf, io::Error)> {
        begin(&self.file, size, run, sequence).map_err(|error| (self.file.path().to_owned(), error))?;
        self.logs.clear();
        Ok(())
    }
}

impl Write<'_> {
    /// Adds a log's bytes.
    pub(super) fn add(&mut self, log: &Arc<SyncPoint>, taken: &ToJournal) -> Added {
        let Write { ring, pieces, .. } = self;
        let Ring { files: [filling, _], position, size, payload } = &mut **ring;
        let bytes = taken.to - taken.from;
        let room = ENVELOPE_BYTES_MAX.min(*size - *position);
        if envelope::size(pieces.len() + 1, payload.len() as u64 + bytes) > room || pieces.len() >= PIECES_MAX
        {
            return Added::NoRoom;
        }
        if filling.logs.len() >= self.journal.logs_max && !filling.logs.contains_key(&log.partition) {
            // In a file that has taken much already it is the next one's turn; else the journal would be settled all the time.
            return if *position * 2 > *size { Added::NoRoom } else { Added::Unfit };
        }
        let start = payload.len();
        payload.resize(start + bytes as usize, 0);
        if taken.file.read_exact_at(taken.from, &mut payload[start..]).is_err() {
            payload.truncate(start);
            return Added::Unfit;
        }
        if !log.note_in_journal(taken, self.sequence) {
            payload.truncate(start);
            return Added::Changed;
        }
        pieces.push(Piece {
            log: log.partition,
            segment: taken.base,
            position: taken.from,
            bytes: u32::try_from(bytes).expect("no more than an envelope holds"),
        });
        let pin = Pin { log: log.clone(), sequence: self.sequence };
        filling.logs.insert(log.partition, pin);
        Added::Yes
    }

    /// The file that it goes to.
    pub(super) fn path(&self) -> &Path {
        self.ring.files[0].file.path()
    }

    /// Writes it, unsynced.
    pub(super) fn write(mut self) -> io::Result<Written> {
        let payload = std::mem::take(&mut self.ring.payload);
        let head = Head {
            run: self.journal.run,
            sequence: self.sequence,
            pieces: std::mem::take(&mut self.pieces),
            crc: crc32c(&[&payload]),
            file_bytes: None,
        };
        let head = head.encode();
        let bytes = head.len() + payload.len();
        let size = (bytes as u64).next_multiple_of(envelope::BLOCK_BYTES);
        let zeros = [0; envelope::BLOCK_BYTES as usize];
        let padding = &zeros[..(size as usize - bytes)];
        let slices = &mut [IoSlice::new(&head), IoSlice::new(&payload), IoSlice::new(padding)];
        let (file, position) = (self.ring.files[0].file.clone(), self.ring.position);
        file.write_all_at(position, slices)?;
        self.ring.position += size;
        let bytes = payload.len() as u64;
        self.ring.payload = payload;
        Ok(Written { file, bytes })
    }
}

/// An envelope that is in the page cache.
pub(super) struct Written {
    /// To be synced.
    pub(super) file: File,
    /// How many bytes of logs are in it.
    pub(super) bytes: u64,
}

/// The size of each file; 0 if there is to be none, or there would be no room in it.
pub(super) fn file_bytes(options: &LogDirOptions) -> u64 {
    let blocks = options.journal_bytes.get() / 2 / envelope::BLOCK_BYTES;
    if blocks < BLOCKS_MIN { 0 } else { blocks * envelope::BLOCK_BYTES }
}

/// Puts an envelope of nothing at a file's start, durably. Whatever else the file holds is void by that; and should the first envelope of
/// something be damaged, by this it is known that there should be one; and should the file's end be missing, that there was one.
fn begin(file: &File, size: u64, run: u64, sequence: u64) -> io::Result<()> {
    let (pieces, crc) = (Vec::new(), crc32c(&[]));
    let mut mark = Head { run, sequence, pieces, crc, file_bytes: Some(size) }.encode();
    mark.resize(envelope::BLOCK_BYTES as usize, 0);
    file.write_all_at(0, &mut [IoSlice::new(&mark)])?;
    // Whatever it says, it is not for want of room that this may be called again.
    file.sync_data().map_err(|error| io::Error::other(format!("sync: {error}")))
}

/// Fills a file with zeros. Written rather than only claimed, so that a sync of what comes later has no blocks to give it.
fn fill(file: &File, size: u64, is_stopping: &dyn Fn() -> bool) -> io::Result<()> {
    file.set_size(ByteCount::ZERO)?;
    let zeros = vec![0; STEP_BYTES.min(size as usize)];
    let mut position = 0;
    while position < size {
        if is_stopping() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let step = zeros.len().min((size - position) as usize);
        file.write_all_at(position, &mut [IoSlice::new(&zeros[..step])])?;
        position += step as u64;
    }
    file.sync_data()
}

/// Removes the journal of a directory, durably.
pub(super) fn remove(disk: &Disk, folder: &Path) -> io::Result<()> {
    disk.remove_dir_all(&folder.join(layout::JOURNAL))?;
    disk.sync_dir(folder)
}

/// What the fuzz target makes of a journal.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzzing {
    use aquifer_model::Offset;
    use aquifer_model::format::ENVELOPE_BYTES;
    use aquifer_model::fuzzing::resealed;

    use super::*;

    /// An envelope with checksums that hold, if its head is one.
    pub(in super::super) fn sound(bytes: &[u8]) -> Option<Vec<u8>> {
        let length = ENVELOPE_BYTES + envelope::body_bytes(bytes)? as usize;
        let (head, payload) = bytes.split_at_checked(length)?;
        let mut decoded = Head::decode(&resealed(head)?).ok()?;
        let pieces =
            decoded.pieces.iter().map(|piece| piece.bytes as usize).sum::<usize>().min(payload.len());
        decoded.crc = crc32c(&[&payload[..pieces]]);
        Some([&decoded.encode(), payload].concat())
    }

    /// Two envelopes of a log, one behind the other.
    pub(in super::super) fn envelopes(log: TopicPartition) -> Vec<Vec<u8>> {
        let envelope = |sequence, position: u64| {
            let bytes = [sequence as u8; 100];
            let piece = Piece { log, segment: Offset::ZERO, position, bytes: bytes.len() as u32 };
            let (pieces, crc) = (vec![piece], crc32c(&[&bytes]));
            let head = Head { run: 1, sequence, pieces, crc, file_bytes: None };
            let mut envelope = [&head.encode()[..], &bytes].concat();
            envelope.resize(envelope::BLOCK_BYTES as usize, 0);
            envelope
        };
        let [first, second] = [envelope(1, 0), envelope(2, 100)];
        vec![[first.clone(), second.clone()].concat(), second, first]
    }
}

#[cfg(test)]
mod tests;
