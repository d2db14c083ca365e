//! Messages into a byte stream.
//!
//! What is in memory leaves by vectored writes, what was lent from a file ([`Lent`]) straight from the page cache; neither is copied
//! here. The kernel handles what is written while nothing else on that thread gets on. So what is large leaves in steps, in turns
//! with others of its kind, and all else gets on between two of them.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use aquifer_protocol::Piece;
use aquifer_runtime::files::Lent;
use aquifer_runtime::sockets::{self, WriteHalf};
use aquifer_runtime::tasks;
use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;

use super::write_turns::{Turn, WriteTurns};

/// Slices a single write hands to the kernel; more would not make it cheaper.
const WRITE_SLICES_MAX: usize = 64;
/// Bytes that leave at once, in no turn: so little holds nobody up.
const AT_ONCE_BYTES_MAX: usize = 128 << 10;
/// Bytes of a step of what is larger, which takes some 100 us. Half of it costs a tenth more processor time, since the other side is
/// woken more often.
const STEP_BYTES_MAX: usize = 512 << 10;
/// As much of it as is copied while others have small answers. With whole steps the slowest of these took a sixth longer beside a replay;
/// a replay alone takes a quarter more processor time with these.
const SHORT_STEP_BYTES_MAX: usize = 64 << 10;

/// What messages are written to.
pub(crate) trait Wire {
    /// Writes some of these bytes, and gives how many. If `more` comes directly behind them, they may wait for it, to leave together.
    fn send(&mut self, slices: &[IoSlice<'_>], more: bool) -> impl Future<Output = io::Result<usize>> + Send;

    /// Sends up to `count` bytes of what was lent, from its byte `at` on, and gives how many: zero where the file ends, and `None` if
    /// they are not known to be sound any more.
    fn send_lent(
        &mut self,
        lent: &Lent,
        at: usize,
        count: usize,
    ) -> impl Future<Output = io::Result<Option<usize>>> + Send;
}

impl Wire for WriteHalf {
    async fn send(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        match more {
            true => sockets::send_with_more(self, slices).await,
            false => self.write_vectored(slices).await,
        }
    }

    async fn send_lent(&mut self, lent: &Lent, at: usize, count: usize) -> io::Result<Option<usize>> {
        sockets::send_lent(self, lent, at, count).await
    }
}

/// Writes all pieces. A peer that takes nothing for `stall_max` is an error.
pub(crate) async fn write_pieces(
    wire: &mut impl Wire,
    pieces: &[Piece],
    stall_max: Duration,
    turns: &WriteTurns,
) -> io::Result<()> {
    let is_large = pieces.iter().map(Piece::len).sum::<usize>() > AT_ONCE_BYTES_MAX;
    if !is_large {
        turns.note_small();
    }
    let mut left = Left { pieces, written: 0, read: None };
    left.pass(0);
    while !left.pieces.is_empty() {
        let is_short = is_large && turns.is_small_about();
        let stepping = step(wire, left.clone(), if is_short { SHORT_STEP_BYTES_MAX } else { STEP_BYTES_MAX });
        let (step, turn) = if is_large {
            let (step, turn) = in_turn(stepping, stall_max, turns).await?;
            (step, Some(turn))
        } else {
            let step = tokio::time::timeout(stall_max, stepping).await;
            (step.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??, None)
        };
        left.pass(step.written);
        if step.meets_unknown {
            drop(turn);
            left.read_first().await?;
        } else if turn.is_some() && !left.pieces.is_empty() {
            // All that is ready gets on before the next one's turn.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// What is still to be written.
#[derive(Clone)]
struct Left<'a> {
    pieces: &'a [Piece],
    /// Of the first piece.
    written: usize,
    /// The first piece, if it was lent and had to be read.
    read: Option<Bytes>,
}

/// What a step did.
struct Step {
    written: usize,
    /// Whether it ended before what was lent, and is not known to be sound any more.
    meets_unknown: bool,
}

impl Left<'_> {
    /// Goes on behind what was written.
    fn pass(&mut self, mut written: usize) {
        while let [first, rest @ ..] = self.pieces
            && written >= first.len() - self.written
        {
            written -= first.len() - self.written;
            (self.pieces, self.written, self.read) = (rest, 0, None);
        }
        self.written += written;
    }

    /// The first piece, if it is to be sent from the page cache.
    fn lent(&self) -> io::Result<Option<Arc<Lent>>> {
        match self.pieces.first() {
            Some(Piece::Elsewhere(elsewhere)) if self.read.is_none() => {
                let lent = elsewhere.downcast();
                lent.map(Some).ok_or_else(|| io::Error::other("a piece is elsewhere, and in no file"))
            }
            _ => Ok(None),
        }
    }

    /// Points `slices` to what is in memory, `room` bytes at most; gives how many slices, and how many bytes.
    fn in_memory<'s>(&'s self, slices: &mut [IoSlice<'s>], room: usize) -> (usize, usize) {
        let first = self.read.as_ref().or_else(|| self.pieces.first()?.here());
        let others = self.pieces.iter().skip(1).map_while(Piece::here);
        let (mut count, mut bytes) = (0, 0);
        for piece in first.into_iter().chain(others) {
            if count == slices.len() || bytes == room {
                break;
            }
            let piece = if count == 0 { &piece[self.written..] } else { piece };
            slices[count] = IoSlice::new(&piece[..piece.len().min(room - bytes)]);
            bytes += slices[count].len();
            count += 1;
        }
        (count, bytes)
    }

    /// Whether there is a piece of that number, and it is to be sent from a file.
    fn is_lent(&self, number: usize) -> bool {
        self.pieces.get(number).is_some_and(|piece| piece.here().is_none())
    }

    /// Reads the first piece, which was lent. The device may have to be waited for.
    async fn read_first(&mut self) -> io::Result<()> {
        if let Some(lent) = self.lent()? {
            tracing::debug!(?lent, "what was lent is not known to be sound any more");
            self.read = Some(tasks::blocking(move || lent.read()).await?.into());
        }
        Ok(())
    }
}

/// Writes as much as a step may, or as the socket takes without a wait.
async fn step(wire: &mut impl Wire, mut left: Left<'_>, copied_max: usize) -> io::Result<Step> {
    let (mut written, mut copied) = (0, 0);
    while !left.pieces.is_empty() {
        let lent = left.lent()?;
        let all = STEP_BYTES_MAX - written;
        let room = if lent.is_some() { all } else { all.min(copied_max - copied) };
        if room == 0 {
            break;
        }
        let mut waits = false;
        let (asked, done) = match &lent {
            Some(lent) => {
                let asked = (lent.count() - left.written).min(room);
                let sending = wire.send_lent(lent, left.written, asked);
                match noting_waits(sending, &mut waits).await? {
                    Some(done) => (asked, done),
                    None => return Ok(Step { written, meets_unknown: true }),
                }
            }
            None => {
                let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
                let (count, asked) = left.in_memory(&mut slices, room);
                let more = left.is_lent(count);
                let sending = wire.send(&slices[..count], more);
                (asked, noting_waits(sending, &mut waits).await?)
            }
        };
        if done == 0 && asked > 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        written += done;
        copied += if lent.is_some() { 0 } else { done };
        left.pass(done);
        // Whoever takes something has not stalled.
        if waits || done < asked {
            break;
        }
    }
    Ok(Step { written, meets_unknown: false })
}

/// Does `work`, and says whether it was ever put off.
async fn noting_waits<T>(work: impl Future<Output = T>, waits: &mut bool) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        *waits |= polled.is_pending();
        polled
    })
    .await
}

/// Takes a step in its turn, which it gives. While the socket is full it is nobody's.
async fn in_turn<'a>(
    stepping: impl Future<Output = io::Result<Step>>,
    stall_max: Duration,
    turns: &'a WriteTurns,
) -> io::Result<(Step, Turn<'a>)> {
    let mut stepping = pin!(stepping);
    let mut patience = None;
    loop {
        let turn = turns.take().await;
        if let Poll::Ready(step) = poll_fn(|context| Poll::Ready(stepping.as_mut().poll(context))).await {
            return Ok((step?, turn));
        }
        drop(turn);
        let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_max)));
        let mut is_woken = false;
        // Whatever the step waits for wakes this task. Nothing may come between its being asked and this: the wake may be the
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
