//! Time: the one that only goes forward, and the one on the wall.
//!
//! Deadlines and durations use [`Clock::now`]; it is tokio's, so a paused runtime pauses it. Wall time goes into records and
//! retention and never decides anything that safety depends on: it may jump.

use aquifer_model::Timestamp;
use tokio::time::Instant;

/// A handle to both times. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    simulated: Option<(Instant, Timestamp)>,
}

impl Clock {
    /// The machine's clocks.
    pub fn system() -> Clock {
        Clock { simulated: None }
    }

    /// A wall clock that shows `start` now and advances with tokio's time, which a test may pause. Needs a tokio runtime.
    #[allow(clippy::disallowed_methods)] // The home of the clock.
    pub fn simulated(start: Timestamp) -> Clock {
        Clock { simulated: Some((Instant::now(), start)) }
    }

    /// Time for deadlines and durations.
    #[allow(clippy::disallowed_methods)] // The home of the clock.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// Time for people and records.
    #[allow(clippy::disallowed_methods, clippy::disallowed_types)] // The home of the clock.
    pub fn wall(&self) -> Timestamp {
        if let Some((began, start)) = self.simulated {
            return start.plus(self.now().duration_since(began));
        }
        let since = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
        // A machine whose clock stands before 1970 gets 1970: timestamps below 0 have meanings of their own.
        Timestamp(since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }
}
