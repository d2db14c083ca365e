//! How far to read ahead of a reader; pure.
//!
//! A reader that goes on where it stopped is sequential, and what it will want next is known. The window starts at two chunks
//! with the second read and doubles each time an eighth of it was consumed, so that a replay is at full speed after some ten
//! megabytes, and one that stops has never made us fetch more than about eight times what it took. A reader that jumps starts
//! anew.
//!
//! Full speed takes many requests in flight: a store answers each after some 30 ms and then at some 90 MB/s, so that sixteen
//! of 8 MiB are needed for a gigabyte a second, and as many again wait, loaded, for their turn.

use aquifer_model::ByteCount;

/// Chunks in the first window.
const FIRST_CHUNKS: u64 = 2;
/// The window doubles once this part of it was consumed.
const GROWTH_PART: u64 = 8;

/// One reader's window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahead {
    window: u64,
    consumed: u64,
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

    /// The reader has come back where it stopped.
    pub fn returned(&mut self, chunk: ByteCount) {
        self.window = self.window.max(FIRST_CHUNKS * chunk.get());
    }

    /// The reader has taken bytes.
    pub fn took(&mut self, bytes: ByteCount, window_max: ByteCount) {
        if self.window == 0 {
            return;
        }
        self.consumed += bytes.get();
        while self.consumed >= self.window / GROWTH_PART && self.window < window_max.get() {
            self.consumed -= self.window / GROWTH_PART;
            self.window *= 2;
        }
        self.window = self.window.min(window_max.get());
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

    #[test]
    fn the_window_opens_with_proof_and_is_bounded() {
        let (chunk, max) = (ByteCount::mib(8), ByteCount::mib(192));
        let mut ahead = Ahead::new();
        ahead.took(ByteCount::mib(1), max);
        assert_eq!(ahead.window(max), ByteCount::ZERO);
        ahead.returned(chunk);
        assert_eq!(ahead.window(max), ByteCount::mib(16));
        let mut taken = 0;
        while ahead.window(max) < max {
            ahead.took(ByteCount::mib(1), max);
            taken += 1;
            assert!(ahead.window(max).get() <= ByteCount::mib(16 + 9 * taken).get(), "after {taken} MiB");
        }
        assert_eq!(taken, 2 + 4 + 8 + 16);
        ahead.took(ByteCount::mib(500), max);
        assert_eq!(ahead.window(max), max);
        assert_eq!(ahead.window(ByteCount::mib(20)), ByteCount::mib(20));
    }
}
