//! Where a log that is being opened stands: its checkpoint, or what there is in place of one.

use std::io;
use std::path::{Path, PathBuf};

use aquifer_model::format::FormatError;
use aquifer_model::{ByteCount, Offset, OffsetRange, Timestamp, TopicPartition};

use super::checkpoint::{Checkpoint, CompactionProgress, RecoveryPoint, SealedFacts, Snapshot};
use super::config::Cleanup;
use super::error::{Corruption, OpenLogError, ReadError};
use super::gaps::Gaps;
use super::index;
use super::layout;
use super::loss::{self, Loss};
use super::producers::Producers;
use super::replay::{Trusted, replay};
use super::report::{RecoveryFinding, RecoveryReport};
use super::segment::Tail;
use super::shared::Shared;

/// A partition's folder that is being opened.
pub(crate) struct Opening<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) folder: &'a Path,
    pub(crate) partition: TopicPartition,
    pub(crate) interval: ByteCount,
    pub(crate) cleanup: Cleanup,
    /// Where the partition file says that offsets may be missing; `None` if it does not say, or is lost.
    pub(crate) gap_mark: Option<Offset>,
    /// Where that is so, by all that is known.
    pub(crate) gaps: Gaps,
    pub(crate) now: Timestamp,
    /// Of the segments on disk, ascending.
    pub(crate) bases: Vec<Offset>,
    /// What it is known to lack of what was acknowledged.
    pub(crate) lost: Option<Loss>,
    /// Whether there was a checkpoint that cannot be read any more.
    pub(crate) checkpoint_lost: bool,
    /// Whether there is one.
    pub(crate) has_checkpoint: bool,
    /// Names of files that compaction was about to put in the place of others.
    pub(crate) beside: Vec<String>,
    /// Bases in the names of indexes and snapshots.
    pub(crate) small: Vec<Offset>,
}

impl Opening<'_> {
    pub(crate) fn path(&self, base: Offset, extension: &str) -> PathBuf {
        layout::segment_file(self.folder, base, extension)
    }

    pub(crate) fn io(path: &Path) -> impl Fn(io::Error) -> OpenLogError {
        let path = path.to_owned();
        move |error| OpenLogError::Io { path: path.clone(), error }
    }

    /// Where to start. What before it is not as the checkpoint says goes into the report: the log is none the worse for it but
    /// there.
    pub(super) fn begin(&mut self, report: &mut RecoveryReport) -> Result<Checkpoint, OpenLogError> {
        let path = self.folder.join(layout::CHECKPOINT);
        let stored = self.shared.world.disk.read_if_exists(&path).map_err(Self::io(&path))?;
        let checkpoint = match stored.as_deref().map(Checkpoint::decode) {
            Some(Ok(checkpoint)) => {
                self.has_checkpoint = true;
                checkpoint
            }
            Some(Err(error @ (FormatError::Version { .. } | FormatError::RequiredField { .. }))) => {
                return Err(OpenLogError::Format { path, error });
            }
            None if self.is_young() => fresh(),
            None | Some(Err(_)) => {
                let why = match &stored {
                    Some(bytes) => Checkpoint::decode(bytes).err().map(|error| error.to_string()),
                    None => None,
                };
                let why = why.unwrap_or_else(|| "it is missing".to_owned());
                tracing::error!(path = %path.display(), why, "a checkpoint is lost or damaged: reading more of the log again");
                report.findings.push(RecoveryFinding::CheckpointLost);
                self.checkpoint_lost = true;
                self.gaps = Gaps::below(self.gaps_without_checkpoint());
                self.settle_swaps(None)?;
                self.without_checkpoint()?
            }
        };
        let known = checkpoint.compaction.as_ref().map_or(Offset::ZERO, |compaction| compaction.gaps_below);
        self.gaps = Gaps::below(self.gaps.end().max(known).max(self.gap_mark.unwrap_or(Offset::ZERO)));
        if checkpoint.compaction.is_some() || !self.beside.is_empty() {
            let compaction = checkpoint.compaction.clone().unwrap_or_default();
            self.settle_swaps(Some((&compaction, &checkpoint.sealed)))?;
        }
        if checkpoint.discard {
            self.discard()?;
            let checkpoint = Checkpoint { discard: false, ..checkpoint };
            self.begin_anew(&path, &checkpoint)?;
            return Ok(checkpoint);
        }
        self.drop_below(&checkpoint)?;
        let damaged = self.check_sealed(&checkpoint)?;
        report.findings.extend(damaged.into_iter().map(RecoveryFinding::Corrupt));
        Ok(checkpoint)
    }

    /// Below which offset gaps may lie if no checkpoint says so. Where the partition file does not say it either, they may lie in
    /// all closed segments, even if the topic is not compacted: it may have been once.
    fn gaps_without_checkpoint(&self) -> Offset {
        let newest = || self.bases.last().copied().unwrap_or(Offset::ZERO);
        self.gap_mark.unwrap_or_else(newest)
    }

    /// Whether this log never had a checkpoint: it is empty, or has one segment that none of the books mentions.
    fn is_young(&self) -> bool {
        self.small.is_empty() && self.bases.iter().all(|base| *base == Offset::ZERO)
    }

    /// A log that was to start anew: all its segments go.
    fn discard(&mut self) -> Result<(), OpenLogError> {
        if self.lost.take().is_some() {
            loss::forget(&self.shared.world.disk, self.folder).map_err(Self::io(self.folder))?;
        }
        for base in std::mem::take(&mut self.bases) {
            self.remove_segment(base)?;
        }
        self.shared.world.disk.sync_dir(self.folder).map_err(Self::io(self.folder))
    }

    /// Before anything is appended: the next start would discard that as well.
    fn begin_anew(&mut self, path: &Path, checkpoint: &Checkpoint) -> Result<(), OpenLogError> {
        let base = checkpoint.point.segment;
        let segment = self.path(base, layout::LOG);
        self.shared.files.create(segment.clone()).map_err(Self::io(&segment))?;
        self.shared.world.disk.sync_dir(self.folder).map_err(Self::io(self.folder))?;
        self.bases.push(base);
        self.shared.world.disk.write_atomic(path, &checkpoint.encode()).map_err(Self::io(path))
    }

    pub(super) fn remove_segment(&self, base: Offset) -> Result<(), OpenLogError> {
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

    /// The closed segments that are not there, or not at their lengths.
    fn check_sealed(&self, checkpoint: &Checkpoint) -> Result<Vec<Corruption>, OpenLogError> {
        let mut damaged = Vec::new();
        for facts in &checkpoint.sealed {
            let file = self.path(facts.range.base, layout::LOG);
            let size = self.shared.world.disk.size_of(&file).map_err(Self::io(&file))?;
            if size != Some(facts.bytes) {
                let found = size.map_or("is missing".to_owned(), |size| format!("has {} bytes", size.get()));
                let what = format!("a closed segment of {} bytes {found}", facts.bytes.get());
                let position = size.map_or(0, |size| size.get().min(facts.bytes.get()));
                damaged.push(Corruption { file, position, what });
            }
        }
        Ok(damaged)
    }

    /// A checkpoint in place of a lost one: at the newest segment whose start has a sound snapshot, or at the first segment.
    fn without_checkpoint(&self) -> Result<Checkpoint, OpenLogError> {
        let first = self.bases.first().copied().unwrap_or(Offset::ZERO);
        let mut start = Snapshot { offset: first, log_start: first, ..Snapshot::default() };
        for base in self.bases.iter().rev() {
            let path = self.path(*base, layout::SNAPSHOT);
            let stored = self.shared.world.disk.read_if_exists(&path).map_err(Self::io(&path))?;
            match stored.as_deref().map(Snapshot::decode) {
                Some(Ok(snapshot)) if snapshot.offset == *base => {
                    start = snapshot;
                    break;
                }
                Some(_) => {
                    tracing::warn!(path = %path.display(), "a producer snapshot is damaged: passed over for the one before")
                }
                None => {}
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
            producers: start.producers.encode(),
            epochs: start.epochs,
        };
        let local_start = first.max(start.log_start);
        let gaps_below = self.gaps.end();
        let was_compacted = self.cleanup.compaction().is_some() || gaps_below > Offset::ZERO;
        Ok(Checkpoint {
            point,
            log_start: start.log_start,
            local_start,
            high_watermark: start.log_start,
            sealed,
            discard: false,
            // The next pass finds nothing to do in what was clean, and has only read it in vain.
            compaction: was_compacted
                .then(|| CompactionProgress { gaps_below, ..CompactionProgress::default() }),
            journal: None,
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
        let trusted = Trusted {
            end: bytes.get(),
            until: range.next,
            gaps: self.gaps,
            interval: self.interval,
            now: self.now,
        };
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
        compaction: None,
        journal: None,
    }
}
