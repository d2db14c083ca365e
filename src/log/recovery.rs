//! Opens what a stop, a crash or a power cut has left.
//!
//! All before the last checkpoint is taken as it is: it was synced before the checkpoint was written, and its checksums were
//! checked when it came. What lies behind is walked with every checksum, which gives back indexes, epochs and producers. Closed
//! segments are not opened: the checkpoint says what there is to know of them.
//!
//! Where the walk meets bytes that are no sound batch, `damage.rs` decides. A torn tail is copied into quarantine and cut. For
//! corruption nothing is touched: the log ends before it, takes no appends and says so.
//!
//! A checkpoint that is lost is replaced by the newest snapshot of a segment's start, or by the start of the log; indexes and
//! snapshots that are lost are made anew. A crash during recovery leaves what recovery finds again.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquifer_model::format::{FormatError, Reader};
use aquifer_model::{BatchHeader, ByteCount, Offset, OffsetRange, Timestamp, TopicPartition};
use aquifer_runtime::files::File;
use parking_lot::Mutex;

use super::books::WrittenIndex;
use super::checkpoint::{Checkpoint, RecoveryPoint, SealedFacts, Snapshot, encode_snapshot};
use super::config::LogConfig;
use super::damage::{self, Damage, Lineage, Source};
use super::error::{Corruption, OpenLogError, ReadError};
use super::handle::Condition;
use super::index;
use super::layout;
use super::open_files::FileSlot;
use super::producers::Producers;
use super::scan::{Depth, Scan, Step};
use super::segment::{Sealed, Tail, Unwritten, marker_in};
use super::shared::Shared;

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Bytes read again, with every checksum, because they lay behind the last checkpoint.
    pub reread: ByteCount,
    /// What was not as a clean stop leaves it.
    pub findings: Vec<RecoveryFinding>,
}

/// Something that a clean stop does not leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryFinding {
    /// An unfinished tail, never acknowledged, was cut off; its bytes are in `quarantine`.
    TornTail {
        /// Which file.
        file: PathBuf,
        /// Where it was cut.
        position: u64,
        /// How much was cut, later segments included.
        bytes: ByteCount,
        /// Where the bytes are now, if they could be saved.
        quarantine: Option<PathBuf>,
    },
    /// Bytes that may have been acknowledged are damaged. The log takes no appends until that is settled.
    Corrupt(Corruption),
    /// The checkpoint was lost or damaged; recovery began earlier.
    CheckpointLost,
    /// The open segment's index was lost or damaged and was made anew.
    IndexRebuilt,
}

/// A log as found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) sealed: VecDeque<Arc<Sealed>>,
    pub(crate) tail: Tail,
    pub(crate) active: Arc<FileSlot>,
    pub(crate) log_start: Offset,
    pub(crate) local_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(super) condition: Condition,
    pub(crate) point: RecoveryPoint,
    pub(super) written: WrittenIndex,
    /// Files whose bytes behind the checkpoint were read, and may never have been synced; by their segment's base.
    pub(crate) unsynced: Vec<(Offset, File)>,
    pub(crate) report: RecoveryReport,
}

/// Bytes whose checksums need not be checked again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trusted {
    /// Where they end in the file.
    pub(crate) end: u64,
    /// The offset to stop before.
    pub(crate) until: Offset,
    pub(crate) interval: ByteCount,
    pub(crate) now: Timestamp,
}

/// Walks on from where `tail` stands, as far as whole batches lie before `until`.
pub(crate) fn replay(mut tail: Tail, file: &File, trusted: &Trusted) -> Result<Tail, ReadError> {
    let io = |error| ReadError::io(file.path(), error);
    let damaged = |position, what: String| -> ReadError {
        Corruption { file: file.path().to_owned(), position, what }.into()
    };
    let mut scan = Scan::new(file.clone(), Depth::Headers, tail.bytes, trusted.end);
    loop {
        match scan.step().map_err(io)? {
            Step::End => return Ok(tail),
            Step::Damage(error) => return Err(damaged(scan.position(), error.to_string())),
            Step::Batch(position, header) => {
                if header.base_offset != tail.end {
                    return Err(damaged(
                        position,
                        format!("offset {} follows {}", header.base_offset, tail.end),
                    ));
                }
                if header.next_offset() > trusted.until {
                    return Ok(tail);
                }
                let marker = match header.is_control() {
                    true => marker_in(&header, scan.bytes(position, header.size()).map_err(io)?),
                    false => None,
                };
                tail.note(&header, marker, trusted.interval, trusted.now);
            }
        }
    }
}

/// Opens a partition's folder; makes an empty log where there is none yet.
pub(crate) fn recover(
    shared: &Shared,
    folder: &Path,
    partition: TopicPartition,
    config: &LogConfig,
) -> Result<Recovered, OpenLogError> {
    let names = tidy(shared, folder)?;
    let mut report = RecoveryReport::default();
    let mut opening = Opening {
        shared,
        folder,
        partition,
        interval: config.index_interval_bytes,
        now: shared.world.clock.wall(),
        bases: names.iter().filter_map(|name| layout::parse_segment_file(name, layout::LOG)).collect(),
        has_books: names.iter().any(|name| {
            let parse = |extension| layout::parse_segment_file(name, extension);
            parse(layout::INDEX).or(parse(layout::SNAPSHOT)).is_some()
        }),
    };
    let (checkpoint, condition) = opening.begin(&mut report)?;
    opening.finish(checkpoint, condition, report)
}

/// Removes what interrupted writes and removals have left; gives the names of the rest.
fn tidy(shared: &Shared, folder: &Path) -> Result<Vec<String>, OpenLogError> {
    let io = |error| OpenLogError::Io { path: folder.to_owned(), error };
    let mut names = Vec::new();
    for entry in shared.world.disk.list(folder).map_err(io)? {
        if entry.name.ends_with(layout::DELETED) || entry.name.ends_with(layout::TEMPORARY) {
            shared.keeper.remove(&folder.join(&entry.name));
        } else {
            names.push(entry.name);
        }
    }
    Ok(names)
}

struct Opening<'a> {
    shared: &'a Shared,
    folder: &'a Path,
    partition: TopicPartition,
    interval: ByteCount,
    now: Timestamp,
    /// Of the segments on disk, ascending.
    bases: Vec<Offset>,
    /// Whether there is any index or snapshot.
    has_books: bool,
}

impl Opening<'_> {
    fn path(&self, base: Offset, extension: &str) -> PathBuf {
        layout::segment_file(self.folder, base, extension)
    }

    fn io(path: &Path) -> impl Fn(io::Error) -> OpenLogError {
        let path = path.to_owned();
        move |error| OpenLogError::Io { path: path.clone(), error }
    }

    /// Where to start, and whether what lies before is as the checkpoint says.
    fn begin(&mut self, report: &mut RecoveryReport) -> Result<(Checkpoint, Condition), OpenLogError> {
        let path = self.folder.join(layout::CHECKPOINT);
        let stored = self.shared.world.disk.read_if_exists(&path).map_err(Self::io(&path))?;
        let checkpoint = match stored.as_deref().map(Checkpoint::decode) {
            Some(Ok(checkpoint)) => checkpoint,
            Some(Err(error @ (FormatError::Version { .. } | FormatError::RequiredField { .. }))) => {
                return Err(OpenLogError::Format { path, error });
            }
            None if self.is_young() => fresh(),
            None | Some(Err(_)) => {
                report.findings.push(RecoveryFinding::CheckpointLost);
                self.without_checkpoint()?
            }
        };
        if checkpoint.discard {
            self.discard()?;
            return Ok((Checkpoint { discard: false, ..checkpoint }, Condition::Open));
        }
        self.drop_below(&checkpoint)?;
        let condition = match self.check_sealed(&checkpoint)? {
            None => Condition::Open,
            Some(corruption) => {
                report.findings.push(RecoveryFinding::Corrupt(corruption.clone()));
                Condition::Corrupt(corruption)
            }
        };
        Ok((checkpoint, condition))
    }

    /// Whether this log never had a checkpoint: it is empty, or has one segment that none of the books mentions.
    fn is_young(&self) -> bool {
        !self.has_books && self.bases.iter().all(|base| *base == Offset::ZERO)
    }

    /// A log that was to start anew: all its segments go.
    fn discard(&mut self) -> Result<(), OpenLogError> {
        for base in std::mem::take(&mut self.bases) {
            self.remove_segment(base)?;
        }
        self.shared.world.disk.sync_dir(self.folder).map_err(Self::io(self.folder))
    }

    fn remove_segment(&self, base: Offset) -> Result<(), OpenLogError> {
        for extension in [layout::LOG, layout::INDEX, layout::SNAPSHOT] {
            let path = self.path(base, extension);
            self.shared.world.disk.remove(&path).map_err(Self::io(&path))?;
        }
        Ok(())
    }

    /// Segments that were dropped from the log and whose files a stop has left.
    fn drop_below(&mut self, checkpoint: &Checkpoint) -> Result<(), OpenLogError> {
        let first = checkpoint.sealed.first().map_or(checkpoint.point.segment, |facts| facts.range.base);
        let (gone, kept) = self.bases.iter().partition(|base| **base < first);
        self.bases = kept;
        let gone: Vec<Offset> = gone;
        gone.into_iter().try_for_each(|base| self.remove_segment(base))
    }

    /// Whether closed segments are there, at their lengths.
    fn check_sealed(&self, checkpoint: &Checkpoint) -> Result<Option<Corruption>, OpenLogError> {
        for facts in &checkpoint.sealed {
            let file = self.path(facts.range.base, layout::LOG);
            let size = self.shared.world.disk.size_of(&file).map_err(Self::io(&file))?;
            if size != Some(facts.bytes) {
                let found = size.map_or("is missing".to_owned(), |size| format!("has {} bytes", size.get()));
                let what = format!("a closed segment of {} bytes {found}", facts.bytes.get());
                let position = size.map_or(0, |size| size.get().min(facts.bytes.get()));
                return Ok(Some(Corruption { file, position, what }));
            }
        }
        Ok(None)
    }

    /// A checkpoint in place of a lost one: at the newest segment whose start has a sound snapshot, or at the first segment.
    fn without_checkpoint(&self) -> Result<Checkpoint, OpenLogError> {
        let first = self.bases.first().copied().unwrap_or(Offset::ZERO);
        let mut start = Snapshot { offset: first, log_start: first, ..Snapshot::default() };
        for base in self.bases.iter().rev() {
            let path = self.path(*base, layout::SNAPSHOT);
            let stored = self.shared.world.disk.read_if_exists(&path).map_err(Self::io(&path))?;
            if let Some(Ok(snapshot)) = stored.as_deref().map(Snapshot::decode)
                && snapshot.offset == *base
            {
                start = snapshot;
                break;
            }
        }
        let mut sealed = Vec::new();
        for pair in self.bases.windows(2).take_while(|pair| pair[0] < start.offset) {
            sealed.push(self.facts_of(OffsetRange { base: pair[0], next: pair[1] })?);
        }
        let point = RecoveryPoint {
            segment: start.offset,
            position: 0,
            offset: start.offset,
            producers: super::books::encode_producers(&start.producers),
            epochs: start.epochs,
        };
        let local_start = first.max(start.log_start);
        Ok(Checkpoint {
            point,
            log_start: start.log_start,
            local_start,
            high_watermark: start.log_start,
            sealed,
            discard: false,
        })
    }

    /// What is known of a closed segment, from its files. When it was closed is not: it counts as closed now.
    fn facts_of(&self, range: OffsetRange) -> Result<SealedFacts, OpenLogError> {
        let log = self.path(range.base, layout::LOG);
        let bytes = self.shared.world.disk.size_of(&log).map_err(Self::io(&log))?.unwrap_or_default();
        let path = self.path(range.base, layout::INDEX);
        let stored =
            self.shared.world.disk.read_if_exists(&path).map_err(Self::io(&path))?.unwrap_or_default();
        let loaded = index::load(&stored, range.base, bytes.get())
            .map_err(|error| OpenLogError::Format { path: path.clone(), error })?;
        let complete = loaded.mark.position == bytes.get() && loaded.mark.next == range.next;
        // A segment without its index is walked; the aborted transactions in it are found when their producers are known.
        let builder = if complete { loaded.builder } else { self.walk(&log, range, bytes)?.builder };
        Ok(SealedFacts {
            range,
            bytes,
            timestamp_max: builder.running.timestamp_max,
            sealed_at: self.now,
            // One more than none makes a reader look; the index itself is made anew there.
            aborted: if complete { builder.index.aborted.len() as u32 } else { 1 },
        })
    }

    fn walk(&self, log: &Path, range: OffsetRange, bytes: ByteCount) -> Result<Tail, OpenLogError> {
        let file = self.shared.world.disk.open_read(log).map_err(Self::io(log))?;
        let trusted = Trusted { end: bytes.get(), until: range.next, interval: self.interval, now: self.now };
        let tail = Tail::at(range.base, Default::default(), Producers::default());
        match replay(tail.clone(), &file, &trusted) {
            Ok(tail) => Ok(tail),
            // Its readers will be told.
            Err(ReadError::Corrupt(_)) => Ok(tail),
            Err(error) => {
                Err(OpenLogError::Io { path: log.to_owned(), error: io::Error::other(error.to_string()) })
            }
        }
    }

    /// Walks what lies behind the checkpoint.
    fn finish(
        mut self,
        checkpoint: Checkpoint,
        mut condition: Condition,
        mut report: RecoveryReport,
    ) -> Result<Recovered, OpenLogError> {
        let Checkpoint { point, log_start, local_start, high_watermark, sealed, discard: _ } = checkpoint;
        let (mut tail, mut written) = self.tail_at(&point, &mut report)?;
        let mut sealed: VecDeque<Arc<Sealed>> =
            sealed.into_iter().map(|facts| self.sealed(facts, None)).collect();
        let mut active = self.segment(point.segment, point.position)?;
        let mut unsynced = Vec::new();
        loop {
            let (file, size) = self.open(&active)?;
            let stop = self.walk_on(&mut tail, &file, size, &mut report)?;
            let next = self.bases.iter().copied().find(|base| *base > tail.base);
            let damage = match (stop, next) {
                (Stop::End, None) => break,
                (Stop::End, Some(next)) if next == tail.end => {
                    // Rolled after the last checkpoint.
                    unsynced.push((tail.base, file));
                    tail.builder.note_time();
                    let facts = tail.seal(self.now);
                    let after = Tail::at(tail.end, tail.epochs.clone(), tail.producers.clone());
                    let closed = std::mem::replace(&mut tail, after);
                    let snapshot = encode_snapshot(tail.end, log_start, &tail.epochs, &tail.producers);
                    let unwritten = Unwritten { builder: closed.builder, snapshot };
                    sealed.push_back(self.sealed(facts, Some((active, unwritten))));
                    active = self.shared.files.slot(self.path(next, layout::LOG));
                    continue;
                }
                (Stop::End, Some(_)) => "its last bytes are missing".to_owned(),
                (Stop::Damage(what), _) => what,
            };
            let settled = self.settle(&tail, &file, size, next, damage, &mut report)?;
            if let (Some(corruption), Condition::Open) = (settled, &condition) {
                condition = Condition::Corrupt(corruption);
            }
            break;
        }
        if report.reread > ByteCount::ZERO || !unsynced.is_empty() {
            unsynced.push((tail.base, self.open(&active)?.0));
        }
        self.shared.metrics.reread_bytes.inc_by(report.reread.get());
        if written.base != point.segment {
            written = WrittenIndex::none(point.segment);
        }
        let high_watermark = high_watermark.min(tail.end);
        Ok(Recovered {
            sealed,
            tail,
            active,
            log_start,
            local_start,
            high_watermark,
            condition,
            point,
            written,
            unsynced,
            report,
        })
    }

    fn sealed(&self, facts: SealedFacts, closed: Option<(Arc<FileSlot>, Unwritten)>) -> Arc<Sealed> {
        let (log, unwritten) = closed.unzip();
        Arc::new(Sealed {
            number: self.shared.number(),
            facts,
            log: log.unwrap_or_else(|| self.shared.files.slot(self.path(facts.range.base, layout::LOG))),
            index_path: self.path(facts.range.base, layout::INDEX),
            unwritten: Mutex::new(unwritten.map(Arc::new)),
        })
    }

    /// The open segment's file; an empty one is made where a crash came before it.
    fn segment(&mut self, base: Offset, position: u64) -> Result<Arc<FileSlot>, OpenLogError> {
        let path = self.path(base, layout::LOG);
        if self.bases.contains(&base) {
            return Ok(self.shared.files.slot(path));
        }
        let slot = self.shared.files.create(path.clone()).map_err(Self::io(&path))?;
        self.shared.world.disk.sync_dir(self.folder).map_err(Self::io(self.folder))?;
        if position > 0 {
            tracing::error!(path = %path.display(), "the open segment is missing");
        }
        Ok(slot)
    }

    fn open(&self, slot: &Arc<FileSlot>) -> Result<(File, u64), OpenLogError> {
        let file = self.shared.files.get(slot).map_err(Self::io(slot.path()))?;
        let size = file.size().map_err(Self::io(slot.path()))?;
        Ok((file, size.get()))
    }

    /// The state at the checkpoint.
    fn tail_at(
        &self,
        point: &RecoveryPoint,
        report: &mut RecoveryReport,
    ) -> Result<(Tail, WrittenIndex), OpenLogError> {
        let path = self.path(point.segment, layout::INDEX);
        let stored =
            self.shared.world.disk.read_if_exists(&path).map_err(Self::io(&path))?.unwrap_or_default();
        let loaded = index::load(&stored, point.segment, point.position)
            .map_err(|error| OpenLogError::Format { path: path.clone(), error })?;
        let written = WrittenIndex { base: point.segment, mark: loaded.mark, bytes: loaded.file_bytes };
        let producers = self.producers_at(point)?;
        let mut tail = Tail {
            base: point.segment,
            bytes: point.position,
            end: point.offset,
            builder: loaded.builder,
            epochs: point.epochs.clone(),
            producers,
        };
        if loaded.mark.position != point.position {
            report.findings.push(RecoveryFinding::IndexRebuilt);
            self.shared.metrics.rebuilt_indexes.inc();
            tail.builder = self.rebuild_index(point)?;
            return Ok((tail, WrittenIndex::none(point.segment)));
        }
        Ok((tail, written))
    }

    fn producers_at(&self, point: &RecoveryPoint) -> Result<Producers, OpenLogError> {
        if point.producers.is_empty() {
            return Ok(Producers::default());
        }
        let path = self.folder.join(layout::CHECKPOINT);
        let mut reader = Reader::new("checkpoint", &point.producers);
        Producers::read(&mut reader).map_err(|error| OpenLogError::Format { path, error })
    }

    /// The open segment's index up to the checkpoint, from the batches and the snapshot at the segment's start.
    fn rebuild_index(&self, point: &RecoveryPoint) -> Result<index::IndexBuilder, OpenLogError> {
        let path = self.path(point.segment, layout::SNAPSHOT);
        let stored = self.shared.world.disk.read_if_exists(&path).map_err(Self::io(&path))?;
        let start = stored.as_deref().and_then(|bytes| Snapshot::decode(bytes).ok()).unwrap_or_default();
        let log = self.path(point.segment, layout::LOG);
        let Some(size) = self.shared.world.disk.size_of(&log).map_err(Self::io(&log))? else {
            return Ok(index::IndexBuilder::new());
        };
        let file = self.shared.world.disk.open_read(&log).map_err(Self::io(&log))?;
        let end = point.position.min(size.get());
        let trusted = Trusted { end, until: point.offset, interval: self.interval, now: self.now };
        let tail = Tail::at(point.segment, Default::default(), start.producers);
        match replay(tail, &file, &trusted) {
            Ok(tail) => Ok(tail.builder),
            Err(ReadError::Io { path, error }) => Err(OpenLogError::Io { path, error }),
            // Damage below the checkpoint: readers will be told; for finding one's way the rest of the index has to do.
            Err(_) => Ok(index::IndexBuilder::new()),
        }
    }

    /// Walks the open segment to its end or to damage, with every checksum.
    fn walk_on(
        &self,
        tail: &mut Tail,
        file: &File,
        size: u64,
        report: &mut RecoveryReport,
    ) -> Result<Stop, OpenLogError> {
        if size < tail.bytes {
            return Ok(Stop::Damage(format!("{} bytes were synced, the file has {size}", tail.bytes)));
        }
        let mut scan = Scan::new(file.clone(), Depth::Whole, tail.bytes, size);
        let io = Self::io(file.path());
        let began = tail.bytes;
        let stop = loop {
            match scan.step().map_err(&io)? {
                Step::End => break Stop::End,
                Step::Damage(error) => break Stop::Damage(error.to_string()),
                Step::Batch(position, header) => {
                    if let Some(what) = breaks_lineage(tail, &header) {
                        break Stop::Damage(what);
                    }
                    let marker = match header.is_control() {
                        true => marker_in(&header, scan.bytes(position, header.size()).map_err(&io)?),
                        false => None,
                    };
                    tail.note(&header, marker, self.interval, self.now);
                }
            }
        };
        report.reread += ByteCount(tail.bytes - began);
        Ok(stop)
    }

    /// Cuts a torn tail; leaves corruption as it is and gives it.
    fn settle(
        &self,
        tail: &Tail,
        file: &File,
        size: u64,
        next: Option<Offset>,
        what: String,
        report: &mut RecoveryReport,
    ) -> Result<Option<Corruption>, OpenLogError> {
        let io = Self::io(file.path());
        let lineage = Lineage { end: tail.end, epoch: tail.epochs.latest() };
        let followed = match next {
            Some(next) => self.starts_soundly(next, lineage)?,
            None => false,
        };
        let verdict = if size < tail.bytes {
            Damage::Corrupt
        } else if size == tail.bytes {
            // Whole pages at the end never came, and the file's length with them.
            Damage::Torn
        } else {
            damage::judge(&mut FileSource(file), tail.bytes, size, lineage, followed).map_err(&io)?
        };
        let position = tail.bytes;
        if verdict == Damage::Corrupt {
            let corruption = Corruption { file: file.path().to_owned(), position, what };
            tracing::error!(log = %self.partition, %corruption, "a log is damaged; it takes no appends until that is settled");
            self.shared.metrics.corruptions.inc();
            report.findings.push(RecoveryFinding::Corrupt(corruption.clone()));
            return Ok(Some(corruption));
        }
        let later = self.bases.iter().copied().filter(|base| *base > tail.base).collect();
        let cut = Cut {
            folder: self.folder,
            partition: self.partition,
            file,
            position,
            size,
            later,
            end: tail.end,
        };
        let (bytes, quarantine) = cut_tail(self.shared, &cut).map_err(&io)?;
        tracing::warn!(log = %self.partition, file = %file.path().display(), position, what, %bytes, "cut off an unfinished tail");
        self.shared.metrics.torn_tails.inc();
        let file = file.path().to_owned();
        report.findings.push(RecoveryFinding::TornTail { file, position, bytes, quarantine });
        Ok(None)
    }

    /// Whether the segment at `base` starts with a sound batch.
    fn starts_soundly(&self, base: Offset, lineage: Lineage) -> Result<bool, OpenLogError> {
        let path = self.path(base, layout::LOG);
        let file = self.shared.world.disk.open_read(&path).map_err(Self::io(&path))?;
        let size = file.size().map_err(Self::io(&path))?.get();
        let step = Scan::new(file, Depth::Whole, 0, size).step().map_err(Self::io(&path))?;
        Ok(
            matches!(step, Step::Batch(_, header) if header.base_offset == base && header.leader_epoch >= lineage.epoch),
        )
    }
}

/// How a walk of a segment ended.
enum Stop {
    End,
    Damage(String),
}

/// A checkpoint for a log that never was.
fn fresh() -> Checkpoint {
    let point = RecoveryPoint {
        segment: Offset::ZERO,
        position: 0,
        offset: Offset::ZERO,
        epochs: Default::default(),
        producers: bytes::Bytes::new(),
    };
    Checkpoint {
        point,
        log_start: Offset::ZERO,
        local_start: Offset::ZERO,
        high_watermark: Offset::ZERO,
        sealed: Vec::new(),
        discard: false,
    }
}

fn breaks_lineage(tail: &Tail, header: &BatchHeader) -> Option<String> {
    if header.base_offset != tail.end {
        return Some(format!("a batch of offset {} follows {}", header.base_offset, tail.end));
    }
    match header.leader_epoch {
        None => Some("a batch has no leader epoch".to_owned()),
        epoch if epoch < tail.epochs.latest() => {
            Some("a batch is of an older leader than the one before".to_owned())
        }
        Some(_) if !tail.reaches(header.last_offset()) => Some("a segment is too large".to_owned()),
        Some(_) => None,
    }
}

struct FileSource<'a>(&'a File);

impl Source for FileSource<'_> {
    fn bytes(&mut self, position: u64, count: usize) -> io::Result<Vec<u8>> {
        self.0.read_at(position, count)
    }
}

/// A tail that goes.
pub(super) struct Cut<'a> {
    pub(super) folder: &'a Path,
    pub(super) partition: TopicPartition,
    pub(super) file: &'a File,
    pub(super) position: u64,
    pub(super) size: u64,
    /// Bases of segments behind, which go as a whole.
    pub(super) later: Vec<Offset>,
    pub(super) end: Offset,
}

/// Moves a tail into quarantine and cuts it off, durably. What cannot be saved for want of space is cut nevertheless: it was never
/// acknowledged, and a full disk must not keep a log from opening.
pub(super) fn cut_tail(shared: &Shared, cut: &Cut<'_>) -> io::Result<(ByteCount, Option<PathBuf>)> {
    let disk = &shared.world.disk;
    let name = format!("{}-{:020}-{:x}", cut.partition, cut.end.get(), shared.world.rng.number());
    let mut bytes = cut.size - cut.position;
    let target = shared.quarantine_file(&format!("{name}.{}", layout::LOG));
    let saved = copy_tail(shared, cut, &target);
    if let Err(error) = &saved {
        tracing::warn!(path = %target.display(), %error, "could not save an unfinished tail before cutting it off");
    }
    for base in &cut.later {
        let log = layout::segment_file(cut.folder, *base, layout::LOG);
        bytes += disk.size_of(&log)?.map_or(0, ByteCount::get);
        disk.rename(&log, &shared.quarantine_file(&format!("{name}-{:020}.{}", base.get(), layout::LOG)))?;
        for extension in [layout::INDEX, layout::SNAPSHOT] {
            disk.remove(&layout::segment_file(cut.folder, *base, extension))?;
        }
    }
    disk.sync_dir(cut.folder)?;
    cut.file.set_size(ByteCount(cut.position))?;
    cut.file.sync_data()?;
    shared.metrics.quarantined_bytes.inc_by(bytes);
    Ok((ByteCount(bytes), saved.is_ok().then_some(target)))
}

fn copy_tail(shared: &Shared, cut: &Cut<'_>, target: &Path) -> io::Result<()> {
    const WINDOW_BYTES: usize = 1 << 20;
    let disk = &shared.world.disk;
    disk.create_dir_all(target.parent().unwrap_or(cut.folder))?;
    let copy = disk.create_new(target)?;
    let mut position = cut.position;
    while position < cut.size {
        let window = cut.file.read_at(position, WINDOW_BYTES.min((cut.size - position) as usize))?;
        if window.is_empty() {
            break;
        }
        copy.write_all_at(position - cut.position, &mut [io::IoSlice::new(&window)])?;
        position += window.len() as u64;
    }
    copy.sync_data()
}
