//! A sorted map whose clones share what they have in common.
//!
//! Every change of metadata makes a new image while readers keep the old one, and a cluster has up to a hundred thousand
//! topics: copying a map for each change would cost milliseconds. This one is a list of chunks of at most [`CHUNK_MAX`]
//! entries; a change copies one chunk and the list of chunks (at 100,000 entries: some 100 entries and 1,000 pointers), a clone
//! copies one pointer. Two maps are compared by skipping the chunks that they share, which makes a delta cost what changed.
//!
//! Invariants: keys strictly rise through all chunks; no chunk is empty, none is above `CHUNK_MAX`.

use std::cmp::Ordering;
use std::sync::Arc;

/// Entries of a chunk. Small enough to copy in a microsecond, large enough to keep the list of chunks short.
const CHUNK_MAX: usize = 128;

type Chunk<K, V> = Arc<Vec<(K, V)>>;

/// A sorted map, cheap to clone and to change after a clone.
#[derive(Debug)]
pub(crate) struct Ordered<K, V> {
    chunks: Arc<Vec<Chunk<K, V>>>,
    count: usize,
}

impl<K, V> Clone for Ordered<K, V> {
    fn clone(&self) -> Ordered<K, V> {
        Ordered { chunks: Arc::clone(&self.chunks), count: self.count }
    }
}

impl<K, V> Default for Ordered<K, V> {
    fn default() -> Ordered<K, V> {
        Ordered { chunks: Arc::default(), count: 0 }
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Ordered<K, V> {
    fn eq(&self, other: &Ordered<K, V>) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl<K, V> Ordered<K, V> {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// All entries, in order of key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
    }

    /// All values, in order of key.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Where the key is for which `compare` says `Equal`, or where it would go; `compare` says how a key relates to that sought.
    fn place(&self, compare: impl Fn(&K) -> Ordering) -> Result<(usize, usize), (usize, usize)> {
        let after = self.chunks.partition_point(|chunk| compare(&chunk[0].0) != Ordering::Greater);
        let Some(at) = after.checked_sub(1) else {
            return Err((0, 0));
        };
        match self.chunks[at].binary_search_by(|(key, _)| compare(key)) {
            Ok(within) => Ok((at, within)),
            Err(within) => Err((at, within)),
        }
    }

    /// The entry for which `compare` says `Equal`; it must order the keys as they are ordered here.
    pub(crate) fn find(&self, compare: impl Fn(&K) -> Ordering) -> Option<(&K, &V)> {
        let (at, within) = self.place(compare).ok()?;
        let (key, value) = &self.chunks[at][within];
        Some((key, value))
    }
}

impl<K: Ord, V> Ordered<K, V> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.find(|other| other.cmp(key)).map(|(_, value)| value)
    }
}

impl<K: Ord + Clone, V: Clone> Ordered<K, V> {
    /// The value of a key, to change; copies the path to it where it is shared.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (at, within) = self.place(|other| other.cmp(key)).ok()?;
        let chunk = &mut Arc::make_mut(&mut self.chunks)[at];
        Some(&mut Arc::make_mut(chunk)[within].1)
    }

    /// Sets a value; gives the one before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (at, within) = match self.place(|other| other.cmp(&key)) {
            Ok((at, within)) => {
                let chunk = Arc::make_mut(&mut Arc::make_mut(&mut self.chunks)[at]);
                return Some(std::mem::replace(&mut chunk[within].1, value));
            }
            Err(place) => place,
        };
        let chunks = Arc::make_mut(&mut self.chunks);
        self.count += 1;
        if chunks.is_empty() {
            chunks.push(Arc::new(vec![(key, value)]));
            return None;
        }
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.insert(within, (key, value));
        if chunk.len() > CHUNK_MAX {
            // Keys that only rise (a snapshot being read) would leave every chunk half full if it were cut in the middle.
            let cut = if within == CHUNK_MAX { CHUNK_MAX } else { CHUNK_MAX / 2 };
            let upper = chunk.split_off(cut);
            chunks.insert(at + 1, Arc::new(upper));
        }
        None
    }

    /// Removes a key; gives its value.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (at, within) = self.place(|other| other.cmp(key)).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        let (_, value) = chunk.remove(within);
        self.count -= 1;
        // What shrank joins its neighbour, so that a list that was once long does not stay long.
        let fits = |a: usize, b: usize| a + b <= CHUNK_MAX / 2;
        if chunk.is_empty() {
            chunks.remove(at);
        } else if at + 1 < chunks.len() && fits(chunks[at].len(), chunks[at + 1].len()) {
            let upper = chunks.remove(at + 1);
            Arc::make_mut(&mut chunks[at]).extend(upper.iter().cloned());
        }
        Some(value)
    }

    /// Calls `visit` with each value, to change those for which `wanted` holds; copies only the chunks that have one.
    pub(crate) fn change_where(&mut self, wanted: impl Fn(&V) -> bool, mut change: impl FnMut(&mut V)) {
        for at in 0..self.chunks.len() {
            if !self.chunks[at].iter().any(|(_, value)| wanted(value)) {
                continue;
            }
            let chunk = Arc::make_mut(&mut Arc::make_mut(&mut self.chunks)[at]);
            chunk.iter_mut().filter(|(_, value)| wanted(value)).for_each(|(_, value)| change(value));
        }
    }
}

impl<K: Ord, V> Ordered<K, V> {
    /// Every key whose value may differ, with the value before and after; `same` says that two values do not differ. Chunks that
    /// both maps share are skipped.
    pub(crate) fn differences<'a>(
        before: &'a Ordered<K, V>,
        after: &'a Ordered<K, V>,
        same: impl Fn(&V, &V) -> bool,
    ) -> Vec<(Option<&'a V>, Option<&'a V>)> {
        let mut found = Vec::new();
        let (mut old, mut new) = (Cursor::of(before), Cursor::of(after));
        loop {
            match (old.shared_start(), new.shared_start()) {
                (Some(a), Some(b)) if Arc::ptr_eq(a, b) => {
                    old.skip_chunk();
                    new.skip_chunk();
                    continue;
                }
                _ => {}
            }
            let order = match (old.entry(), new.entry()) {
                (None, None) => return found,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((a, _)), Some((b, _))) => a.cmp(b),
            };
            let gone = if order == Ordering::Greater { None } else { old.next() };
            let come = if order == Ordering::Less { None } else { new.next() };
            if !matches!((gone, come), (Some(a), Some(b)) if same(a, b)) {
                found.push((gone, come));
            }
        }
    }
}

/// A place in a map, on its way from the first entry to behind the last.
struct Cursor<'a, K, V> {
    chunks: &'a [Chunk<K, V>],
    within: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn of(map: &'a Ordered<K, V>) -> Cursor<'a, K, V> {
        Cursor { chunks: &map.chunks, within: 0 }
    }

    /// The chunk that begins here, if one does.
    fn shared_start(&self) -> Option<&'a Chunk<K, V>> {
        if self.within == 0 { self.chunks.first() } else { None }
    }

    fn skip_chunk(&mut self) {
        self.chunks = &self.chunks[1..];
        self.within = 0;
    }

    fn entry(&self) -> Option<&'a (K, V)> {
        self.chunks.first().map(|chunk| &chunk[self.within])
    }

    fn next(&mut self) -> Option<&'a V> {
        let chunk = self.chunks.first()?;
        let (_, value) = &chunk[self.within];
        self.within += 1;
        if self.within == chunk.len() {
            self.skip_chunk();
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn assert_sound(map: &Ordered<u16, u32>) {
        let keys: Vec<u16> = map.iter().map(|(key, _)| *key).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "keys rise");
        assert_eq!(keys.len(), map.len());
        assert!(map.chunks.iter().all(|chunk| (1..=CHUNK_MAX).contains(&chunk.len())));
    }

    #[test]
    fn a_change_shares_all_but_one_chunk_with_the_map_before() {
        let mut map = Ordered::default();
        for key in 0..10_000u16 {
            map.insert(key, 0u32);
        }
        assert_eq!(map.chunks.len(), 10_000usize.div_ceil(CHUNK_MAX));
        let before = map.clone();
        *map.get_mut(&5_000).unwrap() = 7;
        let shared = before.chunks.iter().zip(map.chunks.iter()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, map.chunks.len() - 1);
        assert_eq!((before.get(&5_000), map.get(&5_000)), (Some(&0), Some(&7)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_does_what_a_tree_does_and_tells_the_differences(
            first in prop::collection::vec((any::<bool>(), 0u16..600, any::<u32>()), 0..900),
            second in prop::collection::vec((any::<bool>(), 0u16..600, any::<u32>()), 0..60),
        ) {
            let (mut map, mut model) = (Ordered::default(), BTreeMap::new());
            let mut run = |map: &mut Ordered<u16, u32>, steps: &[(bool, u16, u32)]| {
                for &(insert, key, value) in steps {
                    if insert {
                        assert_eq!(map.insert(key, value), model.insert(key, value));
                    } else {
                        assert_eq!(map.remove(&key), model.remove(&key));
                    }
                }
                assert!(map.iter().eq(model.iter()));
                assert_sound(map);
                model.clone()
            };
            let old_model = run(&mut map, &first);
            let old = map.clone();
            let new_model = run(&mut map, &second);
            prop_assert!(old.iter().eq(old_model.iter()));
            let expected: Vec<(Option<u32>, Option<u32>)> = (0..600)
                .map(|key| (old_model.get(&key).copied(), new_model.get(&key).copied()))
                .filter(|(a, b)| a != b)
                .collect();
            let found: Vec<_> = Ordered::differences(&old, &map, |a, b| a == b)
                .into_iter()
                .map(|(a, b)| (a.copied(), b.copied()))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
