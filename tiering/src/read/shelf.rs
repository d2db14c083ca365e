//! Which chunks to keep; pure.
//!
//! Recency, the usual measure, is the worst for scans: of a history longer than the cache it drops each chunk just before the
//! next reader comes to it. But where readers are is known, and so is what they will want next. So what no known reader is
//! still to come to goes first, least recently used before others; then what is farthest ahead of the reader behind it. And
//! nothing is read ahead of one reader at the cost of what others are to come to: that holds back the first of a herd while the
//! cache is full, and keeps ten readers of one history at the requests of one.
//!
//! A reader is taken to want what lies ahead of it as far as there are chunks without a whole segment missing between them.

use std::collections::{BTreeMap, HashMap};

use aquifer_model::{Offset, OffsetRange, TopicPartition};

use super::readers::{LogPlace, Positions};

/// What is kept, by partition and place. `K` names a chunk to the cache.
#[derive(Debug)]
pub(super) struct Shelf<K> {
    capacity: u64,
    held: u64,
    /// What is on its way here.
    coming: u64,
    uses: u64,
    partitions: HashMap<TopicPartition, BTreeMap<(LogPlace, u64), Shelved<K>>>,
}

#[derive(Debug)]
struct Shelved<K> {
    key: K,
    /// Offsets of the whole segment.
    segment: OffsetRange,
    /// The number of the use that was last.
    used: u64,
}

/// Names a chunk to the shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shelfmark {
    pub(super) partition: TopicPartition,
    pub(super) segment: OffsetRange,
    /// Where it starts in the segment's log.
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Shelfmark {
    fn place(&self) -> (LogPlace, u64) {
        ((self.segment.base, self.start), self.length)
    }
}

/// How dear a chunk is: the least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// Nobody is to come to it; the number of its last use.
    Spent(u64),
    /// So many bytes ahead of a reader.
    Wanted(std::cmp::Reverse<u64>),
}

impl<K: Clone + PartialEq> Shelf<K> {
    /// Empty, for so many bytes.
    pub(super) fn new(capacity: u64) -> Shelf<K> {
        Shelf { capacity, held: 0, coming: 0, uses: 0, partitions: HashMap::new() }
    }

    /// A chunk is on its way.
    pub(super) fn expect(&mut self, length: u64) {
        self.coming += length;
    }

    /// It has arrived, or will not.
    pub(super) fn expected(&mut self, length: u64) {
        self.coming = self.coming.saturating_sub(length);
    }

    /// A chunk was given to a reader.
    pub(super) fn used(&mut self, mark: &Shelfmark) {
        self.uses += 1;
        let chunks = self.partitions.get_mut(&mark.partition);
        if let Some(shelved) = chunks.and_then(|chunks| chunks.get_mut(&mark.place())) {
            shelved.used = self.uses;
        }
    }

    /// Shelves a chunk; gives what has to go for it.
    #[must_use]
    pub(super) fn put(&mut self, mark: &Shelfmark, key: K, positions: &Positions) -> Vec<K> {
        let mut going = Vec::new();
        while self.held + mark.length > self.capacity {
            let Some((partition, place)) = self.least_worth(positions) else { break };
            going.extend(self.remove(partition, place));
        }
        self.uses += 1;
        let shelved = Shelved { key: key.clone(), segment: mark.segment, used: self.uses };
        let before = self.partitions.entry(mark.partition).or_default().insert(mark.place(), shelved);
        match before {
            // Of an object that another has taken the place of.
            Some(before) if before.key != key => going.push(before.key),
            Some(_) => {}
            None => self.held += mark.length,
        }
        going
    }

    /// Gives what may go, up to so many bytes, because no reader is to come to it.
    #[must_use]
    pub(super) fn spare(&mut self, bytes: u64, positions: &Positions) -> Vec<K> {
        let mut spent = Vec::new();
        self.appraise(positions, |partition, place, worth| {
            if let Worth::Spent(used) = worth {
                spent.push((used, partition, place));
            }
        });
        spent.sort_unstable_by_key(|(used, ..)| *used);
        let (mut left, mut going) = (bytes, Vec::new());
        for (_, partition, place) in spent {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(place.1);
            going.extend(self.remove(partition, place));
        }
        going
    }

    /// The cache has dropped it by itself.
    pub(super) fn forget(&mut self, mark: &Shelfmark, key: &K) {
        let chunks = self.partitions.get(&mark.partition);
        if chunks.and_then(|chunks| chunks.get(&mark.place())).is_some_and(|shelved| shelved.key == *key) {
            self.remove(mark.partition, mark.place());
        }
    }

    /// How much may be read ahead without dropping what a reader is still to come to.
    pub(super) fn room_ahead(&self, positions: &Positions) -> u64 {
        let mut wanted = 0;
        self.appraise(positions, |_, (_, length), worth| {
            if matches!(worth, Worth::Wanted(_)) {
                wanted += length;
            }
        });
        self.capacity.saturating_sub(wanted + self.coming)
    }

    fn remove(&mut self, partition: TopicPartition, place: (LogPlace, u64)) -> Option<K> {
        let chunks = self.partitions.get_mut(&partition)?;
        let shelved = chunks.remove(&place)?;
        if chunks.is_empty() {
            self.partitions.remove(&partition);
        }
        self.held -= place.1;
        Some(shelved.key)
    }

    fn least_worth(&self, positions: &Positions) -> Option<(TopicPartition, (LogPlace, u64))> {
        let mut least: Option<(Worth, TopicPartition, (LogPlace, u64))> = None;
        self.appraise(positions, |partition, place, worth| {
            if least.is_none_or(|(known, ..)| worth < known) {
                least = Some((worth, partition, place));
            }
        });
        least.map(|(_, partition, place)| (partition, place))
    }

    /// Says of each chunk what it is worth.
    fn appraise(&self, positions: &Positions, mut say: impl FnMut(TopicPartition, (LogPlace, u64), Worth)) {
        for (partition, chunks) in &self.partitions {
            let mut readers = positions.get(partition).map_or(&[][..], Vec::as_slice).iter().peekable();
            // The last reader passed: the bytes since then, and where the next segment must begin at the latest.
            let mut behind: Option<(u64, Offset)> = None;
            for ((place, length), shelved) in chunks {
                let end = (place.0, place.1 + length);
                while let Some(reader) = readers.next_if(|reader| reader.at < end) {
                    behind = Some((0, reader.segment_next));
                }
                behind = behind.filter(|(_, next)| shelved.segment.base <= *next);
                let worth = match &mut behind {
                    None => Worth::Spent(shelved.used),
                    Some((since, next)) => {
                        let worth = Worth::Wanted(std::cmp::Reverse(*since));
                        (*since, *next) = (*since + length, shelved.segment.next);
                        worth
                    }
                };
                say(*partition, (*place, *length), worth);
            }
        }
    }
}

#[cfg(test)]
mod tests;
