//! Frames on a socket: a length of four bytes, then that many bytes.
//!
//! Reading is cancel-safe: what has arrived stays in the reader. A frame is read into memory of its own size once its length
//! is known and found acceptable, and is handed on without a copy. An idle reader holds no buffer: ten thousand idle
//! connections cost their tasks, not their buffers.

use std::io::{self, IoSlice};

use aquifer_runtime::sockets::{ReadHalf, WriteHalf};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Room for what arrives before a frame's length is known; holds most requests whole.
const READ_BYTES: usize = 8 << 10;
/// Slices a single write hands to the kernel; more would not make it cheaper.
const WRITE_SLICES_MAX: usize = 64;

/// Reads frames.
#[derive(Debug)]
pub(crate) struct FrameReader {
    stream: ReadHalf,
    buffer: BytesMut,
}

/// The first four bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead(pub(crate) [u8; 4]);

impl FrameReader {
    pub(crate) fn new(stream: ReadHalf) -> FrameReader {
        FrameReader { stream, buffer: BytesMut::new() }
    }

    /// The next frame's head; `None` if the peer closed between frames. A peer that closes within a frame is an error.
    pub(crate) async fn head(&mut self) -> io::Result<Option<FrameHead>> {
        while self.buffer.len() < 4 {
            if self.buffer.is_empty() {
                // Wait without a buffer.
                self.buffer = BytesMut::new();
                self.stream.readable().await?;
                self.buffer.reserve(READ_BYTES);
            }
            if self.read_some().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
        let head = [self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]];
        Ok(Some(FrameHead(head)))
    }

    /// The body of the frame whose head was just seen, which says that it has `length` bytes.
    pub(crate) async fn body(&mut self, length: usize) -> io::Result<Bytes> {
        let whole = 4 + length;
        if self.buffer.capacity() < whole {
            let missing = whole - self.buffer.len();
            self.buffer.reserve(missing);
        }
        while self.buffer.len() < whole {
            if self.read_some().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut frame = self.buffer.split_to(whole);
        frame.advance(4);
        Ok(frame.freeze())
    }

    async fn read_some(&mut self) -> io::Result<usize> {
        if self.buffer.capacity() == self.buffer.len() {
            self.buffer.reserve(READ_BYTES);
        }
        self.stream.read_buf(&mut self.buffer).await
    }
}

/// Writes all segments, by as few calls as the socket's buffer allows, without copying them together.
pub(crate) async fn write_segments(stream: &mut WriteHalf, segments: &[Bytes]) -> io::Result<()> {
    let mut next = 0;
    let mut written_of_next = 0;
    while next < segments.len() {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
        let count = (segments.len() - next).min(WRITE_SLICES_MAX);
        for (slice, segment) in slices.iter_mut().zip(&segments[next..next + count]) {
            *slice = IoSlice::new(segment);
        }
        slices[0] = IoSlice::new(&segments[next][written_of_next..]);
        let mut written = stream.write_vectored(&slices[..count]).await?;
        if written == 0 && segments[next].len() > written_of_next {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while next < segments.len() && written >= segments[next].len() - written_of_next {
            written -= segments[next].len() - written_of_next;
            written_of_next = 0;
            next += 1;
        }
        written_of_next += written;
    }
    Ok(())
}
