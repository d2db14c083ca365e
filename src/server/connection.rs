//! One client's connection.
//!
//! Requests are started in the order in which they arrive and answered in that order. Produce overlaps: its append happens when
//! it is started, only the wait for durability is left, and the next request need not wait for that. Everything else ends
//! before the next is started, as in Kafka, so that a client sees the effects of what it sent before.
//!
//! What has arrived is started before short answers leave, up to a number of bytes: the answers to requests that came together leave by
//! one write, and wake their client once. To write an answer of a few bytes costs as much as to append a small batch.
//!
//! Memory: a frame's length is checked before anything is allocated for it, and what arrives of it is paid for from a budget of
//! all connections, until it is answered, or until it waits for other clients and its bytes are gone; what was paid for must
//! arrive in time. Reading stops while too many answers are
//! outstanding. Requests that come together share their memory, which also holds what has come behind one that waits for others, if
//! that has come already. Answers hold what they hold until they have left; a client that takes nothing of its answer for long is given up,
//! and sooner if its memory is needed by others.
//!
//! A client that has used more than its quota is answered at once, and nothing more is read from it until it has rested for as long
//! as its answer says (KIP-219); what it sends meanwhile waits in its socket.
//!
//! A client that leaves is noticed also while its request waits, so that nobody can leave waits behind: what has begun by then
//! ends within [`LAST_ANSWERS_MAX`].
//!
//! An error here ends one connection and nothing else.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_runtime::World;
use aquifer_runtime::sockets::{ReadHalf, WriteHalf};
use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::arrivals::Arrivals;
use super::dispatch::{Answer, Dispatcher, Outgoing, Reply};
use super::ended::Ended;
use super::memory::{Held, RequestMemory};
use super::meter::timed;
use crate::net::write::write_pieces;
use crate::net::write_turns::WriteTurns;
use crate::quotas::Payer;

/// Answers that may be outstanding before reading stops. Kafka's clients keep five requests in flight.
const OUTSTANDING_MAX: usize = 8;
/// Requests that are started while an answer that is there could leave have no more bytes together.
const STARTED_BYTES_MAX: usize = 256 << 10;
/// Once the start of one of them took so long, the answers leave first.
const STARTED_IN_MAX: Duration = Duration::from_millis(1);
/// A connection of which so many requests were started lets others have their turn: what a busy client sends next is there before its
/// answer has left. Fewer would cost more: what came last is in the processor's caches.
const TURN_REQUESTS: usize = 8;
/// A client that takes no byte of an answer for this long is let go: its answer holds memory that others wait for. One that
/// was merely busy connects again and fetches again.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// How long a stopping broker waits for what a connection has started: a sync and a write, not a long poll.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// How long a client that sends no more may wait for what it has asked for: it may have closed its half of the connection alone.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(10);

/// What all connections share.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionLimits {
    /// Longest frame (`socket.request.max.bytes`).
    pub(crate) frame_bytes_max: ByteCount,
    /// Memory for requests, of all connections together (`queued.max.request.bytes`).
    pub(crate) requests: RequestMemory,
    /// A connection on which nothing moves for this long is closed (`connections.max.idle.ms`).
    pub(crate) idle_max: Duration,
    /// Turns of large answers.
    pub(crate) write_turns: WriteTurns,
}

struct Outstanding {
    answer: Pending,
    _held: Held,
}

enum Pending {
    Ready(Result<Outgoing, Ended>),
    Waiting(Answer),
}

impl Outstanding {
    /// Has it get on, and `context` woken when it can get on again.
    fn ask(&mut self, context: &mut Context<'_>) {
        if let Pending::Waiting(answer) = &mut self.answer
            && let Poll::Ready(outgoing) = answer.as_mut().poll(context)
        {
            self.answer = Pending::Ready(outgoing);
        }
    }

    /// Whether its answer is there, and more may be started before it leaves.
    fn may_wait(&self) -> bool {
        matches!(&self.answer, Pending::Ready(Ok(answer)) if answer.may_wait())
    }

    fn is_ready(&self) -> bool {
        matches!(self.answer, Pending::Ready(_))
    }

    /// Whether its answer, which is there, may leave by one write with the one before.
    fn goes_with(&self, before: &Outgoing) -> bool {
        matches!(&self.answer, Pending::Ready(Ok(answer)) if before.goes_with(answer))
    }

    /// Its answer, which is there.
    fn into_answer(self) -> Result<Outgoing, Ended> {
        match self.answer {
            Pending::Ready(answer) => answer,
            Pending::Waiting(_) => unreachable!("it was seen to be ready"),
        }
    }
}

/// A connection being served.
pub(crate) struct Connection {
    arrivals: Arrivals,
    writer: WriteHalf,
    peer: SocketAddr,
    limits: ConnectionLimits,
    dispatcher: Arc<Dispatcher>,
    world: World,
    outstanding: VecDeque<Outstanding>,
    /// How many bytes of requests may be started yet before the answers leave that are there.
    startable_bytes: usize,
    /// How many requests were started since it last let others have their turn.
    turn: usize,
    /// The last request started must end before another is.
    serial: bool,
    /// Who pays for its requests.
    payer: Payer,
    /// No request is read until then: its client has used more than it may (KIP-219).
    muted_until: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(
        (read, write): (ReadHalf, WriteHalf),
        peer: SocketAddr,
        limits: ConnectionLimits,
        dispatcher: Arc<Dispatcher>,
    ) -> Connection {
        Connection {
            arrivals: Arrivals::new(
                read,
                limits.frame_bytes_max,
                limits.requests.clone(),
                dispatcher.world().clock,
            ),
            writer: write,
            peer,
            limits,
            world: dispatcher.world().clone(),
            dispatcher,
            outstanding: VecDeque::new(),
            startable_bytes: STARTED_BYTES_MAX,
            turn: 0,
            serial: false,
            payer: Payer::default(),
            muted_until: None,
        }
    }

    /// Serves until the client leaves or `stopping` is cancelled; then answers what was started, if that does not take long.
    pub(crate) async fn serve(mut self, stopping: CancellationToken) -> Ended {
        let out_of_patience = async {
            stopping.cancelled().await;
            tokio::time::sleep(DRAIN_MAX).await;
        };
        tokio::select! {
            ended = self.serve_and_drain(&stopping) => ended,
            () = out_of_patience => Ended::Stopping,
        }
    }

    async fn serve_and_drain(&mut self, stopping: &CancellationToken) -> Ended {
        let ended = match self.serve_until(stopping).await {
            Err(unwritable) => return unwritable,
            Ok(ended) => ended,
        };
        // What was started is answered even when the next request was garbage: its effects have happened.
        let last_answers = async {
            while !self.outstanding.is_empty() {
                let answer = next_answer(&mut self.outstanding, self.serial).await;
                if self.write(answer).await.is_err() {
                    break;
                }
            }
        };
        match tokio::time::timeout(LAST_ANSWERS_MAX, last_answers).await {
            Ok(()) | Err(_) => ended,
        }
    }

    /// Serves; `Err` when answers cannot be written any more.
    async fn serve_until(&mut self, stopping: &CancellationToken) -> Result<Ended, Ended> {
        // Once for all requests: each new one would take its place among those of all connections.
        let mut stopped = pin!(stopping.cancelled());
        loop {
            if self.outstanding.is_empty() {
                self.serial = false;
            }
            let muted_until = self.muted_until;
            let may_read = !self.serial && self.outstanding.len() < OUTSTANDING_MAX && muted_until.is_none();
            if may_read
                && !self.outstanding.is_empty()
                && self.outstanding.iter().all(Outstanding::may_wait)
                && !stopping.is_cancelled()
                && let Some(frame) = self.arrivals.here(self.startable_bytes)
            {
                match self.start_before_answers(frame).await {
                    Ok(()) => continue,
                    Err(ended) => return Ok(ended),
                }
            }
            // Also one that rests for its quota: a rest may be long, and its client be gone.
            let idle = self.outstanding.is_empty();
            tokio::select! {
                biased;
                answer = next_answer(&mut self.outstanding, self.serial) => {
                    self.write(answer).await?;
                    self.end_turn().await;
                }
                () = &mut stopped => return Ok(Ended::Stopping),
                () = over(muted_until) => self.muted_until = None,
                frame = self.arrivals.next(may_read) => {
                    if let Err(ended) = self.arrived(frame).await {
                        return Ok(ended);
                    }
                    if self.outstanding.is_empty() {
                        self.end_turn().await;
                    }
                }
                () = tokio::time::sleep(self.limits.idle_max), if idle => return Ok(Ended::Idle),
            }
        }
    }

    /// Ends its turn, if that is over. Behind a write: what is answered should not wait for others.
    async fn end_turn(&mut self) {
        if self.turn >= TURN_REQUESTS {
            self.turn = 0;
            tokio::task::yield_now().await;
        }
    }

    /// Starts what has arrived while answers are there that could leave.
    async fn start_before_answers(&mut self, frame: Result<Option<Bytes>, Ended>) -> Result<(), Ended> {
        let bytes = frame.as_ref().map_or(0, |frame| frame.as_ref().map_or(0, Bytes::len));
        self.startable_bytes = self.startable_bytes.saturating_sub(bytes);
        let clock = self.world.clock;
        let began = clock.now();
        let arrived = self.arrived(frame).await;
        if clock.now() - began > STARTED_IN_MAX {
            self.startable_bytes = 0;
        }
        arrived
    }

    async fn arrived(&mut self, frame: Result<Option<Bytes>, Ended>) -> Result<(), Ended> {
        match frame? {
            Some(frame) => self.start(frame).await,
            None => Err(Ended::ByClient),
        }
    }

    async fn write(&mut self, answer: Result<Outgoing, Ended>) -> Result<(), Ended> {
        let answer = answer?;
        self.startable_bytes = STARTED_BYTES_MAX;
        self.mute(answer.muted_until);
        let (writer, turns) = (&mut self.writer, &self.limits.write_turns);
        let writing = async {
            tokio::select! {
                biased;
                written = write_pieces(writer, answer.segments.pieces(), WRITE_STALL_MAX, turns) => {
                    written.map_err(Ended::of_write)
                }
                () = answer.recalled() => Err(Ended::InTheWay),
            }
        };
        let Some(charges) = &answer.charges else { return writing.await };
        let (written, took) = timed(self.world.clock, writing).await;
        charges.note_request(took, self.world.clock.now());
        written
    }

    /// Reads nothing more before `until`.
    fn mute(&mut self, until: Option<Instant>) {
        self.muted_until = self.muted_until.max(until);
    }

    /// Mostly does not wait. Where it does, for a batch that is looked into, so does all else of this client.
    async fn start(&mut self, frame: Bytes) -> Result<(), Ended> {
        self.turn += 1;
        let mut held = std::mem::take(&mut self.arrivals.held);
        let (answer, serial) = match self.dispatcher.start(frame, self.peer, &mut self.payer).await? {
            Reply::None { muted_until } => {
                self.mute(muted_until);
                return Ok(());
            }
            Reply::Now(outgoing) => {
                self.mute(outgoing.muted_until);
                (Pending::Ready(Ok(outgoing)), false)
            }
            Reply::Overlapping { answer, muted_until } => {
                self.mute(muted_until);
                (Pending::Waiting(answer), false)
            }
            Reply::Serial(answer) => (Pending::Waiting(answer), true),
            Reply::Parked(answer) => {
                held = Held::default();
                (Pending::Waiting(answer), true)
            }
        };
        self.serial = serial;
        self.outstanding.push_back(Outstanding { answer, _held: held });
        Ok(())
    }
}

/// Waits until then; for ever, if there is no such time.
async fn over(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The oldest answer, when it is there, and with it those behind it that are there as well and may leave by the same write. Waits for
/// ever while nothing is outstanding.
///
/// Only the oldest is asked, and the last if it is one that does what it does while it is asked (`serial`): of the others only the
/// wait is left, and their turn comes.
async fn next_answer(outstanding: &mut VecDeque<Outstanding>, serial: bool) -> Result<Outgoing, Ended> {
    std::future::poll_fn(|context| {
        if let Some(oldest) = outstanding.front_mut() {
            oldest.ask(context);
        }
        if serial
            && outstanding.len() > 1
            && let Some(last) = outstanding.back_mut()
        {
            last.ask(context);
        }
        let Some(oldest) = outstanding.pop_front_if(|oldest| oldest.is_ready()) else {
            return Poll::Pending;
        };
        let mut answer = oldest.into_answer();
        while let (Ok(together), Some(next)) = (&mut answer, outstanding.front_mut()) {
            next.ask(context);
            match outstanding.pop_front_if(|next| next.goes_with(together)).map(Outstanding::into_answer) {
                Some(Ok(next)) => together.join(next),
                Some(Err(_)) | None => break,
            }
        }
        Poll::Ready(answer)
    })
    .await
}

#[cfg(test)]
mod tests {
    use aquifer_protocol::Writer;
    use aquifer_runtime::clock::Clock;
    use futures::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;
    use crate::handlers::answer_memory::AnswerMemory;

    fn answer(number: i32) -> Outgoing {
        let mut writer = Writer::frame();
        writer.i32(number);
        writer.finish().expect("four bytes fit into a frame").into()
    }

    /// What is left of the answers' bytes, in the order in which they leave.
    fn bytes(answers: impl IntoIterator<Item = Outgoing>) -> Vec<Bytes> {
        answers.into_iter().map(|answer| answer.segments.into_bytes()).collect()
    }

    fn queue(answers: impl IntoIterator<Item = Pending>) -> VecDeque<Outstanding> {
        answers.into_iter().map(|answer| Outstanding { answer, _held: Held::default() }).collect()
    }

    fn ready(number: i32) -> Pending {
        Pending::Ready(Ok(answer(number)))
    }

    /// One that is there once it is told to be.
    fn told(number: i32) -> (oneshot::Sender<()>, Pending) {
        let (tell, told) = oneshot::channel();
        let waiting = async move {
            told.await.expect("it is told");
            Ok(answer(number))
        };
        (tell, Pending::Waiting(Box::pin(waiting)))
    }

    fn next(outstanding: &mut VecDeque<Outstanding>, serial: bool) -> Option<Result<Outgoing, Ended>> {
        next_answer(outstanding, serial).now_or_never()
    }

    #[test]
    fn answers_that_are_there_leave_together_and_none_overtakes_another() {
        let ((second, waits), (fourth, waits_too)) = (told(2), told(4));
        let mut outstanding = queue([ready(1), waits, ready(3), waits_too]);
        let alone = next(&mut outstanding, false).expect("the first is there").expect("an answer");
        assert_eq!(bytes([alone]), bytes([answer(1)]));
        assert!(next(&mut outstanding, false).is_none(), "the third waits for the second");
        second.send(()).expect("it waits");
        fourth.send(()).expect("it waits");
        let together = next(&mut outstanding, false).expect("all are there").expect("an answer");
        assert_eq!(bytes([together]).concat(), bytes([2, 3, 4].map(answer)).concat());
        assert!(outstanding.is_empty());
    }

    #[test]
    fn what_ends_a_connection_comes_behind_what_is_answered() {
        let mut outstanding = queue([ready(1), Pending::Ready(Err(Ended::Stopping)), ready(3)]);
        let answered = next(&mut outstanding, false).expect("it is there").expect("an answer");
        assert_eq!(bytes([answered]), bytes([answer(1)]));
        assert!(next(&mut outstanding, false).expect("it is there").is_err());
    }

    #[test]
    fn before_its_turn_none_is_asked_but_one_that_works_while_it_is_asked() {
        let works = |number| {
            let (worked, work) = oneshot::channel();
            let working = async move {
                worked.send(()).expect("somebody looks");
                Ok(answer(number))
            };
            (work, Pending::Waiting(Box::pin(working)))
        };
        let ((first, waits), (mut second, working), (mut last, serial)) = (told(1), works(2), works(3));
        let mut outstanding = queue([waits, working, serial]);
        assert!(next(&mut outstanding, false).is_none());
        second.try_recv().expect_err("its turn has not come");
        last.try_recv().expect_err("its turn has not come");
        assert!(next(&mut outstanding, true).is_none());
        second.try_recv().expect_err("its turn has not come");
        last.try_recv().expect("it has worked");
        first.send(()).expect("it waits");
        let together = next(&mut outstanding, true).expect("all are there").expect("an answer");
        assert_eq!(bytes([together]).concat(), bytes([1, 2, 3].map(answer)).concat());
    }

    #[tokio::test]
    async fn whoever_waits_for_the_oldest_hears_of_it() {
        let (first, waits) = told(1);
        let mut outstanding = queue([waits, ready(2)]);
        let (answered, ()) = tokio::join!(next_answer(&mut outstanding, false), async {
            tokio::task::yield_now().await;
            first.send(()).expect("it waits");
        });
        assert_eq!(bytes([answered.expect("an answer")]).concat(), bytes([1, 2].map(answer)).concat());
    }

    #[test]
    fn an_answer_whose_memory_others_may_need_leaves_alone() {
        let memory = AnswerMemory::new(ByteCount::kib(1)).try_take(ByteCount(4), Clock::system().now());
        let mut held = answer(2);
        held.memory = Some(memory.expect("there is enough"));
        let mut outstanding = queue([ready(1), Pending::Ready(Ok(held)), ready(3)]);
        for number in 1..=3 {
            let alone = next(&mut outstanding, false).expect("it is there").expect("an answer");
            assert_eq!(bytes([alone]), bytes([answer(number)]));
        }
    }

    #[test]
    fn a_client_rests_for_the_longest_of_the_answers_that_leave_together() {
        let now = Clock::system().now();
        let muted = |number, seconds| {
            let mut muted = answer(number);
            muted.muted_until = Some(now + Duration::from_secs(seconds));
            Pending::Ready(Ok(muted))
        };
        let mut outstanding = queue([muted(1, 2), muted(2, 3), muted(3, 1), ready(4)]);
        let together = next(&mut outstanding, false).expect("all are there").expect("an answer");
        assert!(outstanding.is_empty());
        assert_eq!(together.muted_until, Some(now + Duration::from_secs(3)));
    }
}
