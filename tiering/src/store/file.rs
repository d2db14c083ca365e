//! A folder's file, read straight into where its bytes are wanted.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// What is read of a file at once: little enough to stay in a processor's cache until its checksum is taken.
const PIECE_BYTES: usize = 256 << 10;

/// Reads a file's range, from `start` to as far as `into` goes or the file does, in pieces that are still in a processor's cache
/// when they are shown to `see`. Says how much there was.
pub(super) fn read_into<W: Default>(
    file: &File,
    start: u64,
    into: &mut [u8],
    see: fn(&mut W, &[u8]),
) -> std::io::Result<(u64, W)> {
    let (mut received, mut seen) = (0, W::default());
    for piece in into.chunks_mut(PIECE_BYTES) {
        let count = read_as_far_as_it_goes(file, start + received, piece)?;
        see(&mut seen, &piece[..count]);
        received += count as u64;
        if count < piece.len() {
            break;
        }
    }
    Ok((received, seen))
}

fn read_as_far_as_it_goes(file: &File, start: u64, into: &mut [u8]) -> std::io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], start + read as u64) {
            Ok(0) => break,
            Ok(count) => read += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}
