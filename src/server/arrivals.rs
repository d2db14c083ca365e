//! Requests as they arrive on one connection: read, and paid for.
//!
//! A request is paid for step by step, unless it comes together with others: these are read into a block that they share, which is
//! paid for as a whole.

use aquifer_model::ByteCount;
use aquifer_runtime::clock::Clock;
use aquifer_runtime::sockets::ReadHalf;
use bytes::Bytes;
use futures::FutureExt as _;

use super::ended::Ended;
use super::memory::{Block, Held, RequestMemory};
use crate::net::frame::FrameReader;

/// Reads a connection's requests.
pub(super) struct Arrivals {
    frames: FrameReader<ReadHalf>,
    /// What the frame that is arriving holds; whoever takes the frame takes this.
    pub(super) held: Held,
    /// The memory that what has come of the next frame shares with those before.
    block: Option<Block>,
    frame_bytes_max: usize,
    requests: RequestMemory,
    clock: Clock,
}

impl Arrivals {
    /// Of a connection that has sent nothing yet: requests of at most `frame_bytes_max` each, for which `requests` has memory.
    pub(super) fn new(
        read: ReadHalf,
        frame_bytes_max: ByteCount,
        requests: RequestMemory,
        clock: Clock,
    ) -> Arrivals {
        Arrivals {
            frames: FrameReader::new(read),
            held: Held::default(),
            block: None,
            frame_bytes_max: usize::try_from(frame_bytes_max.get()).unwrap_or(usize::MAX),
            requests,
            clock,
        }
    }

    /// The next request, if all of it is here, of at most so many bytes.
    pub(super) fn here(&mut self, bytes_max: usize) -> Option<Result<Option<Bytes>, Ended>> {
        let next = async {
            if let Ok(Some(length)) = self.frames.length(usize::MAX).await
                && length > bytes_max
            {
                return std::future::pending().await;
            }
            self.next(true).await
        };
        next.now_or_never()
    }

    /// Reads one request, for which `held` holds memory; `None` when the client has left. Cancel-safe. While nothing may be read
    /// it waits for the client to leave, or for ever once it has sent more.
    pub(super) async fn next(&mut self, may_read: bool) -> Result<Option<Bytes>, Ended> {
        if !may_read {
            // What is wrong with a next request is said when its turn comes.
            return match self.frames.head().await {
                Ok(true) => std::future::pending().await,
                Ok(false) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
        let Some(length) = self.frames.length(self.frame_bytes_max).await? else { return Ok(None) };
        if self.held.room() == 0 {
            self.begin(length);
        }
        let Arrivals { frames, held, block, requests, clock, .. } = self;
        loop {
            // Again and again, since a step that was paid for may not have arrived when this was given up.
            tokio::select! {
                biased;
                filled = frames.fill(held.room().min(length), length) => filled?,
                () = held.lapse(requests) => return Err(Ended::TooSlow { announced: length }),
            }
            if held.room() >= length {
                let frame = frames.take(length);
                block.take_if(|_| !frames.is_in_block());
                return Ok(Some(frame));
            }
            let step = FrameReader::<ReadHalf>::next_step(length, held.room()).max(frames.arrived(length));
            requests.grow(held, step, *clock).await;
            if block.is_none() && frames.is_in_block() {
                frames.leave_block();
            }
        }
    }

    /// Has the next frame begin in a block, in the one that some of it has come into or in a new one, where that brings anything.
    fn begin(&mut self, length: usize) {
        let Arrivals { frames, held, block, requests, clock, .. } = self;
        if frames.block_holds(length)
            && let Some(block) = block
        {
            held.share(block, length, *clock);
            return;
        }
        if let Some(bytes) = frames.block_bytes(length)
            && let Some(new) = requests.try_block(bytes)
        {
            frames.begin_block(bytes);
            held.share(&new, length, *clock);
            *block = Some(new);
            return;
        }
        if let Some(block) = block.take() {
            held.leave(block);
        }
    }
}

#[cfg(test)]
#[cfg(not(feature = "sim"))]
mod tests {
    use std::time::Duration;

    use aquifer_runtime::budget::ByteBudget;
    use aquifer_runtime::sockets::{self, Stream};
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A client, and what arrives of what it sends.
    struct Pair {
        client: Stream,
        arrivals: Arrivals,
        budget: ByteBudget,
    }

    impl Pair {
        async fn connected() -> Pair {
            let listener = sockets::listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let client = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (read, _write) = listener.accept().await.unwrap().0.into_split();
            let budget = ByteBudget::new(ByteCount::mib(1));
            let requests = RequestMemory::new(budget.clone(), Duration::from_secs(30));
            let arrivals = Arrivals::new(read, ByteCount::mib(1), requests, Clock::system());
            Pair { client, arrivals, budget }
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.client.write_all(bytes).await.unwrap();
        }

        fn here(&mut self, bytes_max: usize) -> Option<Result<Option<Bytes>, Ended>> {
            self.arrivals.here(bytes_max)
        }

        /// The next request, and what it holds.
        async fn next(&mut self) -> (Bytes, Held) {
            let frame = self.arrivals.next(true).await;
            let frame = frame.unwrap_or_default().expect("there is one");
            (frame, std::mem::take(&mut self.arrivals.held))
        }

        fn taken(&self) -> u64 {
            self.budget.max().get() - self.budget.available().get()
        }
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes()[..], body].concat()
    }

    #[tokio::test]
    async fn only_what_is_here_and_short_enough_is_here() {
        let mut pair = Pair::connected().await;
        assert!(pair.here(100).is_none(), "nothing has come");
        let long = framed(&[1; 101]);
        pair.send(&[&framed(&[7, 7]), &long[..]].concat()).await;
        pair.arrivals.frames.head().await.unwrap();
        let first = pair.here(100).expect("it is here");
        assert_eq!(first.unwrap_or_default().as_deref(), Some(&[7, 7][..]));
        pair.arrivals.held = Held::default();
        assert!(pair.here(100).is_none(), "it is too long");
        assert!(pair.here(101).is_some(), "it is here");
        pair.arrivals.held = Held::default();
        pair.send(&long[..50]).await;
        pair.arrivals.frames.head().await.unwrap();
        assert!(pair.here(101).is_none(), "half of it is");
        pair.send(&long[50..]).await;
        assert_eq!(pair.next().await.0, long[4..], "nothing is lost");
        pair.client.shutdown().await.unwrap();
        pair.arrivals.frames.head().await.unwrap();
        assert!(matches!(pair.here(100), Some(Ok(None))), "the client has left");
    }

    #[tokio::test]
    async fn requests_that_come_together_share_memory_that_is_given_back_with_the_last() {
        let mut pair = Pair::connected().await;
        let body = |number: u8| vec![number; 1_000];
        pair.send(&(0..20).flat_map(|number| framed(&body(number))).collect::<Vec<u8>>()).await;
        let mut held = Vec::new();
        for number in 0..20 {
            let (frame, holds) = pair.next().await;
            assert_eq!(frame, body(number));
            // The first comes alone, those behind it by eight.
            let last_of_block = number % 8 == 0 || number == 19;
            assert_eq!(pair.arrivals.block.is_none(), last_of_block, "{number}");
            held.push(holds);
        }
        let block = (8 * 1_004..9_000).contains(&((pair.taken() - 1_024) / 3));
        assert!(block, "{} bytes are taken", pair.taken());
        let before = pair.taken();
        held.drain(1..8);
        assert_eq!(pair.taken(), before, "the last of the block is not answered");
        held.remove(1);
        assert!(pair.taken() < before);

        // With a quarter taken by others there are no more blocks.
        held.clear();
        let others = pair.budget.try_take(ByteCount::kib(256));
        assert!(others.is_some());
        pair.send(&(0..4).flat_map(|number| framed(&body(number))).collect::<Vec<u8>>()).await;
        for number in 0..4 {
            assert_eq!(pair.next().await.0, body(number));
            assert!(pair.arrivals.block.is_none());
        }
        drop(others);
        assert_eq!(pair.taken(), 0);
    }

    #[tokio::test]
    async fn half_a_request_behind_others_is_waited_for_where_it_lies_or_moved_to_memory_that_is_paid_for() {
        let mut pair = Pair::connected().await;
        let (small, large) = (vec![1; 1_000], vec![2; 300_000]);
        let begun = [framed(&small), framed(&small), framed(&small)].concat();
        pair.send(&begun[..2_500]).await;
        pair.next().await;
        pair.next().await;
        for _ in 0..2 {
            assert!(pair.next().now_or_never().is_none());
            assert!(pair.arrivals.block.is_some(), "there is room for all of it");
            assert_eq!(pair.arrivals.held.room(), small.len());
        }
        pair.send(&[&begun[2_500..], &framed(&large)[..5_000]].concat()).await;
        assert_eq!(pair.next().await.0, small);
        for _ in 0..2 {
            assert!(pair.next().now_or_never().is_none());
            assert!(pair.arrivals.block.is_none());
            assert!(pair.arrivals.held.room() >= 5_000);
        }
        pair.send(&framed(&large)[5_000..]).await;
        let (frame, held) = pair.next().await;
        assert_eq!(frame, large);
        assert!(pair.taken() >= 300_000, "{}", pair.taken());
        drop(held);
        assert_eq!(pair.taken(), 0);
    }
}
