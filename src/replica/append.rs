//! Appending as leader, and waiting until it is acknowledged.

use aquifer_model::{LeaderEpoch, Offset};
use aquifer_runtime::planted::{self, Planted};
use bytes::Bytes;
use tokio::time::Instant;

use super::error::{AckError, AppendError};
use super::state::Replica;
use crate::config::Durability;
use crate::log::{Append, Appended, Origin};

/// What a producer asks for before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    /// No answer at all (0).
    None,
    /// The leader has the records in its log (1).
    Leader,
    /// Every in-sync replica holds them safely (-1).
    All,
}

/// Records in the leader's log, and what their acknowledgement waits for.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) appended: Appended,
    pub(crate) epoch: LeaderEpoch,
    /// The high watermark to wait for.
    pub(crate) upto: Offset,
}

impl Replica {
    /// Appends one batch. A write to the page cache, done when this returns, mostly without a wait; with [`Acks::All`] the caller
    /// then waits in [`Replica::acknowledged`].
    pub(crate) async fn append(&self, records: Bytes, acks: Acks) -> Result<Acknowledged, AppendError> {
        let epoch = self.check_leader(-1)?;
        self.check_room(acks)?;
        let appended = self.log().append_away(Append { records, epoch, origin: Origin::Client }).await?;
        Ok(self.note_appended(epoch, appended))
    }

    /// Appends one uncompressed batch that was decided on under this epoch, with [`Acks::All`]: under another it would be
    /// another's decision.
    pub(crate) fn append_under(
        &self,
        epoch: LeaderEpoch,
        records: Bytes,
    ) -> Result<Acknowledged, AppendError> {
        let epoch = self.check_leader(epoch.get())?;
        self.check_room(Acks::All)?;
        let appended = self.log().append(Append { records, epoch, origin: Origin::Client })?;
        Ok(self.note_appended(epoch, appended))
    }

    /// Whether an append with [`Acks::All`] would find enough replicas, and room.
    pub(crate) fn takes_records(&self) -> bool {
        self.check_room(Acks::All).is_ok()
    }

    fn check_room(&self, acks: Acks) -> Result<(), AppendError> {
        let (in_sync, wanted) = self.in_sync();
        if acks == Acks::All && in_sync < wanted {
            return Err(AppendError::NotEnoughReplicas { in_sync, wanted });
        }
        if self.disk().is_full() { Err(AppendError::DiskFull) } else { Ok(()) }
    }

    fn note_appended(&self, epoch: LeaderEpoch, appended: Appended) -> Acknowledged {
        if self.config().durability == Durability::Replicated || planted::is(Planted::AckBeforeSync) {
            self.advance();
        }
        Acknowledged { appended, epoch, upto: appended.last.next() }
    }

    /// Waits until the records are acknowledged.
    pub(crate) async fn acknowledged(
        &self,
        records: &Acknowledged,
        deadline: Instant,
    ) -> Result<(), AckError> {
        let mut marks = self.marks();
        // Dropped before anybody waited: the epoch and the offsets may be as they were, and nobody would move the mark for these.
        if self.log().cuts() != records.appended.cuts {
            return Err(AckError::NotLeader);
        }
        let reached = marks
            .wait_for(|marks| marks.high_watermark >= records.upto || marks.leading != Some(records.epoch));
        let marks = match tokio::time::timeout_at(deadline, reached).await {
            Err(_) => return Err(AckError::Timeout),
            Ok(Err(_)) => return Err(AckError::NotLeader),
            Ok(Ok(marks)) => *marks,
        };
        // Dropped since, though offsets are as high again: this leader found that the bucket contradicts its log.
        if self.log().cuts() != records.appended.cuts {
            return Err(AckError::NotLeader);
        }
        // A duplicate's original may have been acknowledged under an older epoch: the watermark alone says it is safe.
        if marks.high_watermark < records.upto {
            return Err(AckError::NotLeader);
        }
        let (in_sync, wanted) = self.in_sync();
        if in_sync < wanted { Err(AckError::NotEnoughReplicas) } else { Ok(()) }
    }
}
