//! Loads under way: one for each thing, whoever asks, and none is given up because its asker was.
//!
//! A load runs in a task of its own. Whoever wants its outcome joins it, for as long as they can wait; what it brings is kept by
//! the load itself (in a cache), so that the next to ask finds it. moka's own single flight ends with the caller that began it,
//! and a consumer's fetch is given up twice a second.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use aquifer_runtime::tasks::TaskGroup;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ReadError;

type Outcome<V> = Result<V, ReadError>;
type Loading<K, V> = Arc<Mutex<HashMap<K, watch::Receiver<Option<Outcome<V>>>>>>;

/// Loads of one kind. Cheap to clone.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    name: &'static str,
    tasks: TaskGroup,
    loading: Loading<K, V>,
}

impl<K, V> Clone for Flights<K, V> {
    fn clone(&self) -> Flights<K, V> {
        Flights { name: self.name, tasks: self.tasks.clone(), loading: self.loading.clone() }
    }
}

/// A load that was joined.
#[derive(Debug)]
pub(super) struct Flight<V>(watch::Receiver<Option<Outcome<V>>>);

impl<K: Hash + Eq + Clone + Send + 'static, V: Clone + Send + Sync + 'static> Flights<K, V> {
    /// Loads run in this group, under this name.
    pub(super) fn new(name: &'static str, tasks: TaskGroup) -> Flights<K, V> {
        Flights { name, tasks, loading: Arc::default() }
    }

    /// The load of `key` if it is under way.
    pub(super) fn find(&self, key: &K) -> Option<Flight<V>> {
        self.loading.lock().get(key).cloned().map(Flight)
    }

    /// Joins the load of `key`, or begins it.
    pub(super) fn join<F>(&self, key: K, load: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = Outcome<V>> + Send + 'static,
    {
        let mut loading = self.loading.lock();
        if let Some(flight) = loading.get(&key) {
            return Flight(flight.clone());
        }
        let (tell, told) = watch::channel(None);
        loading.insert(key.clone(), told.clone());
        drop(loading);
        let landing = Landing { loading: self.loading.clone(), key };
        let (load, cancelled) = (load(), self.tasks.cancelled().clone());
        self.tasks.spawn(self.name, async move {
            let outcome = tokio::select! {
                outcome = load => outcome,
                () = cancelled.cancelled() => Err(ReadError::Stopping),
            };
            // No longer under way before it is told: whoever then asks looks into the cache first.
            drop(landing);
            tell.send_replace(Some(outcome));
        });
        Flight(told)
    }
}

/// Takes a load off the list, however it ends.
struct Landing<K: Hash + Eq, V> {
    loading: Loading<K, V>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.loading.lock().remove(&self.key);
    }
}

impl<V: Clone> Flight<V> {
    /// Waits for the outcome.
    pub(super) async fn outcome(mut self) -> Outcome<V> {
        match self.0.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(ReadError::Stopping)),
            // The task panicked or was never run: the group is stopping.
            Err(_) => Err(ReadError::Stopping),
        }
    }

    /// Waits for the outcome until a deadline; `None` when that comes first.
    pub(super) async fn outcome_until(self, until: Instant) -> Option<Outcome<V>> {
        tokio::time::timeout_at(until, self.outcome()).await.ok()
    }
}
