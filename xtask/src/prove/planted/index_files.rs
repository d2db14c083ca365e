//! Index files that look sound and lead astray: early offsets at late positions, and a checksum of before.

use anyhow::{Context, Result};
use std::path::Path;

/// Makes every index below `folder` claim early offsets for late positions; gives how many there were.
pub(super) fn change(folder: &Path) -> Result<usize> {
    let mut changed = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            changed += change(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "index") {
            let mut bytes = std::fs::read(&path)?;
            if change_index(&mut bytes) {
                std::fs::write(&path, bytes)?;
                changed += 1;
            }
        }
    }
    Ok(changed)
}

/// An index file starts with a chunk: 16 bytes of envelope, then position, next offset, bytes since the last entry, newest
/// timestamp (8 bytes each), where that was (4), two optional timestamps (1, or 9), the count of entries as a varint, and the
/// entries: offset and position, 4 bytes each. False: it is too short to be worth it.
fn change_index(bytes: &mut [u8]) -> bool {
    let mut at = 16 + 4 * 8 + 4;
    for _ in 0..2 {
        let Some(there) = bytes.get(at) else { return false };
        at += if *there == 0 { 1 } else { 9 };
    }
    let (mut count, mut shift) = (0usize, 0);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        count |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let Some(entries) = bytes.get_mut(at..at + count * 8).filter(|_| count > 2) else { return false };
    let first = u32::from_be_bytes([entries[0], entries[1], entries[2], entries[3]]);
    for (entry, offset) in entries.chunks_exact_mut(8).zip(first..) {
        entry[..4].copy_from_slice(&offset.to_be_bytes());
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_of_an_index_are_found_and_changed() {
        let mut bytes = vec![0; 16 + 36];
        bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 3]);
        let entries = |offsets: [u32; 3]| {
            offsets
                .iter()
                .zip([70u32, 80, 90])
                .flat_map(|(offset, position)| [offset.to_be_bytes(), position.to_be_bytes()].concat())
                .collect::<Vec<u8>>()
        };
        let head = bytes.clone();
        bytes.extend(entries([5, 50, 500]));
        assert!(change_index(&mut bytes));
        assert_eq!(bytes, [head.clone(), entries([5, 6, 7])].concat());
        let mut short = head;
        assert!(!change_index(&mut short));
        assert!(!change_index(&mut [0; 20]));
    }
}
