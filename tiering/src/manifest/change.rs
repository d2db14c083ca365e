//! From one version to the next; pure.
//!
//! Each change gives a whole new manifest, which `commit` numbers, signs, checks and writes. Entries enter at the end and
//! leave at the front, so that the ranges stay contiguous; whatever leaves goes to the list of the removed, where it waits out
//! its grace.

use aquifer_model::format::{Tags, crc32c};
use aquifer_model::{LeaderEpochs, Offset, OffsetRange, Timestamp, TopicPartition};
use bytes::Bytes;
use uuid::Uuid;

use super::codec::encode_page;
use super::{Claim, Entry, Manifest, ManifestVersion, PageRef, Removed, State};
use crate::path::Key;

/// Why a change cannot be made to this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Entries are added one behind the other.
    #[error("the tier ends at {expected}, the segment starts at {found}")]
    NotNext {
        /// Where the next entry must start.
        expected: Offset,
        /// Where it starts.
        found: Offset,
    },
}

/// A page that must be written before the version that names it.
#[derive(Debug, Clone)]
pub struct NewPage {
    /// Where.
    pub object: Key,
    /// What.
    pub bytes: Bytes,
    /// Its entries, as the bytes say them.
    pub entries: Vec<Entry>,
}

impl Manifest {
    /// The first version of a partition.
    pub fn first_of(partition: TopicPartition, claim: Claim) -> Manifest {
        Manifest {
            partition,
            version: ManifestVersion(1),
            claim,
            write: Uuid::nil(),
            claim_versions: vec![ManifestVersion(1)],
            state: State::Live,
            log_start: Offset::ZERO,
            end: None,
            pages: Vec::new(),
            entries: Vec::new(),
            removed: Vec::new(),
            tags: Tags::default(),
        }
    }

    /// The same, numbered as the next version.
    #[must_use]
    pub fn next_version(&self, write: Uuid) -> Manifest {
        Manifest { version: ManifestVersion(self.version.0 + 1), write, ..self.clone() }
    }

    /// The next version, carrying a new claim.
    #[must_use]
    pub fn claimed_by(&self, claim: Claim) -> Manifest {
        let mut next = self.next_version(Uuid::nil());
        next.claim = claim;
        next.claim_versions.push(next.version);
        next
    }

    /// With one more segment at the end. The first segment of all may start anywhere.
    pub fn with_entry(&self, entry: Entry) -> Result<Manifest, ChangeError> {
        let found = entry.range().base;
        if let Some(expected) = self.end.filter(|end| *end != found) {
            return Err(ChangeError::NotNext { expected, found });
        }
        let mut next = self.clone();
        if next.end.is_none() {
            next.log_start = next.log_start.max(found);
        }
        next.end = Some(entry.range().next);
        next.entries.push(entry);
        Ok(next)
    }

    /// With a later log start; an earlier one changes nothing, and one behind the end becomes the end.
    #[must_use]
    pub fn with_log_start(&self, start: Offset) -> Manifest {
        let mut next = self.clone();
        next.log_start = next.log_start.max(start.min(self.end.unwrap_or(self.log_start)));
        next
    }

    /// With an end further on, where the next segment starts: what lies between was deleted before it was tiered. Only a manifest
    /// that names nothing can skip; an end before its own changes nothing.
    #[must_use]
    pub fn skipped_to(&self, end: Offset) -> Manifest {
        let mut next = self.clone();
        if next.first().is_none() && next.end.is_some_and(|current| current < end) {
            next.end = Some(end);
            next.log_start = next.log_start.max(end);
        }
        next
    }

    /// Without its oldest `count` entries, which must be in the head: no page may be left.
    #[must_use]
    pub fn without_oldest(&self, count: usize, now: Timestamp) -> Manifest {
        debug_assert!(self.pages.is_empty(), "pages hold what is older than the head");
        let mut next = self.clone();
        let gone: Vec<Entry> = next.entries.drain(..count.min(self.entries.len())).collect();
        next.remove_all(gone.into_iter().map(|entry| entry.object), now);
        next.advance_log_start();
        next
    }

    /// With the oldest page's first `count` entries gone; what is left of the page becomes a new one.
    pub fn without_oldest_paged(
        &self,
        entries: &[Entry],
        count: usize,
        object: Key,
        now: Timestamp,
    ) -> (Manifest, Option<NewPage>) {
        let mut next = self.clone();
        if next.pages.is_empty() {
            return (next, None);
        }
        let old = next.pages.remove(0);
        let (gone, left) = entries.split_at(count.min(entries.len()));
        let page = (!left.is_empty()).then(|| {
            let (reference, page) = make_page(self.partition, object, left.to_vec());
            next.pages.insert(0, reference);
            page
        });
        next.remove_all(gone.iter().map(|entry| entry.object.clone()).chain([old.object]), now);
        next.advance_log_start();
        (next, page)
    }

    /// With its oldest entries moved into a page, if the head is longer than `entries_max`.
    pub fn spilled(
        &self,
        entries_max: usize,
        page_entries: usize,
        object: Key,
    ) -> (Manifest, Option<NewPage>) {
        if self.entries.len() <= entries_max || page_entries == 0 {
            return (self.clone(), None);
        }
        let mut next = self.clone();
        let old: Vec<Entry> = next.entries.drain(..page_entries.min(self.entries.len() - 1)).collect();
        let (reference, page) = make_page(self.partition, object, old);
        next.pages.push(reference);
        (next, Some(page))
    }

    /// With another object in the place of a damaged one that holds the same segment; `None` if the head does not name that.
    #[must_use]
    pub fn with_replaced(&self, damaged: &Key, entry: Entry, now: Timestamp) -> Option<Manifest> {
        let mut next = self.clone();
        let place =
            next.entries.iter_mut().find(|old| old.object == *damaged && old.range() == entry.range())?;
        *place = entry;
        next.remove_all([damaged.clone()].into_iter(), now);
        Some(next)
    }

    /// With another page in the place of the one that has `entries`, in which an object takes the place of a damaged one; `None` if
    /// they do not name that.
    #[must_use]
    pub fn with_replaced_paged(
        &self,
        page: &PageRef,
        entries: &[Entry],
        damaged: &Key,
        entry: Entry,
        (object, now): (Key, Timestamp),
    ) -> Option<(Manifest, NewPage)> {
        let mut next = self.clone();
        let at = next.pages.iter().position(|known| known == page)?;
        let mut entries = entries.to_vec();
        let place = entries.iter_mut().find(|old| old.object == *damaged && old.range() == entry.range())?;
        *place = entry;
        let (reference, new_page) = make_page(self.partition, object, entries);
        let old = std::mem::replace(&mut next.pages[at], reference);
        next.remove_all([damaged.clone(), old.object].into_iter(), now);
        Some((next, new_page))
    }

    /// Without these among the removed: their objects are gone.
    #[must_use]
    pub fn without_removed(&self, gone: &[Key]) -> Manifest {
        let mut next = self.clone();
        next.removed.retain(|removed| !gone.contains(&removed.object));
        next
    }

    /// The last version of a deleted partition. It names nothing: all objects go once the grace is over.
    #[must_use]
    pub fn deleted(&self) -> Manifest {
        let mut next = self.clone();
        next.state = State::Deleted;
        next.log_start = self.end.unwrap_or(self.log_start).max(self.log_start);
        next.pages.clear();
        next.entries.clear();
        next.removed.clear();
        next
    }

    fn remove_all(&mut self, objects: impl Iterator<Item = Key>, at: Timestamp) {
        for object in objects {
            let shared = self.entries.iter().any(|entry| entry.object == object);
            let known = self.removed.iter().any(|removed| removed.object == object);
            if !shared && !known {
                self.removed.push(Removed { object, at });
            }
        }
    }

    fn advance_log_start(&mut self) {
        let first = self.first().or(self.end);
        self.log_start = self.log_start.max(first.unwrap_or(self.log_start));
    }
}

fn make_page(partition: TopicPartition, object: Key, entries: Vec<Entry>) -> (PageRef, NewPage) {
    let bytes = Bytes::from(encode_page(partition, &entries));
    let mut epochs = LeaderEpochs::new();
    for start in entries.iter().flat_map(|entry| entry.segment.epochs.entries()) {
        epochs.assign(start.epoch, start.start);
    }
    let (base, next) = (entries[0].range().base, entries[entries.len() - 1].range().next);
    let reference = PageRef {
        object: object.clone(),
        range: OffsetRange { base, next },
        entries: u32::try_from(entries.len()).expect("a page is bounded far below 2^32 entries"),
        log_bytes: entries.iter().map(|entry| entry.segment.log_bytes).sum(),
        timestamp_max: entries
            .iter()
            .map(|entry| entry.segment.timestamp_max)
            .max()
            .unwrap_or(Timestamp::NONE),
        epochs,
        crc: crc32c(&[&bytes]),
        tags: Tags::default(),
    };
    (reference, NewPage { object, bytes, entries })
}
