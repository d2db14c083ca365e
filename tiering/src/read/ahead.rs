//! How far to read ahead of a reader; pure.
//!
//! A reader that goes on where it stopped is sequential, and what it will want next is known. The window starts at two chunks
//! with the second read and doubles each time an eighth of it was consumed, so that a replay is at full speed after some ten
//! megabytes, and one that stops has never made us fetch more than about eight times what it took. A reader that jumps starts
//! anew.
//!
//! Full speed takes many requests in flight: a store answers each after some 30 ms and then at some 90 MB/s, so that sixteen
//! of 8 MiB are needed for a gigabyte a second, and as many again wait, loaded, for their turn.
//!
//! A reader that takes its time needs none of that: the window is no wider than what it takes in a while (the *horizon*), by the
//! pace that it has between an answer and the next request, while no read here keeps it waiting. So what is loaded ahead of many slow readers fits into the cache together,
//! and does not come in bursts that those at the tail would feel.

use std::time::Duration;

use aquifer_model::ByteCount;

/// Chunks in the first window.
const FIRST_CHUNKS: u64 = 2;
/// The window doubles once this part of it was consumed.
const GROWTH_PART: u64 = 8;

/// What bounds all windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AheadLimits {
    /// The length of a chunk.
    pub chunk: ByteCount,
    /// No window is wider.
    pub bytes_max: ByteCount,
    /// No window holds more than its reader takes in so long, but for the first one's two chunks.
    pub horizon: Duration,
}

impl AheadLimits {
    fn first(&self) -> u64 {
        FIRST_CHUNKS * self.chunk.get()
    }
}

/// One reader's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahead {
    window: u64,
    consumed: u64,
    pace: Pace,
}

/// What a reader took of late, and how long it was away for it: between an answer and the request that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Pace {
    bytes: u64,
    away: Duration,
}

impl Pace {
    fn took(&mut self, bytes: u64, limits: &AheadLimits) {
        self.bytes += bytes;
        if self.away >= limits.horizon || self.bytes >= limits.bytes_max.get() {
            // What was long ago counts for ever less.
            self.bytes /= 2;
            self.away /= 2;
        }
    }

    /// What it takes in so long.
    fn bytes_in(&self, horizon: Duration) -> u64 {
        let in_horizon = u128::from(self.bytes) * horizon.as_nanos() / self.away.as_nanos().max(1);
        u64::try_from(in_horizon).unwrap_or(u64::MAX)
    }
}

impl Ahead {
    /// A reader that was never seen before: nothing is read ahead of it.
    pub fn new() -> Ahead {
        Ahead::default()
    }

    /// Whether the reader has proved sequential.
    pub fn is_sequential(&self) -> bool {
        self.window > 0
    }

    /// The reader has come back where it stopped, so long after it was answered.
    pub fn returned(&mut self, away: Duration, limits: &AheadLimits) {
        self.window = self.window.max(limits.first());
        self.pace.away += away.min(limits.horizon);
    }

    /// The reader has taken bytes.
    pub fn took(&mut self, bytes: ByteCount, limits: &AheadLimits) {
        self.pace.took(bytes.get(), limits);
        if self.window == 0 {
            return;
        }
        let wanted = self.pace.bytes_in(limits.horizon).max(limits.first()).min(limits.bytes_max.get());
        self.consumed += bytes.get();
        while self.consumed >= self.window / GROWTH_PART && self.window < wanted {
            self.consumed -= self.window / GROWTH_PART;
            self.window *= 2;
        }
        self.window = self.window.min(wanted);
        self.consumed = self.consumed.min(self.window);
    }

    /// How far ahead of the reader to load, given its share of what all may have.
    pub fn window(&self, share: ByteCount) -> ByteCount {
        ByteCount(self.window.min(share.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: AheadLimits = AheadLimits {
        chunk: ByteCount::mib(8),
        bytes_max: ByteCount::mib(192),
        horizon: Duration::from_secs(2),
    };
    const MAX: ByteCount = LIMITS.bytes_max;

    #[test]
    fn the_window_opens_with_proof_and_is_bounded() {
        let mut ahead = Ahead::new();
        ahead.took(ByteCount::mib(1), &LIMITS);
        assert_eq!(ahead.window(MAX), ByteCount::ZERO);
        ahead.returned(Duration::ZERO, &LIMITS);
        assert_eq!(ahead.window(MAX), ByteCount::mib(16));
        let mut taken = 0;
        while ahead.window(MAX) < MAX {
            ahead.took(ByteCount::mib(1), &LIMITS);
            taken += 1;
            assert!(ahead.window(MAX).get() <= ByteCount::mib(16 + 9 * taken).get(), "after {taken} MiB");
        }
        assert_eq!(taken, 2 + 4 + 8 + 16);
        ahead.took(ByteCount::mib(500), &LIMITS);
        assert_eq!(ahead.window(MAX), MAX);
        assert_eq!(ahead.window(ByteCount::mib(20)), ByteCount::mib(20));
    }

    /// Reads a MiB at a time, away for so long between, and gives the window after each.
    fn windows(ahead: &mut Ahead, away: Duration, reads: usize) -> Vec<u64> {
        let mut read = || {
            ahead.returned(away, &LIMITS);
            ahead.took(ByteCount::mib(1), &LIMITS);
            ahead.window(MAX).get() >> 20
        };
        (0..reads).map(|_| read()).collect()
    }

    #[test]
    fn a_reader_has_what_it_takes_in_the_horizon() {
        let slow = windows(&mut Ahead::new(), Duration::from_millis(250), 1_000);
        assert!(slow.iter().all(|window| *window == 16), "4 MiB/s: {slow:?}");
        let middling = windows(&mut Ahead::new(), Duration::from_millis(25), 1_000);
        assert!(middling[200..].iter().all(|window| (75..=85).contains(window)), "40 MiB/s: {middling:?}");
        let fast = windows(&mut Ahead::new(), Duration::from_millis(2), 40);
        assert_eq!(fast.last(), Some(&192), "500 MiB/s: {fast:?}");
    }

    #[test]
    fn a_change_of_pace_is_followed() {
        let mut ahead = Ahead::new();
        windows(&mut ahead, Duration::from_micros(100), 5_000);
        let slower = windows(&mut ahead, Duration::from_millis(250), 60);
        assert_eq!(slower.last(), Some(&16), "within 15 s: {slower:?}");
        let faster = windows(&mut ahead, Duration::from_micros(100), 150);
        assert_eq!(faster.last(), Some(&192), "within 150 MiB: {faster:?}");
    }
}
