//! Walks batches whose checksums need not be checked again, and takes note of them: what an index, a snapshot or a cut is made
//! anew from.

use aquifer_model::{ByteCount, Offset, Timestamp};
use aquifer_runtime::files::File;

use super::error::{Corruption, ReadError};
use super::gaps::Gaps;
use super::scan::{Depth, Scan, Step};
use super::segment::{Tail, marker_in};

/// Bytes whose checksums need not be checked again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trusted {
    /// Where they end in the file.
    pub(crate) end: u64,
    /// The offset to stop before.
    pub(crate) until: Offset,
    /// Whether batches may leave offsets out.
    pub(crate) gaps: Gaps,
    pub(crate) interval: ByteCount,
    pub(crate) now: Timestamp,
}

/// Walks on from where `tail` stands, as far as whole batches lie before `until`.
pub(crate) fn replay(mut tail: Tail, file: &File, trusted: &Trusted) -> Result<Tail, ReadError> {
    let io = |error| ReadError::io(file.path(), error);
    let damaged = |position, what: String| -> ReadError {
        Corruption { file: file.path().to_owned(), position, what }.into()
    };
    let mut scan = Scan::new(file.clone(), Depth::Headers, tail.bytes, trusted.end);
    loop {
        match scan.step().map_err(io)? {
            Step::End => return Ok(ended(tail, trusted, trusted.until)),
            Step::Damage(error) => return Err(damaged(scan.position(), error.to_string())),
            Step::Batch(position, header) => {
                if !trusted.gaps.allow(tail.end, header.base_offset) {
                    return Err(damaged(
                        position,
                        format!("offset {} follows {}", header.base_offset, tail.end),
                    ));
                }
                if header.next_offset() > trusted.until {
                    return Ok(ended(tail, trusted, header.base_offset.min(trusted.until)));
                }
                if !tail.reaches(header.last_offset()) {
                    return Err(damaged(position, "a segment is too large".to_owned()));
                }
                let marker = match header.is_control() {
                    true => marker_in(&header, scan.bytes(position, header.size()).map_err(io)?),
                    false => None,
                };
                tail.note(&header, marker, trusted.interval, trusted.now);
            }
        }
    }
}

/// A log that ends within a gap ends where it is said to, not with the last batch before.
fn ended(mut tail: Tail, trusted: &Trusted, at: Offset) -> Tail {
    if trusted.gaps.allow(tail.end, at) {
        tail.end = at;
    }
    tail
}
