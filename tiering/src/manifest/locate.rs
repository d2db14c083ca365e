//! Where an offset, a time or an epoch lies; pure.

use aquifer_model::epochs::EpochEnd;
use aquifer_model::{LeaderEpoch, Offset, OffsetRange, Timestamp};

use super::{Entry, Manifest, PageRef};

/// Where to go on looking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Located<'a> {
    /// This segment.
    Entry(&'a Entry),
    /// A segment of this page.
    Page(&'a PageRef),
    /// Not here.
    Nowhere,
}

/// The segment that covers an offset.
pub fn by_offset(manifest: &Manifest, offset: Offset) -> Located<'_> {
    if let Some(entry) = entry_by_offset(&manifest.entries, offset) {
        return Located::Entry(entry);
    }
    let at = manifest.pages.partition_point(|page| page.range.next <= offset);
    let page = manifest.pages.get(at).filter(|page| page.range.contains(offset));
    page.map_or(Located::Nowhere, Located::Page)
}

/// The entry among these, in order, that covers an offset.
pub fn entry_by_offset(entries: &[Entry], offset: Offset) -> Option<&Entry> {
    let at = entries.partition_point(|entry| entry.range().next <= offset);
    entries.get(at).filter(|entry| entry.range().contains(offset))
}

/// The first segment, at or behind the log start, that has a record at or after `timestamp`.
pub fn by_timestamp(manifest: &Manifest, timestamp: Timestamp, from: Offset) -> Located<'_> {
    let late = |newest: Timestamp, range: OffsetRange| newest >= timestamp && range.next > from;
    if let Some(page) = manifest.pages.iter().find(|page| late(page.timestamp_max, page.range)) {
        return Located::Page(page);
    }
    entry_by_timestamp(&manifest.entries, timestamp, from).map_or(Located::Nowhere, Located::Entry)
}

/// The first entry among these, behind `from`, that has a record at or after `timestamp`.
pub fn entry_by_timestamp(entries: &[Entry], timestamp: Timestamp, from: Offset) -> Option<&Entry> {
    entries.iter().find(|entry| entry.segment.timestamp_max >= timestamp && entry.range().next > from)
}

/// Where an epoch ended, as far as the tier knows; the newest epoch's end is the tier's.
pub fn epoch_end(manifest: &Manifest, epoch: LeaderEpoch) -> Option<EpochEnd> {
    manifest.epochs().end_of(epoch, manifest.end?)
}
