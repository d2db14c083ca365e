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

/// A record's key and value, and the most that it takes.
struct Encoded {
    key: Bytes,
    value: Option<Bytes>,
    bytes: usize,
}

/// Records as batches of half of `bytes_max` or so, and never of more. What lies between two of the ends in `parts` is in one batch,
/// unless it is too much for one: a crash then keeps all of it or nothing.
pub(super) fn batches(
    records: &[Record],
    parts: &[usize],
    now: Now,
    bytes_max: usize,
) -> Result<Vec<Bytes>, BatchError> {
    let room = bytes_max.saturating_sub(HEADER_BYTES);
    let mut encoded = Vec::with_capacity(records.len());
    for record in records {
        let (key, value) = (record.key()?, record.value()?);
        let bytes = RECORD_BYTES_EXTRA + key.len() + value.as_ref().map_or(0, Bytes::len);
        if bytes > room {
            return Err(BatchError::TooLarge { bytes, bytes_max });
        }
        encoded.push(Encoded { key, value, bytes });
    }
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new();
    let mut begin = 0;
    for end in parts.iter().copied().chain([encoded.len()]) {
        let part = &encoded[begin..end];
        begin = end;
        // What is too much for one batch is parted anywhere.
        let fits = bytes_of(part) <= room;
        for run in part.chunks(if fits { part.len().max(1) } else { 1 }) {
            let is_full = builder.size() + bytes_of(run) > room || builder.size() >= room / 2;
            if builder.record_count() > 0 && is_full {
                batches.push(std::mem::take(&mut builder).finish(Compression::None)?.into());
            }
            for one in run {
                builder.push(now.wall, Some(&one.key), one.value.as_deref(), &[]);
            }
        }
    }
    if builder.record_count() > 0 {
        batches.push(builder.finish(Compression::None)?.into());
    }
    Ok(batches)
}

fn bytes_of(records: &[Encoded]) -> usize {
    records.iter().map(|one| one.bytes).sum()
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
        let made = batches(&records, &[], now, 1_100).expect("each fits");
        assert_eq!(made.len(), 4);
        assert!(made.iter().all(|batch| batch.len() <= 1_100));
        assert_eq!(batches(&[position(0, 10), position(1, 10)], &[], now, 1_100).expect("both fit").len(), 1);
        let refused = batches(&[position(0, 10), position(1, 1_100)], &[], now, 1_100);
        assert!(matches!(refused, Err(BatchError::TooLarge { .. })), "and no batch of the first alone");
        assert!(position(0, 900).batch_bytes_max() >= made[1].len(), "what is judged before is no less");
    }

    /// A group that changes its protocol must not be stored half as the one and half as the other.
    #[test]
    fn a_change_that_fits_into_a_batch_is_in_one() {
        let now = Now { at: Clock::system().now(), wall: Timestamp(0) };
        let count = |batch: &Bytes| aquifer_model::BatchHeader::parse(batch).expect("a batch").record_count();
        for (sizes, parts, expected) in [
            // Three changes: the second does not fit behind the first.
            (&[300, 300, 300, 10][..], &[1, 3, 4][..], &[1, 2, 1][..]),
            (&[10, 10, 10, 10], &[2, 4], &[4]),
            // More than fits into one is parted.
            (&[10, 600, 600, 10], &[1, 4], &[2, 1, 1]),
        ] {
            let records: Vec<Record> = (0..).zip(sizes).map(|(at, bytes)| position(at, *bytes)).collect();
            let made = batches(&records, parts, now, 1_100).expect("each fits");
            assert_eq!(made.iter().map(count).collect::<Vec<_>>(), expected, "{sizes:?} in {parts:?}");
        }
    }
}
