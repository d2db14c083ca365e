//! Frames in and out of a byte stream.
//!
//! A frame says its own length in its first four bytes. That is a claim by a stranger: memory grows with the bytes that
//! arrive, never with the bytes that are announced.

use std::io;

use aquifer_protocol::frame::{ForeignProtocol, FrameError, check_frame_length, looks_like};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What is allocated for a frame before its bytes arrive.
const FIRST_READ_BYTES: usize = 64 << 10;

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

/// Reads a frame without its length, at most `bytes_max` long; `None` where the stream ends between two frames.
///
/// Not to be cancelled: what has been read of a frame is lost with the future, and the stream with it.
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<Option<Bytes>, ReadFrameError> {
    let mut prefix = [0; 4];
    let mut arrived = 0;
    while arrived < prefix.len() {
        match stream.read(&mut prefix[arrived..]).await? {
            0 if arrived == 0 => return Ok(None),
            0 => return Err(ReadFrameError::CutShort { arrived, announced: prefix.len() }),
            read => arrived += read,
        }
    }
    if let Some(foreign) = looks_like(prefix) {
        return Err(ReadFrameError::Foreign(foreign));
    }
    let length = check_frame_length(i32::from_be_bytes(prefix), bytes_max)?;
    let mut frame = BytesMut::with_capacity(length.min(FIRST_READ_BYTES));
    while frame.len() < length {
        if frame.len() == frame.capacity() {
            frame.reserve(frame.len().min(length - frame.len()));
        }
        // The buffer may have more room than the frame has bytes left; what follows belongs to the next one.
        let left = (length - frame.len()) as u64;
        if (&mut *stream).take(left).read_buf(&mut frame).await? == 0 {
            return Err(ReadFrameError::CutShort {
                arrived: arrived + frame.len(),
                announced: arrived + length,
            });
        }
    }
    Ok(Some(frame.freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn frames(mut bytes: &[u8], bytes_max: usize) -> (Vec<usize>, Option<String>) {
        let mut lengths = Vec::new();
        loop {
            match read_frame(&mut bytes, bytes_max).await {
                Ok(Some(frame)) => lengths.push(frame.len()),
                Ok(None) => return (lengths, None),
                Err(error) => return (lengths, Some(error.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn frames_follow_each_other() {
        let large = vec![7; 3 * FIRST_READ_BYTES + 5];
        let mut bytes = vec![0, 0, 0, 2, 1, 2, 0, 0, 0, 0];
        bytes.extend_from_slice(&(large.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&large);
        bytes.extend_from_slice(&[0, 0, 0, 1, 9]);
        assert_eq!(frames(&bytes, 1 << 20).await, (vec![2, 0, large.len(), 1], None));
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_stream() {
        let cases: [(&[u8], &str); 6] = [
            (b"GET / HTTP/1.1", "the other side speaks Http, not Kafka's protocol"),
            (&[0x16, 3, 1, 0, 0], "the other side speaks Tls, not Kafka's protocol"),
            (&[0xff, 0, 0, 0], "frame length -16777216 is negative"),
            (&[0, 0, 4, 1], "frame of 1025 bytes, at most 1024 are allowed"),
            (&[0, 0], "the stream ended within a frame: 2 bytes of 4 had arrived"),
            (&[0, 0, 0, 3, 1], "the stream ended within a frame: 5 bytes of 7 had arrived"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(frames(bytes, 1024).await, (vec![], Some(expected.to_owned())));
        }
    }
}
