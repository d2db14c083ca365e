//! Who used how much: one account for each that has a limit, within bounds.
//!
//! An account is opened when it is first asked for, and is closed when nobody holds it and nothing was used for an hour. There are
//! never more than a fixed number, since clients choose their own names: beyond, those are closed that nobody holds, longest
//! idle first. Whoever comes back to a closed account begins anew, as every new name does.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use aquifer_runtime::metrics::Counter;
use parking_lot::Mutex;
use tokio::time::Instant;

/// As in Kafka.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);
/// Where there is no room, this part of it is made at once, so that a look at all accounts is paid for by many that come.
const ROOM_SHARE: usize = 8;

/// What was used by one.
#[derive(Debug)]
pub(super) struct Account<S>(Mutex<Used<S>>);

#[derive(Debug)]
struct Used<S> {
    state: S,
    last: Instant,
}

/// Accounts of one kind.
#[derive(Debug)]
pub(super) struct Accounts<K, S> {
    open: HashMap<K, Arc<Account<S>>>,
    max: usize,
    /// Closed ahead of their time.
    forgotten: Counter,
}

impl<S> Account<S> {
    /// Looks at it, or changes it.
    pub(super) fn with<T>(&self, now: Instant, look: impl FnOnce(&mut S) -> T) -> T {
        let mut used = self.0.lock();
        used.last = now;
        look(&mut used.state)
    }

    fn last(&self) -> Instant {
        self.0.lock().last
    }
}

impl<K: Hash + Eq + Clone, S> Accounts<K, S> {
    pub(super) fn new(max: usize, forgotten: Counter) -> Accounts<K, S> {
        Accounts { open: HashMap::new(), max: max.max(1), forgotten }
    }

    /// How many are open.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// The account of `key`.
    pub(super) fn open(&mut self, key: K, now: Instant, begin: impl FnOnce() -> S) -> Arc<Account<S>> {
        if let Some(account) = self.open.get(&key) {
            return account.clone();
        }
        if self.open.len() >= self.max {
            self.expire(now);
            self.make_room();
        }
        let account = Arc::new(Account(Mutex::new(Used { state: begin(), last: now })));
        self.open.insert(key, account.clone());
        account
    }

    /// Closes those that nobody holds and that were not used for long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.open.retain(|_, account| {
            is_held(account) || now.saturating_duration_since(account.last()) < IDLE_MAX
        });
    }

    fn make_room(&mut self) {
        if self.open.len() < self.max {
            return;
        }
        let mut by_use: Vec<(bool, Instant, K)> =
            self.open.iter().map(|(key, account)| (is_held(account), account.last(), key.clone())).collect();
        by_use.sort_by_key(|(held, last, _)| (*held, *last));
        let close = self.open.len() - self.max + self.max.div_ceil(ROOM_SHARE);
        for (_, _, key) in by_use.into_iter().take(close) {
            self.open.remove(&key);
            self.forgotten.inc();
        }
    }
}

/// Whether anyone but the map has it.
fn is_held<S>(account: &Arc<Account<S>>) -> bool {
    Arc::strong_count(account) > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_few_and_idle_ones_go_first() {
        let began = aquifer_runtime::clock::Clock::system().now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let forgotten = Counter::default();
        let mut accounts: Accounts<usize, u32> = Accounts::new(16, forgotten.clone());
        let held = accounts.open(0, at(0), || 7);
        for key in 1..16 {
            drop(accounts.open(key, at(key as u64), || 0));
        }
        accounts.open(1, at(20), || unreachable!("it is open")).with(at(20), |used| *used += 1);
        assert_eq!((accounts.len(), forgotten.get()), (16, 0));
        drop(accounts.open(16, at(21), || 0));
        assert_eq!((accounts.len(), forgotten.get()), (15, 2), "a part of the room at once");
        let still = |accounts: &mut Accounts<usize, u32>, key| {
            accounts.open(key, at(22), || 99).with(at(22), |used| *used)
        };
        assert_eq!(still(&mut accounts, 1), 1, "used lately");
        assert_eq!(still(&mut accounts, 0), 7, "held by someone");
        assert_eq!(still(&mut accounts, 2), 99, "idle for longest");
        for key in 100..1000 {
            drop(accounts.open(key, at(30), || 0));
        }
        assert!(accounts.len() <= 16);
        assert_eq!(still(&mut accounts, 0), 7, "held by someone");
        accounts.expire(at(30 + 3599));
        assert!(accounts.len() > 1);
        accounts.expire(at(30 + 3600));
        assert_eq!(accounts.len(), 1, "what is held is never too old");
        drop(held);
        accounts.expire(at(30 + 3600));
        assert_eq!(accounts.len(), 0);
    }
}
