//! Is what a manifest names in the bucket as it was uploaded? Pages, footers and indexes, and every byte of every log.
//!
//! Asked by the broker's scrub, at its pace, and segment by segment by `tier verify`. Nothing of it goes through the readers'
//! cache: what is looked at is what the bucket holds now. What is found is noted; what turns out sound, or is named no longer, is
//! forgotten.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, Offset, TopicPartition};
use aquifer_runtime::pace::Pace;

use crate::damage::{DamagedObject, Damages};
use crate::manifest::load::{self, ManifestError, Pages};
use crate::manifest::locate::{self, Located};
use crate::manifest::view::View;
use crate::manifest::{Entry, Manifest, PageRef};
use crate::object::SegmentIndex;
use crate::object::scan::Scan;
use crate::path::{self, Key};
use crate::read::ReadError;
use crate::read::index::read_index;
use crate::store::{Store, StoreError};

/// How much of a log is read at once.
const READ_BYTES: u64 = 8 << 20;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) String);

/// What reading a log showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
}

/// What a damaged object is to the newest manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damaged {
    /// It holds this segment.
    Segment(Box<Entry>),
    /// It lists older segments.
    Page,
    /// It is the newest version itself, or one that is newer than what is known.
    Manifest,
}

/// Looks at all that a partition's manifest names.
#[derive(Debug)]
pub(crate) struct Examiner {
    pub(crate) store: Store,
    pub(crate) pages: Pages,
    pub(crate) damages: Arc<Damages>,
}

impl Examiner {
    /// Looks at the newest manifest, and at all that it names behind an offset, oldest first. The offset moves on with what was looked at: after an error the
    /// same call goes on where that left off.
    pub(crate) async fn examine(
        &self,
        view: &View,
        from: &mut Offset,
        pace: &mut Pace,
    ) -> Result<(), ReadError> {
        self.examine_manifest(view).await?;
        loop {
            // Asked for each page, since whatever is replaced or expires meanwhile changes the pages.
            let Some(manifest) = view.known() else { return Ok(()) };
            let Some(page) = manifest.pages().iter().find(|page| page.range.next > *from) else {
                return self.examine_all(view, manifest.entries(), from, pace).await;
            };
            match load::read_page(&self.store, view.partition(), page).await {
                Ok(entries) => {
                    self.damages.forget(page.object.as_str());
                    self.examine_all(view, &entries, from, pace).await?;
                }
                Err(error) => match ReadError::of_manifest(&error) {
                    ReadError::Corrupt { key, what } => self.damages.note(view.partition(), &key, &what),
                    ReadError::Lost { key } if names_page(view, page) => {
                        self.damages.note(view.partition(), &key, "a named page is not there");
                    }
                    // Another has taken its place.
                    ReadError::Lost { .. } => continue,
                    error => return Err(error),
                },
            }
            *from = page.range.next.max(*from);
        }
    }

    /// Looks whether the newest manifest can be read and, where a writer in this process knows what it says, says that.
    async fn examine_manifest(&self, view: &View) -> Result<(), ReadError> {
        let partition = view.partition();
        let Some(Some(known)) = view.fresh(Duration::ZERO) else {
            // Nobody here may have needed it yet.
            return match view.refresh().await.map_err(|error| ReadError::of_manifest(&error)) {
                Ok(_) => Ok(()),
                Err(ReadError::Corrupt { key, what }) => {
                    self.damages.note(partition, &key, &what);
                    Ok(())
                }
                Err(error) => Err(error),
            };
        };
        let key = path::manifest(partition, known.version().0);
        let what = match load::version(&self.store, partition, known.version()).await {
            Ok(Some(found)) if found == known => {
                self.damages.forget(key.as_str());
                return Ok(());
            }
            Ok(Some(_)) => "it is not the version that was committed".to_owned(),
            Ok(None) => "it is not there".to_owned(),
            Err(error @ ManifestError::Store(_)) => return Err(ReadError::of_manifest(&error)),
            Err(error) => error.to_string(),
        };
        // Superseded meanwhile, and perhaps removed.
        if view.known().is_some_and(|newest| newest.version() == known.version()) {
            self.damages.note(partition, key.as_str(), &what);
        }
        Ok(())
    }

    async fn examine_all(
        &self,
        view: &View,
        entries: &[Entry],
        from: &mut Offset,
        pace: &mut Pace,
    ) -> Result<(), ReadError> {
        let first = entries.partition_point(|entry| entry.range().next <= *from);
        for entry in &entries[first..] {
            let mut counted = Counted::default();
            let looked = self.examine_one(view.partition(), entry, pace, &mut counted).await;
            self.damages.metrics.bytes.inc_by(counted.bytes);
            let object = entry.object.as_str();
            match looked? {
                // Retention may have taken it meanwhile.
                Err(Fault(what)) if self.names(view, entry).await? => {
                    self.damages.note(view.partition(), object, &what);
                }
                _ => self.damages.forget(object),
            }
            *from = entry.range().next;
        }
        Ok(())
    }

    async fn examine_one(
        &self,
        partition: TopicPartition,
        entry: &Entry,
        pace: &mut Pace,
        counted: &mut Counted,
    ) -> Result<Result<(), Fault>, ReadError> {
        let index = match tail(&self.store, partition, entry).await? {
            Ok(index) => index,
            Err(fault) => return Ok(Err(fault)),
        };
        match log(&self.store, entry, &index, pace, counted).await {
            Ok(looked) => Ok(looked),
            Err(error) => match ReadError::of_store(&error) {
                ReadError::Lost { .. } => Ok(Err(Fault("a named object is not there".to_owned()))),
                error => Err(error),
            },
        }
    }

    /// Whether the newest manifest known still has this entry.
    async fn names(&self, view: &View, entry: &Entry) -> Result<bool, ReadError> {
        let Some(manifest) = view.known() else { return Ok(false) };
        let known = self.entry_at(&manifest, entry.range().base).await?;
        Ok(known.is_some_and(|known| known.object == entry.object))
    }

    /// The entry of a manifest that covers an offset.
    async fn entry_at(&self, manifest: &Manifest, offset: Offset) -> Result<Option<Entry>, ReadError> {
        match locate::by_offset(manifest, offset) {
            Located::Entry(entry) => Ok(Some(entry.clone())),
            Located::Page(page) => {
                let entries = self.pages.get(manifest.partition(), page).await;
                let entries = entries.map_err(|error| ReadError::of_manifest(&error))?;
                Ok(locate::entry_by_offset(&entries, offset).cloned())
            }
            Located::Nowhere => Ok(None),
        }
    }

    /// What a damaged object is to the newest manifest known; one that is nothing to it any more is forgotten. `None` for the view:
    /// the partition is not this broker's.
    pub(crate) async fn identify(
        &self,
        view: Option<&View>,
        damaged: &DamagedObject,
    ) -> Result<Option<Damaged>, ReadError> {
        let found = match (view, Key::parse(&damaged.object)) {
            (Some(view), Some(key)) => self.identify_key(view, &key).await?,
            (None, _) | (_, None) => None,
        };
        if found.is_none() {
            self.damages.forget(&damaged.object);
        }
        Ok(found)
    }

    async fn identify_key(&self, view: &View, key: &Key) -> Result<Option<Damaged>, ReadError> {
        let newest = view.known();
        if let Some(version) = path::parse_version(key) {
            // A version that nobody here could read yet is not known, and may be the newest.
            let is_newest = newest.is_none_or(|newest| version >= newest.version().0);
            return Ok(is_newest.then_some(Damaged::Manifest));
        }
        let Some(newest) = newest else { return Ok(None) };
        if newest.pages().iter().any(|page| page.object == *key) {
            return Ok(Some(Damaged::Page));
        }
        let Some(name) = path::parse_data(key) else { return Ok(None) };
        let entry = self.entry_at(&newest, name.base).await?;
        let entry = entry.filter(|entry| entry.object == *key);
        Ok(entry.map(|entry| Damaged::Segment(Box::new(entry))))
    }
}

fn names_page(view: &View, page: &PageRef) -> bool {
    view.known().is_some_and(|newest| newest.pages().contains(page))
}

/// Reads a segment's footer and indexes. The outer error is the store's, the inner one the object's.
pub(crate) async fn tail(
    store: &Store,
    partition: TopicPartition,
    entry: &Entry,
) -> Result<Result<SegmentIndex, Fault>, ReadError> {
    let index = match read_index(store, entry).await {
        Ok(index) => index,
        Err(error @ (ReadError::Unavailable { .. } | ReadError::Stopping)) => return Err(error),
        Err(error) => return Ok(Err(Fault(error.to_string()))),
    };
    if index.partition != partition {
        return Ok(Err(Fault(format!("the object is one of {}", index.partition))));
    }
    Ok(Ok(index))
}

/// Reads a segment's log. The outer error is the store's, the inner one the object's.
pub(crate) async fn log(
    store: &Store,
    entry: &Entry,
    index: &SegmentIndex,
    pace: &mut Pace,
    counted: &mut Counted,
) -> Result<Result<(), Fault>, StoreError> {
    let log_bytes = entry.segment.log_bytes.get();
    let mut scan = Scan::new(entry.range(), entry.segment.epochs.clone(), ByteCount::mib(1));
    let mut at = 0;
    while at < log_bytes {
        let count = READ_BYTES.min(log_bytes - at);
        let start = entry.position + at;
        let bytes = store.get_range(&entry.object, start..start + count).await?;
        if let Err(error) = scan.feed(&bytes) {
            return Ok(Err(Fault(error.to_string())));
        }
        at += count;
        counted.bytes += count;
        pace.spent(ByteCount(count)).await;
    }
    Ok(match scan.finish() {
        Err(error) => Err(Fault(error.to_string())),
        Ok(scanned) if scanned.log_crc != entry.log_crc || scanned.block_crcs != index.block_crcs => {
            Err(Fault("the log has a wrong checksum".to_owned()))
        }
        Ok(scanned) => {
            counted.batches += scanned.batches;
            Ok(())
        }
    })
}
