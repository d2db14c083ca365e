//! By time instead of offset: the first record at or after a timestamp.
//!
//! The manifest gives the segment, its time index the place from which to scan, and only the one batch that holds the record is
//! decompressed.

use std::sync::Arc;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::batches::Batches;
use aquifer_model::record;
use aquifer_model::{ByteCount, LeaderEpoch, Offset, OffsetRange, Timestamp, time_index};
use aquifer_runtime::tasks;
use bytes::Bytes;
use tokio::time::Instant;

use super::{ColdRequest, ReadError, Reader, Stop};
use crate::manifest::locate::{self, Located};
use crate::manifest::view::View;
use crate::manifest::{Entry, Manifest, PageRef};

/// How much is looked through at once.
const SCAN_BYTES: ByteCount = ByteCount::mib(1);

/// The answer to "which is the first record at or after this time?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeLookup {
    /// This one.
    Found {
        /// Where it lies.
        offset: Offset,
        /// Its own timestamp.
        timestamp: Timestamp,
        /// Its leader's.
        epoch: Option<LeaderEpoch>,
    },
    /// No tiered record is that new: look at the local log.
    NotHere,
    /// Not known in time; the load goes on.
    Pending,
}

impl Reader {
    /// Finds the first record at or after a timestamp.
    pub async fn by_timestamp(
        &self,
        view: &Arc<View>,
        at: Timestamp,
        wait_until: Instant,
    ) -> Result<TimeLookup, ReadError> {
        let age_max = self.0.options.manifest_age_max;
        let manifest = match self.manifest(view, age_max, wait_until).await {
            Ok(manifest) => manifest,
            Err(Stop::Pending) => return Ok(TimeLookup::Pending),
            Err(Stop::Failed(ReadError::NotTiered)) => return Ok(TimeLookup::NotHere),
            Err(Stop::Failed(error)) => return Err(error),
        };
        let mut from = manifest.log_start();
        let lookup = async {
            loop {
                let entry = match locate::by_timestamp(&manifest, at, from) {
                    Located::Nowhere => return Ok(TimeLookup::NotHere),
                    Located::Entry(entry) => Arc::new(entry.clone()),
                    Located::Page(page) => match self.entry_in(&manifest, page, at, from).await? {
                        Some(entry) => entry,
                        // What made the page match lies before `from`: what follows the page may match as well.
                        None => {
                            from = page.range.next;
                            continue;
                        }
                    },
                };
                // A compacted segment may have lost the record that made it match: then the next one is tried.
                match self.scan(view, &entry, at, from, wait_until).await? {
                    TimeLookup::NotHere => from = entry.range().next,
                    found => return Ok(found),
                }
            }
        };
        tokio::time::timeout_at(wait_until, lookup).await.unwrap_or(Ok(TimeLookup::Pending))
    }

    async fn entry_in(
        &self,
        manifest: &Manifest,
        page: &PageRef,
        at: Timestamp,
        from: Offset,
    ) -> Result<Option<Arc<Entry>>, ReadError> {
        let entries = self.0.pages.get(manifest.partition(), page).await;
        let entries = entries.map_err(|error| ReadError::of_manifest(&error))?;
        Ok(locate::entry_by_timestamp(&entries, at, from).cloned().map(Arc::new))
    }

    async fn scan(
        &self,
        view: &Arc<View>,
        entry: &Arc<Entry>,
        at: Timestamp,
        from: Offset,
        wait_until: Instant,
    ) -> Result<TimeLookup, ReadError> {
        let index = self.0.indexes.get(entry).await?;
        let range = entry.range();
        let start = range.base.plus(u64::from(time_index::floor(&index.times, at)));
        let mut offset = start.max(from);
        while offset < range.next {
            let partition = view.partition();
            let request =
                ColdRequest { partition, offset, bytes_max: SCAN_BYTES, upper: range.next, wait_until };
            let read = self.read(view, request).await?;
            if read.pending {
                return Ok(TimeLookup::Pending);
            }
            let bytes = Bytes::from(read.slices.concat());
            // Expands a batch: not on a thread that serves, and few at a time.
            let place = self.0.lookups.clone().acquire_owned().await.map_err(|_| ReadError::Stopping)?;
            let found = tasks::blocking(move || {
                let found = first_record(&bytes, at, from);
                drop(place);
                found
            });
            if let Some(found) = found.await {
                return Ok(found);
            }
            offset = read.next;
        }
        Ok(TimeLookup::NotHere)
    }
}

/// The first record at or after a timestamp and an offset, in a run of batches.
fn first_record(bytes: &Bytes, at: Timestamp, from: Offset) -> Option<TimeLookup> {
    Batches::new(bytes).find_map(|located| {
        let header = located.header;
        if header.max_timestamp() < at || header.next_offset() <= from {
            return None;
        }
        let packed = &bytes[located.position + HEADER_BYTES..located.position + header.size()];
        let within = OffsetRange { base: from, next: header.next_offset() };
        let (offset, timestamp) = record::first_at_or_after(&header, packed, at, within)?;
        Some(TimeLookup::Found { offset, timestamp, epoch: header.leader_epoch })
    })
}
