//! Sparse map from offset to position in a segment.
//!
//! Bytes: entries of 8, big-endian: offset relative to the segment's base (u32), position of the batch that holds it (u32), as
//! in Kafka. Both strictly rise. An index is only a hint: whoever reads by it checks the batch headers that it finds, so a
//! wrong entry costs a rescan, never a wrong record.

use crate::format::FormatError;
use crate::offset::Offset;

/// Length of an entry, in bytes.
pub const ENTRY_BYTES: usize = 8;
const NAME: &str = "offset index";

/// One entry: the batch at `position` holds or follows `offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetEntry {
    /// A batch's base offset, relative to the segment's.
    pub relative: u32,
    /// Where the batch starts, in bytes from the segment's start.
    pub position: u32,
}

/// The position from which to scan for `offset`: that of the last entry not behind it, or the start.
pub fn floor(entries: &[OffsetEntry], base: Offset, offset: Offset) -> u32 {
    floor_entry(entries, base, offset).position
}

/// The entry that [`floor`] goes by; that of the segment's start, if there is none before.
pub fn floor_entry(entries: &[OffsetEntry], base: Offset, offset: Offset) -> OffsetEntry {
    let relative = offset.since(base);
    let behind = entries.partition_point(|entry| u64::from(entry.relative) <= relative);
    behind.checked_sub(1).map_or(OffsetEntry { relative: 0, position: 0 }, |at| entries[at])
}

/// A position at which the answer to a read from `position` may surely end without missing `offset`: that of the first entry
/// behind it, if there is one.
pub fn ceiling(entries: &[OffsetEntry], base: Offset, offset: Offset) -> Option<u32> {
    let relative = offset.since(base);
    let behind = entries.partition_point(|entry| u64::from(entry.relative) <= relative);
    entries.get(behind).map(|entry| entry.position)
}

/// Writes entries.
pub fn encode(entries: &[OffsetEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        out.extend_from_slice(&entry.relative.to_be_bytes());
        out.extend_from_slice(&entry.position.to_be_bytes());
    }
    out
}

/// Reads entries; all of `bytes` must be entries, in order.
pub fn decode(bytes: &[u8]) -> Result<Vec<OffsetEntry>, FormatError> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return Err(FormatError::Short { format: NAME });
    }
    let number = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let entries: Vec<OffsetEntry> = bytes
        .chunks_exact(ENTRY_BYTES)
        .map(|entry| OffsetEntry { relative: number(entry), position: number(&entry[4..]) })
        .collect();
    let rising = entries
        .windows(2)
        .all(|pair| pair[0].relative < pair[1].relative && pair[0].position < pair[1].position);
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
    fn lookups_find_the_entry_at_or_before() {
        let entries =
            [(0, 0), (10, 4096), (25, 9000)].map(|(relative, position)| OffsetEntry { relative, position });
        let base = Offset::new(100).unwrap();
        for (offset, at, until) in [
            (100, 0, Some(4096)),
            (109, 0, Some(4096)),
            (110, 4096, Some(9000)),
            (125, 9000, None),
            (9999, 9000, None),
        ] {
            let offset = Offset::new(offset).unwrap();
            assert_eq!(floor(&entries, base, offset), at);
            assert_eq!(ceiling(&entries, base, offset), until);
        }
        assert_eq!(floor(&[], base, base), 0);
    }

    #[test]
    fn entries_round_trip_and_disorder_is_refused() {
        let entry = |relative, position| OffsetEntry { relative, position };
        let entries = vec![entry(0, 0), entry(10, 4096), entry(25, u32::MAX)];
        assert_eq!(decode(&encode(&entries)), Ok(entries));
        for bad in [vec![entry(1, 5), entry(1, 6)], vec![entry(1, 5), entry(2, 5)]] {
            assert!(decode(&encode(&bad)).is_err());
        }
        assert!(decode(&[0; 7]).is_err());
    }
}
