//! Buffers that are being filled, at most one for each thing.
//!
//! A load that nobody waits for any longer is dropped, and its buffer is free again; but where a thread hangs in a folder's file, the
//! buffer is away with it. Asked for again and again, one such file would take the memory of all loads: so nothing more is taken for
//! what hangs.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// What is being filled. Cheap to clone.
#[derive(Debug)]
pub(super) struct Fillings<K: Hash + Eq>(Arc<Mutex<HashSet<K>>>);

impl<K: Hash + Eq> Default for Fillings<K> {
    fn default() -> Fillings<K> {
        Fillings(Arc::default())
    }
}

impl<K: Hash + Eq + Clone> Fillings<K> {
    /// Begins to fill something for `key`; `None` while something is away that was to be filled for it.
    pub(super) fn begin(&self, key: &K) -> Option<Mark<K>> {
        let is_new = self.0.lock().insert(key.clone());
        is_new.then(|| Mark { fillings: self.0.clone(), key: key.clone() })
    }
}

/// Goes along with what is filled.
#[derive(Debug)]
pub(super) struct Mark<K: Hash + Eq> {
    fillings: Arc<Mutex<HashSet<K>>>,
    key: K,
}

impl<K: Hash + Eq> Mark<K> {
    /// With this.
    pub(super) fn with<B>(self, buffer: B) -> Filling<K, B> {
        Filling { buffer, _mark: self }
    }
}

impl<K: Hash + Eq> Drop for Mark<K> {
    fn drop(&mut self) {
        self.fillings.lock().remove(&self.key);
    }
}

/// A buffer on its way, wherever that leads it.
#[derive(Debug)]
pub(super) struct Filling<K: Hash + Eq, B> {
    buffer: B,
    _mark: Mark<K>,
}

impl<K: Hash + Eq, B> Filling<K, B> {
    /// It is full.
    pub(super) fn end(self) -> B {
        self.buffer
    }
}

impl<K: Hash + Eq, B: AsRef<[u8]>> AsRef<[u8]> for Filling<K, B> {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref()
    }
}

impl<K: Hash + Eq, B: AsMut<[u8]>> AsMut<[u8]> for Filling<K, B> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.buffer.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_more_is_taken_for_what_is_away() {
        let fillings = Fillings::default();
        let away = fillings.begin(&1).expect("it is the first").with(vec![0; 4]);
        assert!(fillings.begin(&1).is_none());
        assert!(fillings.begin(&2).is_some(), "of others nothing is away");
        assert_eq!(away.end(), [0; 4]);
        let again = fillings.begin(&1).expect("it came back");
        drop(again);
        assert!(fillings.begin(&1).is_some(), "a load that was dropped");
    }
}
