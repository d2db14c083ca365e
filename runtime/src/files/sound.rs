//! Which parts of a file are known to be sound as the page cache has them.
//!
//! What this process has written, and what it has read and verified, is sound in memory. Once it has left the page cache it comes
//! back from a device of which nobody knows that. It comes back by a read, and not only what is asked for: the kernel reads ahead. So
//! each read that may wait for the device forgets first what was known of the part that it reads, and of [`READ_AHEAD_MAX`] behind
//! that; whoever verifies what came says so afterwards, unless another such read has begun meanwhile. A read that does not wait
//! brings nothing back (`RWF_NOWAIT` begins no reading), and neither does `sendfile` of what is sound: the kernel reads on where it
//! comes to a page that it has marked as it read ahead, and a verified page has no mark any more. So what is known to be sound and is
//! in the page cache is what was verified.
//!
//! Not seen are reads of others, of a backup for instance, that bring back what has left the page cache; and an append that
//! continues a page that has left it.

use std::ops::Range;

use parking_lot::Mutex;

/// More than the kernel reads ahead (`read_ahead_kb`, twice that after advice; 128 KiB if nobody has set it).
const READ_AHEAD_MAX: u64 = 16 << 20;
/// More parts than this are not kept: the shortest is forgotten, and has to be read and verified again.
const PARTS_MAX: usize = 16;

/// The sound parts of a file: in order, without touching each other. All who have the file open must have the same.
#[derive(Debug, Default)]
pub struct Sound(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    parts: Vec<Range<u64>>,
    /// How often something was forgotten.
    forgotten: u64,
}

/// A moment before a read: what is verified afterwards was in memory since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since(u64);

impl Sound {
    /// Before a read that waits for nothing.
    pub fn now(&self) -> Since {
        Since(self.0.lock().forgotten)
    }

    /// Before a read that may wait for the device: forgets what it may bring back.
    pub(super) fn forget(&self, position: u64, count: u64) -> Since {
        let mut known = self.0.lock();
        known.forgotten += 1;
        known.remove(position..position.saturating_add(count).saturating_add(READ_AHEAD_MAX));
        Since(known.forgotten)
    }

    /// Notes that a part was read after `since`, and is sound.
    pub fn add_verified(&self, since: Since, part: Range<u64>) {
        let mut known = self.0.lock();
        if known.forgotten == since.0 {
            known.add(part);
        }
    }

    /// Notes that a part was written, and is as it should be.
    pub fn add_written(&self, part: Range<u64>) {
        self.0.lock().add(part);
    }

    /// Where the sound part that holds `position` ends; `None` if there is none.
    pub fn end_from(&self, position: u64) -> Option<u64> {
        self.0.lock().end_from(position)
    }

    /// The same for what was read after `since`; `None` also if it may be something else that was read.
    pub fn end_of_read(&self, since: Since, position: u64) -> Option<u64> {
        let known = self.0.lock();
        if known.forgotten == since.0 { known.end_from(position) } else { None }
    }
}

impl Known {
    fn end_from(&self, position: u64) -> Option<u64> {
        let at = self.parts.partition_point(|part| part.end <= position);
        self.parts.get(at).filter(|part| part.start <= position).map(|part| part.end)
    }

    fn add(&mut self, part: Range<u64>) {
        if part.is_empty() {
            return;
        }
        let parts = &mut self.parts;
        let from = parts.partition_point(|other| other.end < part.start);
        let to = parts.partition_point(|other| other.start <= part.end);
        match parts.get_mut(from..to) {
            Some([one]) => *one = one.start.min(part.start)..one.end.max(part.end),
            Some([first, .., last]) => {
                let whole = first.start.min(part.start)..last.end.max(part.end);
                parts.splice(from..to, [whole]);
            }
            Some([]) | None => parts.insert(from, part),
        }
        self.limit();
    }

    fn remove(&mut self, part: Range<u64>) {
        let parts = &mut self.parts;
        let from = parts.partition_point(|other| other.end <= part.start);
        let to = parts.partition_point(|other| other.start < part.end);
        let Some([first, ..]) = parts.get(from..to).filter(|_| !part.is_empty()) else { return };
        let left = [first.start..part.start, part.end..parts[to - 1].end];
        parts.splice(from..to, left.into_iter().filter(|left| left.start < left.end));
        self.limit();
    }

    fn limit(&mut self) {
        let length = |part: &Range<u64>| part.end - part.start;
        if self.parts.len() > PARTS_MAX
            && let Some(shortest) = (0..self.parts.len()).min_by_key(|at| length(&self.parts[*at]))
        {
            self.parts.remove(shortest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Added, removed.
    type Change = (bool, Range<u64>);

    /// Some hundred changes within a few bytes, against a flag for each byte.
    #[test]
    fn what_was_added_is_sound_until_it_is_forgotten() {
        let mut dice = 1_u32;
        let mut roll = |sides: u32| {
            dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u64::from((dice >> 8) % sides)
        };
        for _ in 0..500 {
            let (mut known, mut model) = (Known::default(), [false; 40]);
            let mut changes: Vec<Change> = Vec::new();
            for _ in 0..roll(20) {
                let start = roll(30);
                let change = (roll(3) > 0, start..start + roll(10));
                match change.0 {
                    true => known.add(change.1.clone()),
                    false => known.remove(change.1.clone()),
                }
                model[change.1.start as usize..change.1.end as usize].fill(change.0);
                changes.push(change);
                assert!(known.parts.iter().all(|part| !part.is_empty()), "{changes:?}");
                assert!(known.parts.windows(2).all(|pair| pair[0].end < pair[1].start), "{changes:?}");
            }
            let found = (0..40).map(|byte| known.parts.iter().any(|part| part.contains(&byte)));
            assert!(found.eq(model), "{changes:?} {known:?}");
        }
    }

    #[test]
    fn the_shortest_is_forgotten_where_there_are_too_many() {
        let sound = Sound::default();
        for n in 0..=PARTS_MAX as u64 {
            sound.add_written(n * 100..n * 100 + if n == 3 { 5 } else { 50 });
        }
        assert_eq!(
            (sound.end_from(300), sound.end_from(400), sound.end_from(0)),
            (None, Some(450), Some(50))
        );
    }

    #[test]
    fn a_read_forgets_what_it_may_bring_back_and_whoever_read_before_it_knows_nothing() {
        let sound = Sound::default();
        sound.add_written(0..100 << 20);
        let earlier = sound.now();
        let since = sound.forget(10 << 20, 1 << 20);
        assert_eq!(sound.end_from(0), Some(10 << 20));
        assert_eq!(sound.end_from((27 << 20) - 1), None);
        assert_eq!(sound.end_from(27 << 20), Some(100 << 20));
        sound.add_verified(earlier, 10 << 20..11 << 20);
        assert_eq!(sound.end_from(0), Some(10 << 20), "it may have been read before what came back");
        sound.add_verified(since, 10 << 20..11 << 20);
        assert_eq!(sound.end_from(0), Some(11 << 20));
        assert_eq!((sound.end_of_read(since, 0), sound.end_of_read(earlier, 0)), (Some(11 << 20), None));
    }
}
