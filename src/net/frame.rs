//! Frames from a byte stream: a length of four bytes, then that many bytes.
//!
//! The length is a claim by a stranger: memory grows with the bytes that arrive, never with the bytes that are announced beyond a first step. A
//! caller with a budget grows a frame step by step and pays for each ([`FrameReader::fill`]); one without takes it whole
//! ([`FrameReader::frame`]). Reading is cancel-safe either way: what has arrived stays in the reader. An idle reader holds no
//! buffer: ten thousand idle connections cost their tasks, not their buffers. A frame is handed on without a copy, and the read that
//! ends it brings the head of the next along.
//!
//! Frames that a client sends together are read by one call, into a block that they share, if the caller has paid for it
//! ([`FrameReader::block_bytes`]): a read costs a system call, an acknowledgement, and a wake of the sender.

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
/// A block has room for so many frames of the size of its first, and no more than so many bytes.
const BLOCK_FRAMES_MAX: usize = 8;
const BLOCK_BYTES_MAX: usize = 128 << 10;

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
    /// The buffer is the rest of a block.
    in_block: bool,
    /// Since the last block was begun, something came along behind a frame.
    together: bool,
}

impl<S: AsyncRead + Unpin> FrameReader<S> {
    /// Reads frames from a stream that stands at the start of one.
    pub fn new(stream: S) -> FrameReader<S> {
        FrameReader { stream, buffer: BytesMut::new(), in_block: false, together: false }
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

    /// Waits until the first `bytes` of the next frame are here, of `length` in all as was just asked for. Little more than
    /// that is read, unless into a block. Cancel-safe.
    pub async fn fill(&mut self, bytes: usize, length: usize) -> Result<(), ReadFrameError> {
        let wanted = HEAD_BYTES + bytes;
        if self.buffer.capacity() < wanted {
            self.in_block = false;
            let at_once = bytes > FIRST_STEP_BYTES && length <= MOVED_ONCE_BYTES;
            let room = if at_once { HEAD_BYTES + length } else { wanted };
            self.buffer.reserve(room + WAITING_BYTES - self.buffer.len());
        }
        while self.buffer.len() < wanted {
            self.read_some(wanted).await?;
        }
        Ok(())
    }

    /// How many bytes a block for the next frame, of `length`, and for those behind it would have; `None` where it would bring
    /// nothing: the frame is here, or large, or nothing came behind a frame since the last block was begun.
    pub fn block_bytes(&self, length: usize) -> Option<usize> {
        let frame = HEAD_BYTES.saturating_add(length);
        let frames = ((BLOCK_BYTES_MAX - WAITING_BYTES) / frame).min(BLOCK_FRAMES_MAX);
        let worthwhile = self.together && frames > 1 && self.buffer.len() < frame;
        worthwhile.then_some(frames * frame + WAITING_BYTES)
    }

    /// Begins a block of `bytes`, as [`FrameReader::block_bytes`] has just said: more frames than the next may be read into it.
    pub fn begin_block(&mut self, bytes: usize) {
        self.move_to(bytes);
        self.in_block = true;
        self.together = false;
    }

    /// Whether what has come of the next frame lies in a block, which must be held until that is taken or moved.
    pub fn is_in_block(&self) -> bool {
        self.in_block
    }

    /// Whether there is room for the next frame, of `length`, in the block that it lies in.
    pub fn block_holds(&self, length: usize) -> bool {
        self.in_block && self.buffer.capacity() >= HEAD_BYTES.saturating_add(length)
    }

    /// Moves what has come of the next frame out of its block.
    pub fn leave_block(&mut self) {
        self.move_to(self.buffer.len());
    }

    /// How many bytes have come of the next frame, of `length`.
    pub fn arrived(&self, length: usize) -> usize {
        self.buffer.len().saturating_sub(HEAD_BYTES).min(length)
    }

    /// To memory of its own, of at least `bytes`.
    fn move_to(&mut self, bytes: usize) {
        let mut moved = BytesMut::with_capacity(bytes.max(self.buffer.len()));
        moved.extend_from_slice(&self.buffer);
        self.buffer = moved;
        self.in_block = false;
    }

    /// The next frame, which is here: [`FrameReader::fill`] has waited for all of it.
    pub fn take(&mut self, length: usize) -> Bytes {
        let mut frame = self.buffer.split_to(HEAD_BYTES + length);
        self.together |= !self.buffer.is_empty();
        // So little of the next must not keep the memory of this one.
        if !self.in_block || self.buffer.len() <= WAITING_BYTES {
            self.leave_block();
        }
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

    /// Reads towards the first `announced` bytes, and beyond them whatever a block has room for, or little.
    async fn read_some(&mut self, announced: usize) -> Result<(), ReadFrameError> {
        let end = if self.in_block { self.buffer.capacity() } else { announced + WAITING_BYTES };
        let at_most = end - self.buffer.len();
        debug_assert!(at_most > 0, "a read of nothing looks like the stream's end");
        if self.stream.read_buf(&mut (&mut self.buffer).limit(at_most)).await? == 0 {
            return Err(ReadFrameError::CutShort { arrived: self.buffer.len(), announced });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
