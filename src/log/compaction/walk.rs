//! The batches of closed segments, one by one, each with its checksum verified: what is written anew must not be damage with a
//! sound checksum of its own.

use std::collections::VecDeque;
use std::sync::Arc;

use aquifer_model::{BatchHeader, Offset};

use super::super::error::ReadError;
use super::super::handle::Log;
use super::super::read::damaged;
use super::super::scan::{self, Depth, Scan};
use super::super::segment::Sealed;
use super::judge::Aborted;

/// A walk over some segments.
#[derive(Debug)]
pub(super) struct Walk {
    left: VecDeque<Arc<Sealed>>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    sealed: Arc<Sealed>,
    scan: Scan,
    next: Offset,
    aborted: Aborted,
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

impl Batch<'_> {
    /// Says that the batch is sound on the outside only.
    pub(super) fn damaged(&self, what: &str) -> ReadError {
        damaged(self.segment.log.path(), self.position, what)
    }
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
        if self.current.as_ref().is_none_or(|current| current.is_done()) {
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
        let path = sealed.log.path();
        let file = log.shared.files.get(&sealed.log).map_err(|error| ReadError::io(path, error))?;
        let scan = Scan::new(file, Depth::Whole, 0, sealed.facts.bytes.get());
        let aborted = Aborted::new(&log.aborted(sealed.facts.range)?);
        Ok(Current { next: sealed.facts.range.base, scan, sealed, aborted })
    }

    fn is_done(&self) -> bool {
        self.scan.position() >= self.sealed.facts.bytes.get()
    }

    fn batch(&mut self) -> Result<Batch<'_>, ReadError> {
        let Current { sealed, scan, next, aborted } = self;
        let path = sealed.log.path();
        let io = |error| ReadError::io(path, error);
        let (position, header) = match scan.step().map_err(io)? {
            scan::Step::Batch(position, header) => (position, header),
            scan::Step::Damage(error) => return Err(damaged(path, scan.position(), &error.to_string())),
            scan::Step::End => return Err(damaged(path, scan.position(), "the segment ends early")),
        };
        if header.base_offset < *next || header.next_offset() > sealed.facts.range.next {
            let what = format!("a batch of offset {} is out of place", header.base_offset);
            return Err(damaged(path, position, &what));
        }
        *next = header.next_offset();
        let bytes = scan.bytes(position, header.size()).map_err(io)?;
        Ok(Batch { header, bytes, position, segment: sealed, aborted })
    }
}
