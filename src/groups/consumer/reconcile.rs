//! From what a member has to what it shall have, a step at a time.
//!
//! Invariant: a partition is given to a member only once whoever had it has said that it stopped to read it, or is out of the
//! group. So no two members have the same partition at any moment, and an epoch is reached only by a member that has given back
//! all that is not its own in it. A partition that stays keeps the epoch in which it was given, back to which positions in it may
//! be stored.

use aquifer_model::TopicId;

use super::super::grants::Grants;
use super::super::partitions::Partitions;
use super::super::record::{Current, MemberState};

/// What a member shall have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) epoch: i32,
    pub(super) partitions: &'a Partitions,
}

/// The next step of a member, which is where it stands already if it can go none. `owned` is what it says that it has, if it does;
/// `is_free` whether nobody else has a partition.
pub(super) fn step(
    current: &Current,
    target: Target<'_>,
    owned: Option<&Partitions>,
    is_free: impl Fn(TopicId, i32) -> bool,
) -> Current {
    match current.state {
        MemberState::Stable if current.epoch == target.epoch => return current.clone(),
        MemberState::Unrevoked if still_owns(owned, &current.revoking) => {
            // What it has given back meanwhile is free. What is not to be its own any more it has to give back as well, all at once: a
            // classic member that reads a topic no more asks again and again until it is told nothing of it.
            let (assigned, more) = current.assigned.split(target.partitions);
            let mut revoking = match owned {
                Some(owned) => current.revoking.split(owned).0,
                None => current.revoking.clone(),
            };
            revoking.add(&more);
            return Current { assigned, revoking, ..current.clone() };
        }
        MemberState::Stable | MemberState::Unrevoked | MemberState::Unreleased => {}
    }
    let previous_epoch = current.epoch;
    let (mut assigned, revoking) = current.assigned.split(target.partitions);
    if !revoking.is_empty() && still_owns(owned, &revoking) {
        let state = MemberState::Unrevoked;
        return Current { epoch: current.epoch, previous_epoch, state, assigned, revoking };
    }
    let mut state = MemberState::Stable;
    for (topic, index) in target.partitions.iter() {
        if assigned.epoch_of(topic, index).is_some() {
            continue;
        }
        if is_free(topic, index) {
            assigned.insert(topic, index, target.epoch);
        } else {
            state = MemberState::Unreleased;
        }
    }
    let next = Current { epoch: target.epoch, previous_epoch, state, assigned, revoking: Grants::default() };
    // One that still waits for the same has nothing new to be told or stored.
    let waits_on =
        current.state == state && current.epoch == target.epoch && current.assigned == next.assigned;
    if waits_on { current.clone() } else { next }
}

/// Whether a member has any of these, for all that it says.
fn still_owns(owned: Option<&Partitions>, some: &Grants) -> bool {
    owned.is_none_or(|owned| some.iter().any(|(topic, index)| owned.contains(topic, index)))
}
