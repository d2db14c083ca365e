//! Sparse map from timestamp to offset in a segment.
//!
//! Bytes: entries of 12, big-endian: timestamp (i64), offset relative to the segment's base (u32), as in Kafka. An entry says:
//! up to and including the batch that starts at this offset, no record is newer than this timestamp. Both rise.

use crate::format::FormatError;
use crate::time::Timestamp;

/// Length of an entry, in bytes.
pub const ENTRY_BYTES: usize = 12;
const NAME: &str = "time index";

/// One entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeEntry {
    /// The newest timestamp so far.
    pub timestamp: Timestamp,
    /// Base offset of the batch that brought it, relative to the segment's.
    pub relative: u32,
}

/// The relative offset from which to scan for the first record at or after `timestamp`: all batches before it are older.
pub fn floor(entries: &[TimeEntry], timestamp: Timestamp) -> u32 {
    let older = entries.partition_point(|entry| entry.timestamp < timestamp);
    older.checked_sub(1).map_or(0, |at| entries[at].relative)
}

/// Writes entries.
pub fn encode(entries: &[TimeEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        out.extend_from_slice(&entry.timestamp.0.to_be_bytes());
        out.extend_from_slice(&entry.relative.to_be_bytes());
    }
    out
}

/// Reads entries; all of `bytes` must be entries, in order.
pub fn decode(bytes: &[u8]) -> Result<Vec<TimeEntry>, FormatError> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return Err(FormatError::Short { format: NAME });
    }
    let entries: Vec<TimeEntry> = bytes
        .chunks_exact(ENTRY_BYTES)
        .map(|entry| {
            let mut timestamp = [0; 8];
            timestamp.copy_from_slice(&entry[..8]);
            let relative = u32::from_be_bytes([entry[8], entry[9], entry[10], entry[11]]);
            TimeEntry { timestamp: Timestamp(i64::from_be_bytes(timestamp)), relative }
        })
        .collect();
    let rising = entries
        .windows(2)
        .all(|pair| pair[0].timestamp < pair[1].timestamp && pair[0].relative < pair[1].relative);
    if rising {
        Ok(entries)
    } else {
        Err(FormatError::Invalid { format: NAME, what: "entries are out of order" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_start_where_all_before_is_older() {
        let entry = |timestamp, relative| TimeEntry { timestamp: Timestamp(timestamp), relative };
        let entries = [entry(100, 0), entry(200, 40), entry(300, 90)];
        for (timestamp, expected) in [(50, 0), (100, 0), (101, 0), (200, 0), (201, 40), (300, 40), (301, 90)]
        {
            assert_eq!(floor(&entries, Timestamp(timestamp)), expected, "timestamp {timestamp}");
        }
        assert_eq!(decode(&encode(&entries)), Ok(entries.to_vec()));
        assert!(decode(&encode(&[entries[1], entries[0]])).is_err());
        assert!(decode(&[0; 11]).is_err());
    }
}
