//! What a start after a crash would read again: bytes of logs behind their recovery points, of each and of all together.
//!
//! To write back what is being written is not free: who appends meets the sync of the same file. So few logs may have much behind
//! their recovery points, and many have little each.

use aquifer_model::ByteCount;
use aquifer_runtime::metrics::Gauge;

use super::config::LogDirOptions;

/// How much more a log may have while all together have little.
const MORE_WHILE_LITTLE: u64 = 4;

/// Of one log, until dropped. Counted in `all` as well, which is shown.
#[derive(Debug)]
pub(super) struct Uncaptured {
    bytes: u64,
    all: Gauge,
}

impl Uncaptured {
    /// Of a log that begins with so many.
    pub(super) fn new(bytes: u64, all: Gauge) -> Uncaptured {
        let mut of_log = Uncaptured { bytes: 0, all };
        of_log.add(bytes);
        of_log
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.all.inc_by(bytes.cast_signed());
    }

    /// The recovery point moves on to the log's end.
    pub(super) fn capture(&mut self) {
        self.all.dec_by(std::mem::take(&mut self.bytes).cast_signed());
    }

    /// Whether the recovery point is to move on.
    pub(super) fn is_due(&self, options: &LogDirOptions) -> bool {
        let LogDirOptions { checkpoint_bytes: ByteCount(least), recovery_bytes, .. } = *options;
        self.bytes >= least
            && (self.bytes >= least.saturating_mul(MORE_WHILE_LITTLE)
                || self.all.get().cast_unsigned() > recovery_bytes.get())
    }
}

impl Drop for Uncaptured {
    fn drop(&mut self) {
        self.capture();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_logs_may_have_more_behind_their_recovery_points_than_many() {
        let options = LogDirOptions {
            checkpoint_bytes: ByteCount(10),
            recovery_bytes: ByteCount(60),
            ..LogDirOptions::default()
        };
        let all = Gauge::default();
        let mut one = Uncaptured::new(39, all.clone());
        assert!(!one.is_due(&options));
        one.add(1);
        assert!(one.is_due(&options), "four times as much as it should have");
        one.capture();
        assert_eq!(all.get(), 0);
        one.add(30);
        let mut other = Uncaptured::new(30, all.clone());
        assert!(!one.is_due(&options) && !other.is_due(&options), "together they have no more than they may");
        other.add(1);
        assert!(one.is_due(&options) && other.is_due(&options));
        other.capture();
        other.add(9);
        drop(other);
        assert_eq!(all.get(), 30, "a log that goes is no more to be read");
        other = Uncaptured::new(9, all.clone());
        one.add(60);
        assert!(!other.is_due(&options) && all.get() == 99, "it has too little by itself");
    }
}
