//! Does a partition's way into the bucket stand still? Pure.
//!
//! Uploads may fail, wait or hang, for reasons of which no list is complete. What shows in all of them: there is something to
//! upload, and what the bucket is known to hold does not grow.

use std::time::Duration;

use aquifer_model::Offset;
use tokio::time::Instant;

/// What was seen of one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Watchdog {
    /// Since when something has waited, with the bucket's end as it was then.
    waiting: Option<(Option<Offset>, Instant)>,
    /// When a standstill was last told.
    told: Option<Instant>,
}

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// Nothing waits, or not for long.
    Moving,
    /// It stands still, which was told before.
    Still,
    /// It stands still, and somebody is to be told.
    Tell {
        /// For how long.
        standing: Duration,
        /// Whether it was told before.
        again: bool,
    },
    /// It stood still, which was told, and does not any more.
    MovesAgain,
}

impl Watchdog {
    /// Looks. `has_work` says whether something waits that could be uploaded; `tiered_end` is where the bucket ends.
    pub(super) fn look(
        &mut self,
        now: Instant,
        has_work: bool,
        tiered_end: Option<Offset>,
        stall_after: Duration,
    ) -> Sight {
        match self.waiting {
            Some((end, since)) if has_work && end == tiered_end => {
                let standing = now.duration_since(since);
                if standing < stall_after {
                    return Sight::Moving;
                }
                if self.told.is_some_and(|told| now.duration_since(told) < stall_after) {
                    return Sight::Still;
                }
                let again = self.told.replace(now).is_some();
                Sight::Tell { standing, again }
            }
            _ => {
                self.waiting = has_work.then_some((tiered_end, now));
                if self.told.take().is_some() { Sight::MovesAgain } else { Sight::Moving }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_standstill_is_told_once_a_while_and_its_end_too() {
        let start = aquifer_runtime::clock::Clock::system().now();
        let stall_after = Duration::from_secs(60);
        let mut dog = Watchdog::default();
        let mut look = |seconds: u64, has_work: bool, end: i64| {
            dog.look(start + Duration::from_secs(seconds), has_work, Offset::new(end), stall_after)
        };
        let tell = |seconds, again| Sight::Tell { standing: Duration::from_secs(seconds), again };
        for (seconds, has_work, end, expected) in [
            // An idle partition stands still, and nobody minds.
            (0, false, 10, Sight::Moving),
            (500, false, 10, Sight::Moving),
            (501, true, 10, Sight::Moving),
            (560, true, 10, Sight::Moving),
            // Something was committed: it counts from here.
            (561, true, 20, Sight::Moving),
            (620, true, 20, Sight::Moving),
            (621, true, 20, tell(60, false)),
            (622, true, 20, Sight::Still),
            (680, true, 20, Sight::Still),
            (681, true, 20, tell(120, true)),
            (690, true, 30, Sight::MovesAgain),
            (700, true, 30, Sight::Moving),
            (750, true, 30, tell(60, false)),
            // What waited is gone: deleted, or no longer led.
            (751, false, 30, Sight::MovesAgain),
            (752, false, 30, Sight::Moving),
        ] {
            assert_eq!(look(seconds, has_work, end), expected, "after {seconds} s");
        }
    }
}
