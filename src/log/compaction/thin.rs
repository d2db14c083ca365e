//! A batch with some of its records left out. Pure.
//!
//! Offsets, leader epoch, producer and sequence of the batch stay as they were, and so does every record's offset: followers and
//! consumers find the same records at the same places, with gaps between. Only length, checksum, count, newest timestamp and, where
//! tombstones stay, the base timestamp are others (KIP-534: it then says when they may go).

use std::io;

use aquifer_model::batch::{BaseTimestamp, HEADER_BYTES, Thinned};
use aquifer_model::compression::{Compression, EXPANDED_BYTES_MAX};
use aquifer_model::record::{self, RawRecord, RecordError};
use aquifer_model::{BatchHeader, ByteCount, Timestamp};

use super::super::error::InvalidRecords;
use super::super::validate::expand;

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Goes,
    Stays,
    /// It stays for a while, which begins now if it has not begun before.
    StaysForAWhile,
}

/// What becomes of a batch of which no record stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emptied {
    Goes,
    /// For what its header tells.
    Stays,
}

/// What is left of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    /// All of it, as it was.
    Whole,
    /// This instead.
    Changed(Vec<u8>),
    Nothing,
}

/// Why a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ThinError {
    #[error(transparent)]
    Expand(#[from] InvalidRecords),
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error("its records cannot be compressed again: {0}")]
    Compress(#[from] io::Error),
}

/// The records of a whole batch, expanded.
pub(super) fn records<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
) -> Result<std::borrow::Cow<'a, [u8]>, InvalidRecords> {
    let body = batch.get(HEADER_BYTES..).unwrap_or_default();
    Ok(match header.compression() {
        Compression::None => body.into(),
        // No record, and nothing that a codec has written.
        _ if body.is_empty() => body.into(),
        codec => expand(codec, body, ByteCount(EXPANDED_BYTES_MAX as u64))?.into(),
    })
}

/// Leaves of a whole batch what `judge` says. A while that begins now ends at `horizon`. Also gives how many records went.
pub(super) fn thin(
    header: &BatchHeader,
    batch: &[u8],
    emptied: Emptied,
    horizon: Timestamp,
    mut judge: impl FnMut(&RawRecord<'_>) -> Fate,
) -> Result<(Left, u32), ThinError> {
    let records = records(header, batch)?;
    let mut kept = Kept::default();
    let mut fates = Vec::new();
    record::walk::<RecordError>(header, &records, |record| {
        let fate = judge(&record);
        fates.push(fate);
        if fate != Fate::Goes {
            kept.note(&record);
            record.put(&mut kept.bytes);
        }
        Ok(())
    })?;
    let begins = !header.has_delete_horizon() && fates.contains(&Fate::StaysForAWhile);
    let gone = header.record_count() - kept.count;
    let left = match kept.count {
        0 if emptied == Emptied::Goes => Left::Nothing,
        0 if gone > 0 => Left::Changed(empty(header)),
        _ if gone == 0 && !begins => Left::Whole,
        _ => {
            let mut base = match header.delete_horizon() {
                Some(horizon) => BaseTimestamp::DeleteHorizon(horizon),
                None => BaseTimestamp::OfRecords(header.base_timestamp()),
            };
            if begins {
                base = BaseTimestamp::DeleteHorizon(horizon);
                kept.bytes.clear();
                let mut fates = fates.iter();
                record::walk::<RecordError>(header, &records, |record| {
                    if fates.next() != Some(&Fate::Goes) {
                        record.put_rebased(&mut kept.bytes, header.base_timestamp(), horizon);
                    }
                    Ok(())
                })?;
            }
            Left::Changed(kept.batch(header, base)?)
        }
    };
    Ok((left, gone))
}

/// The records that stay.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    count: u32,
    timestamp_max: Option<Timestamp>,
}

impl Kept {
    fn note(&mut self, record: &RawRecord<'_>) {
        self.count += 1;
        self.timestamp_max = self.timestamp_max.max(Some(record.timestamp));
    }

    fn batch(self, header: &BatchHeader, base: BaseTimestamp) -> Result<Vec<u8>, ThinError> {
        let compression = header.compression();
        let packed = match compression {
            Compression::None => self.bytes,
            codec => codec.compress(&self.bytes)?,
        };
        let max_timestamp = self.timestamp_max.unwrap_or(Timestamp::NONE);
        let thinned = Thinned { compression, record_count: self.count, base, max_timestamp };
        Ok(whole(&header.thinned(&thinned, &packed), &packed))
    }
}

/// A batch without records. It has no time: a lookup for the newest record must not be led to it.
fn empty(header: &BatchHeader) -> Vec<u8> {
    let base = BaseTimestamp::OfRecords(Timestamp::NONE);
    let thinned =
        Thinned { compression: Compression::None, record_count: 0, base, max_timestamp: Timestamp::NONE };
    whole(&header.thinned(&thinned, &[]), &[])
}

fn whole(header: &BatchHeader, records: &[u8]) -> Vec<u8> {
    [&header.to_bytes()[..], records].concat()
}
