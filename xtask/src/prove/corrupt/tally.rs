//! What came of each place, by kind.

use super::sites::{Fate, Kind, Place};
use std::collections::BTreeMap;
use std::fmt;

/// What came of one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    /// Named in the broker's log, in its refusal to start, or, where only that reads it, by `tier verify`.
    pub(super) detected: bool,
    /// Named by `tier verify --deep`.
    pub(super) verified: bool,
    /// Not detected, and of no consequence: the byte meant nothing.
    pub(super) meaningless: bool,
    /// Whole again.
    pub(super) mended: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    places: usize,
    meaningless: usize,
    detected: usize,
    verified: usize,
    mended: usize,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: BTreeMap<Kind, Row>,
    /// Records that a client was given and that nobody wrote there.
    pub(super) wrong: usize,
    /// Records that were refused though nothing of them was harmed, or that had a good copy.
    pub(super) missed: usize,
    /// Records that were right.
    pub(super) right: usize,
    /// What should not be.
    pub(super) faults: Vec<String>,
}

impl Tally {
    pub(super) fn places(&self) -> usize {
        self.rows.values().map(|row| row.places).sum()
    }

    pub(super) fn count(&mut self, place: &Place, seen: Seen) {
        let row = self.rows.entry(place.site.kind).or_default();
        row.places += 1;
        row.meaningless += usize::from(seen.meaningless);
        row.detected += usize::from(seen.detected);
        row.verified += usize::from(seen.verified);
        row.mended += usize::from(seen.mended);
        let fate = place.site.kind.fate();
        let may_mean_nothing = matches!(fate, Fate::NoStartOrNothing | Fate::ToldOrNothing);
        if !(seen.detected || seen.meaningless && may_mean_nothing) {
            self.faults.push(format!("not detected: {place}"));
        }
        if place.site.kind.is_verified() && !seen.verified {
            self.faults.push(format!("not named by tier verify: {place}"));
        }
        if fate == Fate::Mended && !seen.mended {
            self.faults.push(format!("not mended: {place}"));
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.faults.is_empty() && self.wrong == 0 && self.missed == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["kind", "places", "without meaning", "detected", "by verify", "with a copy", "mended"];
        writeln!(
            f,
            "{:<42}{:>8}{:>17}{:>10}{:>11}{:>13}{:>8}",
            head[0], head[1], head[2], head[3], head[4], head[5], head[6]
        )?;
        let mut sum = Row::default();
        let mut copies = 0;
        for (kind, row) in &self.rows {
            let with_copy = if kind.fate() == Fate::Mended { row.places } else { 0 };
            copies += with_copy;
            sum.places += row.places;
            sum.meaningless += row.meaningless;
            sum.detected += row.detected;
            sum.verified += row.verified;
            sum.mended += row.mended;
            line(f, kind.name(), row, with_copy)?;
        }
        line(f, "all", &sum, copies)?;
        let Tally { wrong, missed, right, .. } = self;
        write!(
            f,
            "{right} records read as they were written, {wrong} served wrong, {missed} refused that need not be"
        )
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, row: &Row, with_copy: usize) -> fmt::Result {
    let Row { places, meaningless, detected, verified, mended } = row;
    writeln!(
        f,
        "{name:<42}{places:>8}{meaningless:>17}{detected:>10}{verified:>11}{with_copy:>13}{mended:>8}"
    )
}
