//! Which parts of a file are known to be sound as the page cache has them.
//!
//! What this process has written, and what it has read and verified, is sound in memory. Once it has left the page cache it comes
//! back from a device of which nobody knows that. It comes back by a read, and with it the rest of its page and what the kernel reads
//! ahead: also for a read that does not wait, and also where nothing is missing, once it comes to a page that was marked as it was read
//! ahead. So whoever reads first forgets what the read may bring back ([`File::read_and_look`](super::File::read_and_look)). If the part
//! is in the page cache, that is what is known of the next [`READ_AHEAD_MAX`], unless that is there as well; if not, the part itself, the
//! start of its page, unless that is there, and all of what may be read ahead. Whoever verifies what was read makes it known, unless
//! another read may have brought it back meanwhile. A read, or a `sendfile`, of what is known and in the page cache brings nothing
//! back: pages that were read have no mark any more.
//!
//! Not seen is what others read, a backup for instance, who bring back what has left the page cache; what leaves it between the question
//! and the read that follows; an append that continues a page that has left it; and what the kernel reads ahead by mistake, as it
//! marks pages that it wants to be rid of by the same bit.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

/// More than the kernel reads ahead (`read_ahead_kb`, which is 128 KiB if nobody has set it, once or twice).
pub(super) const READ_AHEAD_MAX: u64 = 16 << 20;
/// What begins within so many bytes comes as a whole: a page, or a larger block of a file system.
pub(super) const GRAIN: u64 = 64 << 10;
/// More parts than this are not kept: the shortest is forgotten, and has to be read and verified again.
const PARTS_MAX: usize = 16;

/// The sound parts of a file: in order, without touching each other. All who have the file open must have the same.
#[derive(Debug, Default)]
pub struct Sound(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    parts: Vec<Range<u64>>,
    reads: Vec<Underway>,
    /// Of the last read.
    number: u64,
}

/// A read that may bring something back.
#[derive(Debug)]
struct Underway {
    number: u64,
    reads: Range<u64>,
    brings: Range<u64>,
    /// Whether no other has been under way that may have brought back what it reads.
    is_alone: bool,
}

/// What is known of bytes that were read.
#[derive(Debug)]
pub struct Look(Seen);

#[derive(Debug)]
enum Seen {
    /// Nothing: nobody keeps account of this file.
    Unknown,
    /// All of it was known before.
    Known(Arc<Sound>),
    /// It has to be verified; the number of the read.
    Read(Arc<Sound>, u64),
}

impl Sound {
    /// Notes that a part was written, and is as it should be.
    pub fn add_written(&self, part: Range<u64>) {
        self.0.lock().add(part);
    }

    /// Where the sound part that holds `position` ends; `None` if there is none.
    pub fn end_from(&self, position: u64) -> Option<u64> {
        let known = self.0.lock();
        let at = known.parts.partition_point(|part| part.end <= position);
        known.parts.get(at).filter(|part| part.start <= position).map(|part| part.end)
    }

    /// Whether all of these bytes are known.
    pub fn covers(&self, position: u64, count: u64) -> bool {
        self.end_from(position).is_some_and(|end| end >= position.saturating_add(count))
    }

    /// Forgets what lies behind `position`: the file is cut there, or damage was found.
    pub fn forget_from(&self, position: u64) {
        self.0.lock().forget(position..u64::MAX);
    }

    /// Before a read that may bring back what is in `brings`; it is over when what this gives is dropped.
    pub(super) fn begin(self: &Arc<Sound>, reads: Range<u64>, brings: Range<u64>) -> Look {
        let mut known = self.0.lock();
        let is_alone = !known.reads.iter().any(|other| overlap(&other.brings, &reads));
        known.forget(brings.clone());
        known.number += 1;
        let number = known.number;
        known.reads.push(Underway { number, reads, brings, is_alone });
        Look(Seen::Read(self.clone(), number))
    }

    /// What was in memory is there no more, or something else is.
    pub(super) fn forget(&self, part: Range<u64>) {
        self.0.lock().forget(part);
    }

    /// From the start of the first to the end of the last part of `range` that is known; `None` if nothing of it is.
    pub(super) fn known_within(&self, range: Range<u64>) -> Option<Range<u64>> {
        let known = self.0.lock();
        let mut parts = known.parts.iter().filter(|part| overlap(part, &range));
        let first = parts.next()?;
        let last = parts.next_back().unwrap_or(first);
        Some(first.start.max(range.start)..last.end.min(range.end))
    }

    /// For a read of what is known.
    pub(super) fn known(self: &Arc<Sound>) -> Look {
        Look(Seen::Known(self.clone()))
    }
}

impl Look {
    /// At a file of which nobody keeps account.
    pub(super) fn unknown() -> Look {
        Look(Seen::Unknown)
    }

    /// Where what was known before it was read, and is known still, ends, from `position` on.
    pub fn end_of_known(&self, position: u64) -> Option<u64> {
        match &self.0 {
            Seen::Known(sound) => sound.end_from(position),
            Seen::Unknown | Seen::Read(..) => None,
        }
    }

    /// Notes that a part of what was read was verified, and is sound.
    pub fn verified(self, part: Range<u64>) {
        if let Seen::Read(sound, number) = &self.0 {
            let mut known = sound.0.lock();
            if known.reads.iter().any(|read| read.number == *number && read.is_alone) {
                known.add(part);
            }
        }
    }
}

fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start.max(other.start) < one.end.min(other.end)
}

impl Drop for Look {
    fn drop(&mut self) {
        if let Seen::Read(sound, number) = &self.0 {
            sound.0.lock().reads.retain(|read| read.number != *number);
        }
    }
}

impl Known {
    /// Forgets a part that is about to change in memory.
    fn forget(&mut self, part: Range<u64>) {
        for read in self.reads.iter_mut().filter(|read| overlap(&read.reads, &part)) {
            read.is_alone = false;
        }
        self.remove(part);
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

    const MIB: u64 = 1 << 20;

    /// A read of nothing that is in the page cache.
    fn cold(sound: &Arc<Sound>, position: u64, count: u64) -> Look {
        sound.begin(position..position + count, position..position + count + READ_AHEAD_MAX)
    }

    #[test]
    fn a_read_forgets_what_it_may_bring_back_until_it_is_verified() {
        let sound = Arc::new(Sound::default());
        sound.add_written(0..100 * MIB);
        let read = cold(&sound, 10 * MIB, MIB);
        assert_eq!(sound.end_from(0), Some(10 * MIB));
        assert_eq!((sound.end_from(27 * MIB - 1), sound.end_from(27 * MIB)), (None, Some(100 * MIB)));
        assert_eq!(read.end_of_known(10 * MIB), None);
        read.verified(10 * MIB..11 * MIB);
        assert_eq!(sound.end_from(0), Some(11 * MIB));
        drop(cold(&sound, 0, 1));
        assert_eq!(sound.end_from(0), None, "nobody has verified it");
        sound.forget_from(30 * MIB);
        assert_eq!(sound.end_from(28 * MIB), Some(30 * MIB));
    }

    #[test]
    fn of_two_who_read_the_same_at_a_time_neither_knows() {
        for (other, first_knows, second_knows) in [(0, false, false), (3, true, false), (40, true, true)] {
            let sound = Arc::new(Sound::default());
            let (first, second) = (cold(&sound, 0, MIB), cold(&sound, other * MIB, MIB));
            second.verified(other * MIB..(other + 1) * MIB);
            first.verified(0..MIB);
            assert_eq!(sound.end_from(0), first_knows.then_some(MIB), "{other}");
            let end = sound.end_from(other * MIB);
            assert_eq!(end, second_knows.then_some((other + 1) * MIB), "it may have been read ahead");
            cold(&sound, 0, MIB).verified(0..MIB);
            assert_eq!(sound.end_from(0), Some(MIB), "both are over");
        }
        let sound = Arc::new(Sound::default());
        let first = cold(&sound, 0, MIB);
        drop(cold(&sound, 0, 1));
        first.verified(0..MIB);
        assert_eq!(sound.end_from(0), None, "the other has come and gone meanwhile");
    }

    #[test]
    fn who_reads_what_is_in_the_page_cache_forgets_nothing() {
        let sound = Arc::new(Sound::default());
        sound.add_written(0..MIB);
        sound.add_written(2 * MIB..3 * MIB);
        let (first, second) = (
            sound.begin(MIB / 2..2 * MIB, 2 * MIB..2 * MIB),
            sound.begin(MIB / 2..3 * MIB, 3 * MIB..3 * MIB),
        );
        first.verified(MIB..MIB + 5);
        assert_eq!((sound.end_from(0), sound.end_from(2 * MIB)), (Some(MIB + 5), Some(3 * MIB)));
        assert_eq!(sound.known_within(MIB / 2..5 * MIB), Some(MIB / 2..3 * MIB));
        assert_eq!(sound.known_within(2 * MIB + 1..2 * MIB + 9), Some(2 * MIB + 1..2 * MIB + 9));
        assert_eq!(sound.known_within(MIB + 5..2 * MIB), None);
        second.verified(MIB..2 * MIB);
        assert_eq!(sound.end_from(0), Some(3 * MIB));
    }

    #[test]
    fn what_is_known_is_known_for_as_long_as_nobody_reads_it_anew() {
        let sound = Arc::new(Sound::default());
        sound.add_written(0..MIB);
        assert!(sound.covers(5, MIB - 5) && !sound.covers(5, MIB));
        let look = sound.known();
        assert_eq!(look.end_of_known(7), Some(MIB));
        let other = cold(&sound, MIB / 2, 1);
        assert_eq!((look.end_of_known(7), look.end_of_known(MIB - 1)), (Some(MIB / 2), None));
        look.verified(0..MIB);
        assert_eq!(sound.end_from(0), Some(MIB / 2), "whoever did not look makes nothing known");
        drop(other);
    }
}
