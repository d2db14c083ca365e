//! Reads that fail, by partition and offset, and since when each does.
//!
//! Offsets are whatever clients name, so that there is a limit: beyond it, the one that was away for longest is forgotten, and begins anew if
//! it comes back. Pure: time comes in.

use std::collections::HashMap;
use std::time::Duration;

use aquifer_model::{Offset, TopicPartition};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Where a read begins.
pub(super) type Place = (TopicPartition, Offset);

#[derive(Debug)]
pub(super) struct Failing {
    places_max: usize,
    /// A reader that has not come back for so long leaves its failure behind: it says nothing of the store as it is now.
    away_max: Duration,
    places: Mutex<HashMap<Place, Seen>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: Instant,
    last: Instant,
}

impl Failing {
    pub(super) fn new(places_max: usize, away_max: Duration) -> Failing {
        Failing { places_max, away_max, places: Mutex::default() }
    }

    /// Since when reads at this place fail, if they do: it is asked when one does again.
    pub(super) fn since(&self, place: Place, now: Instant) -> Option<Instant> {
        let mut places = self.places.lock();
        let seen = places.get_mut(&place).filter(|seen| now.duration_since(seen.last) < self.away_max)?;
        seen.last = now;
        Some(seen.first)
    }

    /// The first read here has failed.
    pub(super) fn begin(&self, place: Place, now: Instant) {
        let mut places = self.places.lock();
        if places.len() >= self.places_max {
            places.retain(|_, seen| now.duration_since(seen.last) < self.away_max);
        }
        let longest_away = || places.iter().min_by_key(|(_, seen)| seen.last).map(|(place, _)| *place);
        if places.len() >= self.places_max
            && let Some(longest_away) = longest_away()
        {
            places.remove(&longest_away);
        }
        places.insert(place, Seen { first: now, last: now });
    }

    /// A read here was answered.
    pub(super) fn end(&self, place: &Place) {
        self.places.lock().remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::tests::partition;

    fn place(offset: i64) -> Place {
        (partition(), Offset::new(offset).unwrap())
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // Pure code is tested with any starting point in time.
    fn offsets_without_end_take_no_memory_without_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let failing = Failing::new(3, Duration::from_secs(100));
        failing.begin(place(7), at(0));
        for made_up in 0..50 {
            let now = at(1 + made_up);
            failing.begin(place(1_000 + made_up as i64), now);
            assert_eq!(failing.since(place(7), now), Some(start), "who comes back is not forgotten");
            assert!(failing.places.lock().len() <= 3);
        }
        assert_eq!(failing.since(place(1_000), at(51)), None);
        assert_eq!(failing.since(place(7), at(150)), None, "it was away for too long");
        failing.begin(place(7), at(150));
        assert_eq!(failing.since(place(7), at(151)), Some(at(150)));
        failing.end(&place(7));
        assert_eq!(failing.since(place(7), at(152)), None);
    }
}
