//! Positions in a log, and the epochs that order its leaders.
//!
//! Offsets are Kafka's, dense, and never translated: the offset a producer was told is the offset in the segment, in the
//! bucket and in every answer, for ever.

use std::fmt;

/// A record's position in its partition: 0 or greater. "No offset" is `Option::None`, never -1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(i64);

impl Offset {
    /// The first position of every log.
    pub const ZERO: Offset = Offset(0);
    /// No record has this offset: an upper bound for "everything".
    pub const MAX: Offset = Offset(i64::MAX);

    /// `None` for a negative number, which on the wire means something else each time.
    pub const fn new(offset: i64) -> Option<Offset> {
        if offset < 0 { None } else { Some(Offset(offset)) }
    }

    /// The number itself.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The position after this one. Saturates at [`Offset::MAX`], which no log reaches: at a billion records a second that
    /// is 292 years away.
    #[must_use]
    pub const fn next(self) -> Offset {
        Offset(self.0.saturating_add(1))
    }

    /// The position `count` records further on; saturates like [`Offset::next`].
    #[must_use]
    pub const fn plus(self, count: u64) -> Offset {
        Offset(self.0.saturating_add_unsigned(count))
    }

    /// How many records lie in `[earlier, self)`; 0 if `earlier` is not before `self`.
    pub const fn since(self, earlier: Offset) -> u64 {
        if self.0 > earlier.0 { (self.0 - earlier.0) as u64 } else { 0 }
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The offsets `[base, next)`. May be empty.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OffsetRange {
    /// First offset inside.
    pub base: Offset,
    /// First offset after.
    pub next: Offset,
}

impl OffsetRange {
    /// Whether `offset` lies inside.
    pub fn contains(self, offset: Offset) -> bool {
        self.base <= offset && offset < self.next
    }

    /// How many offsets lie inside.
    pub fn count(self) -> u64 {
        self.next.since(self.base)
    }
}

impl fmt::Display for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.base, self.next)
    }
}

impl fmt::Debug for OffsetRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counts the leaders of a partition, from 0; every change of leader and every start of a leading broker raises it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(i32);

impl LeaderEpoch {
    /// The first leader's.
    pub const ZERO: LeaderEpoch = LeaderEpoch(0);

    /// `None` for a negative number: -1 on the wire is "not known".
    pub const fn new(epoch: i32) -> Option<LeaderEpoch> {
        if epoch < 0 { None } else { Some(LeaderEpoch(epoch)) }
    }

    /// The number itself.
    pub const fn get(self) -> i32 {
        self.0
    }

    /// The epoch after this one; `None` after the last, at which a partition can have no further leader.
    pub const fn next(self) -> Option<LeaderEpoch> {
        match self.0.checked_add(1) {
            Some(epoch) => Some(LeaderEpoch(epoch)),
            None => None,
        }
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
