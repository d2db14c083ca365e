//! The batches of closed segments, one by one, each verified as a reader verifies it: what is written anew must not be damage with a
//! sound checksum of its own, and what is missing must not be taken for what compaction has left out. They leave none of it in
//! the page cache, but where readers of the log's end want it.

use std::collections::VecDeque;
use std::sync::Arc;

use aquifer_model::{BatchHeader, LeaderEpochs, Offset};
use aquifer_runtime::files::File;

use super::super::error::ReadError;
use super::super::gaps::Gaps;
use super::super::handle::Log;
use super::super::read::{damaged, foreign_epoch};
use super::super::scan::{self, Depth, Scan};
use super::super::segment::Sealed;
use super::judge::Aborted;

/// Bytes after which what was read leaves the page cache.
const LEAVE_BYTES: u64 = 1 << 20;

/// A walk over some segments.
#[derive(Debug)]
pub(super) struct Walk {
    left: VecDeque<Arc<Sealed>>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    sealed: Arc<Sealed>,
    file: File,
    scan: Scan,
    next: Offset,
    epochs: LeaderEpochs,
    gaps: Gaps,
    aborted: Aborted,
    /// Whether nobody who reads the log's end needs it in memory.
    is_far: bool,
    /// What is not in the page cache any more, of such a one.
    left: u64,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Walked<'a> {
    /// The next segment, whose batches follow.
    Segment(Arc<Sealed>),
    Batch(Batch<'a>),
    End,
}

/// A batch, and where it lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) header: BatchHeader,
    pub(super) bytes: &'a [u8],
    pub(super) position: u64,
    pub(super) segment: &'a Arc<Sealed>,
    /// The aborted transactions of its segment.
    pub(super) aborted: &'a Aborted,
}

impl Walk {
    pub(super) fn over(segments: impl IntoIterator<Item = Arc<Sealed>>) -> Walk {
        Walk { left: segments.into_iter().collect(), current: None }
    }

    /// The segment that the walk is in, and those to come.
    pub(super) fn ahead(&self) -> impl Iterator<Item = &Arc<Sealed>> {
        self.current.iter().map(|current| &current.sealed).chain(&self.left)
    }

    pub(super) fn step(&mut self, log: &Log) -> Result<Walked<'_>, ReadError> {
        if self.current.as_ref().is_none_or(Current::is_done) {
            if let Some(done) = &mut self.current {
                done.end()?;
            }
            let Some(sealed) = self.left.pop_front() else {
                self.current = None;
                return Ok(Walked::End);
            };
            self.current = Some(Current::open(log, sealed.clone())?);
            return Ok(Walked::Segment(sealed));
        }
        match &mut self.current {
            Some(current) => current.batch().map(Walked::Batch),
            None => Ok(Walked::End),
        }
    }
}

impl Current {
    fn open(log: &Log, sealed: Arc<Sealed>) -> Result<Current, ReadError> {
        let file = log.file(&sealed.log)?;
        let scan = Scan::new(file.clone(), Depth::Whole, 0, sealed.facts.bytes.get());
        let range = sealed.facts.range;
        let aborted = Aborted::new(&log.aborted(range)?);
        let is_far = log.is_far_behind(range.next);
        let (epochs, gaps) = {
            let state = log.state.lock();
            (state.tail.epochs.slice(range.base, range.next), state.compacted.gaps())
        };
        Ok(Current { next: range.base, file, scan, sealed, epochs, gaps, aborted, is_far, left: 0 })
    }

    /// Its last batch was given.
    fn end(&mut self) -> Result<(), ReadError> {
        self.leave_memory();
        let (path, range) = (self.sealed.log.path(), self.sealed.facts.range);
        if !self.gaps.allow(self.next, range.next) {
            return Err(damaged(path, self.scan.position(), &format!("it ends at offset {}", self.next)));
        }
        Ok(())
    }

    fn leave_memory(&mut self) {
        let position = self.scan.position();
        if self.is_far && position > self.left {
            self.file.advise_unneeded(self.left, position - self.left);
            self.left = position;
        }
    }

    fn is_done(&self) -> bool {
        self.scan.position() >= self.sealed.facts.bytes.get()
    }

    fn batch(&mut self) -> Result<Batch<'_>, ReadError> {
        if self.scan.position() - self.left >= LEAVE_BYTES {
            self.leave_memory();
        }
        let Current { sealed, scan, next, epochs, gaps, aborted, .. } = self;
        let path = sealed.log.path();
        let at = scan.position();
        let unread = |error| ReadError::of_read(path, at, error);
        let (position, header) = match scan.step().map_err(unread)? {
            scan::Step::Batch(position, header) => (position, header),
            scan::Step::Damage(error) => return Err(damaged(path, scan.position(), &error.to_string())),
            scan::Step::End => return Err(damaged(path, scan.position(), "the segment ends early")),
        };
        let found = header.base_offset;
        if !gaps.allow(*next, found) || header.next_offset() > sealed.facts.range.next {
            return Err(damaged(path, position, &format!("a batch of offset {found} follows {next}")));
        }
        let known = epochs.epoch_at(found);
        if header.leader_epoch != known {
            return Err(damaged(path, position, &foreign_epoch(&header, known)));
        }
        *next = header.next_offset();
        let bytes = scan.bytes(position, header.size()).map_err(unread)?;
        Ok(Batch { header, bytes, position, segment: sealed, aborted })
    }
}
