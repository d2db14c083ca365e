//! Aborted transactions that overlap a segment.
//!
//! A consumer that reads only committed records needs to know, for the range it is given, which producers' records to skip
//! from where on. All are decided below the last stable offset, so for a tiered segment the list is final.
//!
//! Bytes: entries of 32 bytes, big-endian: producer id, first offset, last offset, last stable offset when the marker was
//! written. They are in order of their last offset, as their markers were written.

use crate::format::FormatError;
use crate::ids::ProducerId;
use crate::offset::Offset;

/// One aborted transaction of one producer in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Whose.
    pub producer: ProducerId,
    /// Its first record.
    pub first: Offset,
    /// Its marker.
    pub last: Offset,
    /// The last stable offset once the marker was written: no later transaction starts before it.
    pub stable: Offset,
}

/// Length of an entry, in bytes.
pub const ENTRY_BYTES: usize = 32;
const NAME: &str = "aborted-transaction index";

impl AbortedTxn {
    /// Whether some of its records lie in `[from, to)`.
    pub fn overlaps(&self, from: Offset, to: Offset) -> bool {
        self.first < to && from <= self.last
    }
}

/// Writes entries.
pub fn encode(entries: &[AbortedTxn]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for entry in entries {
        for number in [entry.producer.0, entry.first.get(), entry.last.get(), entry.stable.get()] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
    out
}

/// Reads entries; all of `bytes` must be entries.
pub fn decode(bytes: &[u8]) -> Result<Vec<AbortedTxn>, FormatError> {
    if !bytes.len().is_multiple_of(ENTRY_BYTES) {
        return Err(FormatError::Short { format: NAME });
    }
    bytes.chunks_exact(ENTRY_BYTES).map(decode_entry).collect()
}

fn decode_entry(bytes: &[u8]) -> Result<AbortedTxn, FormatError> {
    let number = |at: usize| {
        let mut out = [0; 8];
        out.copy_from_slice(&bytes[at..at + 8]);
        i64::from_be_bytes(out)
    };
    let invalid = FormatError::Invalid { format: NAME, what: "an offset is negative or out of order" };
    let offset = |at: usize| Offset::new(number(at)).ok_or(invalid.clone());
    let entry = AbortedTxn {
        producer: ProducerId(number(0)),
        first: offset(8)?,
        last: offset(16)?,
        stable: offset(24)?,
    };
    if entry.first > entry.last { Err(invalid) } else { Ok(entry) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_nonsense_is_refused() {
        let offset = |number| Offset::new(number).unwrap();
        let entries: Vec<AbortedTxn> = (0..5)
            .map(|n| AbortedTxn {
                producer: ProducerId(n),
                first: offset(n * 10),
                last: offset(n * 10 + 9),
                stable: offset(n * 10 + 10),
            })
            .collect();
        let bytes = encode(&entries);
        assert_eq!(bytes.len(), 160);
        assert_eq!(decode(&bytes), Ok(entries.clone()));
        assert!(decode(&bytes[1..]).is_err());
        let backwards = AbortedTxn { first: offset(9), last: offset(3), ..entries[0] };
        assert!(decode(&encode(&[backwards])).is_err());
        assert!(entries[1].overlaps(offset(19), offset(20)));
        assert!(!entries[1].overlaps(offset(20), offset(30)));
        assert!(!entries[1].overlaps(offset(0), offset(10)));
    }
}
