//! A connection, as its two halves: requests out of slices, answers into one buffer that is used again and again.
//!
//! Both halves take one step at a time and may be cancelled between steps, so that one task can do both at once. There is no
//! queue and no second task as in `net/peer.rs`: what they cost would be measured with the broker.

use std::io::IoSlice;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use aquifer_protocol::frame::check_frame_length;
use aquifer_runtime::clock::Clock;
use aquifer_runtime::sockets::{self, ReadHalf, Stream, WriteHalf};
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::config::Endpoint;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer accepted; a fetch asks for far less.
const ANSWER_BYTES_MAX: usize = 1 << 30;
/// Bytes of the length in front of each answer.
const LENGTH_BYTES: usize = 4;
/// Room for answers whose length is not known yet.
const READ_BYTES: usize = 64 << 10;
/// Slices that a single write hands to the kernel.
const WRITE_SLICES_MAX: usize = 64;

/// Connects. Nothing is agreed on: which versions a broker has is known before.
pub(super) async fn connect(address: &Endpoint, clock: Clock) -> anyhow::Result<(Requests, Answers)> {
    let connecting = Stream::connect((address.host.as_str(), address.port));
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    let at = || format!("cannot connect to {address}");
    let stream = stream.with_context(at)?.with_context(at)?;
    sockets::configure(&stream)?;
    let (reader, writer) = stream.into_split();
    let requests = Requests { address: address.clone(), writer, part: 0, written: 0 };
    Ok((requests, Answers { address: address.clone(), clock, reader, buffer: BytesMut::new(), began: None }))
}

/// The half that asks.
#[derive(Debug)]
pub(super) struct Requests {
    address: Endpoint,
    writer: WriteHalf,
    /// The first part of the request that is not written as a whole.
    part: usize,
    /// Bytes of it that are.
    written: usize,
}

impl Requests {
    /// Writes some of the request that these parts are, by one call; true once all of it is written, and the next may come.
    /// Cancel-safe.
    pub(super) async fn write_some<'a>(
        &mut self,
        part: impl Fn(usize) -> Option<&'a [u8]>,
    ) -> anyhow::Result<bool> {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
        let mut count = 0;
        while count < WRITE_SLICES_MAX
            && let Some(bytes) = part(self.part + count)
        {
            let from = if count == 0 { self.written } else { 0 };
            slices[count] = IoSlice::new(&bytes[from..]);
            count += 1;
        }
        let writing = self.writer.write_vectored(&slices[..count]).await;
        let mut written = writing.with_context(|| format!("cannot write to {}", self.address))?;
        ensure!(written > 0, "{} takes no more bytes", self.address);
        for slice in &slices[..count] {
            if written < slice.len() {
                break;
            }
            written -= slice.len();
            self.part += 1;
            self.written = 0;
        }
        self.written += written;
        let is_done = part(self.part).is_none();
        if is_done {
            self.part = 0;
        }
        Ok(is_done)
    }
}

/// An answer, without its length.
#[derive(Debug)]
pub(super) struct Answer {
    /// Must be dropped before more is read, or the buffer cannot be used again.
    pub(super) body: Bytes,
    /// When its first bytes came.
    pub(super) began: Instant,
}

/// The half that is answered.
#[derive(Debug)]
pub(super) struct Answers {
    address: Endpoint,
    clock: Clock,
    reader: ReadHalf,
    buffer: BytesMut,
    /// When the first bytes of the answer that is arriving came.
    began: Option<Instant>,
}

impl Answers {
    /// Reads what has come, by one call; waits until something has. Cancel-safe.
    pub(super) async fn read_some(&mut self) -> anyhow::Result<()> {
        let missing = match self.length()? {
            Some(length) => (LENGTH_BYTES + length).saturating_sub(self.buffer.len()),
            None => 0,
        };
        // Costs nothing where there is room, or where there is room once what was taken is gone.
        self.buffer.reserve(missing.max(READ_BYTES));
        let reading = self.reader.read_buf(&mut self.buffer).await;
        let count = reading.with_context(|| format!("cannot read from {}", self.address))?;
        if count == 0 {
            bail!("{} closed the connection", self.address);
        }
        self.began.get_or_insert_with(|| self.clock.now());
        Ok(())
    }

    /// The next answer, if all of it is here.
    pub(super) fn take(&mut self) -> anyhow::Result<Option<Answer>> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.buffer.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        let mut body = self.buffer.split_to(LENGTH_BYTES + length);
        body.advance(LENGTH_BYTES);
        let began = self.began.unwrap_or_else(|| self.clock.now());
        // Those behind it came with its last bytes.
        self.began = (!self.buffer.is_empty()).then(|| self.clock.now());
        Ok(Some(Answer { body: body.freeze(), began }))
    }

    fn length(&self) -> anyhow::Result<Option<usize>> {
        let Some(head) = self.buffer.first_chunk() else { return Ok(None) };
        let length = check_frame_length(i32::from_be_bytes(*head), ANSWER_BYTES_MAX);
        Ok(Some(length.with_context(|| format!("{} does not answer as a Kafka broker", self.address))?))
    }
}
