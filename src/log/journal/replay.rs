//! Puts what the journal holds where it belongs, before any log is opened.
//!
//! A piece is passed over if its log's checkpoint lies behind it, or says that it is void, or if the log is gone. Else its bytes
//! are in their segment afterwards, synced: written if they are not there already. All that came before a piece was durable when it
//! was written, so a segment that ends before it has lost bytes; it is left as it is, its log is noted to lack something (`loss.rs`), and
//! opens as a damaged one.
//!
//! A log without a checkpoint has never been cut. One whose checkpoint is damaged may have been, and what came back then would overwrite
//! what came after: there a piece only fills what is missing.
//!
//! Once all is synced the journal's files begin anew, the older one first. A crash at any place finds all of it again, or what has
//! been done already. That something of the journal could not be read is noted before.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};

use aquifer_model::format::FormatError;
use aquifer_model::{ByteCount, Offset, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::files::{Disk, File};
use aquifer_runtime::planted::{self, Planted};

use super::super::checkpoint::{Checkpoint, JournalMark};
use super::super::config::LogDirOptions;
use super::super::damage::PageCache;
use super::super::error::{OpenDirError, is_exhausted};
use super::super::health::Health;
use super::super::layout;
use super::super::loss::{self, Loss};
use super::envelope::{self, Found, Head, Piece};
use super::{FIRST_MARKS, Journal, begin, file_bytes};

/// What a directory's journal came to.
#[derive(Debug, Default)]
pub(in super::super) struct Replayed {
    /// Ready for what comes; `None` if there is none, or none of the size asked for.
    pub(in super::super) journal: Option<Journal>,
    /// Something durable in it could not be read. What logs lack of their ends may have been acknowledged.
    pub(in super::super) is_damaged: bool,
    /// Bytes of pieces that were not passed over.
    pub(in super::super) bytes: u64,
}

/// Replays the journal of a directory if `needed`, which it is unless all logs were closed in order. `is_journaled` says whether there
/// should be one. Blocks.
pub(in super::super) fn replay(
    world: &World,
    folder: &Path,
    needed: bool,
    is_journaled: bool,
    pages: PageCache,
    options: &LogDirOptions,
    health: &Health,
) -> Result<Replayed, OpenDirError> {
    let disk = &world.disk;
    let journal = folder.join(layout::JOURNAL);
    let mut files = Vec::new();
    for name in layout::JOURNAL_FILES {
        let path = journal.join(name);
        if disk.exists(&path).map_err(at(&path))? {
            files.push(disk.open(&path).map_err(at(&path))?);
        }
    }
    let mut replayed = Replayed::default();
    let mut is_missing = files.len() < layout::JOURNAL_FILES.len();
    if needed && !files.is_empty() && !planted::is(Planted::JournalNotReplayed) {
        let mut replay = Replay::new(disk, folder, pages, options, health)?;
        files = replay.all(files)?;
        (replayed.is_damaged, replayed.bytes) = (replay.is_damaged, replay.bytes);
        is_missing |= replay.is_blank;
        let (bytes, logs) = (replay.bytes, replay.logs.len());
        tracing::info!(dir = %folder.display(), bytes, logs, "put what the journal held where it belongs");
    }
    if needed && is_journaled && is_missing {
        tracing::error!(dir = %journal.display(), "the journal is gone, or a part of it: what logs lack of their ends may have been acknowledged");
        replayed.is_damaged = true;
    }
    if replayed.is_damaged {
        loss::note(disk, folder, &Loss::unseen("a part of the journal")).map_err(at(folder))?;
    }
    replayed.is_damaged |= loss::noted(disk, folder).map_err(at(folder))?.is_some();
    let size = file_bytes(options);
    let fits = |file: &File| file.size().map(|found| size > 0 && found.get() == size);
    if let Ok([one, other]) = <[File; 2]>::try_from(files)
        && fits(&one).map_err(at(one.path()))?
        && fits(&other).map_err(at(other.path()))?
    {
        // Who made them may have been killed before their names were durable.
        disk.sync_dir(&journal).map_err(at(&journal))?;
        // They are in order, the older one first.
        let run = world.rng.number();
        for (file, sequence) in [&one, &other].into_iter().zip(FIRST_MARKS.into_iter().rev()) {
            let begun = begin(file, size, run, sequence);
            begun
                .inspect_err(|error| health.fail(file.path(), "write of", error))
                .map_err(at(file.path()))?;
        }
        replayed.journal = Some(Journal::over([other, one], size, run, options));
    }
    Ok(replayed)
}

fn at(path: &Path) -> impl Fn(io::Error) -> OpenDirError {
    let path = path.to_owned();
    move |error| OpenDirError::Io { path: path.clone(), error }
}

/// Which envelope: run and sequence.
type Which = (u64, u64);

struct Replay<'a> {
    disk: &'a Disk,
    folder: &'a Path,
    pages: PageCache,
    health: &'a Health,
    files_max: usize,
    /// Where the logs are.
    folders: HashMap<TopicPartition, PathBuf>,
    /// Those of which pieces were met.
    logs: HashMap<TopicPartition, Target>,
    /// Segments that have been looked at, or written to, and are not synced yet; with their sizes.
    open: HashMap<PathBuf, (File, u64)>,
    is_damaged: bool,
    /// No file says that anything was ever written to it. One is begun anew at a time, so there is always one that does.
    is_blank: bool,
    bytes: u64,
}

/// A log, as its checkpoint has it.
#[derive(Clone)]
struct Target {
    folder: PathBuf,
    /// Recovery starts in this segment, at this byte.
    point: (Offset, u64),
    void: Option<JournalMark>,
    /// Nobody knows what of it is void.
    is_vague: bool,
    is_lost: bool,
}

impl<'a> Replay<'a> {
    fn new(
        disk: &'a Disk,
        folder: &'a Path,
        pages: PageCache,
        options: &LogDirOptions,
        health: &'a Health,
    ) -> Result<Replay<'a>, OpenDirError> {
        let topics = folder.join(layout::TOPICS);
        let mut folders = HashMap::new();
        for topic in disk.list(&topics).map_err(at(&topics))?.into_iter().filter(|entry| entry.is_dir) {
            let topic = topics.join(topic.name);
            for entry in disk.list(&topic).map_err(at(&topic))?.into_iter().filter(|entry| entry.is_dir) {
                if let Some(partition) = layout::parse_partition(&entry.name) {
                    folders.insert(partition, topic.join(entry.name));
                }
            }
        }
        let files_max = (options.files_open_max / 2).max(1);
        let (logs, open) = Default::default();
        let (is_damaged, is_blank, bytes) = (false, false, 0);
        Ok(Replay {
            disk,
            folder,
            pages,
            health,
            files_max,
            folders,
            logs,
            open,
            is_damaged,
            is_blank,
            bytes,
        })
    }

    /// All envelopes, in the order in which they were written; gives the files in this order.
    fn all(&mut self, files: Vec<File>) -> Result<Vec<File>, OpenDirError> {
        let mut ordered = Vec::new();
        // Both are as long as either says.
        let mut size_told = 0;
        for file in files {
            if self.pages == PageCache::PerhapsLost {
                file.forget_clean_pages();
            }
            let size = file.size().map_err(at(file.path()))?.get();
            let first = match self.read(&file, 0, size)? {
                Found::Envelope(head, ..) => {
                    size_told = size_told.max(head.file_bytes.unwrap_or_default());
                    Some((head.run, head.sequence))
                }
                Found::Nothing => None,
            };
            // One without a first envelope was about to be filled anew, or its start is damaged.
            ordered.push((first.is_none(), first, size, file));
        }
        self.is_blank = ordered.iter().all(|(is_blank, ..)| *is_blank);
        ordered.sort_by_key(|(is_blank, first, ..)| (*is_blank, *first));
        let mut last = None;
        for (_, _, size, file) in &ordered {
            if *size < size_told {
                tracing::error!(file = %file.path().display(), size, size_told, "the journal has lost its end: what logs lack of theirs may have been acknowledged");
                self.is_damaged = true;
            }
            last = self.file(file, *size, last)?.or(last);
        }
        self.sync()?;
        // Of the files, which are begun anew in this order, one that says something is the last.
        ordered.sort_by_key(|(is_blank, ..)| !*is_blank);
        Ok(ordered.into_iter().map(|(.., file)| file).collect())
    }

    fn read(&self, file: &File, position: u64, size: u64) -> Result<Found, OpenDirError> {
        let found = envelope::read(file, position, size).map_err(at(file.path()))?;
        found.map_err(|error| OpenDirError::Format { path: file.path().to_owned(), error })
    }

    /// The envelopes of a file, which come behind `last`. Gives the last of them.
    fn file(
        &mut self,
        file: &File,
        size: u64,
        mut last: Option<Which>,
    ) -> Result<Option<Which>, OpenDirError> {
        let mut position = 0;
        loop {
            if let Found::Envelope(head, payload, next) = self.read(file, position, size)?
                && last.is_none_or(|(run, sequence)| head.run == run && head.sequence > sequence)
            {
                self.envelope(&head, &payload)?;
                last = Some((head.run, head.sequence));
                position = next;
                continue;
            }
            let Some(known) = last else { return Ok(None) };
            let later = envelope::find_later(file, position, size, known).map_err(at(file.path()))?;
            let Some(later) = later else { return Ok(last) };
            tracing::error!(file = %file.path().display(), position, later, "the journal is damaged: what logs lack of their ends may have been acknowledged");
            self.is_damaged = true;
            position = later;
        }
    }

    fn envelope(&mut self, head: &Head, payload: &[u8]) -> Result<(), OpenDirError> {
        let mut left = payload;
        for piece in &head.pieces {
            let (bytes, rest) = left.split_at(piece.bytes as usize);
            left = rest;
            self.piece(head, piece, bytes)?;
        }
        Ok(())
    }

    fn piece(&mut self, head: &Head, piece: &Piece, bytes: &[u8]) -> Result<(), OpenDirError> {
        let Some(target) = self.target(piece.log)? else { return Ok(()) };
        let (segment, position) = target.point;
        let Some(end) = piece.position.checked_add(bytes.len() as u64) else { return Ok(()) };
        let is_void = target.void.is_some_and(|void| void.run == head.run && head.sequence < void.sequence);
        let is_kept = piece.segment < segment || (piece.segment == segment && end <= position);
        if is_void || is_kept || target.is_lost {
            return Ok(());
        }
        let path = layout::segment_file(&target.folder, piece.segment, layout::LOG);
        let found = self.segment(&path, piece.position == 0 && !target.is_vague)?;
        let size = found.as_ref().map_or(0, |(_, size)| *size);
        let Some((file, _)) = found.filter(|_| size >= piece.position) else {
            // What is vague may have been cut off.
            if !target.is_vague {
                let what = format!(
                    "{} has {size} bytes, and byte {} was acknowledged",
                    path.display(),
                    piece.position
                );
                self.note_lost(piece.log, &target.folder, &what)?;
            }
            return Ok(());
        };
        self.bytes += bytes.len() as u64;
        let known = file.read_at(piece.position, bytes.len()).map_err(at(&path))?;
        let is_there = known == bytes;
        let is_other =
            target.is_vague && known.iter().zip(bytes).any(|(known, byte)| known != byte && *known != 0);
        if !is_there && !is_other {
            self.write(&file, piece.position, bytes)?;
            self.open.insert(path, (file, size.max(end)));
        }
        Ok(())
    }

    fn note_lost(&mut self, log: TopicPartition, folder: &Path, what: &str) -> Result<(), OpenDirError> {
        tracing::error!(%log, what, "a segment has lost what was synced");
        loss::note(self.disk, folder, &Loss::unseen(what)).map_err(at(folder))?;
        if let Some(target) = self.logs.get_mut(&log) {
            target.is_lost = true;
        }
        Ok(())
    }

    /// With what was held back for a full disk given up if it takes that.
    fn write(&self, file: &File, position: u64, bytes: &[u8]) -> Result<(), OpenDirError> {
        let write = || file.write_all_at(position, &mut [IoSlice::new(bytes)]);
        let written = match write() {
            Err(error) if is_exhausted(&error) => {
                let reserve = self.folder.join(layout::RESERVE);
                let given_up = self.disk.open_or_create(&reserve);
                given_up.and_then(|file| file.set_size(ByteCount::ZERO)).map_err(at(&reserve))?;
                write()
            }
            other => other,
        };
        written.map_err(at(file.path()))
    }

    /// The log's folder and what its checkpoint says; `None` if there is no such log any more.
    fn target(&mut self, log: TopicPartition) -> Result<Option<Target>, OpenDirError> {
        let Some(folder) = self.folders.get(&log) else { return Ok(None) };
        if let Some(known) = self.logs.get(&log) {
            return Ok(Some(known.clone()));
        }
        let target = Target::of(self.disk, folder)?;
        self.logs.insert(log, target.clone());
        Ok(Some(target))
    }

    /// A segment's file, and its size. One that is not there may be made if it is new: then its name was not durable.
    fn segment(&mut self, path: &Path, may_be_new: bool) -> Result<Option<(File, u64)>, OpenDirError> {
        if let Some(open) = self.open.get(path) {
            return Ok(Some(open.clone()));
        }
        if self.open.len() >= self.files_max {
            self.sync()?;
        }
        if !may_be_new && !self.disk.exists(path).map_err(at(path))? {
            return Ok(None);
        }
        let file = self.disk.open_or_create(path).map_err(at(path))?;
        // Also if it is there: its name may be in the page cache alone.
        if may_be_new && let Some(folder) = path.parent() {
            let synced = self.disk.sync_dir(folder);
            synced.inspect_err(|error| self.health.fail(folder, "sync of", error)).map_err(at(folder))?;
        }
        if self.pages == PageCache::PerhapsLost {
            // Of a sync that failed the page cache says that all is well.
            file.forget_clean_pages();
        }
        let size = file.size().map_err(at(path))?.get();
        self.open.insert(path.to_owned(), (file.clone(), size));
        Ok(Some((file, size)))
    }

    /// Makes all of it durable so far: also what was there already, for it may have been in the page cache alone.
    fn sync(&mut self) -> Result<(), OpenDirError> {
        for (path, (file, _)) in self.open.drain() {
            // The next start must not believe the page cache.
            let synced = file.sync_data().inspect_err(|error| self.health.fail(&path, "sync of", error));
            synced.map_err(at(&path))?;
        }
        Ok(())
    }
}

impl Target {
    fn of(disk: &Disk, folder: &Path) -> Result<Target, OpenDirError> {
        let path = folder.join(layout::CHECKPOINT);
        let stored = disk.read_if_exists(&path).map_err(at(&path))?;
        let (point, void, is_vague) = match stored.as_deref().map(Checkpoint::decode) {
            Some(Ok(checkpoint)) => {
                let point = (checkpoint.point.segment, checkpoint.point.position);
                (point, checkpoint.journal, false)
            }
            Some(Err(error @ (FormatError::Version { .. } | FormatError::RequiredField { .. }))) => {
                return Err(OpenDirError::Format { path, error });
            }
            Some(Err(_)) => ((Offset::ZERO, 0), None, true),
            None => {
                // Only one that never had a checkpoint has nothing but segments.
                let names = disk.list(folder).map_err(at(folder))?;
                let of = |extension| {
                    names.iter().filter_map(move |entry| layout::parse_segment_file(&entry.name, extension))
                };
                let had_one = of(layout::INDEX).chain(of(layout::SNAPSHOT)).next().is_some();
                ((Offset::ZERO, 0), None, had_one)
            }
        };
        Ok(Target { folder: folder.to_owned(), point, void, is_vague, is_lost: false })
    }
}
