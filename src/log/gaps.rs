//! Whether offsets may be missing between the batches of a log.
//!
//! A leader gives offsets out without gaps, so that a batch which does not continue the one before is damage: something between
//! the two was lost, or a base offset, which no checksum covers, was changed. Compaction leaves offsets out, but only of closed
//! segments: each log knows an offset below which that may have happened, here or at the leader that its batches came from, and
//! above it nothing may be missing. That offset is durable before the first gap below it is: see [`super::gap_mark`].

use aquifer_model::Offset;

/// Where batches may leave offsets out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gaps {
    below: Offset,
}

impl Gaps {
    /// Nowhere.
    pub(crate) const NEVER: Gaps = Gaps::below(Offset::ZERO);

    /// Gaps that end at or below this.
    pub(crate) const fn below(below: Offset) -> Gaps {
        Gaps { below }
    }

    /// Where the last of them may end; zero for none.
    pub(crate) fn end(self) -> Offset {
        self.below
    }

    /// Whether `found` may follow where `expected` is the next offset.
    pub(crate) fn allow(self, expected: Offset, found: Offset) -> bool {
        found == expected || (found > expected && found <= self.below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_lies_wholly_below_the_end_of_all_gaps() {
        let offset = |number| Offset::new(number).unwrap();
        for (below, expected, found, allowed) in [
            (0, 5, 5, true),
            (0, 5, 6, false),
            (10, 5, 10, true),
            (10, 5, 11, false),
            (10, 5, 4, false),
            (10, 10, 10, true),
            (10, 10, 11, false),
            (10, 20, 20, true),
        ] {
            let gaps = Gaps::below(offset(below));
            assert_eq!(gaps.allow(offset(expected), offset(found)), allowed, "{below} {expected} {found}");
        }
    }
}
