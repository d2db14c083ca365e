//! Frames in and out of a byte stream: a length of four bytes, then that many bytes.
//!
//! The length is a claim by a stranger: memory grows with the bytes that arrive, never with the bytes that are announced. A
//! caller with a budget grows a frame step by step and pays for each ([`FrameReader::fill`]); one without takes it whole
//! ([`FrameReader::frame`]). Reading is cancel-safe either way: what has arrived stays in the reader. An idle reader holds no
//! buffer: ten thousand idle connections cost their tasks, not their buffers. A frame is handed on without a copy, and the read that
//! ends it brings the head of the next along.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use aquifer_protocol::frame::{ForeignProtocol, FrameError, check_frame_length, looks_like};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::write_turns::{Turn, WriteTurns};

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
/// Slices a single write hands to the kernel; more would not make it cheaper.
const WRITE_SLICES_MAX: usize = 64;
/// Bytes that a single write hands to the kernel, which copies them while nobody else on this thread gets on: some 100 us. Half of it
/// costs a tenth more processor time, since the other side is woken more often.
const WRITE_BYTES_MAX: usize = 512 << 10;

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

/// Writes all segments, without copying them together. What is more than one write takes turns with others of its kind, and lets
/// all else get on between two writes. A peer that takes nothing for `stall_max` is an error.
pub(crate) async fn write_segments(
    stream: &mut (impl AsyncWrite + Unpin),
    segments: &[Bytes],
    stall_max: Duration,
    turns: &WriteTurns,
) -> io::Result<()> {
    let is_large = segments.iter().map(Bytes::len).sum::<usize>() > WRITE_BYTES_MAX;
    let mut next = 0;
    let mut written_of_next = 0;
    while next < segments.len() {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
        let (mut count, mut room, mut from) = (0, WRITE_BYTES_MAX, written_of_next);
        for (slice, segment) in slices.iter_mut().zip(&segments[next..]) {
            let left = &segment[from..];
            *slice = IoSlice::new(&left[..left.len().min(room)]);
            (count, room, from) = (count + 1, room - slice.len(), 0);
            if room == 0 {
                break;
            }
        }
        let writing = stream.write_vectored(&slices[..count]);
        let (mut written, turn) = if is_large {
            let (written, turn) = in_turn(writing, stall_max, turns).await?;
            (written, Some(turn))
        } else {
            let written = tokio::time::timeout(stall_max, writing).await;
            (written.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??, None)
        };
        if written == 0 && segments[next].len() > written_of_next {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while next < segments.len() && written >= segments[next].len() - written_of_next {
            written -= segments[next].len() - written_of_next;
            written_of_next = 0;
            next += 1;
        }
        written_of_next += written;
        if turn.is_some() && next < segments.len() {
            // All that is ready gets on before the next one's turn.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Writes once, in its turn, which it gives. While the socket is full it is nobody's.
async fn in_turn<'a>(
    writing: impl Future<Output = io::Result<usize>>,
    stall_max: Duration,
    turns: &'a WriteTurns,
) -> io::Result<(usize, Turn<'a>)> {
    let mut writing = pin!(writing);
    let mut patience = None;
    loop {
        let turn = turns.take().await;
        if let Poll::Ready(written) = poll_fn(|context| Poll::Ready(writing.as_mut().poll(context))).await {
            return Ok((written?, turn));
        }
        drop(turn);
        let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_max)));
        let mut is_woken = false;
        // Whatever the write waits for wakes this task. Nothing may come between its being asked and this: the wake may be the
        // runtime's own, which wants others to get on, and comes once.
        poll_fn(|context| match std::mem::replace(&mut is_woken, true) {
            true => Poll::Ready(Ok(())),
            false => patience.as_mut().poll(context).map(|()| Err(io::Error::from(io::ErrorKind::TimedOut))),
        })
        .await?;
    }
}

#[cfg(test)]
mod tests;
