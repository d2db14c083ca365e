//! Wall-clock time as Kafka counts it.

use std::fmt;
use std::time::Duration;

/// Milliseconds since 1970-01-01 UTC. Clients choose it freely, so it may be negative or far in the future: it orders nothing
/// that safety depends on. -1 on the wire is "no timestamp" and stays [`Timestamp::NONE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// What Kafka writes where there is none.
    pub const NONE: Timestamp = Timestamp(-1);

    /// The number itself.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// This time, `duration` later; saturates.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Timestamp {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Timestamp(self.0.saturating_add(millis))
    }

    /// How long `earlier` lies before this time; zero where it does not.
    pub fn since(self, earlier: Timestamp) -> Duration {
        let millis = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
