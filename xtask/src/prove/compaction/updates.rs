//! Which key each numbered record is of, and whether it takes its key away: pure. `tests/clients/go/updates.go` says the same to the
//! producer, so that the number of a record, or its offset, is all that has to be known of it.

/// How many times as many records as keys there are until the early keys rest.
const EARLY_ROUNDS: u64 = 4;

/// What decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Updates {
    /// Of each partition; a multiple of ten.
    pub(super) keys: u64,
    pub(super) seed: u64,
    /// One in so many updates is a tombstone.
    pub(super) tombstone_one_in: u64,
}

/// What one record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Update {
    pub(super) key: u64,
    pub(super) is_tombstone: bool,
}

impl Updates {
    /// The record of this number in this partition.
    pub(super) fn of(&self, partition: u32, number: u64) -> Update {
        // Each is written once, in order.
        if number < self.keys {
            return Update { key: number, is_tombstone: false };
        }
        let hash = mixed(self.seed ^ u64::from(partition) << 48 ^ number);
        let mut key = hash % self.keys;
        // A tenth is never touched again, and another one only while the log is young: what is old must stay, and stay away.
        if key.is_multiple_of(10) || (key % 10 == 5 && number >= EARLY_ROUNDS * self.keys) {
            key += 1;
        }
        Update { key, is_tombstone: (hash >> 40).is_multiple_of(self.tombstone_one_in) }
    }
}

/// The finalizer of splitmix64.
fn mixed(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_written_once_another_rests_early_and_some_updates_are_tombstones() {
        let updates = Updates { keys: 100, seed: 7, tombstone_one_in: 8 };
        let all: Vec<Update> = (0..10_000).map(|number| updates.of(3, number)).collect();
        assert!(all[..100].iter().zip(0..).all(|(update, key)| update.key == key && !update.is_tombstone));
        assert!(all[100..].iter().all(|update| update.key < 100 && update.key % 10 != 0));
        let is_early = |update: &&Update| update.key % 10 == 5;
        assert!(all[100..400].iter().filter(is_early).count() > 10);
        assert_eq!(all[400..].iter().filter(is_early).count(), 0);
        let tombstones = all.iter().filter(|update| update.is_tombstone).count();
        assert!((1_000..1_500).contains(&tombstones), "{tombstones}");
    }

    #[test]
    fn the_hash_is_splitmix() {
        // The first number that its generator gives for the seed 0.
        assert_eq!(mixed(0), 0xe220_a839_7b1d_cdaf);
    }
}
