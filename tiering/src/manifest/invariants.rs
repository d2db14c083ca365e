//! Named predicates, checked before each commit and after each load.
//!
//! A manifest that breaks one of them is not written, and not believed when read. Each peer of ours has lost or served wrong
//! data by a manifest with a gap, an overlap, a segment named twice or an epoch that went back; here that is an alarm.

use std::collections::HashSet;

use aquifer_model::{LeaderEpoch, LeaderEpochs, OffsetRange};

use super::{Manifest, State};

/// A predicate that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Breach(pub &'static str);

type Rule = (&'static str, fn(&Manifest) -> bool);

/// What holds of every version.
const RULES: &[Rule] = &[
    ("entries are not contiguous", contiguous),
    ("an entry or page covers nothing", covering),
    ("the end is not that of the last entry", ends_with_the_last),
    ("the log start lies outside of what is named", starts_within),
    ("leader epochs go back", epochs_rise),
    ("an entry's epochs do not start with it", epochs_belong),
    ("an object is named twice, or named and removed", named_once),
    ("an image is shorter than its log", images_hold_logs),
    ("claim versions do not rise up to this version", claims_rise),
    ("a deleted partition names segments", deleted_is_empty),
];

/// Checks one version by itself.
pub fn check(manifest: &Manifest) -> Result<(), Breach> {
    RULES.iter().find(|(_, holds)| !holds(manifest)).map_or(Ok(()), |(name, _)| Err(Breach(name)))
}

type StepRule = (&'static str, fn(&Manifest, &Manifest) -> bool);

/// What holds between a version and the next.
const STEP_RULES: &[StepRule] = &[
    ("the partition changes", |old, new| old.partition == new.partition),
    ("the version is not the next", |old, new| old.version.0.checked_add(1) == Some(new.version.0)),
    ("the claim is outranked", |old, new| old.claim.rank(&new.claim).is_le()),
    ("the log start goes back", |old, new| old.log_start <= new.log_start),
    ("the end goes back", |old, new| old.end <= new.end),
    ("a deleted partition changes", |old, _| old.state == State::Live),
    ("a claim version is forgotten", |old, new| new.claim_versions.starts_with(&old.claim_versions)),
    ("an object vanishes without grace", nothing_vanishes),
];

/// Checks a version against the one before it.
pub fn check_step(old: &Manifest, new: &Manifest) -> Result<(), Breach> {
    STEP_RULES.iter().find(|(_, holds)| !holds(old, new)).map_or(Ok(()), |(name, _)| Err(Breach(name)))
}

fn ranges(manifest: &Manifest) -> impl Iterator<Item = OffsetRange> {
    let pages = manifest.pages.iter().map(|page| page.range);
    pages.chain(manifest.entries.iter().map(|entry| entry.segment.range))
}

fn lineages(manifest: &Manifest) -> impl Iterator<Item = (OffsetRange, &LeaderEpochs)> {
    let pages = manifest.pages.iter().map(|page| (page.range, &page.epochs));
    pages.chain(manifest.entries.iter().map(|entry| (entry.segment.range, &entry.segment.epochs)))
}

fn contiguous(manifest: &Manifest) -> bool {
    ranges(manifest).zip(ranges(manifest).skip(1)).all(|(a, b)| a.next == b.base)
}

fn covering(manifest: &Manifest) -> bool {
    ranges(manifest).all(|range| range.base < range.next)
        && manifest.pages.iter().all(|page| page.entries > 0)
}

fn ends_with_the_last(manifest: &Manifest) -> bool {
    ranges(manifest).last().is_none_or(|last| Some(last.next) == manifest.end)
}

fn starts_within(manifest: &Manifest) -> bool {
    match (ranges(manifest).next(), manifest.end) {
        (Some(first), Some(end)) => first.base <= manifest.log_start && manifest.log_start <= end,
        (None, Some(end)) => manifest.log_start <= end || manifest.state == State::Deleted,
        (_, None) => true,
    }
}

fn epochs_rise(manifest: &Manifest) -> bool {
    let mut latest: Option<LeaderEpoch> = None;
    lineages(manifest).all(|(_, epochs)| {
        let first = epochs.entries().first().map(|entry| entry.epoch);
        let rises = latest.is_none_or(|latest| first.is_none_or(|first| latest <= first));
        latest = epochs.latest().or(latest);
        rises
    })
}

fn epochs_belong(manifest: &Manifest) -> bool {
    lineages(manifest).all(|(range, epochs)| {
        let first = epochs.entries().first().is_some_and(|entry| entry.start == range.base);
        first && epochs.entries().last().is_some_and(|entry| entry.start < range.next)
    })
}

fn named_once(manifest: &Manifest) -> bool {
    let mut seen = HashSet::new();
    let images = manifest.entries.iter().all(|entry| seen.insert((entry.object.as_str(), entry.position)));
    let pages = manifest.pages.iter().all(|page| seen.insert((page.object.as_str(), 0)));
    let named: HashSet<&str> = seen.iter().map(|(object, _)| *object).collect();
    let mut gone = HashSet::new();
    images
        && pages
        && manifest
            .removed
            .iter()
            .all(|removed| !named.contains(removed.object.as_str()) && gone.insert(removed.object.as_str()))
}

fn images_hold_logs(manifest: &Manifest) -> bool {
    manifest.entries.iter().all(|entry| entry.segment.log_bytes < entry.image_bytes)
}

fn claims_rise(manifest: &Manifest) -> bool {
    let claims = &manifest.claim_versions;
    let rise = claims.windows(2).all(|pair| pair[0] < pair[1]);
    rise && claims.first().is_some_and(|first| first.0 > 0)
        && claims.last().is_some_and(|last| *last <= manifest.version)
}

fn deleted_is_empty(manifest: &Manifest) -> bool {
    manifest.state == State::Live || (manifest.entries.is_empty() && manifest.pages.is_empty())
}

/// Every object that was named or waiting is still so, unless the partition was deleted or its grace was over (which only the
/// sweep, having waited, takes from the waiting). An entry may also have moved into a new page.
fn nothing_vanishes(old: &Manifest, new: &Manifest) -> bool {
    if new.state == State::Deleted {
        return true;
    }
    let mut kept: HashSet<&str> = new.entries.iter().map(|entry| entry.object.as_str()).collect();
    kept.extend(new.pages.iter().map(|page| page.object.as_str()));
    kept.extend(new.removed.iter().map(|removed| removed.object.as_str()));
    let paged_until = new.pages.last().map(|page| page.range.next);
    let entries = old.entries.iter().all(|entry| {
        kept.contains(entry.object.as_str())
            || paged_until.is_some_and(|until| entry.segment.range.next <= until)
    });
    entries && old.pages.iter().all(|page| kept.contains(page.object.as_str()))
}
