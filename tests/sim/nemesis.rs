//! What goes wrong, and when: a plan drawn from the seed.

use std::time::Duration;

use aquifer_tiering::testing::bucket::BucketFaults;

use crate::dice::Dice;

/// Something done to the world.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Blow {
    /// The machine loses power for a while.
    PowerCut(Duration),
    /// The process is killed, and started again after a while.
    Kill(Duration),
    /// The broker is stopped in order and started again.
    Restart,
    /// The next sync of the disk fails; the node is restarted later.
    SyncFails,
    /// The next write to the disk fails; the node is restarted later.
    WriteFails,
    /// The disk is full for a while.
    DiskFull(Duration),
    /// The bucket fails in all its ways for a while.
    BucketFaults(BucketFaults, Duration),
    /// The bucket is gone for a while.
    BucketAway(Duration),
    /// Clients cannot reach the node for a while.
    Partition(Duration),
}

impl Blow {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Blow::PowerCut(_) => "power cut",
            Blow::Kill(_) => "kill",
            Blow::Restart => "restart",
            Blow::SyncFails => "sync fails",
            Blow::WriteFails => "write fails",
            Blow::DiskFull(_) => "disk full",
            Blow::BucketFaults(..) => "bucket faults",
            Blow::BucketAway(_) => "bucket away",
            Blow::Partition(_) => "partition",
        }
    }

    fn is_crash(self) -> bool {
        matches!(self, Blow::PowerCut(_) | Blow::Kill(_))
    }

    fn is_of_bucket(self) -> bool {
        matches!(self, Blow::BucketFaults(..) | Blow::BucketAway(_))
    }
}

/// Blows with the times between them. Each seed has kinds of its own that it prefers: much of one thing meets what a little of
/// everything never does. But none goes without a crash and a bucket that fails.
pub(crate) fn plan(seed: u64) -> Vec<(Duration, Blow)> {
    let mut dice = Dice::new(seed, "nemesis");
    let weights: Vec<u64> = USUAL.iter().map(|usual| usual * [0, 1, 1, 4][dice.below(4) as usize]).collect();
    let longest = dice.within(500..8_000);
    let blows = dice.within(4..16);
    let mut plan: Vec<(Duration, Blow)> =
        (0..blows).map(|_| (dice.millis(100..longest), blow(&mut dice, &weights))).collect();
    if !plan.iter().any(|(_, blow)| blow.is_crash()) {
        let crash = Blow::PowerCut(dice.millis(100..4_000));
        plan.insert(dice.below(plan.len() as u64 + 1) as usize, (dice.millis(100..longest), crash));
    }
    if !plan.iter().any(|(_, blow)| blow.is_of_bucket()) {
        let failing = Blow::BucketFaults(faults(&mut dice), dice.millis(1_000..20_000));
        plan.insert(dice.below(plan.len() as u64 + 1) as usize, (dice.millis(100..longest), failing));
    }
    plan
}

/// How often each kind comes, by itself.
const USUAL: [u64; 9] = [6, 3, 1, 1, 1, 1, 4, 1, 2];

fn blow(dice: &mut Dice, weights: &[u64]) -> Blow {
    let mut drawn = dice.below(weights.iter().sum());
    let kind = weights.iter().position(|weight| {
        let is_it = drawn < *weight;
        drawn = drawn.saturating_sub(*weight);
        is_it
    });
    match kind.unwrap_or(0) {
        0 => Blow::PowerCut(dice.millis(100..4_000)),
        1 => Blow::Kill(dice.millis(50..3_000)),
        2 => Blow::Restart,
        3 => Blow::SyncFails,
        4 => Blow::WriteFails,
        5 => Blow::DiskFull(dice.millis(500..5_000)),
        6 => Blow::BucketFaults(faults(dice), dice.millis(1_000..20_000)),
        7 => Blow::BucketAway(dice.millis(1_000..40_000)),
        _ => Blow::Partition(dice.millis(100..5_000)),
    }
}

/// A bucket that fails in some of its ways.
pub(crate) fn faults(dice: &mut Dice) -> BucketFaults {
    let mut rate = |most| if dice.percent(50) { dice.below(most) } else { 0 };
    BucketFaults {
        before: rate(300),
        after: rate(200),
        held: rate(100),
        conflict: rate(200),
        own_exists: rate(200),
        short: rate(200),
        late_removal: rate(500),
        latency_max: Duration::from_millis(20 + rate(8_000)),
    }
}
