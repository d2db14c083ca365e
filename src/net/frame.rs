//! Frames from a byte stream: a length of four bytes, then that many bytes.
//!
//! The length is a claim by a stranger: memory grows with the bytes that arrive, never with the bytes that are announced. A
//! caller with a budget grows a frame step by step and pays for each ([`FrameReader::fill`]); one without takes it whole
//! ([`FrameReader::frame`]). Reading is cancel-safe either way: what has arrived stays in the reader. An idle reader holds no
//! buffer: ten thousand idle connections cost their tasks, not their buffers. A frame is handed on without a copy, and the read that
//! ends it brings the head of the next along.

use std::io;

use aquifer_protocol::frame::{ForeignProtocol, FrameError, check_frame_length, looks_like};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of the length in front of each frame.
pub(crate) const HEAD_BYTES: usize = 4;
/// Room for the first bytes after a silence, and for those of the next frame behind one; holds most requests but Produce whole.
const WAITING_BYTES: usize = 256;
/// What a frame gets before its bytes arrive.
const FIRST_STEP_BYTES: usize = 64 << 10;
/// How much larger each further step is: a frame costs at most so many times what has arrived of it, and is moved seldom.
const STEP_FACTOR: usize = 4;
/// A frame of up to so much gets all of its memory with the second step, and is not moved again.
const MOVED_ONCE_BYTES: usize = 2 << 20;
/// Why a stream yields no more frames. The stream is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum ReadFrameError {
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side speaks another protocol.
    #[error("the other side speaks {0:?}, not Kafka's protocol")]
    Foreign(ForeignProtocol),
    /// The announced length is not allowed.
    #[error(transparent)]
    Length(#[from] FrameError),
    /// The stream ended within a frame.
    #[error("the stream ended within a frame: {arrived} bytes of {announced} had arrived")]
    CutShort {
        /// Bytes that were there, the length's own four included.
        arrived: usize,
        /// Bytes that should have been.
        announced: usize,
    },
}

/// Reads frames.
#[derive(Debug)]
pub struct FrameReader<S> {
    stream: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + Unpin> FrameReader<S> {
    /// Reads frames from a stream that stands at the start of one.
    pub fn new(stream: S) -> FrameReader<S> {
        FrameReader { stream, buffer: BytesMut::new() }
    }

    /// Waits for the length of the next frame, whatever it says; false where the stream ends between two frames. Cancel-safe, and
    /// free to ask again.
    pub async fn head(&mut self) -> Result<bool, ReadFrameError> {
        if self.buffer.is_empty() {
            // Waits with little more than nothing: a buffer that is kept for a quiet client is memory for nothing.
            self.buffer = BytesMut::new();
            let mut first = [0; WAITING_BYTES];
            let count = self.stream.read(&mut first).await?;
            if count == 0 {
                return Ok(false);
            }
            self.buffer = BytesMut::from(&first[..count]);
        }
        while self.buffer.len() < HEAD_BYTES {
            self.buffer.reserve(WAITING_BYTES);
            self.read_some(HEAD_BYTES).await?;
        }
        Ok(true)
    }

    /// The length of the next frame, at most `bytes_max`; `None` where the stream ends between two frames. Cancel-safe, and free
    /// to ask again.
    pub async fn length(&mut self, bytes_max: usize) -> Result<Option<usize>, ReadFrameError> {
        if !self.head().await? {
            return Ok(None);
        }
        let head = [self.buffer[0], self.buffer[1], self.buffer[2], self.buffer[3]];
        let length = check_frame_length(i32::from_be_bytes(head), bytes_max);
        // Only what is no length is taken for another protocol: as a length it may be a large frame.
        length.map(Some).map_err(|error| looks_like(head).map_or(error.into(), ReadFrameError::Foreign))
    }

    /// How much of a frame of `length` bytes to make room for next, given that there is room for `room` of them.
    pub fn next_step(length: usize, room: usize) -> usize {
        length.min(room.saturating_mul(STEP_FACTOR).max(FIRST_STEP_BYTES))
    }

    /// Waits until the first `bytes` of the next frame are here, of `length` in all as was just asked for. Little more is read than
    /// that. Cancel-safe.
    pub async fn fill(&mut self, bytes: usize, length: usize) -> Result<(), ReadFrameError> {
        let wanted = HEAD_BYTES + bytes;
        if self.buffer.capacity() < wanted {
            let at_once = bytes > FIRST_STEP_BYTES && length <= MOVED_ONCE_BYTES;
            let room = if at_once { HEAD_BYTES + length } else { wanted };
            self.buffer.reserve(room + WAITING_BYTES - self.buffer.len());
        }
        while self.buffer.len() < wanted {
            self.read_some(wanted).await?;
        }
        Ok(())
    }

    /// The next frame, which is here: [`FrameReader::fill`] has waited for all of it.
    pub fn take(&mut self, length: usize) -> Bytes {
        let mut frame = self.buffer.split_to(HEAD_BYTES + length);
        // What has come of the next must not keep the memory of this one.
        self.buffer = BytesMut::from(&self.buffer[..]);
        frame.advance(HEAD_BYTES);
        frame.freeze()
    }

    /// The next frame, without its length; `None` where the stream ends between two frames. Cancel-safe.
    pub async fn frame(&mut self, bytes_max: usize) -> Result<Option<Bytes>, ReadFrameError> {
        let Some(length) = self.length(bytes_max).await? else { return Ok(None) };
        let mut room = 0;
        while room < length {
            room = FrameReader::<S>::next_step(length, room);
            self.fill(room, length).await?;
        }
        Ok(Some(self.take(length)))
    }

    /// Reads towards the first `announced` bytes, and little beyond.
    async fn read_some(&mut self, announced: usize) -> Result<(), ReadFrameError> {
        let at_most = announced + WAITING_BYTES - self.buffer.len();
        if self.stream.read_buf(&mut (&mut self.buffer).limit(at_most)).await? == 0 {
            return Err(ReadFrameError::CutShort { arrived: self.buffer.len(), announced });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
