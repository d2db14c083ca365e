//! What one client pays: the limits that hold for it, and the accounts in which its use is counted.
//!
//! Resolved once and kept by the client's connection, until what is set changes or the client gives itself another name.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::ByteCount;
use tokio::time::Instant;

use super::accounts::Account;
use super::bucket::TokenBucket;
use super::kind::Kind;
use super::metrics::QuotaMetrics;
use super::rate::{Rate, Windows};

/// A limit, and what was used of it.
#[derive(Debug)]
pub(super) struct Charge<S> {
    pub(super) per_second: f64,
    pub(super) account: Arc<Account<S>>,
}

/// What one client pays. At least one of the limits is there.
#[derive(Debug)]
pub(crate) struct Charges {
    pub(super) windows: Windows,
    pub(super) produce: Option<Charge<Rate>>,
    pub(super) fetch: Option<Charge<Rate>>,
    pub(super) request: Option<Charge<Rate>>,
    pub(super) mutation: Option<Charge<TokenBucket>>,
    pub(super) metrics: QuotaMetrics,
}

/// What becomes of records that were read for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FetchCharge {
    /// They are sent, and it rests for so long afterwards: mostly not at all.
    Send(Duration),
    /// They are not sent: it rests first, and asks again.
    Withhold(Duration),
}

impl Charge<Rate> {
    /// Adds to what was used; gives how long to rest.
    fn add(&self, used: f64, windows: Windows, now: Instant) -> Duration {
        self.account.with(now, |rate| {
            rate.record(used, windows, now);
            rate.rest(self.per_second, windows, now)
        })
    }
}

impl Charges {
    /// A request to produce of so many bytes, whose records are appended; gives how long to rest.
    pub(crate) fn produce(&self, bytes: ByteCount, now: Instant) -> Duration {
        let Some(charge) = &self.produce else { return Duration::ZERO };
        self.told(Kind::Produce, charge.add(bytes.get() as f64, self.windows, now))
    }

    /// The most that a Fetch may bring at once: more would be too much even for one who has fetched nothing yet.
    pub(crate) fn fetch_bytes_max(&self) -> Option<ByteCount> {
        let charge = self.fetch.as_ref()?;
        // As many as a u64 holds, if there are more.
        Some(ByteCount((charge.per_second * self.windows.whole_seconds()) as u64))
    }

    /// So many bytes of records, read for one client.
    ///
    /// What is too much is not sent, as in Kafka, and counts as not fetched. But a single batch may be larger than all that is
    /// allowed within the windows: it would never be sent, and its reader never get past it. One who fetched nothing lately gets
    /// it, and rests for as long as it takes to pay for it.
    pub(crate) fn fetch(&self, bytes: ByteCount, now: Instant) -> FetchCharge {
        let Some(charge) = &self.fetch else { return FetchCharge::Send(Duration::ZERO) };
        let (used, windows) = (bytes.get() as f64, self.windows);
        let (rest, is_first) = charge.account.with(now, |rate| {
            let is_first = rate.used(windows, now) <= 0.0;
            rate.record(used, windows, now);
            let rest = rate.rest(charge.per_second, windows, now);
            if !rest.is_zero() && !is_first {
                rate.record(-used, windows, now);
            }
            (rest, is_first)
        });
        let rest = self.told(Kind::Fetch, rest);
        if rest.is_zero() || is_first { FetchCharge::Send(rest) } else { FetchCharge::Withhold(rest) }
    }

    /// Whether it counts how long requests take.
    pub(crate) fn times_requests(&self) -> bool {
        self.request.is_some()
    }

    /// A request took a thread for so long; gives how long to rest: no longer than a window, as in Kafka.
    pub(crate) fn request(&self, took: Duration, now: Instant) -> Duration {
        let Some(charge) = &self.request else { return Duration::ZERO };
        let rest = charge.add(percent_seconds(took), self.windows, now);
        self.told(Kind::Request, rest.min(self.windows.size))
    }

    /// What it took besides, which is paid for with the next request.
    pub(crate) fn note_request(&self, took: Duration, now: Instant) {
        if let Some(charge) = &self.request {
            charge.account.with(now, |rate| rate.record(percent_seconds(took), self.windows, now));
        }
    }

    pub(super) fn told(&self, kind: Kind, rest: Duration) -> Duration {
        if !rest.is_zero() {
            self.metrics.throttled(kind, rest);
        }
        rest
    }
}

/// In hundredths of a thread's time.
fn percent_seconds(took: Duration) -> f64 {
    took.as_secs_f64() * 100.0
}
