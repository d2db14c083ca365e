//! Byte budgets: memory that many requests share.
//!
//! Whoever is about to hold bytes takes a permit for them first and waits while the budget is spent; that wait is the
//! back-pressure. A request larger than the whole budget takes all of it, so that it can pass when it is alone.

use std::sync::Arc;

use aquifer_model::ByteCount;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in units, since a semaphore counts to 2^29 on small machines; the rounding is not worth more precision.
const UNIT_BYTES: u64 = 256;

/// A number of bytes that may be held at once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    units: Arc<Semaphore>,
    units_max: u32,
}

/// Holds some of a budget until dropped.
#[derive(Debug)]
pub struct BytePermit(OwnedSemaphorePermit);

impl BytePermit {
    /// Holds what `other` held, too. Both must be of one budget.
    pub fn merge(&mut self, other: BytePermit) {
        self.0.merge(other.0);
    }

    /// Gives back all but `bytes`. A permit that holds less stays as it is.
    pub fn shrink_to(&mut self, bytes: ByteCount) {
        let spare = self.0.num_permits().saturating_sub(usize::try_from(units(bytes)).unwrap_or(usize::MAX));
        drop(self.0.split(spare));
    }

    /// How many bytes it stands for.
    pub fn bytes(&self) -> ByteCount {
        ByteCount(self.0.num_permits() as u64 * UNIT_BYTES)
    }
}

fn units(bytes: ByteCount) -> u64 {
    bytes.get().div_ceil(UNIT_BYTES)
}

impl ByteBudget {
    /// A budget of `bytes`, at least one unit and at most 1 TiB.
    pub fn new(bytes: ByteCount) -> ByteBudget {
        let units_max = u32::try_from((bytes.get() / UNIT_BYTES).max(1)).unwrap_or(u32::MAX);
        ByteBudget { units: Arc::new(Semaphore::new(units_max as usize)), units_max }
    }

    /// Waits for room. Those who wait are served in turn.
    pub async fn take(&self, bytes: ByteCount) -> BytePermit {
        let permit = self.units.clone().acquire_many_owned(self.units_for(bytes)).await;
        BytePermit(permit.expect("a budget's semaphore is never closed"))
    }

    /// Takes room if there is some at once.
    pub fn try_take(&self, bytes: ByteCount) -> Option<BytePermit> {
        self.units.clone().try_acquire_many_owned(self.units_for(bytes)).ok().map(BytePermit)
    }

    /// How many bytes it has, taken or not.
    pub fn max(&self) -> ByteCount {
        ByteCount(u64::from(self.units_max) * UNIT_BYTES)
    }

    /// How many bytes are left.
    pub fn available(&self) -> ByteCount {
        ByteCount(self.units.available_permits() as u64 * UNIT_BYTES)
    }

    fn units_for(&self, bytes: ByteCount) -> u32 {
        u32::try_from(units(bytes).max(1)).unwrap_or(u32::MAX).min(self.units_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spent_budget_makes_others_wait_and_a_giant_passes_alone() {
        let budget = ByteBudget::new(ByteCount::kib(64));
        let giant = budget.take(ByteCount::mib(10)).await;
        assert!(budget.try_take(ByteCount(1)).is_none());
        drop(giant);
        let half = budget.take(ByteCount::kib(32)).await;
        assert_eq!(budget.available(), ByteCount::kib(32));
        assert!(budget.try_take(ByteCount::kib(33)).is_none());
        drop(half);
        assert!(budget.try_take(ByteCount::kib(64)).is_some());
    }

    #[tokio::test]
    async fn a_permit_grows_and_shrinks() {
        let budget = ByteBudget::new(ByteCount::kib(64));
        let mut permit = budget.take(ByteCount::kib(16)).await;
        permit.merge(budget.take(ByteCount::kib(32)).await);
        assert_eq!((permit.bytes(), budget.available()), (ByteCount::kib(48), ByteCount::kib(16)));
        permit.shrink_to(ByteCount::kib(60));
        assert_eq!(permit.bytes(), ByteCount::kib(48));
        permit.shrink_to(ByteCount(1));
        assert_eq!((permit.bytes(), budget.available()), (ByteCount(256), ByteCount(64 * 1024 - 256)));
        permit.shrink_to(ByteCount::ZERO);
        assert_eq!(budget.available(), ByteCount::kib(64));
    }
}
