//! What exists of a partition in the bucket: what its manifest does not name does not exist.
//!
//! A manifest is a numbered, create-only object. Its *head* holds the newest entries, one for each segment, and refers to
//! immutable *pages* that hold the older ones, so that it stays small for ever. Each version carries the *claim* of its writer;
//! a new leader writes a version with its own, and the deposed one's next create collides with that.
//!
//! A version that first carries a claim, and the one just before it, stay as long as the partition: a writer that was frozen
//! for a year, with or without an unanswered write, must collide with one of them. The others are removed once superseded for a
//! while.
//!
//! A crash leaves a version that is there or not; a page or an object that no version names is an orphan for the claim holder's
//! sweep.

/// Its bytes.
pub mod codec;
/// Named predicates, checked before each commit and after each load.
pub mod invariants;
/// From one version to the next; pure.
pub mod change;
/// Where an offset, a time or an epoch lies; pure.
pub mod locate;
/// Reading versions and pages.
pub mod load;
/// What this process knows of a partition's newest manifest.
pub mod view;
/// The one place that writes versions: claim, commit, settle.
pub mod commit;

use std::cmp::Ordering;
use std::fmt;

use aquifer_model::format::Tags;
use aquifer_model::{
    BrokerId, ByteCount, LeaderEpoch, LeaderEpochs, Offset, OffsetRange, SealedSegment, Timestamp,
    TopicPartition,
};
use uuid::Uuid;

use crate::cluster::{Identity, Incarnation};
use crate::path::Key;

pub use commit::TieredUpTo;

/// Numbers a partition's manifests, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestVersion(pub u64);

impl fmt::Display for ManifestVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who may write a partition's manifest. Claims compare by (incarnation, leader epoch); two that are equal there but not of one
/// process are rivals, and the first to create a version has won.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The cluster's.
    pub incarnation: Incarnation,
    /// The leader's.
    pub epoch: LeaderEpoch,
    /// The leader's broker.
    pub broker: BrokerId,
    /// The broker's process.
    pub process: Uuid,
}

impl Claim {
    /// The claim of a process that leads in `epoch`.
    pub fn new(identity: &Identity, epoch: LeaderEpoch) -> Claim {
        let Identity { incarnation, broker, process } = *identity;
        Claim { incarnation, epoch, broker, process }
    }

    /// Which of two outranks the other.
    pub fn rank(&self, other: &Claim) -> Ordering {
        (self.incarnation, self.epoch).cmp(&(other.incarnation, other.epoch))
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claim { incarnation, epoch, broker, process } = self;
        write!(f, "broker {broker} (leader epoch {epoch}, incarnation {incarnation}, process {process})")
    }
}

/// One segment in the bucket. Says enough that lookups by offset, time or epoch need no other read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The segment's facts: covered range, size, timestamps, lineage of epochs.
    pub segment: SealedSegment,
    /// The object that holds it.
    pub object: Key,
    /// Where its image starts in the object, so that small segments may share one.
    pub position: u64,
    /// Length of its image: log and tail.
    pub image_bytes: ByteCount,
    /// CRC-32C of its log.
    pub log_crc: u32,
    /// How often the range was rewritten (compaction); 0 for what was uploaded first.
    pub generation: u32,
    /// Fields of newer programs, carried along.
    pub(crate) tags: Tags,
}

impl Entry {
    /// An entry of a fresh upload.
    pub fn new(segment: SealedSegment, object: Key, image_bytes: ByteCount, log_crc: u32) -> Entry {
        Entry { segment, object, position: 0, image_bytes, log_crc, generation: 0, tags: Tags::default() }
    }

    /// The offsets that it covers.
    pub fn range(&self) -> OffsetRange {
        self.segment.range
    }
}

/// A page of older entries: what the head says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRef {
    /// Its object.
    pub object: Key,
    /// The offsets that its entries cover.
    pub range: OffsetRange,
    /// How many entries it has.
    pub entries: u32,
    /// Sum of their logs' lengths.
    pub log_bytes: ByteCount,
    /// The newest timestamp of all.
    pub timestamp_max: Timestamp,
    /// Their lineage.
    pub epochs: LeaderEpochs,
    /// CRC-32C of the page's bytes.
    pub crc: u32,
    pub(crate) tags: Tags,
}

/// An object that is named no longer, and is removed once the grace is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its key.
    pub object: Key,
    /// When its name went, by the store's clock.
    pub at: Timestamp,
}

/// Whether a partition lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does.
    Live,
    /// Its topic was deleted. The last version; it stays, so that a restore does not bring the topic back.
    Deleted,
}

/// One version of what exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    pub(crate) partition: TopicPartition,
    pub(crate) version: ManifestVersion,
    pub(crate) claim: Claim,
    /// Tells this write from every other: how an unanswered create is settled.
    pub(crate) write: Uuid,
    /// The versions that first carried a claim, oldest first. They and those just before them stay.
    pub(crate) claim_versions: Vec<ManifestVersion>,
    pub(crate) state: State,
    pub(crate) log_start: Offset,
    /// Behind the last tiered record; `None` before the first upload.
    pub(crate) end: Option<Offset>,
    pub(crate) pages: Vec<PageRef>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) removed: Vec<Removed>,
    pub(crate) tags: Tags,
}

impl Manifest {
    /// Whose it is.
    pub fn partition(&self) -> TopicPartition {
        self.partition
    }

    /// Its number.
    pub fn version(&self) -> ManifestVersion {
        self.version
    }

    /// Its writer.
    pub fn claim(&self) -> Claim {
        self.claim
    }

    /// The versions that first carried a claim, oldest first.
    pub fn claim_versions(&self) -> &[ManifestVersion] {
        &self.claim_versions
    }

    /// Whether the topic was deleted.
    pub fn is_deleted(&self) -> bool {
        self.state == State::Deleted
    }

    /// The first offset that may be read.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Behind the last tiered record; `None` before the first upload.
    pub fn end(&self) -> Option<Offset> {
        self.end
    }

    /// The first offset that is named, whether it may be read or not.
    pub fn first(&self) -> Option<Offset> {
        let page = self.pages.first().map(|page| page.range.base);
        page.or_else(|| self.entries.first().map(|entry| entry.range().base))
    }

    /// Older entries, oldest first.
    pub fn pages(&self) -> &[PageRef] {
        &self.pages
    }

    /// The newest entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Objects that wait for the end of their grace.
    pub fn removed(&self) -> &[Removed] {
        &self.removed
    }

    /// How many segments it names.
    pub fn segments(&self) -> u64 {
        self.pages.iter().map(|page| u64::from(page.entries)).sum::<u64>() + self.entries.len() as u64
    }

    /// How many bytes of log it names.
    pub fn log_bytes(&self) -> ByteCount {
        let paged: ByteCount = self.pages.iter().map(|page| page.log_bytes).sum();
        paged + self.entries.iter().map(|entry| entry.segment.log_bytes).sum()
    }

    /// The newest timestamp of all that it names; `None` where no record has one.
    pub fn timestamp_max(&self) -> Option<Timestamp> {
        let paged = self.pages.iter().map(|page| page.timestamp_max);
        let all = paged.chain(self.entries.iter().map(|entry| entry.segment.timestamp_max));
        all.max().filter(|newest| *newest != Timestamp::NONE)
    }

    /// The lineage of all that it names.
    pub fn epochs(&self) -> LeaderEpochs {
        let mut all = LeaderEpochs::new();
        let paged = self.pages.iter().map(|page| &page.epochs);
        for epochs in paged.chain(self.entries.iter().map(|entry| &entry.segment.epochs)) {
            for start in epochs.entries() {
                all.assign(start.epoch, start.start);
            }
        }
        all
    }

    /// Whether a version may never be removed while the partition lives.
    pub fn pins(&self, version: ManifestVersion) -> bool {
        let claims = |version: u64| self.claim_versions.binary_search(&ManifestVersion(version)).is_ok();
        claims(version.0) || version.0.checked_add(1).is_some_and(claims)
    }
}

/// All that a few writers can do, looked at exhaustively.
#[cfg(test)]
mod exhaustive;
#[cfg(test)]
pub(crate) mod tests;
