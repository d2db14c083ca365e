//! One client's connection.
//!
//! Requests are started in the order in which they arrive and answered in that order. Produce overlaps: its append happens when
//! it is started, only the wait for durability is left, and the next request need not wait for that. Everything else ends
//! before the next is started, as in Kafka, so that a client sees the effects of what it sent before.
//!
//! Memory: a frame's length is checked, and its bytes taken from the broker-wide budget, before anything is allocated for it;
//! the permit is held until the request is answered. Reading stops while too many answers are outstanding.
//!
//! An error here ends one connection and nothing else.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_protocol::Segments;
use aquifer_protocol::frame::{self, ForeignProtocol, FrameError};
use aquifer_runtime::budget::{ByteBudget, BytePermit};
use aquifer_runtime::sockets::{ReadHalf, WriteHalf};
use tokio_util::sync::CancellationToken;

use super::dispatch::{Answer, Dispatcher, Reply};
use crate::net::frames::{FrameReader, write_segments};

/// Answers that may be outstanding before reading stops. Kafka's clients keep five requests in flight.
const OUTSTANDING_MAX: usize = 8;

/// What all connections share.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits {
    /// Longest frame (`socket.request.max.bytes`).
    pub(crate) frame_bytes_max: ByteCount,
    /// Memory for requests in flight, of all connections together (`queued.max.request.bytes`).
    pub(crate) request_bytes: ByteBudget,
    /// A connection that sends nothing for this long is closed (`connections.max.idle.ms`).
    pub(crate) idle_max: Duration,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("client closed the connection")]
    ByClient,
    #[error("idle for too long")]
    Idle,
    #[error("broker is stopping")]
    Stopping,
    #[error("client speaks {0:?}; this port speaks Kafka's protocol without TLS")]
    Foreign(ForeignProtocol),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("request cannot be read: {0}")]
    Request(String),
    #[error("produce without acknowledgement failed: {0}")]
    UnacknowledgedProduce(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

struct Outstanding {
    answer: Pending,
    _permit: BytePermit,
}

enum Pending {
    Ready(Result<Segments, Ended>),
    Waiting(Answer),
}

/// A connection being served.
pub(crate) struct Connection {
    reader: FrameReader,
    writer: WriteHalf,
    peer: SocketAddr,
    limits: ConnectionLimits,
    dispatcher: Arc<Dispatcher>,
    outstanding: VecDeque<Outstanding>,
    /// The last request started must end before another is.
    serial: bool,
}

impl Connection {
    pub(crate) fn new(
        (read, write): (ReadHalf, WriteHalf),
        peer: SocketAddr,
        limits: ConnectionLimits,
        dispatcher: Arc<Dispatcher>,
    ) -> Connection {
        Connection {
            reader: FrameReader::new(read),
            writer: write,
            peer,
            limits,
            dispatcher,
            outstanding: VecDeque::new(),
            serial: false,
        }
    }

    /// Serves until the client leaves or `stopping` is cancelled; then answers what was started.
    pub(crate) async fn serve(mut self, stopping: CancellationToken) -> Ended {
        let ended = loop {
            if self.outstanding.is_empty() {
                self.serial = false;
            }
            let may_read = !self.serial && self.outstanding.len() < OUTSTANDING_MAX;
            let idle_max = if self.outstanding.is_empty() { self.limits.idle_max } else { Duration::MAX };
            tokio::select! {
                biased;
                answer = next_answer(&mut self.outstanding) => {
                    if let Err(ended) = self.write(answer).await {
                        return ended;
                    }
                }
                () = stopping.cancelled() => break Ended::Stopping,
                request = read_request(&mut self.reader, &self.limits), if may_read => {
                    match request.and_then(|(frame, permit)| self.start(frame, permit)) {
                        Ok(()) => {}
                        Err(ended) => break ended,
                    }
                }
                () = tokio::time::sleep(idle_max), if may_read && self.outstanding.is_empty() => break Ended::Idle,
            }
        };
        // What was started is answered even when the next request was garbage: its effects have happened.
        while !self.outstanding.is_empty() {
            let answer = next_answer(&mut self.outstanding).await;
            if self.write(answer).await.is_err() {
                break;
            }
        }
        ended
    }

    async fn write(&mut self, answer: Result<Segments, Ended>) -> Result<(), Ended> {
        Ok(write_segments(&mut self.writer, answer?.slices()).await?)
    }

    fn start(&mut self, frame: bytes::Bytes, permit: BytePermit) -> Result<(), Ended> {
        let (answer, serial) = match self.dispatcher.start(frame, self.peer)? {
            Reply::None => return Ok(()),
            Reply::Now(segments) => (Pending::Ready(Ok(segments)), false),
            Reply::Overlapping(answer) => (Pending::Waiting(answer), false),
            Reply::Serial(answer) => (Pending::Waiting(answer), true),
        };
        self.serial = serial;
        self.outstanding.push_back(Outstanding { answer, _permit: permit });
        Ok(())
    }
}

/// Reads one request. Cancel-safe as long as it has not taken its permit, and cheap to repeat until then; the wait for a permit
/// starts anew when it is repeated.
async fn read_request(
    reader: &mut FrameReader,
    limits: &ConnectionLimits,
) -> Result<(bytes::Bytes, BytePermit), Ended> {
    let head = reader.head().await?.ok_or(Ended::ByClient)?;
    let bytes_max = usize::try_from(limits.frame_bytes_max.get()).unwrap_or(usize::MAX);
    let length = match frame::check_frame_length(i32::from_be_bytes(head.0), bytes_max) {
        Ok(length) => length,
        Err(error) => return Err(frame::looks_like(head.0).map_or(Ended::Frame(error), Ended::Foreign)),
    };
    let permit = limits.request_bytes.take(ByteCount(length as u64)).await;
    let body = reader.body(length).await?;
    Ok((body, permit))
}

/// The oldest answer, when it is there; the others make progress meanwhile. Waits for ever while nothing is outstanding.
async fn next_answer(outstanding: &mut VecDeque<Outstanding>) -> Result<Segments, Ended> {
    std::future::poll_fn(|context| {
        for one in outstanding.iter_mut() {
            if let Pending::Waiting(answer) = &mut one.answer
                && let Poll::Ready(segments) = answer.as_mut().poll(context)
            {
                one.answer = Pending::Ready(segments);
            }
        }
        match outstanding.front() {
            Some(Outstanding { answer: Pending::Ready(_), .. }) => match outstanding.pop_front() {
                Some(Outstanding { answer: Pending::Ready(segments), .. }) => Poll::Ready(segments),
                _ => unreachable!("the front was just seen to be ready"),
            },
            _ => Poll::Pending,
        }
    })
    .await
}
