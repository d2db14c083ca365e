//! What was found: each kind of violation counted, the first few told in full.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::Partition;

/// How many violations of each kind are told in full.
const TOLD_MAX: usize = 5;

/// A way to break one's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A record was acknowledged and is not in the log at the end.
    Lost,
    /// A record of an idempotent session is there twice.
    Doubled,
    /// Records of an idempotent session are not in the order in which they were sent.
    Reordered,
    /// The offset of an acknowledged record shows something else.
    Moved,
    /// An offset showed two records, neither of them acknowledged there.
    TwoValues,
    /// The local copy and the bucket's differ.
    TierUnequal,
    /// A record was read that nobody sent.
    Foreign,
    /// A record was refused as not written, and is there.
    RefusedYetThere,
    /// A reader was led past offsets.
    Gap,
    /// A reader was led back to offsets that it had read.
    Repeated,
    /// A high watermark went back, or was below what had been read.
    WatermarkBack,
    /// A log start went back.
    StartBack,
    /// The start of a log whose history never ends is not 0.
    StartRaised,
    /// An offset was said to be out of range that is in it.
    Denied,
    /// A producer was told that its session does not fit the log.
    SessionBroken,
    /// Between two segments of a manifest offsets are missing.
    ManifestGap,
    /// Two segments of a manifest hold the same offsets.
    ManifestOverlap,
    /// A manifest names an object that is not there, or is too short.
    MissingObject,
    /// An object was gone before its grace, counted from when a manifest still named it.
    RemovedEarly,
    /// An object that nothing names is there past its grace.
    Orphan,
    /// A partition was never audited: nothing is known of what it kept.
    Unaudited,
    /// An offset or a number that no run can reach.
    Absurd,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Of which kind.
    pub kind: Kind,
    /// In which partition.
    pub partition: Partition,
    /// Which offset, and what was said of it by whom.
    pub what: String,
    /// How many faults the history had told of when it was found: of use where all clients share one order, as in a simulation.
    pub after_faults: u64,
}

/// The verdict on a history.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    found: BTreeMap<Kind, Found>,
    /// Events judged.
    pub events: u64,
    /// Records sent.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Records refused.
    pub refused: u64,
    /// Records whose fate their producer never learnt.
    pub unknown: u64,
    /// Records read, however often and by whomever, the audit included.
    pub read: u64,
    /// Records that the audit read.
    pub audited: u64,
    /// Faults, by what they were.
    pub faults: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Found {
    count: u64,
    told: Vec<Violation>,
}

impl Report {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// How many violations of a kind were found.
    pub fn count(&self, kind: Kind) -> u64 {
        self.found.get(&kind).map_or(0, |found| found.count)
    }

    /// The kinds that were found, in the order of [`Kind`].
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.found.keys().copied()
    }

    /// The first few violations of each kind.
    pub fn told(&self) -> impl Iterator<Item = &Violation> {
        self.found.values().flat_map(|found| &found.told)
    }

    pub(crate) fn add(&mut self, kind: Kind, partition: &Partition, what: impl FnOnce() -> String) {
        let after_faults = self.faults.values().sum();
        let found = self.found.entry(kind).or_default();
        found.count += 1;
        if found.told.len() < TOLD_MAX {
            let partition = partition.clone();
            found.told.push(Violation { kind, partition, what: what(), after_faults });
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { sent, acked, refused, unknown, read, audited, .. } = self;
        write!(
            f,
            "{sent} records sent: {acked} acknowledged, {refused} refused, {unknown} unknown; {audited} in the logs at the \
             end, {read} read in all; faults:"
        )?;
        match self.faults.is_empty() {
            true => write!(f, " none")?,
            false => {
                self.faults.iter().try_for_each(|(what, count)| write!(f, " {count} of '{what}'"))?;
            }
        }
        write!(f, "\nlost {}", self.count(Kind::Lost))?;
        write!(f, ", doubled {}, moved {}", self.count(Kind::Doubled), self.count(Kind::Moved))?;
        if self.is_clean() {
            return write!(f, ", no other violation");
        }
        for (kind, found) in &self.found {
            write!(f, "\n{kind:?}: {}", found.count)?;
            for violation in &found.told {
                write!(f, "\n   {}: {}", violation.partition, violation.what)?;
            }
        }
        Ok(())
    }
}
