//! Which parts of a segment's file are known to be sound as the page cache has them.
//!
//! What was written by this process, and what was read and verified by it, is sound in memory. Once it has left the page cache it
//! comes back from a device of which nobody knows that, and not only what is asked for: the kernel reads ahead. So whoever is
//! about to read looks first, and where part of it is not in memory withdraws all that was known of the file. That pages went and
//! came back between two looks, and changed on the device meanwhile, is not seen here: the scrub looks for that, and a client that
//! checks its batches sees it.

use std::ops::Range;

use aquifer_runtime::files::File;
use parking_lot::Mutex;

/// More parts than this are not kept; the shortest is forgotten, which costs whoever reads it a look.
const PARTS_MAX: usize = 8;

/// The sound parts of one file: in order, without touching each other.
#[derive(Debug, Default)]
pub(super) struct Sound(Mutex<Vec<Range<u64>>>);

impl Sound {
    /// Notes that a part is sound.
    pub(super) fn add(&self, part: Range<u64>) {
        if part.is_empty() {
            return;
        }
        let mut parts = self.0.lock();
        let from = parts.partition_point(|other| other.end < part.start);
        let to = parts.partition_point(|other| other.start <= part.end);
        match parts.get_mut(from..to) {
            Some([first, .., last]) => {
                let whole = first.start.min(part.start)..last.end.max(part.end);
                parts.splice(from..to, [whole]);
            }
            Some([one]) => *one = one.start.min(part.start)..one.end.max(part.end),
            Some([]) | None => {
                parts.insert(from, part);
                if parts.len() > PARTS_MAX {
                    let shortest = (0..parts.len()).min_by_key(|at| parts[*at].end - parts[*at].start);
                    parts.remove(shortest.unwrap_or_default());
                }
            }
        }
    }

    /// Where the sound part that holds `position` ends; `None` if there is none.
    pub(super) fn end_from(&self, position: u64) -> Option<u64> {
        let parts = self.0.lock();
        let at = parts.partition_point(|part| part.end <= position);
        parts.get(at).filter(|part| part.start <= position).map(|part| part.end)
    }

    /// Forgets all: part of the file has left memory, or the file was cut.
    pub(super) fn withdraw(&self) {
        self.0.lock().clear();
    }

    /// Whether these bytes of the file, which are about to be read, are in memory. Forgets all if not.
    pub(super) fn check(&self, file: &File, position: u64, bytes: u64) -> bool {
        // Where the kernel cannot tell, nothing is known for longer than this.
        let is_cached = file.is_cached(position, bytes).unwrap_or(false);
        if !is_cached {
            self.withdraw();
        }
        is_cached
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a flag for each byte.
        #[test]
        fn what_was_added_is_sound_and_nothing_else(
            parts in prop::collection::vec((0u64..60, 0u64..9), 0..12),
            withdrawn_after in 0usize..12,
        ) {
            let sound = Sound::default();
            let mut model = [false; 80];
            for (n, (start, length)) in parts.iter().enumerate() {
                if n == withdrawn_after {
                    sound.withdraw();
                    model = [false; 80];
                }
                sound.add(*start..start + length);
                model[*start as usize..(start + length) as usize].fill(true);
            }
            let kept = sound.0.lock().clone();
            prop_assert!(kept.len() <= PARTS_MAX);
            prop_assert!(kept.windows(2).all(|pair| pair[0].end < pair[1].start));
            for position in 0..80u64 {
                let end = model[position as usize..].iter().position(|sound| !sound).unwrap() as u64 + position;
                let expected = (end > position).then_some(end);
                match sound.end_from(position) {
                    None => prop_assert!(expected.is_none() || kept.len() == PARTS_MAX),
                    found => prop_assert_eq!(found, expected),
                }
            }
        }
    }

    #[test]
    fn the_shortest_is_forgotten() {
        let sound = Sound::default();
        for n in 0..=PARTS_MAX as u64 {
            sound.add(n * 100..n * 100 + if n == 3 { 5 } else { 50 });
        }
        assert_eq!(
            (sound.end_from(300), sound.end_from(400), sound.end_from(800)),
            (None, Some(450), Some(850))
        );
    }
}
