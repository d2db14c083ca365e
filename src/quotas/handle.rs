//! The handle: from who a client is to what it pays, and back to nothing at all when nothing is set.
//!
//! Each change of what is set gets a number. A connection keeps what its client pays, and the number by which it was found;
//! while that is the newest, nothing is looked up. Number 0 stands for "there are no quotas", and is all that most brokers ever
//! look at.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aquifer_runtime::clock::Clock;
use aquifer_runtime::metrics::Registry;
use aquifer_runtime::tasks::TaskGroup;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::accounts::Accounts;
use super::bucket::TokenBucket;
use super::charges::{Charge, Charges};
use super::kind::Kind;
use super::limits::{self, Limit, Shared};
use super::metrics::QuotaMetrics;
use super::rate::{Rate, Windows};
use crate::metadata::Metadata;
use crate::metadata::apply::QUOTA_NAME_BYTES_MAX;
use crate::metadata::image::ClientQuotas;

/// Every user, as long as nobody says who they are.
pub(crate) const ANONYMOUS: &str = "ANONYMOUS";

/// How often accounts are looked through for those that nobody uses any more.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);
/// Kinds of quotas whose use lies in one map: of bytes in and out, and of time.
const RATES: usize = 3;
/// The number of "there are no quotas".
const NONE: u64 = 0;

/// How use is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuotaOptions {
    /// Of bytes, time and connections.
    pub(crate) windows: Windows,
    /// Of partitions made and deleted.
    pub(crate) mutation_windows: Windows,
    /// Clients whose use is counted at a time, for each kind of quota.
    pub(crate) clients_max: usize,
}

/// What stands between clients and what they use.
#[derive(Debug)]
pub(crate) struct Quotas {
    /// The number of what is set.
    newest: AtomicU64,
    state: Mutex<State>,
    options: QuotaOptions,
    metrics: QuotaMetrics,
}

#[derive(Debug)]
struct State {
    set: Arc<ClientQuotas>,
    changes: u64,
    rates: Accounts<(Kind, Client), Rate>,
    buckets: Accounts<Client, TokenBucket>,
    addresses: Accounts<IpAddr, Rate>,
}

/// Whose use counts together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Client {
    user: Option<String>,
    client_id: Option<String>,
}

/// What a connection keeps of who pays for its requests.
#[derive(Debug, Default)]
pub(crate) struct Payer {
    number: u64,
    client_id: String,
    charges: Option<Arc<Charges>>,
}

impl Quotas {
    pub(crate) fn new(options: QuotaOptions, registry: &mut Registry) -> Quotas {
        let metrics = QuotaMetrics::register(registry);
        let (max, forgotten) = (options.clients_max, &metrics.forgotten);
        let state = State {
            set: Arc::default(),
            changes: NONE,
            rates: Accounts::new(max.saturating_mul(RATES), forgotten.clone()),
            buckets: Accounts::new(max, forgotten.clone()),
            addresses: Accounts::new(max, forgotten.clone()),
        };
        Quotas { newest: AtomicU64::new(NONE), state: Mutex::new(state), options, metrics }
    }

    /// Takes up what is set by now: whoever has changed it finds it in force after this.
    pub(crate) fn refresh(&self, metadata: &Metadata) {
        let mut state = self.state.lock();
        // The newest image, and not one that was looked at before somebody else took up a newer.
        let set = metadata.image().client_quotas().clone();
        self.take_up(&mut state, set);
    }

    fn take_up(&self, state: &mut State, set: Arc<ClientQuotas>) {
        if Arc::ptr_eq(&state.set, &set) {
            return;
        }
        self.metrics.entities.set(i64::try_from(set.len()).unwrap_or(i64::MAX));
        state.changes += 1;
        let number = if set.is_empty() { NONE } else { state.changes };
        state.set = set;
        self.newest.store(number, Ordering::Release);
    }

    /// What the client pays; `None` if there is no limit for it.
    pub(crate) fn of(
        &self,
        payer: &mut Payer,
        user: &str,
        client_id: Option<&str>,
        clock: Clock,
    ) -> Option<Arc<Charges>> {
        let newest = self.newest.load(Ordering::Acquire);
        if newest == NONE {
            return None;
        }
        let client_id = cut(client_id.unwrap_or_default());
        if payer.number != newest || payer.client_id != client_id {
            let mut state = self.state.lock();
            // It may have changed since.
            payer.number = self.newest.load(Ordering::Acquire);
            payer.client_id = client_id.to_owned();
            // First, so that its accounts are not held by itself.
            payer.charges = None;
            payer.charges = self.resolve(&mut state, user, client_id, clock.now()).map(Arc::new);
            self.count(&state);
        }
        payer.charges.clone()
    }

    fn resolve(&self, state: &mut State, user: &str, client_id: &str, now: Instant) -> Option<Charges> {
        let set = state.set.clone();
        let limit = |kind| limits::of_client(&set, kind, user, client_id);
        let mut rate = |kind| {
            let limit = limit(kind)?;
            let key = (kind, Client::of(limit, user, client_id));
            let account = state.rates.open(key, now, Rate::default);
            Some(Charge { per_second: limit.per_second, account })
        };
        let (produce, fetch, request) = (rate(Kind::Produce), rate(Kind::Fetch), rate(Kind::Request));
        let mutation = limit(Kind::Mutation).map(|limit| {
            let Windows { count, size } = self.options.mutation_windows;
            let begin = || TokenBucket::full(size * count, limit.per_second, now);
            let account = state.buckets.open(Client::of(limit, user, client_id), now, begin);
            Charge { per_second: limit.per_second, account }
        });
        if produce.is_none() && fetch.is_none() && request.is_none() && mutation.is_none() {
            return None;
        }
        let metrics = self.metrics.clone();
        Some(Charges { windows: self.options.windows, produce, fetch, request, mutation, metrics })
    }

    /// A connection from `address`; `Err` says for how long there may be no other.
    pub(crate) fn connection(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        if self.newest.load(Ordering::Acquire) == NONE {
            return Ok(());
        }
        let address = address.to_canonical();
        let mut state = self.state.lock();
        let Some(per_second) = limits::of_address(&state.set, address) else { return Ok(()) };
        let windows = self.options.windows;
        let account = state.addresses.open(address, now, Rate::default);
        self.count(&state);
        drop(state);
        let rest = account.with(now, |rate| {
            rate.record(1.0, windows, now);
            let rest = rate.rest(per_second, windows, now);
            if !rest.is_zero() {
                // It does not come about.
                rate.record(-1.0, windows, now);
            }
            rest
        });
        if rest.is_zero() {
            return Ok(());
        }
        let rest = rest.min(windows.size);
        self.metrics.throttled(Kind::Connection, rest);
        Err(rest)
    }

    /// Follows what is set, and closes the accounts of those who are gone.
    pub(crate) fn follow(self: &Arc<Self>, metadata: Metadata, clock: Clock, tasks: &TaskGroup) {
        self.refresh(&metadata);
        let (quotas, cancelled) = (self.clone(), tasks.cancelled().clone());
        tasks.spawn("quotas", async move {
            let mut images = metadata.watch();
            let mut expiry = clock.now() + EXPIRY_INTERVAL;
            loop {
                tokio::select! {
                    () = cancelled.cancelled() => return,
                    changed = images.changed() => match changed {
                        Ok(()) => quotas.refresh(&metadata),
                        Err(_) => return,
                    },
                    () = tokio::time::sleep_until(expiry) => {
                        expiry = clock.now() + EXPIRY_INTERVAL;
                        quotas.expire(clock.now());
                    }
                }
            }
        });
    }

    fn expire(&self, now: Instant) {
        let mut state = self.state.lock();
        state.rates.expire(now);
        state.buckets.expire(now);
        state.addresses.expire(now);
        self.count(&state);
    }

    fn count(&self, state: &State) {
        let clients = state.rates.len() + state.buckets.len() + state.addresses.len();
        self.metrics.clients.set(i64::try_from(clients).unwrap_or(i64::MAX));
    }
}

impl Client {
    fn of(limit: Limit, user: &str, client_id: &str) -> Client {
        let (user, client_id) = match limit.shared {
            Shared::UserAndClient => (Some(user), Some(client_id)),
            Shared::User => (Some(user), None),
            Shared::ClientId => (None, Some(client_id)),
        };
        Client { user: user.map(str::to_owned), client_id: client_id.map(str::to_owned) }
    }
}

/// Names that are longer than any that can have a quota of its own count as one if they begin alike: strangers choose them, and
/// what is kept of them is bounded.
fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(QUOTA_NAME_BYTES_MAX + 1)]
}

#[cfg(test)]
mod tests;
