//! Offsets by time and by name, across hot and cold.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{LeaderEpoch, Offset, Timestamp};
use aquifer_runtime::tasks;
use aquifer_tiering::Tier;
use aquifer_tiering::read::TimeLookup;
use tokio::time::Instant;

use super::error::{DeleteRecordsError, ReadError};
use super::read::Isolation;
use super::state::Replica;

/// How old a manifest may be for a lookup: what this broker uploads it knows at once, so the age matters for others' only.
const MANIFEST_AGE_MAX: Duration = Duration::from_secs(30);

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The end of what may be seen (-1).
    Latest(Isolation),
    /// The log's start, wherever it lies (-2).
    Earliest,
    /// The record with the newest timestamp (-3).
    MaxTimestamp,
    /// The local log's start (-4).
    EarliestLocal,
    /// The last record in the bucket (-5).
    LatestTiered,
    /// The first record that is not in the bucket yet (-6).
    EarliestPendingUpload,
    /// The first record at or after a time.
    At(Timestamp),
}

/// An offset, and what is known of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundOffset {
    pub(crate) offset: Offset,
    /// Only for lookups by time.
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) epoch: Option<LeaderEpoch>,
}

impl Replica {
    /// Looks an offset up; `None` where there is no such record.
    pub(crate) async fn look_up(
        self: &Arc<Replica>,
        tier: Option<&Tier>,
        lookup: Lookup,
        wait_until: Instant,
    ) -> Result<Option<FoundOffset>, ReadError> {
        let offsets = self.log().offsets();
        let plain = |offset: Offset, epoch| Some(FoundOffset { offset, timestamp: None, epoch });
        match lookup {
            Lookup::Latest(isolation) => {
                let offset = match isolation {
                    Isolation::ReadUncommitted => self.high_watermark(),
                    Isolation::ReadCommitted => self.last_stable(),
                };
                Ok(plain(offset, self.log().latest_epoch()))
            }
            Lookup::Earliest => Ok(plain(offsets.start, self.log().epoch_at(offsets.start))),
            Lookup::EarliestLocal => Ok(plain(offsets.local_start, self.log().epoch_at(offsets.local_start))),
            Lookup::LatestTiered => {
                let last = self.tiered_end().and_then(|end| Offset::new(end.get() - 1));
                Ok(last.and_then(|last| plain(last, self.log().epoch_at(last))))
            }
            // Nothing waits to be uploaded where nothing ever is.
            Lookup::EarliestPendingUpload if !self.config().tiered => Ok(None),
            Lookup::EarliestPendingUpload => {
                let pending = self.tiered_end().unwrap_or(offsets.start).max(offsets.start);
                Ok(plain(pending, self.log().epoch_at(pending)))
            }
            Lookup::MaxTimestamp => self.max_timestamp(tier, wait_until).await,
            Lookup::At(timestamp) => self.at_timestamp(tier, timestamp, wait_until).await,
        }
    }

    /// The end of what the bucket holds, as far as this broker knows.
    pub(crate) fn tiered_end(&self) -> Option<Offset> {
        self.archive().status().tiered_end
    }

    /// Deletes all records before an offset, or all that are acknowledged; gives the new log start. Durable on return; the
    /// bucket's manifest follows with the next upload.
    pub(crate) async fn delete_records(
        self: &Arc<Replica>,
        before: Option<Offset>,
    ) -> Result<Offset, DeleteRecordsError> {
        self.check_leader(-1)?;
        let high_watermark = self.high_watermark();
        let offset = before.unwrap_or(high_watermark);
        if offset > high_watermark {
            return Err(DeleteRecordsError::AboveHighWatermark { offset, high_watermark });
        }
        let replica = self.clone();
        tasks::blocking(move || replica.log().advance_start(offset)).await?;
        Ok(self.log().offsets().start)
    }

    async fn at_timestamp(
        self: &Arc<Replica>,
        tier: Option<&Tier>,
        timestamp: Timestamp,
        wait_until: Instant,
    ) -> Result<Option<FoundOffset>, ReadError> {
        let offsets = self.log().offsets();
        if offsets.start < offsets.local_start {
            let tier = tier.ok_or(ReadError::NoTier { local_start: offsets.local_start })?;
            match tier.offset_for_timestamp(self.partition(), timestamp, wait_until).await? {
                TimeLookup::Pending => return Err(ReadError::Pending),
                TimeLookup::NotHere => {}
                TimeLookup::Found { offset, timestamp, epoch } => {
                    return Ok(Some(FoundOffset { offset, timestamp: Some(timestamp), epoch }));
                }
            }
        }
        let replica = self.clone();
        let until = self.high_watermark();
        let found = tasks::blocking(move || replica.log().offset_for_timestamp(timestamp, until)).await?;
        Ok(found.map(|found| FoundOffset {
            offset: found.offset,
            timestamp: Some(found.timestamp),
            epoch: found.epoch,
        }))
    }

    async fn max_timestamp(
        self: &Arc<Replica>,
        tier: Option<&Tier>,
        wait_until: Instant,
    ) -> Result<Option<FoundOffset>, ReadError> {
        let replica = self.clone();
        let until = self.high_watermark();
        let local = tasks::blocking(move || replica.log().max_timestamp(until)).await?;
        let local = local.map(|found| FoundOffset {
            offset: found.offset,
            timestamp: Some(found.timestamp),
            epoch: found.epoch,
        });
        let offsets = self.log().offsets();
        if offsets.start >= offsets.local_start {
            return Ok(local);
        }
        let tier = tier.ok_or(ReadError::NoTier { local_start: offsets.local_start })?;
        let manifest = tier.manifest(self.partition(), MANIFEST_AGE_MAX).await?;
        let Some(newest) = manifest.and_then(|manifest| manifest.timestamp_max()) else { return Ok(local) };
        if local.and_then(|local| local.timestamp).is_some_and(|local| local > newest) {
            return Ok(local);
        }
        match tier.offset_for_timestamp(self.partition(), newest, wait_until).await? {
            TimeLookup::Pending => Err(ReadError::Pending),
            TimeLookup::NotHere => Ok(local),
            TimeLookup::Found { offset, timestamp, epoch } => {
                Ok(Some(FoundOffset { offset, timestamp: Some(timestamp), epoch }))
            }
        }
    }
}
