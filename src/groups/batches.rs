//! Records as batches that the log takes: none is larger than it may be.

use std::io;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_protocol::EncodeError;
use bytes::Bytes;

use super::effects::Now;
use super::record::Record;

/// What a record takes at most in a batch besides its key and its value: lengths, differences and attributes.
const RECORD_BYTES_EXTRA: usize = 32;

/// Why records cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("a record of {bytes} bytes is too large for a batch of at most {bytes_max}")]
    TooLarge { bytes: usize, bytes_max: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Records as batches of half of `bytes_max` or so, and never of more.
pub(super) fn batches(records: &[Record], now: Now, bytes_max: usize) -> Result<Vec<Bytes>, BatchError> {
    let room = bytes_max.saturating_sub(HEADER_BYTES);
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new();
    for record in records {
        let (key, value) = (record.key()?, record.value()?);
        let bytes = RECORD_BYTES_EXTRA + key.len() + value.as_ref().map_or(0, Bytes::len);
        if bytes > room {
            return Err(BatchError::TooLarge { bytes, bytes_max });
        }
        let is_full = builder.size() + bytes > room || builder.size() >= room / 2;
        if builder.record_count() > 0 && is_full {
            batches.push(std::mem::take(&mut builder).finish(Compression::None)?.into());
        }
        builder.push(now.wall, Some(&key), value.as_deref(), &[]);
    }
    if builder.record_count() > 0 {
        batches.push(builder.finish(Compression::None)?.into());
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use aquifer_model::Timestamp;
    use aquifer_protocol::Str;
    use aquifer_runtime::clock::Clock;

    use super::*;
    use crate::groups::record::{OffsetKey, OffsetValue};

    fn position(partition: i32, metadata_bytes: usize) -> Record {
        let value = OffsetValue {
            offset: 1,
            leader_epoch: None,
            topic_id: None,
            metadata: Str::from("m".repeat(metadata_bytes)),
            committed: Timestamp(0),
            expires: None,
        };
        let key = OffsetKey { group: Str::from("g"), topic: Str::from("t"), partition };
        Record::Offset { key, value: Some(value) }
    }

    #[test]
    fn a_batch_is_closed_before_a_record_that_does_not_fit() {
        let now = Now { at: Clock::system().now(), wall: Timestamp(0) };
        let records = [position(0, 400), position(1, 900), position(2, 900), position(3, 10)];
        let made = batches(&records, now, 1_100).expect("each fits");
        assert_eq!(made.len(), 4);
        assert!(made.iter().all(|batch| batch.len() <= 1_100));
        assert_eq!(batches(&[position(0, 10), position(1, 10)], now, 1_100).expect("both fit").len(), 1);
        let refused = batches(&[position(0, 10), position(1, 1_100)], now, 1_100);
        assert!(matches!(refused, Err(BatchError::TooLarge { .. })), "and no batch of the first alone");
        assert!(position(0, 900).batch_bytes_max() >= made[1].len(), "what is judged before is no less");
    }
}
