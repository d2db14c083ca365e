//! The records inside a batch: framing check, reading.
//!
//! A record, uncompressed: length (varint), attributes (1 byte, unused), timestamp delta (varlong), offset delta (varint), key
//! length and key, value length and value (-1 for null), header count, headers. Varints are zigzag.
//!
//! [`check`] is what the broker runs on uncompressed batches: one pass over the framing, no copy, no allocation. A batch whose
//! header lies about its records would poison an endless history for every reader, so it must not get in.

use std::borrow::Cow;

use bytes::Bytes;

use crate::batch::BatchHeader;
use crate::compression::{Compression, EXPANDED_BYTES_MAX};
use crate::offset::{Offset, OffsetRange};
use crate::time::Timestamp;

/// Why records are not what their batch's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A length points outside of its record, or the records end early.
    #[error("record {0} is cut short or has a wrong length")]
    Framing(u32),
    /// A varint of more bytes than its type holds.
    #[error("record {0} has a number that is too long")]
    Number(u32),
    /// A producer's records are dense: record n of a batch has offset delta n. Compaction leaves some out, and the others in order.
    #[error("record {0} has offset delta {1}")]
    OffsetDelta(u32, i64),
    /// Fewer or more records than the header says.
    #[error("batch holds {found} records, its header says {stated}")]
    Count {
        /// In the batch.
        found: u32,
        /// In the header.
        stated: u32,
    },
}

/// What the check learned on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// The newest timestamp; that of the header if it stamps the arrival.
    pub timestamp_max: Timestamp,
    /// The oldest.
    pub timestamp_min: Timestamp,
    /// The first record without a key; a compacted topic refuses it.
    pub keyless: Option<u32>,
}

/// Checks the framing of uncompressed `records` (all that follows the header) against a header of a producer's batch.
pub fn check(header: &BatchHeader, records: &[u8]) -> Result<Checked, RecordError> {
    let stated = header.record_count();
    let mut left = records;
    let mut checked =
        Checked { timestamp_max: Timestamp(i64::MIN), timestamp_min: Timestamp(i64::MAX), keyless: None };
    let mut found = 0;
    while !left.is_empty() {
        if found == stated {
            return Err(RecordError::Count { found: found + 1, stated });
        }
        let (fields, rest) = split_record(left, found)?;
        left = rest;
        let timestamp = Timestamp(header.base_timestamp().0.wrapping_add(fields.timestamp_delta));
        checked.timestamp_max = checked.timestamp_max.max(timestamp);
        checked.timestamp_min = checked.timestamp_min.min(timestamp);
        if fields.offset_delta != i64::from(found) {
            return Err(RecordError::OffsetDelta(found, fields.offset_delta));
        }
        if fields.key.is_none() && checked.keyless.is_none() {
            checked.keyless = Some(found);
        }
        found += 1;
    }
    if found != stated || u64::from(found) != header.offset_count() {
        return Err(RecordError::Count { found, stated });
    }
    if header.is_log_append_time() || found == 0 {
        checked.timestamp_max = header.max_timestamp();
        checked.timestamp_min = header.max_timestamp();
    }
    Ok(checked)
}

/// A record, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it lies in its partition.
    pub offset: Offset,
    /// When its producer made it, or when it arrived.
    pub timestamp: Timestamp,
    /// Null and empty are two things.
    pub key: Option<Bytes>,
    /// Null is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// In the producer's order.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Reads the uncompressed records of a stored batch; keys and values are slices of `records`.
pub fn read(header: &BatchHeader, records: &Bytes) -> Result<Vec<Record>, RecordError> {
    let stated = header.record_count();
    let mut out = Vec::with_capacity((stated as usize).min(records.len() / RECORD_BYTES_MIN + 1));
    let mut left = &records[..];
    for index in 0..stated {
        let (fields, rest) = split_record(left, index)?;
        left = rest;
        let timestamp = if header.is_log_append_time() {
            header.max_timestamp()
        } else {
            Timestamp(header.base_timestamp().0.wrapping_add(fields.timestamp_delta))
        };
        let offset_delta = u64::try_from(fields.offset_delta)
            .ok()
            .filter(|delta| *delta < header.offset_count())
            .ok_or(RecordError::OffsetDelta(index, fields.offset_delta))?;
        let slice = |part: Option<&[u8]>| part.map(|part| records.slice_ref(part));
        let headers = fields.headers(index)?;
        out.push(Record {
            offset: header.base_offset.plus(offset_delta),
            timestamp,
            key: slice(fields.key),
            value: slice(fields.value),
            headers: headers.into_iter().map(|(k, v)| (records.slice_ref(k), slice(v))).collect(),
        });
    }
    if left.is_empty() { Ok(out) } else { Err(RecordError::Count { found: stated + 1, stated }) }
}

/// The first record at or after `timestamp`, of those in `within`, of a stored batch whose checksum holds; `packed` is what
/// follows its header. No record behind it is looked at.
///
/// A batch that cannot be opened (nobody looked into it when it came) stands for its records as a whole: whoever begins to read
/// there misses none of them.
pub fn first_at_or_after(
    header: &BatchHeader,
    packed: &[u8],
    timestamp: Timestamp,
    within: OffsetRange,
) -> Option<(Offset, Timestamp)> {
    first_record_at_or_after(header, packed, timestamp, within).unwrap_or_else(|| {
        let offset = header.base_offset.max(within.base);
        (header.max_timestamp() >= timestamp && offset < within.next)
            .then_some((offset, header.max_timestamp()))
    })
}

/// `None` for a batch that cannot be opened.
fn first_record_at_or_after(
    header: &BatchHeader,
    packed: &[u8],
    timestamp: Timestamp,
    within: OffsetRange,
) -> Option<Option<(Offset, Timestamp)>> {
    let expanded = match header.compression() {
        Compression::None => Cow::Borrowed(packed),
        codec => Cow::Owned(codec.decompress(packed, EXPANDED_BYTES_MAX).ok()?),
    };
    let mut left = &expanded[..];
    for index in 0..header.record_count() {
        let (fields, rest) = split_record(left, index).ok()?;
        left = rest;
        let made = if header.is_log_append_time() {
            header.max_timestamp()
        } else {
            Timestamp(header.base_timestamp().0.wrapping_add(fields.timestamp_delta))
        };
        let delta = u64::try_from(fields.offset_delta).ok()?;
        if delta >= header.offset_count() {
            return None;
        }
        let offset = header.base_offset.plus(delta);
        if made >= timestamp && within.contains(offset) {
            return Some(Some((offset, made)));
        }
    }
    Some(None)
}

/// A record as it lies in its batch: what compaction goes by, and its bytes.
#[derive(Debug, Clone, Copy)]
pub struct RawRecord<'a> {
    /// Where it lies in its partition.
    pub offset: Offset,
    /// When its producer made it, or when it arrived.
    pub timestamp: Timestamp,
    /// Null and empty are two things.
    pub key: Option<&'a [u8]>,
    /// Whether its value is null: in a compacted topic, that its key is gone.
    pub is_tombstone: bool,
    fields: Fields<'a>,
    whole: &'a [u8],
}

impl RawRecord<'_> {
    /// Appends the record as it is to the records of a batch that has the same base offset and base timestamp.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.whole);
    }

    /// Appends the record to the records of a batch that has the same base offset, but whose base timestamp was `old` and is `new`.
    pub fn put_rebased(&self, out: &mut Vec<u8>, old: Timestamp, new: Timestamp) {
        let Fields { attributes, timestamp_delta, behind_timestamp, .. } = self.fields;
        let mut body = Vec::with_capacity(self.whole.len() + 10);
        body.push(attributes);
        put_varint(&mut body, timestamp_delta.wrapping_add(old.0.wrapping_sub(new.0)));
        body.extend_from_slice(behind_timestamp);
        put_varint(out, body.len() as i64);
        out.extend_from_slice(&body);
    }
}

/// Shows the uncompressed records of a stored batch one by one, without copying any. Offsets rise, and may leave gaps.
pub fn walk<E: From<RecordError>>(
    header: &BatchHeader,
    records: &[u8],
    mut show: impl FnMut(RawRecord<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let stated = header.record_count();
    let mut left = records;
    let mut least = 0;
    for index in 0..stated {
        let (fields, rest) = split_record(left, index)?;
        let whole = &left[..left.len() - rest.len()];
        left = rest;
        let rises = u64::try_from(fields.offset_delta)
            .is_ok_and(|delta| delta >= least && delta < header.offset_count());
        if !rises {
            return Err(RecordError::OffsetDelta(index, fields.offset_delta).into());
        }
        least = fields.offset_delta as u64 + 1;
        let timestamp = match header.is_log_append_time() {
            true => header.max_timestamp(),
            false => Timestamp(header.base_timestamp().0.wrapping_add(fields.timestamp_delta)),
        };
        let offset = header.base_offset.plus(least - 1);
        show(RawRecord {
            offset,
            timestamp,
            key: fields.key,
            is_tombstone: fields.value.is_none(),
            fields,
            whole,
        })?;
    }
    if left.is_empty() { Ok(()) } else { Err(RecordError::Count { found: stated + 1, stated }.into()) }
}

/// The shortest record: seven one-byte fields.
const RECORD_BYTES_MIN: usize = 7;

/// A header's key and value, as slices of the records.
type HeaderSlices<'a> = (&'a [u8], Option<&'a [u8]>);

#[derive(Debug, Clone, Copy)]
struct Fields<'a> {
    attributes: u8,
    timestamp_delta: i64,
    /// All from the offset delta on.
    behind_timestamp: &'a [u8],
    offset_delta: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl<'a> Fields<'a> {
    fn headers(&self, index: u32) -> Result<Vec<HeaderSlices<'a>>, RecordError> {
        let mut cursor = Cursor { left: self.headers, index };
        let count = cursor.varint()?;
        let mut out = Vec::new();
        for _ in 0..count {
            let key = cursor.nullable()?.ok_or(RecordError::Framing(index))?;
            out.push((key, cursor.nullable()?));
        }
        Ok(out)
    }
}

fn split_record(bytes: &[u8], index: u32) -> Result<(Fields<'_>, &[u8]), RecordError> {
    let mut cursor = Cursor { left: bytes, index };
    let length = usize::try_from(cursor.varint()?).map_err(|_| RecordError::Framing(index))?;
    let body = cursor.take(length)?;
    let rest = cursor.left;
    let mut cursor = Cursor { left: body, index };
    let attributes = cursor.take(1)?[0];
    let timestamp_delta = cursor.varint()?;
    let behind_timestamp = cursor.left;
    let offset_delta = cursor.varint()?;
    let key = cursor.nullable()?;
    let value = cursor.nullable()?;
    let headers = cursor.left;
    cursor.skip_headers()?;
    if !cursor.left.is_empty() {
        return Err(RecordError::Framing(index));
    }
    Ok((Fields { attributes, timestamp_delta, behind_timestamp, offset_delta, key, value, headers }, rest))
}

struct Cursor<'a> {
    left: &'a [u8],
    index: u32,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (taken, left) = self.left.split_at_checked(count).ok_or(RecordError::Framing(self.index))?;
        self.left = left;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<i64, RecordError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some((&byte, left)) = self.left.split_first() else {
                return Err(RecordError::Framing(self.index));
            };
            self.left = left;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(RecordError::Number(self.index))
    }

    fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| RecordError::Framing(self.index))?;
                self.take(length).map(Some)
            }
        }
    }

    fn skip_headers(&mut self) -> Result<(), RecordError> {
        let count = self.varint()?;
        // A header takes two bytes at least, so a count beyond the bytes left fails on its first missing header.
        if count < 0 {
            return Err(RecordError::Framing(self.index));
        }
        for _ in 0..count {
            self.nullable()?.ok_or(RecordError::Framing(self.index))?;
            self.nullable()?;
        }
        Ok(())
    }
}

/// Appends a zigzag varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
