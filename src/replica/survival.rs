//! What of a log came through since it was last open: pure.

use crate::config::Durability;

/// What of a log came through since it was last open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Survival {
    /// It was on disk when the directory was opened, and is not blank: what it then held is still there.
    pub(super) on_disk: bool,
    /// The directory was closed in order.
    pub(super) clean: bool,
}

impl Survival {
    /// Whether the bucket may hold acknowledged records that this log lost: so for a log that is new although its partition is
    /// not, and after a power cut for a topic whose records are not synced before they are acknowledged.
    pub(super) fn may_have_lost(self, durability: Durability, partition_is_new: bool) -> bool {
        if !self.on_disk { !partition_is_new } else { !self.clean && durability == Durability::Replicated }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_lost_asks_the_bucket() {
        for (on_disk, clean, durability, partition_is_new, expected) in [
            (true, true, Durability::Fsync, false, false),
            (true, false, Durability::Fsync, false, false),
            (true, true, Durability::Replicated, false, false),
            (true, false, Durability::Replicated, false, true),
            (false, true, Durability::Fsync, true, false),
            (false, true, Durability::Fsync, false, true),
            (false, false, Durability::Replicated, false, true),
        ] {
            let survival = Survival { on_disk, clean };
            assert_eq!(
                survival.may_have_lost(durability, partition_is_new),
                expected,
                "{survival:?} {durability:?}"
            );
        }
    }
}
