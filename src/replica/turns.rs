//! Work on many things by few tasks, a turn at a time.
//!
//! What waits for its turn waits in a queue and not in a task of its own: ten thousand partitions that all have something to ask of
//! the bucket after a start cost an entry each. One that has more to do after its turn goes to the end of the queue.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

use parking_lot::Mutex;

/// A queue, and how many work on it.
#[derive(Debug)]
pub(super) struct Turns<K, T> {
    workers_max: usize,
    state: Mutex<State<K, T>>,
}

#[derive(Debug)]
struct State<K, T> {
    waiting: VecDeque<(K, T)>,
    /// What waits or is worked on.
    known: HashSet<K>,
    workers: usize,
}

impl<K: Copy + Eq + Hash, T> Turns<K, T> {
    /// With an empty queue.
    pub(super) fn new(workers_max: usize) -> Turns<K, T> {
        let state = State { waiting: VecDeque::new(), known: HashSet::new(), workers: 0 };
        Turns { workers_max: workers_max.max(1), state: Mutex::new(state) }
    }

    /// Puts something into the queue that is not in it, nor worked on. Gives whether the caller has to start a worker, which takes
    /// [`Turns::next`] until there is none.
    pub(super) fn admit(&self, key: K, thing: T) -> bool {
        let mut state = self.state.lock();
        if !state.known.insert(key) {
            return false;
        }
        state.waiting.push_back((key, thing));
        let is_wanted = state.workers < self.workers_max;
        state.workers += usize::from(is_wanted);
        is_wanted
    }

    /// What is next for a worker; with none left, it has to end.
    pub(super) fn next(&self) -> Option<(K, T)> {
        let mut state = self.state.lock();
        let next = state.waiting.pop_front();
        if next.is_none() {
            state.workers -= 1;
            // A burst, as after a start, leaves nothing behind.
            state.waiting.shrink_to_fit();
            state.known.shrink_to_fit();
        }
        next
    }

    /// A worker is done with something for now, and it waits for another turn.
    pub(super) fn again(&self, key: K, thing: T) {
        self.state.lock().waiting.push_back((key, thing));
    }

    /// A worker is done with something.
    pub(super) fn done(&self, key: K) {
        self.state.lock().known.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_work_on_many_each_in_its_turn() {
        let turns = Turns::new(2);
        assert_eq!([1, 2, 3, 2].map(|key| turns.admit(key, ())), [true, true, false, false]);
        let mut order = Vec::new();
        for _ in 0..4 {
            let (key, ()) = turns.next().unwrap();
            order.push(key);
            match key {
                1 if order.len() == 1 => turns.again(key, ()),
                _ => turns.done(key),
            }
        }
        assert_eq!(order, [1, 2, 3, 1]);
        assert!(turns.next().is_none(), "one worker ends");
        assert!(turns.admit(1, ()), "and another is wanted for what comes next");
        assert!(!turns.admit(2, ()), "two are at work");
        assert_eq!(turns.next(), Some((1, ())));
        assert!(!turns.admit(1, ()), "it is worked on");
        turns.done(1);
        assert_eq!(turns.next(), Some((2, ())));
        turns.done(2);
        assert!(turns.next().is_none() && turns.next().is_none());
        assert_eq!([1, 2, 3].map(|key| turns.admit(key, ())), [true, true, false]);
    }
}
