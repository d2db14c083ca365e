//! Keys, and the offset of each one's newest record, in memory of a fixed size. Pure.
//!
//! A key is held by 128 bits of a keyed hash rather than by itself, so that a slot is 24 bytes whatever the keys are. Two keys of
//! one hash would lose a record; with the hash's key drawn anew for each pass nobody can make such keys, and by chance a billion
//! keys meet one in 10^20 passes.

use aquifer_model::{ByteCount, Offset};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// Hash, hash, offset + 1; all zeros for a free slot.
type Slot = [u64; 3];
/// What a key costs.
const SLOT_BYTES: u64 = size_of::<Slot>() as u64;

/// The newest offset of each key.
#[derive(Debug)]
pub(super) struct KeyMap {
    slots: Vec<Slot>,
    keys: usize,
    keys_max: usize,
    hasher: SipHasher13,
}

/// How much room a map has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes at most.
    pub(super) bytes_max: ByteCount,
    /// Share of its slots that is filled; below 1.
    pub(super) load_factor: f64,
    /// As many keys as there can be.
    pub(super) keys: u64,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    Held,
    /// There is room for no more keys.
    Full,
}

impl KeyMap {
    /// An empty map. `secret` must be new each time.
    pub(super) fn new(room: Room, secret: (u64, u64)) -> KeyMap {
        let slots_max = room.bytes_max.get() / SLOT_BYTES;
        let wanted = (room.keys as f64 / room.load_factor).ceil() as u64 + 1;
        let slots = usize::try_from(wanted.min(slots_max)).unwrap_or(usize::MAX).max(2);
        let keys_max = ((slots as f64 * room.load_factor) as usize).clamp(1, slots - 1);
        let hasher = SipHasher13::new_with_keys(secret.0, secret.1);
        // Zeroed pages come from the system as they are touched: a map that is hardly filled costs hardly anything.
        KeyMap { slots: vec![[0; 3]; slots], keys: 0, keys_max, hasher }
    }

    /// Notes that `key` has a record at `offset`, which must rise from call to call.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> Put {
        let (at, hash) = self.find(key);
        let slot = &mut self.slots[at];
        if slot[2] == 0 {
            if self.keys == self.keys_max {
                return Put::Full;
            }
            self.keys += 1;
        }
        *slot = [hash[0], hash[1], offset.get() as u64 + 1];
        Put::Held
    }

    /// The newest offset of `key`.
    pub(super) fn newest(&self, key: &[u8]) -> Option<Offset> {
        let (at, _) = self.find(key);
        let stored = self.slots[at][2].checked_sub(1)?;
        i64::try_from(stored).ok().and_then(Offset::new)
    }

    /// The key's slot, or the free one where it belongs. There always is one.
    fn find(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let mut hasher = self.hasher;
        hasher.write(key);
        let hash = hasher.finish128();
        let count = self.slots.len();
        let mut at = (hash.h1 % count as u64) as usize;
        loop {
            let slot = &self.slots[at];
            if slot[2] == 0 || (slot[0], slot[1]) == (hash.h1, hash.h2) {
                return (at, [hash.h1, hash.h2]);
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn offset(number: u64) -> Offset {
        Offset::new(number as i64).unwrap()
    }

    #[test]
    fn the_newest_offset_of_each_key_is_held_until_the_room_is_spent() {
        for (bytes, keys, held) in [(24 * 100, 1_000, 90), (24 * 100, 20, 20), (0, 1_000, 1), (1 << 20, 0, 1)]
        {
            let room = Room { bytes_max: ByteCount(bytes), load_factor: 0.9, keys };
            let mut map = KeyMap::new(room, (1, 2));
            assert!(map.slots.len() as u64 * SLOT_BYTES <= bytes.max(2 * SLOT_BYTES));
            let mut model = HashMap::new();
            let mut full = false;
            for number in 0..2_000u64 {
                let key = (number * 7 % 150).to_string().into_bytes();
                match map.put(&key, offset(number)) {
                    Put::Held => drop(model.insert(key, offset(number))),
                    Put::Full => {
                        assert!(!model.contains_key(&key) && model.len() >= held);
                        full = true;
                    }
                }
            }
            assert!(full);
            for (key, newest) in &model {
                assert_eq!(map.newest(key), Some(*newest));
            }
            assert_eq!(map.newest(b"none"), None);
        }
    }

    #[test]
    fn a_key_and_its_start_are_two() {
        let room = Room { bytes_max: ByteCount::kib(64), load_factor: 0.9, keys: 300 };
        let mut map = KeyMap::new(room, (3, 4));
        let keys: Vec<Vec<u8>> = (0..200).map(|length| vec![0; length]).collect();
        for (number, key) in (0..).zip(&keys) {
            assert_eq!(map.put(key, offset(number)), Put::Held);
        }
        for (number, key) in (0..).zip(&keys) {
            assert_eq!(map.newest(key), Some(offset(number)));
        }
    }
}
