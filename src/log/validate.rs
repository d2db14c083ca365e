//! What a leader lets into a log. Pure.
//!
//! A batch that got in is served to every consumer for ever, from this disk and from the bucket, so what is wrong with it must
//! be found here. The price is kept low: the header, one checksum over the bytes, and for uncompressed batches one pass over
//! the records' framing. Compressed batches are expanded only where the topic asks for it.
//!
//! Knows no log: offsets, sequences and epochs are judged where the state is.

use std::time::Duration;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::compression::Compression;
use aquifer_model::record::{self, Checked};
use aquifer_model::{BatchError, BatchHeader, ByteCount, Timestamp};
use bytes::Bytes;

use super::config::LogConfig;
use super::error::{AppendError, InvalidRecords, TimestampIssue};
use crate::config::{RecordValidation, TimestampType};

/// Who appends at the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A producer, through Produce.
    Client,
    /// A coordinator of this cluster, which also writes control batches.
    Coordinator,
}

/// Whether `records` must be expanded to be validated: work for many milliseconds, and for much memory.
pub(super) fn must_expand(records: &Bytes, config: &LogConfig) -> bool {
    let looked_into =
        config.cleanup.compaction().is_some() || config.record_validation == RecordValidation::Full;
    looked_into && BatchHeader::parse(records).is_ok_and(|header| header.compression() != Compression::None)
}

/// Checks the one batch in `records`; gives its header as it will be stored, but for the place in the log.
pub(crate) fn validate(
    records: &Bytes,
    origin: Origin,
    config: &LogConfig,
    now: Timestamp,
) -> Result<BatchHeader, AppendError> {
    if records.is_empty() {
        return Err(InvalidRecords::Empty.into());
    }
    let mut header = BatchHeader::parse(records)?;
    check_size(&header, records.len(), config)?;
    header.verify(records)?;
    check_claims(&header, origin)?;
    let body = records.slice(HEADER_BYTES..);
    let checked = check_records(&header, &body, config)?;
    if header.is_log_append_time() {
        // Kafka: a producer has no business saying when its records arrived.
        return Err(AppendError::Timestamp { errors: Vec::new() });
    }
    match config.timestamp_type {
        TimestampType::LogAppendTime => header.stamp(now, &body),
        TimestampType::CreateTime => {
            check_timestamps(&header, checked.as_ref(), &body, config, now)?;
            if let Some(checked) = checked {
                // As Kafka does: the header's claim is put right. Otherwise a lookup by time would miss these records.
                let newest = checked.timestamp_max.max(Timestamp::NONE);
                if newest != header.max_timestamp() {
                    header.correct_max_timestamp(newest, &body);
                }
            }
        }
    }
    Ok(header)
}

fn check_size(header: &BatchHeader, present: usize, config: &LogConfig) -> Result<(), AppendError> {
    let size = ByteCount(header.size() as u64);
    if size > config.max_message_bytes {
        return Err(AppendError::TooLarge { size, max: config.max_message_bytes });
    }
    if size > config.segment_bytes {
        return Err(AppendError::SegmentTooLarge { size, max: config.segment_bytes });
    }
    match header.size() {
        size if size > present => Err(BatchError::Short.into()),
        size if size < present => Err(InvalidRecords::SeveralBatches.into()),
        _ => Ok(()),
    }
}

fn check_claims(header: &BatchHeader, origin: Origin) -> Result<(), InvalidRecords> {
    if origin == Origin::Client && header.is_control() {
        return Err(InvalidRecords::Control);
    }
    if header.has_delete_horizon() {
        return Err(InvalidRecords::DeleteHorizon);
    }
    if header.record_count() == 0 || u64::from(header.record_count()) != header.offset_count() {
        return Err(InvalidRecords::Count { records: header.record_count(), offsets: header.offset_count() });
    }
    match header.producer() {
        Some(producer) if producer.base_sequence < 0 && !header.is_control() => {
            Err(InvalidRecords::Sequence(producer.base_sequence))
        }
        _ => Ok(()),
    }
}

/// Walks the records where they can or must be seen.
fn check_records(
    header: &BatchHeader,
    body: &Bytes,
    config: &LogConfig,
) -> Result<Option<Checked>, InvalidRecords> {
    let compacted = config.cleanup.compaction().is_some();
    let checked = match header.compression() {
        Compression::None => record::check(header, body)?,
        codec if compacted || config.record_validation == RecordValidation::Full => {
            record::check(header, &expand(codec, body, config.record_expanded_bytes_max)?)?
        }
        _ => return Ok(None),
    };
    match checked.keyless {
        Some(index) if compacted && !header.is_control() => Err(InvalidRecords::Keyless(index)),
        _ => Ok(Some(checked)),
    }
}

pub(super) fn expand(
    codec: Compression,
    body: &[u8],
    bytes_max: ByteCount,
) -> Result<Vec<u8>, InvalidRecords> {
    let bytes_max = usize::try_from(bytes_max.get()).unwrap_or(usize::MAX);
    codec.decompress(body, bytes_max).map_err(|error| InvalidRecords::Compressed(error.to_string()))
}

fn check_timestamps(
    header: &BatchHeader,
    checked: Option<&Checked>,
    body: &Bytes,
    config: &LogConfig,
    now: Timestamp,
) -> Result<(), AppendError> {
    let (oldest, newest) = match checked {
        Some(checked) => (checked.timestamp_min, checked.timestamp_max),
        None => (header.base_timestamp().min(header.max_timestamp()), header.max_timestamp()),
    };
    let bounds = Bounds { before: config.timestamp_before_max_ms, after: config.timestamp_after_max_ms, now };
    if bounds.hold(oldest) && bounds.hold(newest) {
        return Ok(());
    }
    if checked.is_none() {
        return Err(AppendError::Timestamp { errors: Vec::new() });
    }
    let expanded = match header.compression() {
        Compression::None => body.clone(),
        codec => Bytes::from(expand(codec, body, config.record_expanded_bytes_max)?),
    };
    // Off the hot path: the producer is told which records.
    let records = record::read(header, &expanded).map_err(InvalidRecords::from)?;
    let wrong = (0u32..).zip(&records).filter(|(_, record)| !bounds.hold(record.timestamp));
    let errors: Vec<_> =
        wrong.map(|(index, record)| TimestampIssue { index, timestamp: record.timestamp }).collect();
    // The oldest may have been "no timestamp", which is within any bounds.
    if errors.is_empty() { Ok(()) } else { Err(AppendError::Timestamp { errors }) }
}

struct Bounds {
    before: Option<Duration>,
    after: Option<Duration>,
    now: Timestamp,
}

impl Bounds {
    fn hold(&self, timestamp: Timestamp) -> bool {
        timestamp == Timestamp::NONE
            || (self.before.is_none_or(|before| timestamp.plus(before) >= self.now)
                && self.after.is_none_or(|after| timestamp <= self.now.plus(after)))
    }
}

#[cfg(test)]
mod tests;
