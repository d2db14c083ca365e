//! When requests are due.
//!
//! At a fixed rate a request is due at its moment, whatever became of those before it, and its latency counts from there: a
//! broker that stands still for a second makes all requests of that second late, not one ("coordinated omission" would be to
//! leave the others out). Flat out, a request is due when there is room for it.

use std::time::Duration;

use tokio::time::Instant;

/// An end that no run reaches: a hundred years.
const NEVER: Duration = Duration::from_secs(3_155_760_000);

/// How long after the end there may still be sent what came due before: whoever wakes up a little late has not missed it.
const GRACE: Duration = Duration::from_secs(1);

/// The time of a run, and the part of it that counts: behind the warm-up, up to the end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// When the load begins.
    pub(super) begin: Instant,
    /// When it counts; inclusive.
    pub(super) start: Instant,
    /// Exclusive.
    pub(super) end: Instant,
}

impl Window {
    /// A warm-up from now on, then the time that counts.
    pub(super) fn after(now: Instant, warmup: Duration, length: Duration) -> Window {
        Window { begin: now, start: now + warmup, end: now + warmup + length }
    }

    /// All that comes from now on.
    pub(super) fn from(now: Instant) -> Window {
        Window::after(now, Duration::ZERO, NEVER)
    }

    pub(super) fn contains(self, moment: Instant) -> bool {
        self.start <= moment && moment < self.end
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Send a request, which was due at this moment.
    Now(Instant),
    /// Wait until then.
    At(Instant),
    /// No more requests.
    Over,
}

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Schedule {
    begin: Instant,
    /// Seconds between two requests; `None` as fast as it goes.
    interval: Option<f64>,
    taken: u64,
    end: Instant,
}

impl Schedule {
    /// As fast as it goes until `end`.
    pub(super) fn flat_out(end: Instant) -> Schedule {
        Schedule { begin: end, interval: None, taken: 0, end }
    }

    /// So many requests a second, the first at `begin`, until `end`.
    pub(super) fn steady(begin: Instant, per_second: f64, end: Instant) -> Schedule {
        Schedule { begin, interval: Some(per_second.recip()), taken: 0, end }
    }

    /// Takes the next request, if it is time for one.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        match self.next() {
            None if now < self.end => Due::Now(now),
            None => Due::Over,
            Some(_) if now >= self.end + GRACE => Due::Over,
            Some(moment) if moment >= self.end => Due::Over,
            Some(moment) if moment <= now => {
                self.taken += 1;
                Due::Now(moment)
            }
            Some(moment) => Due::At(moment),
        }
    }

    /// Takes the next request that came due before the end and was never sent, there being no room for it.
    pub(super) fn missed(&mut self) -> Option<Instant> {
        let moment = self.next().filter(|moment| *moment < self.end)?;
        self.taken += 1;
        Some(moment)
    }

    fn next(&self) -> Option<Instant> {
        // By multiplication: sums would drift.
        self.interval.map(|interval| self.begin + Duration::from_secs_f64(self.taken as f64 * interval))
    }
}

#[cfg(test)]
mod tests {
    use aquifer_runtime::clock::Clock;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn what_could_not_be_sent_in_time_was_due_in_time() {
        let begin = Clock::system().now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut schedule = Schedule::steady(begin, 100.0, begin + SECOND);
        assert_eq!(schedule.due(begin), Due::Now(begin));
        assert_eq!(schedule.due(at(5)), Due::At(at(10)));
        // A pause, and then all that came due in it.
        for due in [10, 20, 30] {
            assert_eq!(schedule.due(at(35)), Due::Now(at(due)));
        }
        assert_eq!(schedule.due(at(35)), Due::At(at(40)));
        // What came due before the end may come a little behind it, but not for ever.
        assert_eq!(schedule.due(at(1000)), Due::Now(at(40)));
        assert_eq!(schedule.due(at(2000)), Due::Over);
        assert_eq!(std::iter::from_fn(|| schedule.missed()).count(), 95);
        assert_eq!(schedule.due(at(1001)), Due::Over);
    }

    #[tokio::test]
    async fn flat_out_a_request_is_due_when_it_can_be_sent() {
        let now = Clock::system().now();
        let mut schedule = Schedule::flat_out(now + SECOND);
        assert_eq!(schedule.due(now), Due::Now(now));
        assert_eq!(schedule.missed(), None);
        assert_eq!(schedule.due(now + SECOND), Due::Over);
        let window = Window::after(now, SECOND, SECOND);
        assert!(!window.contains(now) && window.contains(now + SECOND) && !window.contains(now + 2 * SECOND));
    }
}
