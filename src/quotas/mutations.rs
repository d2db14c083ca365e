//! What making and deleting partitions costs a client (KIP-599).
//!
//! Clients that know the error for it are refused while they are in debt. Older ones are let through, and rest until the debt is
//! paid.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::charges::Charges;
use super::kind::Kind;

/// What happens to one that is in debt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// It is refused.
    Strict,
    /// It is let through, and rests.
    Permissive,
    /// It is refused, as something that was only asked for by the way, and rests for its own quota alone.
    Incidental,
}

/// What one request pays for the partitions that it makes and deletes.
#[derive(Debug)]
pub(crate) struct Mutations {
    charges: Option<Arc<Charges>>,
    strictness: Strictness,
    /// Until when its client rests.
    rest_until: Option<Instant>,
}

impl Mutations {
    pub(crate) fn new(charges: Option<Arc<Charges>>, strictness: Strictness) -> Mutations {
        Mutations { charges, strictness, rest_until: None }
    }

    /// Of the broker itself, which has no quota.
    pub(crate) fn unlimited() -> Mutations {
        Mutations::new(None, Strictness::Strict)
    }

    pub(crate) fn strictness(&self) -> Strictness {
        self.strictness
    }

    /// Whether partitions may be made or deleted now; `Err` says how long to wait.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        let debt = self.debt(now);
        if self.strictness != Strictness::Permissive && !debt.is_zero() {
            self.rest(debt, now);
            return Err(debt);
        }
        Ok(())
    }

    /// Pays for so many that are made or deleted.
    pub(crate) fn pay(&mut self, partitions: usize, now: Instant) {
        if let Some(charge) = self.charges.as_ref().and_then(|charges| charges.mutation.as_ref()) {
            charge.account.with(now, |bucket| bucket.take(partitions, charge.per_second, now));
        }
        if self.strictness == Strictness::Permissive {
            let debt = self.debt(now);
            self.rest(debt, now);
        }
    }

    /// Has its client rest for so long at least.
    pub(crate) fn rest(&mut self, rest: Duration, now: Instant) {
        if !rest.is_zero() {
            self.rest_until = self.rest_until.max(Some(now + rest));
        }
    }

    /// How long its client rests from now on, as answers tell it. Counts it.
    pub(crate) fn rest_ms(&self, now: Instant) -> i32 {
        let rest = self.rest_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        if let Some(charges) = self.charges.as_ref().filter(|charges| charges.mutation.is_some()) {
            charges.told(Kind::Mutation, rest);
        }
        // Rounded up: "later" in no time would be now.
        i32::try_from(rest.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    }

    fn debt(&self, now: Instant) -> Duration {
        let charge = self.charges.as_ref().and_then(|charges| charges.mutation.as_ref());
        charge.map_or(Duration::ZERO, |charge| {
            charge.account.with(now, |bucket| bucket.debt(charge.per_second, now))
        })
    }
}
