//! Opens what a stop, a crash or a power cut has left.
//!
//! All before the last checkpoint is taken as it is: it was synced before the checkpoint was written, and its checksums were
//! checked when it came. What lies behind is walked with every checksum, which gives back indexes, epochs and producers. Closed
//! segments are not opened: the checkpoint says what there is to know of them.
//!
//! Where the walk meets bytes that are no sound batch, `damage.rs` decides. A torn tail is copied into quarantine and cut. For
//! corruption nothing is touched: the log ends before it, takes no appends and says so, and the place is noted (`loss.rs`), since to a
//! start after a reboot it might look torn. A closed segment that is missing or short keeps nobody from appending; its readers are
//! told, until it is mended.
//!
//! A batch whose checksum holds is not cut, wherever its header says that it belongs: the base offset and the leader epoch are under
//! no checksum. The one exception is a batch whose header began a few bytes before the end of a sector that a power cut kept from the
//! device (`damage.rs`): it was never synced. Where compaction has left offsets out the walk
//! goes over gaps, but only below the offset that the log has noted for that (`gap_mark.rs`).
//!
//! A checkpoint that is lost is replaced by the newest snapshot of a segment's start, or by the start of the log; indexes and
//! snapshots that are lost are made anew. A crash during recovery leaves what recovery finds again.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aquifer_model::{BatchHeader, ByteCount, Offset, TopicPartition};
use aquifer_runtime::files::File;
use aquifer_runtime::planted::{self, Planted};
use parking_lot::Mutex;

use super::checkpoint::{Checkpoint, RecoveryPoint, SealedFacts, Snapshot, encode_snapshot};
use super::config::LogConfig;
use super::damage::{self, Damage, Lineage, PageCache, Source};
use super::error::{Corruption, OpenLogError, ReadError, is_exhausted};
use super::gaps::Gaps;
use super::index::{self, WrittenIndex};
use super::layout;
use super::loss::{self, Loss, Place, Stretch};
use super::open_files::FileSlot;
use super::opening::Opening;
use super::producers::Producers;
use super::quarantine::{Cut, cut_tail};
use super::replay::{Trusted, replay};
use super::report::{RecoveryFinding, RecoveryReport};
use super::scan::{Depth, Scan, Step};
use super::segment::{Sealed, Tail, Unwritten, marker_in};
use super::shared::{Before, Shared};
use super::state::{CompactedPart, Condition};

/// A log as found.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) sealed: VecDeque<Arc<Sealed>>,
    pub(crate) tail: Tail,
    pub(crate) active: Arc<FileSlot>,
    pub(crate) log_start: Offset,
    pub(crate) local_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) compacted: CompactedPart,
    /// Below which offset the partition file says that gaps may lie, or is to say it.
    pub(crate) gap_mark: Offset,
    pub(super) condition: Condition,
    pub(crate) point: RecoveryPoint,
    pub(super) written: WrittenIndex,
    /// Files whose bytes behind the checkpoint were read, and may never have been synced; by their segment's base.
    pub(crate) unsynced: Vec<(Offset, File)>,
    pub(crate) report: RecoveryReport,
}

/// Opens a partition's folder; makes an empty log where there is none yet.
pub(crate) fn recover(
    shared: &Shared,
    folder: &Path,
    partition: TopicPartition,
    config: &LogConfig,
    gap_mark: Option<Offset>,
) -> Result<Recovered, OpenLogError> {
    let names = tidy(shared, folder)?;
    let lost = match names.iter().any(|name| name == layout::LOST) {
        true => loss::noted(&shared.world.disk, folder)
            .map_err(|error| OpenLogError::Io { path: folder.join(layout::LOST), error })?,
        false => None,
    };
    let mut report = RecoveryReport::default();
    let mut opening = Opening {
        shared,
        folder,
        partition,
        interval: config.index_interval_bytes,
        cleanup: config.cleanup,
        gap_mark,
        gaps: Gaps::NEVER,
        now: shared.world.clock.wall(),
        bases: names.iter().filter_map(|name| layout::parse_segment_file(name, layout::LOG)).collect(),
        checkpoint_lost: false,
        has_checkpoint: false,
        lost,
        small: names
            .iter()
            .filter_map(|name| {
                let parse = |extension| layout::parse_segment_file(name, extension);
                parse(layout::INDEX).or(parse(layout::SNAPSHOT))
            })
            .collect(),
        beside: names.into_iter().filter(|name| name.ends_with(layout::CLEANED)).collect(),
    };
    let checkpoint = opening.begin(&mut report)?;
    opening.finish(checkpoint, report)
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

impl Opening<'_> {
    /// Walks what lies behind the checkpoint.
    fn finish(
        mut self,
        checkpoint: Checkpoint,
        mut report: RecoveryReport,
    ) -> Result<Recovered, OpenLogError> {
        let Checkpoint { point, log_start, local_start, high_watermark, sealed, compaction, .. } = checkpoint;
        let clean_below = compaction.map(|compaction| compaction.clean_below).or(self.cleanup.start());
        let (mut tail, mut written) = self.tail_at(&point, &mut report)?;
        let mut sealed: VecDeque<Arc<Sealed>> =
            sealed.into_iter().map(|facts| self.sealed(facts, None)).collect();
        let mut active = self.segment(point.segment, point.position)?;
        let mut unsynced = Vec::new();
        let mut condition = Condition::Open;
        loop {
            let (file, size) = self.open(&active)?;
            let stop = self.walk_on(&mut tail, &file, size, &mut report)?;
            let next = self.segment_behind(&mut tail, stop.is_end());
            let found = match (stop, next) {
                (Stop::End, None) => None,
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
                (Stop::End, Some(next)) if next < tail.end => Some(Found::out_of_place(format!(
                    "it reaches to offset {}, where a segment of offset {next} follows",
                    tail.end
                ))),
                (Stop::End, Some(_)) => {
                    let what = "its last bytes are missing".to_owned();
                    Some(Found { what, is_sound: false, since: tail.end })
                }
                (Stop::Damage(found), _) => Some(found),
            };
            let walked = Stretch {
                from: Place { segment: point.segment, position: point.position },
                to: Place { segment: tail.base, position: tail.bytes },
            };
            self.forget_what_is_back(walked)?;
            // Of a log that is known to lack something, nothing is touched.
            if self.lost.is_none()
                && let Some(found) = found
                && let Some(corruption) = self.settle(&tail, &file, size, next, found, &mut report)?
            {
                condition = Condition::Corrupt(corruption);
            }
            break;
        }
        if let Some(Loss { what, .. }) = self.lost.take() {
            let (file, position) = (active.path().to_owned(), tail.bytes);
            let corruption = Corruption { file, position, what };
            report.findings.push(RecoveryFinding::Corrupt(corruption.clone()));
            condition = Condition::Corrupt(corruption);
        }
        if report.reread > ByteCount::ZERO || !unsynced.is_empty() {
            unsynced.push((tail.base, self.open(&active)?.0));
        }
        if self.shared.past.before == Before::Closed && report.findings.is_empty() {
            // They were synced when they were closed, and nobody has written to them since.
            unsynced.clear();
        }
        self.shared.metrics.reread_bytes.inc_by(report.reread.get());
        if written.base != point.segment {
            written = WrittenIndex::none(point.segment);
        }
        let tail_end = tail.end;
        let high_watermark = high_watermark.min(tail_end);
        Ok(Recovered {
            sealed,
            tail,
            active,
            log_start,
            local_start,
            high_watermark,
            compacted: CompactedPart { clean_below, gaps_below: self.gaps.end() }.cut_to(tail_end),
            gap_mark: self.gap_mark.unwrap_or(self.gaps.end()),
            condition,
            point,
            written,
            unsynced,
            report,
        })
    }

    /// Damage that was noted, and that the walk has gone over: somebody has brought the bytes back. They are made durable before the note
    /// of them goes.
    fn forget_what_is_back(&mut self, walked: Stretch) -> Result<(), OpenLogError> {
        let Some(loss) = self.lost.take_if(|loss| loss.is_back(walked)) else { return Ok(()) };
        for base in self.bases.iter().filter(|base| (walked.from.segment..=walked.to.segment).contains(*base))
        {
            let path = self.path(*base, layout::LOG);
            let file = self.shared.world.disk.open(&path).map_err(Self::io(&path))?;
            file.sync_data().map_err(Self::io(&path))?;
        }
        loss::forget(&self.shared.world.disk, self.folder).map_err(Self::io(self.folder))?;
        tracing::info!(log = %self.partition, was = loss.what, "what was damaged is sound again");
        Ok(())
    }

    /// The segment behind the one that was just walked. One that was appended to ends where the next begins. But where the
    /// checkpoint is lost the walk goes over compacted ones, too, behind which the next may begin later; and so may it behind one
    /// that was left empty because no index reaches over the gap that follows.
    fn segment_behind(&self, tail: &mut Tail, is_whole: bool) -> Option<Offset> {
        let next = self.bases.iter().copied().find(|base| *base > tail.base)?;
        let may_be_gap = self.checkpoint_lost || (tail.bytes == 0 && !tail.reaches(next));
        if is_whole && may_be_gap && self.gaps.allow(tail.end, next) {
            tail.end = next;
        }
        Some(next)
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

    /// The open segment's file; an empty one is made where a crash came before it. That was before there was any checkpoint: each
    /// names a segment whose name is durable, and nothing else would tell of one that was lost at its start.
    fn segment(&mut self, base: Offset, position: u64) -> Result<Arc<FileSlot>, OpenLogError> {
        let path = self.path(base, layout::LOG);
        if self.bases.contains(&base) {
            return Ok(self.shared.files.slot(path));
        }
        if position == 0 && self.has_checkpoint && !self.bases.is_empty() {
            tracing::error!(path = %path.display(), "the open segment is missing");
            let loss = Loss::unseen("the open segment is missing");
            loss::note(&self.shared.world.disk, self.folder, &loss).map_err(Self::io(&path))?;
            self.lost = Some(loss);
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
        if self.shared.past.pages == PageCache::PerhapsLost {
            // Of a sync that failed the page cache says that all is well, and another sync would say so, too.
            file.forget_clean_pages();
        }
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
        let at = |error| OpenLogError::Format { path: self.folder.join(layout::CHECKPOINT), error };
        let known = if planted::is(Planted::ProducerSnapshotDropped) { &[][..] } else { &point.producers };
        let producers = Producers::decode(known).map_err(at)?;
        let mut tail = Tail {
            base: point.segment,
            bytes: point.position,
            end: point.offset,
            builder: loaded.builder,
            epochs: point.epochs.clone(),
            producers,
        };
        if loaded.mark.position != point.position {
            tracing::warn!(path = %path.display(), "the open segment's index is lost or damaged, making it anew");
            report.findings.push(RecoveryFinding::IndexRebuilt);
            self.shared.metrics.rebuilt_indexes.inc();
            tail.builder = self.rebuild_index(point)?;
            return Ok((tail, WrittenIndex::none(point.segment)));
        }
        Ok((tail, written))
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
        let trusted =
            Trusted { end, until: point.offset, gaps: self.gaps, interval: self.interval, now: self.now };
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
            let what = format!("{} bytes were synced, the file has {size}", tail.bytes);
            return Ok(Stop::Damage(Found { what, is_sound: false, since: tail.end }));
        }
        let io = Self::io(file.path());
        if planted::is(Planted::TailCutBelowSynced) {
            file.set_size(ByteCount(tail.bytes)).map_err(&io)?;
            return Ok(Stop::End);
        }
        let mut scan = Scan::new(file.clone(), Depth::Whole, tail.bytes, size);
        let began = tail.bytes;
        // Where the last gap began that the walk went over: if its end is no true offset, this is where the log ended.
        let mut before_gap = None;
        let stop = loop {
            match scan.step().map_err(&io)? {
                Step::End => break Stop::End,
                Step::Damage(error) => {
                    let since = before_gap.unwrap_or(tail.end);
                    break Stop::Damage(Found { what: error.to_string(), is_sound: false, since });
                }
                Step::Batch(position, header) => {
                    if let Some(what) = breaks_lineage(tail, &header, self.gaps) {
                        break Stop::Damage(Found::out_of_place(what));
                    }
                    if header.base_offset > tail.end {
                        before_gap = Some(tail.end);
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
        found: Found,
        report: &mut RecoveryReport,
    ) -> Result<Option<Corruption>, OpenLogError> {
        let Found { what, is_sound, since } = found;
        let io = Self::io(file.path());
        let lineage = Lineage { end: since, epoch: tail.epochs.latest() };
        let followed = match next {
            Some(next) => self.starts_soundly(next, lineage)?,
            None => false,
        };
        let pages = self.shared.past.pages;
        let may_lack_sectors = pages == PageCache::PerhapsLost && self.shared.past.before != Before::Closed;
        let source = &mut FileSource(file);
        let verdict = if is_sound
            && may_lack_sectors
            && damage::has_lost_its_start(source, tail.bytes, tail.end).map_err(&io)?
        {
            Damage::Torn
        } else if is_sound || size < tail.bytes {
            Damage::Corrupt
        } else if size == tail.bytes && may_lack_sectors {
            // Whole pages at the end never came, and the file's length with them.
            Damage::Torn
        } else if size == tail.bytes || self.shared.past.before == Before::Closed {
            // Of a log that was closed in order all was synced, to its end.
            Damage::Corrupt
        } else {
            damage::judge(source, tail.bytes, size, lineage, followed, pages).map_err(&io)?
        };
        let position = tail.bytes;
        // With a part of the journal gone, what never reached its file may have been acknowledged all the same.
        let is_lost = verdict == Damage::Torn && self.shared.past.journal_is_damaged;
        if is_lost {
            loss::note(&self.shared.world.disk, self.folder, &Loss::unseen(&what)).map_err(&io)?;
        } else if verdict == Damage::Corrupt && size >= position {
            // A file that is shorter than its checkpoint says is damaged to every start.
            self.note_damage(Place { segment: tail.base, position }, size, &what)?;
        }
        if verdict == Damage::Corrupt || is_lost {
            let corruption = Corruption { file: file.path().to_owned(), position, what };
            tracing::error!(log = %self.partition, %corruption, "a log's end is damaged; it takes no appends until that is settled");
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

    /// So that the next start, which may know less of what happened, does not cut it. The log is as damaged without a note, which a full
    /// disk has no room for.
    fn note_damage(&self, from: Place, size: u64, what: &str) -> Result<(), OpenLogError> {
        let mut to = Place { segment: from.segment, position: size };
        if let Some(last) = self.bases.last().filter(|last| **last > from.segment) {
            let path = self.path(*last, layout::LOG);
            let size = self.shared.world.disk.size_of(&path).map_err(Self::io(&path))?.unwrap_or_default();
            to = Place { segment: *last, position: size.get() };
        }
        let loss = Loss { what: what.to_owned(), damage: Some(Stretch { from, to }) };
        match loss::note(&self.shared.world.disk, self.folder, &loss) {
            Err(error) if is_exhausted(&error) => {
                tracing::error!(log = %self.partition, %error, "no room to note that a log's end is damaged");
                Ok(())
            }
            noted => noted.map_err(Self::io(self.folder)),
        }
    }

    /// Whether the segment at `base` starts with a sound batch.
    fn starts_soundly(&self, base: Offset, lineage: Lineage) -> Result<bool, OpenLogError> {
        let path = self.path(base, layout::LOG);
        let file = self.shared.world.disk.open_read(&path).map_err(Self::io(&path))?;
        let size = file.size().map_err(Self::io(&path))?.get();
        let step = Scan::new(file, Depth::Whole, 0, size).step().map_err(Self::io(&path))?;
        Ok(
            matches!(step, Step::Batch(_, header) if self.gaps.allow(base, header.base_offset) && header.leader_epoch >= lineage.epoch),
        )
    }
}

/// How a walk of a segment ended.
enum Stop {
    End,
    Damage(Found),
}

/// Something that does not belong where it was met.
struct Found {
    what: String,
    /// It is whole, with a checksum that holds, and so may have been acknowledged, whatever its header says of where it belongs.
    is_sound: bool,
    /// Where the log ends before it at the least.
    since: Offset,
}

impl Found {
    fn out_of_place(what: String) -> Found {
        Found { what, is_sound: true, since: Offset::ZERO }
    }
}

impl Stop {
    fn is_end(&self) -> bool {
        matches!(self, Stop::End)
    }
}

fn breaks_lineage(tail: &Tail, header: &BatchHeader, gaps: Gaps) -> Option<String> {
    if !gaps.allow(tail.end, header.base_offset) {
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
