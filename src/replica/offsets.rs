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
    /// The record with the newest timestamp (-3), among those that may be seen.
    MaxTimestamp(Isolation),
    /// The local log's start (-4).
    EarliestLocal,
    /// The last record in the bucket (-5).
    LatestTiered,
    /// The first record that is not in the bucket yet (-6).
    EarliestPendingUpload,
    /// The first record at or after a time, among those that may be seen.
    At(Timestamp, Isolation),
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
        let plain = |offset: Offset| {
            Some(FoundOffset { offset, timestamp: None, epoch: self.log().epoch_at(offset) })
        };
        match lookup {
            Lookup::Latest(_) | Lookup::At(..) | Lookup::MaxTimestamp(_) if !self.knows_its_end() => {
                Err(ReadError::NotYet)
            }
            Lookup::Latest(isolation) => {
                let (offset, epoch) = (self.upper(isolation), self.log().latest_epoch());
                Ok(Some(FoundOffset { offset, timestamp: None, epoch }))
            }
            Lookup::Earliest => Ok(plain(offsets.start)),
            Lookup::EarliestLocal => Ok(plain(offsets.local_start)),
            Lookup::LatestTiered => {
                let last = self.tiered_end().and_then(|end| Offset::new(end.get() - 1));
                Ok(last.filter(|last| *last >= offsets.start).and_then(plain))
            }
            Lookup::EarliestPendingUpload if !self.config().tiered => Ok(None),
            Lookup::EarliestPendingUpload => match self.tiered_end() {
                Some(end) => Ok(plain(end.max(offsets.start))),
                // Before the bucket was asked: either nothing is there, or not known.
                None if offsets.local_start == offsets.start => Ok(plain(offsets.start)),
                None => Ok(None),
            },
            Lookup::MaxTimestamp(isolation) => self.max_timestamp(tier, isolation, wait_until).await,
            Lookup::At(timestamp, isolation) => {
                self.at_timestamp(tier, timestamp, isolation, wait_until).await
            }
        }
    }

    /// Deletes all records before an offset, or all that are acknowledged; gives the new log start. Durable on return; the
    /// bucket's manifest follows with the keeper's next look.
    pub(crate) async fn delete_records(
        self: &Arc<Replica>,
        before: Option<Offset>,
    ) -> Result<Offset, DeleteRecordsError> {
        self.check_leader(-1)?;
        let config = self.config();
        if config.compaction.is_some() && !config.retention.deletes {
            return Err(DeleteRecordsError::Compacted);
        }
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
        isolation: Isolation,
        wait_until: Instant,
    ) -> Result<Option<FoundOffset>, ReadError> {
        loop {
            let offsets = self.log().offsets();
            if offsets.start < offsets.local_start {
                let tier = tier.ok_or(ReadError::NoTier { local_start: offsets.local_start })?;
                match tier.offset_for_timestamp(self.partition(), timestamp, wait_until).await? {
                    TimeLookup::Pending => return Err(ReadError::Pending),
                    TimeLookup::NotHere => {}
                    // Deleted a moment ago, and the bucket does not know yet.
                    TimeLookup::Found { offset, .. } if offset < offsets.start => {
                        return Err(ReadError::Pending);
                    }
                    TimeLookup::Found { offset, timestamp, epoch } => {
                        return Ok(Some(FoundOffset { offset, timestamp: Some(timestamp), epoch }));
                    }
                }
            }
            let until = self.upper(isolation);
            let found = self.log().expanding(move |log| log.offset_for_timestamp(timestamp, until)).await?;
            // What has left this disk meanwhile was looked for in neither place.
            if self.log().offsets().local_start == offsets.local_start {
                return Ok(found.map(|found| FoundOffset {
                    offset: found.offset,
                    timestamp: Some(found.timestamp),
                    epoch: found.epoch,
                }));
            }
            if self.world().clock.now() >= wait_until {
                return Err(ReadError::Pending);
            }
        }
    }

    async fn max_timestamp(
        self: &Arc<Replica>,
        tier: Option<&Tier>,
        isolation: Isolation,
        wait_until: Instant,
    ) -> Result<Option<FoundOffset>, ReadError> {
        let until = self.upper(isolation);
        let local = self.log().expanding(move |log| log.max_timestamp(until)).await?;
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
            TimeLookup::Found { offset, .. } if offset < offsets.start => Err(ReadError::Pending),
            TimeLookup::Found { offset, timestamp, epoch } => {
                Ok(Some(FoundOffset { offset, timestamp: Some(timestamp), epoch }))
            }
        }
    }
}
